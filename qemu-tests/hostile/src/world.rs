//! A machine with guests in it, and what each deed does there.

use crate::belief::{Belief, Device, Woven};
use crate::broken::{Broken, Fault};
use crate::calls::{self, Disturbs, Prepared};
use crate::floor::{Around, Floor, Host, Illness, Registers};
use crate::outline::{Actor, Deed, Setting};
use crate::ram::{Pool, Ram, lock};
use crate::sharing::{Pasids, Sharing};
use crate::stage;
use crate::tally::Tally;
use iommu::{Config as Policy, Iommu, IommuError, PasidBitmap};
use iommu_abi::{Errno, Op};
use iommu_core::{
    Access, AddressRange, Backend, DeviceId, Gpa, Hpa, Nanoseconds, Pasid, Platform, Run, Segment,
    SourceId, VmId,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use vtd::{
    DeviceTlb, DeviceTlbError, Discovered, DriverConfig, InterruptConfig, Message, TimeLimits,
    UnitConfig, UnitDescription,
};
use vtd_model::{Builder, Freedom, Outcome, Owner, Promptness, Request, Rule, Violation};
use vtd_model_platform::ModelPlatform;

type Vtd = vtd::Driver<Arc<Floor>, Registers>;

/// Who devices act for that no guest has: somebody who owns nothing.
const LIMBO: Owner = Owner::Guest(u32::MAX);

/// Where guests' memory begins.
const BASE: u64 = 0x10_0000;
/// Where some have 2 MiB that lie together in the host's memory too.
const LARGE_PAGE: u64 = 0x20_0000;
/// Pages at the start that hold arguments, one for each virtual CPU, and arrays.
const CALL_PAGES: u64 = 4;
/// Pages for tables after them.
const TABLE_PAGES: u64 = 12;
/// Tables with which a guest's address spaces begin.
const ROOTS: usize = 4;
/// Present, writable, for users.
const ALL: u64 = 7;
const LARGE: u64 = 1 << 7;
/// How long a unit is given to confirm invalidations.
const FLUSH_LIMIT: Nanoseconds = Nanoseconds::from_millis(2);

/// A guest while it lives.
#[derive(Clone)]
pub(crate) struct Life {
    owner: Owner,
    pub(crate) ram: Arc<Ram>,
    pub(crate) belief: Arc<Mutex<Belief>>,
}

impl Life {
    /// Which of all lives it is.
    fn number(&self) -> Option<u32> {
        match self.owner {
            Owner::Guest(number) => Some(number),
            _ => None,
        }
    }
}

struct Guest {
    vm: VmId,
    life: Mutex<Option<Life>>,
    /// A slot of it was bound before.
    bound_before: Mutex<Vec<(u32, Option<u32>)>>,
}

struct DeviceState {
    id: DeviceId,
    source: u16,
    /// The guest that has it.
    guest: Mutex<Option<usize>>,
    /// Who its requests act for, as far as containment is concerned.
    owner: Mutex<Owner>,
}

/// Memory and devices of guests whose end hardware did not confirm.
struct Remains {
    pages: Vec<u64>,
    devices: Vec<usize>,
}

pub(crate) struct World {
    pub(crate) setting: Setting,
    pub(crate) floor: Arc<Floor>,
    driver: Arc<Vtd>,
    iommu: Iommu<Broken<Vtd>, Arc<Floor>, Host, Pasids>,
    sharing: Arc<Sharing>,
    pool: Pool,
    guests: Vec<Guest>,
    devices: Vec<DeviceState>,
    illnesses: Vec<Arc<Illness>>,
    remains: Mutex<Vec<Remains>>,
    owners: AtomicU32,
    pub(crate) tally: Mutex<Tally>,
    findings: Mutex<Vec<String>>,
}

fn device_id(source: u16) -> DeviceId {
    DeviceId::new(Segment(0), SourceId::from_bits(source))
}

impl World {
    /// Brings the units up and all guests to life.
    ///
    /// # Panics
    /// If a machine that is sound does not come up.
    pub(crate) fn new(setting: Setting) -> Self {
        let mut random = fastrand::Rng::with_seed(setting.seed ^ 0x77);
        let freedom = if setting.pessimist {
            Freedom::Pessimist(random.u64(..))
        } else {
            Freedom::Random(random.u64(..))
        };
        let build = |mut builder: Builder| {
            for unit in &setting.units {
                builder = builder.unit(unit.config.clone());
            }
            for device in &setting.devices {
                builder = match device.late {
                    None => builder.device(device.source, device.unit),
                    Some(ticks) => {
                        builder.ats_device(device.source, device.unit, Promptness::Late(ticks))
                    }
                };
            }
            builder.freedom(freedom)
        };
        let model = ModelPlatform::new(1 << 12, build).expect("a possible machine");
        let floor = Arc::new(Floor::new(model, random.u64(..)));
        let pool = Pool::new(&floor, &mut random);
        let illnesses: Vec<Arc<Illness>> = setting.units.iter().map(|_| Arc::default()).collect();
        let driver = Arc::new(bring_up(&setting, &floor, &illnesses));
        let policy = Policy {
            guests: 8,
            nesting: setting.nesting,
            ..Policy::default()
        };
        let broken = Broken::new(Arc::clone(&driver), setting.fault);
        let host = Host(Arc::new(Around::default()));
        let shared = setting.devices.iter().filter(|plan| plan.shared);
        let sharing = Sharing::new(&floor, shared.map(|plan| plan.source).collect(), LIMBO);
        let pasids = Pasids {
            bitmap: PasidBitmap::new(4).expect("memory"),
            sharing: Arc::clone(&sharing),
        };
        let iommu = Iommu::new(policy, broken, Arc::clone(&floor), host, pasids).expect("memory");
        let guests = (0..setting.guests.len())
            .map(|number| Guest {
                vm: VmId(number as u16),
                life: Mutex::default(),
                bound_before: Mutex::default(),
            })
            .collect();
        let devices = setting
            .devices
            .iter()
            .map(|plan| DeviceState {
                id: device_id(plan.source),
                source: plan.source,
                guest: Mutex::default(),
                owner: Mutex::new(LIMBO),
            })
            .collect();
        let world = Self {
            floor,
            driver,
            iommu,
            sharing,
            pool,
            guests,
            devices,
            illnesses,
            remains: Mutex::default(),
            owners: AtomicU32::new(1),
            tally: Mutex::default(),
            findings: Mutex::default(),
            setting,
        };
        if world.setting.fault == Some(Fault::ForgetsWriteBacks) {
            world.floor.model.lose_write_backs(true);
        }
        for device in 0..world.devices.len() {
            world.act_for(device, LIMBO);
        }
        for plan in world
            .setting
            .devices
            .iter()
            .filter(|plan| plan.late.is_some())
        {
            let settings = DeviceTlb {
                queue_depth: 0,
                physical_function: SourceId::from_bits(plan.source),
                page_requests: false,
            };
            let enabled: Result<(), DeviceTlbError<()>> =
                world
                    .driver
                    .enable_device_tlb(device_id(plan.source), settings, || Ok(()));
            enabled.expect("a unit with device-TLBs");
        }
        for guest in 0..world.guests.len() {
            world.revive(guest);
        }
        world.floor.fail_one_in(world.setting.failing);
        world
    }

    /// Something that must not be.
    pub(crate) fn find(&self, words: String) {
        lock(&self.findings).push(words);
    }

    /// What was found since the last look, by the model or by us.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *lock(&self.findings));
        let violations = self.floor.model.take_violations();
        let sick = self.setting.sick;
        all.extend(
            violations
                .iter()
                .filter(|found| !(sick && is_damage(found)))
                .map(ToString::to_string),
        );
        all
    }

    fn life(&self, guest: usize) -> Option<Life> {
        lock(&self.guests[guest].life).clone()
    }

    /// Says whom a device acts for, to the oracle and to ourselves.
    fn act_for(&self, device: usize, owner: Owner) {
        let state = &self.devices[device];
        *lock(&state.owner) = owner;
        self.floor
            .model
            .with_machine(|machine| machine.assign(state.source, None, owner));
    }

    /// Does it, and says what came of it.
    pub(crate) fn act(&self, actor: Actor, deed: Deed, entropy: u64) -> String {
        let mut random = fastrand::Rng::with_seed(entropy);
        match (actor, deed) {
            (Actor::Cpu { guest, cpu }, deed) => self.guest_acts(guest, cpu, deed, &mut random),
            (_, Deed::Kill(guest)) => self.kill(guest),
            (_, Deed::Revive(guest)) => self.revive(guest),
            (_, Deed::Shrink(guest)) => self.shrink(guest, &mut random),
            (_, Deed::Grow(guest)) => self.grow(guest, &mut random),
            (_, Deed::Move(device)) => self.move_device(device, &mut random),
            (_, Deed::Stall(_) | Deed::Damage(_)) if !self.setting.sick => "well".to_owned(),
            (_, Deed::Stall(unit)) => self.stall(unit),
            (_, Deed::Damage(unit)) => {
                self.illnesses[unit].damage();
                lock(&self.tally).stalls += 1;
                format!("unit {unit} will miss a descriptor")
            }
            (_, Deed::Reclaim) => self.reclaim(),
            (_, Deed::Poll(guest)) => self.poll(guest, &mut random),
            (_, Deed::Sweep) => {
                self.floor.model.with_machine(vtd_model::Machine::sweep);
                lock(&self.tally).containment += 1;
                "swept".to_owned()
            }
            (_, _) => self.drain_faults(),
        }
    }

    // ---- guests ----

    fn guest_acts(
        &self,
        guest: usize,
        cpu: usize,
        deed: Deed,
        random: &mut fastrand::Rng,
    ) -> String {
        let Some(life) = self.life(guest) else {
            return self.call_of_the_dead(guest, random);
        };
        match deed {
            Deed::Map => self.map_page(guest, cpu, &life, random),
            Deed::Unmap => self.unmap_page(guest, cpu, &life, random),
            Deed::Weave => weave(&life, random),
            Deed::Scribble => scribble(&life, random),
            Deed::Call(op) => {
                let known = lock(&life.belief).clone();
                self.call(guest, cpu, &life, calls::possible(op, &known), random)
            }
            _ => String::new(),
        }
    }

    /// A virtual CPU that has not noticed yet.
    fn call_of_the_dead(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        if random.u8(..8) != 0 {
            return "dead".to_owned();
        }
        let op = Op::ALL[random.usize(..Op::ALL.len())];
        let vm = self.guests[guest].vm;
        let result = self.iommu.call(vm, op.as_u32().into(), Gpa::new(BASE));
        lock(&self.tally).call(None, result);
        format!("dead, {} → {result}", op.name())
    }

    fn call(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        op: Op,
        random: &mut fastrand::Rng,
    ) -> String {
        let mut known = lock(&life.belief).clone();
        known.buffer += 0x400 * cpu as u64;
        if op == Op::RingEnter && random.u8(..8) != 0 {
            return self.enter_ring(guest, cpu, life, &known, random);
        }
        let prepared = calls::plan(op, &known, random);
        self.make(guest, cpu, life, &known, prepared, random)
    }

    /// Makes a call that was prepared, spoilt perhaps, and learns from it.
    pub(crate) fn make(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        known: &Belief,
        mut call: Prepared,
        random: &mut fastrand::Rng,
    ) -> String {
        let polite = self.setting.guests[guest].polite;
        let mut address = BASE + 0x1000 * cpu as u64 + 8 * random.u64(..64);
        let mut operation = u64::from(call.op.as_u32());
        let good = polite || random.u8(..100) < 65;
        if !good {
            let spoilt = calls::spoil(&mut call, address, random);
            (address, operation) = (spoilt.address, spoilt.operation);
        }
        life.ram.write(address, &call.argument);
        life.ram.write(known.buffer, &call.buffer);
        let disturbs = call.disturbs;
        let before = polite.then(|| self.disturb(life, disturbs));
        let failures = self.floor.failures();
        stage::call_for(life.number());
        let result = self
            .iommu
            .call(self.guests[guest].vm, operation, Gpa::new(address));
        stage::call_for(None);
        let back = life.ram.read(address, call.argument.len());
        let op = Op::from_register(operation);
        lock(&self.tally).call(op, result);
        self.judge_result(guest, life, op, result, failures);
        let mut words = format!("{} → {}", call.op.name(), result_words(result));
        if !good {
            words = format!(
                "{words} (spoilt: {operation:#x} at {address:#x}, {:02x?})",
                call.argument
            );
        }
        if result >= 0 && op == Some(call.op) {
            self.count_rebind(guest, call.op, &call.argument);
            call.learn(&mut lock(&life.belief), &back);
        }
        if before.is_some() && disturbs != Disturbs::Ring {
            self.promise(guest, life);
        }
        words
    }

    fn count_rebind(&self, guest: usize, op: Op, argument: &[u8]) {
        use iommu_abi::{Bind, FromBytes};
        if op != Op::Bind {
            return;
        }
        if let Ok((bind, _)) = Bind::read_from_prefix(argument) {
            let pasid = (bind.flags & Bind::PASID != 0).then_some(bind.pasid);
            let mut before = lock(&self.guests[guest].bound_before);
            if before.contains(&(bind.device_id, pasid)) {
                lock(&self.tally).rebinds += 1;
            } else {
                before.push((bind.device_id, pasid));
            }
        }
    }

    /// What any guest may see, and what a well-behaved one must.
    pub(crate) fn judge_result(
        &self,
        guest: usize,
        life: &Life,
        op: Option<Op>,
        result: i64,
        failures: u64,
    ) {
        let Ok(number) = u32::try_from(result.unsigned_abs()) else {
            self.find(format!(
                "guest {guest}: the result register holds {result:#x}"
            ));
            return;
        };
        if result >= 0 {
            return;
        }
        let Some(errno) = Errno::from_u32(number) else {
            self.find(format!(
                "guest {guest}: error {number} is not of the interface"
            ));
            return;
        };
        if !self.setting.sick && matches!(errno, Errno::EIO | Errno::ETIMEDOUT) {
            self.find(format!(
                "guest {guest}: {op:?} failed with {errno:?}, and hardware did as it was told"
            ));
        }
        let excused = match errno {
            Errno::ENOMEM => self.floor.failures() > failures,
            // Numbers of PASIDs and domains are shared by all.
            Errno::ENOSPC => matches!(
                op,
                Some(
                    Op::PasidAllocate
                        | Op::IoasAllocate
                        | Op::Bind
                        | Op::LinuxBindGpasid
                        | Op::PasidTableBind
                        | Op::PasidTableInvalidate
                )
            ),
            // It does not know what its table asks for: whatever lies in its pages.
            Errno::EDQUOT => {
                matches!(op, Some(Op::PasidTableBind | Op::PasidTableInvalidate))
            }
            // Devices ask for no pages here.
            Errno::ENOENT if op == Some(Op::LinuxPageResponse) => true,
            // It was ended, and may have begun again.
            _ => !is_same(&lock(&self.guests[guest].life), life),
        };
        if self.setting.guests[guest].polite && !excused {
            self.find(format!(
                "guest {guest} makes no mistake, and its {op:?} failed with {errno:?}"
            ));
        }
    }

    // ---- what a well-behaved guest may rely on ----

    /// Ends the promises that a call is about to change.
    pub(crate) fn disturb(&self, life: &Life, disturbs: Disturbs) {
        let belief = lock(&life.belief).clone();
        for device in &belief.devices {
            let ioas = belief
                .bound
                .iter()
                .find(|bound| bound.device == device.handle && bound.pasid.is_none())
                .map(|bound| bound.ioas);
            let (first, bytes) = match disturbs {
                Disturbs::Slot(handle) if handle == device.handle => (0, u64::MAX),
                Disturbs::Pages {
                    ioas: of,
                    iova,
                    pages,
                } if ioas == Some(of) || device.slice => (iova, pages << 12),
                _ => continue,
            };
            self.release_of(life, device, first, bytes);
        }
    }

    /// Ends promises of a device, or of a guest's PASIDs of one that is shared.
    fn release_of(&self, life: &Life, device: &Device, first: u64, bytes: u64) {
        if !device.slice {
            self.release(device.source, first, bytes);
            return;
        }
        for pasid in self.sharing.of(life.owner) {
            self.floor.model.with_machine(|machine| {
                machine.release(device.source, Some(pasid), first, bytes);
            });
        }
    }

    fn release(&self, source: u16, first: u64, bytes: u64) {
        self.floor
            .model
            .with_machine(|machine| machine.release(source, None, first, bytes));
    }

    /// Promises what the guest may rely on from now on: its requests reach what it bound.
    pub(crate) fn promise(&self, guest: usize, life: &Life) {
        if self.setting.fault == Some(Fault::GivesMemoryAway) {
            return;
        }
        // A guest that is ended meanwhile is promised nothing more.
        let alive = lock(&self.guests[guest].life);
        if !is_same(&alive, life) {
            return;
        }
        let belief = lock(&life.belief).clone();
        for device in &belief.devices {
            self.release_of(life, device, 0, u64::MAX);
            if device.slice {
                self.promise_slice(guest, life, &belief, device);
                continue;
            }
            for (address, gpa, writable) in belief.reachable(device.handle, None) {
                let Some(hpa) = life.ram.hpa(gpa) else {
                    continue;
                };
                self.floor.model.with_machine(|machine| {
                    machine.expect(device.source, None, address, 0x1000, hpa, writable);
                });
            }
        }
    }

    /// The same for what the guest bound of a device that others share.
    fn promise_slice(&self, guest: usize, life: &Life, belief: &Belief, device: &Device) {
        let bound = belief.bound.iter();
        for bound in bound.filter(|bound| bound.device == device.handle) {
            let number = bound.pasid.and_then(Pasid::new);
            let resolved = number.and_then(|number| {
                let vm = self.guests[guest].vm;
                let host = self.iommu.host_pasid(vm, device_id(device.source), number);
                host.ok()
            });
            let Some(host) = resolved.map(Pasid::as_u32) else {
                continue;
            };
            for (address, gpa, writable) in belief.reachable(device.handle, bound.pasid) {
                let Some(hpa) = life.ram.hpa(gpa) else {
                    continue;
                };
                self.floor.model.with_machine(|machine| {
                    machine.expect(device.source, Some(host), address, 0x1000, hpa, writable);
                });
            }
        }
    }

    // ---- tables that guests keep ----

    fn map_page(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> String {
        let known = lock(&life.belief).clone();
        let bound: Vec<_> = known
            .tables
            .iter()
            .filter(|table| known.is_bound(table.handle))
            .collect();
        let wanted = if bound.is_empty() || random.u8(..4) == 0 {
            random.choice(&known.tables)
        } else {
            random.choice(bound)
        };
        let Some(&table) = wanted else {
            let op = calls::possible(Op::IoasAllocate, &known);
            return self.call(guest, cpu, life, op, random);
        };
        if !self.setting.guests[guest].polite && random.u8(..4) == 0 {
            lay_tables(life);
        }
        let place = LEAVES[random.usize(..LEAVES.len())];
        let gva = place << 12;
        let gpa = known.data_pages[place as usize % known.data_pages.len()];
        let leaf = known.table_pages[ROOTS + 2 + (place >> 9) as usize] + 8 * (place & 0x1ff);
        life.ram.store(leaf, gpa | ALL);
        let words = self.flush(guest, cpu, life, &known, table.handle, gva, random);
        if words.ends_with("ok") {
            lock(&life.belief).weave(Woven {
                ioas: table.handle,
                gva,
                gpa,
            });
            if self.setting.guests[guest].polite {
                self.promise(guest, life);
            }
        }
        format!(
            "maps {gva:#x} to {gpa:#x} in table {}: {words}",
            table.handle
        )
    }

    fn unmap_page(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        random: &mut fastrand::Rng,
    ) -> String {
        let known = lock(&life.belief).clone();
        let Some(&woven) = random.choice(&known.woven) else {
            return self.map_page(guest, cpu, life, random);
        };
        // The leaf is shared by all tables of the guest.
        lock(&life.belief)
            .woven
            .retain(|other| other.gva != woven.gva);
        for device in &known.devices {
            self.release_of(life, device, woven.gva, 0x1000);
        }
        if self.setting.guests[guest].polite {
            self.promise(guest, life);
        }
        let place = woven.gva >> 12;
        let leaf = known.table_pages[ROOTS + 2 + (place >> 9) as usize] + 8 * (place & 0x1ff);
        life.ram.store(leaf, 0);
        let words = self.flush(guest, cpu, life, &known, woven.ioas, woven.gva, random);
        format!("unmaps {:#x}: {words}", woven.gva)
    }

    /// Tells that one page of a table changed.
    #[expect(clippy::too_many_arguments, reason = "who, where, what, and chance")]
    fn flush(
        &self,
        guest: usize,
        cpu: usize,
        life: &Life,
        known: &Belief,
        ioas: u32,
        gva: u64,
        random: &mut fastrand::Rng,
    ) -> String {
        let mut known = known.clone();
        known.buffer += 0x400 * cpu as u64;
        let call = calls::invalidate_page(ioas, gva, known.buffer);
        self.make(guest, cpu, life, &known, call, random)
    }

    // ---- the hypervisor ----

    /// The hypervisor looks at a guest's rings, having said so or not.
    fn poll(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        let vm = self.guests[guest].vm;
        stage::call_for(life.number());
        let words = match random.u8(..3) {
            0 => format!("polls: {:?}", self.iommu.set_polling(vm, true)),
            1 => format!("polls no more: {:?}", self.iommu.set_polling(vm, false)),
            _ => format!("looks: {:?}", self.iommu.poll_rings(vm)),
        };
        stage::call_for(None);
        words
    }

    fn kill(&self, guest: usize) -> String {
        let state = &self.guests[guest];
        let Some(life) = lock(&state.life).take() else {
            return "dead already".to_owned();
        };
        let devices: Vec<usize> = (0..self.devices.len())
            .filter(|&device| *lock(&self.devices[device].guest) == Some(guest))
            .collect();
        for &device in &devices {
            self.release(self.devices[device].source, 0, u64::MAX);
        }
        let shared = self.setting.devices.iter().filter(|plan| plan.shared);
        for plan in shared {
            for pasid in self.sharing.of(life.owner) {
                self.floor.model.with_machine(|machine| {
                    machine.release(plan.source, Some(pasid), 0, u64::MAX);
                });
            }
        }
        let ended = self.iommu.destroy_guest(state.vm);
        for &device in &devices {
            *lock(&self.devices[device].guest) = None;
        }
        lock(&state.bound_before).clear();
        lock(&self.tally).kills += 1;
        let remains = Remains {
            pages: life.ram.take_all(),
            devices,
        };
        match ended {
            Ok(()) => {
                self.bury(remains);
                "ended".to_owned()
            }
            Err(error) => {
                if !matches!(error, IommuError::Flush(_)) {
                    self.find(format!("guest {guest} could not be ended: {error:?}"));
                }
                lock(&self.remains).push(remains);
                format!("ended, and {error:?}")
            }
        }
    }

    /// Nothing leads there any more: devices act for nobody, and memory is anybody's.
    fn bury(&self, remains: Remains) {
        for device in remains.devices {
            self.act_for(device, LIMBO);
        }
        for page in remains.pages {
            self.pool.put_back(page);
        }
    }

    fn revive(&self, guest: usize) -> String {
        let state = &self.guests[guest];
        if let Some(life) = self.life(guest) {
            return self.give_homes(guest, &life);
        }
        let plan = &self.setting.guests[guest];
        let number = self.owners.fetch_add(1, Ordering::Relaxed);
        let owner = Owner::Guest(number);
        let ram = Ram::new(&self.floor, plan.restless, plan.seed ^ u64::from(number));
        for page in 0..plan.pages {
            let Some(hpa) = self.pool.take(owner) else {
                break;
            };
            ram.add(BASE + 0x1000 * page, hpa, Access::READ_WRITE);
        }
        let life = Life {
            owner,
            ram: Arc::new(ram),
            belief: Arc::new(Mutex::new(first_belief(plan.pages))),
        };
        if plan.large {
            // The first of its lives only: afterwards its pages are anywhere.
            for (number, hpa) in self.pool.take_large(owner).enumerate() {
                life.ram
                    .add(LARGE_PAGE + 0x1000 * number as u64, hpa, Access::READ_WRITE);
            }
        }
        if !life.ram.has(BASE + 0x1000 * (CALL_PAGES + TABLE_PAGES)) {
            self.abandon(&life);
            return "no memory for a guest".to_owned();
        }
        lay_tables(&life);
        let memory = life.ram.clone();
        if let Err(error) = self.iommu.create_guest(state.vm, plan.quota, memory) {
            self.abandon(&life);
            self.find(format!("guest {guest} cannot begin: {error:?}"));
            return format!("{error:?}");
        }
        let given = self.give_homes(guest, &life);
        *lock(&state.life) = Some(life);
        format!("begins as {number}{given}")
    }

    /// Gives a guest the devices that are its own and that nobody has.
    fn give_homes(&self, guest: usize, life: &Life) -> String {
        let slices: String = (0..self.devices.len())
            .filter(|&device| self.setting.devices[device].shared)
            .map(|device| format!(", {}", self.give_slice(device, guest, life)))
            .collect();
        let own: String = (0..self.devices.len())
            .filter(|&device| self.setting.devices[device].home == guest)
            .filter(|&device| lock(&self.devices[device].guest).is_none())
            .map(|device| format!(", {}", self.give(device, guest, life)))
            .collect();
        own + &slices
    }

    /// Gives a guest its slice of a device that all share, if it has none.
    fn give_slice(&self, device: usize, guest: usize, life: &Life) -> String {
        let state = &self.devices[device];
        let plan = &self.setting.devices[device];
        let home = self.setting.devices.iter().find(|plan| plan.home == guest);
        // What a well-behaved guest has fits all that it has.
        let fits = home.is_some_and(|home| home.unit == plan.unit);
        let known = lock(&life.belief).devices.clone();
        let has = known.iter().any(|known| known.source == state.source);
        if has || (self.setting.guests[guest].polite && !fits) {
            return "no slice".to_owned();
        }
        let vm = self.guests[guest].vm;
        match self
            .iommu
            .assign_slice(vm, state.id, u32::from(state.source))
        {
            Ok(handle) => {
                lock(&life.belief).devices.push(Device {
                    handle,
                    source: state.source,
                    pasids: true,
                    slice: true,
                });
                format!("a slice of {}", state.id)
            }
            Err(error) => format!("no slice of {}: {error:?}", state.id),
        }
    }

    fn abandon(&self, life: &Life) {
        for page in life.ram.take_all() {
            self.pool.put_back(page);
        }
    }

    /// Gives a device that nobody has to a guest.
    fn give(&self, device: usize, guest: usize, life: &Life) -> String {
        let state = &self.devices[device];
        let remains = lock(&self.remains)
            .iter()
            .any(|remains| remains.devices.contains(&device));
        if remains || lock(&state.guest).is_some() {
            return format!("{} is not free", state.id);
        }
        self.act_for(device, life.owner);
        let vm = self.guests[guest].vm;
        match self.iommu.assign(vm, state.id, u32::from(state.source)) {
            Ok(handle) => {
                *lock(&state.guest) = Some(guest);
                let capabilities = self.driver.capabilities(state.id);
                lock(&life.belief).devices.push(Device {
                    handle,
                    source: state.source,
                    pasids: capabilities.is_ok_and(|has| has.pasid_bits > 0),
                    slice: false,
                });
                format!("with {}", state.id)
            }
            Err(error) => {
                // Blocked, or never his.
                self.act_for(device, LIMBO);
                format!("{}: {error:?}", state.id)
            }
        }
    }

    fn move_device(&self, device: usize, random: &mut fastrand::Rng) -> String {
        let state = &self.devices[device];
        if self.setting.devices[device].shared {
            return "is shared".to_owned();
        }
        let holder = *lock(&state.guest);
        if let Some(holder) = holder {
            if self.setting.guests[holder].polite {
                return "stays".to_owned();
            }
            let taken = self.iommu.take_back(self.guests[holder].vm, state.id);
            match taken {
                Ok(()) => {}
                Err(IommuError::Flush(_)) => {
                    *lock(&state.guest) = None;
                    lock(&self.remains).push(Remains {
                        pages: Vec::new(),
                        devices: vec![device],
                    });
                }
                Err(error) => return format!("stays: {error:?}"),
            }
            *lock(&state.guest) = None;
            if let Some(life) = self.life(holder) {
                let mut belief = lock(&life.belief);
                let source = state.source;
                let gone = belief.devices.iter().find(|known| known.source == source);
                if let Some(handle) = gone.map(|known| known.handle) {
                    belief.lose_device(handle);
                    belief.forget_object(handle);
                }
            }
            if let Err(error) = taken {
                return format!("taken, and {error:?}");
            }
            self.act_for(device, LIMBO);
        }
        let to = random.usize(..self.guests.len());
        lock(&self.tally).moves += 1;
        match self.life(to) {
            Some(life) if !self.setting.guests[to].polite => {
                format!("to guest {to}: {}", self.give(device, to, &life))
            }
            _ => "to nobody".to_owned(),
        }
    }

    /// Takes a page from a guest. It may be any: one that is mapped, one of its tables, the
    /// one that holds the argument of a call under way.
    fn shrink(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        if self.setting.guests[guest].polite {
            return "stays".to_owned();
        }
        let gpa = self.page_to_take(guest, &life, random);
        let Some(hpa) = life.ram.remove(gpa) else {
            return "nothing there".to_owned();
        };
        let gone = AddressRange::page_of(Gpa::new(gpa));
        let run = Run {
            hpa: Hpa::new(hpa),
            pages: 1,
        };
        if self.setting.fault != Some(Fault::GivesMemoryAway)
            && let Err(error) = self.iommu.forget(self.guests[guest].vm, &gone, &[run])
        {
            // It was not agreed to.
            life.ram.add(gpa, hpa, Access::READ_WRITE);
            let grew = self.iommu.memory_grew(self.guests[guest].vm);
            return format!("keeps {gpa:#x}: {error:?}, {grew:?}");
        }
        self.pool.put_back(hpa);
        lock(&self.tally).taken_pages += 1;
        format!("loses {gpa:#x}")
    }

    /// Any page, and often one that devices can reach now.
    fn page_to_take(&self, guest: usize, life: &Life, random: &mut fastrand::Rng) -> u64 {
        let belief = lock(&life.belief).clone();
        let slots = belief.bound.iter();
        let reached: Vec<u64> = slots
            .flat_map(|bound| belief.reachable(bound.device, bound.pasid))
            .map(|(_, gpa, _)| gpa)
            .filter(|gpa| life.ram.has(*gpa))
            .collect();
        let plan = &self.setting.guests[guest];
        match random.choice(&reached) {
            Some(gpa) if random.bool() => *gpa,
            _ if plan.large && random.bool() => LARGE_PAGE + 0x1000 * random.u64(..512),
            _ => BASE + 0x1000 * random.u64(..plan.pages),
        }
    }

    fn grow(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        let pages = self.setting.guests[guest].pages;
        let first = random.u64(..pages);
        let hole = (0..pages)
            .map(|step| BASE + 0x1000 * ((first + step) % pages))
            .find(|&gpa| !life.ram.has(gpa));
        let Some((gpa, hpa)) = hole.and_then(|gpa| Some((gpa, self.pool.take(life.owner)?))) else {
            return "has all".to_owned();
        };
        let access = if random.u8(..4) == 0 {
            Access::READ
        } else {
            Access::READ_WRITE
        };
        life.ram.add(gpa, hpa, access);
        let looked = self.iommu.memory_grew(self.guests[guest].vm);
        format!("gets {gpa:#x}: {looked:?}")
    }

    fn stall(&self, unit: usize) -> String {
        let until = self.floor.now().0 + 2 * FLUSH_LIMIT.0;
        self.illnesses[unit].stall(Nanoseconds(until));
        lock(&self.tally).stalls += 1;
        format!("unit {unit} stalls")
    }

    /// Hardware forgets everything, and what was in quarantine is free.
    fn reclaim(&self) -> String {
        // What is buried afterwards was in quarantine before.
        let remains = std::mem::take(&mut *lock(&self.remains));
        match self.driver.reclaim() {
            Ok(mut flushed) => {
                while let Some(frame) = flushed.frames.pop() {
                    self.floor.release(frame);
                }
                let count = remains.len();
                for remains in remains {
                    self.bury(remains);
                }
                format!("reclaimed, {count} remains")
            }
            Err(error) => {
                lock(&self.remains).extend(remains);
                format!("{error:?}")
            }
        }
    }

    fn drain_faults(&self) -> String {
        let mut records = Vec::new();
        self.driver
            .drain_faults(&mut |record| records.push(*record));
        let told = records
            .iter()
            .filter(|record| self.iommu.report(record).is_some())
            .count();
        self.floor.model.with_machine(|machine| {
            machine.take_messages();
        });
        format!("{} faults, {told} told", records.len())
    }

    // ---- devices ----

    /// A device issues a request.
    pub(crate) fn request(&self, random: &mut fastrand::Rng) {
        let number = random.usize(..self.devices.len());
        let device = &self.devices[number];
        let ats = self.setting.devices[number].late.is_some();
        if self.setting.devices[number].shared {
            self.request_shared(device, ats, random);
            return;
        }
        let guest = *lock(&device.guest);
        let life = guest.and_then(|guest| self.life(guest));
        let Some((pasid, address)) = self.target(device, life.as_ref(), random) else {
            return;
        };
        self.issue(device, pasid, address, ats, random);
    }

    /// Carries a request out, and holds all that could come of it against who owns what.
    /// Says whether it went through.
    fn issue(
        &self,
        device: &DeviceState,
        pasid: Option<u32>,
        address: u64,
        ats: bool,
        random: &mut fastrand::Rng,
    ) -> bool {
        let request = Request {
            pasid,
            ..if random.u8(..3) == 0 {
                Request::write(device.source, address)
            } else {
                Request::read(device.source, address)
            }
        };
        let (outcome, possible) = self.floor.model.as_hardware(|machine| {
            let possible = if self.setting.pessimist {
                machine.possible(&request)
            } else {
                Vec::new()
            };
            let by_its_cache = random.bool() && ats;
            let outcome = if by_its_cache {
                machine.ats_access(
                    request.source,
                    request.pasid,
                    request.address,
                    request.access,
                )
            } else {
                machine.request(&request)
            };
            (outcome, possible)
        });
        let shared = self.setting.devices.iter();
        let shared = shared.filter(|plan| plan.shared);
        let owner = match shared
            .map(|plan| plan.source)
            .any(|source| source == device.source)
        {
            true => self.sharing.owner(request.pasid),
            false => *lock(&device.owner),
        };
        let checks = 1 + possible.len() as u64;
        for outcome in possible.iter().chain([&outcome]) {
            self.contain(device, owner, &request, outcome);
        }
        let mut tally = lock(&self.tally);
        tally.containment += checks;
        tally.requests.0 += 1;
        tally.requests.1 += u64::from(outcome.address().is_some());
        outcome.address().is_some()
    }

    /// A request of a device that guests share: mostly one that its guest may make.
    fn request_shared(&self, device: &DeviceState, ats: bool, random: &mut fastrand::Rng) {
        let taken = self.sharing.all();
        let (pasid, owner) = match random.choice(&taken) {
            Some((pasid, owner)) if random.u8(..8) != 0 => (Some(*pasid), *owner),
            // Nobody's, and those without one.
            _ if random.bool() => (Some(random.u32(1..16)), LIMBO),
            _ => (None, LIMBO),
        };
        let lives = (0..self.guests.len()).filter_map(|guest| self.life(guest));
        let reachable: Vec<u64> = lives
            .filter(|life| life.owner == owner || owner == LIMBO)
            .flat_map(|life| {
                let belief = lock(&life.belief).clone();
                let slots = belief.bound.iter().filter(|bound| bound.pasid.is_some());
                let all = slots.flat_map(|bound| belief.reachable(bound.device, bound.pasid));
                all.map(|(address, ..)| address).collect::<Vec<_>>()
            })
            .collect();
        let Some(&address) = random.choice(&reachable) else {
            return;
        };
        let through = self.issue(device, pasid, address | random.u64(..0x1000), ats, random);
        let mut tally = lock(&self.tally);
        tally.shared_requests.0 += 1;
        tally.shared_requests.1 += u64::from(through);
    }

    fn contain(&self, device: &DeviceState, owner: Owner, request: &Request, outcome: &Outcome) {
        let Some(address) = outcome.address() else {
            return;
        };
        let has = self.pool.owner(address);
        if self.setting.real {
            // It may have changed hands since; the model has judged it at its time.
            return;
        }
        if has != Some(owner) {
            self.find(format!(
                "{}, which acts for {owner:?}, reached {address:#x} of {has:?} by {request:x?}",
                device.id
            ));
        }
    }

    /// Mostly an address that the guest may reach by what it bound.
    fn target(
        &self,
        device: &DeviceState,
        life: Option<&Life>,
        random: &mut fastrand::Rng,
    ) -> Option<(Option<u32>, u64)> {
        const STRANGE: [u64; 6] = [
            0,
            0xfee0_1000,
            0x7fff_ffff_f000,
            0xffff_8000_0000_0000,
            0x20_0000,
            0x12_4000_0000,
        ];
        let strange = STRANGE[random.usize(..STRANGE.len())];
        // Who has nothing seldom asks.
        let seldom = random.u8(..8) == 0;
        let Some(life) = life else {
            return seldom.then_some((None, strange));
        };
        let belief = lock(&life.belief);
        let known = belief
            .devices
            .iter()
            .find(|known| known.source == device.source);
        let handle = known.map_or(0, |known| known.handle);
        if known.is_some_and(|known| known.pasids) && random.u8(..16) == 0 {
            // Host PASIDs are the lowest that are free.
            let address = 0x1000 * LEAVES[random.usize(..LEAVES.len())];
            return Some((Some(random.u32(1..8)), address));
        }
        let reachable = belief.reachable(handle, None);
        match random.choice(&reachable) {
            Some((address, ..)) if !seldom => Some((None, *address | random.u64(..0x1000))),
            _ => seldom.then_some((None, strange)),
        }
    }

    // ---- the end ----

    /// All guests die, and everything that they had must be free. Says what is left.
    pub(crate) fn end(self) -> Ended {
        self.floor.fail_one_in(0);
        for guest in 0..self.guests.len() {
            self.kill(guest);
        }
        for illness in &self.illnesses {
            illness.recover();
        }
        while self
            .illnesses
            .iter()
            .any(|illness| illness.stalls(self.floor.now()))
        {
            self.floor.relax();
        }
        for _ in 0..8 {
            let quiet = self.driver.quarantined() == vtd::Quarantined::default();
            if quiet && lock(&self.remains).is_empty() || !self.setting.sick {
                break;
            }
            self.reclaim();
        }
        let quarantined = self.driver.quarantined();
        let mut findings = self.findings();
        let mut tally = lock(&self.tally).clone();
        tally.failures = self.floor.failures();
        tally.containment += self.pool.transfers();
        tally.runs = 1;
        let parked = u64::from(quarantined.debts) + u64::from(quarantined.frames);
        if parked > 0 {
            findings.push(format!("when all guests are gone, {quarantined:?}"));
        }
        let Self {
            floor,
            driver,
            iommu,
            pool,
            setting,
            ..
        } = self;
        drop(iommu);
        let driver = Arc::into_inner(driver).expect("the policy has gone");
        if let Err(failure) = driver.shut_down() {
            findings.push(format!(
                "the units cannot be turned off: {:?}",
                failure.error
            ));
        }
        pool.dispose();
        let pages = floor.model.arena().outstanding() as u64;
        if pages > 0 {
            findings.push(format!("when all is over, {pages} pages are missing"));
        }
        let violations = floor.model.take_violations();
        findings.extend(
            violations
                .iter()
                .filter(|found| !(setting.sick && is_damage(found)))
                .map(ToString::to_string),
        );
        tally.leaks = parked + pages;
        Ended { findings, tally }
    }
}

/// What was left of a run.
pub(crate) struct Ended {
    pub(crate) findings: Vec<String>,
    pub(crate) tally: Tally,
}

/// What a unit says that lost a descriptor.
fn is_damage(found: &Violation) -> bool {
    found.rule == Rule::Queue && found.message.contains("queue error")
}

fn is_same(alive: &Option<Life>, life: &Life) -> bool {
    alive
        .as_ref()
        .is_some_and(|alive| alive.owner == life.owner)
}

fn result_words(result: i64) -> String {
    if result >= 0 {
        return "ok".to_owned();
    }
    let number = u32::try_from(result.unsigned_abs()).unwrap_or(u32::MAX);
    Errno::from_u32(number).map_or_else(|| format!("{result}"), |errno| errno.name().to_owned())
}

/// Leaves that guests map, by number of the page: neighbours, and both sides of a table's end.
const LEAVES: [u64; 10] = [1, 2, 3, 8, 0x100, 0x1fe, 0x1ff, 0x200, 0x201, 0x3ff];

fn first_belief(pages: u64) -> Belief {
    let page = |number: u64| BASE + 0x1000 * number;
    let tables = CALL_PAGES + TABLE_PAGES;
    Belief {
        table_pages: (CALL_PAGES..tables).map(page).collect(),
        data_pages: (tables..pages).map(page).collect(),
        buffer: page(CALL_PAGES - 1),
        ..Belief::default()
    }
}

/// The guest's tables as they begin: roots that lead to one table of each level below, and two
/// of the lowest.
fn lay_tables(life: &Life) {
    let pages = lock(&life.belief).table_pages.clone();
    let [third, second, low, high] = [0, 1, 2, 3].map(|index| pages[ROOTS + index]);
    for root in &pages[..ROOTS] {
        life.ram.store(*root, third | ALL);
    }
    life.ram.store(third, second | ALL);
    life.ram.store(second, low | ALL);
    life.ram.store(second + 8, high | ALL);
}

/// Entries that lead anywhere: to tables of all levels, to themselves, to data, beyond memory.
fn weave(life: &Life, random: &mut fastrand::Rng) -> String {
    const INDICES: [u64; 6] = [0, 1, 2, 255, 256, 511];
    let belief = lock(&life.belief).clone();
    let first = if random.u8(..4) == 0 { 0 } else { ROOTS + 2 };
    let table = belief.table_pages[random.usize(first..belief.table_pages.len())];
    let entry = table + 8 * INDICES[random.usize(..INDICES.len())];
    let bits = match random.u8(..6) {
        0 => 5,
        1 => 3,
        2 => 1,
        _ => ALL,
    };
    let value = match random.u8(..12) {
        0 => 0,
        1..5 => belief.table_pages[random.usize(..belief.table_pages.len())] | bits,
        5..8 => belief.data_pages[random.usize(..belief.data_pages.len())] | bits,
        8 => table | bits,
        9 => [BASE & !0x1f_ffff, LARGE_PAGE][random.usize(..2)] | LARGE | bits,
        10 => [0x7fff_0000, 0xfee0_0000, 0x12_4000_0000, 1 << 45][random.usize(..4)] | bits,
        _ => belief.data_pages[0] | bits | 1 << random.u32(40..63),
    };
    life.ram.store(entry, value);
    format!("writes {value:#x} at {entry:#x}")
}

/// Writes where a call may have its argument or its arrays.
fn scribble(life: &Life, random: &mut fastrand::Rng) -> String {
    let at = match random.u8(..4) {
        // Into a ring.
        0 => BASE + 0x1000 * (CALL_PAGES - 1) + calls::RING_OFFSET + 8 * random.u64(..96),
        _ => BASE + 0x1000 * random.u64(..CALL_PAGES) + 8 * random.u64(..80),
    };
    let value = match random.u8(..4) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::from(random.u8(..64)),
        _ => random.u64(..),
    };
    life.ram.store(at, value);
    format!("scribbles {value:#x} at {at:#x}")
}

