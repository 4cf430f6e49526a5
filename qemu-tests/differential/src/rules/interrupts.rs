//! Interrupt requests.

use super::{Kind, Rule, View};
use crate::answer::{Answer, Message, Record};
use crate::case::{Device, Sending, Step};
use crate::entries::{InterruptHigh, InterruptLow, MessageAddress};
use crate::hardware::handle;

/// QEMU's source for a write that is no MSI.
const NO_SOURCE_ID: u16 = 0xffff;
/// IRTA.EIME.
const EXTENDED: u64 = 1 << 11;
const BY_BUS: u8 = 2;
const RESERVED_KIND: u8 = 3;

/// A request and the entry that it names.
struct Request {
    device: Device,
    address: MessageAddress,
    data: u32,
    sending: Sending,
    index: u16,
    table: u64,
    entry: Option<(InterruptLow, InterruptHigh)>,
}

impl Request {
    fn of(view: &View<'_>) -> Option<Self> {
        let Step::Interrupt {
            device,
            address,
            data,
            sending,
        } = *view.step
        else {
            return None;
        };
        let entry = view.told.interrupt_entry;
        Some(Self {
            device,
            address: address.into(),
            data,
            sending,
            index: handle(u64::from(address), data),
            table: view.case.interrupts?,
            entry: entry.map(|[low, high]| (low.into(), high.into())),
        })
    }

    fn source(&self) -> u16 {
        match self.sending {
            Sending::Message => self.device.source(),
            Sending::Write => NO_SOURCE_ID,
        }
    }

    fn is_extended(&self) -> bool {
        self.table & EXTENDED != 0
    }

    /// Whether QEMU finds reserved bits in the entry: those that it looks at.
    fn is_reserved(&self) -> bool {
        self.entry.is_some_and(|(low, high)| {
            low.reserved() != 0 || low.reserved_too() != 0 || high.rest() != 0
        })
    }

    /// Whether the entry refuses the source, as QEMU checks it.
    fn is_refused(&self) -> bool {
        let Some((_, high)) = self.entry else {
            return false;
        };
        let source = self.source();
        let bus = (source >> 8) as u8;
        match high.check() {
            _ if self.sending == Sending::Write => false,
            0 => false,
            1 => {
                let ignored = [0, 0b100, 0b110, 0b111][usize::from(high.qualifier())];
                (source ^ high.source()) & !ignored != 0
            }
            // Lowest bus in the lower byte: the other way round.
            BY_BUS => bus > (high.source() >> 8) as u8 || bus < high.source() as u8,
            _ => true,
        }
    }

    fn fault(&self, reason: u8, info: u64, silent: bool) -> Answer {
        Answer::Blocked((!silent).then_some(Record {
            reason,
            source: self.source(),
            info,
            read: false,
            pasid: (false, 0),
        }))
    }

    /// What QEMU makes of it, step by step.
    fn outcome(&self) -> Answer {
        if !self.address.remappable() {
            let address = u64::from(u32::from(self.address));
            return Answer::Delivered(Message::parse(address, self.data));
        }
        let info = u64::from(self.index) << 48;
        if u32::from(self.index) >= 2 << (self.table & 0xf) {
            return self.fault(0x21, info, false);
        }
        let Some((low, _)) = self.entry else {
            return self.fault(0x23, info, false);
        };
        let silent = low.fault_disable();
        if !low.present() {
            return self.fault(0x22, info, silent);
        }
        if self.is_reserved() {
            return self.fault(0x24, info, silent);
        }
        if self.is_refused() {
            return self.fault(0x26, info, silent);
        }
        if self.address.subhandle_valid() && self.data >> 16 != 0 {
            return self.fault(0x20, 0, false);
        }
        let destination = if self.is_extended() {
            low.destination()
        } else {
            (low.destination() >> 8) & 0xff
        };
        Answer::Delivered(Message {
            destination,
            logical: low.logical(),
            delivery: low.delivery(),
            vector: low.vector(),
            level: low.level(),
        })
    }
}

