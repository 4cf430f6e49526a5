//! The hypervisor's own disk: an NVMe controller, confined to a domain of its own, with an
//! interrupt of its own.

mod interrupt;

use interrupt::DiskInterrupt;

use crate::memory::{MapError, RegisterWindow};
use crate::pci::Bus;
use crate::platform::KernelPlatform;
use crate::remapping::{Driver, Remapping};
use crate::time::KernelClock;
use core::fmt;
use core::sync::atomic::AtomicU64;
use dma::{Coherent, DmaDevice, DmaError};
use iommu_core::{DeviceId, Frame, Iova, IrqError, IrqMessage, Order, Platform};
use nvme::{Completions, Controller, Memory, Namespace, NvmeError, Region};
use pci::{CommandRegister, Config, Function};

static PLATFORM: KernelPlatform = KernelPlatform;

/// A device that only its buffers are mapped for.
pub type Confined = DmaDevice<'static, Driver, KernelPlatform>;

/// Why there is no disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StorageError {
    /// The machine has no NVMe controller.
    NoDevice,
    /// The command line denies it.
    Denied(DeviceId),
    /// Its registers cannot be reached.
    Registers(MapError),
    /// It has no registers.
    NoRegisters,
    /// No vector is left for its interrupt.
    OutOfVectors,
    /// Its interrupt is not remapped.
    Interrupt(IrqError),
    /// No memory that it reaches.
    Dma(DmaError),
    /// It does not work.
    Controller(NvmeError),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDevice => f.write_str("the machine has no NVMe controller"),
            Self::Denied(device) => write!(f, "{device} is denied (deny=)"),
            Self::Registers(error) => write!(f, "the controller's registers: {error}"),
            Self::NoRegisters => f.write_str("the controller has no registers"),
            Self::OutOfVectors => f.write_str("no vector is left for the controller's interrupt"),
            Self::Interrupt(error) => write!(f, "the controller's interrupt: {error:?}"),
            Self::Dma(error) => write!(f, "{error}"),
            Self::Controller(error) => write!(f, "{error}"),
        }
    }
}

impl From<DmaError> for StorageError {
    fn from(error: DmaError) -> Self {
        Self::Dma(error)
    }
}

impl From<NvmeError> for StorageError {
    fn from(error: NvmeError) -> Self {
        Self::Controller(error)
    }
}

/// Pages that driver and controller share: four queues, and what identify answers.
struct Pages([Coherent; 5]);

impl Pages {
    fn new(device: &Confined) -> Result<Self, DmaError> {
        let page = || device.coherent(Order::PAGE);
        Ok(Self([page()?, page()?, page()?, page()?, page()?]))
    }

    fn memory(&self) -> Memory<'_> {
        let [a, b, c, d, e] = &self.0;
        let region = |page| -> Region<'_> {
            let page: &Coherent = page;
            Region {
                cells: page.cells(),
                iova: page.iova(),
            }
        };
        Memory {
            admin_submission: region(a),
            admin_completion: region(b),
            submission: region(c),
            completion: region(d),
            identify: region(e),
        }
    }
}

/// A disk at work. It owns its controller: no guest can get it meanwhile.
pub struct Disk<'p> {
    device: &'p Confined,
    controller: Controller<'p, RegisterWindow, KernelClock>,
    interrupt: Option<&'p DiskInterrupt>,
}

