//! A machine and bare hands: tables are written as the numbers that chapter 9 gives them.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses its part"
)]

use std::sync::Arc;

use vtd_model::{Config, Freedom, HostMemory, Machine, Promptness, Ram, Width};

pub const GCMD: usize = 0x18;
pub const GSTS: usize = 0x1c;
pub const RTADDR: usize = 0x20;
pub const FSTS: usize = 0x34;
pub const FECTL: usize = 0x38;
pub const IQH: usize = 0x80;
pub const IQT: usize = 0x88;
pub const IQA: usize = 0x90;
pub const IRTA: usize = 0xb8;
pub const FRCD: usize = 0x200;
pub const IVA: usize = 0x500;
pub const IOTLB: usize = 0x508;

pub const TE: u32 = 1 << 31;
pub const SRTP: u32 = 1 << 30;
pub const QIE: u32 = 1 << 26;
pub const IRE: u32 = 1 << 25;
pub const SIRTP: u32 = 1 << 24;
pub const CFI: u32 = 1 << 23;

pub const ROOT: u64 = 0x1000;
pub const CONTEXT: u64 = 0x2000;
pub const DIRECTORY: u64 = 0x3000;
pub const PASIDS: u64 = 0x4000;
/// Root table of the second stage.
pub const SECOND: u64 = 0x1_0000;
/// Root table of the first stage.
pub const FIRST: u64 = 0x8_0000;
pub const QUEUE: u64 = 0x5000;
pub const STATUS: u64 = 0x6000;
/// First frame for tables that the helpers add.
const SPARE: u64 = 0x10_0000;

/// 00:02.0.
pub const DEVICE: u16 = 0x0010;
pub const DOMAIN: u16 = 7;

pub struct Bench {
    pub machine: Machine,
    spare: u64,
    wide: bool,
    tail: u64,
    pub waits: u32,
}

impl Bench {
    pub fn new(config: Config, freedom: Freedom) -> Self {
        Self::with(config, freedom, |builder| builder.device(DEVICE, 0))
    }

    pub fn ats(config: Config, freedom: Freedom, promptness: Promptness) -> Self {
        Self::with(config, freedom, |builder| {
            builder.ats_device(DEVICE, 0, promptness)
        })
    }

    fn with(
        config: Config,
        freedom: Freedom,
        devices: impl Fn(vtd_model::Builder) -> vtd_model::Builder,
    ) -> Self {
        let wide = config.scalable_mode;
        let builder = Machine::builder().unit(config).freedom(freedom);
        let machine = devices(builder).build().expect("a good configuration");
        Self {
            machine,
            spare: SPARE,
            wide,
            tail: 0,
            waits: 0,
        }
    }

    pub fn read32(&mut self, offset: usize) -> u32 {
        self.machine.read(0, offset, Width::Dword) as u32
    }

    pub fn write32(&mut self, offset: usize, value: u32) {
        self.machine.write(0, offset, Width::Dword, value.into());
    }

    pub fn read64(&mut self, offset: usize) -> u64 {
        self.machine.read(0, offset, Width::Qword)
    }

    pub fn write64(&mut self, offset: usize, value: u64) {
        self.machine.write(0, offset, Width::Qword, value);
    }

    /// A store that reaches memory at once.
    pub fn poke(&mut self, hpa: u64, value: u64) {
        self.machine.write_u64(hpa, value);
        self.machine.written_back(hpa, 8);
    }

    /// Sends a command as §11.4.4.1 says and waits for its status.
    pub fn command(&mut self, bit: u32, on: bool) {
        let status = self.read32(GSTS) & 0x96ff_ffff;
        self.write32(GCMD, if on { status | bit } else { status & !bit });
        for _ in 0..1000 {
            if (self.read32(GSTS) & bit != 0) == on {
                return;
            }
            self.machine.tick();
        }
        panic!("command {bit:#x} was never answered");
    }

    pub fn queue_on(&mut self) {
        let width = if self.wide { 0x800 } else { 0 };
        self.write64(IQT, 0);
        self.write64(IQA, QUEUE | width);
        self.command(QIE, true);
    }

