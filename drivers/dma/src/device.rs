//! A device in a domain of its own.

use crate::buffer::{Coherent, Lent, Returning};
use crate::error::DmaError;
use crate::windows::{WINDOW_BYTES, Window, Windows};
use iommu_core::{
    Access, AddressRange, Attachment, Backend, BackendError, Batch, DeviceId, DomainHandle,
    DomainSpec, Frame, MapError, Order, OutOfFrames, Owed, Platform, Run, Slot, TableFormat,
};

/// A device that its driver in the hypervisor confines to its buffers.
pub struct DmaDevice<'d, B, P> {
    backend: &'d B,
    platform: &'d P,
    device: DeviceId,
    domain: DomainHandle,
    windows: Windows,
}

/// First-stage formats need no second table where both exist; more levels are not needed.
const FORMATS: [TableFormat; 4] = [
    TableFormat::FirstStage4,
    TableFormat::SecondStage3,
    TableFormat::SecondStage4,
    TableFormat::SecondStage5,
];

impl<'d, B: Backend, P: Platform> DmaDevice<'d, B, P> {
    /// Confines the device: from here on it reaches nothing but what is mapped for it.
    pub fn confine(backend: &'d B, platform: &'d P, device: DeviceId) -> Result<Self, DmaError> {
        let capabilities = backend.capabilities(device)?;
        let format = FORMATS
            .into_iter()
            .find(|&format| capabilities.supports(format))
            .ok_or(DmaError::NoFormat(device))?;
        let domain = backend.create(device, &DomainSpec::Paging(format))?;
        let confined = Self {
            backend,
            platform,
            device,
            domain,
            windows: Windows::default(),
        };
        let replaced = match backend.replace(confined.slot(), Attachment::Domain(domain)) {
            Ok(replaced) => replaced,
            Err(error) => {
                // Nothing was ever attached to it, so nothing is owed that matters.
                if let Ok(owed) = backend.destroy(domain) {
                    let _ = confined.commit([owed]);
                }
                return Err(error.into());
            }
        };
        confined.commit([replaced.owed])?;
        Ok(confined)
    }

    /// Which device it is.
    pub fn id(&self) -> DeviceId {
        self.device
    }

    /// Zeroed memory of `2^order` pages that driver and device share.
    pub fn coherent(&self, order: Order) -> Result<Coherent, DmaError> {
        check_size(order)?;
        let frame = self.platform.allocate(order)?;
        match self.map(&frame, Access::READ_WRITE) {
            Ok(window) => Ok(Coherent { frame, window }),
            Err(error) => {
                self.platform.release(frame);
                Err(error)
            }
        }
    }

    /// Lends a frame to the device. On error the frame comes back at once.
    pub fn lend(&self, frame: Frame, access: Access) -> Result<Lent, (Frame, DmaError)> {
        if let Err(error) = check_size(frame.order()) {
            return Err((frame, error));
        }
        match self.map(&frame, access) {
            Ok(window) => Ok(Lent { frame, window }),
            Err(error) => Err((frame, error)),
        }
    }

    /// Takes shared memory back, once it is settled.
    pub fn free(&self, buffer: Coherent) -> Result<Returning<'d, B::Debt>, (Coherent, DmaError)> {
        let Coherent { frame, window } = buffer;
        match self.unmap(&frame, &window) {
            Ok(owed) => Ok(Returning {
                frame,
                window,
                owed,
            }),
            Err(error) => Err((Coherent { frame, window }, error)),
        }
    }

    /// Takes a lent frame back, once it is settled.
    pub fn take_back(&self, buffer: Lent) -> Result<Returning<'d, B::Debt>, (Lent, DmaError)> {
        let Lent { frame, window } = buffer;
        match self.unmap(&frame, &window) {
            Ok(owed) => Ok(Returning {
                frame,
                window,
                owed,
            }),
            Err(error) => Err((Lent { frame, window }, error)),
        }
    }

    /// Waits until hardware has forgotten all of these buffers, and gives their frames back:
    /// the device cannot reach them any more. On error the frames are lost, because it may.
    pub fn settle<const N: usize>(
        &self,
        returning: [Returning<'d, B::Debt>; N],
    ) -> Result<[Frame; N], DmaError> {
        let mut frames: arrayvec::ArrayVec<Frame, N> = arrayvec::ArrayVec::new();
        let mut windows: arrayvec::ArrayVec<Window, N> = arrayvec::ArrayVec::new();
        let mut owed: arrayvec::ArrayVec<Owed<'d, B::Debt>, N> = arrayvec::ArrayVec::new();
        for buffer in returning {
            // There is room: N of each.
            let _ = frames.try_push(buffer.frame);
            let _ = windows.try_push(buffer.window);
            let _ = owed.try_push(buffer.owed);
        }
        self.commit(owed)?;
        for window in windows {
            self.windows.give_back(window);
        }
        let no_memory = |_| DmaError::OutOfFrames(OutOfFrames { order: Order::PAGE });
        frames.into_inner().map_err(no_memory)
    }

    /// Blocks the device and gives its domain up. Buffers that were not taken back are lost:
    /// they stay with the driver that forgot them.
    pub fn release(self) -> Result<(), DmaError> {
        let replaced = self.backend.replace(self.slot(), Attachment::Blocked)?;
        self.commit([replaced.owed])?;
        let owed = self.backend.destroy(self.domain)?;
        self.commit([owed])
    }

    fn slot(&self) -> Slot {
        Slot {
            device: self.device,
            pasid: None,
        }
    }

    fn map(&self, frame: &Frame, access: Access) -> Result<Window, DmaError> {
        let window = self.windows.take().ok_or(DmaError::TooMany)?;
        let run = Run {
            hpa: frame.hpa(),
            pages: frame.order().pages(),
        };
        let mapped = self
            .backend
            .map(self.domain, window.address(), &[run], access)
            .map_err(DmaError::Map)
            .and_then(|owed| self.commit([owed]));
        match mapped {
            Ok(()) => Ok(window),
            // What a unit may remember of it is nothing: it refused, or it was told nothing.
            Err(error @ DmaError::Map(_)) => {
                self.windows.give_back(window);
                Err(error)
            }
            // The window is not used again: the unit may know it.
            Err(error) => Err(error),
        }
    }

    fn unmap(&self, frame: &Frame, window: &Window) -> Result<Owed<'d, B::Debt>, DmaError> {
        let range = AddressRange::of_bytes(window.address(), frame.order().bytes())
            .map_err(|_| DmaError::Map(MapError::Malformed))?;
        Ok(self.backend.unmap(self.domain, range)?)
    }

    fn commit(
        &self,
        owed: impl IntoIterator<Item = Owed<'d, B::Debt>, IntoIter: ExactSizeIterator>,
    ) -> Result<(), DmaError> {
        let owed = owed.into_iter();
        let no_memory = BackendError::OutOfFrames(OutOfFrames { order: Order::PAGE });
        let mut batch = Batch::with_capacity(owed.len()).ok_or(no_memory)?;
        for debt in owed {
            // There is room for all of them.
            let _ = batch.add(debt);
        }
        let mut flushed = self.backend.commit(&mut batch).map_err(DmaError::Flush)?;
        while let Some(frame) = flushed.frames.pop() {
            self.platform.release(frame);
        }
        Ok(())
    }
}

fn check_size(order: Order) -> Result<(), DmaError> {
    if order.bytes() > WINDOW_BYTES {
        return Err(DmaError::TooLarge(order));
    }
    Ok(())
}
