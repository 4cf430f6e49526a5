//! QEMU's trace: what interrupt messages leave the unit, and what arrives at the APICs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::answer::Message;

/// A line of interest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A message went through the unit: as it came, and as it left.
    Remapped {
        /// Address and data.
        from: (u64, u32),
        /// The same.
        to: (u64, u32),
    },
    /// A message arrived at the APICs; of its destination the trace has the lower 8 bits.
    Arrived(Message),
}

/// The file that QEMU writes, read from where it was read last. QEMU writes each line before
/// it answers the command that caused it.
pub(super) struct Trace {
    path: PathBuf,
    file: Option<File>,
    at: u64,
}

impl Trace {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            at: 0,
        }
    }

    /// Events since the last call.
    pub(super) fn take(&mut self) -> Vec<Event> {
        let mut text = String::new();
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file
            && file.seek(SeekFrom::Start(self.at)).is_ok()
            && file.read_to_string(&mut text).is_ok()
        {
            self.at += text.len() as u64;
        }
        text.lines().filter_map(parse).collect()
    }
}

fn parse(line: &str) -> Option<Event> {
    let (event, rest) = line.split_once(' ')?;
    let numbers = numbers(rest);
    match (event, &numbers[..]) {
        ("vtd_ir_remap_msi", [address, data, to_address, to_data]) => Some(Event::Remapped {
            from: (*address, *data as u32),
            to: (*to_address, *to_data as u32),
        }),
        ("apic_deliver_irq", [destination, logical, delivery, vector, level]) => {
            Some(Event::Arrived(Message {
                destination: *destination as u32,
                logical: *logical != 0,
                delivery: *delivery as u8,
                vector: *vector as u8,
                level: *level != 0,
            }))
        }
        _ => None,
    }
}

/// Every number in a text, decimal or with 0x.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_lines_are_read_and_others_are_not() {
        let remapped =
            "vtd_ir_remap_msi (addr 0xfeefe000, data 0x1001) -> (addr 0xfee05000, data 0x4142)";
        let event = Event::Remapped {
            from: (0xfeef_e000, 0x1001),
            to: (0xfee0_5000, 0x4142),
        };
        assert_eq!(parse(remapped), Some(event));
        let arrived =
            "apic_deliver_irq dest 254 dest_mode 1 delivery_mode 7 vector 65 trigger_mode 1";
        let message = Message {
            destination: 254,
            logical: true,
            delivery: 7,
            vector: 65,
            level: true,
        };
        assert_eq!(parse(arrived), Some(Event::Arrived(message)));
        assert_eq!(parse("vtd_inv_qi_tail write tail 5"), None);
    }
}
