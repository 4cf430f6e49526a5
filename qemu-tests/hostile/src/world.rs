//! A machine with guests in it, and what each deed does there.

mod ask;
mod call;
mod end;
mod hardware;
mod life;
mod memory;
mod promise;
mod request;
mod table;

use crate::belief::Belief;
use crate::broken::{Broken, Fault};
use crate::floor::{Around, Floor, Host, Illness, Registers};
use crate::outline::{Actor, Deed, Setting};
use crate::ram::{Pool, Ram, lock};
use crate::sharing::{Pasids, Sharing};
use crate::tally::Tally;
use ask::Asking;
use hardware::{bring_up, is_damage};
use iommu::{Config as Policy, Iommu, PasidBitmap};
use iommu_core::{DeviceId, Nanoseconds, Segment, SourceId, VmId};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use vtd::{DeviceTlb, DeviceTlbError};
use vtd_model::{Builder, Freedom, Owner, Promptness};
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
        number_of(self.owner)
    }
}

fn number_of(owner: Owner) -> Option<u32> {
    match owner {
        Owner::Guest(number) if owner != LIMBO => Some(number),
        _ => None,
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
    around: Arc<Around>,
    asking: Asking,
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
        let around = Arc::new(Around::default());
        let host = Host(Arc::clone(&around), Arc::clone(&floor));
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
            around,
            asking: Asking::default(),
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
        world.let_devices_cache();
        for guest in 0..world.guests.len() {
            world.revive(guest);
        }
        world.floor.fail_one_in(world.setting.failing);
        world
    }

    /// Devices that never ask for pages cache translations from the first to the last, the
    /// others when they are programmed to.
    fn let_devices_cache(&self) {
        let plans = self.setting.devices.iter();
        for plan in plans.clone().filter(|plan| plan.asks) {
            self.floor
                .model
                .with_machine(|machine| machine.switch_ats(plan.source, false));
        }
        for plan in plans.filter(|plan| plan.late.is_some() && !plan.asks) {
            let settings = DeviceTlb {
                queue_depth: 0,
                physical_function: SourceId::from_bits(plan.source),
                page_requests: false,
            };
            let enabled: Result<(), DeviceTlbError<()>> =
                self.driver
                    .enable_device_tlb(device_id(plan.source), settings, || Ok(()));
            enabled.expect("a unit with device-TLBs");
        }
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
            (_, Deed::Serve) => self.serve_page_requests(),
            (_, _) => self.drain_faults(),
        }
    }
}
