//! QEMU's `edu` device: a PCI function that copies between memory and a buffer of its own
//! of 4 KiB, at whatever bus address it is told, and raises interrupts on demand.
//!
//! That makes it the plainest source of DMA that can be had. The driver reaches its
//! registers through [`Mmio`], so it runs in the hypervisor, in a guest and on a host
//! against a fake. A copy is a [`Transfer`], which cannot leave the device's buffer:
//! the device itself does not check that in all versions.
//!
//! The device takes about 100 ms for each copy, whatever its size.

#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

#[cfg(test)]
extern crate std;

mod registers;
mod transfer;

#[cfg(test)]
mod fake;

pub use registers::{Causes, Command, Identification};
pub use transfer::{BUFFER_BYTES, Direction, OutsideBuffer, Transfer};

pub use iommu_core::Clock;
use iommu_core::{Mmio, Nanoseconds};
use registers::offset;

/// PCI vendor id.
pub const VENDOR: u16 = 0x1234;
/// PCI device id.
pub const DEVICE: u16 = 0x11e8;

/// What goes wrong with the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EduError {
    /// The registers are not those of an `edu` device; this is what the identification
    /// register holds.
    NotEdu(u32),
    /// The liveness register did not answer with the complement of what it was given.
    Dead {
        /// What was written.
        written: u32,
        /// What came back.
        read: u32,
    },
    /// Another copy is under way.
    Busy,
    /// The copy did not end within the limit.
    TimedOut(Nanoseconds),
}

/// One `edu` device.
///
/// The caller has turned on memory decoding and, for copies, bus mastering.
#[derive(Debug)]
pub struct Edu<M> {
    registers: M,
}

impl<M: Mmio> Edu<M> {
    /// Bytes of registers that the driver uses, from the start of BAR 0.
    pub const REGISTER_BYTES: usize = 0x100;
    /// Longer than any copy takes.
    pub const PATIENCE: Nanoseconds = Nanoseconds::from_millis(2_000);

    /// Takes the device over if it is one and answers.
    pub fn new(registers: M) -> Result<Self, EduError> {
        let identification = registers.read32(offset::IDENTIFICATION);
        if !Identification::from_bits(identification).is_edu() {
            return Err(EduError::NotEdu(identification));
        }
        let edu = Self { registers };
        edu.check_liveness(0x5a5a_1234)?;
        Ok(edu)
    }

    fn check_liveness(&self, written: u32) -> Result<(), EduError> {
        self.registers.write32(offset::LIVENESS, written);
        let read = self.registers.read32(offset::LIVENESS);
        if read == !written {
            Ok(())
        } else {
            Err(EduError::Dead { written, read })
        }
    }

    /// Copies, and returns when the device is done or the limit is over.
    ///
    /// Success says only that the device has finished: it does not notice that its
    /// requests were refused.
    pub fn copy(
        &self,
        transfer: &Transfer,
        clock: &impl Clock,
        limit: Nanoseconds,
    ) -> Result<(), EduError> {
        self.start(transfer, false)?;
        self.wait(clock, limit)
    }

    /// Starts a copy. With `interrupt` the device raises its interrupt, with
    /// [`Causes::copied`] set, when it is done.
    pub fn start(&self, transfer: &Transfer, interrupt: bool) -> Result<(), EduError> {
        if self.is_copying() {
            return Err(EduError::Busy);
        }
        let (source, destination) = transfer.addresses();
        self.registers.write64(offset::DMA_SOURCE, source);
        self.registers.write64(offset::DMA_DESTINATION, destination);
        self.registers.write64(offset::DMA_COUNT, transfer.bytes());
        let command = Command::new()
            .with_run(true)
            .with_to_memory(transfer.direction() == Direction::ToMemory)
            .with_interrupt(interrupt);
        self.registers
            .write64(offset::DMA_COMMAND, u64::from(command.into_bits()));
        Ok(())
    }

    /// Whether a copy is under way.
    pub fn is_copying(&self) -> bool {
        // The register is 64 bits wide; nothing is above the command's 32.
        Command::from_bits(self.registers.read64(offset::DMA_COMMAND) as u32).run()
    }

