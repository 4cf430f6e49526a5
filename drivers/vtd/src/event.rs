//! What the driver tells whoever wants to know.

use crate::bring_up::FirmwareState;
use crate::fault::Restraint;
use crate::mode::ModeChoice;
use crate::queue::Descriptor;
use crate::registers::{Cap, Ecap, Ver};
use iommu_core::{DeviceId, DomainHandle, FaultRecord, Hpa, Pasid, SourceId};

/// Something that happened. Of interest at about these levels: register writes and
/// descriptors to who traces, steps to who debugs, the rest to everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A register was written.
    RegisterWritten {
        /// The unit.
        unit: u16,
        /// The specification's name.
        register: &'static str,
        /// Byte offset.
        offset: u32,
        /// What was written.
        value: u64,
    },
    /// A descriptor was put into the invalidation queue.
    Queued {
        /// The unit.
        unit: u16,
        /// What.
        descriptor: Descriptor,
    },
    /// A unit was found and makes sense.
    Discovered {
        /// The unit.
        unit: u16,
        /// Where its registers are.
        register_base: Hpa,
        /// VER.
        version: Ver,
        /// CAP.
        capability: Cap,
        /// ECAP.
        extended_capability: Ecap,
    },
    /// What firmware left behind.
    Firmware {
        /// The unit.
        unit: u16,
        /// What was on.
        state: FirmwareState,
    },
    /// Firmware's queue did not run empty in time; it was turned off as it was.
    FirmwareQueueNotEmpty {
        /// The unit.
        unit: u16,
    },
    /// The unit translates by tables of whoever ran before, whose domain ids are avoided
    /// until they are out of force.
    DomainIdsInUse {
        /// The unit.
        unit: u16,
        /// How many.
        count: u32,
        /// All tables could be read. If not, ids are numbered from the top besides.
        complete: bool,
    },
    /// The unit's mode, and why.
    ModeChosen {
        /// The unit.
        unit: u16,
        /// Which, and why.
        choice: ModeChoice,
    },
    /// The invalidation queue works.
    QueueOn {
        /// The unit.
        unit: u16,
        /// Descriptors that fit.
        slots: u32,
    },
    /// The unit has no invalidation queue, and is told by registers.
    NoQueue {
        /// The unit.
        unit: u16,
    },
    /// Interrupts are remapped from now on.
    InterruptRemappingOn {
        /// The unit.
        unit: u16,
        /// Entries in the table.
        entries: u32,
        /// APIC ids have 32 bits.
        extended: bool,
    },
    /// Translation has to be off while the table mode changes: until
    /// [`Event::TranslationOn`] devices reach memory untranslated.
    TranslationWindow {
        /// The unit.
        unit: u16,
    },
    /// Our tables are in force.
    TranslationOn {
        /// The unit.
        unit: u16,
    },
    /// The unit was turned off: devices reach memory untranslated.
    TurnedOff {
        /// The unit.
        unit: u16,
    },
    /// Firmware's protected memory regions were turned off.
    ProtectedMemoryOff {
        /// The unit.
        unit: u16,
    },
    /// A slot leads elsewhere.
    Attached {
        /// The device.
        device: DeviceId,
        /// `None` for requests without PASID.
        pasid: Option<Pasid>,
        /// `None` if the slot is now blocked or passed through.
        domain: Option<DomainHandle>,
        /// Domain id on the device's unit; 0 if blocked.
        domain_id: u16,
    },
    /// Hardware refused something that a device did.
    Fault(FaultRecord),
    /// A device made more faults than it may, and is held back for a while.
    Flood {
        /// Who.
        device: DeviceId,
        /// How many within the window.
        faults: u32,
        /// They were of interrupts.
        interrupts: bool,
        /// How it is held back.
        restraint: Restraint,
    },
    /// The pause of a device that had made too many faults is over.
    FloodOver {
        /// Who.
        device: DeviceId,
    },
    /// There were more faults than the unit can record; some are lost.
    FaultsLost {
        /// The unit.
        unit: u16,
    },
    /// The page request queue overflowed; the devices were told to try again.
    PageRequestsLost {
        /// The unit.
        unit: u16,
    },
    /// The unit refused a descriptor (IQE). It was replaced and the queue goes on.
    DescriptorRefused {
        /// The unit.
        unit: u16,
        /// Slot in the queue.
        slot: u32,
        /// IQERCD.IQEI.
        code: u8,
        /// Its words.
        words: [u64; 2],
    },
    /// A device did not answer an invalidation in time (ITE).
    DeviceSilent {
        /// The unit.
        unit: u16,
        /// Who; `None` if the unit does not tell.
        source: Option<SourceId>,
    },
    /// A device answered an invalidation that nobody had sent (ICE).
    UnexpectedCompletion {
        /// The unit.
        unit: u16,
        /// Who.
        source: SourceId,
    },
    /// A device was cut off from memory because its cache cannot be invalidated.
    Isolated {
        /// The device.
        device: DeviceId,
    },
    /// Frames and ids were parked because their invalidation was not confirmed.
    Quarantined {
        /// Pages of table memory.
        frames: u32,
    },
}
