//! A hostile guest, judged without its word and almost without the kernel's: the kernel says
//! which memory it gave it, and QEMU's trace, where its device's requests led.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::{number, source};
use crate::boot::Evidence;
use crate::wire::Line;

/// As its witnesses are called.
const ID: &str = "hostile";
const PAGE: u64 = 4096;

/// What was seen of a hostile guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Pages that its device reached, by QEMU's trace.
    pub(crate) reached: usize,
    /// Requests of its device that were refused and recorded.
    pub(crate) refused: usize,
    /// What speaks against its containment.
    pub(crate) problems: Vec<String>,
}

impl Neighbour {
    /// What was seen; `None` if there was no hostile guest.
    pub(crate) fn of(evidence: &Evidence) -> Option<Self> {
        let mut its = Belongings::default();
        for line in &evidence.heard.report {
            if let Line::Witness { id, values } = line
                && id == ID
            {
                its.take(values);
            }
        }
        (its.witnesses > 0).then(|| its.against(evidence))
    }

    /// What is missing of a demonstration: a device that never reached anything, or was never
    /// refused anything, shows nothing.
    pub(crate) fn idle(&self) -> Vec<String> {
        let mut idle = Vec::new();
        if self.reached == 0 {
            idle.push("the hostile guest's device never reached its own memory".to_owned());
        }
        if self.refused == 0 {
            idle.push("the hostile guest's device was never refused anything".to_owned());
        }
        idle
    }
}

/// What the kernel says that it gave to the guest, in all of its lives.
#[derive(Default)]
struct Belongings {
    witnesses: usize,
    sources: BTreeSet<u16>,
    pages: BTreeSet<u64>,
    problems: Vec<String>,
}

impl Belongings {
    fn take(&mut self, values: &BTreeMap<String, String>) {
        self.witnesses += 1;
        if values.get("verdict").map(String::as_str) != Some("pass") {
            self.problems
                .push(format!("hostile guest: the hypervisor saw {values:?}"));
        }
        let Some(owns) = values.get("owns") else {
            return;
        };
        let of = values.get("source").and_then(|text| source(text));
        let ranges: Option<Vec<(u64, u64)>> = owns.split(',').map(range).collect();
        match (of, ranges) {
            (Some(of), Some(ranges)) => {
                self.sources.insert(of);
                let pages = ranges
                    .into_iter()
                    .flat_map(|(first, count)| (0..count).map(move |n| first + n * PAGE));
                self.pages.extend(pages);
            }
            _ => self
                .problems
                .push(format!("hostile guest: not understood: {values:?}")),
        }
    }

    fn against(self, evidence: &Evidence) -> Neighbour {
        let trace = &evidence.trace;
        let mut neighbour = Neighbour {
            problems: self.problems,
            ..Neighbour::default()
        };
        for &(of, page) in trace.translated() {
            if !self.sources.contains(&of) {
                continue;
            }
            neighbour.reached += 1;
            if !self.pages.contains(&page) {
                neighbour.problems.push(format!(
                    "hostile guest: its device {of:#06x} reached {page:#x}, which it never had"
                ));
            }
        }
        let recorded = trace.recorded().iter();
        neighbour.refused = recorded
            .filter(|fault| self.sources.contains(&fault.source))
            .count();
        neighbour
    }
}

/// First page and number of pages, of `FIRST+PAGES`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (first, pages) = text.split_once('+')?;
    Some((number(first)?, number(pages)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;

    const BORN: &str = "witness hostile verdict=pass source=00:06.0 owns=0x5000+2,0x9000+1";
    const DEAD: &str = "witness hostile verdict=pass canaries=whole hypercalls=9";
    const INSIDE: &str =
        "vtd_iotlb_page_update IOTLB page update sid 0x30 iova 0x1000 slpte 0x6003 domain 0x2";
    const REFUSED: &str = "vtd_frr_new index 0 high 0xc000007100000030 low 0x5000";

    fn seen(report: &[&str], trace: &[&str]) -> Neighbour {
        Neighbour::of(&evidence_of(report, trace)).unwrap()
    }

    #[test]
    fn a_device_that_reaches_what_is_its_guest_s_is_contained() {
        let neighbour = seen(&[BORN, DEAD], &[INSIDE, REFUSED]);
        assert_eq!(neighbour.problems, [""; 0]);
        assert_eq!((neighbour.reached, neighbour.refused), (1, 1));
        assert_eq!(neighbour.idle(), [""; 0]);
    }

    #[test]
    fn a_page_that_was_never_its_is_a_problem_and_another_device_s_is_not() {
        let outside = INSIDE.replace("0x6003", "0x7003");
        assert_eq!(seen(&[BORN], &[INSIDE, &outside]).problems.len(), 1);
        let another = outside.replace("0x30", "0x20");
        let neighbour = seen(&[BORN], &[INSIDE, &another]);
        assert_eq!((neighbour.problems.len(), neighbour.reached), (0, 1));
    }

    #[test]
    fn what_the_hypervisor_saw_and_what_is_not_understood_are_problems() {
        let broken = DEAD.replace("pass", "fail");
        assert_eq!(seen(&[BORN, &broken], &[]).problems.len(), 1);
        let strange = BORN.replace("+1", "");
        assert_eq!(seen(&[&strange], &[]).problems.len(), 1);
    }

    #[test]
    fn a_hostile_guest_that_did_nothing_shows_nothing() {
        assert_eq!(seen(&[BORN], &[]).idle().len(), 2);
        assert_eq!(seen(&[BORN], &[INSIDE]).idle().len(), 1);
        assert_eq!(Neighbour::of(&evidence_of(&["exit ok"], &[INSIDE])), None);
    }
}
