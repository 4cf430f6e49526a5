//! The hardware model `vtd-model` as a platform for drivers written to `iommu-core`.
//!
//! [`ModelPlatform`] is memory, time and locks; [`ModelMmio`] is a unit's registers. Every
//! store that hardware could see is a step of the model: after it, requests may arrive.
//! Frames that the driver has belong to the host, and to nobody after they were released,
//! so that a device which can still reach one is told at once.
//!
//! What a driver does wrong is found in
//! [`take_violations`](ModelPlatform::take_violations); the machine itself, for requests of
//! devices and for what a test expects, is reached by
//! [`with_machine`](ModelPlatform::with_machine).
//!
//! The memory, the n-th allocation that fails, and the order of locks are those of
//! `test-platform`. It panics where its user breaks a contract. It is for tests only.

mod memory;
mod platform;
mod registers;

pub use platform::ModelPlatform;
pub use registers::ModelMmio;
