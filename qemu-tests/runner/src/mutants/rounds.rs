//! What is swept, and which tests its changes meet, in which order.

/// A crate that is swept, and what its changes meet.
#[derive(Debug)]
pub(super) struct Swept {
    pub(super) directory: &'static str,
    pub(super) package: &'static str,
    /// Each with what the ones before it did not notice.
    pub(super) rounds: &'static [Round],
}

/// Tests that are built and run together.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) package: &'static str,
    /// Which of the package's, in the words of `cargo test`. Never its examples and doctests,
    /// which show how it is used, and take as long to build.
    pub(super) targets: &'static [&'static str],
    /// Seconds after which they hang: several times what they take on two busy cores.
    pub(super) limit: &'static str,
}

const MODEL: Round = Round {
    package: "vtd-model-platform",
    targets: &["--test=model"],
    limit: "900",
};
const INTERLEAVINGS: Round = Round {
    package: "vtd-model-platform",
    targets: &["--test=interleavings"],
    limit: "120",
};

/// Those whose tests take least come first.
pub(super) const CRATES: &[Swept] = &[
    Swept {
        directory: "drivers/dmar",
        package: "dmar",
        rounds: &[Round {
            package: "dmar",
            targets: &["--tests"],
            limit: "300",
        }],
    },
    Swept {
        directory: "drivers/io-pgtable",
        package: "io-pgtable",
        rounds: &[Round {
            package: "io-pgtable",
            targets: &["--tests"],
            limit: "300",
        }],
    },
    Swept {
        directory: "drivers/iommu",
        package: "iommu",
        // It has many test programs. These few take seconds, and notice most changes.
        rounds: &[
            Round {
                package: "iommu",
                targets: &[
                    "--lib",
                    "--test=managed",
                    "--test=nesting",
                    "--test=objects",
                    "--test=pasid_tables",
                    "--test=queues",
                    "--test=rings",
                ],
                limit: "60",
            },
            Round {
                package: "iommu",
                targets: &["--tests"],
                limit: "300",
            },
            MODEL,
            INTERLEAVINGS,
        ],
    },
    Swept {
        directory: "drivers/vtd",
        package: "vtd",
        rounds: &[
            Round {
                package: "vtd",
                targets: &["--tests"],
                limit: "60",
            },
            MODEL,
            INTERLEAVINGS,
        ],
    },
];

/// What no plain build has: code for `loom` alone.
pub(super) const NOT_BUILT: &str = "drivers/vtd/src/queue/interleavings{.rs,/**}";
