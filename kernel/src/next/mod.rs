//! Giving the machine to the next kernel: `next.elf` of the boot module, started as a PVH
//! loader would, with the units off or translating (`hand-over=`).
//!
//! The next kernel is told of memory that nobody uses any more: what this kernel's image
//! occupies, and one large block. Everything else, the tables that units may still walk among
//! it, is left out of its memory map and stays as it is.

mod image;
mod information;

#[cfg(target_os = "none")]
mod jump;
#[cfg(target_os = "none")]
mod start;

pub use image::{ImageError, NextImage, Segment};
#[cfg(target_os = "none")]
pub use start::{HandOverError, hand_over};
