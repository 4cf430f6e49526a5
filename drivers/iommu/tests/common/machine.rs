//! A unit, a policy and guests, put together.

use super::hardware::{Hardware, Unit};
use super::memory::GuestRam;
use super::oracle::HOST_BITS;
use super::tables::FULL;
use iommu::{Config, Iommu, PasidBitmap, Quota};
use iommu_abi::{Bind, IntoBytes as _, Invalidate, InvalidateRange, IoasAllocate, Unbind};
use iommu_core::{
    Access, AtsCapability, Attachment, Backend, Batch, DeviceCapabilities, DeviceId, DomainHandle,
    DomainSpec, Gpa, Iova, LeafSizes, Nanoseconds, PageRequest, Platform, ResetError, Segment,
    ServiceError, Slot, SourceId, TableFormat, VmEvent, VmHost, VmId,
};
use iommu_guest::{ArgumentMemory, Hypercall, Op};
use std::sync::{Arc, Mutex};
use test_platform::TestPlatform;
use x86_64::PhysAddr;

/// What the hypervisor around was asked for.
#[derive(Default)]
pub struct Around {
    pub notified: Mutex<Vec<VmId>>,
    pub resets: Mutex<Vec<DeviceId>>,
    pub no_reset: Mutex<bool>,
    /// Was taken out.
    pub gone: Mutex<Vec<DeviceId>>,
    /// Can be reset only together, as long as nobody of them is in use.
    pub reset_together: Mutex<Vec<DeviceId>>,
    /// Other ids of devices.
    pub aliases: Mutex<Vec<(DeviceId, SourceId)>>,
    /// Devices that cannot be kept apart.
    pub group: Mutex<Vec<DeviceId>>,
}

/// A reference to it.
#[derive(Clone)]
pub struct Host(pub Arc<Around>);

impl VmHost for Host {
    fn notify(&self, vm: VmId, event: VmEvent) {
        assert_eq!(event, VmEvent::FaultsPending);
        self.0.notified.lock().unwrap().push(vm);
    }

    fn reset(&self, device: DeviceId) -> Result<(), ResetError> {
        self.0.resets.lock().unwrap().push(device);
        if *self.0.no_reset.lock().unwrap() {
            return Err(ResetError::NoMethod(device));
        }
        if self.0.gone.lock().unwrap().contains(&device) {
            return Err(ResetError::Gone(device));
        }
        Ok(())
    }

    fn set_page_requests(&self, _: DeviceId, _: bool) -> Result<(), ServiceError> {
        Ok(())
    }

    fn reset_beside(
        &self,
        device: DeviceId,
        is_in_use: &dyn Fn(DeviceId) -> bool,
    ) -> Result<(), ResetError> {
        let together = self.0.reset_together.lock().unwrap();
        let others = together.iter().filter(|other| **other != device);
        if together.contains(&device) && others.copied().any(is_in_use) {
            return Err(ResetError::NoMethod(device));
        }
        self.reset(device)
    }

    fn aliases(&self, device: DeviceId, tell: &mut dyn FnMut(SourceId)) {
        for (of, alias) in &*self.0.aliases.lock().unwrap() {
            if *of == device {
                tell(*alias);
            }
        }
    }

    fn companions(&self, device: DeviceId, tell: &mut dyn FnMut(DeviceId)) {
        let group = self.0.group.lock().unwrap();
        if group.contains(&device) {
            for other in group.iter().filter(|other| **other != device) {
                tell(*other);
            }
        }
    }
}

pub type Policy = Iommu<Unit, Arc<TestPlatform>, Host>;

/// How the machine shall be.
#[derive(Clone, Copy)]
pub struct Setup {
    pub format: TableFormat,
    pub iova_bits: u8,
    pub leaves: LeafSizes,
    pub coherent: bool,
    pub caching_mode: bool,
    pub interrupts_remapped: bool,
    pub pasid_bits: u8,
    pub quota: Quota,
    pub config: Config,
}

impl Setup {
    pub fn new(format: TableFormat) -> Self {
        Self {
            format,
            iova_bits: 48,
            leaves: LeafSizes {
                mib2: true,
                gib1: true,
            },
            coherent: true,
            caching_mode: false,
            interrupts_remapped: true,
            pasid_bits: 20,
            quota: Quota {
                shadow_pages: 256,
                ..Quota::default()
            },
            config: Config::default(),
        }
    }

    pub fn quota(mut self, change: impl FnOnce(&mut Quota)) -> Self {
        change(&mut self.quota);
        self
    }

    pub fn build(self) -> Machine {
        Machine::new(self)
    }
}

