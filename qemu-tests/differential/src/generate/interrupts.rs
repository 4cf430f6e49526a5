//! Interrupt requests through a random table of entries.

use fastrand::Rng;

use super::tables::{Tables, hole};
use super::{Card, Draft, Make};
use crate::case::{Case, Device, Mode, Sending, Step};
use crate::entries::{InterruptHigh, InterruptLow, MessageAddress};

/// IRTA.EIME (§11.4.10).
const EXTENDED: u64 = 1 << 11;
/// Ids that no APIC has: 0 is the processor's, FFh means all.
const NOBODYS: std::ops::RangeInclusive<u32> = 1..=0xfd;

pub(super) fn cards() -> Vec<Card> {
    let hands: &[(u64, &'static str, Make)] = &[
        (581, "delivered", delivered),
        (150, "delivered, as a write", delivered_as_write),
        (30, "reserved data", reserved_data),
        (50, "index beyond the table", index_beyond),
        (50, "entry absent", entry_absent),
        (50, "table in a hole", table_in_hole),
        (50, "entry reserved", entry_reserved),
        (60, "wrong source", wrong_source),
        (60, "fault not to be recorded", silent),
        (120, "entry changes", changes),
    ];
    [Mode::Xapic, Mode::X2apic]
        .into_iter()
        .flat_map(|mode| {
            hands.iter().map(move |&(count, intent, make)| Card {
                count,
                mode,
                intent,
                make,
            })
        })
        .collect()
}

/// An interrupt request and the entry that serves it.
pub(super) struct Interrupt {
    pub(super) tables: Tables,
    /// IRTA.
    pub(super) table: u64,
    pub(super) entries: u32,
    /// Where the entry lies.
    pub(super) entry: u64,
    pub(super) device: Device,
    pub(super) address: MessageAddress,
    pub(super) data: u32,
    pub(super) sending: Sending,
}

impl Interrupt {
    /// A request that is delivered.
    pub(super) fn draw(rng: &mut Rng, draft: &Draft) -> Option<Self> {
        if draft.device == Device::Tester {
            return None;
        }
        let mut tables = Tables::new();
        let size = rng.u8(0..=10);
        let entries = 2_u32 << size;
        let base = tables.frames(rng, u64::from(entries).div_ceil(256));
        let extended = draft.mode == Mode::X2apic;
        let table = base | u64::from(size) | if extended { EXTENDED } else { 0 };
        let index = rng.u32(..entries);
        let subhandle = rng.bool().then(|| rng.u32(..=index));
        let address = MessageAddress::new()
            .with_head(0xfee)
            .with_remappable(true)
            .with_subhandle_valid(subhandle.is_some())
            .with_handle((index - subhandle.unwrap_or(0)) as u16)
            .with_ignored(rng.u8(..4));
        let mut this = Self {
            tables,
            table,
            entries,
            entry: base + u64::from(index) * 16,
            device: draft.device,
            address,
            data: subhandle.unwrap_or_else(|| rng.u32(..0x1_0000)),
            sending: Sending::Message,
        };
        let [low, high] = this.words(rng, extended);
        this.tables.set(this.entry, low);
        this.tables.set(this.entry + 8, high);
        this.add_neighbours(rng, extended);
        Some(this)
    }

    /// An entry that delivers this request.
    fn words(&self, rng: &mut Rng, extended: bool) -> [u64; 2] {
        let id = rng.u32(NOBODYS);
        let destination = if extended {
            rng.u32(..) & !0xff | id
        } else {
            id << 8
        };
        let low = InterruptLow::new()
            .with_present(true)
            .with_logical(rng.bool())
            .with_hint(rng.bool())
            .with_level(rng.bool())
            .with_delivery([0, 1, 2, 4, 5, 7][rng.usize(..6)])
            .with_available(rng.u8(..16))
            .with_vector(rng.u8(0x10..))
            .with_destination(destination);
        [low.into(), self.check(rng).into()]
    }

    /// A source check that the device passes.
    fn check(&self, rng: &mut Rng) -> InterruptHigh {
        let source = self.device.source();
        match rng.u8(..4) {
            0 => InterruptHigh::new().with_source(rng.u16(..)),
            // Buses 0 to 0.
            1 => InterruptHigh::new().with_check(2),
            _ => {
                let qualifier = rng.u8(..4);
                let ignored = [0, 0b100, 0b110, 0b111][usize::from(qualifier)];
                InterruptHigh::new()
                    .with_check(1)
                    .with_qualifier(qualifier)
                    .with_source(source ^ rng.u16(..) & ignored)
            }
        }
    }

    fn add_neighbours(&mut self, rng: &mut Rng, extended: bool) {
        let base = self.table & !0xfff;
        for _ in 0..rng.u8(..4) {
            let at = base + u64::from(rng.u32(..self.entries)) * 16;
            if self.tables.get(at) == 0 {
                let [low, high] = self.words(rng, extended);
                self.tables.set(at, low);
                self.tables.set(at + 8, high);
            }
        }
    }

    pub(super) fn change_low(&mut self, change: impl FnOnce(InterruptLow) -> InterruptLow) {
        self.tables
            .change(self.entry, |word| change(InterruptLow::from(word)).into());
    }

    pub(super) fn change_high(&mut self, change: impl FnOnce(InterruptHigh) -> InterruptHigh) {
        self.tables.change(self.entry + 8, |word| {
            change(InterruptHigh::from(word)).into()
        });
    }

    pub(super) fn step(&self) -> Step {
        Step::Interrupt {
            device: self.device,
            address: self.address.into(),
            data: self.data,
            sending: self.sending,
        }
    }

    pub(super) fn case(self, draft: &Draft, steps: Vec<Step>) -> Case {
        let mut tables = self.tables;
        let root = tables.frame(&mut Rng::with_seed(draft.number));
        Case {
            number: draft.number,
            intent: draft.intent,
            mode: draft.mode,
            rig: draft.rig,
            root,
            interrupts: Some(self.table),
            memory: tables.memory,
            tables: tables.tables,
            targets: tables.targets,
            steps,
        }
    }
}

/// Makes a request that is delivered, changes something, and has the case.
pub(super) fn with(
    rng: &mut Rng,
    draft: &Draft,
    change: impl FnOnce(&mut Interrupt, &mut Rng) -> Option<()>,
) -> Option<Case> {
    let mut interrupt = Interrupt::draw(rng, draft)?;
    change(&mut interrupt, rng)?;
    let step = interrupt.step();
    Some(interrupt.case(draft, vec![step]))
}

fn delivered(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |_, _| Some(()))
}