fn bring_up(setting: &Setting, floor: &Arc<Floor>, illnesses: &[Arc<Illness>]) -> Vtd {
    let mut limits = TimeLimits::default();
    if !setting.real {
        limits.flush = FLUSH_LIMIT;
    }
    let mut ready = Vec::new();
    for (index, unit) in setting.units.iter().enumerate() {
        let description = UnitDescription {
            index: index as u16,
            segment: Segment(0),
            register_base: Hpa::new(0xfed9_0000 + 0x1000 * index as u64),
            host_bits: unit.config.host_bits,
        };
        let registers = Registers::new(floor, index, &illnesses[index]);
        let config = UnitConfig {
            mode: unit.mode,
            interrupts: Some(InterruptConfig {
                entries_log2: 8,
                extended: false,
            }),
            fault_message: Some(Message {
                address: 0xfee0_1000,
                data: 0x31,
            }),
            page_requests: None,
        };
        let unit = Discovered::open(description, registers, floor)
            .expect("the unit answers")
            .quiesce(floor, limits)
            .expect("the unit comes to rest")
            .prepare(floor, &config);
        ready.push(unit.expect("the unit is ready"));
    }
    let scopes: Vec<(DeviceId, u16)> = setting
        .devices
        .iter()
        .map(|device| (device_id(device.source), device.unit as u16))
        .collect();
    let scopes = move |wanted| {
        let found = scopes.iter().find(|(device, _)| *device == wanted);
        found.map(|(_, unit)| *unit)
    };
    let config = DriverConfig {
        domains: 128,
        attachments: 128,
        ..DriverConfig::default()
    };
    let driver = vtd::Driver::new(Arc::clone(floor), ready, Box::new(scopes), &config);
    let driver = driver.expect("memory for the driver");
    driver.enable().expect("translation comes on")
}
