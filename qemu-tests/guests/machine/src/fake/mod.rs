//! A machine of plain memory, with an `edu` device in software behind a remapping unit in
//! software, so that programs are tested on a host.
//!
//! The unit forgives nothing: a translation stays cached until it is invalidated, and
//! not-present entries are cached too. It is no model of VT-d; it only holds a *guest* to
//! its duties.

mod device;
mod hypervisor;

use crate::{Absent, Clock, Machine};
use device::Device;
use hypervisor::Hypervisor;
use hypervisor_abi::{FAULT_VECTOR, START_MAGIC, Start};
use iommu_core::{Gpa, Nanoseconds, SourceId};
use std::string::String;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

const MEMORY_BYTES: usize = 2 << 20;
const MEMORY_BASE: u64 = 0x4000_0000;
const FREE_FROM: u64 = MEMORY_BASE + 0x1_0000;
const EDU: u16 = 4 << 3;
const EDU_BAR: u64 = 0xc000_0000;

pub(crate) struct Memory(Vec<u8>);

impl Memory {
    fn at(&mut self, at: Gpa, bytes: usize) -> Option<&mut [u8]> {
        let first = usize::try_from(at.as_u64().checked_sub(MEMORY_BASE)?).ok()?;
        self.0.get_mut(first..first.checked_add(bytes)?)
    }

    fn load(&mut self, at: Gpa) -> Option<u64> {
        let bytes = self.at(at, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

struct State {
    memory: Memory,
    hypervisor: Hypervisor,
    device: Device,
    now: u64,
}

/// The machine.
pub struct FakeMachine {
    seed: u64,
    state: Mutex<State>,
}

impl FakeMachine {
    /// A machine whose program will choose by this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::new(State {
                memory: Memory(vec![0; MEMORY_BYTES]),
                hypervisor: Hypervisor::default(),
                device: Device::default(),
                now: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What the program claimed: passed or not, step, text.
    pub fn claims(&self) -> Vec<(bool, String, String)> {
        self.state().hypervisor.claims.clone()
    }

    /// Makes the hypervisor forget to tell the unit of invalidations.
    pub fn lose_invalidations(&self) {
        self.state().device.unit.deaf = true;
    }

    /// Makes the unit let everything pass where it should refuse.
    pub fn refuse_nothing(&self) {
        self.state().device.unit.lenient = true;
    }
}

impl Clock for FakeMachine {
    fn now(&self) -> Nanoseconds {
        Nanoseconds(self.state().now)
    }

    fn relax(&self) {
        self.state().now += 1_000_000;
    }
}

impl Machine for FakeMachine {
    fn start(&self) -> Start {
        Start {
            magic: START_MAGIC,
            memory_base: MEMORY_BASE,
            memory_bytes: MEMORY_BYTES as u64,
            free_from: FREE_FROM,
            seed: self.seed,
            tsc_per_ms: 1_000_000,
            parameter: 0,
        }
    }

    fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), Absent> {
        let mut state = self.state();
        let source = state.memory.at(at, bytes.len()).ok_or(Absent(at))?;
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Absent> {
        let mut state = self.state();
        let destination = state.memory.at(at, bytes.len()).ok_or(Absent(at))?;
        destination.copy_from_slice(bytes);
        Ok(())
    }

    fn load(&self, at: Gpa) -> Result<u64, Absent> {
        self.state().memory.load(at).ok_or(Absent(at))
    }

    fn store(&self, at: Gpa, value: u64) -> Result<(), Absent> {
        self.write(at, &value.to_le_bytes())
    }

    fn hypercall(&self, operation: u32, argument: Gpa) -> i64 {
        let mut guard = self.state();
        let state = &mut *guard;
        state.now += 1000;
        let State {
            memory,
            hypervisor,
            device,
            ..
        } = state;
        match hypervisor.call(memory, device, operation, argument) {
            Ok(count) => count.cast_signed(),
            Err(errno) => errno.to_register(),
        }
    }

    fn read_register32(&self, at: Gpa) -> u32 {
        self.state().device.read(at.as_u64() - EDU_BAR) as u32
    }

    fn read_register64(&self, at: Gpa) -> u64 {
        let mut guard = self.state();
        let state = &mut *guard;
        state.device.finish(&mut state.memory);
        state.device.read(at.as_u64() - EDU_BAR)
    }

    fn write_register32(&self, at: Gpa, value: u32) {
        self.state()
            .device
            .write(at.as_u64() - EDU_BAR, value.into());
    }

    fn write_register64(&self, at: Gpa, value: u64) {
        self.state().device.write(at.as_u64() - EDU_BAR, value);
    }

    fn read_config(&self, function: SourceId, offset: u8) -> u32 {
        if function.bits() != EDU {
            return u32::MAX;
        }
        let config = self.state().device.config;
        config[usize::from(offset) / 4]
    }

    fn write_config(&self, function: SourceId, offset: u8, value: u32) {
        if function.bits() == EDU && offset != 0 {
            let mut state = self.state();
            let word = usize::from(offset) / 4;
            // BAR 0 is 1 MiB and fixed where it is.
            state.device.config[word] = match (word, value) {
                (4, u32::MAX) => 0xfff0_0000,
                (4, _) => EDU_BAR as u32,
                _ => value,
            };
        }
    }

    fn take_interrupt(&self, vector: u8) -> bool {
        let mut state = self.state();
        if vector == FAULT_VECTOR {
            return core::mem::take(&mut state.device.unit.told);
        }
        state.device.interrupts.remove(&vector)
    }
}
