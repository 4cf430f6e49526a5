//! The other ways to say what a device's PASIDs use: structures of `linux/iommu.h`, a whole
//! PASID table, and a table above an address space that the hypervisor keeps; down to what
//! devices reach, on hardware that nests and on shadows.

use crate::guest::{ALL, PRESENT, USER, WRITABLE};
use crate::guests::{House, Hypervisor, Tenant, Way, each};
use crate::rig::{FREEDOMS, ONE, device};
use iommu_abi::*;
use iommu_core::{
    Access, AddressRange, Backend as _, Coherence, Frame, Gpa, Iova, LeafSizes, Order,
    Platform as _, Run, Slot, TableFormat, WalkStep,
};
use vtd::{ModeRequest, SharedTables};
use vtd_model::{Config, Request};

fn has_pasids(way: &Way) -> bool {
    way.config.pasid_bits.is_some() && way.mode != ModeRequest::Legacy
}

/// A root that maps 0x5000 to a page of data.
fn root_to(tenant: &Tenant<'_>, data: u64) -> u64 {
    let root = tenant.guest.table();
    tenant.guest.map(root, 0x5000, data, ALL);
    root
}

/// A guest's PASID table: its directory, and the table for PASIDs 0 to 63.
struct PasidTable {
    directory: u64,
    table: u64,
}

impl PasidTable {
    fn new(tenant: &Tenant<'_>) -> Self {
        let [directory, table] = [tenant.guest.table(), tenant.guest.table()];
        tenant.guest.store(directory, table | PRESENT);
        Self { directory, table }
    }

    /// PGTT 001, four levels, user requests.
    fn set(&self, tenant: &Tenant<'_>, pasid: u64, root: u64) {
        self.store(tenant, pasid, [1 | 1 << 6, 0, root]);
    }

    fn store(&self, tenant: &Tenant<'_>, pasid: u64, words: [u64; 3]) {
        for (word, at) in words.iter().zip((self.table + 64 * pasid..).step_by(8)) {
            tenant.guest.store(at, *word);
        }
    }

    fn bind(&self, tenant: &Tenant<'_>) -> PasidTableBind {
        let mut ask = PasidTableBind {
            device_id: tenant.device.as_u32(),
            directory: self.directory,
            ..PasidTableBind::new()
        };
        assert_eq!(tenant.call(&mut ask), Ok(0));
        ask
    }

    fn tell(&self, tenant: &Tenant<'_>, first: u32, last: u32) -> PasidTableInvalidate {
        let mut ask = PasidTableInvalidate {
            device_id: tenant.device.as_u32(),
            first_pasid: first,
            last_pasid: last,
            ..PasidTableInvalidate::new()
        };
        assert_eq!(tenant.call(&mut ask), Ok(0));
        ask
    }
}

#[test]
fn a_device_follows_the_pasid_table_that_its_guest_keeps() {
    each(|house, way| {
        let tenant = house.guest(1, 64, ONE);
        let data = [3, 4, 5].map(|index| tenant.guest.data(index));
        let roots = data.map(|data| root_to(&tenant, data));
        let pasids = PasidTable::new(&tenant);
        pasids.set(&tenant, 0, roots[0]);
        if has_pasids(way) {
            pasids.set(&tenant, 9, roots[1]);
            pasids.set(&tenant, 40, roots[2]);
        }
        let bound = pasids.bind(&tenant);
        assert_eq!(
            (bound.bound, bound.refused),
            (if has_pasids(way) { 3 } else { 1 }, 0)
        );
        let plain = tenant.read(0x5000);
        tenant.assert_reaches(&plain, data[0]);
        if !has_pasids(way) {
            // A PASID that the device cannot send.
            pasids.set(&tenant, 9, roots[1]);
            let told = pasids.tell(&tenant, 9, 9);
            assert_eq!((told.bound, told.refused_pasid, told.reason), (1, 9, 0x89));
            house.iommu.destroy_guest(tenant.vm).expect("ended");
            return;
        }
        // The host's numbers, lowest first.
        tenant.assert_reaches(&plain.with_pasid(1), data[1]);
        tenant.assert_reaches(&plain.with_pasid(2), data[2]);
        house.assert_blocked(&plain.with_pasid(3));
        // One entry leads elsewhere, one nowhere; the third is left alone.
        pasids.set(&tenant, 9, roots[2]);
        pasids.tell(&tenant, 9, 9);
        tenant.assert_reaches(&plain.with_pasid(1), data[2]);
        pasids.store(&tenant, 40, [0; 3]);
        pasids.tell(&tenant, 0, 0xf_ffff);
        house.assert_blocked(&plain.with_pasid(2));
        tenant.assert_reaches(&plain, data[0]);
        // An entry that hardware would refuse.
        pasids.store(&tenant, 9, [1 | 2 << 6, 0, roots[2]]);
        let told = pasids.tell(&tenant, 9, 9);
        assert_eq!((told.refused_pasid, told.reason), (9, 0x5b));
        house.assert_blocked(&plain.with_pasid(1));
        let mut unbind = PasidTableUnbind {
            device_id: tenant.device.as_u32(),
            ..PasidTableUnbind::new()
        };
        assert_eq!(tenant.call(&mut unbind), Ok(0));
        house.assert_blocked(&plain);
        house.iommu.destroy_guest(tenant.vm).expect("ended");
    });
}