    /// Waits for the end of the copy that was started.
    pub fn wait(&self, clock: &impl Clock, limit: Nanoseconds) -> Result<(), EduError> {
        let begin = clock.now();
        loop {
            // The time first: whoever did not run for long sees a device that has finished.
            let is_late = clock.now().since(begin) > limit;
            if !self.is_copying() {
                return Ok(());
            }
            if is_late {
                return Err(EduError::TimedOut(limit));
            }
            clock.relax();
        }
    }

    /// Makes the device raise its interrupt for `causes`.
    pub fn raise(&self, causes: Causes) {
        self.registers
            .write32(offset::INTERRUPT_RAISE, causes.into_bits());
    }

    /// Why the device interrupts; acknowledges all of it.
    pub fn acknowledge(&self) -> Causes {
        let causes = self.registers.read32(offset::INTERRUPT_STATUS);
        self.registers
            .write32(offset::INTERRUPT_ACKNOWLEDGE, causes);
        Causes::from_bits(causes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeEdu, Ticks};
    use iommu_core::Iova;

    fn transfer(direction: Direction, address: u64, offset: u16, bytes: u16) -> Transfer {
        Transfer::new(direction, Iova::new(address), offset, bytes).unwrap()
    }

    #[test]
    fn bytes_go_to_the_device_and_come_back_elsewhere() {
        let fake = FakeEdu::new();
        fake.fill_memory(0x1000, b"the quick brown fox");
        let edu = Edu::new(&fake).unwrap();
        let clock = Ticks::default();
        let there = transfer(Direction::FromMemory, 0x1000, 32, 19);
        let back = transfer(Direction::ToMemory, 0x3005, 32, 19);
        edu.copy(&there, &clock, Nanoseconds(1000)).unwrap();
        edu.copy(&back, &clock, Nanoseconds(1000)).unwrap();
        assert_eq!(fake.memory(0x3005, 19), b"the quick brown fox");
    }

    #[test]
    fn a_device_that_never_finishes_is_given_up() {
        let fake = FakeEdu::new();
        fake.take_turns_to_copy(u32::MAX);
        let edu = Edu::new(&fake).unwrap();
        let there = transfer(Direction::FromMemory, 0x1000, 0, 8);
        assert_eq!(
            edu.copy(&there, &Ticks::default(), Nanoseconds(50)),
            Err(EduError::TimedOut(Nanoseconds(50)))
        );
        assert_eq!(edu.start(&there, false), Err(EduError::Busy));
    }

    #[test]
    fn a_device_that_finishes_in_time_is_waited_for() {
        let fake = FakeEdu::new();
        fake.take_turns_to_copy(40);
        let edu = Edu::new(&fake).unwrap();
        let there = transfer(Direction::FromMemory, 0x1000, 0, 8);
        assert_eq!(edu.copy(&there, &Ticks::default(), Nanoseconds(50)), Ok(()));
    }

    #[test]
    fn another_device_is_refused() {
        let fake = FakeEdu::new();
        fake.identify_as(0x1000_00ec);
        assert_eq!(
            Edu::new(&fake).err().unwrap(),
            EduError::NotEdu(0x1000_00ec)
        );
    }

    #[test]
    fn a_device_that_does_not_answer_is_refused() {
        let fake = FakeEdu::new();
        fake.stop_answering();
        assert!(matches!(Edu::new(&fake), Err(EduError::Dead { .. })));
    }

    #[test]
    fn a_copy_interrupts_only_if_asked_to() {
        let fake = FakeEdu::new();
        let edu = Edu::new(&fake).unwrap();
        let there = transfer(Direction::FromMemory, 0x1000, 0, 8);
        edu.copy(&there, &Ticks::default(), Nanoseconds(50))
            .unwrap();
        assert!(!edu.acknowledge().copied());
        edu.start(&there, true).unwrap();
        edu.wait(&Ticks::default(), Nanoseconds(50)).unwrap();
        assert!(edu.acknowledge().copied());
        assert!(!edu.acknowledge().copied(), "acknowledged causes are gone");
    }

    #[test]
    fn an_interrupt_on_demand_carries_its_cause() {
        let fake = FakeEdu::new();
        let edu = Edu::new(&fake).unwrap();
        edu.raise(Causes::new().with_requested(0x2a));
        assert_eq!(edu.acknowledge().requested(), 0x2a);
    }
}
