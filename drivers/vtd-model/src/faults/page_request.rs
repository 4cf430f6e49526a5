//! The page request queue's descriptors (§7.4.1.1) and the answers to them (§7.6.1).

use bitfield_struct::bitfield;

/// A page request message of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// The function that asks.
    pub source: u16,
    /// The PASID of the request that faulted, if it had one.
    pub pasid: Option<u32>,
    /// The page; bits 11:0 are ignored.
    pub address: u64,
    /// Read access is wanted.
    pub read: bool,
    /// Write access is wanted.
    pub write: bool,
    /// Execute access is wanted (only with a PASID and `read`).
    pub execute: bool,
    /// The request was privileged.
    pub privileged: bool,
    /// The group that this request belongs to, 0 to 511.
    pub group: u16,
    /// The last request of its group: an answer is owed.
    pub last: bool,
}

impl PageRequest {
    /// A stop marker (PP and LPIG set, no access wanted): no answer is owed.
    pub fn stop_marker(source: u16, pasid: u32) -> Self {
        Self {
            source,
            pasid: Some(pasid),
            address: 0,
            read: false,
            write: false,
            execute: false,
            privileged: false,
            group: 0,
            last: true,
        }
    }

    pub(crate) fn is_stop_marker(&self) -> bool {
        self.pasid.is_some() && self.last && !self.read && !self.write
    }

    pub(crate) fn words(&self) -> [u64; 4] {
        let low = Low::new()
            .with_kind(1)
            .with_pasid_present(self.pasid.is_some())
            .with_source(self.source)
            .with_pasid(self.pasid.unwrap_or(0) & 0xf_ffff)
            .with_execute(self.execute)
            .with_privileged(self.privileged);
        let high = High::new()
            .with_read(self.read)
            .with_write(self.write)
            .with_last(self.last)
            .with_group(self.group & 0x1ff)
            .with_page(self.address >> 12);
        [low.into_bits(), high.into_bits(), 0, 0]
    }
}

#[bitfield(u64)]
struct Low {
    kind: u8,
    pasid_present: bool,
    #[bits(7)]
    __: u8,
    source: u16,
    #[bits(20)]
    pasid: u32,
    execute: bool,
    privileged: bool,
    #[bits(10)]
    __: u16,
}

#[bitfield(u64)]
struct High {
    read: bool,
    write: bool,
    last: bool,
    #[bits(9)]
    group: u16,
    #[bits(52)]
    page: u64,
}

/// The answer that a device gets to a group of page requests (§7.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageResponse {
    /// The function that asked.
    pub source: u16,
    /// The PASID of the requests.
    pub pasid: Option<u32>,
    /// The group.
    pub group: u16,
    /// 0 success, 1 invalid request, 15 failure (table 32).
    pub code: u8,
    /// Hardware answered by itself (table 31), not the driver.
    pub automatic: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_request_is_laid_out_as_figure_7_1_shows() {
        let request = PageRequest {
            source: 0x1234,
            pasid: Some(0xabcde),
            address: 0xffff_8000_1234_5678,
            read: true,
            write: true,
            execute: true,
            privileged: true,
            group: 0x155,
            last: true,
        };
        assert_eq!(
            request.words(),
            [0x003a_bcde_1234_0101, 0xffff_8000_1234_5aaf, 0, 0]
        );
    }
}
