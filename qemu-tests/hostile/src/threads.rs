//! The same deeds on real threads, as many as there are virtual CPUs: nobody decides who goes
//! on, and nothing repeats.

use crate::course::Finding;
use crate::outline::{Action, Actor, Setting};
use crate::stage;
use crate::tally::Tally;
use crate::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Carries a run out.
pub(crate) fn run(setting: &Setting, actions: &[Action]) -> (Vec<Finding>, Tally) {
    stage::catch_panics();
    let mut setting = Setting {
        // Time passes while a thread that waits is not on a CPU.
        sick: false,
        measured: false,
        real: true,
        ..setting.clone()
    };
    for unit in &mut setting.units {
        // The model takes plain stores back for a moment there, under the driver's eyes.
        unit.config.write_buffer_flush = false;
    }
    let world = match stage::caught(|| World::new(setting.clone())) {
        Ok(world) => Arc::new(world),
        Err(words) => return (vec![Finding { step: 0, words }], Tally::default()),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(setting.seed);
            while !over.load(Ordering::Relaxed) {
                world.request(&mut random);
                std::thread::yield_now();
            }
        });
        let threads: Vec<_> = setting
            .actors()
            .into_iter()
            .map(|actor| {
                let world = &world;
                scope.spawn(move || act(world, actor, actions))
            })
            .collect();
        for thread in threads {
            let _ = thread.join();
        }
        over.store(true, Ordering::Relaxed);
    });
    let mut words = world.findings();
    let mut tally = Tally::default();
    if words.is_empty()
        && let Some(world) = Arc::into_inner(world)
    {
        match stage::caught(|| world.end()) {
            Ok(ended) => {
                words = ended.findings;
                tally = ended.tally;
            }
            Err(panic) => words.push(format!("a panic at the end: {panic}")),
        }
    }
    let findings = words.into_iter().map(|words| Finding { step: 0, words });
    (findings.collect(), tally)
}

fn act(world: &World, actor: Actor, actions: &[Action]) {
    for action in actions.iter().filter(|action| action.actor == actor) {
        let acted = stage::caught(|| world.act(actor, action.deed, action.entropy));
        if let Err(panic) = acted {
            world.find(format!("a panic: {panic}"));
            return;
        }
    }
}
