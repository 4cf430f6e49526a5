//! A machine with one unit, policy on it, and guests.

use crate::guest::{ALL, Guest};
use crate::platform::{Switching, SwitchingMmio};
use iommu::{Config as PolicyConfig, Iommu, PasidBitmap, Quota};
use iommu_abi::{
    Argument, Bind, Errno, Granularity, IntoBytes as _, Invalidate, InvalidateModel,
    InvalidateRange, IoasAllocate, Unbind,
};
use iommu_core::{
    DeviceId, Gpa, GuestMemory as _, Hpa, Platform as _, ResetError, Segment, SourceId, VmEvent,
    VmHost, VmId,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use vtd::{
    Discovered, Driver, DriverConfig, ModeRequest, TimeLimits, Translating, UnitConfig,
    UnitDescription,
};
use vtd_model::{Config, Freedom, Machine, Owner, Request};
use vtd_model_platform::ModelPlatform;

pub(crate) const ONE: u16 = 0x0010;
pub(crate) const OTHER: u16 = 0x0319;

/// The hypervisor around, which has nothing to do.
pub(crate) struct Around;

impl VmHost for Around {
    fn notify(&self, _: VmId, _: VmEvent) {}

    fn reset(&self, _: DeviceId) -> Result<(), ResetError> {
        Ok(())
    }
}

type Working = Driver<Arc<Switching>, SwitchingMmio, Translating>;
type Policy = Iommu<Working, Arc<Switching>, Around>;

/// Everything.
pub(crate) struct House {
    platform: Arc<Switching>,
    policy: Policy,
    idle: usize,
}

impl House {
    pub(crate) fn new(config: Config, mode: ModeRequest, freedom: Freedom) -> Arc<Self> {
        let host_bits = config.host_bits;
        let model = ModelPlatform::new(1 << 10, |builder| {
            let builder = builder.unit(config).device(ONE, 0).device(OTHER, 0);
            builder.freedom(freedom)
        });
        let platform = Switching::new(model.expect("a possible machine"));
        let driver = start(&platform, mode, host_bits);
        let idle = platform.model.arena().outstanding();
        let config = PolicyConfig {
            guests: 4,
            // Interrupts are not remapped here.
            allow_unremapped_interrupts: true,
            ..PolicyConfig::default()
        };
        let pasids = PasidBitmap::new(10).expect("memory");
        let policy = Iommu::new(config, driver, platform.clone(), Around, pasids);
        Arc::new(Self {
            platform,
            policy: policy.expect("memory"),
            idle,
        })
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn driver(&self) -> &Working {
        self.policy.backend()
    }

    pub(crate) fn with_machine<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        self.platform.model.with_machine(act)
    }

    /// A guest with one device.
    pub(crate) fn tenant(self: &Arc<Self>, number: u16, source: u16) -> Tenant {
        let guest = Guest::new(
            &self.platform.model,
            number.into(),
            48,
            7 + u64::from(number),
        );
        let quota = Quota {
            shadow_pages: 64,
            ..Quota::default()
        };
        let vm = VmId(number);
        self.policy
            .create_guest(vm, quota, guest.clone())
            .expect("a guest");
        let device = DeviceId::new(Segment(0), SourceId::from_bits(source));
        let device_id = self.policy.assign(vm, device, u32::from(source));
        let owner = Owner::Guest(number.into());
        self.with_machine(|machine| machine.assign(source, None, owner));
        let root = guest.table();
        // The tables on the way to what is changed are there from the beginning.
        guest.entry(root, 4, 0, 1);
        let mut tenant = Tenant {
            house: self.clone(),
            vm,
            source,
            device_id: device_id.expect("its device"),
            ioas_id: 0,
            root,
            guest,
            pages: Arc::default(),
        };
        let table = tenant.call(IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: 1,
            user_page_directory: root,
            device_id: tenant.device_id,
            ..IoasAllocate::new()
        });
        tenant.ioas_id = table.expect("a table").ioas_id;
        tenant
    }

    /// The guest dies.
    pub(crate) fn destroy(&self, tenant: &Tenant) {
        self.policy.destroy_guest(tenant.vm).expect("gone");
    }

    /// The memory of a dead guest, none of whose CPUs runs any more, is somebody else's.
    pub(crate) fn reclaim(&self, tenant: Tenant) {
        for frame in tenant.guest.take_all() {
            self.platform.release(frame);
        }
    }

    /// Nothing was violated, and nothing is left.
    pub(crate) fn end(&self) {
        let violations = self.platform.model.take_violations();
        assert!(violations.is_empty(), "{violations:#?}");
        assert_eq!(self.driver().quarantined(), vtd::Quarantined::default());
        // What the driver keeps for later, for a table once used, is a few pages.
        let more = self.platform.model.arena().outstanding() - self.idle;
        assert!(more <= 8, "{more} pages more than at the beginning");
    }
}

