//! Guests' hypercalls, down to what their devices reach: one body for every way in which a
//! guest's table is used.

use crate::guest::{ALL, BASE, Guest, LARGE, PRESENT, USER, WRITABLE};
use crate::rig::{
    self, Driver, FREEDOMS, ONE, OTHER, Plan, Platform, device, read, reason_of, write,
};
use iommu::{Config as Policy, Iommu, Nesting, PasidBitmap, Quota};
use iommu_abi::Argument;
use iommu_core::{
    Access, AddressRange, BackendError, DeviceId, DomainHandle, FaultReason, Gpa, GuestMemory,
    Pasid, Platform as _, ResetError, Run, ServiceError, Slot, VmEvent, VmHost, VmId,
};
use iommu_guest::{
    ArgumentMemory, Capabilities, Errno, FlushList, Format, GuestPasid, Hypercall, Op, RingMemory,
    UserTable,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use vtd::ModeRequest;
use vtd_model::{Config, Freedom, Owner, Request};
use x86_64::structures::paging::{Page, PhysFrame};
use x86_64::{PhysAddr, VirtAddr};

/// Counts what the hypervisor is asked.
#[derive(Default)]
pub(crate) struct Hypervisor {
    pub(crate) notified: AtomicUsize,
    pub(crate) resets: AtomicUsize,
    /// PASIDs of the machine that a shared device was made to stop with.
    pub(crate) stopped: Mutex<Vec<u32>>,
    /// A shared device cannot be made to.
    pub(crate) cannot_stop: AtomicBool,
    /// Times that a device was made to ask for pages, less those that it was stopped.
    pub(crate) asking: AtomicUsize,
    /// Devices cannot be made to.
    pub(crate) cannot_ask: AtomicBool,
    /// Domains of the tables of guests' CPUs.
    pub(crate) shared: Mutex<Vec<DomainHandle>>,
}

impl VmHost for &Hypervisor {
    fn notify(&self, _: VmId, _: VmEvent) {
        self.notified.fetch_add(1, Ordering::Relaxed);
    }

    fn reset(&self, _: DeviceId) -> Result<(), ResetError> {
        self.resets.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn share_tables(&self, _: VmId, device: DeviceId) -> Result<DomainHandle, BackendError> {
        let made = self.shared.lock().expect("no panic").pop();
        made.ok_or(BackendError::Unsupported(device))
    }

    fn stop_pasid(&self, slot: Slot) -> Result<(), ResetError> {
        if self.cannot_stop.load(Ordering::Relaxed) {
            return Err(ResetError::TimedOut(slot.device));
        }
        let pasid = slot.pasid.expect("of a PASID").as_u32();
        self.stopped.lock().expect("no panic").push(pasid);
        Ok(())
    }

    fn set_page_requests(&self, device: DeviceId, on: bool) -> Result<(), ServiceError> {
        if on && self.cannot_ask.load(Ordering::Relaxed) {
            return Err(ServiceError::TimedOut(device));
        }
        if on {
            self.asking.fetch_add(1, Ordering::Relaxed);
        } else {
            self.asking.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

type Policies<'h> = Iommu<Driver, Arc<Platform>, &'h Hypervisor>;

/// A machine with guests in it.
pub(crate) struct House<'h> {
    pub(crate) iommu: Policies<'h>,
    pub(crate) platform: Arc<Platform>,
    pub(crate) host: &'h Hypervisor,
    pub(crate) idle: usize,
    /// Hardware caches all that it may.
    pessimist: bool,
}

/// A way in which guests' tables come to hardware.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    pub(crate) mode: ModeRequest,
    nesting: Nesting,
    /// Hardware walks the guest's table itself.
    pub(crate) nested: bool,
    upper_half: bool,
}

impl Way {
    pub(crate) fn nested(name: &'static str, config: Config) -> Self {
        Self {
            name,
            config,
            mode: ModeRequest::SecondStage,
            nesting: Nesting::Hardware,
            nested: true,
            upper_half: true,
        }
    }

    pub(crate) fn shadowed(name: &'static str, config: Config, mode: ModeRequest) -> Self {
        Self {
            name,
            config,
            mode,
            nesting: Nesting::Hardware,
            nested: false,
            upper_half: mode == ModeRequest::FirstStage,
        }
    }

    /// The same where the policy is to shadow.
    pub(crate) fn by_policy(self) -> Self {
        Self {
            nesting: Nesting::Shadow,
            ..self
        }
    }

    /// PASIDs can be bound.
    pub(crate) fn has_pasids(&self) -> bool {
        self.mode != ModeRequest::Legacy
    }

    pub(crate) fn is_nested(&self) -> bool {
        self.nested
    }

    /// What a guest is told of its table, beside what is the same everywhere.
    fn capabilities(&self) -> Capabilities {
        let mut all = if self.nested {
            Capabilities::HARDWARE_NESTED | Capabilities::ACCESSED_DIRTY
        } else {
            Capabilities::INVALIDATE_ON_MAP
        };
        all.set(Capabilities::UPPER_HALF, self.upper_half);
        all
    }
}

pub(crate) fn ways() -> Vec<Way> {
    let scalable = Config::scalable();
    let shadowed = Config {
        nested: false,
        ..scalable.clone()
    };
    let second_only = Config {
        first_stage: false,
        first_stage_1g: false,
        first_stage_5_level: false,
        ..shadowed.clone()
    };
    let (first, second, legacy) = (
        ModeRequest::FirstStage,
        ModeRequest::SecondStage,
        ModeRequest::Legacy,
    );
    vec![
        Way::nested("nested", scalable.clone()),
        Way::nested("nested, caching mode", scalable.clone().with_caching_mode()),
        Way::nested(
            "nested, no page-selective invalidation",
            Config {
                page_selective: false,
                max_address_mask: 0,
                ..scalable.clone()
            },
        ),
        Way::shadowed("could nest, shadowed by policy", scalable.clone(), first).by_policy(),
        Way::shadowed(
            "could nest, shadowed because it does not snoop",
            scalable.non_coherent(),
            first,
        ),
        Way::shadowed("shadowed in a first stage", shadowed.clone(), first),
        Way::shadowed("shadowed in a second stage", second_only.clone(), second),
        Way::shadowed(
            "shadowed in a second stage, caching mode",
            second_only.with_caching_mode(),
            second,
        ),
        Way::shadowed(
            "shadowed in a first stage, not coherent",
            shadowed.non_coherent(),
            first,
        ),
        Way::shadowed("shadowed in legacy mode", Config::legacy(), legacy),
        Way::shadowed(
            "shadowed in legacy mode, not coherent, caching mode",
            Config::legacy().non_coherent().with_caching_mode(),
            legacy,
        ),
        Way::shadowed(
            "shadowed in legacy mode, write buffer, no page-selective invalidation",
            Config {
                write_buffer_flush: true,
                page_selective: false,
                max_address_mask: 0,
                ..Config::legacy()
            },
            legacy,
        ),
    ]
}

pub(crate) fn each(mut test: impl FnMut(&House, &Way)) {
    for way in ways() {
        for freedom in FREEDOMS {
            eprintln!("{}, {freedom:?}", way.name);
            let host = Hypervisor::default();
            let house = House::new(&way, freedom, &host);
            test(&house, &way);
            house.assert_clean();
        }
    }
}

impl<'h> House<'h> {
    pub(crate) fn new(way: &Way, freedom: Freedom, host: &'h Hypervisor) -> Self {
        Self::with(way, freedom, host, |plan| plan)
    }

    /// One whose machine is not quite the usual one.
    pub(crate) fn with(
        way: &Way,
        freedom: Freedom,
        host: &'h Hypervisor,
        change: impl FnOnce(Plan) -> Plan,
    ) -> Self {
        let plan = Plan {
            pages: 1 << 11,
            ..Plan::new(way.config.clone())
                .mode(way.mode)
                .freedom(freedom)
        };
        let rig = change(plan).start();
        let platform = Arc::clone(&rig.platform);
        let idle = platform.arena().outstanding();
        let pasids = PasidBitmap::new(10).expect("memory");
        let policy = Policy {
            guests: 4,
            nesting: way.nesting,
            ..Policy::default()
        };
        let iommu =
            Iommu::new(policy, rig.driver, Arc::clone(&platform), host, pasids).expect("memory");
        Self {
            iommu,
            platform,
            host,
            idle,
            pessimist: matches!(freedom, Freedom::Pessimist(_)),
        }
    }

    pub(crate) fn driver(&self) -> &Driver {
        self.iommu.backend()
    }

    /// Takes the faults that the units recorded.
    pub(crate) fn driver_faults(&self) -> Vec<iommu_core::FaultRecord> {
        rig::faults(self.driver())
    }

    /// A guest with this many pages, which gets a device.
    pub(crate) fn guest(&self, vm: u16, pages: u64, source: u16) -> Tenant<'_> {
        self.guest_with(vm, pages, source, Quota::default())
    }

    pub(crate) fn guest_with(&self, vm: u16, pages: u64, source: u16, quota: Quota) -> Tenant<'_> {
        let guest = self.create(vm, pages, quota);
        let handle = self
            .iommu
            .assign(VmId(vm), device(source), u32::from(source))
            .expect("the device");
        self.platform
            .with_machine(|machine| machine.assign(source, None, Owner::Guest(vm.into())));
        self.tenant(vm, guest, source, handle)
    }

    /// A guest with a slice of a device that others share.
    pub(crate) fn guest_with_slice(&self, vm: u16, pages: u64, source: u16) -> Tenant<'_> {
        let guest = self.create(vm, pages, Quota::default());
        let handle = self
            .iommu
            .assign_slice(VmId(vm), device(source), u32::from(source))
            .expect("a slice");
        self.tenant(vm, guest, source, handle)
    }

    fn create(&self, vm: u16, pages: u64, quota: Quota) -> Arc<Guest> {
        let guest = Guest::new(&self.platform, vm.into(), pages, 7 + u64::from(vm));
        self.iommu
            .create_guest(VmId(vm), quota, guest.clone())
            .expect("a guest");
        guest
    }

    fn tenant(&self, vm: u16, guest: Arc<Guest>, source: u16, handle: u32) -> Tenant<'_> {
        let argument = guest.table();
        let bytes = Box::leak(vec![0; 4096].into_boxed_slice());
        // SAFETY: `Calls` carries the bytes to and from the guest's page at this address.
        let memory = unsafe { ArgumentMemory::new(bytes, PhysAddr::new(argument)) };
        let calls = Calls {
            iommu: &self.iommu,
            vm: VmId(vm),
            guest: guest.clone(),
        };
        Tenant {
            house: self,
            vm: VmId(vm),
            source,
            device: iommu_guest::DeviceId::from_u32(handle),
            client: iommu_guest::Iommu::new(calls, memory.expect("a page")),
            scratch: guest.table(),
            guest,
        }
    }

    #[track_caller]
    pub(crate) fn assert_reaches(&self, request: &Request, hpa: iommu_core::Hpa) {
        rig::assert_reaches(&self.platform, request, hpa);
    }

    /// The guest dies, and its memory is used for something else.
    pub(crate) fn end(&self, tenant: Tenant<'_>) {
        self.iommu.destroy_guest(tenant.vm).expect("ended");
        for frame in tenant.guest.take_all() {
            self.platform.release(frame);
        }
        self.assert_blocked(&tenant.read(0));
        self.assert_clean();
    }

    #[track_caller]
    pub(crate) fn assert_blocked(&self, request: &Request) {
        rig::assert_blocked(&self.platform, request);
    }

    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        rig::assert_clean(&self.platform);
        assert_eq!(self.driver().quarantined(), vtd::Quarantined::default());
    }
}

