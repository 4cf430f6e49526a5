//! Figures: each as our code counted it, beside QEMU's trace where that counts it too.

use crate::boot::Evidence;
use crate::trace::Trace;

/// A counted thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figure {
    /// Its name on the wire, or ours if only QEMU counts it.
    pub(crate) name: String,
    /// As the kernel counted it.
    pub(crate) ours: Option<u64>,
    /// As QEMU's trace shows it.
    pub(crate) qemu: Option<u64>,
}

impl Figure {
    /// Whether both counted and came to different numbers, or ours is missing.
    pub(crate) fn disagrees(&self) -> bool {
        match (self.ours, self.qemu) {
            (Some(ours), Some(qemu)) => ours != qemu,
            _ => false,
        }
    }

    /// The number, QEMU's where there are two.
    pub(crate) fn value(&self) -> u64 {
        self.qemu.or(self.ours).unwrap_or(0)
    }
}

/// A figure's name, and how QEMU's trace counts it.
type Counter = (&'static str, fn(&Trace) -> u64);

/// Counted on both sides: `docs/wire.md`, "Figures".
const SHARED: &[Counter] = &[
    ("descriptors", |trace| trace.count("vtd_inv_qi_head")),
    ("doorbells", Trace::doorbells),
    ("waits", |trace| trace.descriptors_of("wait")),
    ("faults", |trace| trace.count("vtd_frr_new")),
];

/// Counted by QEMU alone.
const QEMU_ONLY: &[Counter] = &[
    ("qemu.pages-translated", |trace| {
        trace.count("vtd_iotlb_page_update")
    }),
    ("qemu.interrupts-remapped", |trace| {
        trace.count("vtd_ir_remap")
    }),
    ("qemu.iotlb-invalidations", |trace| {
        trace.descriptors_of("iotlb")
    }),
    ("qemu.pasid-iotlb-invalidations", |trace| {
        trace.descriptors_of("p-iotlb")
    }),
    ("qemu.dma-refused", |trace| trace.count("vtd_dmar_fault")),
];

/// All VM exits together.
pub(crate) const EXITS: &str = "exits";

/// The figures of a boot: those counted twice, those of the kernel, those of QEMU.
pub(crate) fn figures(evidence: &Evidence) -> Vec<Figure> {
    let ours = evidence.heard.figures();
    let mut figures: Vec<Figure> = SHARED
        .iter()
        .map(|(name, count)| Figure {
            name: (*name).to_owned(),
            ours: ours.get(name).copied(),
            qemu: Some(count(&evidence.trace)),
        })
        .collect();
    let kernel_only = ours
        .iter()
        .filter(|(name, _)| !SHARED.iter().any(|(shared, _)| shared == *name));
    figures.extend(kernel_only.map(|(name, &value)| Figure {
        name: (*name).to_owned(),
        ours: Some(value),
        qemu: None,
    }));
    let exits = ours
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix(EXITS)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .map(|(_, &value)| value)
        .reduce(u64::saturating_add);
    figures.extend(exits.map(|exits| Figure {
        name: EXITS.to_owned(),
        ours: Some(exits),
        qemu: None,
    }));
    figures.extend(QEMU_ONLY.iter().map(|(name, count)| Figure {
        name: (*name).to_owned(),
        ours: None,
        qemu: Some(count(&evidence.trace)),
    }));
    figures
}

/// Where our count and QEMU's differ, and what ours lacks.
pub(crate) fn disagreements(figures: &[Figure]) -> Vec<String> {
    let differing = figures
        .iter()
        .filter(|figure| figure.disagrees())
        .map(|figure| {
            format!(
                "{}: we counted {} and QEMU {}",
                figure.name,
                figure.ours.unwrap_or(0),
                figure.qemu.unwrap_or(0)
            )
        });
    let missing = figures
        .iter()
        .filter(|figure| figure.ours.is_none())
        .filter(|figure| SHARED.iter().any(|(name, _)| *name == figure.name))
        .map(|figure| format!("the kernel reports no figure `{}`", figure.name));
    differing.chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;

    const TRACE: &[&str] = &[
        "vtd_inv_qi_tail write tail 0",
        "vtd_inv_qi_tail write tail 2",
        "vtd_inv_qi_head read head 0",
        "vtd_inv_desc invalidate desc type p-iotlb high 0x0 low 0x6",
        "vtd_inv_qi_head read head 1",
        "vtd_inv_desc invalidate desc type wait high 0x0 low 0x5",
        "vtd_frr_new index 0 high 0xc000000600000020 low 0x9000",
    ];
    const REPORT: &[&str] = &[
        "figure descriptors 2",
        "figure doorbells 1",
        "figure waits 1",
        "figure faults 1",
        "figure exits.hypercall 5",
        "figure exits.hlt 2",
    ];

    #[test]
    fn figures_that_agree_are_no_problem() {
        let figures = figures(&evidence_of(REPORT, TRACE));
        assert_eq!(disagreements(&figures), [""; 0]);
        let of = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap();
        assert_eq!(of("exits").ours, Some(7));
        assert_eq!(of("qemu.pasid-iotlb-invalidations").qemu, Some(1));
        assert_eq!(of("descriptors").qemu, Some(2));
    }

    #[test]
    fn figures_of_a_kernel_and_of_the_next_are_added_up() {
        let report = [
            "program 1 kernel",
            "figure descriptors 9",
            "figure descriptors 1",
            "program 1 kernel",
            "figure descriptors 1",
            "figure doorbells 1",
            "figure waits 1",
            "figure faults 1",
        ];
        let figures = figures(&evidence_of(&report, TRACE));
        assert_eq!(disagreements(&figures), [""; 0]);
    }

    #[test]
    fn a_difference_is_told_with_both_numbers() {
        let mut report = REPORT.to_vec();
        report[0] = "figure descriptors 3";
        assert_eq!(
            disagreements(&figures(&evidence_of(&report, TRACE))),
            ["descriptors: we counted 3 and QEMU 2"]
        );
    }

    #[test]
    fn a_figure_that_is_not_reported_does_not_agree_by_default() {
        assert_eq!(
            disagreements(&figures(&evidence_of(&REPORT[1..], TRACE))),
            ["the kernel reports no figure `descriptors`"]
        );
    }
}
