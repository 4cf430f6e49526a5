//! Arguments of calls: every field from a dictionary of what could matter, or raw.

use crate::Bytes;
use crate::common::machine::{
    ARGUMENT, AT_INTERRUPTS, CONTIGUOUS, HALF, ON_INTERRUPTS, READ_ONLY, SCATTERED,
};
use crate::common::tables::{P, PS, RW, US};
use iommu_abi::*;

/// What an argument looks like.
pub(super) struct Shape {
    size: usize,
    fields: &'static [Field],
}

impl Shape {
    pub(super) fn of(op: Op) -> Self {
        fn shape<A: Argument>() -> Shape {
            Shape {
                size: A::SIZE,
                fields: A::FIELDS,
            }
        }
        match op {
            Op::Probe => shape::<Probe>(),
            Op::Info => shape::<Info>(),
            Op::DeviceList => shape::<DeviceList>(),
            Op::DeviceInfo => shape::<DeviceInfo>(),
            Op::Destroy => shape::<Destroy>(),
            Op::IoasAllocate => shape::<IoasAllocate>(),
            Op::IoasRanges => shape::<IoasRanges>(),
            Op::IoasMap => shape::<IoasMap>(),
            Op::IoasUnmap => shape::<IoasUnmap>(),
            Op::Bind => shape::<Bind>(),
            Op::Unbind => shape::<Unbind>(),
            Op::Invalidate => shape::<Invalidate>(),
            Op::FaultRead => shape::<FaultRead>(),
            Op::PageResponse => shape::<PageResponse>(),
            Op::PasidAllocate => shape::<PasidAllocate>(),
            Op::PasidFree => shape::<PasidFree>(),
            Op::LinuxBindGpasid => shape::<LinuxBindGpasid>(),
            Op::LinuxUnbindGpasid => shape::<LinuxUnbindGpasid>(),
            Op::LinuxCacheInvalidate => shape::<LinuxCacheInvalidate>(),
            Op::LinuxFaultRead => shape::<LinuxFaultRead>(),
            Op::LinuxPageResponse => shape::<LinuxPageResponse>(),
            Op::PasidTableBind => shape::<PasidTableBind>(),
            Op::PasidTableUnbind => shape::<PasidTableUnbind>(),
            Op::PasidTableInvalidate => shape::<PasidTableInvalidate>(),
            Op::RingCreate => shape::<RingCreate>(),
            Op::RingEnter => shape::<RingEnter>(),
            Op::QueueAllocate => shape::<QueueAllocate>(),
            Op::QueueBind => shape::<QueueBind>(),
            Op::QueueUnbind => shape::<QueueUnbind>(),
        }
    }

    /// The bytes of an argument. A first byte says how wrong it may be: in most, sizes and
    /// reserved fields are right.
    pub(super) fn fill(&self, bytes: &mut Bytes<'_>) -> Vec<u8> {
        let wild = bytes.byte() > 0xf0;
        let mut argument = vec![0; self.size];
        for field in self.fields {
            let value = match (field.name, field.direction) {
                ("argsz", _) if !wild => self.size as u64,
                (_, Direction::Reserved | Direction::Out) if !wild => 0,
                ("flags", _) => bytes.number(1),
                _ => word(bytes),
            };
            let content = value.to_le_bytes();
            let place = field.offset..field.offset + field.size.min(8);
            argument[place].copy_from_slice(&content[..field.size.min(8)]);
        }
        argument
    }
}

/// The address of a page that means something.
pub(super) fn page(bytes: &mut Bytes<'_>) -> u64 {
    let page = match bytes.byte() {
        choice @ 0..=199 => u64::from(choice) % SCATTERED,
        200..=209 => READ_ONLY,
        210..=219 => CONTIGUOUS,
        220..=229 => HALF,
        230..=234 => ON_INTERRUPTS,
        235..=239 => AT_INTERRUPTS,
        240..=244 => SCATTERED,
        245..=249 => ARGUMENT,
        _ => 0x7f_ffff,
    };
    page << 12
}

/// A number: small, an address, an entry of a table, a size, an extreme, or raw.
pub(super) fn word(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.byte() {
        small @ 0..=99 => u64::from(small) % 25,
        100..=139 => page(bytes),
        140..=179 => page(bytes) | bytes.one_of(&[P | RW | US, P | US, P | RW | US | PS]),
        180..=209 => 1 << (bytes.byte() & 63),
        210..=219 => (1 << (bytes.byte() & 63)) - 1,
        220..=224 => u64::MAX,
        225..=229 => u64::from(u32::MAX),
        230..=234 => page(bytes) + 0xff8,
        235..=244 => u64::from(bytes.u16()),
        _ => bytes.u64(),
    }
}