/// A hypercall, as the virtual CPU's exit makes it.
pub(crate) struct Calls<'i, 'h> {
    iommu: &'i Policies<'h>,
    vm: VmId,
    guest: Arc<Guest>,
}

impl Hypercall for Calls<'_, '_> {
    fn call(&self, operation: Op, memory: &mut ArgumentMemory<'_>) -> i64 {
        let at = Gpa::new(memory.address().as_u64());
        let bytes = memory.bytes_mut();
        self.guest.copy_out(at, bytes).expect("the argument's page");
        let result = self.iommu.call(self.vm, operation.as_u32().into(), at);
        // A call may have been the guest's last.
        let _ = self.guest.copy_in(at, bytes);
        result
    }

    fn call_with_ring(
        &self,
        operation: Op,
        memory: &mut ArgumentMemory<'_>,
        ring: &RingMemory<'_>,
    ) -> i64 {
        self.carry_in(ring);
        let result = self.call(operation, memory);
        self.carry_out(ring);
        result
    }
}

impl Calls<'_, '_> {
    /// The test's words become the guest's memory.
    pub(crate) fn carry_in(&self, ring: &RingMemory<'_>) {
        for (at, word) in (ring.address().as_u64()..).step_by(8).zip(ring.words()) {
            let word = word.load(Ordering::Relaxed).to_le_bytes();
            self.guest.copy_out(Gpa::new(at), &word).expect("memory");
        }
    }

