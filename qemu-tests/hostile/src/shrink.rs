//! From a run that fails to a short one that fails in the same way.

use crate::course::{self, Order, Result};
use crate::outline::{Action, Setting};
use std::time::{Duration, Instant};

/// A short run that fails.
pub(crate) struct Shrunk {
    pub(crate) actions: Vec<Action>,
    pub(crate) order: Order,
    pub(crate) result: Result,
}

/// Leaves out whatever is not needed, for at most so long.
pub(crate) fn shrink(setting: &Setting, actions: &[Action], kind: &str, limit: Duration) -> Shrunk {
    let begun = Instant::now();
    let fails = |actions: &[Action], order| {
        let result = course::run(setting, actions, order, true);
        let same = result.findings.iter().any(|finding| finding.kind() == kind);
        same.then_some(result)
    };
    let mut best = actions.to_vec();
    let mut order = Order::Interleaved;
    // Easier to read, if it fails so too.
    if fails(&best, Order::OneByOne).is_some() {
        order = Order::OneByOne;
    }
    let mut piece = best.len().div_ceil(2).max(1);
    while begun.elapsed() < limit {
        let before = best.len();
        let mut at = 0;
        while at < best.len() && begun.elapsed() < limit {
            let mut less = best.clone();
            less.drain(at..(at + piece).min(best.len()));
            if fails(&less, order).is_some() {
                best = less;
            } else {
                at += piece;
            }
        }
        if piece == 1 && best.len() == before {
            break;
        }
        piece = (piece / 2).max(1);
    }
    let result = fails(&best, order).unwrap_or_default();
    Shrunk {
        actions: best,
        order,
        result,
    }
}
