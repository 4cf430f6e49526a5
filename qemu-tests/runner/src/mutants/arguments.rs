//! The words of the command.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only mutants of these names, or whose names contain them.
    pub(crate) names: Vec<String>,
    /// Only print which there are: what each does, and what must notice it.
    #[arg(long)]
    pub(crate) list: bool,
    /// Try those again that were caught before in the same sources.
    #[arg(long)]
    pub(crate) again: bool,
    /// Run all tests of the programs that the mutants name, and print which of them notice: to
    /// find what belongs under `caught_by`.
    #[arg(long)]
    pub(crate) suggest: bool,
    /// In place of the list: all that cargo-mutants can think of in `vtd`, `iommu` and
    /// `io-pgtable`, or in the files whose paths contain the names. Goes on where it stopped.
    #[arg(long)]
    pub(crate) sweep: bool,
    /// After how long no further file is swept.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) minutes: u64,
    /// Mutants at a time, each in a copy of the workspace of its own.
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}