#[test]
fn a_guest_that_dies_with_a_pasid_table_leaves_nothing() {
    each(|house, way| {
        let tenant = house.guest(1, 64, ONE);
        let data = tenant.guest.data(3);
        let root = root_to(&tenant, data);
        let pasids = PasidTable::new(&tenant);
        pasids.set(&tenant, 0, root);
        if has_pasids(way) {
            for pasid in 20..24 {
                pasids.set(&tenant, pasid, root);
            }
        }
        pasids.bind(&tenant);
        let request = tenant.read(0x5000);
        tenant.assert_reaches(&request, data);
        house.end(tenant);
        if has_pasids(way) {
            house.assert_blocked(&request.with_pasid(1));
        }
        // The machine's PASIDs are free again: the next guest gets the lowest.
        let next = house.guest(2, 64, ONE);
        let data = next.guest.data(5);
        let root = root_to(&next, data);
        let pasids = PasidTable::new(&next);
        if has_pasids(way) {
            pasids.set(&next, 7, root);
            pasids.bind(&next);
            next.assert_reaches(&next.read(0x5000).with_pasid(1), data);
        }
        house.iommu.destroy_guest(next.vm).expect("ended");
    });
}

/// Stores the 64-bit words of a structure in a page of the guest's.
fn structure(tenant: &Tenant<'_>, page: u64, words: &[u64]) {
    for (word, at) in words.iter().zip((page..).step_by(8)) {
        tenant.guest.store(at, *word);
    }
}

#[test]
fn a_device_follows_what_the_structures_of_linux_say() {
    each(|house, way| {
        if !has_pasids(way) {
            return;
        }
        let mut tenant = house.guest(1, 64, ONE);
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(4)];
        let root = root_to(&tenant, first);
        let page = tenant.guest.data(20);
        let device_id = tenant.device.as_u32();
        let pasid = tenant
            .client
            .allocate_pasid(500, 600)
            .expect("a PASID")
            .as_u32();
        // argsz, version; format, width; flags; root; host PASID; guest PASID; padding; VT-d.
        let bind = [
            72 | 1 << 32,
            1 | 48 << 32,
            0,
            root,
            pasid.into(),
            0,
            0,
            0,
            0,
        ];
        structure(&tenant, page, &bind);
        let mut ask = LinuxBindGpasid {
            device_id,
            structure: page,
            ..LinuxBindGpasid::new()
        };
        assert_eq!(tenant.call(&mut ask), Ok(0));
        let request = tenant.read(0x5000).with_pasid(1);
        tenant.assert_reaches(&request, first);
        // The page is another: told by address, in the unit and in the device.
        tenant.guest.map(root, 0x5000, second, ALL);
        let info = [56 | 1 << 32, 3 | 2 << 8, 1, pasid.into(), 0x5000, 0x1000, 1];
        structure(&tenant, page, &info);
        let mut tell = LinuxCacheInvalidate {
            device_id,
            structure: page,
            ..LinuxCacheInvalidate::new()
        };
        assert_eq!(tenant.call(&mut tell), Ok(0));
        tenant.assert_reaches(&request, second);
        // And gone: told by PASID.
        tenant.guest.unmap(root, 0x5000);
        structure(&tenant, page, &[56 | 1 << 32, 1 | 1 << 8, 1, pasid.into()]);
        assert_eq!(tenant.call(&mut tell), Ok(0));
        house.assert_blocked(&request);
        tenant.guest.map(root, 0x5000, first, ALL);
        structure(&tenant, page, &[16 | 1 << 32, 1]);
        assert_eq!(tenant.call(&mut tell), Ok(0), "all that the device uses");
        tenant.assert_reaches(&request, first);
        structure(&tenant, page, &bind);
        let mut unbind = LinuxUnbindGpasid {
            device_id,
            structure: page,
            ..LinuxUnbindGpasid::new()
        };
        assert_eq!(tenant.call(&mut unbind), Ok(0));
        house.assert_blocked(&request);
        house.iommu.destroy_guest(tenant.vm).expect("ended");
    });
}

