//! What a device must see: the guest's table, walked by the book, and then its memory map.
//! Written on its own, sharing nothing with what is tested.

use super::memory::GuestRam;
use super::tables::{P, PS, RW, US, index, shift};

/// Where a guest-virtual page leads, by the guest's own table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Host page.
    pub host: u64,
    pub write: bool,
}

/// Bits of host address of the tests' machine.
pub const HOST_BITS: u32 = 46;

/// Walks a four-level table for a user request, and then the memory map.
pub fn translate(ram: &GuestRam, root: u64, address: u64) -> Option<Seen> {
    let (target, write) = guest_walk(ram, root, address)?;
    if (0xfee0_0000..0xfef0_0000).contains(&target) {
        return None;
    }
    let (host, rights) = ram.host(target)?;
    if (0xfee0_0000..0xfef0_0000).contains(&host) || !rights.reads() {
        return None;
    }
    Some(Seen {
        host: host & !0xfff,
        write: write && rights.writes(),
    })
}

fn guest_walk(ram: &GuestRam, root: u64, address: u64) -> Option<(u64, bool)> {
    let upper = address >> 47;
    if upper != 0 && upper != 0x1_ffff {
        return None;
    }
    let (mut table, mut write) = (root, true);
    for level in (1..=4u8).rev() {
        let (_, rights) = ram.host(table)?;
        if !rights.reads() {
            return None;
        }
        let entry = ram.read(table + 8 * index(address, level))?;
        if entry & P == 0 || entry & US == 0 {
            return None;
        }
        let frame = entry & 0x000f_ffff_ffff_f000;
        if frame >> HOST_BITS != 0 {
            return None;
        }
        write &= entry & RW != 0;
        let large = entry & PS != 0 && level > 1;
        if large && level == 4 {
            return None;
        }
        if large {
            // The lowest address bit of a large page is PAT.
            let low = (1u64 << shift(level)) - 1;
            if frame & low & !0x1000 != 0 {
                return None;
            }
            return Some((frame & !low | address & low, write));
        }
        if level == 1 {
            return Some((frame | address & 0xfff, write));
        }
        table = frame;
    }
    None
}