    pub(crate) fn carry_out(&self, ring: &RingMemory<'_>) {
        for (at, word) in (ring.address().as_u64()..).step_by(8).zip(ring.words()) {
            let value = self.guest.read_once(Gpa::new(at)).expect("memory");
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// A guest, as itself.
pub(crate) struct Tenant<'i> {
    pub(crate) house: &'i House<'i>,
    pub(crate) vm: VmId,
    pub(crate) source: u16,
    pub(crate) device: iommu_guest::DeviceId,
    pub(crate) client: iommu_guest::Iommu<'static, Calls<'i, 'i>>,
    pub(crate) guest: Arc<Guest>,
    /// A page for arguments of calls that the library does not make.
    scratch: u64,
}

impl Tenant<'_> {
    /// A call that the guest's library does not make, with its argument in some page.
    pub(crate) fn call<A: Argument>(&self, argument: &mut A) -> Result<u64, Errno> {
        let at = self.scratch;
        self.guest
            .copy_out(Gpa::new(at), argument.as_bytes())
            .expect("memory");
        let operation = A::OP.as_u32().into();
        let result = self.house.iommu.call(self.vm, operation, Gpa::new(at));
        self.guest
            .copy_in(Gpa::new(at), argument.as_mut_bytes())
            .expect("memory");
        Errno::from_register(result)
    }

    pub(crate) fn root(&mut self) -> (u64, UserTable) {
        let root = self.guest.table();
        (root, self.table(root))
    }

    pub(crate) fn table(&mut self, root: u64) -> UserTable {
        let frame = PhysFrame::from_start_address(PhysAddr::new(root)).expect("a page");
        self.client
            .allocate_user_table(self.device, Format::X86_64Level4, frame)
            .expect("a table")
    }

    pub(crate) fn bind(&mut self, pasid: Option<GuestPasid>, table: &UserTable) {
        match pasid {
            None => self.client.bind(self.device, table),
            Some(pasid) => self.client.bind_pasid(self.device, pasid, table),
        }
        .expect("bound");
    }

    pub(crate) fn unbind(&mut self, pasid: Option<GuestPasid>) {
        match pasid {
            None => self.client.unbind(self.device),
            Some(pasid) => self.client.unbind_pasid(self.device, pasid),
        }
        .expect("unbound");
    }

    /// What of the table changed.
    pub(crate) fn flush(&mut self, table: &UserTable, first: u64, pages: u64, what: Change) {
        let page = |address| Page::containing_address(VirtAddr::new(address));
        let pages = Page::range_inclusive(page(first), page(first + (pages - 1) * 0x1000));
        let owed = match what {
            Change::Mapped => table.mapped(pages),
            Change::Leaf => table.changed(pages),
            Change::Table => table.tables_changed(pages),
        };
        let mut list = FlushList::<(), 4>::new(table);
        list.add(owed).expect("room");
        self.client.flush(&mut list).expect("flushed");
    }

    pub(crate) fn map(&mut self, table: &UserTable, root: u64, gva: u64, gpa: u64, bits: u64) {
        self.guest.map(root, gva, gpa, bits);
        self.flush(table, gva, 1, Change::Mapped);
    }

    pub(crate) fn read(&self, address: u64) -> Request {
        read(self.source, address)
    }

    pub(crate) fn write(&self, address: u64) -> Request {
        write(self.source, address)
    }

    #[track_caller]
    pub(crate) fn assert_reaches(&self, request: &Request, gpa: u64) {
        self.house.assert_reaches(request, self.guest.hpa(gpa));
    }

    /// The request is refused, and its guest told why: as hardware that nests would say.
    #[track_caller]
    pub(crate) fn assert_faults(&mut self, request: &Request, reason: FaultReason) {
        self.house.assert_blocked(request);
        let notified = self.house.host.notified.load(Ordering::Relaxed);
        let record = rig::refused(&self.house.platform, self.house.driver(), request);
        let attribution = self.house.iommu.report(&record).expect("the guest's");
        assert_eq!(attribution.vm, self.vm);
        assert_eq!(
            self.house.host.notified.load(Ordering::Relaxed),
            notified + 1
        );
        let mut faults = Vec::new();
        self.client
            .read_faults(|fault| faults.push(fault))
            .expect("faults");
        let [fault] = faults[..] else {
            panic!("one fault, not {faults:?}");
        };
        assert_eq!(
            FaultReason(fault.reason),
            reason,
            "{request:x?}: {record:?}"
        );
        assert_eq!(fault.device, self.device);
        assert_eq!(fault.address, Some(request.address & !0xfff));
        let writes = request.access == vtd_model::Access::Write;
        assert_eq!((fault.read, fault.write), (!writes, writes));
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Change {
    Mapped,
    Leaf,
    Table,
}

#[test]
fn a_device_follows_the_table_that_its_guest_keeps() {
    each(|house, way| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let everywhere = Capabilities::USER_TABLE
            | Capabilities::PAGE_2M
            | Capabilities::PAGE_1G
            | Capabilities::FAULT_EVENTS;
        // Supervisor requests and snooping are the unit's own matter.
        let told = table.capabilities() - Capabilities::SUPERVISOR - Capabilities::ENFORCE_SNOOP;
        assert_eq!(told, way.capabilities() | everywhere);
        let device = tenant.client.device(tenant.device).expect("a device");
        assert!(device.capabilities.contains(table.capabilities()));
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(9)];
        let high = 0x1234_5000;
        tenant.guest.map(root, high, first, ALL);
        house.assert_blocked(&tenant.read(high));
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(high + 0x678), first);
        tenant.assert_reaches(&tenant.write(high + 0x678), first);
        tenant.map(&table, root, high + 0x1000, second, PRESENT | USER);
        tenant.assert_reaches(&tenant.read(high + 0x1000), second);
        if way.upper_half {
            tenant.map(&table, root, 0xffff_8000_0000_0000, second, ALL);
            tenant.assert_reaches(&tenant.read(0xffff_8000_0000_0000), second);
        }
        house.assert_blocked(&read(OTHER, high));
        tenant.unbind(None);
        house.assert_blocked(&tenant.read(high));
        tenant.client.destroy_table(table).expect("destroyed");
    });
}