    pub fn slot(&self) -> u64 {
        if self.wide { 32 } else { 16 }
    }

    /// Puts a descriptor into the queue without the doorbell.
    pub fn put(&mut self, low: u64, high: u64) {
        for (at, word) in [low, high].into_iter().enumerate() {
            self.machine
                .write_u64(QUEUE + self.tail + 8 * at as u64, word);
        }
        if self.wide {
            self.machine.write_u64(QUEUE + self.tail + 16, 0);
            self.machine.write_u64(QUEUE + self.tail + 24, 0);
        }
        self.tail = (self.tail + self.slot()) % 0x1000;
    }

    pub fn doorbell(&mut self) {
        self.write64(IQT, self.tail);
    }

    /// A fenced wait, and polling for its status.
    pub fn wait(&mut self) -> bool {
        self.waits += 1;
        let data = u64::from(self.waits);
        self.put(data << 32 | 0x65, STATUS);
        self.doorbell();
        for _ in 0..2000 {
            if self.machine.read_u32(STATUS) == self.waits {
                return true;
            }
            self.machine.tick();
        }
        false
    }

    pub fn submit(&mut self, descriptors: &[(u64, u64)]) {
        for (low, high) in descriptors {
            self.put(*low, *high);
        }
        assert!(
            self.wait(),
            "the queue went on: FSTS {:#x}",
            self.read32(FSTS)
        );
    }

    pub fn translation_on(&mut self) {
        let mode = if self.wide { 0x400 } else { 0 };
        self.write64(RTADDR, ROOT | mode);
        self.command(SRTP, true);
        self.flush_all();
        self.command(TE, true);
    }

    pub fn flush_all(&mut self) {
        let pasids = if self.wide { vec![(0x37, 0)] } else { vec![] };
        self.submit(&[&[(0x11, 0)], &pasids[..], &[(0x12, 0)]].concat());
    }

    /// A fresh zeroed frame.
    pub fn frame(&mut self) -> u64 {
        let frame = self.spare;
        self.spare += 0x1000;
        self.machine.written_back(frame, 0x1000);
        frame
    }

