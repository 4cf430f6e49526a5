//! What QEMU complains of, and what a test announces of it.

/// Complaints that are no surprise: parts of lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Those that must come.
    pub(crate) must: Vec<String>,
    /// Those that may. QEMU reports some once a process only, and some by the order of events.
    pub(crate) may: Vec<String>,
}

/// What a test does on purpose that QEMU complains of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provocation {
    /// A device's DMA is refused.
    RefusedDma,
    /// A device raises an interrupt that is another's.
    ForeignInterrupt,
    /// A device raises an interrupt whose entry is not present.
    AbsentInterrupt,
    /// Several devices are refused at once, so that faults may be lost.
    RefusedAtOnce,
}

impl Provocation {
    /// The provocation of a name, as tests announce it.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        match name {
            "refused-dma" => Some(Self::RefusedDma),
            "foreign-interrupt" => Some(Self::ForeignInterrupt),
            "absent-interrupt" => Some(Self::AbsentInterrupt),
            "refused-at-once" => Some(Self::RefusedAtOnce),
            _ => None,
        }
    }

    /// What QEMU says at the first of them.
    fn must(self) -> &'static str {
        match self {
            Self::RefusedDma | Self::RefusedAtOnce => "detected translation failure",
            Self::ForeignInterrupt => "invalid IRTE SID",
            Self::AbsentInterrupt => "detected non-present IRTE",
        }
    }

    /// What it may say besides: why, and that a second fault of the same source was not
    /// recorded. Not among them: entries that are malformed, which are always the driver's.
    fn may(self) -> &'static [&'static str] {
        match self {
            Self::RefusedDma => &[
                COMPRESSED,
                "detected non canonical IOVA",
                "detected IOVA overflow",
                "detected slpte permission error",
                "detected sspte permission error",
            ],
            Self::RefusedAtOnce => &[
                "new fault is not recorded, set PFO field",
                "New fault is not recorded due to Primary Fault Overflow",
            ],
            Self::ForeignInterrupt | Self::AbsentInterrupt => &[COMPRESSED],
        }
    }
}

const COMPRESSED: &str = "New fault is not recorded due to compression of faults";

impl Announced {
    /// All that these provocations may lead to, and nothing that must come.
    pub(crate) fn possible(provocations: &[Provocation]) -> Self {
        let mut announced = Self::default();
        for &provocation in provocations {
            announced.add(provocation);
        }
        announced.may.append(&mut announced.must);
        announced
    }

    /// Also what this provocation leads to.
    pub(crate) fn add(&mut self, provocation: Provocation) {
        self.must.push(provocation.must().to_owned());
        let may = provocation.may().iter().map(|&part| part.to_owned());
        self.may.extend(may);
    }

    /// What was complained of unannounced, and what was announced and did not come.
    pub(super) fn problems(&self, lines: &[&str]) -> Vec<String> {
        let announced = |line: &str| {
            self.must
                .iter()
                .chain(&self.may)
                .any(|part| line.contains(part.as_str()))
        };
        let unexpected = lines
            .iter()
            .filter(|line| !announced(line))
            .map(|line| format!("QEMU complains: {line}"));
        let missing = self
            .must
            .iter()
            .filter(|part| !lines.iter().any(|line| line.contains(part.as_str())))
            .map(|part| format!("QEMU did not complain of `{part}`, as was announced"));
        unexpected.chain(missing).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "qemu: vtd_iommu_translate: detected translation failure (dev=00:04:00)";

    #[test]
    fn what_was_not_announced_is_a_problem() {
        let quiet = Announced::default();
        assert_eq!(
            quiet.problems(&[REFUSED]),
            [format!("QEMU complains: {REFUSED}")]
        );
        assert_eq!(quiet.problems(&[]), [""; 0]);
    }

    #[test]
    fn what_was_announced_must_come() {
        let mut announced = Announced::default();
        announced.add(Provocation::RefusedDma);
        assert_eq!(announced.problems(&[REFUSED]), [""; 0]);
        assert_eq!(announced.problems(&[REFUSED, COMPRESSED]), [""; 0]);
        assert_eq!(announced.problems(&[COMPRESSED]).len(), 1);
        assert_eq!(announced.problems(&[REFUSED, "qemu: other"]).len(), 1);
    }

    #[test]
    fn what_is_possible_need_not_come() {
        let possible = Announced::possible(&[Provocation::RefusedDma]);
        assert_eq!(possible.problems(&[]), [""; 0]);
        assert_eq!(possible.problems(&[REFUSED, COMPRESSED]), [""; 0]);
    }
}
