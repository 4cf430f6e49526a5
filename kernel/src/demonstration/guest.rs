//! A guest owns a device, binds page tables of its own to it, and tries what it must not.

use super::step;
use crate::command_line::GuestKind;
use crate::guest::{self, BackEnd, Guest, GuestError, Order, Trials};
use crate::host::Host;
use crate::log::report::{self, Verdict};
use crate::start::Machine;
use crate::vcpu::Ending;
use hypervisor_abi::Outcome;
use iommu_core::Nanoseconds;

const ID: &str = "guest";
const PROGRAM: &str = "nested-bind";
/// Longer than the guest needs, in the machine's time: an emulator that counts instructions
/// lets that run a hundred times faster than the reader's.
const LIMIT: Nanoseconds = Nanoseconds::from_millis(900_000);

/// Runs the guest. An error means that it could not even be made.
pub fn guest(host: &Host, machine: &Machine, kind: GuestKind, seed: u64) -> Result<(), GuestError> {
    let back_end = match kind {
        GuestKind::None => {
            step(Verdict::Skip, ID, format_args!("guest=none was asked for"));
            return Ok(());
        }
        GuestKind::Svm => BackEnd::Svm,
        GuestKind::Direct => BackEnd::Direct,
    };
    let device = host
        .bus
        .topology
        .find(edu::VENDOR, edu::DEVICE)
        .ok_or(GuestError::NoDevice)?
        .id;
    let order = Order {
        back_end,
        ..Order::new(PROGRAM, seed, device)
    };
    let mut guest = guest::start(host, &machine.archive, &order)?;
    let ending = guest.run(LIMIT);
    figures(&guest);
    judge(guest, ending);
    Ok(())
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
    let devices = guest.vm().devices().iter();
    let interrupts = devices.map(|device| device.line().passed_on()).sum();
    report::figure("guest-interrupts", interrupts);
    let trials = guest.trials();
    report::figure("trials", trials.all);
    report::figure("trials-failed", trials.failed);
    report::figure("trials-repeated", trials.void);
}