fn managed(tenant: &Tenant<'_>) -> u32 {
    let mut ask = IoasAllocate {
        device_id: tenant.device.as_u32(),
        ..IoasAllocate::new()
    };
    assert_eq!(tenant.call(&mut ask), Ok(0));
    ask.ioas_id
}

fn map(tenant: &Tenant<'_>, ioas_id: u32, iova: u64, gpa: u64) {
    let mut ask = IoasMap {
        flags: IoasMap::FIXED_IOVA | IoasMap::READABLE | IoasMap::WRITEABLE,
        ioas_id,
        gpa,
        length: 0x1000,
        iova,
        ..IoasMap::new()
    };
    assert_eq!(tenant.call(&mut ask), Ok(0));
}

#[test]
fn a_table_may_stand_on_an_address_space_that_the_hypervisor_keeps() {
    each(|house, way| {
        let tenant = house.guest(1, 64, ONE);
        let device_id = tenant.device.as_u32();
        let parent = managed(&tenant);
        // The tables lie at 0x10_0000 and on in the parent, the data at 0x8_0000.
        let tables = [0; 4].map(|_| tenant.guest.table());
        let data = tenant.guest.data(3);
        for (at, gpa) in (0x10_0000..).step_by(0x1000).zip(tables) {
            map(&tenant, parent, at, gpa);
        }
        map(&tenant, parent, 0x8_0000, data);
        for (place, table) in tables.iter().enumerate().take(3) {
            let next = 0x10_0000 + 0x1000 * (place as u64 + 1);
            tenant.guest.store(*table, next | ALL);
        }
        tenant.guest.store(tables[3] + 8 * 5, 0x8_0000 | ALL);
        // By the guest's memory this would be another page.
        tenant.guest.store(tables[3] + 8 * 6, data | ALL);
        let mut ask = IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            parent_ioas_id: parent,
            format: Format::X86_64Level4.as_u32(),
            user_page_directory: 0x10_0000,
            device_id,
            ..IoasAllocate::new()
        };
        if !way.nested {
            assert_eq!(tenant.call(&mut ask), Err(Errno::EOPNOTSUPP));
            house.iommu.destroy_guest(tenant.vm).expect("ended");
            return;
        }
        // The root must be mapped there.
        ask.user_page_directory = tables[0];
        assert_eq!(tenant.call(&mut ask), Err(Errno::EFAULT));
        ask.user_page_directory = 0x10_0000;
        assert_eq!(tenant.call(&mut ask), Ok(0));
        let mut bind = Bind {
            device_id,
            ioas_id: ask.ioas_id,
            ..Bind::new()
        };
        assert_eq!(tenant.call(&mut bind), Ok(0));
        tenant.assert_reaches(&tenant.read(0x5000), data);
        house.assert_blocked(&tenant.read(0x6000));
        let mut destroy = Destroy {
            id: parent,
            ..Destroy::new()
        };
        assert_eq!(tenant.call(&mut destroy), Err(Errno::EBUSY));
        // What the parent loses, the table above it does not reach.
        let mut unmap = IoasUnmap {
            ioas_id: parent,
            iova: 0x8_0000,
            length: 0x1000,
            ..IoasUnmap::new()
        };
        assert_eq!(tenant.call(&mut unmap), Ok(0));
        house.assert_blocked(&tenant.read(0x5000));
        let mut unbind = Unbind {
            device_id,
            ..Unbind::new()
        };
        assert_eq!(tenant.call(&mut unbind), Ok(0));
        assert_eq!(
            tenant.call(&mut destroy),
            Err(Errno::EBUSY),
            "the table is there"
        );
        let mut table = Destroy {
            id: ask.ioas_id,
            ..Destroy::new()
        };
        assert_eq!(tenant.call(&mut table), Ok(0));
        assert_eq!(tenant.call(&mut destroy), Ok(0));
        house.iommu.destroy_guest(tenant.vm).expect("ended");
    });
}

