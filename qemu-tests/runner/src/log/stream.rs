//! Streams of a boot: which program writes to which, and the frames in them.

use std::collections::BTreeMap;
use std::path::Path;

use defmt_decoder::{DecodeError, Frame, StreamDecoder};

use super::line::LogLine;
use super::program::{Program, Programs};

/// The streams of one boot.
pub(crate) struct Streams<'p> {
    programs: &'p Programs,
    open: BTreeMap<u8, Open<'p>>,
}

struct Open<'p> {
    program: &'p Program,
    decoder: Box<dyn StreamDecoder + Send + Sync + 'p>,
}

/// What bytes of a stream gave.
pub(crate) type Decoded = Result<LogLine, String>;

impl<'p> Streams<'p> {
    /// No stream is open yet.
    pub(crate) fn new(programs: &'p Programs) -> Self {
        Self {
            programs,
            open: BTreeMap::new(),
        }
    }

    /// A stream belongs to a program from now on.
    pub(crate) fn open(&mut self, stream: u8, name: &str) -> Result<(), String> {
        if self.programs.is_silent(name) {
            // If something comes all the same, it is told as of no program.
            return Ok(());
        }
        let program = self
            .programs
            .find(name)
            .ok_or_else(|| format!("stream {stream}: no program is called {name}"))?;
        let table = program
            .table
            .as_ref()
            .ok_or_else(|| format!("stream {stream}: {name} has no log table"))?;
        let decoder = table.new_stream_decoder();
        self.open.insert(stream, Open { program, decoder });
        Ok(())
    }

    /// The frames that these bytes complete.
    pub(crate) fn read(&mut self, stream: u8, bytes: &[u8]) -> Vec<Decoded> {
        let Some(open) = self.open.get_mut(&stream) else {
            return vec![Err(format!("stream {stream} belongs to no program"))];
        };
        open.decoder.received(bytes);
        let mut lines = Vec::new();
        loop {
            match open.decoder.decode() {
                Ok(frame) => lines.push(Ok(line(self.programs.root(), open.program, &frame))),
                Err(DecodeError::UnexpectedEof) => return lines,
                Err(DecodeError::Malformed) => lines.push(Err(format!(
                    "stream {stream}: a frame that {} cannot have written",
                    open.program.name
                ))),
            }
        }
    }
}

fn line(root: &Path, program: &Program, frame: &Frame<'_>) -> LogLine {
    let (module, place) = match program.locations.get(&frame.index()) {
        Some(location) => (
            location.module.clone(),
            format!(
                "{}:{}",
                relative(&location.file, root).display(),
                location.line
            ),
        ),
        None => (String::new(), String::new()),
    };
    LogLine {
        time: frame
            .display_timestamp()
            .map_or_else(String::new, |time| time.to_string()),
        level: frame.level().map_or("", |level| level.as_str()),
        program: program.name.clone(),
        module,
        place,
        text: frame.display_message().to_string(),
    }
}

fn relative<'a>(file: &'a Path, root: &Path) -> &'a Path {
    file.strip_prefix(root).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;

    fn programs() -> Programs {
        let mut programs = Programs::new(Path::new("/"));
        programs
            .add("kernel", &fixture::elf(&[("info", "units: {=u8}")]))
            .unwrap();
        programs
            .add("guest/g", &fixture::elf(&[("warn", "other {=u8}")]))
            .unwrap();
        programs
    }

    #[test]
    fn a_program_that_logs_nothing_may_start_and_must_not_speak() {
        let mut programs = programs();
        assert!(Streams::new(&programs).open(3, "guest/old").is_err());
        programs.add_silent("guest/old");
        let mut streams = Streams::new(&programs);
        streams.open(3, "guest/old").unwrap();
        assert!(streams.read(3, &[1])[0].is_err());
    }

    #[test]
    fn each_stream_is_decoded_by_its_own_program() {
        let programs = programs();
        let mut streams = Streams::new(&programs);
        streams.open(1, "kernel").unwrap();
        streams.open(2, "guest/g").unwrap();
        let frame = fixture::frame(1, &[7]);

        let kernel = streams.read(1, &frame);
        let guest = streams.read(2, &frame);
        let kernel = kernel[0].as_ref().unwrap();
        let guest = guest[0].as_ref().unwrap();
        assert_eq!((kernel.level, kernel.text.as_str()), ("info", "units: 7"));
        assert_eq!((guest.level, guest.text.as_str()), ("warn", "other 7"));
        assert_eq!(guest.program, "guest/g");
    }

    #[test]
    fn a_frame_may_come_in_pieces() {
        let programs = programs();
        let mut streams = Streams::new(&programs);
        streams.open(1, "kernel").unwrap();
        let frame = fixture::frame(1, &[9]);
        let (first, second) = frame.split_at(3);
        assert!(streams.read(1, first).is_empty());
        assert_eq!(
            streams.read(1, second)[0].as_ref().unwrap().text,
            "units: 9"
        );
    }

    #[test]
    fn after_a_damaged_frame_the_next_one_is_read() {
        let programs = programs();
        let mut streams = Streams::new(&programs);
        streams.open(1, "kernel").unwrap();
        let mut bytes = fixture::frame(999, &[1]);
        bytes.extend(fixture::frame(1, &[2]));
        let lines = streams.read(1, &bytes);
        assert!(lines[0].is_err());
        assert_eq!(lines[1].as_ref().unwrap().text, "units: 2");
    }

    #[test]
    fn a_stream_of_nobody_and_a_program_that_was_not_built_are_errors() {
        let programs = programs();
        let mut streams = Streams::new(&programs);
        assert!(streams.open(1, "guest/other").is_err());
        assert!(streams.read(1, &fixture::frame(1, &[1]))[0].is_err());
    }
}
