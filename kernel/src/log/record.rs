//! Records: how streams share one line of bytes.

/// The magic with which a record begins.
pub const MAGIC: [u8; 2] = [0xd5, 0x4c];
/// Bytes of a record before its payload.
pub const HEADER_BYTES: usize = 5;
/// The longest payload of a record.
pub const MAX_PAYLOAD: usize = 1024;

/// The stream of the report.
pub const REPORT: u8 = 0;

/// The header of a record, or `None` if the payload is too long for one.
pub fn header(stream: u8, payload: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let [low, high] = (payload.len() as u16).to_le_bytes();
    let [first, second] = MAGIC;
    Some([first, second, stream, low, high])
}

/// A report line in the making: what does not fit is cut off, and line feeds become spaces.
pub struct Line {
    bytes: [u8; MAX_PAYLOAD],
    length: usize,
}

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self {
            bytes: [0; MAX_PAYLOAD],
            length: 0,
        }
    }

    /// The line, cut at a character boundary.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let mut buffer = [0; 4];
        for character in text.chars() {
            let character = if character == '\n' { ' ' } else { character };
            let encoded = character.encode_utf8(&mut buffer).as_bytes();
            let end = self.length.saturating_add(encoded.len());
            let Some(room) = self.bytes.get_mut(self.length..end) else {
                // Full: the rest is cut off, and so is all that follows.
                self.length = self.length.min(MAX_PAYLOAD);
                return Err(core::fmt::Error);
            };
            room.copy_from_slice(encoded);
            self.length = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;
    use std::vec;

    #[test]
    fn a_header_holds_magic_stream_and_length() {
        assert_eq!(header(7, &[0; 0x123]), Some([0xd5, 0x4c, 7, 0x23, 0x01]));
        assert_eq!(header(0, &[]), Some([0xd5, 0x4c, 0, 0, 0]));
    }

    #[test]
    fn a_payload_of_1024_bytes_is_the_longest() {
        assert!(header(1, &vec![0; 1024]).is_some());
        assert!(header(1, &vec![0; 1025]).is_none());
    }

    #[test]
    fn a_line_has_no_line_feed() {
        let mut line = Line::new();
        write!(line, "panic: a\nb").unwrap();
        assert_eq!(line.as_bytes(), b"panic: a b");
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut line = Line::new();
        let _ = line.write_str(&"x".repeat(1023));
        assert!(line.write_str("é").is_err());
        assert_eq!(line.as_bytes().len(), 1023);
        assert!(core::str::from_utf8(line.as_bytes()).is_ok());
    }
}
