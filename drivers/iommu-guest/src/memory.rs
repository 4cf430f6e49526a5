//! The memory that arguments and arrays travel in.
//!
//! # Invariant that `unsafe` rests on
//! `bytes` lies at guest-physical `address`, contiguously, and nothing else of the guest
//! uses it while the value exists. The hypervisor reads and writes it during a call only.

use core::ops::Range;
use iommu_abi::{ARGUMENT_MAX, Layout};
use x86_64::PhysAddr;

/// Bytes kept for the argument itself, at the start; arrays lie behind.
const ARGUMENT_ROOM: usize = 256;
const _: () = assert!(ARGUMENT_ROOM <= ARGUMENT_MAX);

/// Memory that guest and hypervisor share during a call: a page, or several that are
/// contiguous in guest-physical memory. The more, the more entries fit one call.
#[derive(Debug)]
pub struct ArgumentMemory<'m> {
    bytes: &'m mut [u8],
    address: PhysAddr,
}

/// Memory that cannot be used for arguments: less than a page, or not page-aligned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BadMemory;

impl<'m> ArgumentMemory<'m> {
    /// Takes memory over for arguments.
    ///
    /// # Safety
    /// `bytes` lies at guest-physical `address`, all of it contiguously.
    pub unsafe fn new(bytes: &'m mut [u8], address: PhysAddr) -> Result<Self, BadMemory> {
        if bytes.len() < 4096 || !address.is_aligned(4096u64) {
            return Err(BadMemory);
        }
        Ok(Self { bytes, address })
    }

    /// Where the hypervisor finds the argument.
    pub fn address(&self) -> PhysAddr {
        self.address
    }

    /// The memory, for a [`Hypercall`](crate::Hypercall) that hands it on.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// How many elements of `T` fit behind the argument.
    pub(crate) fn room_for<T: Layout>(&self) -> usize {
        self.bytes
            .len()
            .saturating_sub(ARGUMENT_ROOM)
            .checked_div(size_of::<T>())
            .unwrap_or(0)
    }

    /// Guest-physical address of the array behind the argument.
    pub(crate) fn array_address(&self) -> u64 {
        self.address.as_u64().saturating_add(ARGUMENT_ROOM as u64)
    }

    /// Writes element `index` of the array.
    pub(crate) fn write_element<T: Layout>(&mut self, index: usize, element: &T) -> Option<()> {
        self.write(element_offset::<T>(index)?, element)
    }

    /// Reads element `index` of the array.
    pub(crate) fn read_element<T: Layout>(&self, index: usize) -> Option<T> {
        self.read(element_offset::<T>(index)?)
    }

    /// Writes two structures, one behind the other, in place of the array.
    pub(crate) fn write_two(&mut self, first: &impl Layout, second: &impl Layout) -> Option<()> {
        let behind = ARGUMENT_ROOM.checked_add(size_of_val(first))?;
        self.write(ARGUMENT_ROOM, first)?;
        self.write(behind, second)
    }

    pub(crate) fn write<T: Layout>(&mut self, offset: usize, value: &T) -> Option<()> {
        let place = self.bytes.get_mut(span::<T>(offset)?)?;
        value.write_to(place).ok()
    }

    pub(crate) fn read<T: Layout>(&self, offset: usize) -> Option<T> {
        let place = self.bytes.get(span::<T>(offset)?)?;
        T::read_from_bytes(place).ok()
    }
}

fn element_offset<T>(index: usize) -> Option<usize> {
    index
        .checked_mul(size_of::<T>())?
        .checked_add(ARGUMENT_ROOM)
}

fn span<T>(offset: usize) -> Option<Range<usize>> {
    Some(offset..offset.checked_add(size_of::<T>())?)
}
