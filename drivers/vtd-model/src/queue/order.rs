//! Which descriptor may run before which (§6.5.2.12).

use super::descriptor::{Command, DevicePasid};

/// Whether `later` may only run after `earlier` has completed, both being in the queue
/// without a fence between them.
pub(crate) fn must_follow(earlier: &Command, later: &Command) -> bool {
    use Command::{Contexts, DeviceTlb, Interrupts, Iotlb, PageResponse, PasidIotlb, Pasids};
    match later {
        Iotlb { .. } | PasidIotlb { .. } => matches!(earlier, Contexts { .. } | Pasids { .. }),
        Pasids { .. } => matches!(earlier, Contexts { .. }),
        // Types 3, 8 and 9 go out to the link in the order of the queue (§7.8).
        DeviceTlb(range) if range.pasid == DevicePasid::None => {
            matches!(
                earlier,
                Iotlb { .. } | Interrupts(_) | DeviceTlb(_) | PageResponse { .. }
            )
        }
        DeviceTlb(_) => {
            matches!(
                earlier,
                Iotlb { .. }
                    | PasidIotlb { .. }
                    | Interrupts(_)
                    | DeviceTlb(_)
                    | PageResponse { .. }
            )
        }
        PageResponse { .. } => matches!(earlier, DeviceTlb(_) | PageResponse { .. }),
        // Of type A nothing is promised, before or behind anything else.
        Contexts { .. } | Interrupts(_) | Command::Permissions { .. } | Command::Wait(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caches::Range;
    use crate::queue::descriptor::DeviceRange;

    #[test]
    fn only_the_promised_orders_hold() {
        let device = |pasid| {
            Command::DeviceTlb(DeviceRange {
                source: 0,
                physical: 0,
                pasid,
                range: Range::masked(0, 0),
            })
        };
        let kinds = [
            (
                1,
                Command::Contexts {
                    source: None,
                    domain: None,
                },
            ),
            (
                2,
                Command::Iotlb {
                    domain: None,
                    pages: None,
                },
            ),
            (3, device(DevicePasid::None)),
            (4, Command::Interrupts(None)),
            (
                6,
                Command::PasidIotlb {
                    domain: 0,
                    pasid: 0,
                    pages: None,
                },
            ),
            (
                7,
                Command::Pasids {
                    domain: None,
                    pasid: None,
                },
            ),
            (8, device(DevicePasid::One(1))),
            (
                9,
                Command::PageResponse {
                    source: 0,
                    pasid: None,
                    group: 0,
                    code: 0,
                },
            ),
            (
                0xa,
                Command::Permissions {
                    domain: None,
                    range: None,
                    level: 4,
                },
            ),
        ];
        let promised = [
            (1, 2),
            (7, 2),
            (1, 6),
            (7, 6),
            (1, 7),
            (2, 3),
            (4, 3),
            (2, 8),
            (4, 8),
            (6, 8),
            (3, 3),
            (3, 8),
            (8, 3),
            (8, 8),
            (9, 3),
            (9, 8),
            (3, 9),
            (8, 9),
            (9, 9),
        ];
        for (first, earlier) in &kinds {
            for (second, later) in &kinds {
                let expected = promised.contains(&(*first, *second));
                assert_eq!(
                    must_follow(earlier, later),
                    expected,
                    "{second} after {first}"
                );
            }
        }
    }
}
