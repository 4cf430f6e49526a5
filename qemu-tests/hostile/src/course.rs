//! One run: who goes on is decided at every step, by the seed.

use crate::broken::Fault;
use crate::outline::{Action, Actor, Deed, Setting};
use crate::stage::{self, Act, Point, Stacks, Turn};
use crate::tally::{Latency, Tally};
use crate::world::World;
use std::collections::VecDeque;
use std::sync::Arc;

/// Something that must not be, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The step of the run.
    pub step: u64,
    /// What.
    pub words: String,
}

impl Finding {
    /// What two findings of the same fault have in common: the words without numbers.
    pub(crate) fn kind(&self) -> String {
        let words = self
            .words
            .split(|c: char| c.is_ascii_digit() || ":,;()".contains(c));
        words
            .flat_map(str::split_whitespace)
            .filter(|word| word.len() > 2)
            .take(3)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// How a run is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// In turns, as the seed has it.
    Interleaved,
    /// One after the other; another goes on only where one waits.
    OneByOne,
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Result {
    pub(crate) findings: Vec<Finding>,
    pub(crate) tally: Tally,
    /// What was done, as it ended, if that was wanted.
    pub(crate) trace: Vec<String>,
}

/// A call that takes more steps than this does not end.
const ENDLESS: u64 = 4_000_000;
/// Violations are looked for so often while a call is under way, and whenever one ends.
const LOOK_EVERY: u64 = 64;

struct Player {
    actor: Actor,
    actions: VecDeque<(usize, Action)>,
    running: Option<Running>,
    waits: bool,
}

struct Running {
    act: Act<String>,
    action: Action,
    begun: u64,
    /// Its own steps, waiting included.
    steps: u64,
    /// Turns of waiting loops among them, in its call.
    waits: u64,
}

struct Course {
    world: Arc<World>,
    players: Vec<Player>,
    stacks: Stacks,
    random: fastrand::Rng,
    order: Order,
    step: u64,
    switches: u64,
    result: Result,
    wants_trace: bool,
    latencies: Vec<(Deed, Latency)>,
}

/// Carries a run out.
pub(crate) fn run(
    setting: &Setting,
    actions: &[Action],
    order: Order,
    wants_trace: bool,
) -> Result {
    stage::catch_panics();
    stage::clear();
    let made = stage::caught(|| World::new(setting.clone()));
    let world = match made {
        Ok(world) => Arc::new(world),
        Err(words) => {
            return Result {
                findings: vec![Finding { step: 0, words }],
                ..Result::default()
            };
        }
    };
    let mut players: Vec<Player> = setting
        .actors()
        .into_iter()
        .map(|actor| Player {
            actor,
            actions: VecDeque::new(),
            running: None,
            waits: false,
        })
        .collect();
    for (number, action) in actions.iter().enumerate() {
        if let Some(player) = players
            .iter_mut()
            .find(|player| player.actor == action.actor)
        {
            player.actions.push_back((number, *action));
        }
    }
    let mut course = Course {
        world,
        players,
        stacks: Stacks::default(),
        random: fastrand::Rng::with_seed(setting.seed ^ 0xc0),
        order,
        step: 0,
        switches: 0,
        result: Result::default(),
        wants_trace,
        latencies: Vec::new(),
    };
    course.look();
    course.go();
    course.end()
}

impl Course {
    /// Until everything is done, or something was found.
    fn go(&mut self) {
        let mut now = None;
        while let Some(chosen) = self.choose(now) {
            if now != Some(chosen) {
                self.switches += 1;
            }
            now = Some(chosen);
            self.begin(chosen);
            self.turn(chosen);
            if self.random.u8(..32) == 0 {
                self.world.request(&mut self.random);
            }
            if self.step.is_multiple_of(LOOK_EVERY) {
                self.look();
            }
            if !self.result.findings.is_empty() {
                // Nothing new begins; what has begun may end.
                for player in &mut self.players {
                    player.actions.clear();
                }
            }
        }
    }

    /// Who goes on.
    fn choose(&mut self, now: Option<usize>) -> Option<usize> {
        if self.order == Order::OneByOne {
            return self.choose_in_order(now);
        }
        let waits = |player: &Player| player.waits;
        if let Some(now) = now
            && self.players[now].running.is_some()
            && !waits(&self.players[now])
            && self.random.u32(..self.world.setting.patience) != 0
        {
            return Some(now);
        }
        let able: Vec<usize> = (0..self.players.len())
            .filter(|&at| {
                let player = &self.players[at];
                player.running.is_some() || !player.actions.is_empty()
            })
            .collect();
        let others: Vec<usize> = able
            .iter()
            .copied()
            .filter(|&at| Some(at) != now || !self.players[at].waits)
            .collect();
        self.random
            .choice(if others.is_empty() { able } else { others })
    }

    fn choose_in_order(&mut self, now: Option<usize>) -> Option<usize> {
        if let Some(now) = now
            && self.players[now].running.is_some()
            && (!self.players[now].waits || self.random.bool())
        {
            return Some(now);
        }
        let running: Vec<usize> = (0..self.players.len())
            .filter(|&at| self.players[at].running.is_some())
            .collect();
        if let Some(chosen) = self.random.choice(running) {
            return Some(chosen);
        }
        let next = |player: &Player| player.actions.front().map(|(number, _)| *number);
        (0..self.players.len())
            .filter_map(|at| Some((next(&self.players[at])?, at)))
            .min()
            .map(|(_, at)| at)
    }

    fn begin(&mut self, at: usize) {
        let player = &mut self.players[at];
        if player.running.is_some() {
            return;
        }
        let Some((_, action)) = player.actions.pop_front() else {
            return;
        };
        let world = Arc::clone(&self.world);
        let act = Act::new(&mut self.stacks, at, move || {
            world.act(action.actor, action.deed, action.entropy)
        });
        player.running = Some(Running {
            act,
            action,
            begun: self.step,
            steps: 0,
            waits: 0,
        });
    }

    fn turn(&mut self, at: usize) {
        self.step += 1;
        let player = &mut self.players[at];
        let Some(running) = &mut player.running else {
            return;
        };
        running.steps += 1;
        let endless = running.steps > ENDLESS;
        match running.act.turn() {
            Turn::Stopped(point) => {
                player.waits = point == Point::Wait;
                // What we do around a call of the guest's is not its wait.
                let calls = stage::caller_of(at).is_some();
                running.waits += u64::from(player.waits && calls);
            }
            Turn::Ended(result) => {
                player.waits = false;
                if let Some(running) = player.running.take() {
                    self.ended(at, running, result);
                }
                return;
            }
        }
        if endless && let Some(running) = player.running.take() {
            let words = format!(
                "{:?} of {:?} does not end",
                running.action.deed, running.action.actor
            );
            self.found(words);
            running.act.end(&mut self.stacks);
            // Whoever waits for what it holds would not end either.
            for player in &mut self.players {
                player.actions.clear();
                if let Some(running) = player.running.take() {
                    running.act.end(&mut self.stacks);
                }
            }
        }
    }

    fn ended(&mut self, at: usize, running: Running, result: std::result::Result<String, String>) {
        let action = running.action;
        let words = match result {
            Ok(words) => words,
            Err(panic) => {
                self.found(format!("a panic: {panic}"));
                "panicked".to_owned()
            }
        };
        self.measure(&running, stage::take_orphan(at));
        if self.wants_trace {
            self.result.trace.push(format!(
                "  steps {}..{}: {}: {}",
                running.begun,
                self.step,
                actor_words(action.actor),
                words
            ));
        }
        running.act.end(&mut self.stacks);
        self.look();
    }

    fn measure(&mut self, running: &Running, orphan: bool) {
        let Actor::Cpu { guest, .. } = running.action.actor else {
            return;
        };
        let setting = &self.world.setting;
        // Who finds itself dead makes no call, and nobody is left to wait for it.
        let makes = running.steps > 2 && !orphan;
        if setting.measured && setting.guests[guest].polite && makes {
            let of = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            self.latencies.push((
                running.action.deed,
                Latency {
                    steps: of(running.steps),
                    waits: of(running.waits),
                },
            ));
        }
    }

    fn found(&mut self, words: String) {
        let step = self.step;
        self.result.findings.push(Finding { step, words });
    }

    fn look(&mut self) {
        for words in self.world.findings() {
            self.found(words);
        }
    }

    fn end(mut self) -> Result {
        let step = self.step;
        let alone = self.world.setting.guests.len() == 1;
        let seed = self.world.setting.seed;
        if !self.result.findings.is_empty() {
            // Not taken apart: what it found may have left it in any state.
            self.result.tally.calls = crate::ram::lock(&self.world.tally).calls;
            self.result.tally.runs = 1;
            return self.result;
        }
        let Some(world) = Arc::into_inner(self.world) else {
            return self.result;
        };
        let findings = match stage::caught(|| world.end()) {
            Ok(ended) => {
                self.result.tally = ended.tally;
                ended.findings
            }
            Err(panic) => vec![format!("a panic at the end: {panic}")],
        };
        let all = findings.into_iter().map(|words| Finding { step, words });
        self.result.findings.extend(all);
        let tally = &mut self.result.tally;
        tally.steps = (self.step, self.switches);
        for (deed, latency) in self.latencies {
            let op = match deed {
                Deed::Call(op) => op,
                _ => iommu_abi::Op::Invalidate,
            };
            let all = if alone {
                &mut tally.alone
            } else {
                tally.slowest = tally.slowest.max((latency.waits, seed));
                &mut tally.latencies
            };
            all.entry(op.as_u32()).or_default().push(latency);
        }
        self.result
    }
}

fn actor_words(actor: Actor) -> String {
    match actor {
        Actor::Cpu { guest, cpu } => format!("guest {guest}, CPU {cpu}"),
        Actor::Keeper => "the hypervisor".to_owned(),
        Actor::Interrupts => "the interrupt handler".to_owned(),
    }
}

/// The setting of a seed where the well-behaved guest is alone.
pub(crate) fn alone(seed: u64) -> Setting {
    let mut setting = Setting::new(seed, None);
    setting.guests.truncate(1);
    setting.guests[0].polite = true;
    setting.guests[0].cpus = 1;
    setting.guests[0].restless = 0;
    setting.guests[0].quota = iommu::Quota::default();
    setting.devices.truncate(1);
    setting.measured = true;
    setting.sick = false;
    setting.patience = 1;
    setting
}

/// The setting of a seed, with a driver that has this fault.
pub(crate) fn usual(seed: u64, fault: Option<Fault>) -> Setting {
    Setting::new(seed, fault)
}
