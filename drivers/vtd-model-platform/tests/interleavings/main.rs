//! Several CPUs at once over policy, driver and the hardware model, in orders that `shuttle`
//! chooses: guests change and invalidate their tables, bind and unbind, die; devices ask and
//! fault; handlers report.
//!
//! Nothing of what is tested is built differently here. A thread can lose the CPU wherever it
//! enters the platform: at every lock, store, fence, register access and turn of a waiting
//! loop ([`platform`]).
//!
//! `SHUTTLE_ITERATIONS` says how many orders are tried, `SHUTTLE_SEED` where they begin; see
//! `docs/testing.md`.

#[path = "../model/guest.rs"]
#[allow(dead_code, reason = "made for other tests")]
mod guest;
mod house;
mod platform;

/// What `guest` calls its platform.
mod rig {
    pub(crate) type Platform = vtd_model_platform::ModelPlatform<vtd::Event>;
}

use house::{House, ONE, OTHER, Tenant};
use iommu_core::{Backend as _, FaultRecord};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Runner, thread};
use std::sync::Arc;
use vtd::ModeRequest;
use vtd_model::{Config, Freedom, Request};

/// Orders for each test, if the environment does not say.
const ITERATIONS: usize = 40;
/// Preemptions that matter to the bugs that PCT looks for.
const DEPTH: usize = 3;

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let set = std::env::var(name).ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tries orders of a body: half of them at random, half with few preemptions.
fn explore(body: impl Fn() + Send + Sync + Clone + 'static) {
    let (iterations, seed) = (
        setting("SHUTTLE_ITERATIONS", ITERATIONS),
        setting("SHUTTLE_SEED", 1),
    );
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    // Whoever waits for what never comes takes this many steps.
    config.max_steps = shuttle::MaxSteps::FailAfter(3_000_000);
    let random = RandomScheduler::new_from_seed(seed, iterations.div_ceil(2));
    Runner::new(random, config.clone()).run(body.clone());
    let few = PctScheduler::new_from_seed(seed, DEPTH, iterations.div_ceil(2));
    Runner::new(few, config).run(body);
}

/// The ways in which a guest's table comes to hardware that differ in what is told to it.
fn ways() -> [(Config, ModeRequest); 3] {
    let shadowed = Config {
        nested: false,
        ..Config::scalable()
    };
    [
        (Config::legacy(), ModeRequest::Legacy),
        (shadowed, ModeRequest::FirstStage),
        (Config::scalable(), ModeRequest::SecondStage),
    ]
}

fn for_each_way(body: fn(&Arc<House>)) {
    for (number, (config, mode)) in (1..).zip(ways()) {
        explore(move || {
            let house = House::new(config.clone(), mode, Freedom::Random(number));
            body(&house);
            house.end();
        });
    }
}

/// A CPU of a guest: maps pages anew, tells, and sees its device reach just them.
fn remap(tenant: &Tenant, page: u64, rounds: u64) {
    let gva = page << 12;
    for round in 0..rounds {
        let data = tenant.data(page + 2 * round);
        tenant.map(gva, data);
        tenant.invalidate(gva);
        tenant.assert_reaches(gva, Some(data));
        tenant.unmap(gva);
        tenant.invalidate(gva);
        tenant.assert_reaches(gva, None);
    }
}

/// A device that asks all the time; what it may reach is the model's to judge.
fn pester(house: &House, source: u16, requests: u64) {
    for number in 0..requests {
        let address = (number % 8) << 12;
        house.with_machine(|machine| machine.request(&Request::write(source, address)));
        thread::yield_now();
    }
}

/// The handler of the fault event.
fn handle_faults(house: &House, times: u32) {
    for _ in 0..times {
        let mut records: Vec<FaultRecord> = Vec::new();
        house
            .driver()
            .drain_faults(&mut |record| records.push(*record));
        for record in &records {
            house.policy().report(record);
        }
        thread::yield_now();
    }
}

#[test]
fn two_cpus_of_a_guest_invalidate_while_its_device_asks_and_faults_are_handled() {
    for_each_way(|house| {
        let tenant = house.tenant(1, ONE);
        tenant.bind();
        let cpus = [1, 2].map(|page| {
            let tenant = tenant.clone();
            thread::spawn(move || remap(&tenant, page, 2))
        });
        let (asking, handling) = (house.clone(), house.clone());
        let device = thread::spawn(move || pester(&asking, ONE, 12));
        let handler = thread::spawn(move || handle_faults(&handling, 4));
        for thread in cpus.into_iter().chain([device, handler]) {
            thread.join().expect("no failure");
        }
        house.destroy(&tenant);
        house.reclaim(tenant);
    });
}

#[test]
fn a_guest_dies_while_another_one_works() {
    for_each_way(|house| {
        let (living, dying) = (house.tenant(1, ONE), house.tenant(2, OTHER));
        living.bind();
        dying.bind();
        let tenant = living.clone();
        let cpu = thread::spawn(move || remap(&tenant, 1, 2));
        let (asking, handling, ending) = (house.clone(), house.clone(), house.clone());
        let device = thread::spawn(move || pester(&asking, OTHER, 12));
        let handler = thread::spawn(move || handle_faults(&handling, 4));
        // Its own CPU is in the middle of a call, perhaps.
        let (calling, ended) = (dying.clone(), dying.clone());
        let last_calls = thread::spawn(move || {
            for page in 1..4 {
                calling.map(page << 12, calling.data(page));
                // It may be dead already.
                let _ = calling.try_invalidate(page << 12);
            }
        });
        let end = thread::spawn(move || ending.destroy(&ended));
        for thread in [cpu, device, handler, last_calls, end] {
            thread.join().expect("no failure");
        }
        house.reclaim(dying);
        house.destroy(&living);
        house.reclaim(living);
    });
}

#[test]
fn a_guest_binds_and_unbinds_while_another_cpu_of_it_invalidates() {
    for_each_way(|house| {
        let tenant = house.tenant(1, ONE);
        tenant.bind();
        let (binding, changing) = (tenant.clone(), tenant.clone());
        let binds = thread::spawn(move || {
            for _ in 0..2 {
                binding.unbind();
                binding.assert_blocked();
                binding.bind();
            }
        });
        let changes = thread::spawn(move || {
            for page in 1..4 {
                changing.map(page << 12, changing.data(page));
                changing.invalidate(page << 12);
                changing.unmap(page << 12);
                changing.invalidate(page << 12);
            }
        });
        let asking = house.clone();
        let device = thread::spawn(move || pester(&asking, ONE, 12));
        for thread in [binds, changes, device] {
            thread.join().expect("no failure");
        }
        tenant.map(0x7000, tenant.data(7));
        tenant.invalidate(0x7000);
        tenant.assert_reaches(0x7000, Some(tenant.data(7)));
        house.destroy(&tenant);
        house.reclaim(tenant);
    });
}
