//! Records out of the bytes of the debug console, with firmware's text before them.

const MAGIC: [u8; 2] = [0xd5, 0x4c];
const HEADER_BYTES: usize = 5;
const MAX_PAYLOAD: usize = 1024;

/// What the bytes consist of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A record.
    Record {
        /// Its stream.
        stream: u8,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// Bytes that belong to no record: firmware's text, or a damaged record.
    Stray(Vec<u8>),
}

/// Takes bytes as they come and gives pieces as soon as they are whole.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    /// The pieces that these bytes complete.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.pending.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut rest = self.pending.as_slice();
        loop {
            let start = candidate(rest);
            push_stray(&mut pieces, &rest[..start]);
            rest = &rest[start..];
            match record(rest) {
                Parse::Whole { stream, payload } => {
                    pieces.push(Piece::Record {
                        stream,
                        payload: payload.to_vec(),
                    });
                    rest = &rest[HEADER_BYTES + payload.len()..];
                }
                Parse::Partial => break,
                Parse::NoRecord => {
                    push_stray(&mut pieces, &rest[..1]);
                    rest = &rest[1..];
                }
            }
        }
        self.pending = rest.to_vec();
        pieces
    }

    /// What is left when no more bytes come: a record that was cut off is stray.
    pub(crate) fn finish(self) -> Option<Piece> {
        (!self.pending.is_empty()).then_some(Piece::Stray(self.pending))
    }
}

enum Parse<'a> {
    Whole { stream: u8, payload: &'a [u8] },
    Partial,
    NoRecord,
}

/// Where the next record may begin: at the magic, or at a first byte of it at the end.
fn candidate(bytes: &[u8]) -> usize {
    bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
        .unwrap_or(match bytes.last() {
            Some(&last) if last == MAGIC[0] => bytes.len() - 1,
            _ => bytes.len(),
        })
}

fn record(bytes: &[u8]) -> Parse<'_> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Parse::Partial;
    };
    let length = usize::from(u16::from_le_bytes([header[3], header[4]]));
    if length > MAX_PAYLOAD {
        return Parse::NoRecord;
    }
    match rest.get(..length) {
        Some(payload) => Parse::Whole {
            stream: header[2],
            payload,
        },
        None => Parse::Partial,
    }
}

fn push_stray(pieces: &mut Vec<Piece>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Stray(stray)) => stray.extend_from_slice(bytes),
        _ => pieces.push(Piece::Stray(bytes.to_vec())),
    }
}

/// A record as the kernel writes it.
#[cfg(test)]
pub(crate) fn encode(stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_le_bytes();
    let mut bytes = vec![MAGIC[0], MAGIC[1], stream, length[0], length[1]];
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(stream: u8, payload: &[u8]) -> Piece {
        Piece::Record {
            stream,
            payload: payload.to_vec(),
        }
    }

    fn stray(bytes: &[u8]) -> Piece {
        Piece::Stray(bytes.to_vec())
    }

    #[test]
    fn text_of_firmware_before_the_first_record_is_stray() {
        let mut bytes = b"SeaBIOS (version 1.16)\n".to_vec();
        bytes.extend(encode(0, b"note hello"));
        bytes.extend(encode(1, &[]));
        assert_eq!(
            Reader::default().read(&bytes),
            [
                stray(b"SeaBIOS (version 1.16)\n"),
                whole(0, b"note hello"),
                whole(1, b"")
            ]
        );
    }

    #[test]
    fn the_same_pieces_come_out_however_the_bytes_are_cut() {
        let mut bytes = b"x\xd5".to_vec();
        bytes.extend(encode(2, b"\xd5\x4c inside"));
        bytes.extend(encode(0, b"end"));
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            let mut pieces = reader.read(&bytes[..cut]);
            pieces.extend(reader.read(&bytes[cut..]));
            pieces.retain(|piece| matches!(piece, Piece::Record { .. }));
            assert_eq!(
                pieces,
                [whole(2, b"\xd5\x4c inside"), whole(0, b"end")],
                "{cut}"
            );
            assert_eq!(reader.finish(), None);
        }
    }

    #[test]
    fn a_magic_with_an_impossible_length_is_no_record() {
        let mut bytes = vec![0xd5, 0x4c, 0, 0x01, 0x04];
        bytes.extend(encode(0, b"ok"));
        assert_eq!(
            Reader::default().read(&bytes),
            [stray(&[0xd5, 0x4c, 0, 0x01, 0x04]), whole(0, b"ok")]
        );
    }

    #[test]
    fn the_longest_record_is_read() {
        let payload = vec![7; MAX_PAYLOAD];
        assert_eq!(
            Reader::default().read(&encode(3, &payload)),
            [whole(3, &payload)]
        );
    }

    #[test]
    fn a_record_that_is_cut_off_is_stray_at_the_end() {
        let mut reader = Reader::default();
        let bytes = encode(0, b"never whole");
        assert_eq!(reader.read(&bytes[..8]), []);
        assert_eq!(reader.finish(), Some(stray(&bytes[..8])));
    }
}
