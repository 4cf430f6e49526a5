//! What QEMU is known to do otherwise: few cases of each, so that every rule is tried.

use fastrand::Rng;

use super::dma::{self, Dma};
use super::interrupts::{self, as_write};
use super::tables::{Stage, hole, leaf, link};
use super::{Card, Draft, Make};
use crate::bench::{ROM_TABLE, Rig};
use crate::case::{Case, Descriptor, Device, Mode, Step};
use crate::entries::{First, PasidDomain, PasidLow, RidPasid, ScalableContext, Second};

/// Cases of each.
const COUNT: u64 = 3;

pub(super) fn cards() -> Vec<Card> {
    let hands: &[(Mode, &'static str, Make)] = &[
        (
            Mode::Second,
            "a right is missing above a fault",
            right_above_fault,
        ),
        (
            Mode::First,
            "a right is missing above a fault",
            right_above_fault,
        ),
        (
            Mode::Second,
            "the other half of the root is reserved",
            other_half,
        ),
        (
            Mode::PassThrough,
            "pointer of pass-through",
            pass_through_pointer,
        ),
        (Mode::Second, "flags of a context entry", context_flags),
        (
            Mode::RidPasid,
            "RID_PASID beyond the directory",
            directory_size,
        ),
        (Mode::First, "directory entry reserved", directory_reserved),
        (Mode::Second, "PASID entry of zeros", pasid_zero),
        (
            Mode::First,
            "fault disabled in the PASID entry",
            pasid_silent,
        ),
        (Mode::First, "PASID entry reserved", pasid_reserved),
        (
            Mode::First,
            "second stage where there is a first",
            other_stage,
        ),
        (Mode::Legacy, "entry of ones", all_ones),
        (Mode::First, "narrow first stage", narrow_first_stage),
        (Mode::Legacy, "far beyond the width", far_beyond),
        (
            Mode::PassThrough,
            "pass-through beyond the host",
            pass_through_beyond,
        ),
        (
            Mode::Legacy,
            "large page around the interrupt range",
            around_interrupts,
        ),
        (Mode::First, "flags without snooping", unsnooped),
        (Mode::First, "one flag of two in a ROM", one_flag),
        (Mode::Legacy, "context reserved and silent", context_silent),
        (Mode::Second, "snoop bit", snoop_bit),
        (Mode::Xapic, "compatibility format", compatibility),
        (Mode::Xapic, "range of buses", bus_range),
        (
            Mode::X2apic,
            "reserved and wrong source",
            reserved_and_source,
        ),
        (Mode::Xapic, "reserved check", reserved_check),
        (Mode::Xapic, "fields that nobody checks", unchecked_fields),
        (Mode::X2apic, "posted entry", posted),
        (Mode::X2apic, "index of 17 bits", long_index),
        (Mode::Second, "device-TLB descriptor", device_tlb),
        (Mode::First, "PASID-cache descriptor reserved", pasid_cache),
        (Mode::Legacy, "wait without effect", wait_without_effect),
        (Mode::Legacy, "denied after a hit", denied_hit),
        (Mode::Second, "P of a PASID entry", present_bit),
        (
            Mode::PassThrough,
            "pass-through that ends",
            pass_through_ends,
        ),
    ];
    hands
        .iter()
        .map(|&(mode, intent, make)| Card {
            count: COUNT,
            mode,
            intent,
            make,
        })
        .collect()
}

fn right_above_fault(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.write |= dma.place.stage == Stage::First;
        let (at, level) = dma.some_entry(rng)?;
        let is_leaf = level == dma.leaf_level;
        // The entry's own reserved bit, or a table below that is not there.
        if is_leaf || rng.bool() {
            let bit = dma::reserved_bit(rng, dma, level, draft);
            dma.tables.change(at, |word| word | 1 << bit);
        } else {
            let table = hole(rng);
            dma.tables.set(at, link(dma.place.stage, table));
        }
        dma.refuse(at);
        Some(())
    })
}

fn other_half(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.place.root_entry ^ 8;
        dma.tables.set(at, 1 << rng.u32(1..12));
        Some(())
    })
}

fn pass_through_pointer(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    if draft.rig.is_scalable() {
        return None;
    }
    dma::with(rng, draft, |dma, rng| {
        let bit = rng.u32(u32::from(draft.rig.bits())..64);
        dma.tables.change(dma.place.context, |word| word | 1 << bit);
        Some(())
    })
}

