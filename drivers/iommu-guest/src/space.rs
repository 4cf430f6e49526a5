//! Address spaces of devices: what they translate, and giving them up.

use crate::call::call;
use crate::{Error, Hypercall, Iommu, ManagedSpace, SharedSpace, UserTable};
use iommu_abi::{Destroy, Errno, IoasRanges, IovaRange, Op};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::UserTable {}
    impl Sealed for super::ManagedSpace {}
    impl Sealed for super::SharedSpace {}
}

/// What a device can be bound to: a [`UserTable`], a [`ManagedSpace`], or the
/// [`SharedSpace`].
pub trait AddressSpace: sealed::Sealed {
    /// The handle on the wire.
    fn id(&self) -> u32;
}

impl AddressSpace for UserTable {
    fn id(&self) -> u32 {
        Self::id(self)
    }
}

impl AddressSpace for ManagedSpace {
    fn id(&self) -> u32 {
        Self::id(self)
    }
}

impl AddressSpace for SharedSpace {
    fn id(&self) -> u32 {
        Self::id(self)
    }
}

impl<H: Hypercall> Iommu<'_, H> {
    /// Tells the ranges of addresses that the address space can translate, as far as the
    /// argument memory has room, and returns how many there are.
    pub fn ranges(
        &mut self,
        space: &impl AddressSpace,
        mut each: impl FnMut(IovaRange),
    ) -> Result<u32, Error> {
        let capacity = self.memory.room_for::<IovaRange>();
        let argument = IoasRanges {
            ioas_id: space.id(),
            capacity: capacity as u32,
            buffer: self.memory.array_address(),
            ..IoasRanges::new()
        };
        let answer = call(&self.hypercall, &mut self.memory, &argument)?;
        let count = match answer.result {
            Ok(_) | Err(Errno::EMSGSIZE) => answer.argument.count,
            Err(_) => answer.accepted()?.count,
        };
        for index in 0..capacity.min(count as usize) {
            let range: Option<IovaRange> = self.memory.read_element(index);
            each(range.ok_or(Error::Nonsense(Op::IoasRanges))?);
        }
        Ok(count)
    }

    /// Gives an address space up that no device is bound to. On error it comes back, though
    /// after `EIO` and `ETIMEDOUT` it exists no more: hardware alone did not confirm.
    pub fn destroy_space<S: AddressSpace>(&mut self, space: S) -> Result<(), (Error, S)> {
        let argument = Destroy {
            id: space.id(),
            ..Destroy::new()
        };
        match self.call(&argument) {
            Ok(_) => Ok(()),
            Err(error) => Err((error, space)),
        }
    }

    /// The same for a table of the guest's own.
    pub fn destroy_table(&mut self, table: UserTable) -> Result<(), (Error, UserTable)> {
        self.destroy_space(table)
    }
}
