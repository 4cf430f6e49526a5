//! Entries as a guest writes them, in plain numbers.

pub const P: u64 = 1 << 0;
pub const RW: u64 = 1 << 1;
pub const US: u64 = 1 << 2;
pub const PS: u64 = 1 << 7;
pub const XD: u64 = 1 << 63;
/// Present, writable, for user requests.
pub const FULL: u64 = P | RW | US;
/// Present and for user requests.
pub const READ_ONLY: u64 = P | US;

pub fn shift(level: u8) -> u32 {
    12 + 9 * (u32::from(level) - 1)
}

pub fn index(address: u64, level: u8) -> u64 {
    address >> shift(level) & 0x1ff
}
