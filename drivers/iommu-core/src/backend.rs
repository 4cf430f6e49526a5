//! What policy needs of a remapping driver.
//!
//! Mechanism below, policy above: a back-end does as told and refuses what the hardware
//! cannot do; it knows nothing of guests.

use crate::{
    Access, AddressRange, Batch, DeviceId, FaultRecord, FlushError, Flushed, Gpa, Hpa, Iova,
    LeafSizes, Nanoseconds, OutOfFrames, Owed, Pasid, ServiceError, SourceId, TableFormat,
};

/// A domain of the back-end: a set of translations that devices can be attached to.
///
/// Handles are never reused while a domain of that number exists, and a stale one is
/// refused by its generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DomainHandle {
    /// Index into the back-end's table of domains.
    pub index: u16,
    /// Which of the domains that had this index.
    pub generation: u32,
}

/// What a new domain shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DomainSpec {
    /// The back-end keeps the tables; [`Backend::map`] and [`Backend::unmap`] fill them.
    Paging(TableFormat),
    /// The caller keeps the tables and has written and published the root already.
    Root {
        /// Their format.
        format: TableFormat,
        /// The root table.
        root: Hpa,
    },
    /// A guest's own first stage on top of `parent`, in hardware.
    Nested(NestedSpec),
}

/// How the CPUs' caches treat an access (§3.11). Matters to devices within the CPUs' coherency
/// domain alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum MemoryType {
    /// UC.
    Uncacheable = 0,
    /// WC.
    WriteCombining = 1,
    /// WT.
    WriteThrough = 4,
    /// WP.
    WriteProtected = 5,
    /// WB.
    WriteBack = 6,
}

/// How the pages of a domain are accessed. The default leaves everything to the device and
/// to what hardware does by itself.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageAttributes {
    /// Accesses snoop the CPUs' caches, whatever the device asks for (SNP, PGSNP; needs
    /// ECAP.SC).
    pub snoop: bool,
    /// The memory type of all pages (EMT in second-stage leaves with EMTE, PAT in the entry
    /// of a first stage; needs ECAP.MTS and scalable mode). A guest's own first stage above
    /// may make it weaker by its PAT.
    pub memory_type: Option<MemoryType>,
    /// Nothing is cached, whatever the type says (CD; needs ECAP.MTS and scalable mode).
    pub uncached: bool,
}

/// A guest's first-stage table, used by hardware as it is (PGTT 011).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NestedSpec {
    /// The second stage that translates guest-physical addresses: a `Paging` or `Root`
    /// domain of a second-stage format.
    pub parent: DomainHandle,
    /// First stage, 4 or 5 levels.
    pub format: TableFormat,
    /// The guest's root table, page-aligned.
    pub root: Gpa,
    /// Supervisor requests are allowed (SRE).
    pub supervisor: bool,
    /// Supervisor writes respect R/W = 0 (WPE).
    pub write_protect: bool,
}

/// Where a device's requests, or those of one PASID of it, are looked up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Slot {
    /// The device.
    pub device: DeviceId,
    /// `None` for requests without PASID. A host PASID.
    pub pasid: Option<Pasid>,
}

/// What a slot leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Attachment {
    /// Every request is refused with a fault. What every slot begins with.
    Blocked,
    /// Addresses are not translated. For devices of the host alone.
    PassThrough,
    /// The domain's translations.
    Domain(DomainHandle),
}

/// What a device can have on the unit that remaps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceCapabilities {
    /// The unit, by the driver's numbering.
    pub unit: u16,
    /// Formats that tables may have, in the mode that the unit is in. Indexed as
    /// [`TableFormat::ALL`].
    formats: [bool; TableFormat::ALL.len()],
    /// Leaf sizes in first-stage tables.
    pub first_stage_leaves: LeafSizes,
    /// Leaf sizes in second-stage tables.
    pub second_stage_leaves: LeafSizes,
    /// Guests' tables can be nested in hardware.
    pub nested: bool,
    /// Pass-through is possible.
    pub pass_through: bool,
    /// Walks of tables snoop the CPU's caches; otherwise every line must be written back.
    pub coherent: bool,
    /// Bits of IOVA that are translated at most, whatever the format (MGAW).
    pub iova_bits: u8,
    /// Bits of physical address (HAW).
    pub host_bits: u8,
    /// Not-present entries may be cached (CAP.CM).
    pub caching_mode: bool,
    /// Stores to tables stay in a buffer until an invalidation or a command (CAP.RWBF): who
    /// keeps tables owes an invalidation for new entries too.
    pub write_buffer_flush: bool,
    /// Bits of PASID that unit and device both have; 0 if none.
    pub pasid_bits: u8,
    /// Page requests reach the driver.
    pub page_requests: bool,
    /// Supervisor requests can be allowed (ECAP.SRS).
    pub supervisor: bool,
    /// The device's interrupts are remapped and its source id verified.
    pub interrupts_remapped: bool,
    /// Writes through second-stage tables can be tracked
    /// ([`DirtyTracking`](crate::DirtyTracking)).
    pub dirty_tracking: bool,
    /// Addresses that a device translated itself can be checked (ECAP.HPTS).
    pub host_permissions: bool,
}

