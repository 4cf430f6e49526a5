//! What one case is made of. A case is data: it can be shrunk, printed and repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::bench::{QUEUE, ROM_TARGETS, Rig, SCRATCH};
use crate::memory::is_ram;

/// Which way of the unit a case is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// Legacy tables, second stage.
    Legacy,
    /// Pass-through by a legacy context entry or a PASID entry.
    PassThrough,
    /// Scalable tables, second stage, PASID 0.
    Second,
    /// Scalable tables, first stage, PASID 0.
    First,
    /// Either stage by the PASID that the context entry names.
    RidPasid,
    /// Interrupt remapping with 8-bit APIC ids.
    Xapic,
    /// Interrupt remapping with 32-bit APIC ids.
    X2apic,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Legacy,
        Self::PassThrough,
        Self::Second,
        Self::First,
        Self::RidPasid,
        Self::Xapic,
        Self::X2apic,
    ];

    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy second stage",
            Self::PassThrough => "pass-through",
            Self::Second => "scalable second stage",
            Self::First => "scalable first stage",
            Self::RidPasid => "RID_PASID",
            Self::Xapic => "interrupts, xAPIC",
            Self::X2apic => "interrupts, x2APIC",
        }
    }

    /// Whether DMA is remapped; otherwise interrupts are.
    pub fn is_dma(self) -> bool {
        !matches!(self, Self::Xapic | Self::X2apic)
    }
}

/// A device of the bench.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Device {
    /// `edu` at 00:04.0.
    Low,
    /// `edu` at 00:14.0, whose context entry lies behind the upper half of a scalable root
    /// entry.
    High,
    /// At 00:05.0 `iommu-testdev`, where QEMU has it, else another `edu`. Writes only.
    Tester,
}

impl Device {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Low, Self::High, Self::Tester];

    /// Bus, device and function.
    pub const fn source(self) -> u16 {
        match self {
            Self::Low => 0x20,
            Self::High => 0xa0,
            Self::Tester => 0x28,
        }
    }
}

/// An invalidation descriptor; the upper half exists in a 256-bit queue only.
pub type Descriptor = [u64; 4];

/// How a device sends an interrupt request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// As its MSI.
    Message,
    /// As a DMA write.
    Write,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Software stores a word of a table.
    Store {
        /// Host physical address.
        at: u64,
        /// The word.
        value: u64,
    },
    /// Software queues descriptors and a wait after them.
    Invalidate(Vec<Descriptor>),
    /// A device reads or writes four bytes.
    Dma {
        /// Which.
        device: Device,
        /// A write.
        write: bool,
        /// Input address, a multiple of 4.
        address: u64,
    },
    /// A device sends an interrupt request.
    Interrupt {
        /// Which; not the tester.
        device: Device,
        /// Address in FEEx_xxxxh.
        address: u32,
        /// Data.
        data: u32,
        /// How.
        sending: Sending,
    },
}

/// Tables, registers and steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Number within the campaign.
    pub number: u64,
    /// What it was made to show.
    pub intent: &'static str,
    /// Its mode.
    pub mode: Mode,
    /// The machine that it needs.
    pub rig: Rig,
    /// RTADDR.
    pub root: u64,
    /// IRTA; with it remapping of interrupts is on.
    pub interrupts: Option<u64>,
    /// Words of memory at the start that are not 0.
    pub memory: BTreeMap<u64, u64>,
    /// Frames that hold tables.
    pub tables: BTreeSet<u64>,
    /// Pages and superpages that leaves lead to.
    pub targets: BTreeSet<u64>,
    /// What happens then.
    pub steps: Vec<Step>,
}

impl Case {
    /// Cells of memory that a request for an address might reach: what each leaf, of whatever
    /// size, or pass-through could make of it.
    pub(crate) fn cells(&self, address: u64) -> BTreeSet<u64> {
        let mut cells = self.all_cells(address);
        cells.retain(|cell| self.is_free(*cell));
        cells
    }

    fn all_cells(&self, address: u64) -> BTreeSet<u64> {
        let mut cells = BTreeSet::from([address]);
        for target in self.targets.iter().chain([&ROM_TARGETS]) {
            for shift in [12, 21, 30] {
                let mask = (1 << shift) - 1;
                cells.insert(target & !mask | address & mask);
            }
        }
        cells
    }

    /// Whether a cell holds nothing that the case needs.
    pub(crate) fn is_free(&self, cell: u64) -> bool {
        let page = cell & !0xfff;
        let ours = (QUEUE..SCRATCH + 0x1000).contains(&cell);
        is_ram(cell) && page >= ROM_TARGETS && !ours && !self.tables.contains(&page)
    }

    /// Whether no request might change what the case needs.
    pub(crate) fn is_sound(&self) -> bool {
        self.steps.iter().all(|step| match step {
            Step::Dma { address, .. } => {
                let mut cells = self.all_cells(*address);
                cells.retain(|cell| is_ram(*cell));
                cells.iter().all(|cell| self.is_free(*cell))
            }
            _ => true,
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "case {}: {}, {} ({:?})",
            self.number,
            self.mode.name(),
            self.intent,
            self.rig
        )?;
        for (at, value) in &self.memory {
            writeln!(f, "  memory  {at:#012x} = {value:#018x}")?;
        }
        writeln!(f, "  RTADDR  {:#x}", self.root)?;
        if let Some(table) = self.interrupts {
            writeln!(f, "  IRTA    {table:#x}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "  step {number}  {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store { at, value } => write!(f, "store {at:#x} = {value:#x}"),
            Self::Invalidate(descriptors) => {
                write!(f, "invalidate")?;
                for words in descriptors {
                    write!(f, " [{:#x} {:#x}", words[0], words[1])?;
                    if words[2] | words[3] != 0 {
                        write!(f, " {:#x} {:#x}", words[2], words[3])?;
                    }
                    write!(f, "]")?;
                }
                Ok(())
            }
            Self::Dma {
                device,
                write,
                address,
            } => {
                let verb = if *write { "writes" } else { "reads" };
                write!(f, "{:02x}:{} {verb} {address:#x}", 0, name(*device))
            }
            Self::Interrupt {
                device,
                address,
                data,
                sending,
            } => write!(
                f,
                "00:{} sends {address:#x} data {data:#x} as {}",
                name(*device),
                match sending {
                    Sending::Message => "MSI",
                    Sending::Write => "DMA write",
                }
            ),
        }
    }
}

fn name(device: Device) -> String {
    let source = device.source();
    format!("{:02x}.{}", source >> 3, source & 7)
}
