//! The table of one unit.

use super::allocation::Allocation;
use super::posted::PostedTarget;
use crate::driver::{Inspected, Sink};
use crate::registers::Irta;
use crate::tables::frame_number;
use crate::tables::interrupt::{IrteHigh, IrteLow, SourceQualifier, SourceValidation};
use crate::tables::posted::{PostedHigh, PostedLow};
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Coherence, DeviceId, Frame, IrqError, IrqTarget, Order, OutOfFrames, Platform};

/// The smallest table that fills a page: 2^8 entries of 16 bytes.
const SMALLEST_LOG2: u8 = 8;
/// The largest table that there is.
const LARGEST_LOG2: u8 = 16;
/// Vectors below are not for devices (Intel SDM 3A, 12.5.2).
const FIRST_VECTOR: u8 = 16;
/// Log2 of the bytes of a posted-interrupt descriptor.
pub(crate) const DESCRIPTOR_SHIFT: u32 = 6;

/// Who may raise an interrupt (§5.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum InterruptSource {
    /// One function, an I/O APIC or an HPET.
    Function(DeviceId),
    /// Whatever lies on these buses, both ends within: conventional PCI devices, whose
    /// bridge takes their requests over under ids of its own choice.
    ///
    /// QEMU (10.0, 11.1) compares the range the wrong way round and refuses all but ranges
    /// of one bus.
    Buses {
        /// The bridge, which says whose unit it is.
        bridge: DeviceId,
        /// First bus.
        first: u8,
        /// Last bus.
        last: u8,
    },
}

impl InterruptSource {
    /// The device whose unit has the entries.
    pub const fn device(self) -> DeviceId {
        match self {
            Self::Function(device) | Self::Buses { bridge: device, .. } => device,
        }
    }

    /// SVT, SQ and SID.
    const fn verification(self) -> IrteHigh {
        match self {
            Self::Function(device) => IrteHigh::new()
                .with_sid(device.source.bits())
                .with_sq(SourceQualifier::ALL)
                .with_svt(SourceValidation::SOURCE),
            Self::Buses { first, last, .. } => IrteHigh::new()
                .with_sid(u16::from_be_bytes([first, last]))
                .with_svt(SourceValidation::BUS_RANGE),
        }
    }
}

/// An interrupt-remapping table.
#[derive(Debug)]
pub(crate) struct InterruptTable {
    frame: Frame,
    entries_log2: u8,
    extended: bool,
    coherence: Coherence,
    allocation: Mutex<Allocation>,
}

impl InterruptTable {
    /// A table of 2^`entries_log2` entries (8 to 16), none present.
    pub(crate) fn new<P: Platform>(
        platform: &P,
        entries_log2: u8,
        extended: bool,
        coherence: Coherence,
    ) -> Result<Self, OutOfFrames> {
        let entries_log2 = entries_log2.clamp(SMALLEST_LOG2, LARGEST_LOG2);
        let allocation = Allocation::new(1 << entries_log2)?;
        let frame = platform.allocate(Order::for_bytes(16u64 << entries_log2))?;
        Ok(Self {
            frame,
            entries_log2,
            extended,
            coherence,
            allocation: Mutex::new(Rank::Interrupts, allocation),
        })
    }

    /// Gives the memory back. Hardware must not know it (any more).
    pub(crate) fn dispose<P: Platform>(self, platform: &P) {
        platform.release(self.frame);
    }