impl DeviceCapabilities {
    /// A device that can be blocked and nothing else.
    pub const fn none(unit: u16) -> Self {
        Self {
            unit,
            formats: [false; TableFormat::ALL.len()],
            first_stage_leaves: LeafSizes {
                mib2: false,
                gib1: false,
            },
            second_stage_leaves: LeafSizes {
                mib2: false,
                gib1: false,
            },
            nested: false,
            pass_through: false,
            coherent: false,
            iova_bits: 0,
            host_bits: 0,
            caching_mode: false,
            write_buffer_flush: false,
            pasid_bits: 0,
            page_requests: false,
            supervisor: false,
            interrupts_remapped: false,
            dirty_tracking: false,
            host_permissions: false,
        }
    }

    /// The same with `format` allowed.
    #[must_use]
    pub fn with_format(mut self, format: TableFormat) -> Self {
        for (slot, known) in self.formats.iter_mut().zip(TableFormat::ALL) {
            *slot |= known == format;
        }
        self
    }

    /// Whether tables of this format can be attached to the device.
    pub fn supports(&self, format: TableFormat) -> bool {
        self.formats
            .iter()
            .zip(TableFormat::ALL)
            .any(|(&has, known)| has && known == format)
    }
}

/// A run of host memory that is contiguous in the domain too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Run {
    /// Page-aligned start.
    pub hpa: Hpa,
    /// Pages of 4 KiB, at least 1.
    pub pages: u64,
}

/// How much of a domain changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Scope {
    /// These addresses.
    Range {
        /// Page-aligned at both ends.
        range: AddressRange<Iova>,
        /// Only leaf entries changed: paging-structure caches may stay (IH).
        leaf_only: bool,
    },
    /// All of it.
    Everything,
}

/// What a replacement did.
#[must_use]
#[derive(Debug)]
pub struct Replaced<'q, D> {
    /// What the slot led to before.
    pub previous: Attachment,
    /// Every request saw the old or the new translation, never neither.
    pub hitless: bool,
    /// The flush that hardware must still see before the previous domain's memory, tables
    /// or ids are reused.
    pub owed: Owed<'q, D>,
}

/// Why the back-end refused. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BackendError {
    /// No unit remaps this device.
    NoUnit(DeviceId),
    /// No domain of this handle exists (any more).
    NoDomain(DomainHandle),
    /// The domain is attached, or is another's parent.
    Busy(DomainHandle),
    /// The unit cannot do this in the mode that it is in.
    Unsupported(DeviceId),
    /// This format cannot be used on the device's unit.
    FormatUnsupported {
        /// The device.
        device: DeviceId,
        /// The format.
        format: TableFormat,
    },
    /// The domain's writes are tracked, and the device's unit cannot do that.
    DirtyTrackingUnsupported(DeviceId),
    /// The domain's page attributes need what the device's unit lacks in its mode: snoop
    /// control (ECAP.SC) or memory types (ECAP.MTS).
    AttributesUnsupported(DeviceId),
    /// The addresses that the device translated itself are to be checked (§4.2.4), and its
    /// unit cannot do that, or what its slots lead to has no host permission table, or not
    /// the same one.
    Unchecked(DeviceId),
    /// The PASID is 0, which is kept for requests without one, or has more bits than unit
    /// and device support.
    PasidOutOfRange(Slot),
    /// An address has more bits than the host's physical addresses.
    BeyondHostWidth(Hpa),
    /// The device must keep its mapping of a reserved region (RMRR).
    Reserved(DeviceId),
    /// All of the unit's domain ids are taken, or all of the driver's domain objects.
    OutOfDomains,
    /// No memory for tables.
    OutOfFrames(OutOfFrames),
    /// Hardware did not confirm a step; the slot is blocked.
    Flush(FlushError),
    /// The device could not be programmed.
    Device(ServiceError),
}

