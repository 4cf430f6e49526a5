//! Why a buffer cannot be had.

use core::fmt;
use iommu_core::{BackendError, DeviceId, FlushError, MapError, Order, OutOfFrames};

/// Why a device cannot be driven, or a buffer cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaError {
    /// The device's unit has no table format that the driver could use.
    NoFormat(DeviceId),
    /// The back-end refused.
    Backend(BackendError),
    /// The buffer cannot be mapped.
    Map(MapError),
    /// A buffer can have [`WINDOW_BYTES`](crate::WINDOW_BYTES) at most.
    TooLarge(Order),
    /// The device has as many buffers as it can have.
    TooMany,
    /// No memory.
    OutOfFrames(OutOfFrames),
    /// Hardware did not confirm that it forgot a buffer. Its frame is lost for good.
    Flush(FlushError),
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFormat(device) => write!(f, "no table format can be used for {device}"),
            Self::Backend(error) => write!(f, "the remapping driver refused: {error:?}"),
            Self::Map(error) => write!(f, "a buffer cannot be mapped: {error:?}"),
            Self::TooLarge(order) => {
                write!(f, "a buffer of 2^{} pages is too large", order.log2())
            }
            Self::TooMany => f.write_str("the device has too many buffers"),
            Self::OutOfFrames(error) => write!(f, "{error}"),
            Self::Flush(error) => write!(f, "hardware did not confirm a flush: {error:?}"),
        }
    }
}

impl core::error::Error for DmaError {}

impl From<BackendError> for DmaError {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<MapError> for DmaError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<OutOfFrames> for DmaError {
    fn from(error: OutOfFrames) -> Self {
        Self::OutOfFrames(error)
    }
}
