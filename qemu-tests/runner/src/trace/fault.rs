//! Fault records in the trace.

use super::event::number_after;

/// What the unit wrote into a fault recording register (`vtd_frr_new`; §11.4.14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordedFault {
    /// Fault info: the page of a DMA request, or an interrupt index shifted left by 48.
    pub(crate) info: u64,
    /// Requester id.
    pub(crate) source: u16,
    /// Fault reason.
    pub(crate) reason: u8,
}

impl RecordedFault {
    /// Reads `index 0 high 0xc000000600000020 low 0x9000`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let high = number_after(text, "high")?;
        let [source_low, source_high, _, _, reason, ..] = high.to_le_bytes();
        Some(Self {
            info: number_after(text, "low")?,
            source: u16::from_le_bytes([source_low, source_high]),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_fault_is_taken_apart() {
        assert_eq!(
            RecordedFault::parse("index 0 high 0xc0ffff0600000020 low 0x9000"),
            Some(RecordedFault {
                info: 0x9000,
                source: 0x20,
                reason: 6
            })
        );
    }
}
