//! The layout of paging entries: every field by the specification's name, nothing else.

mod first_stage;
mod host_permission;
mod second_stage;

pub use first_stage::FirstStageEntry;
pub use host_permission::{PagePermission, PermissionPointer};
pub use second_stage::SecondStageEntry;