#[test]
fn a_refused_request_is_told_with_the_reason_that_nesting_hardware_gives() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        let beyond = 0x7fff_0000;
        let cases = [
            (0x10_0000, 0, false, FaultReason::FIRST_STAGE_NOT_PRESENT),
            (
                0x10_1000,
                data | PRESENT | USER,
                true,
                FaultReason::SCALABLE_WRITE_DENIED,
            ),
            (
                0x10_2000,
                data | PRESENT | WRITABLE,
                false,
                FaultReason::USER_DENIED,
            ),
            (
                0x10_3000,
                data | ALL | 1 << 50,
                false,
                FaultReason::FIRST_STAGE_RESERVED,
            ),
            (
                0x10_4000,
                beyond | ALL,
                false,
                FaultReason::SECOND_STAGE_NOT_PRESENT,
            ),
            // Two things are wrong: what both stages lead to comes before what they allow.
            (
                0x10_5000,
                beyond | PRESENT | USER,
                true,
                FaultReason::SECOND_STAGE_NOT_PRESENT,
            ),
        ];
        for (gva, entry, ..) in cases {
            tenant.guest.map(root, gva, entry & !0xfff, entry & 0xfff);
        }
        // A table that lies nowhere, and one that is not the user's.
        let lost = tenant.guest.entry(root, 4, 0x4000_0000, 3);
        tenant.guest.store(lost, beyond | ALL);
        tenant.guest.map(root, 0x80_0000, data, ALL);
        let kernel = tenant.guest.entry(root, 4, 0x80_0000, 2);
        let entry = tenant.guest.load(kernel);
        tenant.guest.store(kernel, entry & !USER);
        tenant.bind(None, &table);
        for (gva, _, writes, reason) in cases {
            let request = if writes {
                tenant.write(gva)
            } else {
                tenant.read(gva)
            };
            tenant.assert_faults(&request, reason);
        }
        tenant.assert_faults(
            &tenant.read(0x4000_0000),
            FaultReason::SECOND_STAGE_NOT_PRESENT,
        );
        tenant.assert_faults(&tenant.read(0x80_0000), FaultReason::USER_DENIED);
        tenant.assert_faults(
            &tenant.read(0x0000_8000_0000_0000),
            FaultReason::NOT_CANONICAL,
        );
        tenant.unbind(None);
    });
}

