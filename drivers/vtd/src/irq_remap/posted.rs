//! Interrupts that go to a running guest (§5.2): hardware notes the vector in a descriptor in
//! memory, and tells the CPU that there is something, once for as long as nobody has looked.

use crate::tables::posted::PostedControl;
use iommu_core::sync::atomic::{AtomicU64, Ordering};
use iommu_core::{Frame, Hpa, IrqError};

/// Cells of a descriptor, which is as large and as aligned as a cache line.
const DESCRIPTOR_CELLS: usize = 8;

/// Those of them that hold a bit for each vector.
const VECTOR_CELLS: usize = 4;

/// Where an interrupt shall be posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PostedTarget {
    /// The descriptor of the virtual CPU: 64 bytes, aligned to that, which stay there as
    /// long as an entry leads to it and until that is flushed.
    pub descriptor: Hpa,
    /// The vector that the guest sees.
    pub vector: u8,
    /// Notify at once, even where notifications are suppressed.
    pub urgent: bool,
}

/// Why an interrupt cannot be posted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PostError {
    /// The unit cannot post (CAP.PI).
    Unsupported {
        /// The unit.
        unit: u16,
    },
    /// The descriptor is not aligned, or lies beyond the host's physical addresses.
    Descriptor(Hpa),
    /// As for an interrupt that is remapped.
    Irq(IrqError),
}

impl From<IrqError> for PostError {
    fn from(error: IrqError) -> Self {
        Self::Irq(error)
    }
}

impl core::fmt::Display for PostError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unsupported { unit } => {
                write!(f, "unit {unit} cannot post interrupts (CAP.PI = 0)")
            }
            Self::Descriptor(at) => write!(f, "no posted-interrupt descriptor can lie at {at}"),
            Self::Irq(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PostError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Irq(error) => Some(error),
            _ => None,
        }
    }
}

/// A posted-interrupt descriptor in memory, as software uses it while hardware may post.
#[derive(Clone, Copy, Debug)]
pub struct PostedDescriptor<'a> {
    cells: &'a [AtomicU64; DESCRIPTOR_CELLS],
}

impl<'a> PostedDescriptor<'a> {
    /// The `number`-th descriptor of a frame, if it has so many.
    pub fn of_frame(frame: &'a Frame, number: usize) -> Option<Self> {
        let first = number.checked_mul(DESCRIPTOR_CELLS)?;
        let end = first.checked_add(DESCRIPTOR_CELLS)?;
        let cells = frame.cells().get(first..end)?.try_into().ok()?;
        Some(Self { cells })
    }

    fn control(&self) -> &'a AtomicU64 {
        let [_, _, _, _, control, ..] = self.cells;
        control
    }

    /// Empties the descriptor and says whom to notify: a CPU's APIC id, of 32 bits if the
    /// unit remaps in extended mode, and the vector. No entry leads to it yet.
    pub fn prepare(&self, apic_id: u32, extended: bool, vector: u8) {
        for cell in self.cells {
            cell.store(0, Ordering::Relaxed);
        }
        let control = PostedControl::new()
            .with_nv(vector)
            .with_ndst(destination(apic_id, extended));
        self.control().store(control.into_bits(), Ordering::Release);
    }

    /// The virtual CPU moved: notifications go elsewhere from now on.
    pub fn move_to(&self, apic_id: u32, extended: bool) {
        self.change(|control| control.with_ndst(destination(apic_id, extended)));
    }

    /// Notifications come by another vector from now on: one that the CPU itself handles while
    /// the virtual CPU runs, another that wakes the hypervisor while it is halted (§5.2.5).
    pub fn notify_with(&self, vector: u8) {
        self.change(|control| control.with_nv(vector));
    }

    /// Whether something was posted that nobody has taken. Asked after suppression ends and
    /// after the vector was changed, since of what came before nobody may have been told.
    pub fn is_pending(&self) -> bool {
        self.cells
            .iter()
            .take(VECTOR_CELLS)
            .any(|cell| cell.load(Ordering::Acquire) != 0)
    }

    /// Whether hardware notifies of interrupts that are not urgent: not while the virtual CPU
    /// does not run.
    pub fn suppress(&self, suppressed: bool) {
        self.change(|control| control.with_sn(suppressed));
    }

    /// Takes the vectors that were posted, vector 0 first, and lets hardware notify again.
    pub fn take(&self) -> [u64; 4] {
        // ON first: what comes from here on notifies again, and is perhaps taken already.
        self.change(|control| control.with_on(false));
        let mut vectors = [0; 4];
        for (vector, cell) in vectors.iter_mut().zip(self.cells) {
            *vector = cell.swap(0, Ordering::AcqRel);
        }
        vectors
    }

    /// Atomically, because hardware sets ON.
    fn change(&self, change: impl Fn(PostedControl) -> PostedControl) {
        let new = |bits| Some(change(PostedControl::from_bits(bits)).into_bits());
        // The closure always gives a value, so this cannot fail.
        let _ = self
            .control()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, new);
    }
}

fn destination(apic_id: u32, extended: bool) -> u32 {
    if extended {
        apic_id
    } else {
        (apic_id & 0xff) << 8
    }
}
