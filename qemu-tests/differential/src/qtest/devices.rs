//! What devices do: DMA, interrupts, and how it is seen.

use std::collections::BTreeSet;

use super::board::{Board, FSTS, GCMD, IRE, QIE, TE, UNIT};
use super::connection::Dead;
use super::trace::Event;
use crate::answer::{Answer, Message, Record, Seen};
use crate::bench::SCRATCH;
use crate::case::{Device, Sending};

const FRCD: u64 = UNIT + 0x220;
/// Where the buffer of `edu` lies in its own address space.
const BUFFER: u64 = 0x4_0000;
/// What `iommu-testdev` writes.
const TESTER_PATTERN: u32 = 0x1234_5678;
/// An APIC that is not there: what is sent to it disturbs nobody.
const NOBODY: u64 = 0xfeef_e000;
/// Longer than a DMA of `edu` takes, in nanoseconds of virtual time.
const DMA_TIME: u64 = 100_000_001;
const POLLS: u32 = 200_000;

impl Board<'_> {
    pub(super) fn plug(&mut self, device: Device) -> Result<(), Dead> {
        self.configure(device, 0x10, bar(device) as u32)?;
        self.configure(device, 0x04, 0x6)
    }

    fn configure(&mut self, device: Device, register: u32, value: u32) -> Result<(), Dead> {
        let address = 1 << 31 | u32::from(device.source()) << 8 | register;
        self.qemu.command(format_args!("outl 0xcf8 {address:#x}"))?;
        self.qemu.command(format_args!("outl 0xcfc {value:#x}"))
    }

    pub(super) fn dma(
        &mut self,
        device: Device,
        write: bool,
        address: u64,
        cells: BTreeSet<u64>,
    ) -> Result<Seen, Dead> {
        let first = self.fresh;
        self.fresh += cells.len() as u32;
        for (cell, value) in cells.iter().zip(first..) {
            self.write32(*cell, value)?;
        }
        let is_tester = device == Device::Tester && self.emulator.has_tester;
        let written = if is_tester {
            self.test(address)?;
            TESTER_PATTERN
        } else {
            let before = self.buffers.get(&device).copied().unwrap_or(0);
            self.transfer(device, write, address)?;
            before
        };
        let record = self.take_record()?;
        let reached = if write {
            let words = cells.iter().map(|cell| format!("readl {cell:#x}"));
            let now = self.qemu.ask_all(words)?;
            let changed: Vec<(u64, u32)> = cells
                .iter()
                .zip(first..)
                .zip(now)
                .filter(|((_, before), now)| u64::from(*before) != *now)
                .map(|((cell, _), now)| (*cell, now as u32))
                .collect();
            if let Some((cell, found)) = changed.iter().find(|(_, found)| *found != written) {
                let text = format!("{found:#x} at {cell:#x}, which nobody wrote");
                return Ok(Seen::Confused(text));
            }
            changed.iter().map(|(cell, _)| *cell).collect()
        } else {
            let value = self.buffer(device)?;
            self.buffers.insert(device, value);
            let found = cells.iter().zip(first..);
            let reached: Vec<u64> = found
                .filter(|(_, held)| *held == value)
                .map(|(cell, _)| *cell)
                .collect();
            if reached.is_empty() && value != 0 {
                let text = format!("the device holds {value:#x}, which no known cell held");
                return Ok(Seen::Confused(text));
            }
            reached
        };
        for cell in cells {
            self.write32(cell, 0)?;
        }
        Ok(judge(&reached, record))
    }

    /// Programs `edu` and waits until it is done.
    fn transfer(&mut self, device: Device, write: bool, address: u64) -> Result<(), Dead> {
        let bar = bar(device);
        let (from, to, command) = if write {
            (BUFFER, address, 3)
        } else {
            (address, BUFFER, 1)
        };
        for (register, value) in [(0x80, from), (0x88, to), (0x90, 4), (0x98, command)] {
            self.write64(bar + register, value)?;
        }
        if self.emulator.is_recent {
            return self.qemu.command(format_args!("clock_step {DMA_TIME}"));
        }
        for _ in 0..POLLS {
            if self.qemu.ask(format_args!("readl {:#x}", bar + 0x98))? & 1 == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets `iommu-testdev` write; its own reading back is of no interest.
    fn test(&mut self, address: u64) -> Result<(), Dead> {
        let bar = bar(Device::Tester);
        let low = address as u32;
        let high = (address >> 32) as u32;
        for (register, value) in [
            (0x04, low),
            (0x08, high),
            (0x0c, 4),
            (0x1c, SCRATCH as u32),
            (0x20, 0),
            (0x14, 1),
        ] {
            self.write32(bar + register, value)?;
        }
        self.qemu.command(format_args!("readl {bar:#x}"))
    }

    /// What the first word of an `edu`'s buffer holds: written to an interrupt address of
    /// nobody's, where no table is asked, it shows in the trace.
    fn buffer(&mut self, device: Device) -> Result<u32, Dead> {
        self.qemu.settle()?;
        self.trace.take();
        self.transfer(device, true, NOBODY)?;
        self.qemu.settle()?;
        let data = self.trace.take().iter().find_map(|event| match event {
            Event::Remapped {
                from: (NOBODY, data),
                ..
            } => Some(*data),
            _ => None,
        });
        Ok(data.unwrap_or(0))
    }

    fn take_record(&mut self) -> Result<Option<Record>, Dead> {
        let words = [FRCD, FRCD + 8].map(|at| format!("readq {at:#x}"));
        let found = self.qemu.ask_all(words)?;
        self.write32(FRCD + 12, 1 << 31)?;
        self.write32(FSTS, 1)?;
        Ok(Record::parse(found[0], found[1]))
    }

    pub(super) fn interrupt(
        &mut self,
        device: Device,
        address: u32,
        data: u32,
        sending: Sending,
    ) -> Result<Seen, Dead> {
        match sending {
            Sending::Message => {
                self.configure(device, 0x44, address)?;
                self.configure(device, 0x48, 0)?;
                // The capability's data register holds 16 bits, and the rest is 0.
                self.configure(device, 0x4c, data)?;
                self.configure(device, 0x40, 0x81_0005)?;
            }
            Sending::Write => {
                self.load(device, data)?;
            }
        }
        self.qemu.settle()?;
        self.trace.take();
        match sending {
            Sending::Message => {
                self.write32(bar(device) + 0x60, 1)?;
                self.write32(bar(device) + 0x64, 1)?;
            }
            Sending::Write => self.transfer(device, true, u64::from(address))?,
        }
        let record = self.take_record()?;
        self.qemu.settle()?;
        Ok(judge_interrupt(&self.trace.take(), record))
    }

    /// Puts a word into a device's buffer, past the unit: translation is off for as long.
    fn load(&mut self, device: Device, data: u32) -> Result<(), Dead> {
        let kept = QIE | if self.interrupts_on { IRE } else { 0 };
        self.write32(SCRATCH, data)?;
        self.write32(GCMD, kept)?;
        self.transfer(device, false, SCRATCH)?;
        self.write32(GCMD, kept | TE)?;
        self.buffers.insert(device, data);
        Ok(())
    }
}

fn judge(reached: &[u64], record: Option<Record>) -> Seen {
    match (reached, record) {
        ([address], None) => Seen::Answer(Answer::Memory(*address)),
        // Nothing was reached: QEMU blocks without a record, or there is no memory. Which of
        // the two cannot be seen, and does not matter to memory.
        ([], None) => Seen::Answer(Answer::Blocked(None)),
        ([], Some(record)) => Seen::Answer(Answer::Blocked(Some(record))),
        (cells, record) => Seen::Confused(format!("data at {cells:x?}, record {record:x?}")),
    }
}

/// A message counts as delivered if it left the unit and arrived as the same.
fn judge_interrupt(events: &[Event], record: Option<Record>) -> Seen {
    let low = |message: &Message| Message {
        destination: message.destination & 0xff,
        ..*message
    };
    match (events, record) {
        ([], record) => Seen::Answer(Answer::Blocked(record)),
        (
            [
                Event::Remapped {
                    to: (address, data),
                    ..
                },
                Event::Arrived(arrived),
            ],
            None,
        ) if low(&Message::parse(*address, *data)) == *arrived => {
            Seen::Answer(Answer::Delivered(Message::parse(*address, *data)))
        }
        _ => Seen::Confused(format!("events {events:x?} and record {record:x?}")),
    }
}

fn bar(device: Device) -> u64 {
    match device {
        Device::Low => 0xe100_0000,
        Device::High => 0xe110_0000,
        Device::Tester => 0xe120_0000,
    }
}
