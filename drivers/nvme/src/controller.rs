//! From registers to blocks.

use crate::Clock;
use crate::completion::{Completions, Interrupt, Look, Waiting};
use crate::queue::{COMMAND_WORDS, ENTRIES, Pair, Region};
use crate::spec::{
    Aqa, BlockFormat, Cap, Cc, Command0, CommandPair, CreateQueue10, CreateQueue11, Csts, offset,
    opcode,
};
use core::fmt;
use core::sync::atomic::Ordering;
use iommu_core::{Iova, Mmio, Nanoseconds};

/// How long a command may take.
const PATIENCE: Nanoseconds = Nanoseconds::from_millis(5_000);
/// Milliseconds of a unit of CAP.TO.
const TIMEOUT_UNIT: u64 = 500;
/// The only namespace that is used.
const NAMESPACE: u32 = 1;

/// Memory that the driver works with: a page each.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'m> {
    /// Admin submission queue.
    pub admin_submission: Region<'m>,
    /// Admin completion queue.
    pub admin_completion: Region<'m>,
    /// I/O submission queue.
    pub submission: Region<'m>,
    /// I/O completion queue.
    pub completion: Region<'m>,
    /// What identify answers.
    pub identify: Region<'m>,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NvmeError {
    /// No controller answers, or not one that this driver can drive.
    NoController,
    /// It says that it is broken (CSTS.CFS).
    Fatal,
    /// It did not become ready, or did not stop, in time.
    NotReady,
    /// It did not complete a command in time.
    NoCompletion,
    /// It completed a command that was not under way.
    WrongCompletion {
        /// The one that was.
        wanted: u16,
        /// What came.
        found: u16,
    },
    /// It refused a command, with this status.
    Refused(u16),
    /// Its namespace has no blocks, or blocks that do not fit a page.
    NoBlocks,
}

impl fmt::Display for NvmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoController => f.write_str("no NVMe controller that can be driven"),
            Self::Fatal => f.write_str("the controller says that it is broken"),
            Self::NotReady => f.write_str("the controller does not become ready"),
            Self::NoCompletion => f.write_str("the controller does not complete a command"),
            Self::WrongCompletion { wanted, found } => {
                write!(
                    f,
                    "the controller completed command {found} and not {wanted}"
                )
            }
            Self::Refused(status) => {
                write!(f, "the controller refused a command, status {status:#x}")
            }
            Self::NoBlocks => f.write_str("the namespace has no blocks that fit a page"),
        }
    }
}

impl core::error::Error for NvmeError {}

/// What identify says of the namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
}

/// A controller at work.
pub struct Controller<'m, M, C> {
    registers: M,
    clock: C,
    stride: usize,
    admin: Pair<'m>,
    io: Pair<'m>,
    waiting: Waiting<'m>,
    namespace: Namespace,
}

impl<'m, M: Mmio, C: Clock> Controller<'m, M, C> {
    /// Resets the controller, gives it its queues and looks at its namespace. Reads are awaited
    /// by the interrupt, if there is one: its message is programmed already.
    pub fn start(
        registers: M,
        clock: C,
        memory: &Memory<'m>,
        interrupt: Option<Interrupt<'m>>,
    ) -> Result<Self, NvmeError> {
        let cap = Cap::from_bits(registers.read64(offset::CAP));
        let is_absent = cap.into_bits() == u64::MAX || cap.into_bits() == 0;
        if is_absent || cap.mpsmin() > 0 || cap.mqes() < ENTRIES {
            return Err(NvmeError::NoController);
        }
        let mut controller = Self {
            registers,
            clock,
            stride: 4usize.checked_shl(cap.dstrd().into()).unwrap_or(4),
            admin: Pair::new(0, memory.admin_submission, memory.admin_completion),
            io: Pair::new(1, memory.submission, memory.completion),
            waiting: Waiting::new(interrupt),
            namespace: Namespace {
                blocks: 0,
                block_bytes: 0,
            },
        };
        let limit = Nanoseconds::from_millis(
            u64::from(cap.to())
                .saturating_add(1)
                .saturating_mul(TIMEOUT_UNIT),
        );
        controller.enable(limit)?;
        controller.create_queues()?;
        controller.namespace = controller.identify(&memory.identify)?;
        Ok(controller)
    }

    /// What its namespace is.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// How reads were completed until now.
    pub fn completions(&self) -> Completions {
        self.waiting.completions()
    }

