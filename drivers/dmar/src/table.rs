//! The table: header, and the way to its structures.

use crate::audit;
use crate::finding::{Finding, Severity};
use crate::flags::DmarFlags;
use crate::raw;
use crate::records::{Part, Records, Structures};
use crate::structure::Structure;
use zerocopy::FromBytes;

/// What is read of a table at most. No machine has a hundredth of it, and what takes the
/// square of the structures' number stays short.
const MOST_BYTES: usize = 0x1_0000;

/// A DMAR table, or what firmware says is one.
#[derive(Clone, Copy, Debug)]
pub struct Dmar<'a> {
    /// All bytes that the caller has.
    pub(crate) given: &'a [u8],
    /// Those of them that are read as the table.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Dmar<'a> {
    /// Reads a table that begins with the first of `bytes`, its header included.
    ///
    /// There may be more bytes than the table has; of fewer, what is there is read. What is
    /// wrong with them, [`audit`](Self::audit) tells.
    pub fn new(bytes: &'a [u8]) -> Self {
        let claimed = raw::Header::ref_from_prefix(bytes)
            .ok()
            .map(|(header, _)| header.length.get() as usize)
            .filter(|&length| length >= raw::Header::SIZE);
        let length = claimed.unwrap_or(bytes.len()).min(MOST_BYTES);
        Self {
            given: bytes,
            bytes: bytes.get(..length).unwrap_or(bytes),
        }
    }

    pub(crate) fn header(&self) -> Option<&'a raw::Header> {
        let (header, _) = raw::Header::ref_from_prefix(self.given).ok()?;
        Some(header)
    }

    /// Bits of a physical address that DMA can reach (HAW): the table's field plus one.
    /// `None` if the header is cut off.
    pub fn host_address_width(&self) -> Option<u16> {
        let field = u16::from(self.header()?.host_address_width);
        Some(field.saturating_add(1))
    }

    /// The table's flags; none if the header is cut off.
    pub fn flags(&self) -> DmarFlags {
        self.header().map_or(DmarFlags::empty(), |header| {
            DmarFlags::from_bits_retain(header.flags)
        })
    }

    /// Who made the table, and for which product: OEMID and OEM table ID, padded as they
    /// are.
    pub fn oem(&self) -> Option<(&'a [u8; 6], &'a [u8; 8])> {
        let header = self.header()?;
        Some((&header.oem_id, &header.oem_table_id))
    }

    /// Bytes that are read as the table.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Every structure that can be read, as it is written there, in the table's order.
    pub fn structures(&self) -> impl Iterator<Item = Structure<'a>> + Clone + use<'a> {
        self.records()
            .flatten()
            .filter_map(|part| Structure::parse(part).ok())
    }

    /// The bytes of each structure, and what is wrong with the one that does not fit.
    pub(crate) fn records(&self) -> Records<'a, Structures> {
        let table = Part {
            offset: 0,
            bytes: self.bytes,
        };
        Records::new(table.behind(raw::Header::SIZE))
    }

    /// Tells everything that is odd about the table.
    pub fn audit(&self, report: &mut dyn FnMut(Finding)) {
        audit::run(self, report);
    }

    /// Whether a length, the checksum, or something that does not fit shows that this is
    /// not what its maker wrote.
    pub fn is_malformed(&self) -> bool {
        let mut malformed = false;
        self.audit(&mut |finding| malformed |= finding.severity() == Severity::Error);
        malformed
    }
}