#[test]
fn what_the_guest_changes_is_seen_when_its_flush_returns() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(9)];
        tenant.bind(None, &table);
        let request = tenant.write(0x5000);
        house.assert_blocked(&request);
        for gpa in [first, second, first] {
            tenant.map(&table, root, 0x5000, gpa, ALL);
            tenant.assert_reaches(&request, gpa);
            tenant.guest.map(root, 0x5000, second, ALL);
            tenant.flush(&table, 0x5000, 1, Change::Leaf);
            tenant.assert_reaches(&request, second);
            // Rights are taken away, then the page.
            tenant.guest.map(root, 0x5000, second, PRESENT | USER);
            tenant.flush(&table, 0x5000, 1, Change::Leaf);
            house.assert_blocked(&request);
            tenant.guest.unmap(root, 0x5000);
            tenant.flush(&table, 0x5000, 1, Change::Leaf);
            house.assert_blocked(&tenant.read(0x5000));
        }
        // A whole table is exchanged for another.
        let other = tenant.guest.table();
        tenant.guest.store(other + 8 * 5, second | ALL);
        let directory = tenant.guest.entry(root, 4, 0x5000, 2);
        tenant.guest.store(directory, other | ALL);
        tenant.flush(&table, 0, 512, Change::Table);
        tenant.assert_reaches(&request, second);
        tenant.guest.store(directory, 0);
        tenant.client.flush_everything(&table).expect("flushed");
        house.assert_blocked(&request);
        tenant.unbind(None);
    });
}

#[test]
fn a_large_page_reaches_what_is_behind_each_part_of_it() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let entry = tenant.guest.entry(root, 4, 0x4000_0000, 2);
        tenant.guest.store(entry, BASE | LARGE | ALL);
        tenant.bind(None, &table);
        for page in [0, 7, 40] {
            let request = tenant.write(0x4000_0000 + page * 0x1000);
            tenant.assert_reaches(&request, tenant.guest.data(page));
        }
        tenant.assert_faults(
            &tenant.read(0x4000_0000 + 100 * 0x1000),
            FaultReason::SECOND_STAGE_NOT_PRESENT,
        );
        tenant.guest.store(entry, 0);
        tenant.flush(&table, 0x4000_0000, 512, Change::Leaf);
        house.assert_blocked(&tenant.read(0x4000_7000));
        tenant.unbind(None);
    });
}

#[test]
fn tables_that_point_to_themselves_lead_nowhere_else() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.guest.store(root + 8 * 255, root | ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        // 255 at every level: the root itself, as a page.
        let recursive = 0x7fbf_dfef_f000;
        tenant.assert_reaches(&tenant.write(recursive), root);
        tenant.unbind(None);
        house.assert_blocked(&tenant.read(recursive));
    });
}

#[test]
fn a_table_is_replaced_by_another_and_the_first_is_forgotten() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let (other_root, other) = tenant.root();
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(9)];
        tenant.guest.map(root, 0x5000, first, ALL);
        tenant.guest.map(root, 0x6000, first, ALL);
        tenant.guest.map(other_root, 0x5000, second, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(0x5000), first);
        let device = tenant.device;
        tenant
            .client
            .replace(device, None, &other)
            .expect("replaced");
        tenant.assert_reaches(&tenant.read(0x5000), second);
        house.assert_blocked(&tenant.read(0x6000));
        tenant.client.destroy_table(table).expect("not used");
        tenant.unbind(None);
    });
}

