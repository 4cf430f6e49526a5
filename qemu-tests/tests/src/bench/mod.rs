//! What tests work with: the machine, a device that does DMA, domains, pages, faults.

mod copier;
mod domain;
mod faults;
mod guests;
mod hand_over;
mod interrupts;
mod lines;
mod page;
mod prober;
mod screen;
mod unit;

pub(crate) use copier::Copier;
pub(crate) use domain::Domain;
pub(crate) use faults::{BLOCKED, NOT_MAPPED, WRITE_DENIED, refused_by_entry};
pub(crate) use guests::{end, run_in, verdict};
pub(crate) use hand_over::LeftBehind;
pub(crate) use interrupts::{Counter, Line};
pub(crate) use lines::LineCounter;
pub(crate) use page::{Block, Page};
pub(crate) use prober::{Arrival, Prober};

use alloc::vec::Vec;
use kernel::archive::Archive;
use kernel::demonstration;
use kernel::guest::{self, Guest, Order};
use kernel::host::{self, Host};
use kernel::log::report;
use kernel::platform::KernelPlatform;
use kernel::remapping::Driver;
use kernel::start::Machine;

use iommu_core::{DeviceId, Iova, PAGE_SIZE};

use crate::check::Deviation;

/// One boot's machine and what was made of it so far.
pub(crate) struct Bench {
    machine: Machine,
    host: Option<Host>,
    random: fastrand::Rng,
}

impl Bench {
    /// Nothing is done yet: remapping starts when a test first asks for it.
    pub(crate) fn new(machine: Machine) -> Self {
        let mut bench = Self {
            machine,
            host: None,
            random: fastrand::Rng::with_seed(0),
        };
        bench.random.seed(bench.seed());
        bench
    }

    /// The machine with its units at work. A machine that has none ends the boot.
    pub(crate) fn host(&mut self) -> Host {
        *self
            .host
            .get_or_insert_with(|| host::start_or_exit(&self.machine))
    }

    /// What a test chooses by: it follows from the seed.
    pub(crate) fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// The driver at work.
    pub(crate) fn driver(&mut self) -> &'static Driver {
        &self.host().remapping.driver
    }

    /// The `edu` device.
    pub(crate) fn copier(&mut self) -> Result<Copier, Deviation> {
        Copier::find(self.host().bus)
    }

    /// All `edu` devices, at least so many.
    pub(crate) fn copiers(&mut self, least: usize) -> Result<Vec<DeviceId>, Deviation> {
        let functions = self.host().bus.topology.functions().iter();
        let copiers = functions
            .filter(|function| (function.vendor, function.device) == (edu::VENDOR, edu::DEVICE));
        let copiers: Vec<DeviceId> = copiers.map(|function| function.id).collect();
        match copiers.len() {
            found if found < least => Err(Deviation::failed(format_args!(
                "the machine has {found} edu devices, not {least}"
            ))),
            _ => Ok(copiers),
        }
    }

    /// The boot module's files.
    pub(crate) fn archive(&self) -> &Archive<'static> {
        &self.machine.archive
    }

    /// The `edu` device of this id.
    pub(crate) fn copier_of(&mut self, id: DeviceId) -> Result<Copier, Deviation> {
        Copier::find_by_id(self.host().bus, id)
    }

    /// The `iommu-testdev` device.
    pub(crate) fn prober(&mut self) -> Result<Prober, Deviation> {
        Prober::find(self.host().bus)
    }

    /// Some device that is not this one.
    pub(crate) fn another_device(&mut self, than: DeviceId) -> Result<DeviceId, Deviation> {
        let functions = self.host().bus.topology.functions();
        let mut others = functions.iter().map(|function| function.id);
        others
            .rfind(|&id| id != than)
            .ok_or_else(|| Deviation::failed(format_args!("the machine has one device only")))
    }

    /// An empty domain for a device, in the format of the unit's mode.
    pub(crate) fn domain(&mut self, device: DeviceId) -> Result<Domain, Deviation> {
        Domain::create(self.driver(), device)
    }

    /// A page of random bytes.
    pub(crate) fn page(&mut self) -> Result<Page, Deviation> {
        Page::random(&mut self.random)
    }

    /// So many pages (by their binary logarithm) of zeroes that lie beside each other.
    pub(crate) fn block_of_pages(&mut self, log2: u8) -> Result<Block, Deviation> {
        Block::zeroed(log2)
    }

    /// A random page-aligned address that a domain can translate: not 0, and not where
    /// interrupt requests go.
    pub(crate) fn address(&mut self, domain: &Domain) -> Iova {
        let last = domain.last_page();
        loop {
            let address = self.random.u64(1..=last) * PAGE_SIZE;
            if address >> 20 != 0xfee {
                return Iova::new(address);
            }
        }
    }

    /// What all random choices of this boot follow from.
    pub(crate) fn seed(&self) -> u64 {
        self.machine.command_line.seed.unwrap_or(0)
    }

    /// A guest that has its device and does not run yet.
    pub(crate) fn guest(&mut self, order: &Order) -> Result<Guest, Deviation> {
        let host = self.host();
        guest::start(&host, &self.machine.archive, order)
            .map_err(|error| Deviation::failed(format_args!("no guest: {error}")))
    }

    /// Figures at the end, as the runner holds them against QEMU's.
    pub(crate) fn report_figures(&self) {
        match &self.host {
            Some(host) => demonstration::figures(host),
            // No unit was touched.
            None => {
                for name in ["descriptors", "doorbells", "waits", "faults"] {
                    report::figure(name, 0);
                }
            }
        }
    }
}

/// The platform, which is always there.
pub(crate) const PLATFORM: KernelPlatform = KernelPlatform;