    /// Reads one block to where the controller finds `to`: within one page.
    pub fn read(&mut self, block: u64, to: Iova) -> Result<(), NvmeError> {
        let (low, high) = (block as u32, (block >> 32) as u32);
        let command = [
            Command0::new()
                .with_opcode(opcode::READ)
                .with_nsid(NAMESPACE)
                .into_bits(),
            0,
            0,
            to.as_u64(),
            0,
            CommandPair::new().with_low(low).with_high(high).into_bits(),
            // One block, less one.
            0,
            0,
        ];
        self.run(Queue::Io, command)
    }

    /// Stops it. It does no more DMA.
    pub fn stop(self) -> Result<M, NvmeError> {
        self.registers.write32(offset::CC, Cc::new().into_bits());
        self.wait_ready(false, PATIENCE)?;
        Ok(self.registers)
    }

    fn enable(&mut self, limit: Nanoseconds) -> Result<(), NvmeError> {
        self.registers.write32(offset::CC, Cc::new().into_bits());
        self.wait_ready(false, limit)?;
        let entries = ENTRIES.saturating_sub(1);
        let attributes = Aqa::new().with_asqs(entries).with_acqs(entries);
        self.registers.write32(offset::AQA, attributes.into_bits());
        self.registers
            .write64(offset::ASQ, self.admin.submission_at().as_u64());
        self.registers
            .write64(offset::ACQ, self.admin.completion_at().as_u64());
        let on = Cc::new().with_en(true).with_iosqes(6).with_iocqes(4);
        self.registers.write32(offset::CC, on.into_bits());
        self.wait_ready(true, limit)
    }

    fn wait_ready(&self, ready: bool, limit: Nanoseconds) -> Result<(), NvmeError> {
        let begun = self.clock.now();
        loop {
            let status = Csts::from_bits(self.registers.read32(offset::CSTS));
            if status.into_bits() == u32::MAX {
                return Err(NvmeError::NoController);
            }
            if status.cfs() && ready {
                return Err(NvmeError::Fatal);
            }
            if status.rdy() == ready {
                return Ok(());
            }
            if self.clock.now().since(begun) > limit {
                return Err(NvmeError::NotReady);
            }
            self.clock.relax();
        }
    }

    fn create_queues(&mut self) -> Result<(), NvmeError> {
        let number = self.io.number;
        let size = CreateQueue10::new()
            .with_qid(number)
            .with_size(ENTRIES.saturating_sub(1));
        let create = |opcode: u8, at: Iova, flags: CreateQueue11| {
            [
                Command0::new().with_opcode(opcode).into_bits(),
                0,
                0,
                at.as_u64(),
                0,
                CommandPair::new()
                    .with_low(size.into_bits())
                    .with_high(flags.into_bits())
                    .into_bits(),
                0,
                0,
            ]
        };
        let flags = CreateQueue11::new().with_contiguous(true);
        let of_completions = match self.waiting.vector() {
            Some(vector) => flags.with_interrupts(true).with_cqid_or_vector(vector),
            None => flags,
        };
        let completion = create(
            opcode::CREATE_COMPLETION,
            self.io.completion_at(),
            of_completions,
        );
        let submission = create(
            opcode::CREATE_SUBMISSION,
            self.io.submission_at(),
            flags.with_cqid_or_vector(number),
        );
        self.run(Queue::Admin, completion)?;
        self.run(Queue::Admin, submission)
    }

    fn identify(&mut self, answer: &Region<'_>) -> Result<Namespace, NvmeError> {
        let command = [
            Command0::new()
                .with_opcode(opcode::IDENTIFY)
                .with_nsid(NAMESPACE)
                .into_bits(),
            0,
            0,
            answer.iova.as_u64(),
            0,
            // CNS 0: the namespace.
            0,
            0,
            0,
        ];
        self.run(Queue::Admin, command)?;
        let byte = |at: usize| -> u8 {
            let word = answer
                .cells
                .get(at / 8)
                .map_or(0, |c| c.load(Ordering::Acquire));
            let bytes = word.to_le_bytes();
            bytes.get(at % 8).copied().unwrap_or(0)
        };
        let blocks = answer
            .cells
            .first()
            .map_or(0, |cell| cell.load(Ordering::Acquire));
        // FLBAS at byte 26, formats of 4 bytes from 128 on.
        let format = usize::from(byte(26) & 0xf).saturating_mul(4);
        let at = |offset: usize| byte(format.saturating_add(128).saturating_add(offset));
        let format = BlockFormat::from_bits(u32::from_le_bytes([at(0), at(1), at(2), at(3)]));
        let fits = (9..=12).contains(&format.log2_bytes());
        if blocks == 0 || !fits {
            return Err(NvmeError::NoBlocks);
        }
        Ok(Namespace {
            blocks,
            block_bytes: 1u32.checked_shl(format.log2_bytes().into()).unwrap_or(0),
        })
    }