#[test]
fn supervisor_requests_are_allowed_where_the_guest_asked_and_the_unit_can() {
    let can = Config::everything();
    let cannot = Config {
        supervisor_requests: false,
        rid_priv: false,
        ..can.clone()
    };
    let shadow = Way::shadowed("shadowed", can.clone(), ModeRequest::SecondStage).by_policy();
    for (way, works) in [
        (Way::nested("supervisor requests", can), true),
        (Way::nested("no supervisor requests", cannot), false),
        (shadow, false),
    ] {
        for freedom in FREEDOMS {
            let host = Hypervisor::default();
            let house = House::new(&way, freedom, &host);
            supervisor(&house, works);
            house.assert_clean();
        }
    }
}

fn supervisor(house: &House, works: bool) {
    let tenant = house.guest(1, 64, ONE);
    let device_id = tenant.device.as_u32();
    let data = tenant.guest.data(3);
    let root = tenant.guest.table();
    tenant.guest.map(root, 0x5000, data, ALL & !USER);
    tenant
        .guest
        .map(root, 0x6000, data, ALL & !USER & !WRITABLE);
    let pasid = |tenant: &Tenant<'_>| {
        let mut ask = PasidAllocate {
            minimum: 1,
            maximum: 9,
            ..PasidAllocate::new()
        };
        assert_eq!(tenant.call(&mut ask), Ok(0));
        ask.pasid
    };
    let bind = |format_flags: u64| {
        let mut ask = IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: Format::X86_64Level4.as_u32(),
            format_flags,
            user_page_directory: root,
            device_id,
            ..IoasAllocate::new()
        };
        tenant.call(&mut ask)?;
        let mut bind = Bind {
            flags: Bind::PASID,
            device_id,
            ioas_id: ask.ioas_id,
            pasid: pasid(&tenant),
            ..Bind::new()
        };
        tenant.call(&mut bind)
    };
    let privileged = |request: Request| Request {
        privileged: true,
        ..request
    };
    let (read, write) = (tenant.read(0x5000), tenant.write(0x6000));
    // Not asked for: refused for the device, whatever the unit can.
    assert_eq!(bind(0), Ok(0));
    house.assert_blocked(&privileged(read.with_pasid(1)));
    let (sre, wpe) = (
        IoasAllocate::FORMAT_SUPERVISOR,
        IoasAllocate::FORMAT_WRITE_PROTECT,
    );
    assert_eq!(bind(1 << 2), Err(Errno::EOPNOTSUPP), "no such flag");
    assert_eq!(bind(wpe), Err(Errno::EINVAL), "without supervisor requests");
    if works {
        assert_eq!(bind(sre), Ok(0));
        tenant.assert_reaches(&privileged(read.with_pasid(2)), data);
        house.assert_blocked(&read.with_pasid(2));
        tenant.assert_reaches(&privileged(write.with_pasid(2)), data);
        assert_eq!(bind(sre | wpe), Ok(0));
        tenant.assert_reaches(&privileged(read.with_pasid(3)), data);
        house.assert_blocked(&privileged(write.with_pasid(3)));
    } else {
        assert_eq!(bind(sre), Err(Errno::EOPNOTSUPP));
        assert_eq!(bind(sre | wpe), Err(Errno::EOPNOTSUPP));
    }
    house.iommu.destroy_guest(tenant.vm).expect("ended");
}

/// Whether the entry that the device's requests without PASID go by says that they snoop.
fn snoops(house: &House) -> bool {
    let slot = Slot {
        device: device(ONE),
        pasid: None,
    };
    let mut said = false;
    let at = Iova::new(0x5000);
    let mut step = |step: &WalkStep| {
        if step.table.contains("PASID table") {
            said = step.words[1] >> 24 & 1 == 1;
        }
    };
    let walked = house.driver().explain(slot, at, Access::READ, &mut step);
    walked.expect("it is mapped");
    said
}

