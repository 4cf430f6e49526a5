//! The paging structures' part of a walk.

use super::Visited;
use crate::abilities::Abilities;
use io_pgtable::{Entry, Limits, decode, in_width, index_of, span_shift};
use iommu_core::{Access, Address, FaultReason, Hpa, Iova, Platform, TableFormat, WalkStep};

/// Which names a refusal has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Legacy,
    Second,
    First,
}

/// Whether an address is one of interrupts, which no translation may lead to (§3.15).
pub(super) fn is_interrupt_range(address: u64) -> bool {
    address >> 20 == 0xfee
}

pub(super) struct Walk<'a, P> {
    pub(super) platform: &'a P,
    pub(super) abilities: &'a Abilities,
    pub(super) stage: Stage,
    pub(super) format: TableFormat,
    pub(super) root: Hpa,
    pub(super) iova: Iova,
    pub(super) access: Access,
}

const NAMES: [[&str; 5]; 2] = [
    [
        "first-stage level 1",
        "first-stage level 2",
        "first-stage level 3",
        "first-stage level 4",
        "first-stage level 5",
    ],
    [
        "second-stage level 1",
        "second-stage level 2",
        "second-stage level 3",
        "second-stage level 4",
        "second-stage level 5",
    ],
];

impl<P: Platform> Walk<'_, P> {
    /// The whole walk, with the check of where it ends.
    pub(super) fn run(&self, step: &mut dyn FnMut(&WalkStep)) -> Result<Hpa, FaultReason> {
        let end = self.run_through(&mut Ok, step)?;
        self.outside_interrupts(end)
    }

    /// A first stage whose addresses are a guest's, which `second` translates.
    pub(super) fn run_nested(
        &self,
        second: &Walk<'_, P>,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        let table = |guest: Hpa| {
            let walk = Walk {
                iova: Iova::new(guest.as_u64()),
                access: Access::READ,
                ..*second
            };
            walk.run_through(&mut Ok, &mut |_| {})
        };
        let guest = self.run_through(&mut { table }, step)?;
        let last = Walk {
            iova: Iova::new(guest.as_u64()),
            access: self.access,
            ..*second
        };
        last.run(step)
    }

    /// The walk; `locate` says where a table lies.
    fn run_through(
        &self,
        locate: &mut dyn FnMut(Hpa) -> Result<Hpa, FaultReason>,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        if !in_width(
            self.format,
            self.iova,
            self.abilities.cap.guest_address_bits(),
        ) {
            return Err(self.beyond_width());
        }
        let mut allowed = Access::READ_WRITE;
        let mut table = self.root;
        for level in (1..=self.format.levels()).rev() {
            let visited = self.visit(locate(table)?, level)?;
            let [entry, ..] = visited.words;
            let decoded = decode(self.format, level, entry, &self.limits());
            let (refusal, next) = self.judge(decoded, &mut allowed);
            super::tell(step, &visited, self.name(level), refusal)?;
            match next {
                Next::Table(address) => table = address,
                Next::Page(address) => {
                    return address
                        .checked_add(self.iova.offset_in(span_shift(level)))
                        .ok_or(self.reserved());
                }
                Next::Nothing => return Err(self.not_present()),
            }
        }
        Err(self.not_present())
    }

    fn limits(&self) -> Limits {
        Limits {
            host_bits: self.abilities.host_bits,
            leaves: match self.stage {
                Stage::First => self.abilities.first_stage_leaves(),
                _ => self.abilities.second_stage_leaves(),
            },
            snoop_control: self.abilities.ecap.sc(),
        }
    }

    fn visit(&self, table: Hpa, level: u8) -> Result<Visited, FaultReason> {
        let index = index_of(self.iova.as_u64(), level);
        let at = Hpa::new(table.as_u64() | (index as u64) << 3);
        let entry = self
            .platform
            .peek(at)
            .ok_or(self.table_error(level == self.format.levels()))?;
        let mut words = [0; 8];
        words[0] = entry;
        Ok(Visited {
            at,
            index: index as u16,
            words,
        })
    }

    fn judge(&self, entry: Entry, allowed: &mut Access) -> (Option<FaultReason>, Next) {
        match entry {
            Entry::NotPresent => (Some(self.not_present()), Next::Nothing),
            Entry::Reserved => (Some(self.reserved()), Next::Nothing),
            Entry::Table {
                address,
                access,
                user,
            } => {
                *allowed = allowed.intersection(access);
                let refusal = (!user).then_some(FaultReason::USER_DENIED);
                (refusal, Next::Table(Hpa::new(address)))
            }
            Entry::Leaf {
                address,
                access,
                user,
            } => {
                *allowed = allowed.intersection(access);
                let refusal = if user {
                    self.denied(*allowed)
                } else {
                    Some(FaultReason::USER_DENIED)
                };
                (refusal, Next::Page(Hpa::new(address)))
            }
        }
    }

    fn denied(&self, allowed: Access) -> Option<FaultReason> {
        if allowed.allows(self.access) {
            return None;
        }
        let write = self.access.writes() && !allowed.writes();
        Some(match (self.stage, write) {
            (Stage::Legacy, true) => FaultReason::WRITE_DENIED,
            (Stage::Legacy, false) => FaultReason::READ_DENIED,
            (Stage::Second, _) if allowed.is_none() => FaultReason::SECOND_STAGE_NOT_PRESENT,
            (_, true) => FaultReason::SCALABLE_WRITE_DENIED,
            (_, false) => FaultReason::SCALABLE_READ_DENIED,
        })
    }

    fn not_present(&self) -> FaultReason {
        match self.stage {
            Stage::Legacy if self.access.writes() => FaultReason::WRITE_DENIED,
            Stage::Legacy => FaultReason::READ_DENIED,
            Stage::Second => FaultReason::SECOND_STAGE_NOT_PRESENT,
            Stage::First => FaultReason::FIRST_STAGE_NOT_PRESENT,
        }
    }

    fn reserved(&self) -> FaultReason {
        match self.stage {
            Stage::Legacy => FaultReason::SECOND_STAGE_RESERVED,
            Stage::Second => FaultReason::SCALABLE_SECOND_STAGE_RESERVED,
            Stage::First => FaultReason::FIRST_STAGE_RESERVED,
        }
    }

    fn table_error(&self, is_root: bool) -> FaultReason {
        match (self.stage, is_root) {
            (Stage::Legacy, true) => FaultReason::CONTEXT_INVALID,
            (Stage::Legacy, false) => FaultReason::SECOND_STAGE_TABLE_ERROR,
            (Stage::Second, true) => FaultReason::SECOND_STAGE_ROOT_ERROR,
            (Stage::Second, false) => FaultReason::SCALABLE_SECOND_STAGE_TABLE_ERROR,
            (Stage::First, true) => FaultReason::FIRST_STAGE_ROOT_ERROR,
            (Stage::First, false) => FaultReason::FIRST_STAGE_TABLE_ERROR,
        }
    }

    fn beyond_width(&self) -> FaultReason {
        match self.stage {
            Stage::Legacy => FaultReason::BEYOND_WIDTH,
            Stage::Second => FaultReason::SCALABLE_BEYOND_WIDTH,
            Stage::First => FaultReason::NOT_CANONICAL,
        }
    }

    fn outside_interrupts(&self, end: Hpa) -> Result<Hpa, FaultReason> {
        if !is_interrupt_range(end.as_u64()) {
            return Ok(end);
        }
        Err(match self.stage {
            Stage::Legacy => FaultReason::INTO_INTERRUPT_RANGE,
            _ => FaultReason::SCALABLE_INTO_INTERRUPT_RANGE,
        })
    }

    fn name(&self, level: u8) -> &'static str {
        let [first, second] = &NAMES;
        let names = match self.stage {
            Stage::First => first,
            _ => second,
        };
        names
            .get(usize::from(level).saturating_sub(1))
            .copied()
            .unwrap_or("paging structure")
    }
}

enum Next {
    Table(Hpa),
    Page(Hpa),
    Nothing,
}