/// A device asks for a page: a request that is a whole group.
pub fn page_request(slot: Slot, group: u16) -> PageRequest {
    PageRequest {
        slot,
        address: Iova::new(0x9000),
        access: Access::READ_WRITE,
        privileged: false,
        group,
        last: true,
        at: Nanoseconds(0),
    }
}

/// Pages of the guest's memory that is scattered: from guest page 0 on.
pub const SCATTERED: u64 = 96;
/// Guest page where 4 MiB of memory begin that are contiguous in the host.
pub const CONTIGUOUS: u64 = 0x800;
/// Guest page of memory that the guest may only read.
pub const READ_ONLY: u64 = 0x700;
/// Guest page, aligned to 2 MiB, where 1 MiB is contiguous in the host, also aligned.
pub const HALF: u64 = 0x1000;
/// Guest page whose host page is an address that means interrupts.
pub const ON_INTERRUPTS: u64 = 0x710;
/// Guest page that is memory although its address means interrupts.
pub const AT_INTERRUPTS: u64 = 0xfee01;
/// The guest page that arguments are passed in.
pub const ARGUMENT: u64 = 90;

pub struct Machine {
    pub platform: Arc<TestPlatform>,
    pub hardware: Arc<Hardware>,
    pub around: Arc<Around>,
    pub policy: Arc<Policy>,
    pub ram: Arc<GuestRam>,
    pub setup: Setup,
}

pub const VM: VmId = VmId(3);

pub fn device(number: u8) -> DeviceId {
    DeviceId::new(Segment(0), SourceId::new(0, number, 0).unwrap())
}

pub fn rid(number: u8) -> Slot {
    Slot {
        device: device(number),
        pasid: None,
    }
}

impl Machine {
    pub fn new(setup: Setup) -> Self {
        let frames = 2 * setup.quota.shadow_pages as usize + 8;
        let platform = Arc::new(if setup.coherent {
            TestPlatform::new(frames)
        } else {
            TestPlatform::non_coherent(frames)
        });
        let mut capabilities = DeviceCapabilities::none(0).with_format(setup.format);
        capabilities.first_stage_leaves = setup.leaves;
        capabilities.second_stage_leaves = setup.leaves;
        capabilities.coherent = setup.coherent;
        capabilities.caching_mode = setup.caching_mode;
        capabilities.iova_bits = setup.iova_bits;
        capabilities.host_bits = HOST_BITS as u8;
        capabilities.interrupts_remapped = setup.interrupts_remapped;
        capabilities.pasid_bits = setup.pasid_bits;
        capabilities.page_requests = true;
        let hardware = Hardware::new(platform.clone(), capabilities);
        let around = Arc::new(Around::default());
        let policy = Iommu::new(
            setup.config,
            Unit(hardware.clone()),
            platform.clone(),
            Host(around.clone()),
            PasidBitmap::new(10).unwrap(),
        );
        let policy = Arc::new(policy.unwrap());
        let ram = Self::ram();
        policy.create_guest(VM, setup.quota, ram.clone()).unwrap();
        let machine = Self {
            platform,
            hardware,
            around,
            policy,
            ram,
            setup,
        };
        machine.check_containment();
        machine
    }

    fn ram() -> Arc<GuestRam> {
        let ram = Arc::new(GuestRam::default());
        ram.add(0, SCATTERED, 0x4_0000, Access::READ_WRITE, Some(77));
        ram.add(READ_ONLY, 8, 0x5_0000, Access::READ, Some(5));
        ram.add(HALF, 256, 0x7_0000, Access::READ_WRITE, None);
        ram.add(HALF + 256, 8, 0x8_0000, Access::READ_WRITE, Some(9));
        ram.add(ON_INTERRUPTS, 1, 0xf_ee02, Access::READ_WRITE, None);
        ram.add(AT_INTERRUPTS, 1, 0x9_0000, Access::READ_WRITE, None);
        ram.add(CONTIGUOUS, 1024, 0x6_0000, Access::READ_WRITE, None);
        ram
    }

    /// After every step, devices reach nothing but the guest's memory.
    pub fn check_containment(&self) {
        let ram = self.ram.clone();
        self.hardware.watch_reachable(move |reachable| {
            let strangers = ram.strangers(reachable);
            assert!(strangers.is_empty(), "not the guest's: {strangers:#x?}");
        });
    }

    /// Gives the guest a device, and returns its handle.
    pub fn assign(&self, number: u8) -> u32 {
        let virtual_id = u32::from(number) << 3;
        self.policy.assign(VM, device(number), virtual_id).unwrap()
    }

