//! Cases from a seed. What a case shows is dealt from a deck, so that each mode and each
//! fault reason comes up as often as it has to; all else is drawn at random.

mod caching;
mod dma;
mod interrupts;
mod queue;
mod quirks;
mod tables;

use fastrand::Rng;

use crate::bench::{Emulator, Rig};
use crate::case::{Case, Device, Mode};

/// What a case is made to show.
type Make = fn(&mut Rng, &Draft) -> Option<Case>;

/// A card: of 10,000 cases `count` show this.
struct Card {
    count: u64,
    mode: Mode,
    intent: &'static str,
    make: Make,
}

/// What is settled before a case is made.
#[derive(Clone, Copy, Debug)]
struct Draft {
    number: u64,
    mode: Mode,
    intent: &'static str,
    rig: Rig,
    device: Device,
    /// What the context entry is to name; 0 where QEMU takes no notice of it.
    rid_pasid: u32,
}

/// Makes cases.
pub(crate) struct Generator {
    seed: u64,
    deck: Vec<Card>,
    order: Vec<u16>,
}

impl Generator {
    /// All that it makes follows from the seed.
    pub(crate) fn new(seed: u64) -> Self {
        let deck: Vec<Card> = dma::cards()
            .into_iter()
            .chain(caching::cards())
            .chain(queue::cards())
            .chain(interrupts::cards())
            .chain(quirks::cards())
            .collect();
        let order = dealt(&deck, &mut Rng::with_seed(seed));
        Self { seed, deck, order }
    }

    /// The case of a number, for a QEMU: the same on each, but that RID_PASID is 0 for those
    /// that take no notice of it.
    pub(crate) fn case(&self, number: u64, emulator: &Emulator) -> Case {
        let card = &self.deck[usize::from(self.order[(number % self.order.len() as u64) as usize])];
        // A plan that cannot be carried out, as when frames collide, is drawn again.
        for attempt in 0..256 {
            let seed = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ attempt << 56;
            let mut rng = Rng::with_seed(seed);
            let draft = draft(&mut rng, number, card, emulator);
            if let Some(case) = (card.make)(&mut rng, &draft).filter(Case::is_sound) {
                return case;
            }
        }
        unreachable!("{} cannot be made", card.intent)
    }
}

/// The order of the cards, in which each card's cases are spread evenly: any part of a
/// campaign has about the shares of the whole.
fn dealt(deck: &[Card], rng: &mut Rng) -> Vec<u16> {
    let mut places: Vec<(u64, u16)> = Vec::new();
    for (at, card) in (0..).zip(deck) {
        for turn in 0..card.count {
            let place = ((turn << 32) + u64::from(rng.u32(..))) / card.count;
            places.push((place, at));
        }
    }
    places.sort_unstable();
    places.into_iter().map(|(_, at)| at).collect()
}

fn draft(rng: &mut Rng, number: u64, card: &Card, emulator: &Emulator) -> Draft {
    let bits = if rng.u8(..3) == 0 { 39 } else { 48 };
    let legacy = Rig::Legacy { bits };
    let second = Rig::Second { bits };
    let either = rng.bool();
    let rig = match card.mode {
        Mode::Legacy | Mode::Xapic | Mode::X2apic => legacy,
        Mode::Second => second,
        Mode::First => Rig::First,
        Mode::PassThrough if either => legacy,
        Mode::PassThrough | Mode::RidPasid if rng.bool() => second,
        Mode::PassThrough | Mode::RidPasid => Rig::First,
    };
    let any = rng.u32(1..1 << 20);
    let rid_pasid = if card.mode == Mode::RidPasid && emulator.uses_rid_pasid() {
        any
    } else {
        0
    };
    // Without RID_PASID such a case is one of its stage like others.
    let mode = match (card.mode, rig) {
        (Mode::RidPasid, _) if rid_pasid != 0 => Mode::RidPasid,
        (Mode::RidPasid, Rig::First) => Mode::First,
        (Mode::RidPasid, _) => Mode::Second,
        (mode, _) => mode,
    };
    Draft {
        number,
        mode,
        intent: card.intent,
        rig,
        device: Device::ALL[rng.usize(..3)],
        rid_pasid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECK: u64 = 10_000;

    #[test]
    fn the_deck_is_as_large_as_it_says() {
        assert_eq!(Generator::new(0).order.len() as u64, DECK);
    }

    #[test]
    fn every_card_makes_its_case_and_the_same_one_again() {
        for is_recent in [false, true] {
            let emulator = Emulator::nowhere(is_recent);
            let generator = Generator::new(5);
            for number in 0..DECK {
                let case = generator.case(number, &emulator);
                assert!(!case.steps.is_empty(), "{case}");
                if number % 100 == 0 {
                    assert_eq!(case, Generator::new(5).case(number, &emulator));
                }
            }
        }
    }
}
