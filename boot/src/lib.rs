//! From a loader's 32-bit entry point to 64-bit Rust in the higher half, and what the
//! loader said, copied out of its memory.
//!
//! Two protocols: PVH (QEMU's `-kernel`, Firecracker, Cloud Hypervisor) and Multiboot2
//! (GRUB, under BIOS and UEFI). The program names its Rust entry point by [`entry!`], gets
//! a [`Loader`], and turns it into a [`BootInfo`] once it can report errors.
//!
//! The address space in which the program starts is only for starting: the first 4 GiB of
//! physical memory, writable and executable, at their own addresses and at
//! [`layout::DIRECT_MAP`]. The program replaces it.

#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(target_os = "none")]
mod entry;
mod info;
pub mod layout;
mod multiboot2_info;
#[cfg(target_os = "none")]
pub mod other_cpus;
mod pvh_info;
mod stack;

#[cfg(target_os = "none")]
pub use entry::STACK;
pub use info::{AcpiRoot, BootInfo, BootInfoError, Loader, MemoryKind, MemoryRegion, Protocol};
pub use stack::Stack;

/// Names the function that runs after the start in 64-bit mode:
/// `fn(boot::Loader) -> !`, on [`STACK`], interrupts off, no IDT.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn __boot_main(magic: u32, information: u32) -> ! {
                let main: fn($crate::Loader) -> ! = $main;
                main($crate::Loader::new(magic, information))
            }
        };
    };
}
