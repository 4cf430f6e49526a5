//! What a run is: machine, guests and everything that they will do, all of it from one seed.

use crate::broken::Fault;
use crate::units::{self, Kind};
use iommu::{Nesting, Quota};
use iommu_abi::Op;

/// Who does something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Actor {
    /// A virtual CPU of a guest.
    Cpu { guest: usize, cpu: usize },
    /// The hypervisor's own thread, which lets guests come and go.
    Keeper,
    /// The handler of the units' interrupts.
    Interrupts,
}

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// A hypercall.
    Call(Op),
    /// The guest maps a page in a table of its own, and says so.
    Map,
    /// It takes one out again, and says so.
    Unmap,
    /// It writes whatever it likes into its tables.
    Weave,
    /// It writes where the hypervisor may be reading.
    Scribble,
    /// A guest dies and its memory is used for others.
    Kill(usize),
    /// A guest that is dead begins anew.
    Revive(usize),
    /// Memory is taken from a guest and given to others.
    Shrink(usize),
    /// A guest gets memory where it had none.
    Grow(usize),
    /// A device changes hands.
    Move(usize),
    /// A unit does not look at its queue for a while.
    Stall(usize),
    /// A unit finds rubbish where its next descriptor was.
    Damage(usize),
    /// What is in quarantine is taken out again.
    Reclaim,
    /// The hypervisor looks at a guest's rings by itself, or begins to, or ends it.
    Poll(usize),
    /// The model checks everything anew.
    Sweep,
    /// Fault records are taken from the units and told to guests.
    Faults,
    /// Page requests are taken from the units, and told to guests or answered.
    Serve,
}

/// Somebody does something; `entropy` decides the details.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Action {
    pub(crate) actor: Actor,
    pub(crate) deed: Deed,
    pub(crate) entropy: u64,
}

/// A guest as it will be each time that it lives.
#[derive(Clone, Debug)]
pub(crate) struct GuestPlan {
    /// It makes no mistake, and all that it may expect must come true.
    pub(crate) polite: bool,
    pub(crate) cpus: usize,
    pub(crate) pages: u64,
    /// It has 2 MiB that lie together in the host's memory as well.
    pub(crate) large: bool,
    pub(crate) quota: Quota,
    /// One read of the hypervisor in so many finds memory changed; 0 for never.
    pub(crate) restless: u64,
    /// Seed of its memory's changes.
    pub(crate) seed: u64,
}

/// A device and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DevicePlan {
    pub(crate) source: u16,
    pub(crate) unit: usize,
    /// The guest that has it whenever that is alive, unless it was moved.
    pub(crate) home: usize,
    /// All guests share it, each by PASIDs of its own.
    pub(crate) shared: bool,
    /// It has a device-TLB, and answers invalidations after so many ticks.
    pub(crate) late: Option<u64>,
    /// It asks its guest for pages, and caches translations while it has one.
    pub(crate) asks: bool,
}

/// A whole run but for what is done in it.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) units: Vec<Kind>,
    pub(crate) nesting: Nesting,
    pub(crate) pessimist: bool,
    pub(crate) guests: Vec<GuestPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    /// One allocation in so many fails; 0 for none.
    pub(crate) failing: u64,
    /// Units stall now and then.
    pub(crate) sick: bool,
    /// A virtual CPU goes on for so many steps on average.
    pub(crate) patience: u32,
    pub(crate) fault: Option<Fault>,
    /// The latency of well-behaved guests is measured: everybody goes on at the same pace.
    pub(crate) measured: bool,
    /// Real threads: nothing waits between two looks of ours.
    pub(crate) real: bool,
}

/// Calls of one run, on average.
pub(crate) const CALLS: u64 = 500;

