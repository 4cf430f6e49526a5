//! The invalidation completion event (§6.5.2.10): an interrupt for whoever waits.
//!
//! Which round is done is told by the status word alone; the interrupt only ends a sleep. A
//! unit sends none while IWC is set, so one that is lost, or that nobody answers, would be
//! the last: whoever sleeps does so for a limited time, and answers in its place.

use crate::Event;
use crate::registers::{Ics, Ieaddr, Iectl, Iedata, Ieuaddr, Registers};
use crate::unit::Message;
use iommu_core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use iommu_core::{Mmio, Nanoseconds, Observer};

/// The longest sleep. Hardware takes less for a batch, so it ends by the interrupt.
pub(super) const LONGEST_REST: Nanoseconds = Nanoseconds::from_micros(500);

/// What the event sends, if it is used.
#[derive(Debug)]
pub(crate) struct CompletionEvent {
    /// Message address; 0 while the event is not used, which no message has.
    address: AtomicU64,
    data: AtomicU32,
}

impl CompletionEvent {
    pub(super) fn off() -> Self {
        Self {
            address: AtomicU64::new(0),
            data: AtomicU32::new(0),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.address.load(Ordering::Acquire) != 0
    }

    /// From now on waits raise the event, which sends this; or they do not any more.
    pub(crate) fn set<M: Mmio, O: Observer<Event>>(
        &self,
        registers: &Registers<M>,
        observer: &O,
        message: Option<Message>,
    ) {
        let (address, data) = message.map_or((0, 0), |it| (it.address, u32::from(it.data)));
        self.data.store(data, Ordering::Release);
        self.address.store(address, Ordering::Release);
        self.program(registers, observer);
    }

    /// Programs the registers, which are lost when the platform sleeps: control last, since
    /// clearing IM may send a message that waits.
    pub(crate) fn program<M: Mmio, O: Observer<Event>>(
        &self,
        registers: &Registers<M>,
        observer: &O,
    ) {
        let address = self.address.load(Ordering::Acquire);
        if address == 0 {
            return mask(registers, observer, true);
        }
        mask(registers, observer, true);
        let data = self.data.load(Ordering::Acquire) as u16;
        registers.write32(observer, Iedata::new().with_imd(data));
        registers.write32(observer, Ieaddr::from_bits(address as u32 & !3));
        registers.write32(observer, Ieuaddr::new().with_mua((address >> 32) as u32));
        mask(registers, observer, false);
    }
}

/// Holds the message back, or lets it go: one that became due meanwhile is sent then.
pub(crate) fn mask<M: Mmio, O: Observer<Event>>(
    registers: &Registers<M>,
    observer: &O,
    masked: bool,
) {
    registers.write32(observer, Iectl::new().with_im(masked));
}

/// Answers the event: another one can be sent. Says whether there was one.
pub(crate) fn answer<M: Mmio, O: Observer<Event>>(registers: &Registers<M>, observer: &O) -> bool {
    let raised = registers.read32::<Ics>().iwc();
    if raised {
        registers.write32(observer, Ics::new().with_iwc(true));
    }
    raised
}
