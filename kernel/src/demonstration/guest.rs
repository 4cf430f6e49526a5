//! A guest owns a device, binds page tables of its own to it, and tries what it must not; a
//! hostile guest beside it does what it can.

use super::step;
use crate::command_line::GuestKind;
use crate::cpu;
use crate::guest::{self, Access, BackEnd, Guest, GuestError, Lives, Order, Trials};
use crate::host::Host;
use crate::log::report::{self, Verdict};
use crate::start::Machine;
use crate::turns::{self, Countdown, Counted};
use crate::vcpu::Ending;
use hypervisor_abi::Outcome;
use iommu_core::{DeviceId, Nanoseconds};

const ID: &str = "guest";
const PROGRAM: &str = "nested-bind";
const HOSTILE: &str = "hostile";
const HOSTILE_PROGRAM: &str = "hostile-guest";
/// Memory of the hostile guest, in pages.
const HOSTILE_PAGES: usize = 160;
/// Longer than the guest needs, in the machine's time: an emulator that counts instructions
/// lets that run a hundred times faster than the reader's.
const LIMIT: Nanoseconds = Nanoseconds::from_millis(900_000);
/// The most time of one life of the hostile guest's.
const LIFE: Nanoseconds = Nanoseconds::from_millis(20_000);

/// Runs the guest, and a hostile one beside it. An error means that one could not even be made.
pub fn guest(host: &Host, machine: &Machine, kind: GuestKind, seed: u64) -> Result<(), GuestError> {
    let back_end = match kind {
        GuestKind::None => {
            step(Verdict::Skip, ID, format_args!("guest=none was asked for"));
            return Ok(());
        }
        GuestKind::Svm => BackEnd::Svm,
        GuestKind::Direct => BackEnd::Direct,
    };
    let functions = host.bus.topology.functions().iter();
    let mut devices = functions
        .filter(|function| (function.vendor, function.device) == (edu::VENDOR, edu::DEVICE))
        .map(|function| function.id);
    let device = devices.next().ok_or(GuestError::NoDevice)?;
    let order = Order {
        back_end,
        ..Order::new(PROGRAM, seed, device)
    };
    let mut guest = guest::start(host, &machine.archive, &order)?;
    guest.set_limit(LIMIT);
    match (back_end, devices.next()) {
        (BackEnd::Svm, Some(device)) => {
            let guest = beside_a_hostile_one(host, machine, guest, seed, device)?;
            tell(guest);
        }
        (BackEnd::Svm, None) => {
            let why = format_args!("the machine has no second edu device for a hostile guest");
            step(Verdict::Skip, HOSTILE, why);
            guest.run(LIMIT);
            tell(guest);
        }
        (BackEnd::Direct, _) => {
            let why = format_args!("a hostile guest runs as a virtual machine only");
            step(Verdict::Skip, HOSTILE, why);
            guest.run(LIMIT);
            tell(guest);
        }
    }
    Ok(())
}

/// Runs the guest to its end, and a hostile one beside it that lives again and again.
fn beside_a_hostile_one(
    host: &Host,
    machine: &Machine,
    guest: Guest,
    seed: u64,
    device: DeviceId,
) -> Result<Guest, GuestError> {
    let countdown = Countdown::new(1);
    let order = Order {
        label: HOSTILE,
        pages: HOSTILE_PAGES,
        access: Access::Mediated,
        ..Order::new(HOSTILE_PROGRAM, seed, device)
    };
    let mut lives = Lives::new(host, &machine.archive, order, LIFE, &countdown)?;
    let mut guest = Counted::new(guest, &countdown);
    turns::together(&mut [&mut guest, &mut lives]);
    lives.end();
    judge_lives(&lives);
    Ok(guest.task)
}

fn judge_lives(lives: &Lives) {
    let endings = lives.endings();
    let fits = endings.failed == 0 && endings.lives() > 1 && endings.hypercalls > 0;
    match lives.error() {
        Some(error) => step(Verdict::Fail, HOSTILE, format_args!("{error}")),
        None => step(
            Verdict::of(fits),
            HOSTILE,
            format_args!(
                "beside it {} lives of a hostile guest: {} finished, {} crashed, {} were stopped, and all that they had came back",
                endings.lives(),
                endings.finished,
                endings.crashed,
                endings.stopped
            ),
        ),
    }
    report::figure("hostile.lives", endings.lives());
    report::figure("hostile.crashes", endings.crashed);
    report::figure("hostile.hypercalls", endings.hypercalls);
}

fn tell(guest: Guest) {
    let ending = guest.ending().unwrap_or(Ending::Stopped);
    figures(&guest);
    judge(guest, ending);
}

fn judge(guest: Guest, ending: Ending) {
    let Trials {
        all: trials,
        failed,
        ..
    } = guest.trials();
    // What the guest thinks of itself is told, and counts for nothing but a failure.
    let fits = ending == Ending::Finished(Outcome::Pass) && trials > 0 && failed == 0;
    step(
        Verdict::of(fits),
        ID,
        format_args!("the guest {ending}; of {trials} trials, {failed} did not hold"),
    );
    match guest.end() {
        Ok(()) => step(
            Verdict::Pass,
            "taken-back",
            format_args!("the guest's device is blocked again and belongs to nobody"),
        ),
        Err(error) => step(Verdict::Fail, "taken-back", format_args!("{error}")),
    }
}

fn figures(guest: &Guest) {
    for (name, count) in guest.exits().figures() {
        report::figure(name, count);
    }
    report::figure("hypercalls", guest.vm().hypercalls());
    let taken = guest.meter().total();
    report::figure("call-ns-mean", taken.nanoseconds / taken.calls.max(1));
    report::figure("call-ns-most", taken.longest);
    report::figure("cpus", cpu::count() as u64);
    let devices = guest.vm().devices().iter();
    let interrupts = devices.map(|device| device.line().passed_on()).sum();
    report::figure("guest-interrupts", interrupts);
    let trials = guest.trials();
    report::figure("trials", trials.all);
    report::figure("trials-failed", trials.failed);
    report::figure("trials-repeated", trials.void);
}