fn start(platform: &Arc<Switching>, mode: ModeRequest, host_bits: u8) -> Working {
    let description = UnitDescription {
        index: 0,
        segment: Segment(0),
        register_base: Hpa::new(0xfed9_0000),
        host_bits,
    };
    let config = UnitConfig {
        mode,
        ..UnitConfig::default()
    };
    let unit = Discovered::open(description, SwitchingMmio::new(platform), platform);
    let ready = unit
        .expect("the unit answers")
        .quiesce(platform, TimeLimits::default())
        .expect("it is quiet")
        .prepare(platform, &config)
        .expect("it comes up");
    let config = DriverConfig {
        domains: 16,
        attachments: 16,
        ..DriverConfig::default()
    };
    let scopes = |_: DeviceId| Some(0);
    Driver::new(platform.clone(), [ready], Box::new(scopes), &config)
        .expect("memory")
        .enable()
        .expect("translation comes on")
}

/// A guest, as any of its CPUs.
#[derive(Clone)]
pub(crate) struct Tenant {
    house: Arc<House>,
    vm: VmId,
    source: u16,
    device_id: u32,
    ioas_id: u32,
    root: u64,
    guest: Arc<Guest>,
    /// Where each thread passes its arguments.
    pages: Arc<Mutex<HashMap<shuttle::thread::ThreadId, u64>>>,
}

impl Tenant {
    /// The address of a page of data.
    pub(crate) fn data(&self, number: u64) -> u64 {
        self.guest.data(number)
    }

    pub(crate) fn map(&self, gva: u64, gpa: u64) {
        self.guest.map(self.root, gva, gpa, ALL);
    }

    pub(crate) fn unmap(&self, gva: u64) {
        self.guest.unmap(self.root, gva);
    }

    pub(crate) fn bind(&self) {
        let (device_id, ioas_id) = (self.device_id, self.ioas_id);
        let bound = self.call(Bind {
            device_id,
            ioas_id,
            ..Bind::new()
        });
        bound.expect("bound");
    }

    pub(crate) fn unbind(&self) {
        let device_id = self.device_id;
        let unbound = self.call(Unbind {
            device_id,
            ..Unbind::new()
        });
        unbound.expect("unbound");
    }

    pub(crate) fn invalidate(&self, gva: u64) {
        let done = self.try_invalidate(gva);
        assert_eq!(done, Ok(1), "one range");
    }

    /// How many ranges were done; the guest may be dead.
    pub(crate) fn try_invalidate(&self, gva: u64) -> Result<u32, Errno> {
        let range = InvalidateRange {
            address: gva,
            pages: 1,
            ..InvalidateRange::default()
        };
        let entries = self.page() + 0x800;
        self.guest
            .copy_out(Gpa::new(entries), range.as_bytes())
            .map_err(|_| Errno::EFAULT)?;
        let done = self.call(Invalidate {
            ioas_id: self.ioas_id,
            granularity: Granularity::Ranges.as_u32(),
            entries,
            entry_size: size_of::<InvalidateRange>() as u32,
            entry_count: 1,
            model: InvalidateModel::Range.as_u32(),
            ..Invalidate::new()
        })?;
        Ok(done.completed)
    }

    /// Whatever hardware does with a write of the device there, it ends in this page.
    #[track_caller]
    pub(crate) fn assert_reaches(&self, gva: u64, gpa: Option<u64>) {
        let expected = gpa.map(|gpa| self.guest.hpa(gpa).as_u64());
        let request = Request::write(self.source, gva);
        let possible = self
            .house
            .with_machine(|machine| machine.possible(&request));
        for outcome in possible {
            assert_eq!(outcome.address(), expected, "{gva:#x}: {outcome:?}");
        }
    }

    /// Nothing that the device does reaches memory.
    #[track_caller]
    pub(crate) fn assert_blocked(&self) {
        for page in 0..8 {
            self.assert_reaches(page << 12, None);
        }
    }

    /// A page of memory for each thread's arguments.
    fn page(&self) -> u64 {
        let mut pages = self.pages.lock().expect("no panic");
        let thread = shuttle::thread::current().id();
        *pages.entry(thread).or_insert_with(|| self.guest.table())
    }

    fn call<A: Argument>(&self, argument: A) -> Result<A, Errno> {
        let at = Gpa::new(self.page());
        self.guest
            .copy_out(at, argument.as_bytes())
            .map_err(|_| Errno::EFAULT)?;
        let op = A::OP.as_u32().into();
        let answer = self.house.policy.call(self.vm, op, at);
        Errno::from_register(answer)?;
        let mut result = argument;
        let bytes = result.as_mut_bytes();
        self.guest.copy_in(at, bytes).map_err(|_| Errno::EFAULT)?;
        Ok(result)
    }
}