impl From<OutOfFrames> for BackendError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

/// Why a range could not be mapped. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MapError {
    /// No such domain, or not one whose tables the back-end keeps.
    NotPaging(DomainHandle),
    /// Something is mapped there already.
    Occupied(Iova),
    /// The range leaves the addresses that the format translates.
    BeyondWidth(Iova),
    /// The range overlaps the interrupt address range 0xFEEx_xxxx.
    InterruptRange(Iova),
    /// The host range has more bits than the unit's physical addresses.
    BeyondHostWidth(Hpa),
    /// Neither reading nor writing was asked for.
    NoAccess,
    /// The format has no entry that allows just this: a first-stage page that can be
    /// written can be read too.
    AccessUnsupported(Access),
    /// A run without pages, or an address that is not page-aligned.
    Malformed,
    /// This page is mapped in so many places that no more can be counted, as is done where
    /// a device's own translations are checked.
    MappedTooOften(Hpa),
    /// On the way to this address lies an entry that the driver never wrote: someone else
    /// writes into its tables.
    Corrupt(Iova),
    /// No memory for tables.
    OutOfFrames(OutOfFrames),
}

impl From<OutOfFrames> for MapError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}

/// A request of a device for a page (§7.4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageRequest {
    /// Who asks.
    pub slot: Slot,
    /// The page asked for.
    pub address: Iova,
    /// What it wants to do there.
    pub access: Access,
    /// It asks with supervisor rights.
    pub privileged: bool,
    /// Page request group index, 9 bits.
    pub group: u16,
    /// The last request of the group: one answer is owed for the group.
    pub last: bool,
    /// When the driver read it.
    pub at: Nanoseconds,
}

/// What the ATS capability of a device says of its own TLB (PCIe 10.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AtsCapability {
    /// Invalidate queue depth of its physical function; 0 is 32.
    pub queue_depth: u8,
    /// Its physical function; itself if it is one.
    pub physical_function: SourceId,
}

/// What a device is told about its group of page requests (§7.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ResponseCode {
    /// The pages are there: try again.
    Success,
    /// At least one page cannot be had: that access fails.
    InvalidRequest,
    /// The device must stop sending page requests.
    Failure,
}

/// The answer to a group of page requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PageResponse {
    /// Who asked.
    pub slot: Slot,
    /// The group.
    pub group: u16,
    /// The answer.
    pub code: ResponseCode,
}

/// One step of the walk that hardware makes for a request, as software reads it back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WalkStep {
    /// Which structure: "root", "context", "PASID directory", "PASID table", "first-stage
    /// level 4", …
    pub table: &'static str,
    /// Where the entry lies.
    pub entry_at: Hpa,
    /// Index within the table.
    pub index: u16,
    /// The entry's words; those beyond its size are 0.
    pub words: [u64; 8],
    /// What stops the walk here, if anything does.
    pub refusal: Option<crate::FaultReason>,
}

/// A driver of remapping hardware.
///
/// All functions may be called on any CPU. Those that return [`Owed`] have changed tables
/// but not yet told hardware.
pub trait Backend: Send + Sync {
    /// What this back-end notes about an invalidation that it owes.
    type Debt: core::fmt::Debug + Send;

    /// What the device can have.
    fn capabilities(&self, device: DeviceId) -> Result<DeviceCapabilities, BackendError>;

    /// Makes a domain. Nothing is attached to it yet.
    ///
    /// `device` is one that will be attached: it says which unit's abilities must be met.
    fn create(&self, device: DeviceId, spec: &DomainSpec) -> Result<DomainHandle, BackendError>;

    /// Makes a domain of `format` whose pages are accessed as `attributes` say. What is
    /// nested on it is accessed so too.
    fn create_with(
        &self,
        device: DeviceId,
        format: TableFormat,
        attributes: &PageAttributes,
    ) -> Result<DomainHandle, BackendError> {
        if *attributes == PageAttributes::default() {
            return self.create(device, &DomainSpec::Paging(format));
        }
        Err(BackendError::AttributesUnsupported(device))
    }