    /// Writes `entry` at `level` (1: a 4 KiB page) of the tables at `root`, adding tables
    /// with all rights on the way. Gives the entry's place.
    pub fn put_entry(
        &mut self,
        root: u64,
        levels: u8,
        address: u64,
        level: u8,
        entry: u64,
        link: u64,
    ) -> u64 {
        let mut table = root;
        for at in (level + 1..=levels).rev() {
            let slot = table + ((address >> (12 + 9 * (at - 1))) & 0x1ff) * 8;
            let present = self.machine.read_u64(slot);
            table = if present & link & 3 == 0 {
                let next = self.frame();
                self.poke(slot, next | link);
                next
            } else {
                present & 0x000f_ffff_ffff_f000
            };
        }
        let slot = table + ((address >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
        self.poke(slot, entry);
        slot
    }

    /// Second stage, 4 levels.
    pub fn second(&mut self, address: u64, level: u8, entry: u64) -> u64 {
        self.put_entry(SECOND, 4, address, level, entry, 3)
    }

    /// First stage, 4 levels, user tables with A set.
    pub fn first(&mut self, address: u64, level: u8, entry: u64) -> u64 {
        self.put_entry(FIRST, 4, address, level, entry, 0x27)
    }

    /// Legacy mode, one device with the second stage at [`SECOND`]: TT 00, AW 48 bits.
    pub fn legacy(config: Config, freedom: Freedom) -> Self {
        let mut bench = Self::new(config, freedom);
        bench.clear_tables();
        bench.poke(ROOT, CONTEXT | 1);
        bench.poke(CONTEXT + 0x10 * 16, SECOND | 1);
        bench.poke(CONTEXT + 0x10 * 16 + 8, u64::from(DOMAIN) << 8 | 2);
        bench.queue_on();
        bench.translation_on();
        bench
    }

    pub fn clear_tables(&mut self) {
        for frame in [ROOT, CONTEXT, DIRECTORY, PASIDS, SECOND, FIRST] {
            self.machine.written_back(frame, 0x1000);
        }
    }

    /// Scalable mode, one device whose PASID entries are empty. Context: DTE and PRE as
    /// the configuration allows, PASIDE if it has PASIDs.
    pub fn scalable(config: Config, freedom: Freedom) -> Self {
        Self::scalable_with(config, freedom, None)
    }

    /// [`Bench::scalable`] on a memory of the test's.
    pub fn scalable_in(config: Config, freedom: Freedom, memory: Arc<dyn HostMemory>) -> Self {
        Self::scalable_in_with(config, freedom, memory, false)
    }

    /// The same, and the device may have a device-TLB.
    pub fn scalable_in_with(
        config: Config,
        freedom: Freedom,
        memory: Arc<dyn HostMemory>,
        ats: bool,
    ) -> Self {
        let bench = Self::with(config.clone(), freedom, |builder| {
            let builder = builder.memory(Arc::clone(&memory));
            if ats {
                builder.ats_device(DEVICE, 0, Promptness::Prompt)
            } else {
                builder.device(DEVICE, 0)
            }
        });
        bench.scalable_tables(&config, ats)
    }

    pub fn scalable_with(config: Config, freedom: Freedom, ats: Option<Promptness>) -> Self {
        let bench = match ats {
            None => Self::new(config.clone(), freedom),
            Some(promptness) => Self::ats(config.clone(), freedom, promptness),
        };
        bench.scalable_tables(&config, ats.is_some())
    }

    fn scalable_tables(self, config: &Config, ats: bool) -> Self {
        let context = DIRECTORY
            | 1
            | u64::from(config.pasid_bits.is_some()) << 3
            | if ats {
                0x4 | u64::from(config.page_requests) << 4
            } else {
                0
            };
        let mut bench = self;
        bench.clear_tables();
        bench.poke(ROOT, CONTEXT | 1);
        bench.poke(CONTEXT + 0x10 * 32, context);
        bench.poke(DIRECTORY, PASIDS | 1);
        bench.queue_on();
        bench.translation_on();
        bench
    }

    /// Writes a PASID entry's first three words, P last.
    pub fn pasid(&mut self, pasid: u64, words: [u64; 3]) {
        let at = PASIDS + pasid * 64;
        self.poke(at + 8, words[1]);
        self.poke(at + 16, words[2]);
        self.poke(at, words[0]);
    }

    pub fn violations(&mut self) -> Vec<String> {
        self.machine
            .take_violations()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

/// PASID entry words: second stage at [`SECOND`], 4 levels.
pub const SECOND_ENTRY: [u64; 3] = [SECOND | 2 << 6 | 2 << 2 | 1, DOMAIN as u64, 0];
/// First stage at [`FIRST`], 4 levels, page walks snoop.
pub const FIRST_ENTRY: [u64; 3] = [1 << 6 | 1, DOMAIN as u64 | 1 << 23, FIRST];
/// First stage at guest address [`FIRST`] over the second stage.
pub const NESTED_ENTRY: [u64; 3] = [SECOND | 3 << 6 | 2 << 2 | 1, DOMAIN as u64 | 1 << 23, FIRST];
/// Pass-through.
pub const PASS_ENTRY: [u64; 3] = [4 << 6 | 1, DOMAIN as u64, 0];

/// Both ways to use hardware's freedom, with a few seeds.
pub fn freedoms() -> Vec<Freedom> {
    (0..4)
        .map(Freedom::Random)
        .chain([Freedom::Pessimist(0)])
        .collect()
}

/// Memory with a page that cannot be written: a ROM at [`ROM`].
pub struct WithRom(pub Ram);

pub const ROM: u64 = 0x70_0000;

impl HostMemory for WithRom {
    fn load(&self, hpa: u64) -> Option<u64> {
        self.0.load(hpa)
    }

    fn store(&self, hpa: u64, value: u64) -> Option<()> {
        (hpa & !0xfff != ROM).then(|| self.0.store(hpa, value))?
    }

    fn compare_exchange(&self, hpa: u64, current: u64, new: u64) -> Option<Result<u64, u64>> {
        (hpa & !0xfff != ROM).then(|| self.0.compare_exchange(hpa, current, new))?
    }
}
