//! Cost rules: what an operation of the driver may take out of the caches, by name. All else
//! must still hit.

use super::judge::name;
use crate::caches::NO_PASID;
use crate::machine::Machine;
use crate::violation::Rule;
use std::fmt;
use std::ops::RangeInclusive;

/// Which cached translations an operation may invalidate: those that match every field that
/// is given. The default selects all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CostRule {
    /// What the operation is, for the message.
    pub name: String,
    /// Only those of this domain id.
    pub domain: Option<u16>,
    /// Only those of this requester.
    pub source: Option<u16>,
    /// Only those tagged with this PASID (without PASID: RID_PASID).
    pub pasid: Option<u32>,
    /// Only those that touch these input addresses.
    pub addresses: Option<RangeInclusive<u64>>,
}

impl fmt::Display for CostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (", self.name)?;
        let mut parts = Vec::new();
        parts.extend(self.domain.map(|domain| format!("domain {domain:#x}")));
        parts.extend(self.source.map(name));
        parts.extend(self.pasid.map(|pasid| format!("PASID {pasid:#x}")));
        parts.extend(
            self.addresses
                .as_ref()
                .map(|range| format!("{:#x}..={:#x}", range.start(), range.end())),
        );
        write!(f, "{})", parts.join(", "))
    }
}

/// What a rule does not select, as the caches held it when it began.
#[derive(Clone, Debug)]
#[must_use = "the rule is judged by `Machine::end_cost`"]
pub struct Costing {
    rule: CostRule,
    since: u64,
    /// Unit, source, PASID or `NO_PASID`, first address.
    spared: Vec<(usize, u16, u32, u64)>,
}

impl Machine {
    /// From now until [`Machine::end_cost`] only what the rule selects may be invalidated.
    /// Pessimist mode: there everything that may be cached is.
    pub fn begin_cost(&mut self, rule: CostRule) -> Costing {
        let since = self.mark().0;
        let mut spared = Vec::new();
        for (unit, this) in self.units.iter().enumerate() {
            for (source, key, address, entry) in this.caches.iotlb.iter() {
                let mapping = &entry.mapping;
                let last = if mapping.is_unity() {
                    u64::MAX
                } else {
                    address | ((1 << mapping.shift) - 1)
                };
                let touches =
                    |range: &RangeInclusive<u64>| *range.start() <= last && address <= *range.end();
                let selected = rule.domain.is_none_or(|domain| domain == entry.domain)
                    && rule.source.is_none_or(|wanted| wanted == source)
                    && rule.pasid.is_none_or(|pasid| pasid == entry.pasid)
                    && rule.addresses.as_ref().is_none_or(touches);
                if !selected {
                    spared.push((unit, source, key, address));
                }
            }
        }
        spared.sort_unstable();
        Costing {
            rule,
            since,
            spared,
        }
    }

    /// Records a violation ([`Rule::TooMuch`]) if anything else was invalidated meanwhile.
    /// Gives the number of translations that had to stay, so that a test can demand that
    /// there were some.
    pub fn end_cost(&mut self, costing: Costing) -> usize {
        let Costing {
            rule,
            since,
            spared,
        } = costing;
        let lost: Vec<_> = spared
            .iter()
            .filter(|(unit, source, key, address)| {
                let pasid = (*key != NO_PASID).then_some(*key);
                let caches = &self.units[*unit].caches;
                !caches.survived(*source, pasid, *address, since)
            })
            .collect();
        if let Some((unit, source, key, address)) = lost.first() {
            let pasid = if *key == NO_PASID {
                String::new()
            } else {
                format!(" with PASID {key:#x}")
            };
            let message = format!(
                "cost rule {rule}: the translation of {address:#x} for {}{pasid} in unit {unit} was invalidated too, \
                 one of {} that it does not select",
                name(*source),
                lost.len(),
            );
            self.world.violate(Rule::TooMuch, "", message);
        }
        spared.len()
    }
}