fn context_flags(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.place.context;
        match rng.u8(..4) {
            0 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_device_tlb(true).into()
            }),
            1 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_pasid_enable(true).into()
            }),
            2 => dma.tables.change(at, |word| {
                ScalableContext::from(word).with_page_requests(true).into()
            }),
            // RID_PRIV.
            _ => dma
                .tables
                .change(at + 8, |word| RidPasid::from(word).with_rest(1).into()),
        }
        Some(())
    })
}

fn directory_size(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        dma.tables.change(dma.place.context, |word| {
            ScalableContext::from(word).with_directory_size(0).into()
        });
        (draft.rid_pasid == 0 || draft.rid_pasid >> 13 != 0).then_some(())
    })
}

fn directory_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (directory, _) = dma.place.pasid?;
        let bit = rng.u32(2..12);
        dma.tables.change(directory, |word| word | 1 << bit);
        Some(())
    })
}

fn pasid_zero(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        for word in 0..3 {
            dma.tables.set(entry + 8 * word, 0);
        }
        Some(())
    })
}

fn pasid_silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        const FAULT_DISABLE: u64 = 2;
        let (directory, entry) = dma.place.pasid?;
        if rng.bool() {
            dma.tables.change(directory, |word| word | FAULT_DISABLE);
            dma.tables.change(entry, |word| word & !1);
        } else {
            dma.tables.change(entry, |word| {
                let word = word | FAULT_DISABLE;
                PasidLow::from(word).with_kind(7).into()
            });
        }
        Some(())
    })
}

fn pasid_reserved(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        let (word, bit) = match rng.u64(..4) {
            0 => (0, [5, 10, 11][rng.usize(..3)]),
            1 => (1, rng.u32(16..23)),
            2 => (2, 1),
            _ => (rng.u64(3..8), rng.u32(..64)),
        };
        dma.tables.change(entry + 8 * word, |word| word | 1 << bit);
        Some(())
    })
}

fn other_stage(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        let (_, entry) = dma.place.pasid?;
        dma.tables
            .change(entry, |word| PasidLow::from(word).with_kind(2).into());
        Some(())
    })
}

fn all_ones(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (at, _) = dma.some_entry(rng)?;
        dma.tables.set(at, u64::MAX);
        Some(())
    })
}

fn narrow_first_stage(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        let width = rng.u8(..2);
        dma.tables
            .change(entry, |word| PasidLow::from(word).with_width(width).into());
        Some(())
    })
}

fn far_beyond(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.address |= 1 << rng.u32(u32::from(draft.rig.bits())..64);
        Some(())
    })
}

fn pass_through_beyond(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        dma.address |= 1 << rng.u32(u32::from(draft.rig.bits())..63);
        Some(())
    })
}

fn around_interrupts(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const MEGABYTE: u64 = 1 << 20;
    dma::with(rng, draft, |dma, _| {
        let target = match dma.leaf_level {
            2 => 0xfee0_0000,
            3 => 0xc000_0000,
            _ => return None,
        };
        dma.tables
            .set(dma.leaf_at, leaf(dma.place.stage, dma.leaf_level, target));
        // Outside of the range itself: in its large page's second half.
        dma.address |= MEGABYTE;
        (dma.address >> 20 != 0xfee && (dma.address & 0x3fff_ffff | 0xc000_0000) >> 20 != 0xfee)
            .then_some(())
    })
}

fn unsnooped(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let (_, entry) = dma.place.pasid?;
        dma.tables.change(entry + 8, |word| {
            PasidDomain::from(word).with_walk_snoop(false).into()
        });
        let (at, _) = dma.some_entry(rng)?;
        dma.tables
            .change(at, |word| First::from(word).with_accessed(false).into());
        Some(())
    })
}

fn one_flag(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        let at = dma.tables.entry(rng, &dma.place, dma.address, 2)?;
        dma.tables.set(at, link(Stage::First, ROM_TABLE));
        dma.write = true;
        matches!(dma.address >> 12 & 3, 2 | 3).then_some(())
    })
}

fn context_silent(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, rng| {
        const FAULT_DISABLE: u64 = 2;
        dma::spoil_context(rng, draft, dma);
        dma.tables
            .change(dma.place.context, |word| word | FAULT_DISABLE);
        Some(())
    })
}

fn snoop_bit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    dma::with(rng, draft, |dma, _| {
        dma.tables.change(dma.leaf_at, |word| {
            Second::from(word).with_snoop(true).into()
        });
        Some(())
    })
}

fn compatibility(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        interrupt.address.set_remappable(false);
        // The bits of a destination are its own: nobody's.
        interrupt.address.set_handle(rng.u16(1..0xfe) << 7);
        interrupt.address.set_subhandle_valid(false);
        interrupt.address.set_handle_high(false);
        Some(())
    })
}