    /// Makes a domain whose mappings are noted in a host permission table too, so that a
    /// device which translates addresses itself need not be trusted: what it claims to have
    /// translated is held against that table (§4.2.4). A back-end without such tables
    /// refuses.
    ///
    /// Here every debt matters: a device is told of a mapping only after that was settled.
    fn create_checked(
        &self,
        device: DeviceId,
        format: TableFormat,
    ) -> Result<DomainHandle, BackendError> {
        let _ = format;
        Err(BackendError::Unchecked(device))
    }

    /// Destroys a domain that nothing is attached to. Its table frames are in the debt.
    fn destroy(&self, domain: DomainHandle) -> Result<Owed<'_, Self::Debt>, BackendError>;

    /// Maps runs of host memory, one after the other, from `iova` on. All or nothing.
    fn map(
        &self,
        domain: DomainHandle,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Owed<'_, Self::Debt>, MapError>;

    /// Takes away whatever is mapped in a page-aligned range, splitting large pages at its
    /// ends. Fails only if a split needs memory, and then changes nothing.
    fn unmap(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
    ) -> Result<Owed<'_, Self::Debt>, MapError>;

    /// Makes a slot lead elsewhere. On error it leads where it did.
    fn replace(&self, slot: Slot, to: Attachment)
    -> Result<Replaced<'_, Self::Debt>, BackendError>;

    /// Where a slot leads now.
    fn attachment(&self, slot: Slot) -> Result<Attachment, BackendError>;

    /// What the keeper of a `Root` domain's tables, or the guest of a `Nested` one, owes
    /// after changing entries.
    fn invalidate(
        &self,
        domain: DomainHandle,
        scope: Scope,
    ) -> Result<Owed<'_, Self::Debt>, BackendError>;

    /// Tells hardware everything that the batch owes, and waits until it has forgotten.
    ///
    /// For each unit concerned: neighbouring ranges are merged, one doorbell, one wait;
    /// one more of each for every time that the queue must be refilled. On success the
    /// batch is empty and can be used again; on error what it held is in quarantine.
    fn commit(&self, batch: &mut Batch<'_, Self::Debt>) -> Result<Flushed, FlushError>;

    /// Makes hardware forget everything that it may have cached, and with it whatever is in
    /// quarantine: its frames come back in the result. On error all stays where it is.
    fn reclaim(&self) -> Result<Flushed, FlushError>;

    /// Whether something went into quarantine since the last [`reclaim`](Self::reclaim) that
    /// succeeded began. Hardware may know then what the tables say no more, and no memory may
    /// change hands.
    fn has_unconfirmed(&self) -> bool;

    /// Takes all pending fault records of all units.
    fn drain_faults(&self, sink: &mut dyn FnMut(&FaultRecord));

    /// Takes all pending page requests of all units.
    fn drain_page_requests(&self, sink: &mut dyn FnMut(&PageRequest));

    /// Answers a group of page requests.
    fn respond(&self, response: &PageResponse) -> Result<(), BackendError>;

    /// Answers several groups and waits once for all of them. On error any of them may not
    /// have been taken; it is the first one.
    fn respond_all(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        let answered = responses.iter().map(|response| self.respond(response));
        answered.fold(Ok(()), Result::and)
    }

    /// Lets a device keep translations in a TLB of its own and ask for the pages that it
    /// lacks. Whoever does so trusts the device: what it has translated is not looked at
    /// again. The device does no DMA meanwhile.
    ///
    /// `turn_on` programs the device (PASID before ATS before PRI); if it fails, the unit is
    /// as before. A back-end without page requests refuses.
    fn enable_page_requests(
        &self,
        device: DeviceId,
        ats: AtsCapability,
        turn_on: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        let _ = (ats, turn_on);
        Err(BackendError::Unsupported(device))
    }

    /// Takes that back. `turn_off` programs the device (PRI before ATS before PASID); it is
    /// not called for a device that may not ask.
    fn disable_page_requests(
        &self,
        device: DeviceId,
        turn_off: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        let _ = (device, turn_off);
        Ok(())
    }

    /// Returns when the device has every answer that was given before, and everything that
    /// it asked before is where [`drain_page_requests`](Self::drain_page_requests) finds
    /// it (§7.10). The slot leads nowhere any more.
    ///
    /// `true`: the queue has overflown meanwhile, and answers of the unit itself may be under
    /// way. Ask again: nothing that the device asked before is answered after that.
    fn flush_page_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        let _ = slot;
        Ok(false)
    }

    /// Walks the tables as hardware would for a request of `access` at `iova`, telling
    /// each step, and returns where it would end.
    fn explain(
        &self,
        slot: Slot,
        iova: Iova,
        access: Access,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, crate::FaultReason>;
}

/// A driver that is shared, as long as its reference lives.
impl<B: Backend + ?Sized> Backend for &B {
    type Debt = B::Debt;

    fn capabilities(&self, device: DeviceId) -> Result<DeviceCapabilities, BackendError> {
        (**self).capabilities(device)
    }

    fn create(&self, device: DeviceId, spec: &DomainSpec) -> Result<DomainHandle, BackendError> {
        (**self).create(device, spec)
    }

    fn create_with(
        &self,
        device: DeviceId,
        format: TableFormat,
        attributes: &PageAttributes,
    ) -> Result<DomainHandle, BackendError> {
        (**self).create_with(device, format, attributes)
    }

    fn create_checked(
        &self,
        device: DeviceId,
        format: TableFormat,
    ) -> Result<DomainHandle, BackendError> {
        (**self).create_checked(device, format)
    }

    fn destroy(&self, domain: DomainHandle) -> Result<Owed<'_, Self::Debt>, BackendError> {
        (**self).destroy(domain)
    }

    fn map(
        &self,
        domain: DomainHandle,
        iova: Iova,
        runs: &[Run],
        access: Access,
    ) -> Result<Owed<'_, Self::Debt>, MapError> {
        (**self).map(domain, iova, runs, access)
    }