impl Setting {
    /// The machine and the guests of a seed.
    pub(crate) fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let kinds = units::all();
        let count = 1 + usize::from(random.u8(..3) == 0);
        let asking = kinds.iter().filter(|kind| kind.config.page_requests);
        let asking: Vec<&Kind> = asking.collect();
        let mut units: Vec<Kind> = (0..count)
            .map(|_| match random.u8(..4) {
                0 => asking[random.usize(..asking.len())].clone(),
                _ => kinds[random.usize(..kinds.len())].clone(),
            })
            .collect();
        if fault == Some(Fault::ForgetsWriteBacks) {
            units[0] = kinds[4].clone();
        }
        let measured = random.u8(..8) == 0 || fault == Some(Fault::LingersOverRequests);
        let sick = !measured && random.u8(..6) == 0;
        let guests: Vec<GuestPlan> = (0..random.usize(2..5))
            .map(|index| guest(index == 0 && !sick, &mut random))
            .collect();
        let mut devices: Vec<DevicePlan> = (0..guests.len() + usize::from(random.bool()))
            .map(|index| {
                let unit = random.usize(..units.len());
                let config = &units[unit].config;
                let late = (config.device_tlb && random.u8(..4) != 0).then(|| random.u64(..20));
                DevicePlan {
                    source: [0x0010, 0x0319, 0x0420, 0x00f8, 0x1207][index],
                    unit,
                    late,
                    asks: late.is_some() && config.page_requests && random.u8(..4) != 0,
                    // A well-behaved guest has one, so that all its address spaces fit it.
                    home: if index < guests.len() { index } else { 1 },
                    shared: false,
                }
            })
            .collect();
        if random.u8(..3) != 0 {
            let unit = random.usize(..units.len());
            devices.push(DevicePlan {
                source: 0x1808,
                unit,
                late: (units[unit].config.device_tlb && random.bool()).then(|| random.u64(..20)),
                asks: false,
                home: usize::MAX,
                shared: true,
            });
        }
        Self {
            seed,
            units,
            nesting: if random.u8(..4) == 0 {
                Nesting::Shadow
            } else {
                Nesting::Hardware
            },
            pessimist: random.u8(..4) != 0 || fault.is_some(),
            guests,
            devices,
            failing: if random.u8(..3) == 0 {
                random.u64(8..64)
            } else {
                0
            },
            sick,
            patience: if measured {
                1
            } else {
                [1, 4, 16, 64][random.usize(..4)]
            },
            fault,
            measured,
            real: false,
        }
    }

    /// What is done, in the order in which it would be done one after the other.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0x5eed);
        let mut actions = Vec::new();
        let mut calls = 0;
        while calls < CALLS {
            let action = self.action(&mut random);
            calls += u64::from(matches!(
                action.deed,
                Deed::Call(_) | Deed::Map | Deed::Unmap
            ));
            actions.push(action);
            if let Deed::Kill(guest) = action.deed
                && random.u8(..4) != 0
            {
                // Its virtual CPUs go on meanwhile, and find nobody.
                let entropy = random.u64(..);
                actions.push(Action {
                    deed: Deed::Revive(guest),
                    entropy,
                    ..action
                });
            }
        }
        actions
    }

    fn action(&self, random: &mut fastrand::Rng) -> Action {
        let entropy = random.u64(..);
        let guest = random.usize(..self.guests.len());
        let (actor, deed) = match random.u16(..1000) {
            0..12 => (Actor::Keeper, Deed::Kill(guest)),
            12..60 => (Actor::Keeper, Deed::Revive(guest)),
            60..78 => (Actor::Keeper, Deed::Shrink(guest)),
            78..92 => (Actor::Keeper, Deed::Grow(guest)),
            92..95 => (
                Actor::Keeper,
                Deed::Move(random.usize(..self.devices.len())),
            ),
            95..102 if self.sick => (Actor::Keeper, Deed::Stall(random.usize(..self.units.len()))),
            102..112 if self.sick => (
                Actor::Keeper,
                Deed::Damage(random.usize(..self.units.len())),
            ),
            112..114 => (Actor::Keeper, Deed::Reclaim),
            114..115 => (Actor::Keeper, Deed::Poll(guest)),
            115..117 => (Actor::Keeper, Deed::Sweep),
            117..145 => (Actor::Interrupts, Deed::Faults),
            145..225 => (Actor::Interrupts, Deed::Serve),
            _ => {
                let cpu = random.usize(..self.guests[guest].cpus);
                (Actor::Cpu { guest, cpu }, self.deed(guest, random))
            }
        };
        Action {
            actor,
            deed,
            entropy,
        }
    }

    fn deed(&self, guest: usize, random: &mut fastrand::Rng) -> Deed {
        let polite = self.guests[guest].polite;
        match random.u8(..100) {
            0..10 => Deed::Map,
            10..14 => Deed::Unmap,
            14..20 if !polite => Deed::Weave,
            20..28 if !polite => Deed::Scribble,
            _ => Deed::Call(op(random)),
        }
    }

    /// Everybody who acts.
    pub(crate) fn actors(&self) -> Vec<Actor> {
        let cpus = self
            .guests
            .iter()
            .enumerate()
            .flat_map(|(guest, plan)| (0..plan.cpus).map(move |cpu| Actor::Cpu { guest, cpu }));
        cpus.chain([Actor::Keeper, Actor::Interrupts]).collect()
    }
}

/// Operations that change something come up more often, and answers that devices wait for.
fn op(random: &mut fastrand::Rng) -> Op {
    const OFTEN: [Op; 9] = [
        Op::Bind,
        Op::Unbind,
        Op::Invalidate,
        Op::IoasMap,
        Op::IoasMap,
        Op::Bind,
        // Mostly they read what there is to answer.
        Op::PageResponse,
        Op::LinuxPageResponse,
        Op::LinuxPageResponse,
    ];
    if random.bool() {
        OFTEN[random.usize(..OFTEN.len())]
    } else {
        Op::ALL[random.usize(..Op::ALL.len())]
    }
}

fn guest(polite: bool, random: &mut fastrand::Rng) -> GuestPlan {
    let scarce = Quota {
        objects: 12,
        shadow_pages: random.u32(8..80),
        fault_events: 8,
        pasids: 6,
        bindings: 4,
        mappings: 12,
        ..Quota::default()
    };
    GuestPlan {
        polite,
        cpus: if polite { 1 } else { random.usize(1..4) },
        pages: 40,
        large: !polite && random.u8(..3) == 0,
        quota: if polite || random.bool() {
            Quota {
                shadow_pages: 256,
                ..Quota::default()
            }
        } else {
            scarce
        },
        restless: if polite {
            0
        } else {
            [0, 40, 200][random.usize(..3)]
        },
        seed: random.u64(..),
    }
}