#[test]
fn pasids_of_a_guest_have_tables_of_their_own() {
    each(|house, way| {
        if way.config.pasid_bits.is_none() || way.mode == ModeRequest::Legacy {
            return;
        }
        let mut tenant = house.guest(1, 64, ONE);
        let mut bound = Vec::new();
        for index in 0..3 {
            let (root, table) = tenant.root();
            let data = tenant.guest.data(index);
            tenant.guest.map(root, 0x5000, data, ALL);
            let pasid = tenant.client.allocate_pasid(1, 1000).expect("a PASID");
            tenant.bind(Some(pasid), &table);
            bound.push((pasid, table, data));
        }
        // The host's numbers are the lowest that are free; the guest does not know them.
        for ((_, _, data), host) in bound.iter().zip(1..) {
            tenant.assert_reaches(&tenant.read(0x5000).with_pasid(host), *data);
        }
        house.assert_blocked(&tenant.read(0x5000));
        house.assert_blocked(&tenant.read(0x5000).with_pasid(4));
        let (pasid, table, _) = bound.remove(1);
        tenant.unbind(Some(pasid));
        tenant.client.free_pasid(pasid).expect("free");
        tenant.client.destroy_table(table).expect("destroyed");
        house.assert_blocked(&tenant.read(0x5000).with_pasid(2));
        tenant.assert_reaches(&tenant.read(0x5000).with_pasid(1), bound[0].2);
        tenant.assert_reaches(&tenant.read(0x5000).with_pasid(3), bound[1].2);
        tenant.assert_faults(
            &tenant.read(0x9000).with_pasid(3),
            FaultReason::FIRST_STAGE_NOT_PRESENT,
        );
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        house.assert_blocked(&tenant.read(0x5000).with_pasid(1));
        assert_eq!(Pasid::MAX.as_u32(), 0xf_ffff);
    });
}

#[test]
fn memory_that_the_host_takes_is_reached_by_nobody_before_it_is_used_again() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [gone, kept] = [tenant.guest.data(3), tenant.guest.data(4)];
        tenant.guest.map(root, 0x5000, gone, ALL);
        tenant.guest.map(root, 0x6000, kept, ALL);
        tenant.guest.map(root, 0x60_0000, gone, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.write(0x5000), gone);
        tenant.assert_reaches(&tenant.write(0x60_0000), gone);
        forget(&tenant, gone);
        for address in [0x5000, 0x60_0000] {
            tenant.assert_faults(&tenant.read(address), FaultReason::SECOND_STAGE_NOT_PRESENT);
        }
        tenant.assert_reaches(&tenant.read(0x6000), kept);
        // A page that is one of its tables.
        let directory = tenant.guest.entry(root, 4, 0x6000, 2);
        let page = tenant.guest.load(directory) & !0xfff;
        forget(&tenant, page);
        tenant.client.flush_everything(&table).expect("flushed");
        tenant.assert_faults(&tenant.read(0x6000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        // The root itself.
        forget(&tenant, root);
        house.assert_blocked(&tenant.read(0x6000));
        tenant.unbind(None);
    });
}

/// The host takes a page back and uses it for something else.
pub(crate) fn forget(tenant: &Tenant<'_>, gpa: u64) {
    let frame = tenant.guest.lose(gpa);
    let run = Run {
        hpa: frame.hpa(),
        pages: 1,
    };
    let range = AddressRange::page_of(Gpa::new(gpa));
    tenant
        .house
        .iommu
        .forget(tenant.vm, &range, &[run])
        .expect("forgotten");
    tenant.house.platform.release(frame);
}

/// The host takes rights to a page from a guest: the page goes, and comes back with less.
fn protect(tenant: &Tenant<'_>, gpa: u64, access: Access) {
    let run = Run {
        hpa: tenant.guest.hpa(gpa),
        pages: 1,
    };
    let range = AddressRange::page_of(Gpa::new(gpa));
    let iommu = &tenant.house.iommu;
    tenant.guest.protect(gpa, access);
    iommu.forget(tenant.vm, &range, &[run]).expect("forgotten");
    iommu.memory_grew(tenant.vm).expect("known");
}

#[test]
fn memory_that_the_host_adds_is_reached_where_tables_led_to_it_already() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [data, kept] = [tenant.guest.data(3), tenant.guest.data(4)];
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.guest.map(root, 0x6000, kept, ALL);
        tenant.bind(None, &table);
        forget(&tenant, data);
        tenant.assert_faults(&tenant.read(0x5000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        tenant.guest.gain(data);
        house.iommu.memory_grew(tenant.vm).expect("known");
        tenant.assert_reaches(&tenant.write(0x5000), data);
        tenant.assert_reaches(&tenant.write(0x6000), kept);
        // What was there is not mapped anew.
        let commits = house.iommu.figures().flushes;
        house.iommu.memory_grew(tenant.vm).expect("known");
        assert_eq!(house.iommu.figures().flushes, commits);
        tenant.unbind(None);
    });
}

#[test]
fn what_is_told_too_late_is_seen_as_it_was_or_as_it_is() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(9)];
        tenant.guest.map(root, 0x5000, first, ALL);
        tenant.bind(None, &table);
        let request = tenant.write(0x5000);
        tenant.assert_reaches(&request, first);
        tenant.guest.map(root, 0x5000, second, ALL);
        // Not told yet: the old page is reached still, by some hardware at least.
        let possible = house
            .platform
            .with_machine(|machine| machine.possible(&request));
        let pages = [first, second].map(|gpa| Some(tenant.guest.hpa(gpa).as_u64()));
        assert!(
            possible
                .iter()
                .all(|outcome| pages.contains(&outcome.address()))
        );
        if house.pessimist {
            assert!(possible.iter().any(|outcome| outcome.address() == pages[0]));
        }
        tenant.flush(&table, 0x5000, 1, Change::Leaf);
        tenant.assert_reaches(&request, second);
        tenant.unbind(None);
    });
}

