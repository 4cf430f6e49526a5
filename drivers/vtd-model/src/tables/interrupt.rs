//! Interrupt remapping entries: §9.9 (remapped) and §9.10 (posted).

use super::{bit, bits};
use crate::config::Config;

/// How the requester of an interrupt is checked (SVT, SQ, SID).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum SourceCheck {
    /// SVT 00.
    None,
    /// SVT 01: equal but for masked function bits.
    Id { source: u16, ignored: u16 },
    /// SVT 10: the bus lies between the two.
    Bus { first: u8, last: u8 },
}

/// A valid entry: what becomes of the interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Delivery {
    Remapped {
        vector: u8,
        mode: u8,
        level: bool,
        logical: bool,
        hint: bool,
        destination: u32,
    },
    Posted {
        vector: u8,
        urgent: bool,
        descriptor: u64,
    },
}

/// The raw words with the parts that are looked at before the rest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Irte(pub(crate) [u64; 2]);

impl Irte {
    pub(crate) fn present(self) -> bool {
        bit(self.0[0], 0)
    }

    pub(crate) fn fpd(self) -> bool {
        bit(self.0[0], 1)
    }

    /// `None` for SVT 11, which is reserved.
    pub(crate) fn source_check(self) -> Option<SourceCheck> {
        let source = bits(self.0[1], 15, 0) as u16;
        let ignored = [0, 0b100, 0b110, 0b111][bits(self.0[1], 17, 16) as usize];
        match bits(self.0[1], 19, 18) {
            0 => Some(SourceCheck::None),
            1 => Some(SourceCheck::Id { source, ignored }),
            2 => Some(SourceCheck::Bus {
                first: (source >> 8) as u8,
                last: source as u8,
            }),
            _ => None,
        }
    }

    /// `None` if a reserved field is set (fault 24h). `x2apic`: IRTA.EIME.
    pub(crate) fn delivery(self, x2apic: bool, config: &Config) -> Option<Delivery> {
        self.source_check()?;
        if bit(self.0[0], 15) {
            self.posted(config)
        } else {
            self.remapped(x2apic)
        }
    }

    fn remapped(self, x2apic: bool) -> Option<Delivery> {
        let low = self.0[0];
        let destination_bits: u64 = if x2apic { 0 } else { 0xffff_00ff_0000_0000 };
        let mode = bits(low, 7, 5) as u8;
        let reserved = low & (0xff00_7000 | destination_bits) | self.0[1] & !0xf_ffff;
        if reserved != 0 || mode == 3 || mode == 6 {
            return None;
        }
        let destination = bits(low, 63, 32) as u32;
        Some(Delivery::Remapped {
            vector: bits(low, 23, 16) as u8,
            mode,
            level: bit(low, 4),
            logical: bit(low, 2),
            hint: bit(low, 3),
            destination: if x2apic {
                destination
            } else {
                destination >> 8
            },
        })
    }

    fn posted(self, config: &Config) -> Option<Delivery> {
        let [low, high] = self.0;
        let descriptor = bits(low, 63, 38) << 6 | bits(high, 63, 32) << 32;
        let reserved = low & 0x003f_ff00_3000 & !0xff_0000 | low & 0xfc | high & 0xfff0_0000;
        if !config.posted_interrupts || reserved != 0 || descriptor & config.above_host() != 0 {
            return None;
        }
        Some(Delivery::Posted {
            vector: bits(low, 23, 16) as u8,
            urgent: bit(low, 14),
            descriptor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reserved_bit_of_a_remapped_entry_is_refused() {
        let config = Config::everything();
        let good = Irte([0x0000_0500_0041_0001, 0x0004_0020]);
        let delivery = good.delivery(false, &config);
        assert!(matches!(
            delivery,
            Some(Delivery::Remapped {
                vector: 0x41,
                destination: 5,
                ..
            })
        ));
        for at in [12, 13, 14].into_iter().chain(24..40).chain(48..64) {
            let bad = Irte([good.0[0] | 1 << at, good.0[1]]);
            assert_eq!(bad.delivery(false, &config), None, "bit {at}");
            assert_eq!(
                bad.delivery(true, &config).is_some(),
                at >= 32,
                "bit {at} with EIME"
            );
        }
        for at in 20..64 {
            assert_eq!(
                Irte([good.0[0], good.0[1] | 1 << at]).delivery(false, &config),
                None
            );
        }
        for mode in [3, 6] {
            assert_eq!(
                Irte([good.0[0] | mode << 5, good.0[1]]).delivery(false, &config),
                None
            );
        }
        assert_eq!(
            Irte([good.0[0], 3 << 18]).delivery(false, &config),
            None,
            "SVT 11"
        );
    }

    #[test]
    fn a_posted_entry_names_its_descriptor() {
        let config = Config::everything();
        let good = Irte([0x1234_5640 << 32 | 0x41_8001, 0x2 << 32]);
        let expected = Delivery::Posted {
            vector: 0x41,
            urgent: false,
            descriptor: 0x2_1234_5640,
        };
        assert_eq!(good.delivery(false, &config), Some(expected));
        for at in [2, 5, 7, 12, 13, 24, 31, 32, 37] {
            assert_eq!(
                Irte([good.0[0] | 1 << at, good.0[1]]).delivery(false, &config),
                None,
                "bit {at}"
            );
        }
        let without = Config {
            posted_interrupts: false,
            ..config
        };
        assert_eq!(good.delivery(false, &without), None);
    }
}
