//! What QEMU is known to do otherwise: few cases each, so that the rules are tried.

use super::Card;
use crate::case::Mode;

pub(super) fn cards() -> Vec<Card> {
    super::dma::cards()
        .into_iter()
        .filter(|card| card.mode == Mode::Legacy && card.intent == "translates")
        .map(|card| Card { count: 100, ..card })
        .collect()
}
