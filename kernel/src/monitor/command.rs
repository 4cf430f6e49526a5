//! What a person can ask for.

use crate::command_line::device;
use core::fmt;
use iommu_core::{DeviceId, Iova, Pasid};

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// What commands there are.
    Help,
    /// What units there are.
    Units,
    /// A unit's registers.
    Registers(u16),
    /// A unit's tables, from the root to the leaves.
    Tables(u16),
    /// One device's tables.
    Device(DeviceId),
    /// The walk of one address of a device.
    Walk {
        /// Whose.
        device: DeviceId,
        /// With which PASID.
        pasid: Option<Pasid>,
        /// Which.
        iova: Iova,
    },
    /// A unit's invalidation queue.
    Queue(u16),
    /// A unit's interrupt-remapping table.
    Interrupts(u16),
    /// What devices behind a unit are attached to.
    Domains(u16),
    /// What a unit counted.
    Counters(u16),
    /// A unit's raw dump, into the report.
    Raw,
    /// The end of the session.
    Quit,
    /// An empty line.
    Nothing,
}

/// The text of `help`.
pub(super) const HELP: &str = "\
help                      this\n\
units                     the remapping units\n\
registers [UNIT]          a unit's registers, decoded; UNIT is 0 if left out, here and below\n\
tables [UNIT]             root, context, PASID and page tables\n\
device SSSS:BB:DD.F       one device's tables\n\
walk SSSS:BB:DD.F [PASID] IOVA   each entry that a request meets; numbers are hexadecimal\n\
queue [UNIT]              the invalidation queue and its last descriptors\n\
irt [UNIT]                the interrupt-remapping table\n\
domains [UNIT]            what devices are attached to\n\
counters [UNIT]           descriptors, doorbells, waits and how long they took, faults\n\
raw                       everything as words, for `cargo xtask decode`\n\
quit                      ends the monitor, and then the kernel\n";

/// Why a line is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError<'a> {
    /// No command has this name.
    Unknown(&'a str),
    /// Something is missing, or too much.
    Usage(&'static str),
    /// A word that is not what its place needs.
    Word {
        /// The word.
        word: &'a str,
        /// What is needed.
        expected: &'static str,
    },
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "there is no command `{word}`; try help"),
            Self::Usage(usage) => write!(f, "usage: {usage}"),
            Self::Word { word, expected } => write!(f, "`{word}` is not {expected}"),
        }
    }
}

impl Command {
    /// Reads a line.
    pub fn parse(line: &str) -> Result<Self, CommandError<'_>> {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else {
            return Ok(Self::Nothing);
        };
        let arguments = [words.next(), words.next(), words.next(), words.next()];
        match (name, arguments) {
            ("help", [None, ..]) => Ok(Self::Help),
            ("units", [None, ..]) => Ok(Self::Units),
            ("raw", [None, ..]) => Ok(Self::Raw),
            ("quit", [None, ..]) => Ok(Self::Quit),
            ("help" | "units" | "raw" | "quit", _) => {
                Err(CommandError::Usage("no words after this command"))
            }
            ("registers", words) => of_unit(words, Self::Registers),
            ("tables", words) => of_unit(words, Self::Tables),
            ("queue", words) => of_unit(words, Self::Queue),
            ("irt", words) => of_unit(words, Self::Interrupts),
            ("domains", words) => of_unit(words, Self::Domains),
            ("counters", words) => of_unit(words, Self::Counters),
            ("device", [Some(word), None, ..]) => device_of(word).map(Self::Device),
            ("device", _) => Err(CommandError::Usage("device SSSS:BB:DD.F")),
            ("walk", [Some(device), Some(iova), None, _]) => Ok(Self::Walk {
                device: device_of(device)?,
                pasid: None,
                iova: iova_of(iova)?,
            }),
            ("walk", [Some(device), Some(pasid), Some(iova), None]) => Ok(Self::Walk {
                device: device_of(device)?,
                pasid: Some(pasid_of(pasid)?),
                iova: iova_of(iova)?,
            }),
            ("walk", _) => Err(CommandError::Usage("walk SSSS:BB:DD.F [PASID] IOVA")),
            (other, _) => Err(CommandError::Unknown(other)),
        }
    }
}

fn of_unit<'a>(
    words: [Option<&'a str>; 4],
    command: fn(u16) -> Command,
) -> Result<Command, CommandError<'a>> {
    match words {
        [None, ..] => Ok(command(0)),
        [Some(word), None, ..] => word.parse().map(command).map_err(|_| CommandError::Word {
            word,
            expected: "the number of a unit",
        }),
        _ => Err(CommandError::Usage("one unit at most")),
    }
}

fn device_of(word: &str) -> Result<DeviceId, CommandError<'_>> {
    device(word).ok_or(CommandError::Word {
        word,
        expected: "a device, SEGMENT:BB:DD.F",
    })
}

fn number(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_digits
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn pasid_of(word: &str) -> Result<Pasid, CommandError<'_>> {
    number(word)
        .and_then(|number| u32::try_from(number).ok())
        .and_then(Pasid::new)
        .ok_or(CommandError::Word {
            word,
            expected: "a PASID of 20 bits, in hexadecimal",
        })
}

fn iova_of(word: &str) -> Result<Iova, CommandError<'_>> {
    number(word).map(Iova::new).ok_or(CommandError::Word {
        word,
        expected: "an address in hexadecimal",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_unit_is_the_first_one_if_it_is_left_out() {
        assert_eq!(Command::parse("queue"), Ok(Command::Queue(0)));
        assert_eq!(Command::parse(" irt  3 "), Ok(Command::Interrupts(3)));
        assert_eq!(Command::parse(""), Ok(Command::Nothing));
    }

    #[test]
    fn a_walk_takes_a_pasid_or_none() {
        let device = device("0:0:4.0").unwrap();
        let iova = Iova::new(0x1_2000);
        assert_eq!(
            Command::parse("walk 0:0:4.0 0x12000"),
            Ok(Command::Walk {
                device,
                pasid: None,
                iova
            })
        );
        assert_eq!(
            Command::parse("walk 0:0:4.0 5 12000"),
            Ok(Command::Walk {
                device,
                pasid: Pasid::new(5),
                iova
            })
        );
    }

    #[test]
    fn what_is_no_command_is_named_with_what_was_expected() {
        for (line, part) in [
            ("fly", "there is no command `fly`"),
            ("walk 0:0:4.0", "usage: walk"),
            ("walk 0:0:4.0 100000 1000", "`100000` is not a PASID"),
            ("walk 0:0:4.0 +1", "`+1` is not an address"),
            ("device 4.0", "`4.0` is not a device"),
            ("queue two", "`two` is not the number of a unit"),
            ("quit now", "usage"),
        ] {
            let error = Command::parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in [
            "help",
            "units",
            "registers",
            "tables",
            "device",
            "walk",
            "queue",
            "irt",
            "domains",
            "counters",
            "raw",
            "quit",
        ] {
            assert!(HELP.lines().any(|line| line.starts_with(name)), "{name}");
        }
    }
}
