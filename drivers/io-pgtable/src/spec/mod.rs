//! The layout of paging entries: every field by the specification's name, nothing else.

mod first_stage;
mod second_stage;

pub use first_stage::FirstStageEntry;
pub use second_stage::SecondStageEntry;