/// Runs `act` with the machine's first NVMe disk, then stops the controller, takes all memory
/// back and leaves the device blocked.
pub fn with_disk<T>(
    bus: &'static Bus,
    remapping: &'static Remapping,
    act: impl FnOnce(&mut Disk<'_>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let function = find(bus).ok_or(StorageError::NoDevice)?;
    if remapping.rules().denied().contains(&function.id) {
        return Err(StorageError::Denied(function.id));
    }
    let bar = function.bar(0).ok_or(StorageError::NoRegisters)?;
    let size = usize::try_from(bar.size).unwrap_or(usize::MAX);
    let window = RegisterWindow::map(bar.base, size).map_err(StorageError::Registers)?;
    let device = Confined::confine(&remapping.driver, &PLATFORM, function.id)?;
    let config = Config::new(&bus.ecam, function.id);
    let before = config.command();
    config
        .set_command(before | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE);
    let result = with_interrupt(bus, remapping, function, |interrupt| {
        with_pages(&device, window, interrupt, act)
    });
    // Stopped or not: from here on it cannot reach anything.
    config.set_command(before.difference(CommandRegister::BUS_MASTER_ENABLE));
    device.release()?;
    result
}

fn with_interrupt<T>(
    bus: &'static Bus,
    remapping: &'static Remapping,
    function: &Function,
    act: impl FnOnce(Option<&DiskInterrupt>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let Some(interrupt) = DiskInterrupt::take(bus, remapping, function)? else {
        defmt::info!(
            "{}: has no interrupt that is remapped; it is polled",
            function.id
        );
        return act(None);
    };
    let result = act(Some(&interrupt));
    interrupt.give_back()?;
    result
}

fn with_pages<T>(
    device: &Confined,
    window: RegisterWindow,
    interrupt: Option<&DiskInterrupt>,
    act: impl FnOnce(&mut Disk<'_>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let pages = Pages::new(device)?;
    let result = on(device, window, &pages, interrupt, act);
    let Pages([a, b, c, d, e]) = pages;
    let back = |page| device.free(page).map_err(|(_, error)| error);
    let frames = device.settle([back(a)?, back(b)?, back(c)?, back(d)?, back(e)?])?;
    frames.into_iter().for_each(|frame| PLATFORM.release(frame));
    result
}

fn on<T>(
    device: &Confined,
    window: RegisterWindow,
    pages: &Pages,
    interrupt: Option<&DiskInterrupt>,
    act: impl FnOnce(&mut Disk<'_>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let for_driver = interrupt.map(DiskInterrupt::for_driver);
    let controller = Controller::start(window, KernelClock, &pages.memory(), for_driver)?;
    let mut disk = Disk {
        device,
        controller,
        interrupt,
    };
    let result = act(&mut disk);
    disk.controller.stop()?;
    result
}

fn find(bus: &Bus) -> Option<&Function> {
    let mut functions = bus.topology.functions().iter();
    functions.find(|function| {
        let class = function.class;
        (class.base, class.sub, class.interface) == nvme::CLASS
    })
}

impl Disk<'_> {
    /// The controller.
    pub fn id(&self) -> DeviceId {
        self.device.id()
    }

    /// What the disk is.
    pub fn namespace(&self) -> Namespace {
        self.controller.namespace()
    }

    /// Memory that the controller may write to; [`take_back`](Self::take_back) returns it.
    pub fn buffer(&self) -> Result<Coherent, StorageError> {
        Ok(self.device.coherent(Order::PAGE)?)
    }

    /// Memory that the controller can reach no more.
    pub fn take_back(&self, buffer: Coherent) -> Result<Frame, StorageError> {
        let returning = self.device.free(buffer).map_err(|(_, error)| error)?;
        let [frame] = self.device.settle([returning])?;
        Ok(frame)
    }

    /// Reads a block into a buffer.
    pub fn read<'b>(
        &mut self,
        block: u64,
        buffer: &'b Coherent,
    ) -> Result<&'b [AtomicU64], StorageError> {
        self.read_to(block, buffer.iova())?;
        let words = self.namespace().block_bytes as usize / 8;
        Ok(buffer.cells().get(..words).unwrap_or_default())
    }

    /// Tells the controller to write a block anywhere: what is not a buffer's is refused by
    /// the remapping unit. For tests.
    pub fn read_to(&mut self, block: u64, to: Iova) -> Result<(), StorageError> {
        let had_interrupt = !self.completions().interrupt_lost;
        let result = self.controller.read(block, to);
        if had_interrupt && self.completions().interrupt_lost {
            defmt::warn!(
                "{}: has completed a read without its interrupt; it is polled from now on",
                self.id()
            );
        }
        Ok(result?)
    }

    /// How reads were completed.
    pub fn completions(&self) -> Completions {
        self.controller.completions()
    }

    /// Makes the disk send another message than its own as its interrupt. For tests: that of
    /// an entry which is not its own is refused.
    pub fn send_interrupts_as(&self, message: IrqMessage) {
        if let Some(interrupt) = self.interrupt {
            interrupt.send(message);
        }
    }
}
