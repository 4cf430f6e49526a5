//! A real device in a guest: its registers mapped, its configuration space mediated, its
//! interrupt turned into a virtual one.

mod config;
mod line;

pub use config::{Access, BarWindow, ConfigSpace, Function, FunctionError};
pub use line::InterruptLine;

use iommu_core::{DeviceId, IrqMessage, SourceId};

/// A device that a guest owns.
pub struct PassthroughDevice {
    id: DeviceId,
    virtual_id: SourceId,
    config: ConfigSpace,
    line: &'static InterruptLine,
    message: IrqMessage,
}

impl PassthroughDevice {
    /// A device that the guest finds at `virtual_id`, whose interrupt, sent as `message`,
    /// arrives on `line`.
    pub fn new(
        id: DeviceId,
        virtual_id: SourceId,
        function: Function,
        line: &'static InterruptLine,
        message: IrqMessage,
    ) -> Self {
        Self {
            id,
            virtual_id,
            config: ConfigSpace::new(function, line, message),
            line,
            message,
        }
    }

    /// The device in the host.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Where the guest finds it.
    pub fn virtual_id(&self) -> SourceId {
        self.virtual_id
    }

    /// Its configuration space, as the guest sees it.
    pub fn config(&self) -> &ConfigSpace {
        &self.config
    }

    /// Its interrupt.
    pub fn line(&self) -> &'static InterruptLine {
        self.line
    }

    /// The message that raises its interrupt: what no guest sees.
    pub fn message(&self) -> IrqMessage {
        self.message
    }
}