#[test]
fn snooping_is_enforced_where_the_unit_can_and_refused_elsewhere() {
    for (snoop_control, by_policy) in [(true, false), (false, false), (true, true)] {
        let config = Config {
            snoop_control,
            ..Config::scalable()
        };
        let way = if by_policy {
            Way::shadowed("shadowed", config, ModeRequest::SecondStage).by_policy()
        } else {
            Way::nested("nested", config)
        };
        for freedom in FREEDOMS {
            let host = Hypervisor::default();
            let house = House::new(&way, freedom, &host);
            enforce_snoop(&house, snoop_control, snoop_control && !by_policy);
            house.assert_clean();
        }
    }
}

fn enforce_snoop(house: &House, for_managed: bool, for_tables: bool) {
    let tenant = house.guest(1, 64, ONE);
    let device_id = tenant.device.as_u32();
    let data = tenant.guest.data(3);
    let root = root_to(&tenant, data);
    let mut info = DeviceInfo {
        device_id,
        ..DeviceInfo::new()
    };
    assert_eq!(tenant.call(&mut info), Ok(0));
    let told = Capabilities::from_bits_retain(info.capabilities);
    assert_eq!(told.contains(Capabilities::ENFORCE_SNOOP), for_tables);
    let space = |flags: u32| IoasAllocate {
        flags,
        device_id,
        ..IoasAllocate::new()
    };
    let of_root = |flags: u32| IoasAllocate {
        format: Format::X86_64Level4.as_u32(),
        user_page_directory: root,
        ..space(flags | IoasAllocate::USER_TABLE)
    };
    let snoop = IoasAllocate::ENFORCE_SNOOP;
    for (mut ask, works) in [(space(snoop), for_managed), (of_root(snoop), for_tables)] {
        let made = tenant.call(&mut ask);
        if !works {
            assert_eq!(made, Err(Errno::EOPNOTSUPP));
            continue;
        }
        assert_eq!(made, Ok(0));
        let holds = Capabilities::from_bits_retain(ask.capabilities);
        assert!(holds.contains(Capabilities::ENFORCE_SNOOP));
        if ask.flags & IoasAllocate::USER_TABLE == 0 {
            map(&tenant, ask.ioas_id, 0x5000, data);
        }
        bind_and_unbind(&tenant, ask.ioas_id, || {
            tenant.assert_reaches(&tenant.read(0x5000), data);
            assert!(snoops(house), "asked for and not said to hardware");
        });
    }
    // Who does not ask, of an address space that the hypervisor keeps, does not get it.
    let mut ask = space(0);
    assert_eq!(tenant.call(&mut ask), Ok(0));
    map(&tenant, ask.ioas_id, 0x5000, data);
    bind_and_unbind(&tenant, ask.ioas_id, || assert!(!snoops(house)));
    house.iommu.destroy_guest(tenant.vm).expect("ended");
}

fn bind_and_unbind(tenant: &Tenant<'_>, ioas_id: u32, between: impl FnOnce()) {
    let device_id = tenant.device.as_u32();
    let mut bind = Bind {
        device_id,
        ioas_id,
        ..Bind::new()
    };
    assert_eq!(tenant.call(&mut bind), Ok(0));
    between();
    let mut unbind = Unbind {
        device_id,
        ..Unbind::new()
    };
    assert_eq!(tenant.call(&mut unbind), Ok(0));
}

/// The tables by which a guest's CPUs see its memory: EPT of four levels.
struct Ept<'h> {
    house: &'h House<'h>,
    tables: Vec<Frame>,
}

impl<'h> Ept<'h> {
    fn new(house: &'h House<'h>) -> Self {
        let root = house.platform.allocate(Order::PAGE).expect("a page");
        Self {
            house,
            tables: vec![root],
        }
    }

    /// A domain of them, for the hypervisor to give away.
    fn offer(&self) {
        let tables = SharedTables {
            format: TableFormat::SecondStage4,
            root: self.tables[0].hpa(),
            leaves: LeafSizes {
                mib2: false,
                gib1: false,
            },
            guest_bits: 39,
            host_bits: 40,
            written_back: true,
            pinned: true,
            flags_set: true,
        };
        let made = self.house.driver().create_shared(device(ONE), &tables);
        let domain = made.expect("they can be shared");
        self.house
            .host
            .shared
            .lock()
            .expect("no panic")
            .push(domain);
    }

