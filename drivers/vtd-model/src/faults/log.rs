//! Primary fault logging (§7.2.1): the ring of fault recording registers (§11.4.7.6).

use super::Condition;
use bitfield_struct::bitfield;

/// What kind of request a record speaks of (T1, T2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RecordKind {
    Write,
    PageRequest,
    Read,
    Atomic,
}

/// What is recorded of a faulting request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) condition: Condition,
    pub(crate) source: u16,
    /// FI as it stands in the register: address, or interrupt index in bits 63:48.
    pub(crate) info: u64,
    pub(crate) pasid: Option<u32>,
    pub(crate) privileged: bool,
    pub(crate) execute: bool,
    pub(crate) kind: RecordKind,
    /// AT of the request: 0 untranslated, 1 translation, 2 translated.
    pub(crate) address_type: u8,
}

#[bitfield(u64)]
struct High {
    source: u16,
    #[bits(12)]
    __: u16,
    t2: bool,
    privileged: bool,
    execute: bool,
    pasid_present: bool,
    reason: u8,
    #[bits(20)]
    pasid: u32,
    #[bits(2)]
    address_type: u8,
    t1: bool,
    fault: bool,
}

impl Record {
    fn words(&self, address_types: bool) -> [u64; 2] {
        let (t1, t2) = match self.kind {
            RecordKind::Write => (false, false),
            RecordKind::PageRequest => (false, true),
            RecordKind::Read => (true, false),
            RecordKind::Atomic => (true, true),
        };
        let pasid = self.pasid.is_some();
        let high = High::new()
            .with_source(self.source)
            .with_t2(t2)
            .with_privileged(pasid && self.privileged)
            .with_execute(pasid && self.execute)
            .with_pasid_present(pasid)
            .with_reason(self.condition.code())
            .with_pasid(self.pasid.unwrap_or(0) & 0xf_ffff)
            .with_address_type(if address_types { self.address_type } else { 0 })
            .with_t1(t1)
            .with_fault(true);
        [self.info & !0xfff, high.into_bits()]
    }
}

/// The ring of records, with PFO and FRI.
#[derive(Debug)]
pub(crate) struct FaultLog {
    records: Vec<[u64; 2]>,
    next: usize,
    pub(crate) first: u8,
    pub(crate) overflow: bool,
    compression: bool,
    address_types: bool,
    /// Everything that was logged or dropped, for the test to read.
    pub(crate) seen: Vec<(Condition, u16, u64)>,
}

const FAULT: u64 = 1 << 63;

impl FaultLog {
    pub(crate) fn new(count: u16, compression: bool, address_types: bool) -> Self {
        Self {
            records: vec![[0; 2]; usize::from(count)],
            next: 0,
            first: 0,
            overflow: false,
            compression,
            address_types,
            seen: Vec::new(),
        }
    }

    /// PPF: some record's F is set.
    pub(crate) fn pending(&self) -> bool {
        self.records.iter().any(|record| record[1] & FAULT != 0)
    }

    /// Logs a fault by the steps of §7.2.1. The caller has looked at the state before to
    /// decide on the event.
    pub(crate) fn log(&mut self, record: &Record) {
        if self.seen.len() < 1 << 16 {
            self.seen
                .push((record.condition, record.source, record.info));
        }
        if self.overflow {
            return;
        }
        let same = |old: &[u64; 2]| old[1] & FAULT != 0 && old[1] as u16 == record.source;
        if self.compression && self.records.iter().any(same) {
            return;
        }
        if self.records[self.next][1] & FAULT != 0 {
            self.overflow = true;
            return;
        }
        if !self.pending() {
            self.first = self.next as u8;
        }
        self.records[self.next] = record.words(self.address_types);
        self.next = (self.next + 1) % self.records.len();
    }

    /// Both translations are off: the index starts over.
    pub(crate) fn restart(&mut self) {
        self.next = 0;
    }

    pub(crate) fn word(&self, record: usize, high: bool) -> u64 {
        self.records
            .get(record)
            .map_or(0, |words| words[usize::from(high)])
    }

    /// Clears F, as a write of 1 to it does.
    pub(crate) fn clear(&mut self, record: usize) {
        if let Some(words) = self.records.get_mut(record) {
            words[1] &= !FAULT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: u16) -> Record {
        Record {
            condition: Condition::Lgn2,
            source,
            info: 0x5123,
            pasid: None,
            privileged: false,
            execute: false,
            kind: RecordKind::Write,
            address_type: 0,
        }
    }

    #[test]
    fn the_ring_fills_overflows_and_goes_on_after_it_was_emptied() {
        let mut log = FaultLog::new(2, false, false);
        log.log(&record(1));
        log.log(&record(2));
        assert_eq!((log.first, log.overflow), (0, false));
        log.log(&record(3));
        assert!(log.overflow && log.pending());
        assert_eq!(log.word(0, false), 0x5000);
        assert_eq!(log.word(0, true), 0x8000_0005_0000_0001);
        log.clear(0);
        log.clear(1);
        log.log(&record(4));
        assert!(!log.pending(), "PFO still stops recording");
        log.overflow = false;
        log.log(&record(5));
        assert_eq!(
            log.word(0, true) as u16,
            5,
            "recording resumes at the index it had"
        );
    }

    #[test]
    fn compression_drops_a_second_fault_of_the_same_requester() {
        let mut log = FaultLog::new(4, true, false);
        log.log(&record(1));
        log.log(&record(1));
        log.log(&record(2));
        assert_eq!(log.word(1, true) as u16, 2);
        assert_eq!(log.word(2, true), 0);
    }

    #[test]
    fn a_record_with_pasid_has_all_its_fields() {
        let full = Record {
            condition: Condition::Sgn6,
            source: 0x1234,
            info: 0xffff_8000_0000_1000,
            pasid: Some(0xabcde),
            privileged: true,
            execute: true,
            kind: RecordKind::Atomic,
            address_type: 2,
        };
        // §11.4.7.6: F 63, T1 62, AT 61:60, PV 59:40, FR 39:32, PP 31, EXE 30, PRIV 29, T2 28.
        assert_eq!(
            full.words(true),
            [0xffff_8000_0000_1000, 0xeabc_de85_f000_1234]
        );
        assert_eq!(full.words(false)[1], 0xcabc_de85_f000_1234);
    }
}
