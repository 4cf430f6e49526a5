//! The words of the command.

use clap::Args;

use super::shard::Shard;

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
    /// In place of the list: all that cargo-mutants can think of in `dmar`, `io-pgtable`,
    /// `iommu` and `vtd`, or in the files whose paths contain the names. Goes on where it
    /// stopped.
    #[arg(long)]
    pub(crate) sweep: bool,
    /// Of the sweep only a sample: K/N is one change in N, the Kth of them, from 0 to N - 1.
    #[arg(long, value_name = "K/N", requires = "sweep")]
    pub(crate) shard: Option<Shard>,
    /// After how long no further portion is swept.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) minutes: u64,
    /// Mutants at a time, each in a copy of the workspace of its own.
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}