fn bus_range(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        // From 0 to a bus, or from a bus to 0.
        let bus = rng.u16(1..0x100);
        let source = if rng.bool() { bus } else { bus << 8 };
        interrupt.change_high(|high| high.with_check(2).with_qualifier(0).with_source(source));
        Some(())
    })
}

fn reserved_and_source(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        interrupts::spoil_entry(interrupt, rng);
        interrupts::mistake_source(interrupt, rng);
        Some(())
    })
}

fn reserved_check(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, _| {
        interrupt.change_high(|high| high.with_check(3));
        Some(())
    })
}

fn unchecked_fields(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        let bit = one_of_unused(rng);
        let mode = [3, 6][rng.usize(..2)];
        let by_mode = rng.bool();
        interrupt.change_low(|low| {
            if by_mode {
                low.with_delivery(mode)
            } else {
                low.with_destination(low.destination() | 1 << bit)
            }
        });
        Some(())
    })
}

/// A bit of DST that is reserved without EIME.
fn one_of_unused(rng: &mut Rng) -> u32 {
    if rng.bool() {
        rng.u32(..8)
    } else {
        rng.u32(16..32)
    }
}

fn posted(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, _| {
        interrupt.change_low(|low| low.with_posted(true));
        Some(())
    })
}

fn long_index(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    interrupts::with(rng, draft, |interrupt, rng| {
        // The sum is 10000h and the entry's index more.
        let index = ((interrupt.entry - (interrupt.table & !0xfff)) / 16) as u32;
        let sum = 0x1_0000 + index;
        let subhandle = rng.u32(index + 1..0x1_0000);
        let handle = sum - subhandle;
        interrupt.address.set_subhandle_valid(true);
        interrupt.address.set_handle((handle & 0x7fff) as u16);
        interrupt.address.set_handle_high(handle & 0x8000 != 0);
        interrupt.data = subhandle;
        if rng.bool() {
            as_write(interrupt, rng);
            interrupt.address.set_ignored(0);
        }
        Some(())
    })
}

fn queue(rng: &mut Rng, draft: &Draft, words: Descriptor) -> Option<Case> {
    let dma = Dma::draw(rng, draft)?;
    Some(dma.case(draft, vec![Step::Invalidate(vec![words])]))
}

fn device_tlb(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const DEVICE_TLB: u64 = 3;
    let source = u64::from(draft.device.source());
    queue(rng, draft, [source << 32 | DEVICE_TLB, 0x1000, 0, 0])
}

fn pasid_cache(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const PASID_CACHE: u64 = 0x37;
    let word = 1 << rng.u32(..64);
    queue(rng, draft, [PASID_CACHE, word, 0, 0])
}

fn wait_without_effect(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    const FENCE: u64 = 0x40;
    const WAIT: u64 = 5;
    queue(rng, draft, [FENCE | WAIT, 0, 0, 0])
}

/// A page is read, and then written without the right to.
fn denied_hit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    if draft.device == Device::Tester {
        return None;
    }
    let mut dma = Dma::draw(rng, draft)?;
    dma.tables.change(dma.leaf_at, |word| {
        Second::from(word).with_write(false).into()
    });
    let steps = [false, true]
        .map(|write| Step::Dma {
            device: draft.device,
            write,
            address: dma.address,
        })
        .to_vec();
    Some(dma.case(draft, steps))
}

/// P of a PASID entry is cleared, and all but the context cache invalidated.
fn present_bit(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    detach(rng, draft, |word| word & !1)
}

/// A pass-through entry becomes another, and all but the context cache is invalidated.
fn pass_through_ends(rng: &mut Rng, draft: &Draft) -> Option<Case> {
    detach(rng, draft, |word| PasidLow::from(word).with_kind(0).into())
}

fn detach(rng: &mut Rng, draft: &Draft, change: fn(u64) -> u64) -> Option<Case> {
    const PASID_CACHE: Descriptor = [0x37, 0, 0, 0];
    const IOTLB: Descriptor = [0x12, 0, 0, 0];
    if draft.rig
        == (Rig::Legacy {
            bits: draft.rig.bits(),
        })
    {
        return None;
    }
    let dma = Dma::draw(rng, draft)?;
    let (_, at) = dma.place.pasid?;
    let request = Step::Dma {
        device: draft.device,
        write: dma.write,
        address: dma.address,
    };
    let value = change(dma.tables.get(at));
    let steps = vec![
        request.clone(),
        Step::Store { at, value },
        Step::Invalidate(vec![PASID_CACHE, IOTLB]),
        request,
    ];
    Some(dma.case(draft, steps))
}