fn when(view: &View<'_>, applies: impl FnOnce(&Request) -> bool) -> Option<Answer> {
    let request = Request::of(view)?;
    applies(&request).then(|| request.outcome())
}

/// The same, for requests that find a present entry.
fn when_entry(
    view: &View<'_>,
    applies: impl FnOnce(&Request, InterruptLow, InterruptHigh) -> bool,
) -> Option<Answer> {
    when(view, |request| {
        request.address.remappable()
            && request
                .entry
                .is_some_and(|(low, high)| low.present() && applies(request, low, high))
    })
}

pub(super) const COMPATIBILITY: Rule = Rule {
    name: "compatibility-format",
    kind: Kind::Bug,
    reason: "requests of compatibility format are blocked with CFI = 0 or EIME = 1 (25h, §5.1.4); QEMU lets them pass",
    predict: |view| when(view, |request| !request.address.remappable()),
};

pub(super) const NO_SOURCE: Rule = Rule {
    name: "no-source",
    kind: Kind::Bug,
    reason: "a device's DMA write is an interrupt request of that device (§5.1.2); to QEMU it has source FF:1F.7, which passes each check",
    predict: |view| {
        when(view, |request| {
            let checks = request.entry.is_some_and(|(_, high)| high.check() != 0);
            let faults = matches!(request.outcome(), Answer::Blocked(Some(_)));
            request.sending == Sending::Write && (checks || faults)
        })
    },
};

pub(super) const BUS_RANGE: Rule = Rule {
    name: "bus-range",
    kind: Kind::Bug,
    reason: "SVT 10 names the first bus in SID 15:8 and the last in 7:0 (§9.9); QEMU swaps them",
    predict: |view| {
        when_entry(view, |_, _, high| {
            high.check() == BY_BUS && high.source() >> 8 != high.source() & 0xff
        })
    },
};

pub(super) const RESERVED_BEFORE_SOURCE: Rule = Rule {
    name: "reserved-before-source",
    kind: Kind::Bug,
    reason: "the source is checked before the entry's reserved fields (§5.1.4); QEMU goes the other way",
    predict: |view| {
        when_entry(view, |request, _, _| {
            request.is_reserved() && request.is_refused()
        })
    },
};

pub(super) const RESERVED_CHECK: Rule = Rule {
    name: "reserved-check",
    kind: Kind::Bug,
    reason: "SVT 11 is a reserved field (24h, §9.9); QEMU takes it for a failed check (26h)",
    predict: |view| when_entry(view, |_, _, high| high.check() == RESERVED_KIND),
};

pub(super) const UNCHECKED_FIELDS: Rule = Rule {
    name: "unchecked-fields",
    kind: Kind::Bug,
    reason: "DST 63:48 and 39:32 without EIME, and delivery modes 3 and 6, are reserved (§9.9); QEMU does not look",
    predict: |view| {
        when_entry(view, |request, low, _| {
            let wide = low.destination() & 0xffff_00ff != 0 && !request.is_extended();
            wide || matches!(low.delivery(), 3 | 6)
        })
    },
};

pub(super) const POSTED_AS_REMAPPED: Rule = Rule {
    name: "posted-as-remapped",
    kind: Kind::Bug,
    reason: "IM = 1 is reserved without posting (§9.9); QEMU remaps by such an entry as by others",
    predict: |view| when_entry(view, |_, low, _| low.posted()),
};

pub(super) const SHORT_INDEX: Rule = Rule {
    name: "short-index",
    kind: Kind::Bug,
    reason: "handle and subhandle add up to more than 16 bits (21h, §5.1.3); QEMU's sum has 16",
    predict: |view| {
        when(view, |request| {
            let handle = u32::from(request.address.handle())
                | u32::from(request.address.handle_high()) << 15;
            request.address.subhandle_valid() && handle + (request.data & 0xffff) > 0xffff
        })
    },
};
