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
    /// Mutants at a time, each in a copy of the workspace of its own.
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
}
