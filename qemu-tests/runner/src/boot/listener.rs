//! Listening to the debug console while QEMU runs.

use super::Heard;
use super::evidence::Testimony;
use crate::log::{Programs, Streams};
use crate::wire::{Line, Piece, REPORT, Reader};

/// Takes the console's bytes apart, passes on what they mean, and keeps it.
pub(super) struct Listener<'p, 'f> {
    reader: Reader,
    streams: Streams<'p>,
    testimony: Testimony,
    on_heard: &'f mut dyn FnMut(Heard<'_>),
}

impl<'p, 'f> Listener<'p, 'f> {
    pub(super) fn new(programs: &'p Programs, on_heard: &'f mut dyn FnMut(Heard<'_>)) -> Self {
        Self {
            reader: Reader::default(),
            streams: Streams::new(programs),
            testimony: Testimony::default(),
            on_heard,
        }
    }

    /// Takes bytes as they come.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for piece in self.reader.read(bytes) {
            self.take(piece);
        }
    }

    /// All that was heard.
    pub(super) fn finish(mut self) -> Testimony {
        if let Some(piece) = std::mem::take(&mut self.reader).finish() {
            self.take(piece);
        }
        self.testimony.end_stray();
        self.testimony
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Record {
                stream: REPORT,
                payload,
            } => self.take_report(&payload),
            Piece::Record { stream, payload } => {
                self.testimony.count_record();
                for decoded in self.streams.read(stream, &payload) {
                    match decoded {
                        Ok(line) => {
                            (self.on_heard)(Heard::Log(&line));
                            self.testimony.log.push(line);
                        }
                        Err(damage) => self.testimony.damage.push(damage),
                    }
                }
            }
            Piece::Stray(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                self.testimony.take_stray(&text);
            }
        }
    }

    fn take_report(&mut self, payload: &[u8]) {
        self.testimony.count_record();
        match Line::parse(payload) {
            Ok(line) => {
                if let Line::Program { stream, name } = &line
                    && let Err(damage) = self.streams.open(*stream, name)
                {
                    self.testimony.damage.push(damage);
                }
                (self.on_heard)(Heard::Report(&line));
                self.testimony.report.push(line);
            }
            Err(damage) => self.testimony.damage.push(format!("report line {damage}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::fixture;
    use crate::wire::encode;
    use std::path::Path;

    fn listen(bytes: &[u8]) -> Testimony {
        let directory = std::env::temp_dir().join(format!(
            "listener-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("kernel");
        std::fs::write(&file, fixture::elf(&[("info", "ready {=u8}")])).unwrap();
        let programs = Programs::load(Path::new("/"), [("kernel", file.as_path())]).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        let mut ignore = |_: Heard<'_>| {};
        let mut listener = Listener::new(&programs, &mut ignore);
        for byte in bytes {
            listener.hear(&[*byte]);
        }
        listener.finish()
    }

    #[test]
    fn firmware_report_and_log_are_told_apart() {
        let mut bytes = b"SeaBIOS\nBooting from ROM\n".to_vec();
        bytes.extend(encode(0, b"program 1 kernel"));
        bytes.extend(encode(1, &fixture::frame(1, &[4])));
        bytes.extend(encode(0, b"exit ok done"));
        let heard = listen(&bytes);
        assert_eq!(heard.firmware, "SeaBIOS\nBooting from ROM\n");
        assert_eq!(heard.log[0].text, "ready 4");
        assert_eq!(heard.exit(), Some(("ok", "done")));
        assert!(heard.damage.is_empty(), "{:?}", heard.damage);
    }

    #[test]
    fn bytes_between_records_and_records_that_mean_nothing_are_damage() {
        let mut bytes = encode(0, b"program 1 kernel");
        bytes.extend(b"lost");
        bytes.extend(encode(0, b"rubbish"));
        bytes.extend(encode(9, &fixture::frame(1, &[4])));
        bytes.extend(&encode(0, b"exit ok")[..6]);
        let heard = listen(&bytes);
        assert_eq!(heard.damage.len(), 4, "{:?}", heard.damage);
        assert_eq!(heard.firmware, "");
        assert_eq!(heard.exit(), None);
    }
}
