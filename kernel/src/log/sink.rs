//! Where bytes go: QEMU's debug console and the first serial port, whichever is there.

use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};
use x86_64::instructions::port::Port;

/// QEMU's and Bochs' debug console. Reads as its own number where it exists.
const DEBUG_CONSOLE: u16 = 0xe9;
const COM1: u16 = 0x3f8;

/// Turns that a serial port may take for one byte. At 115,200 baud a byte takes 87 µs.
const PATIENCE: u32 = 1 << 16;

/// The outputs that exist.
pub(super) struct Sink {
    debug_console: bool,
    com1: Option<Uart16550<PioBackend>>,
}

impl Sink {
    /// Looks which outputs exist.
    pub(super) fn probe() -> Self {
        // SAFETY: reading this port has no effect on any machine with a debug console, and
        // nothing else uses it.
        let debug_console = unsafe { Port::<u8>::new(DEBUG_CONSOLE).read() } == DEBUG_CONSOLE as u8;
        Self {
            debug_console,
            com1: serial(),
        }
    }

    /// Sends bytes to all outputs. An output that does not take them loses them.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.debug_console {
            send_string(DEBUG_CONSOLE, bytes);
        }
        self.send_serial(bytes);
    }

    /// Whether there is a serial port.
    pub(super) fn has_serial(&self) -> bool {
        self.com1.is_some()
    }

    /// Sends bytes to the serial port alone.
    pub(super) fn send_serial(&mut self, bytes: &[u8]) {
        if let Some(uart) = &mut self.com1 {
            for &byte in bytes {
                if !send_byte(uart, byte) {
                    break;
                }
            }
        }
    }

    /// A byte that came over the serial port.
    pub(super) fn receive_serial(&mut self) -> Option<u8> {
        self.com1.as_mut()?.try_receive_byte().ok()
    }
}

fn serial() -> Option<Uart16550<PioBackend>> {
    // SAFETY: COM1's ports, which only this sink uses.
    let mut uart = unsafe { Uart16550::new_port(COM1) }.ok()?;
    uart.init(Config::default()).ok()?;
    Some(uart)
}

fn send_byte(uart: &mut Uart16550<PioBackend>, byte: u8) -> bool {
    for _ in 0..PATIENCE {
        if uart.try_send_byte(byte).is_ok() {
            return true;
        }
        core::hint::spin_loop();
    }
    false
}

/// One instruction for the whole string: an emulator or a hypervisor above us may take
/// far less time for it than for one `out` a byte.
fn send_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads `bytes` and writes to a port whose only effect is output.
    unsafe {
        core::arch::asm!(
            "rep outsb",
            in("dx") port,
            inout("rsi") bytes.as_ptr() => _,
            inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags)
        );
    }
}
