//! A whole PASID table of the guest's own (VT-d 5.10, §9.5 and §9.6).

use crate::{DeviceId, Error, Hypercall, Iommu};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};
use iommu_abi::{Op, PasidTableBind, PasidTableInvalidate, PasidTableUnbind};
use x86_64::structures::paging::PhysFrame;

/// The largest PASID that a request can carry: 20 bits.
const PASID_MAX: u32 = (1 << 20) - 1;

/// How many entries a PASID directory has, as a scalable-mode context entry says it (PDTS,
/// §9.4). Each entry is for 64 PASIDs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DirectorySize(u32);

impl DirectorySize {
    /// 2^(`pdts` + 7) entries; `pdts` is 7 at most.
    pub const fn from_pdts(pdts: u32) -> Option<Self> {
        match pdts {
            0..=7 => Some(Self(pdts)),
            _ => None,
        }
    }
}

/// A PASID table of the guest's own that a device uses.
///
/// The guest keeps the table: it changes entries as it likes and asks here what it then owes.
#[derive(Debug)]
pub struct PasidTable {
    device: DeviceId,
    /// An [`OwedEntries`] was dropped: the next look is at everything.
    lost: AtomicBool,
}

impl PasidTable {
    /// The device that uses it.
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// Entries of these PASIDs, or those of the directory that lead to them, were changed,
    /// from not present to present too.
    pub fn changed(&self, pasids: RangeInclusive<u32>) -> OwedEntries<'_> {
        OwedEntries {
            table: self,
            first: *pasids.start(),
            last: *pasids.end(),
            settled: false,
        }
    }
}

/// Changed entries of a PASID table that the hypervisor has not looked at yet: until then
/// devices may use what they led to. Dropped, the next look is at everything.
#[must_use = "devices may still use what the entries led to: give this to `look_at_entries`"]
#[derive(Debug)]
pub struct OwedEntries<'t> {
    table: &'t PasidTable,
    first: u32,
    last: u32,
    settled: bool,
}

impl Drop for OwedEntries<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.table.lost.store(true, Ordering::Relaxed);
        }
    }
}

/// What became of the entries that were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EntriesLooked {
    /// PASIDs that are bound now.
    pub bound: u32,
    /// Present entries that hardware would refuse, which are blocked; of an entry of the
    /// directory one for all behind it.
    pub refused: u32,
    /// The first of those.
    pub first_refused: Option<RefusedEntry>,
}

/// A present entry that is blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RefusedEntry {
    /// Its PASID.
    pub pasid: u32,
    /// VT-d's number of the fault that its requests would have (§7.1.3).
    pub reason: u32,
}

impl EntriesLooked {
    fn add(&mut self, bound: u32, refused: u32, first: RefusedEntry) {
        self.bound = bound;
        self.refused = self.refused.saturating_add(refused);
        if refused > 0 && self.first_refused.is_none() {
            self.first_refused = Some(first);
        }
    }
}

impl<H: Hypercall> Iommu<'_, H> {
    /// Makes the device use a PASID table of the guest's own, with as many calls as it takes.
    /// With `asking`, what it asks for there is an
    /// [`Event::PageRequest`](crate::Event::PageRequest). On error nothing is bound.
    pub fn bind_pasid_table(
        &mut self,
        device: DeviceId,
        directory: PhysFrame,
        size: DirectorySize,
        asking: bool,
    ) -> Result<(PasidTable, EntriesLooked), Error> {
        let answer = self.call(&PasidTableBind {
            flags: match asking {
                true => PasidTableBind::PAGE_REQUESTS,
                false => 0,
            },
            device_id: device.0,
            directory_size: size.0,
            directory: directory.start_address().as_u64(),
            ..PasidTableBind::new()
        })?;
        let mut looked = EntriesLooked::default();
        let first = RefusedEntry {
            pasid: answer.refused_pasid,
            reason: answer.reason,
        };
        looked.add(answer.bound, answer.refused, first);
        let table = PasidTable {
            device,
            lost: AtomicBool::new(false),
        };
        let rest = match answer.next_pasid {
            0 => Ok(()),
            next => self.look_from(device, next, PASID_MAX, &mut looked),
        };
        match rest {
            Ok(()) => Ok((table, looked)),
            Err(error) => {
                // The first error is the reason.
                let _ = self.unbind_pasid_table(table);
                Err(error)
            }
        }
    }

    /// Has changed entries looked at, with as many calls as it takes. When this returns,
    /// hardware has forgotten what they said before. On error they are owed still.
    pub fn look_at_entries(&mut self, mut owed: OwedEntries<'_>) -> Result<EntriesLooked, Error> {
        let lost = owed.table.lost.swap(false, Ordering::Relaxed);
        if lost {
            (owed.first, owed.last) = (0, PASID_MAX);
        }
        let mut looked = EntriesLooked::default();
        self.look_from(owed.table.device, owed.first, owed.last, &mut looked)?;
        owed.settled = true;
        Ok(looked)
    }

    fn look_from(
        &mut self,
        device: DeviceId,
        mut first: u32,
        last: u32,
        looked: &mut EntriesLooked,
    ) -> Result<(), Error> {
        loop {
            let answer = self.call(&PasidTableInvalidate {
                device_id: device.0,
                first_pasid: first,
                last_pasid: last,
                ..PasidTableInvalidate::new()
            })?;
            let refused = RefusedEntry {
                pasid: answer.refused_pasid,
                reason: answer.reason,
            };
            looked.add(answer.bound, answer.refused, refused);
            match answer.next_pasid {
                0 => return Ok(()),
                // A call that does nothing and calls it success would be made for ever.
                next if next <= first => return Err(Error::Nonsense(Op::PasidTableInvalidate)),
                next => first = next,
            }
        }
    }

    /// Blocks the device again. On error the table comes back.
    pub fn unbind_pasid_table(&mut self, table: PasidTable) -> Result<(), (Error, PasidTable)> {
        let argument = PasidTableUnbind {
            device_id: table.device.0,
            ..PasidTableUnbind::new()
        };
        match self.call(&argument) {
            Ok(_) => Ok(()),
            Err(error) => Err((error, table)),
        }
    }
}
