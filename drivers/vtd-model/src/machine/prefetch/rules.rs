//! What software owes the caches about domain ids (§6.2.2.1, §6.2.3.1), checked over the
//! entries that stand in memory.

use super::attachment::{Attachment, Kind};
use crate::config::Config;
use crate::tables::context::TranslationType;
use crate::tables::pasid::Entry;

/// The first rule that two entries break together, or one alone, with its section.
pub(super) fn broken(
    all: &[Attachment],
    one: &Attachment,
    config: &Config,
) -> Option<(&'static str, String)> {
    if config.caching_mode && one.domain() == 0 {
        let section = if matches!(one.kind, Kind::Legacy(_)) {
            "§6.2.2.1"
        } else {
            "§6.2.3.1"
        };
        return Some((section, "domain id 0 is used, and CM is 1".to_owned()));
    }
    if let Some(broken) = all.iter().find_map(|other| permissions(other, one)) {
        return Some(("§6.2.6.2", broken));
    }
    all.iter().find_map(|other| match (&one.kind, &other.kind) {
        (Kind::Legacy(left), Kind::Legacy(right)) => {
            let tables = left.kind != TranslationType::PassThrough
                && right.kind != TranslationType::PassThrough;
            let alike = (left.table, left.levels) == (right.table, right.levels);
            let clash = tables && left.domain == right.domain && !alike;
            clash.then(|| {
                (
                    "§6.2.2.1",
                    format!(
                        "domain {:#x} has tables at {:#x} and at {:#x}",
                        left.domain, left.table, right.table
                    ),
                )
            })
        }
        (Kind::Scalable(left), Kind::Scalable(right)) => {
            scalable(left, right, one.tag == other.tag)
                .map(|rule| ("§6.2.3.1", format!("domain {:#x}: {rule}", left.domain)))
        }
        _ => None,
    })
}

fn permissions(left: &Attachment, right: &Attachment) -> Option<String> {
    let (left, right) = (left.guard?.root, right.guard?.root);
    let alike = (left.table, left.size) == (right.table, right.size);
    (left.domain == right.domain && !alike).then(|| {
        format!(
            "HPT domain {:#x} has tables at {:#x} and at {:#x}, or of two sizes",
            left.domain, left.table, right.table
        )
    })
}

fn scalable(left: &Entry, right: &Entry, same_pasid: bool) -> Option<&'static str> {
    let second = left.kind.has_second() && right.kind.has_second();
    if second && left.second_table == right.second_table && left.second_dirty != right.second_dirty
    {
        return Some("one SSPTPTR with and without SSADE");
    }
    if left.domain != right.domain {
        return None;
    }
    if left.kind.has_second() != right.kind.has_second() {
        return Some(
            "first-stage or pass-through entries share a domain id with second-stage or nested ones",
        );
    }
    if second
        && (left.second_table, left.second_levels) != (right.second_table, right.second_levels)
    {
        return Some("two values of SSPTPTR or AW");
    }
    let first = |entry: &Entry| (entry.kind, entry.first_table, entry.first_levels);
    if same_pasid && left.kind.has_first() && first(left) != first(right) {
        return Some("one PASID with two values of PGTT, FSPTPTR or FSPM");
    }
    None
}
