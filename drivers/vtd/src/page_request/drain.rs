//! Reading the queue (§7.4.1, §7.5).

use super::descriptor::{PageRequest0, PageRequest1, parse};
use crate::Event;
use crate::registers::{Peaddr, Pectl, Pedata, Peuaddr, Pqa, Pqh, Pqt, Prs, Registers};
use crate::tables::frame_number;
use crate::unit::{Message, Unit};
use arrayvec::ArrayVec;
use iommu_core::sync::{Mutex, Rank};
use iommu_core::{Frame, Mmio, Observer, Order, OutOfFrames, PageRequest, Platform};

/// Requests that are read under the lock at a time.
const CHUNK: usize = 16;
/// Cells of 64 bits in an entry.
const CELLS_LOG2: u32 = 2;
/// Entries in a page, by their logarithm.
const ENTRIES_IN_PAGE_LOG2: u8 = 7;

/// The page request queue of a unit.
#[derive(Debug)]
pub(crate) struct PageRequestQueue {
    frame: Frame,
    lock: Mutex<()>,
}

impl PageRequestQueue {
    /// A queue of 2^`pages_log2` pages (at most 7), of 128 entries each.
    pub(crate) fn new<P: Platform>(platform: &P, pages_log2: u8) -> Result<Self, OutOfFrames> {
        let order = Order::new(pages_log2.min(7)).unwrap_or(Order::PAGE);
        Ok(Self {
            frame: platform.allocate(order)?,
            lock: Mutex::new(Rank::Faults, ()),
        })
    }

    /// Gives the memory back. Hardware must not know it (any more).
    pub(crate) fn dispose<P: Platform>(self, platform: &P) {
        platform.release(self.frame);
    }

    /// Tells hardware of the queue and of what its event sends; control comes last.
    pub(crate) fn program<M: Mmio, O: Observer<Event>>(
        &self,
        registers: &Registers<M>,
        observer: &O,
        message: Option<Message>,
    ) {
        registers.write32(observer, Pectl::new().with_im(true));
        registers.write64(observer, Pqh::new());
        registers.write64(observer, Pqt::new());
        registers.write64(
            observer,
            Pqa::new()
                .with_pqa(frame_number(self.frame.hpa()))
                .with_pqs(self.frame.order().log2() & 7),
        );
        registers.write32(observer, Prs::new().with_ppr(true).with_pro(true));
        if let Some(message) = message {
            registers.write32(observer, Pedata::new().with_imd(message.data));
            registers.write32(observer, Peaddr::from_bits(message.address as u32 & !3));
            registers.write32(
                observer,
                Peuaddr::new().with_mua((message.address >> 32) as u32),
            );
            registers.write32(observer, Pectl::new());
        }
    }

    fn entries(&self) -> u16 {
        1 << self
            .frame
            .order()
            .log2()
            .saturating_add(ENTRIES_IN_PAGE_LOG2)
    }

    /// Chunks in a full queue.
    fn chunks(&self) -> usize {
        usize::from(self.entries()).div_ceil(CHUNK)
    }

    /// Up to [`CHUNK`] entries, parsed; `None` where an entry asks nothing. Empty if the
    /// queue is.
    fn take<M: Mmio, P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        unit: &Unit<M>,
    ) -> ArrayVec<Option<PageRequest>, CHUNK> {
        let _one_at_a_time = self.lock.lock(platform);
        let registers = &unit.registers;
        let mask = self.entries().saturating_sub(1);
        let mut head = registers.read64::<Pqh>().pqh() & mask;
        let tail = registers.read64::<Pqt>().pqt() & mask;
        let mut requests = ArrayVec::new();
        while head != tail && !requests.is_full() {
            let cell = usize::from(head) << CELLS_LOG2;
            let word = |offset| self.frame.load(cell | offset).unwrap_or(0);
            requests.push(parse(
                unit.segment,
                PageRequest0::from_bits(word(0)),
                PageRequest1::from_bits(word(1)),
                platform.now(),
            ));
            head = head.wrapping_add(1) & mask;
        }
        if !requests.is_empty() {
            registers.write64(platform, Pqh::new().with_pqh(head));
        }
        requests
    }
}

impl<M: Mmio> Unit<M> {
    /// Whether the queue was full when a request came, and nobody has dealt with that yet
    /// (PRS.PRO).
    pub(crate) fn lost_page_requests(&self) -> bool {
        self.page_requests.is_some() && self.registers.read32::<Prs>().pro()
    }

    /// Takes all page requests. The sink is called with no lock held.
    pub(crate) fn drain_page_requests<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        sink: &mut dyn FnMut(&PageRequest),
    ) {
        let Some(queue) = &self.page_requests else {
            return;
        };
        // PPR first: what comes from here on raises the event again (§7.5).
        let overflown = self.registers.read32::<Prs>().pro();
        self.registers.write32(platform, Prs::new().with_ppr(true));
        // A device can ask as fast as it is heard; once around the queue is enough.
        for _ in 0..queue.chunks() {
            let requests = queue.take(platform, self);
            if requests.is_empty() {
                break;
            }
            for request in requests.iter().flatten() {
                self.counters.page_requests.increment();
                sink(request);
            }
        }
        if overflown {
            // Hardware has answered what it dropped, by telling the devices to try again.
            platform.observe(&Event::PageRequestsLost { unit: self.index() });
            self.registers.write32(platform, Prs::new().with_pro(true));
        }
    }
}