#[test]
fn a_root_that_hardware_could_not_read_is_refused() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let device = tenant.device;
        for (bad, errno) in [
            (0x7fff_0000, Errno::EFAULT),
            (0x0001_0000_0000_0000, Errno::EFAULT),
        ] {
            let frame = PhysFrame::from_start_address(PhysAddr::new(bad)).expect("aligned");
            let refused = tenant
                .client
                .allocate_user_table(device, Format::X86_64Level4, frame);
            assert_eq!(refused.unwrap_err().errno(), Some(errno), "{bad:#x}");
        }
        // One whose page went before it was bound.
        tenant.bind(None, &table);
        tenant.unbind(None);
        forget(&tenant, root);
        let refused = tenant.client.bind(device, &table).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::EFAULT));
        house.assert_blocked(&tenant.read(0x5000));
    });
}

#[test]
fn what_means_interrupts_is_never_translated_to() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let (inside, around) = ([0xfee0_0000, 0xfeef_f000], [0xfedf_f000, 0xfef0_0000]);
        tenant.bind(None, &table);
        for page in inside {
            tenant.map(&table, root, 0x5000, page, ALL);
            tenant.assert_faults(&tenant.write(0x5000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        }
        tenant.unbind(None);
        // Nor where the guest has memory there, between pages that are like any other.
        for page in inside.into_iter().chain(around) {
            tenant.guest.gain(page);
        }
        house.iommu.memory_grew(tenant.vm).expect("known");
        tenant.bind(None, &table);
        for page in inside {
            tenant.map(&table, root, 0x5000, page, ALL);
            tenant.assert_faults(&tenant.write(0x5000), FaultReason::SECOND_STAGE_NOT_PRESENT);
        }
        for (gva, page) in [(0x6000, around[0]), (0x7000, around[1])] {
            tenant.map(&table, root, gva, page, ALL);
            tenant.assert_reaches(&tenant.write(gva), page);
        }
        tenant.unbind(None);
    });
}

#[test]
fn allocations_that_fail_leave_a_guest_as_it_was() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let (root, table) = tenant.root();
        let data = tenant.guest.data(3);
        tenant.guest.map(root, 0x5000, data, ALL);
        let device = tenant.device;
        let arena = house.platform.arena();
        let mut failures = 0;
        loop {
            let before = arena.outstanding();
            arena.fail_allocation(failures + 1);
            let bound = tenant.client.bind(device, &table);
            arena.fail_allocation(0);
            match bound {
                Ok(()) => break,
                Err(error) => assert_eq!(error.errno(), Some(Errno::ENOMEM)),
            }
            assert_eq!(arena.outstanding(), before);
            house.assert_blocked(&tenant.read(0x5000));
            failures += 1;
        }
        tenant.assert_reaches(&tenant.read(0x5000), data);
        tenant.unbind(None);
        assert!(failures > 0);
    });
}

#[test]
fn a_device_that_cannot_be_given_for_lack_of_memory_belongs_to_nobody() {
    each(|house, way| {
        let guest = Guest::new(&house.platform, 1, 64, 8);
        house
            .iommu
            .create_guest(VmId(1), Quota::default(), guest.clone())
            .expect("a guest");
        let arena = house.platform.arena();
        let mut failures = 0;
        let assign = || house.iommu.assign(VmId(1), device(ONE), 8);
        loop {
            let before = arena.outstanding();
            arena.fail_allocation(failures + 1);
            let assigned = assign();
            arena.fail_allocation(0);
            if assigned.is_ok() {
                break;
            }
            assert_eq!(arena.outstanding(), before);
            failures += 1;
        }
        // Only a second stage needs memory.
        assert_eq!(failures > 0, way.nested);
        house.iommu.destroy_guest(VmId(1)).expect("ended");
        for frame in guest.take_all() {
            house.platform.release(frame);
        }
    });
}

#[test]
fn a_guest_that_dies_leaves_nothing_behind() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let mut neighbour = house.guest(2, 64, OTHER);
        let before = house.platform.arena().outstanding();
        let data = tenant.guest.data(3);
        let (root, table) = tenant.root();
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.bind(None, &table);
        let (other_root, other) = neighbour.root();
        let theirs = neighbour.guest.data(5);
        neighbour.guest.map(other_root, 0x5000, theirs, ALL);
        neighbour.bind(None, &other);
        tenant.assert_reaches(&tenant.write(0x5000), data);
        neighbour.assert_reaches(&neighbour.write(0x5000), theirs);
        let resets = house.host.resets.load(Ordering::Relaxed);
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        assert_eq!(house.host.resets.load(Ordering::Relaxed), resets + 1);
        for frame in tenant.guest.take_all() {
            house.platform.release(frame);
        }
        house.assert_blocked(&tenant.write(0x5000));
        neighbour.assert_reaches(&neighbour.write(0x5000), theirs);
        neighbour.unbind(None);
        // Only the units' own tables have grown.
        let left = house.platform.arena().outstanding() + 64;
        assert!(left <= before + 6, "{left} pages, {before} before");
        assert!(house.idle < before);
        // The device can be given away anew.
        house
            .platform
            .with_machine(|machine| machine.assign(ONE, None, Owner::Guest(2)));
        house
            .iommu
            .assign(VmId(2), device(ONE), 0x20)
            .expect("given");
    });
}

