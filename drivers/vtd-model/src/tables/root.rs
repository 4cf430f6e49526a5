//! Root entries: §9.1 (legacy) and §9.2 (scalable).

use super::{bit, page};
use crate::config::Config;

/// What a root entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Root {
    /// P (LP, UP) is 0.
    NotPresent,
    /// A reserved bit is set in a present entry.
    Reserved,
    /// The context table that serves the function.
    Table(u64),
}

/// The legacy entry of a bus: one table for its 256 functions.
pub(crate) fn legacy(words: [u64; 2], config: &Config) -> Root {
    if !bit(words[0], 0) {
        Root::NotPresent
    } else if words[0] & (0xffe | config.above_host()) != 0 || words[1] != 0 {
        Root::Reserved
    } else {
        Root::Table(page(words[0]))
    }
}

/// The half of a scalable entry that serves functions `devfn`: the lower one below 80h.
pub(crate) fn scalable(words: [u64; 2], devfn: u8, config: &Config) -> Root {
    let half = words[usize::from(devfn >> 7)];
    if !bit(half, 0) {
        Root::NotPresent
    } else if half & (0xffe | config.above_host()) != 0 {
        Root::Reserved
    } else {
        Root::Table(page(half))
    }
}
