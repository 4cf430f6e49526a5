//! A unit, a policy and guests, put together.

use super::hardware::{Hardware, Unit};
use super::memory::GuestRam;
use super::oracle::HOST_BITS;
use iommu::{Config, Iommu, PasidBitmap, Quota};
use iommu_core::{
    Access, DeviceCapabilities, DeviceId, Gpa, LeafSizes, ResetError, Segment, Slot, SourceId,
    TableFormat, VmEvent, VmHost, VmId,
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
        Ok(())
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

/// Pages of the guest's memory that is scattered: from guest page 0 on.
pub const SCATTERED: u64 = 96;
/// Guest page where 4 MiB of memory begin that are contiguous in the host.
pub const CONTIGUOUS: u64 = 0x800;
/// Guest page of memory that the guest may only read.
pub const READ_ONLY: u64 = 0x700;
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
        let platform = Arc::new(if setup.coherent {
            TestPlatform::new(4096)
        } else {
            TestPlatform::non_coherent(4096)
        });
        let mut capabilities = DeviceCapabilities::none(0).with_format(setup.format);
        capabilities.first_stage_leaves = setup.leaves;
        capabilities.second_stage_leaves = setup.leaves;
        capabilities.coherent = setup.coherent;
        capabilities.caching_mode = setup.caching_mode;
        capabilities.iova_bits = setup.iova_bits;
        capabilities.host_bits = HOST_BITS as u8;
        capabilities.interrupts_remapped = true;
        capabilities.pasid_bits = 20;
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
