//! The conversation.

use super::Command;
use super::command::HELP;
use super::input::{Input, Typed};
use crate::command_line::DumpForm;
use crate::host::Host;
use crate::inspect::{self, LiveUnit, write_counters, write_domains};
use crate::log::{has_serial, receive_serial, send_serial};
use crate::remapping::{Remapping, remapping};
use core::fmt::{self, Write};
use iommu_core::DeviceId;
use spin::Mutex;
use vtd_inspect::{Detail, Part, Request, UnitView};

const PROMPT: &str = "vtd> ";

/// Text to the serial port, with the line ends that a terminal wants.
struct Terminal;

impl Write for Terminal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut parts = text.split('\n');
        if let Some(first) = parts.next() {
            send_serial(first.as_bytes());
        }
        for part in parts {
            send_serial(b"\r\n");
            send_serial(part.as_bytes());
        }
        Ok(())
    }
}

/// A conversation, from its first prompt on.
struct Session {
    input: Input,
    has_quit: bool,
}

static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// Begins to answer questions on the first serial port. A machine without one is told so in
/// the log.
pub fn begin() {
    let mut session = SESSION.lock();
    if session.is_some() {
        return;
    }
    if !has_serial() {
        defmt::warn!("monitor=com1: the machine has no serial port at 0x3f8");
    } else {
        // The terminal takes everything.
        let _ = write!(
            Terminal,
            "\nThe kernel's monitor; `help` tells what it knows.\n{PROMPT}"
        );
    }
    *session = Some(Session {
        input: Input::default(),
        has_quit: !has_serial(),
    });
}

/// Answers until `quit`, unless that has been said before.
pub fn run(host: &Host) {
    begin();
    let mut session = SESSION.lock();
    let Some(session) = session.as_mut() else {
        return;
    };
    while !session.has_quit {
        if session.take(host.remapping) == Heard::Nothing {
            core::hint::spin_loop();
        }
    }
}

/// Takes what was typed while guests run, up to the end of a line. For any CPU, between turns;
/// if another one is at it, nothing is done.
pub(crate) fn tend() {
    if let Some(mut session) = SESSION.try_lock()
        && let Some(session) = session.as_mut()
        && let Some(remapping) = remapping()
        && !session.has_quit
        && session.take(remapping) == Heard::Line
    {
        defmt::info!("the monitor has answered while guests run");
    }
}

/// What came over the serial port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Nothing,
    Something,
    /// A whole line, which was answered.
    Line,
}

impl Session {
    /// Takes what was typed, up to the end of a line, and answers that.
    fn take(&mut self, remapping: &Remapping) -> Heard {
        let mut heard = Heard::Nothing;
        while let Some(byte) = receive_serial() {
            heard = Heard::Something;
            match self.input.take(byte) {
                Typed::Echo(byte) => send_serial(&[byte]),
                Typed::Erase => send_serial(b"\x08 \x08"),
                Typed::Ignored => {}
                Typed::Line => {
                    let line = self.input.take_line();
                    self.has_quit = converse(remapping, &line);
                    return Heard::Line;
                }
            }
        }
        heard
    }
}

/// Answers a line. Whether it was the last.
fn converse(remapping: &Remapping, line: &str) -> bool {
    let mut terminal = Terminal;
    let _ = writeln!(terminal);
    match Command::parse(line) {
        Ok(Command::Quit) => return true,
        Ok(command) => {
            let _ = answer(remapping, command, &mut terminal);
        }
        Err(error) => {
            let _ = writeln!(terminal, "{error}");
        }
    }
    let _ = write!(terminal, "{PROMPT}");
    false
}

fn answer(remapping: &Remapping, command: Command, out: &mut dyn Write) -> fmt::Result {
    match command {
        Command::Help => out.write_str(HELP),
        Command::Units => units(remapping, out),
        Command::Registers(unit) => part(remapping, unit, Part::Registers, out),
        Command::Tables(unit) => part(remapping, unit, Part::Tables, out),
        Command::Queue(unit) => part(remapping, unit, Part::Queue, out),
        Command::Interrupts(unit) => part(remapping, unit, Part::Interrupts, out),
        Command::Domains(unit) => write_domains(remapping, unit, out),
        Command::Counters(unit) => write_counters(remapping, unit, out),
        Command::Device(device) => of_device(remapping, device, out, |view, out| {
            view.write_device(device.source, out)
        }),
        Command::Walk {
            device,
            pasid,
            iova,
        } => {
            let request = Request {
                source: device.source,
                pasid,
                iova,
            };
            of_device(remapping, device, out, |view, out| {
                view.write_walk(request, out)
            })
        }
        Command::Raw => {
            inspect::dump(remapping, DumpForm::Raw);
            writeln!(out, "\nwritten to the report")
        }
        Command::Quit | Command::Nothing => Ok(()),
    }
}

fn units(remapping: &Remapping, out: &mut dyn Write) -> fmt::Result {
    for unit in remapping.dmar.units() {
        writeln!(
            out,
            "unit {}: registers at {}, segment {}{}",
            unit.index,
            unit.drhd.register_base,
            unit.drhd.segment.0,
            if unit.includes_all {
                ", all devices that no other unit has"
            } else {
                ""
            }
        )?;
    }
    Ok(())
}

fn part(remapping: &Remapping, unit: u16, part: Part, out: &mut dyn Write) -> fmt::Result {
    on_unit(remapping, unit, out, |view, out| {
        view.write(part, Detail::Leaves, out)
    })
}

fn on_unit(
    remapping: &Remapping,
    unit: u16,
    out: &mut dyn Write,
    act: impl FnOnce(&UnitView<'_>, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
    let Some(live) = LiveUnit::new(remapping, unit) else {
        return writeln!(out, "there is no unit {unit}");
    };
    let view = UnitView {
        unit,
        host_bits: remapping.host_bits,
        source: &live,
    };
    act(&view, out)
}

fn of_device(
    remapping: &Remapping,
    device: DeviceId,
    out: &mut dyn Write,
    act: impl FnOnce(&UnitView<'_>, &mut dyn Write) -> fmt::Result,
) -> fmt::Result {
    match remapping.unit_of(device) {
        Some(unit) => on_unit(remapping, unit, out, act),
        None => writeln!(out, "no unit remaps {device}"),
    }
}
