//! What a campaign came to.

use std::collections::BTreeMap;

use crate::case::{Case, Mode};
use crate::codes::KNOWN;
use crate::verdict::Verdict;

/// Counts of cases.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Cases that ran.
    pub cases: u64,
    /// Those that agreed, or that rules explained.
    pub agreed: u64,
    /// Those whose last request got through.
    pub translated: u64,
    /// By mode.
    pub modes: BTreeMap<Mode, u64>,
    /// By fault reason that was recorded.
    pub reasons: BTreeMap<u8, u64>,
    /// By the place of a rule that was needed.
    pub rules: BTreeMap<usize, u64>,
    /// Those that needed any rule.
    pub explained: u64,
}

/// A share that is too small or too large.
#[derive(Clone, PartialEq, Debug)]
pub struct Shortfall {
    /// Of what.
    pub what: String,
    /// How many there are.
    pub count: u64,
    /// The bound, in cases.
    pub bound: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, case: &Case, verdict: &Verdict) {
        self.cases += 1;
        *self.modes.entry(case.mode).or_default() += 1;
        self.translated += u64::from(verdict.translates);
        for reason in &verdict.reasons {
            *self.reasons.entry(*reason).or_default() += 1;
        }
        if verdict.difference.is_some() {
            return;
        }
        self.agreed += 1;
        self.explained += u64::from(!verdict.rules.is_empty());
        for rule in &verdict.rules {
            *self.rules.entry(*rule).or_default() += 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.cases += other.cases;
        self.agreed += other.agreed;
        self.translated += other.translated;
        self.explained += other.explained;
        for (mode, count) in &other.modes {
            *self.modes.entry(*mode).or_default() += count;
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(*reason).or_default() += count;
        }
        for (rule, count) in &other.rules {
            *self.rules.entry(*rule).or_default() += count;
        }
    }

    /// Whether rules explain more than 2 % of the cases.
    pub fn too_many_explained(&self) -> bool {
        self.explained * 50 > self.cases
    }

    /// What came up too seldom: 30 % translate, 10 % of each mode (but RID_PASID where the
    /// QEMU has none), 0.5 % of each reason.
    pub fn shortfalls(&self, has_rid_pasid: bool) -> Vec<Shortfall> {
        let mut found = Vec::new();
        let mut need = |what: String, count: u64, per_mille: u64| {
            let bound = (self.cases * per_mille).div_ceil(1000);
            if count < bound {
                found.push(Shortfall { what, count, bound });
            }
        };
        need("cases that translate".to_owned(), self.translated, 300);
        for mode in Mode::ALL {
            if mode != Mode::RidPasid || has_rid_pasid {
                let count = self.modes.get(&mode).copied().unwrap_or(0);
                need(mode.name().to_owned(), count, 100);
            }
        }
        for reason in KNOWN {
            let count = self.reasons.get(reason).copied().unwrap_or(0);
            need(format!("fault {reason:02x}h"), count, 5);
        }
        found
    }
}