    /// What hardware is told of it.
    pub(crate) fn register(&self) -> Irta {
        Irta::new()
            .with_irta(frame_number(self.frame.hpa()))
            .with_eime(self.extended)
            .with_s(self.entries_log2.saturating_sub(1) & 0xf)
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> u32 {
        1 << self.entries_log2
    }

    /// Whether APIC ids have 32 bits.
    pub(crate) fn is_extended(&self) -> bool {
        self.extended
    }

    /// Takes a run of entries for a source. They stay not present.
    pub(crate) fn allocate<P: Platform>(
        &self,
        platform: &P,
        source: InterruptSource,
        count: u16,
    ) -> Result<u16, IrqError> {
        let exhausted = IrqError::Exhausted { wanted: count };
        if count == 0 {
            return Err(exhausted);
        }
        let mut allocation = self.allocation.lock(platform);
        let first = allocation.take(count).ok_or(exhausted)?;
        let owner = source.verification();
        for index in (0..count).map(|offset| first.saturating_add(offset)) {
            self.publish(platform, index, [0, owner.into_bits()]);
        }
        Ok(first)
    }

    /// Makes an entry deliver to `target`. Says whether it was present.
    pub(crate) fn route<P: Platform>(
        &self,
        platform: &P,
        index: u16,
        target: &IrqTarget,
    ) -> Result<bool, IrqError> {
        if target.vector < FIRST_VECTOR {
            return Err(IrqError::BadVector(target.vector));
        }
        let low = IrteLow::new()
            .with_p(true)
            .with_tm(target.level)
            .with_v(target.vector)
            .with_dst(self.destination(target.apic_id)?);
        let _entries = self.allocation.lock(platform);
        let [old, _] = self.load(index);
        self.publish(platform, index, [low.into_bits(), self.owner(index)]);
        Ok(IrteLow::from_bits(old).p())
    }

    /// Makes an entry post to a descriptor (§5.2.2). Says whether it was present.
    pub(crate) fn post<P: Platform>(
        &self,
        platform: &P,
        index: u16,
        target: &PostedTarget,
    ) -> Result<bool, IrqError> {
        if target.vector < FIRST_VECTOR {
            return Err(IrqError::BadVector(target.vector));
        }
        let at = target.descriptor.as_u64();
        let low = PostedLow::new()
            .with_p(true)
            .with_im(true)
            .with_urg(target.urgent)
            .with_vv(target.vector)
            .with_pda_low((at as u32) >> DESCRIPTOR_SHIFT);
        let _entries = self.allocation.lock(platform);
        let [old, _] = self.load(index);
        let high = PostedHigh::from_bits(self.owner(index)).with_pda_high((at >> 32) as u32);
        self.publish(platform, index, [low.into_bits(), high.into_bits()]);
        Ok(IrteLow::from_bits(old).p())
    }

    /// Who may use an entry: the upper word without a descriptor's address.
    fn owner(&self, index: u16) -> u64 {
        let [_, high] = self.load(index);
        PostedHigh::from_bits(high).with_pda_high(0).into_bits()
    }

    /// Makes an entry not present; it keeps its owner. Says whether it was present.
    pub(crate) fn mask<P: Platform>(&self, platform: &P, index: u16) -> bool {
        let _entries = self.allocation.lock(platform);
        let [old, _] = self.load(index);
        self.publish(platform, index, [0, self.owner(index)]);
        IrteLow::from_bits(old).p()
    }

    /// Makes a run of entries not present and ownerless. They stay taken.
    pub(crate) fn clear<P: Platform>(&self, platform: &P, first: u16, count: u16) {
        let _entries = self.allocation.lock(platform);
        for offset in 0..count {
            self.publish(platform, first.saturating_add(offset), [0, 0]);
        }
    }

    /// Gives a run back that hardware has forgotten.
    pub(crate) fn give_back<P: Platform>(&self, platform: &P, first: u16, count: u16) {
        self.allocation.lock(platform).give_back(first, count);
    }

    /// Tells every entry that is not all zeroes.
    pub(crate) fn inspect<P: Platform>(&self, platform: &P, sink: Sink<'_>) {
        let _entries = self.allocation.lock(platform);
        for index in 0..=u16::MAX {
            if u32::from(index) >= self.entries() {
                return;
            }
            let [low, high] = self.load(index);
            if [low, high] != [0, 0] {
                sink(&Inspected::Interrupt {
                    index,
                    low: IrteLow::from_bits(low),
                    high: IrteHigh::from_bits(high),
                });
            }
        }
    }

    /// DST (§9.9): the whole id in extended mode, else 8 bits in bits 15:8.
    fn destination(&self, apic_id: u32) -> Result<u32, IrqError> {
        if self.extended {
            return Ok(apic_id);
        }
        match u8::try_from(apic_id) {
            Ok(id) => Ok(u32::from(id) << 8),
            Err(_) => Err(IrqError::ApicIdTooWide(apic_id)),
        }
    }

    fn load(&self, index: u16) -> [u64; 2] {
        let cell = usize::from(index) << 1;
        let word = |cell| self.frame.load(cell).unwrap_or(0);
        [word(cell), word(cell | 1)]
    }

    fn publish<P: Platform>(&self, platform: &P, index: u16, words: [u64; 2]) {
        let cell = usize::from(index) << 1;
        platform.publish128(&self.frame, cell, words, self.coherence);
    }
}