/// A write of a device's own has no source in QEMU: the entry asks for none.
pub(super) fn as_write(interrupt: &mut Interrupt, rng: &mut Rng) {
    interrupt.sending = Sending::Write;
    interrupt.change_high(|high| high.with_check(0).with_qualifier(rng.u8(..4)));
    let data = interrupt.data;
    // With a subhandle the upper half is reserved.
    interrupt.data = if interrupt.address.subhandle_valid() {
        data
    } else {
        data | rng.u32(..) << 16
    };
}

fn delivered_as_write(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        as_write(interrupt, rng);
        // Bits 1:0 of the address cannot be set: writes are of aligned words.
        interrupt.address.set_ignored(0);
        Some(())
    })
}

fn reserved_data(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        as_write(interrupt, rng);
        interrupt.address.set_ignored(0);
        interrupt.data |= 1 << rng.u32(16..32);
        interrupt.address.subhandle_valid().then_some(())
    })
}

fn index_beyond(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        let index = rng.u32(interrupt.entries..0x1_0000);
        interrupt.address.set_subhandle_valid(false);
        interrupt.address.set_handle((index & 0x7fff) as u16);
        interrupt.address.set_handle_high(index & 0x8000 != 0);
        Some(())
    })
}

fn entry_absent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        let zero = rng.bool();
        interrupt.change_low(|low| {
            if zero {
                InterruptLow::new()
            } else {
                low.with_present(false)
            }
        });
        Some(())
    })
}

fn table_in_hole(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        interrupt.table = hole(rng) | interrupt.table & 0xfff;
        Some(())
    })
}

pub(super) fn spoil_entry(interrupt: &mut Interrupt, rng: &mut Rng) {
    if rng.bool() {
        let bit = [12, 13, 14, 24, 25, 26, 27, 28, 29, 30, 31][rng.usize(..11)];
        interrupt
            .tables
            .change(interrupt.entry, |word| word | 1 << bit);
    } else {
        let bit = rng.u32(20..64);
        interrupt
            .tables
            .change(interrupt.entry + 8, |word| word | 1 << bit);
    }
}

fn entry_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        spoil_entry(interrupt, rng);
        Some(())
    })
}

pub(super) fn mistake_source(interrupt: &mut Interrupt, rng: &mut Rng) {
    let source = interrupt.device.source();
    let other = source ^ 1 << rng.u32(3..16);
    let qualifier = rng.u8(..4);
    interrupt.change_high(|high| {
        high.with_check(1)
            .with_qualifier(qualifier)
            .with_source(other)
    });
}

fn wrong_source(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        mistake_source(interrupt, rng);
        Some(())
    })
}

fn silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    with(rng, draft, |interrupt, rng| {
        match rng.u8(..3) {
            0 => interrupt.change_low(|low| low.with_present(false)),
            1 => spoil_entry(interrupt, rng),
            _ => mistake_source(interrupt, rng),
        }
        interrupt.change_low(|low| low.with_fault_disable(true));
        Some(())
    })
}

/// The entry changes under the device's interrupts, with the invalidation that it takes,
/// with one of another entry, or with none.
fn changes(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    let interrupt = Interrupt::draw(rng, draft)?;
    let index = (interrupt.entry - (interrupt.table & !0xfff)) / 16;
    let send = interrupt.step();
    let mut steps = vec![send.clone()];
    let mut word = InterruptLow::from(interrupt.tables.get(interrupt.entry));
    for _ in 0..rng.u8(1..5) {
        word = if rng.u8(..4) == 0 {
            word.with_present(!word.present())
        } else {
            word.with_vector(rng.u8(0x10..))
        };
        let at = interrupt.entry;
        let value = word.into();
        steps.push(Step::Store { at, value });
        match rng.u8(..4) {
            0 => {}
            1 => steps.push(Step::Invalidate(vec![entry_invalidation(index ^ 1)])),
            2 => steps.push(Step::Invalidate(vec![[0x04, 0, 0, 0]])),
            _ => steps.push(Step::Invalidate(vec![entry_invalidation(index)])),
        }
        steps.push(send.clone());
    }
    Some(interrupt.case(draft, steps))
}

/// An index-selective `iec_inv_dsc` (§6.5.2.8).
fn entry_invalidation(index: u64) -> [u64; 4] {
    [index << 32 | 1 << 4 | 4, 0, 0, 0]
}