    /// Makes a slot lead somewhere for the hypervisor itself.
    pub fn hold_for_the_hypervisor(&self, slot: Slot) -> Held<'_> {
        let backend = self.policy.backend();
        let spec = DomainSpec::Paging(self.setup.format);
        let domain = backend.create(slot.device, &spec).unwrap();
        let held = Held {
            machine: self,
            slot,
            domain,
        };
        held.lead(Attachment::Domain(domain));
        held
    }

    /// The guest's end.
    pub fn guest(&self) -> Guest<'_> {
        let memory = Vec::leak(vec![0u8; 4096]);
        // SAFETY: the test's hypercall copies between this and the guest's memory there.
        let memory = unsafe { ArgumentMemory::new(memory, PhysAddr::new(ARGUMENT << 12)) };
        iommu_guest::Iommu::new(Vmexit(self), memory.unwrap())
    }

    /// A raw call with the bytes of an argument, which are changed in place.
    pub fn call<A: iommu_abi::Argument>(&self, argument: &mut A) -> i64 {
        let at = ARGUMENT << 12;
        self.ram.write_bytes(at, argument.as_bytes());
        let result = self.policy.call(VM, A::OP.as_u32().into(), Gpa::new(at));
        let bytes = self.ram.read_bytes(at, size_of::<A>());
        *argument = A::read_from_bytes(&bytes).unwrap();
        result
    }

    /// Devices see exactly what the guest's table says, and caches hold nothing else.
    #[track_caller]
    pub fn check_translation(&self, slot: Slot, root: u64, address: u64) {
        let expected = self.expected(root, address);
        let walked = self.hardware.walk(slot, address);
        assert_eq!(walked, expected, "walk at {address:#x}");
        for cached in self.hardware.cached(slot, address) {
            assert_eq!(Some(cached), expected, "cached at {address:#x}");
        }
    }

    /// What a device must see at an address, as far as the shadow's width goes.
    pub fn expected(&self, root: u64, address: u64) -> Option<(u64, bool)> {
        let beyond = match self.setup.format {
            TableFormat::FirstStage4 if self.setup.iova_bits >= 48 => false,
            format => {
                let bits = self.setup.iova_bits.min(format.input_bits()).min(47);
                address >> bits != 0
            }
        };
        let seen = super::oracle::translate(&self.ram, root, address)?;
        (!beyond).then_some((seen.host, seen.write))
    }

    /// Caches hold nothing that tables do not say.
    #[track_caller]
    pub fn check_caches(&self) {
        assert_eq!(self.hardware.stale(), []);
    }

    /// Nothing is left over once all guests are gone.
    pub fn check_nothing_left(&self) {
        assert_eq!(self.hardware.parked(), (0, 0));
        assert_eq!(self.platform.outstanding(), 0);
    }
}

/// A slot that the hypervisor uses.
pub struct Held<'m> {
    machine: &'m Machine,
    slot: Slot,
    domain: DomainHandle,
}

impl Held<'_> {
    fn lead(&self, to: Attachment) {
        let backend = self.machine.policy.backend();
        let mut batch = Batch::with_capacity(2).unwrap();
        let replaced = backend.replace(self.slot, to).unwrap();
        batch.add(replaced.owed).unwrap();
        if to == Attachment::Blocked {
            batch.add(backend.destroy(self.domain).unwrap()).unwrap();
        }
        let mut flushed = backend.commit(&mut batch).unwrap();
        while let Some(frame) = flushed.frames.pop() {
            self.machine.platform.release(frame);
        }
    }

    pub fn let_go(self) {
        self.lead(Attachment::Blocked);
    }
}

/// Guest tables at pages 1 to 4, one a level from the root on.
pub const ROOT: u64 = 0x1000;
pub const LEAVES: u64 = 0x4000;

/// A machine whose guest has device 4, and a table at [`ROOT`] that maps pages 5 to 12 of
/// its first 2 MiB to guest pages 0x25 to 0x2c.
pub struct Bench {
    pub machine: Machine,
    pub device_id: u32,
}

impl Bench {
    pub fn new(setup: Setup) -> Self {
        Self::on(setup.build())
    }

    pub fn on(machine: Machine) -> Self {
        let device_id = machine.assign(4);
        let ram = &machine.ram;
        for table in [0x1000, 0x2000, 0x3000] {
            ram.write(table, (table + 0x1000) | FULL);
        }
        for page in 5..13 {
            ram.write(LEAVES + 8 * page, (0x20 + page) << 12 | FULL);
        }
        Self { machine, device_id }
    }

    /// The same, with the table bound to the device. Returns the table's handle too.
    pub fn bound(setup: Setup) -> (Self, u32) {
        let bench = Self::new(setup);
        let ioas_id = bench.allocate(ROOT);
        assert_eq!(bench.bind(bench.device_id, ioas_id), 0);
        (bench, ioas_id)
    }

