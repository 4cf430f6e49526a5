//! Counters of known rate that a PC may have.

use super::calibration::Reference;
use x86_64::instructions::port::{Port, PortReadOnly, PortWriteOnly};

/// Channel 2 of the 8254 timer. It needs no table to be found, and is not connected to an
/// interrupt.
pub(super) struct Pit;

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Bit 0: channel 2 counts; bit 1: the speaker hears it.
const PIT_GATE: u16 = 0x61;

impl Pit {
    /// Starts the channel: mode 2, from 65536 down, again and again.
    pub(super) fn start() -> Self {
        // SAFETY: nobody else uses channel 2; the speaker is off.
        unsafe {
            let mut gate = Port::<u8>::new(PIT_GATE);
            let value = gate.read();
            gate.write((value & !3) | 1);
            PortWriteOnly::<u8>::new(PIT_COMMAND).write(0b1011_0100);
            let mut data = PortWriteOnly::<u8>::new(PIT_CHANNEL_2);
            data.write(0);
            data.write(0);
        }
        Self
    }
}

impl Reference for Pit {
    fn hertz(&self) -> u64 {
        1_193_182
    }

    fn bits(&self) -> u32 {
        16
    }

    fn read(&mut self) -> u64 {
        // SAFETY: latches and reads the channel that `start` set up.
        let count = unsafe {
            PortWriteOnly::<u8>::new(PIT_COMMAND).write(0b1000_0000);
            let mut data = PortReadOnly::<u8>::new(PIT_CHANNEL_2);
            let low = data.read();
            u16::from_le_bytes([low, data.read()])
        };
        // It counts down.
        u64::from(0u16.wrapping_sub(count))
    }
}

/// The ACPI power management timer (ACPI 6.5, 4.8.2.1).
pub(super) struct PmTimer {
    /// Its I/O port.
    pub(super) port: u16,
    /// 32 bits wide rather than 24.
    pub(super) wide: bool,
}

impl Reference for PmTimer {
    fn hertz(&self) -> u64 {
        3_579_545
    }

    fn bits(&self) -> u32 {
        if self.wide { 32 } else { 24 }
    }

    fn read(&mut self) -> u64 {
        // SAFETY: the firmware named this port as the timer's; reading has no effect.
        u64::from(unsafe { PortReadOnly::<u32>::new(self.port).read() })
    }
}
