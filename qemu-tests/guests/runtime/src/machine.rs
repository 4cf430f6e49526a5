//! [`Machine`] on a virtual machine.
//!
//! Invariants that the `unsafe` here rests on:
//! 1. The guest's memory is mapped one to one, and so are the registers of its devices
//!    above it.
//! 2. What a program names lies behind its own image ([`Start::free_from`]), so no Rust
//!    object is there, and only atomic or volatile accesses reach it.

use crate::{exceptions, hypercall, log};
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use guest_machine::{Absent, Clock, Machine, Start};
use iommu_core::{Address, Gpa, Nanoseconds, SourceId};
use spin::Mutex;
use x86_64::instructions::port::Port;

/// The machine that the guest is.
pub(crate) struct GuestMachine {
    start: Start,
    /// The configuration ports, which are used in pairs.
    config: Mutex<()>,
}

impl GuestMachine {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            start,
            config: Mutex::new(()),
        }
    }

    /// The address as a pointer, if so many bytes there are the program's to use.
    fn memory<T>(&self, at: Gpa, bytes: usize) -> Result<*mut T, Absent> {
        let end = at.as_u64().checked_add(bytes as u64).ok_or(Absent(at))?;
        if at.as_u64() < self.start.free_from || end > self.start.memory_end() {
            return Err(Absent(at));
        }
        Ok(ptr::with_exposed_provenance_mut(at.as_u64() as usize))
    }

    fn cell(&self, at: Gpa) -> Result<&AtomicU64, Absent> {
        if !at.is_aligned(3) {
            return Err(Absent(at));
        }
        // SAFETY: both invariants; aligned.
        Ok(unsafe { AtomicU64::from_ptr(self.memory(at, 8)?) })
    }

    fn byte(&self, at: *mut u8) -> &AtomicU8 {
        // SAFETY: only called with addresses that `memory` gave.
        unsafe { AtomicU8::from_ptr(at) }
    }

    fn word(&self, at: *mut u8) -> &AtomicU64 {
        // SAFETY: only called with aligned addresses of eight bytes that `memory` gave.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    /// The address as a register's, if it lies above memory and is aligned.
    fn register<T>(&self, at: Gpa) -> Option<*mut T> {
        let aligned = at.as_u64().is_multiple_of(size_of::<T>() as u64);
        let outside = at.as_u64() >= self.start.memory_end();
        (aligned && outside).then(|| ptr::with_exposed_provenance_mut(at.as_u64() as usize))
    }

    fn select(&self, function: SourceId, offset: u8) -> Port<u32> {
        let address = 1 << 31 | u32::from(function.bits()) << 8 | u32::from(offset & !3);
        // SAFETY: the guest's configuration ports.
        unsafe { Port::<u32>::new(0xcf8).write(address) };
        Port::new(0xcfc)
    }
}

impl Clock for GuestMachine {
    fn now(&self) -> Nanoseconds {
        Nanoseconds(log::nanoseconds())
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }
}

impl Machine for GuestMachine {
    fn start(&self) -> Start {
        self.start
    }

    fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), Absent> {
        let source: *mut u8 = self.memory(at, bytes.len())?;
        let (words, rest) = match source.cast::<u64>().is_aligned() {
            true => bytes.as_chunks_mut::<8>(),
            false => (<&mut [[u8; 8]]>::default(), bytes),
        };
        let behind = source.wrapping_add(words.len() * 8);
        for (number, word) in words.iter_mut().enumerate() {
            let place = self.word(source.wrapping_add(number * 8));
            *word = place.load(Ordering::Relaxed).to_ne_bytes();
        }
        for (offset, byte) in rest.iter_mut().enumerate() {
            *byte = self
                .byte(behind.wrapping_add(offset))
                .load(Ordering::Relaxed);
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Absent> {
        let destination: *mut u8 = self.memory(at, bytes.len())?;
        let (words, rest) = match destination.cast::<u64>().is_aligned() {
            true => bytes.as_chunks::<8>(),
            false => (<&[[u8; 8]]>::default(), bytes),
        };
        let behind = destination.wrapping_add(words.len() * 8);
        for (number, word) in words.iter().enumerate() {
            let place = self.word(destination.wrapping_add(number * 8));
            place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        for (offset, byte) in rest.iter().enumerate() {
            let place = self.byte(behind.wrapping_add(offset));
            place.store(*byte, Ordering::Relaxed);
        }
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, Absent> {
        Ok(self.cell(at)?.load(Ordering::Acquire))
    }

    fn store(&self, at: Gpa, value: u64) -> Result<(), Absent> {
        self.cell(at)?.store(value, Ordering::Release);
        Ok(())
    }

    fn hypercall(&self, operation: u32, argument: Gpa) -> i64 {
        hypercall::call(operation.into(), argument.as_u64())
    }

    fn read_register32(&self, at: Gpa) -> u32 {
        match self.register(at) {
            // SAFETY: invariant 1; where no device is, the hypervisor ends the guest.
            Some(register) => unsafe { ptr::read_volatile(register) },
            None => u32::MAX,
        }
    }

    fn read_register64(&self, at: Gpa) -> u64 {
        match self.register(at) {
            // SAFETY: as above.
            Some(register) => unsafe { ptr::read_volatile(register) },
            None => u64::MAX,
        }
    }

    fn write_register32(&self, at: Gpa, value: u32) {
        if let Some(register) = self.register(at) {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(register, value) };
        }
    }

    fn write_register64(&self, at: Gpa, value: u64) {
        if let Some(register) = self.register(at) {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(register, value) };
        }
    }

    fn read_config(&self, function: SourceId, offset: u8) -> u32 {
        let _pair = self.config.lock();
        // SAFETY: the guest's configuration ports.
        unsafe { self.select(function, offset).read() }
    }

    fn write_config(&self, function: SourceId, offset: u8, value: u32) {
        let _pair = self.config.lock();
        // SAFETY: the guest's configuration ports.
        unsafe { self.select(function, offset).write(value) };
    }

    fn take_interrupt(&self, vector: u8) -> bool {
        // Interrupts are off in a program but here. One instruction after STI holds them
        // back; what waits comes behind the next.
        x86_64::instructions::interrupts::enable();
        x86_64::instructions::nop();
        x86_64::instructions::interrupts::disable();
        exceptions::take(vector)
    }
}