    pub fn allocate(&self, root: u64) -> u32 {
        let mut ask = self.user_table(root);
        assert_eq!(self.machine.call(&mut ask), 0);
        ask.ioas_id
    }

    pub fn user_table(&self, root: u64) -> IoasAllocate {
        IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: 1,
            user_page_directory: root,
            device_id: self.device_id,
            ..IoasAllocate::new()
        }
    }

    pub fn bind(&self, device_id: u32, ioas_id: u32) -> i64 {
        self.machine.call(&mut Bind {
            device_id,
            ioas_id,
            ..Bind::new()
        })
    }

    pub fn unbind(&self, device_id: u32) -> i64 {
        self.machine.call(&mut Unbind {
            device_id,
            ..Unbind::new()
        })
    }

    /// The device may ask for pages; nothing is bound to it yet.
    pub fn allow_asking(&self) {
        let source = device(4).source;
        let ats = AtsCapability {
            queue_depth: 0,
            physical_function: source,
        };
        let allowed = self.machine.policy.allow_page_requests(VM, device(4), ats);
        allowed.expect("it may ask");
    }

    /// The device asks for a page: one request that is a whole group. The guest is told.
    pub fn asks(&self, slot: Slot, group: u16) {
        let request = page_request(slot, group);
        let hardware = &self.machine.hardware;
        hardware.state.lock().unwrap().asked.push(request);
        assert_eq!(self.machine.policy.serve_page_requests().told, 1);
    }

    /// Says that these ranges changed: first address and pages.
    pub fn invalidate(&self, ioas_id: u32, ranges: &[(u64, u64)]) -> (i64, Invalidate) {
        let entries: Vec<InvalidateRange> = ranges
            .iter()
            .map(|&(address, pages)| InvalidateRange {
                address,
                pages,
                ..InvalidateRange::default()
            })
            .collect();
        self.machine.ram.write_bytes(RANGES, entries.as_bytes());
        let mut ask = Invalidate {
            ioas_id,
            granularity: 2,
            entries: RANGES,
            entry_size: 24,
            entry_count: ranges.len() as u32,
            model: 1,
            ..Invalidate::new()
        };
        (self.machine.call(&mut ask), ask)
    }

    /// The same, where nothing may go wrong.
    #[track_caller]
    pub fn changed(&self, ioas_id: u32, ranges: &[(u64, u64)]) {
        let (result, ask) = self.invalidate(ioas_id, ranges);
        assert_eq!(
            (result, ask.completed),
            (ranges.len() as i64, ranges.len() as u32)
        );
    }

    /// The device sees at these addresses what the table at [`ROOT`] says.
    #[track_caller]
    pub fn check(&self, addresses: impl IntoIterator<Item = u64>) {
        for address in addresses {
            self.machine.check_translation(rid(4), ROOT, address);
        }
    }

    /// Where the device's access to an address ends.
    pub fn sees(&self, address: u64) -> Option<u64> {
        self.machine
            .hardware
            .walk(rid(4), address)
            .map(|(host, _)| host)
    }

    /// The host address of a guest page.
    pub fn host(&self, gpa: u64) -> Option<u64> {
        self.machine.ram.host(gpa).map(|(host, _)| host)
    }

    /// What hardware was told since this was asked last: ranges, and domains wholesale.
    pub fn told(&self) -> (Vec<(u64, u64, bool)>, u64) {
        let mut state = self.machine.hardware.state.lock().unwrap();
        let ranges = std::mem::take(&mut state.ranges);
        let ranges = ranges
            .into_iter()
            .map(|(_, range, leaf)| (range.first().as_u64(), range.pages(), leaf));
        (ranges.collect(), std::mem::take(&mut state.wholesale))
    }

    pub fn commits(&self) -> u64 {
        self.machine.hardware.state.lock().unwrap().commits
    }

    /// The guest goes, and nothing is left.
    #[track_caller]
    pub fn end(self) {
        self.machine.policy.destroy_guest(VM).unwrap();
        self.machine.check_nothing_left();
    }
}

/// Where ranges are passed: three guest pages that are not contiguous in the host.
const RANGES: u64 = 80 << 12;

pub type Guest<'m> = iommu_guest::Iommu<'static, Vmexit<'m>>;

/// Leaves the guest: its argument memory becomes the guest's page for the call.
pub struct Vmexit<'m>(&'m Machine);

impl Hypercall for Vmexit<'_> {
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
        let at = memory.address().as_u64();
        self.0.ram.write_bytes(at, memory.bytes_mut());
        let result = self
            .0
            .policy
            .call(VM, operation.as_u32().into(), Gpa::new(at));
        let bytes = self.0.ram.read_bytes(at, memory.bytes_mut().len());
        memory.bytes_mut().copy_from_slice(&bytes);
        result
    }
}