#[test]
fn memory_that_the_guest_may_not_write_is_not_written_by_its_device() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let [data, other] = [tenant.guest.data(3), tenant.guest.data(4)];
        protect(&tenant, data, Access::READ);
        let (root, table) = tenant.root();
        tenant.guest.map(root, 0x5000, data, ALL);
        tenant.guest.map(root, 0x6000, other, ALL);
        tenant.bind(None, &table);
        tenant.assert_reaches(&tenant.read(0x5000), data);
        tenant.assert_faults(&tenant.write(0x5000), FaultReason::SCALABLE_WRITE_DENIED);
        // The same while the table is bound.
        tenant.assert_reaches(&tenant.write(0x6000), other);
        protect(&tenant, other, Access::READ);
        tenant.assert_reaches(&tenant.read(0x6000), other);
        tenant.assert_faults(&tenant.write(0x6000), FaultReason::SCALABLE_WRITE_DENIED);
        tenant.unbind(None);
    });
}

#[test]
fn nobody_reaches_memory_of_another_guest_by_naming_its_addresses() {
    each(|house, _| {
        let mut tenant = house.guest(1, 64, ONE);
        let neighbour = house.guest(2, 64, OTHER);
        let (root, table) = tenant.root();
        tenant.bind(None, &table);
        // Host addresses of the neighbour's, taken for the guest's own.
        for page in 0..8 {
            let hpa = neighbour.guest.hpa(neighbour.guest.data(page)).as_u64();
            tenant.map(&table, root, 0x10_0000 + page * 0x1000, hpa, ALL);
            let possible = house
                .platform
                .with_machine(|machine| machine.possible(&read(ONE, 0x10_0000 + page * 0x1000)));
            assert!(possible.iter().all(|outcome| reason_of(outcome).is_some()));
        }
        tenant.unbind(None);
    });
}

/// A machine of two units, of which only the first nests; [`OTHER`] is behind the second.
fn mixed(host: &Hypervisor) -> House<'_> {
    let nests = Way::nested("nested", Config::scalable());
    House::with(&nests, Freedom::Random(3), host, |plan| {
        let mut plan = plan.device(OTHER, 1);
        plan.units.push(Config {
            nested: false,
            ..Config::scalable()
        });
        plan
    })
}

#[test]
fn what_a_guest_was_told_of_a_table_holds_wherever_it_is_bound() {
    let host = Hypervisor::default();
    let house = mixed(&host);
    let mut tenant = house.guest(1, 64, ONE);
    let second = house
        .iommu
        .assign(tenant.vm, device(OTHER), u32::from(OTHER))
        .expect("the device");
    house
        .platform
        .with_machine(|machine| machine.assign(OTHER, None, Owner::Guest(1)));
    let shadowed = iommu_guest::DeviceId::from_u32(second);
    let nested = tenant.device;
    // Of the first table the guest need not tell what it maps anew: hardware must nest it.
    let (_, free) = tenant.root();
    let refused = tenant.client.bind(shadowed, &free).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EOPNOTSUPP));
    tenant.client.bind(nested, &free).expect("bound");
    tenant.client.unbind(nested).expect("unbound");
    // Of the second it must, which does no harm where hardware nests.
    tenant.device = shadowed;
    let (root, told) = tenant.root();
    tenant.device = nested;
    let data = tenant.guest.data(3);
    tenant.client.bind(nested, &told).expect("bound");
    tenant.client.bind(shadowed, &told).expect("bound");
    tenant.map(&told, root, 0x5000, data, ALL);
    for source in [ONE, OTHER] {
        house.assert_reaches(&write(source, 0x5000), tenant.guest.hpa(data));
    }
    tenant.guest.unmap(root, 0x5000);
    tenant.flush(&told, 0x5000, 1, Change::Leaf);
    for source in [ONE, OTHER] {
        house.assert_blocked(&write(source, 0x5000));
    }
    house.iommu.destroy_guest(tenant.vm).expect("ended");
    house.assert_clean();
}

#[test]
fn a_second_stage_goes_with_the_last_device_that_needs_it() {
    let host = Hypervisor::default();
    let way = Way::nested("nested", Config::scalable());
    let house = House::new(&way, Freedom::Random(4), &host);
    let arena = house.platform.arena();
    let tenant = house.guest(1, 64, ONE);
    let with_one = arena.outstanding();
    house
        .iommu
        .assign(tenant.vm, device(OTHER), 8)
        .expect("the device");
    assert_eq!(arena.outstanding(), with_one, "one for all of a kind");
    house
        .iommu
        .take_back(tenant.vm, device(ONE))
        .expect("taken");
    assert_eq!(arena.outstanding(), with_one);
    house
        .iommu
        .take_back(tenant.vm, device(OTHER))
        .expect("taken");
    // Four levels of tables for memory within 2 MiB.
    assert_eq!(arena.outstanding(), with_one - 4);
    house.assert_clean();
}