    fn set(&mut self, gpa: u64, entry: u64) {
        let platform = &self.house.platform;
        let mut table = 0;
        for level in (2..=4u32).rev() {
            let index = (gpa >> (12 + 9 * (level - 1)) & 0x1ff) as usize;
            let next = self.tables[table].load(index).expect("an entry") & 0xf_ffff_ffff_f000;
            let known = self.tables.iter().position(|it| it.hpa().as_u64() == next);
            table = known.unwrap_or_else(|| {
                let below = platform.allocate(Order::PAGE).expect("a page");
                let value = below.hpa().as_u64() | 7;
                platform.publish64(&self.tables[table], index, value, Coherence::WriteBack);
                self.tables.push(below);
                self.tables.len() - 1
            });
        }
        let index = (gpa >> 12 & 0x1ff) as usize;
        platform.publish64(&self.tables[table], index, entry, Coherence::WriteBack);
    }
}

#[test]
fn managed_nested_and_shared_tables_are_told_apart_without_a_type() {
    each(|house, way| {
        let can = way.mode == ModeRequest::SecondStage || way.mode == ModeRequest::Legacy;
        let mut ept = Ept::new(house);
        if can {
            // One to find out whether it works, and one to use.
            ept.offer();
            ept.offer();
        }
        let tenant = house.guest(1, 64, ONE);
        let device_id = tenant.device.as_u32();
        let [first, second] = [tenant.guest.data(3), tenant.guest.data(4)];
        for gpa in [first, second] {
            ept.set(gpa, tenant.guest.hpa(gpa).as_u64() | 0x37);
        }
        let root = root_to(&tenant, first);
        let space = |flags: u32| IoasAllocate {
            flags,
            device_id,
            ..IoasAllocate::new()
        };
        // Kept by the hypervisor.
        let kept = managed(&tenant);
        map(&tenant, kept, 0x5000, second);
        bind_and_unbind(&tenant, kept, || {
            tenant.assert_reaches(&tenant.read(0x5000), second);
        });
        // Kept by the guest.
        let mut own = IoasAllocate {
            format: Format::X86_64Level4.as_u32(),
            user_page_directory: root,
            ..space(IoasAllocate::USER_TABLE)
        };
        assert_eq!(tenant.call(&mut own), Ok(0));
        bind_and_unbind(&tenant, own.ioas_id, || {
            tenant.assert_reaches(&tenant.read(0x5000), first);
        });
        // The CPUs'.
        let mut both = space(IoasAllocate::SHARED | IoasAllocate::USER_TABLE);
        let mut shared = space(IoasAllocate::SHARED);
        if can {
            assert_eq!(tenant.call(&mut both), Err(Errno::EINVAL));
            assert_eq!(tenant.call(&mut shared), Ok(0));
            let mut bind = Bind {
                device_id,
                ioas_id: shared.ioas_id,
                ..Bind::new()
            };
            assert_eq!(tenant.call(&mut bind), Ok(0));
            tenant.assert_reaches(&tenant.read(first), first);
            tenant.assert_reaches(&tenant.read(second), second);
            house.assert_blocked(&tenant.read(0x5000));
            // The guest loses a page: its CPUs' tables first, then what devices know.
            let frame = tenant.guest.lose(first);
            ept.set(first, 0);
            let gone = AddressRange::of_pages(Gpa::new(first), 1).expect("a page");
            let run = Run {
                hpa: frame.hpa(),
                pages: 1,
            };
            house
                .iommu
                .forget(tenant.vm, &gone, &[run])
                .expect("forgotten");
            house.assert_blocked(&tenant.read(first));
            house.platform.release(frame);
            tenant.assert_reaches(&tenant.read(second), second);
        } else {
            assert_eq!(tenant.call(&mut shared), Err(Errno::EOPNOTSUPP));
        }
        house.iommu.destroy_guest(tenant.vm).expect("ended");
        house.assert_blocked(&tenant.read(second));
        for table in ept.tables.drain(..) {
            house.platform.release(table);
        }
    });
}