    fn unmap(
        &self,
        domain: DomainHandle,
        range: AddressRange<Iova>,
    ) -> Result<Owed<'_, Self::Debt>, MapError> {
        (**self).unmap(domain, range)
    }

    fn replace(
        &self,
        slot: Slot,
        to: Attachment,
    ) -> Result<Replaced<'_, Self::Debt>, BackendError> {
        (**self).replace(slot, to)
    }

    fn attachment(&self, slot: Slot) -> Result<Attachment, BackendError> {
        (**self).attachment(slot)
    }

    fn invalidate(
        &self,
        domain: DomainHandle,
        scope: Scope,
    ) -> Result<Owed<'_, Self::Debt>, BackendError> {
        (**self).invalidate(domain, scope)
    }

    fn commit(&self, batch: &mut Batch<'_, Self::Debt>) -> Result<Flushed, FlushError> {
        (**self).commit(batch)
    }

    fn reclaim(&self) -> Result<Flushed, FlushError> {
        (**self).reclaim()
    }

    fn has_unconfirmed(&self) -> bool {
        (**self).has_unconfirmed()
    }

    fn drain_faults(&self, sink: &mut dyn FnMut(&FaultRecord)) {
        (**self).drain_faults(sink)
    }

    fn drain_page_requests(&self, sink: &mut dyn FnMut(&PageRequest)) {
        (**self).drain_page_requests(sink)
    }

    fn respond(&self, response: &PageResponse) -> Result<(), BackendError> {
        (**self).respond(response)
    }

    fn respond_all(&self, responses: &[PageResponse]) -> Result<(), BackendError> {
        (**self).respond_all(responses)
    }

    fn enable_page_requests(
        &self,
        device: DeviceId,
        ats: AtsCapability,
        turn_on: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        (**self).enable_page_requests(device, ats, turn_on)
    }

    fn disable_page_requests(
        &self,
        device: DeviceId,
        turn_off: &mut dyn FnMut() -> Result<(), ServiceError>,
    ) -> Result<(), BackendError> {
        (**self).disable_page_requests(device, turn_off)
    }

    fn flush_page_requests(&self, slot: Slot) -> Result<bool, BackendError> {
        (**self).flush_page_requests(slot)
    }

    fn explain(
        &self,
        slot: Slot,
        iova: Iova,
        access: Access,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, crate::FaultReason> {
        (**self).explain(slot, iova, access, step)
    }
}
