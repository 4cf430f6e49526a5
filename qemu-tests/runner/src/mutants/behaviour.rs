//! Which tests judge behaviour. One that compares bits with bits that its author expects
//! knows no more than the author of the code, and may not be named as what catches a mutant.

/// Tests, by how their names begin, that see words and descriptors and no effect.
const COMPARE_BITS: &[(&str, &str)] = &[
    ("vtd::", "a fake unit does not translate"),
    ("io-pgtable::entries::", "entries compared with literals"),
    (
        "io-pgtable::entry::",
        "entries compared with what the author expects",
    ),
    ("vtd-model::golden::", "words compared with literals"),
    ("iommu-abi::", "layouts compared with literals"),
];

/// Why a test may not be named, if it may not.
pub(super) fn objection(test: &str) -> Option<&'static str> {
    COMPARE_BITS
        .iter()
        .find(|(prefix, _)| test.starts_with(prefix))
        .map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compares_bits_is_no_judge_and_what_translates_is() {
        assert!(objection("vtd::golden::iotlb").is_some());
        assert!(objection("vtd-model-platform::model::mapping::a").is_none());
        assert!(objection("io-pgtable::entries::a").is_some());
        assert!(objection("io-pgtable::table::mapping::a").is_none());
        assert!(objection("boot::a").is_none());
    }
}