    /// Runs one command to its end.
    fn run(&mut self, queue: Queue, command: [u64; COMMAND_WORDS]) -> Result<(), NvmeError> {
        let pair = match queue {
            Queue::Admin => &mut self.admin,
            Queue::Io => &mut self.io,
        };
        let doorbells = usize::from(pair.number).saturating_mul(2);
        let doorbell = |index: usize| {
            offset::DOORBELLS
                .saturating_add(doorbells.saturating_add(index).saturating_mul(self.stride))
        };
        let (id, tail) = pair.submit(command);
        self.waiting.begin();
        self.registers.write32(doorbell(0), tail.into());
        let begun = self.clock.now();
        loop {
            let waited = self.clock.now().since(begun);
            let look = match queue {
                Queue::Admin => Some(Look::Polling),
                Queue::Io => self.waiting.look(waited),
            };
            let found = look.and_then(|look| Some((look, pair.completed(id)?)));
            if let Some((look, completed)) = found {
                if matches!(queue, Queue::Io) {
                    self.waiting.found(look);
                }
                self.registers.write32(doorbell(1), pair.head().into());
                return completed.map(|_| ());
            }
            if waited > PATIENCE {
                return Err(NvmeError::NoCompletion);
            }
            self.clock.relax();
        }
    }
}

#[derive(Clone, Copy)]
enum Queue {
    Admin,
    Io,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeClock, FakeDisk, Fault, Pages};

    fn started(
        disk: &FakeDisk,
        pages: &'static Pages,
    ) -> Result<Controller<'static, FakeDisk, FakeClock>, NvmeError> {
        Controller::start(disk.clone(), FakeClock::default(), &pages.memory(), None)
    }

    #[test]
    fn a_read_is_completed_by_its_interrupt_and_without_one_by_looking() {
        for (fault, by_interrupt, polled, lost) in [
            (Fault::None, 20, 0, false),
            // The first is waited for in vain, and no other.
            (Fault::NoInterrupt, 0, 20, true),
        ] {
            let pages = Pages::leaked();
            let disk = FakeDisk::new(pages, fault);
            let memory = pages.memory();
            let clock = FakeClock::default();
            let interrupt = Interrupt {
                vector: 1,
                signal: &disk,
            };
            let mut controller =
                Controller::start(disk.clone(), &clock, &memory, Some(interrupt)).unwrap();
            for block in 0..20 {
                controller.read(block, pages.data()).unwrap();
                assert_eq!(pages.first_data_word(), 0xb10c_0000 + block);
            }
            let expected = Completions {
                by_interrupt,
                polled,
                interrupt_lost: lost,
            };
            assert_eq!(controller.completions(), expected, "{fault:?}");
            assert_eq!(disk.vector(), Some(1));
        }
    }

    #[test]
    fn without_an_interrupt_none_is_asked_for() {
        let pages = Pages::leaked();
        let disk = FakeDisk::new(pages, Fault::None);
        let mut controller = started(&disk, pages).unwrap();
        controller.read(0, pages.data()).unwrap();
        assert_eq!(controller.completions().polled, 1);
        assert_eq!(disk.vector(), None);
    }

    #[test]
    fn a_namespace_is_identified_and_read_past_the_end_of_the_queues() {
        let pages = Pages::leaked();
        let disk = FakeDisk::new(pages, Fault::None);
        let mut controller = started(&disk, pages).unwrap();
        assert_eq!(
            controller.namespace(),
            Namespace {
                blocks: 1000,
                block_bytes: 512
            }
        );
        for block in 0..50 {
            controller.read(block, pages.data()).unwrap();
            assert_eq!(pages.first_data_word(), 0xb10c_0000 + block);
        }
        controller.stop().unwrap();
        assert!(!disk.is_ready());
    }

    #[test]
    fn what_a_controller_does_wrong_is_named() {
        for (fault, error) in [
            (Fault::Absent, NvmeError::NoController),
            (Fault::NeverReady, NvmeError::NotReady),
            (Fault::Silent, NvmeError::NoCompletion),
            (Fault::Refuses, NvmeError::Refused(2)),
            (Fault::NoBlocks, NvmeError::NoBlocks),
        ] {
            let pages = Pages::leaked();
            let disk = FakeDisk::new(pages, fault);
            assert_eq!(started(&disk, pages).err(), Some(error), "{fault:?}");
        }
        let pages = Pages::leaked();
        let disk = FakeDisk::new(pages, Fault::WrongId);
        assert!(matches!(
            started(&disk, pages).err(),
            Some(NvmeError::WrongCompletion { .. })
        ));
    }
}
