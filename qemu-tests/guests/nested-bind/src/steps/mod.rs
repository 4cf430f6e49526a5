//! The steps. Each refusal stands beside a permitted twin that differs in one thing.

pub(crate) mod bind;
pub(crate) mod calls;
pub(crate) mod change;
pub(crate) mod interrupt;
pub(crate) mod pasid;
pub(crate) mod refuse;
