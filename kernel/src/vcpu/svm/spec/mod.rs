//! The virtual machine control block (APM 2, appendix B). Layout only.

mod control;
mod exit;
mod save;

pub use control::{
    ControlArea, EventInjection, EventType, Instructions1, Instructions2, InterruptControl,
    InterruptShadow, NestedControl, TlbControl,
};
pub use exit::{ExitCode, PortAccess};
pub use save::{SaveArea, SegmentRegister};

/// A virtual machine control block: one page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Vmcb {
    /// What is intercepted, and why the guest was left.
    pub control: ControlArea,
    /// The guest's registers.
    pub save: SaveArea,
}

const _: () = {
    assert!(size_of::<Vmcb>() == 4096);
    assert!(core::mem::offset_of!(Vmcb, save) == 0x400);
};
