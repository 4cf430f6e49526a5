//! The guest's side in the kernel: a program's library runs as a function, on a guest's
//! memory and devices and through the same hypercalls.
//!
//! Everything that the program reaches, it reaches through the [`Vm`]: memory by
//! guest-physical address, registers through the BARs that are mapped for the guest,
//! configuration space through the same mediation.

use super::{Ending, ExitCounters, Turn, Vcpu, wait};
use crate::memory::{MapError, RegisterWindow};
use crate::time;
use crate::vm::{Answer, ConfigBus, Vm};
use arrayvec::ArrayVec;
use guest_machine::{Absent, Clock, Machine, Outcome, Start};
use iommu_abi::Errno;
use iommu_core::{Gpa, GuestMemory, Mmio, Nanoseconds, SourceId};

/// A program's entry.
pub type Program = fn(&dyn Machine) -> Outcome;

/// Windows on BARs that a program can have.
const WINDOWS: usize = 8;

/// The programs that the kernel can run so, by the names of their ELF files.
pub fn program(name: &str) -> Option<Program> {
    match name {
        "nested-bind" => Some(nested_bind::run),
        _ => None,
    }
}

/// Runs a program as a function.
#[derive(Debug)]
pub struct DirectVcpu {
    program: Program,
    exits: ExitCounters,
}

impl DirectVcpu {
    /// What will run `program`.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            exits: ExitCounters::default(),
        }
    }
}

impl Vcpu for DirectVcpu {
    /// Runs the program to its end in one turn: it is a function of the kernel's.
    fn turn(&mut self, vm: &Vm, end: Nanoseconds) -> Turn {
        let machine = match DirectMachine::new(vm, end) {
            Ok(machine) => machine,
            Err(_) => {
                let why = "a device's registers cannot be mapped";
                return Turn::End(Ending::Impossible(why));
            }
        };
        let outcome = (self.program)(&machine);
        if time::now() >= machine.end {
            return Turn::End(Ending::TimedOut);
        }
        Turn::End(Ending::Finished(outcome))
    }

    fn exits(&self) -> &ExitCounters {
        &self.exits
    }
}

struct DirectMachine<'v> {
    vm: &'v Vm,
    windows: ArrayVec<(Gpa, RegisterWindow), WINDOWS>,
    end: Nanoseconds,
}

impl<'v> DirectMachine<'v> {
    fn new(vm: &'v Vm, end: Nanoseconds) -> Result<Self, MapError> {
        let mut windows = ArrayVec::new();
        for device in vm.devices() {
            for bar in device.config().bars() {
                let window = RegisterWindow::map(bar.hpa, bar.bytes as usize)?;
                // More BARs than programs use stay out of reach.
                let _ = windows.try_push((bar.gpa, window));
            }
        }
        Ok(Self { vm, windows, end })
    }

    fn wait(&self, limit: Nanoseconds) -> i64 {
        let until = Nanoseconds(time::now().0.saturating_add(limit.0)).min(self.end);
        match wait::for_interrupt(self.vm, until) {
            true => 0,
            false => Errno::ETIMEDOUT.to_register(),
        }
    }

    fn window(&self, at: Gpa) -> Option<(&RegisterWindow, usize)> {
        self.windows.iter().find_map(|(base, window)| {
            let offset = at.as_u64().checked_sub(base.as_u64())? as usize;
            (offset < window.size()).then_some((window, offset))
        })
    }
}

impl Clock for DirectMachine<'_> {
    fn now(&self) -> Nanoseconds {
        time::now()
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }
}

impl Machine for DirectMachine<'_> {
    fn start(&self) -> Start {
        self.vm.start()
    }

    fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), Absent> {
        self.vm.ram().copy_in(at, bytes).map_err(|_| Absent(at))
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Absent> {
        self.vm.ram().copy_out(at, bytes).map_err(|_| Absent(at))
    }

    fn load(&self, at: Gpa) -> Result<u64, Absent> {
        self.vm.ram().read_once(at).map_err(|_| Absent(at))
    }

    fn store(&self, at: Gpa, value: u64) -> Result<(), Absent> {
        self.vm.ram().write_once(at, value).map_err(|_| Absent(at))
    }

    fn hypercall(&self, operation: u32, argument: Gpa) -> i64 {
        let (operation, argument) = (u64::from(operation), argument.as_u64());
        let mut answer = self.vm.hypercall(operation, argument);
        loop {
            match answer {
                Answer::Again => answer = self.vm.go_on(operation, argument),
                Answer::Return(result) => return result,
                // A program ends by returning.
                Answer::Finish(_) => return Errno::ENOTTY.to_register(),
                Answer::Wait(limit) => return self.wait(limit),
            }
        }
    }

    fn read_register32(&self, at: Gpa) -> u32 {
        self.window(at)
            .map_or(u32::MAX, |(window, offset)| window.read32(offset))
    }

    fn read_register64(&self, at: Gpa) -> u64 {
        self.window(at)
            .map_or(u64::MAX, |(window, offset)| window.read64(offset))
    }

    fn write_register32(&self, at: Gpa, value: u32) {
        if let Some((window, offset)) = self.window(at) {
            window.write32(offset, value);
        }
    }

    fn write_register64(&self, at: Gpa, value: u64) {
        if let Some((window, offset)) = self.window(at) {
            window.write64(offset, value);
        }
    }

    fn read_config(&self, function: SourceId, offset: u8) -> u32 {
        self.vm.read(function, offset)
    }

    fn write_config(&self, function: SourceId, offset: u8, value: u32) {
        self.vm.write(function, offset, value);
    }

    fn take_interrupt(&self, vector: u8) -> bool {
        self.vm.interrupts().take(vector)
    }
}
