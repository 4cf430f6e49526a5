//! The program as a virtual machine.
//!
//! Invariant that the `unsafe` here rests on: the program is alone on a virtual machine, and
//! all that it breaks is its own.
#![no_std]
#![no_main]

mod attempts;

use core::arch::asm;
use guest_machine::{Calls, Machine, Outcome, Pages, Random, Trouble, error};
use guest_runtime::misdeed::{halt, spin, touch, triple_fault};
use limits::deed;

guest_runtime::program!(run);

fn run(machine: &dyn Machine) -> Outcome {
    let parameter = machine.start().parameter;
    match parameter & 0xff {
        deed::TRY_EVERYTHING => {}
        deed::TRIPLE_FAULT => triple_fault(),
        deed::TOUCH => touch(parameter & !0xff),
        deed::LOOP => spin(),
        deed::HALT => halt(),
        deed::RUBBISH_CALLS => rubbish_calls(),
        deed::VECTORS => return vectors(machine.start().seed),
        _ => return Outcome::Fail,
    }
    match try_everything(machine) {
        Ok(()) => Outcome::Pass,
        Err(trouble) => {
            error!("{}", trouble);
            Outcome::Fail
        }
    }
}

fn try_everything(machine: &dyn Machine) -> Result<(), Trouble> {
    let mut random = Random::with_seed(machine.start().seed);
    let mut pages = Pages::new(machine, &mut random);
    let calls = Calls::new(machine, &mut pages)?;
    let mut worst = Ok(());
    for attempt in attempts::ALL {
        let result = (attempt.run)(machine);
        let outcome = match result {
            Ok(()) => Outcome::Pass,
            Err(_) => Outcome::Fail,
        };
        match result {
            Ok(()) => calls.claim(outcome, attempt.name, format_args!("{}", attempt.shows))?,
            Err(trouble) => calls.claim(outcome, attempt.name, format_args!("{trouble}"))?,
        }
        worst = worst.and(result);
    }
    worst
}

/// Long enough for many slices of time.
const ROUNDS: u32 = 60_000;

/// Whether a vector register was empty at first, and keeps what is put into it.
fn vectors(own: u64) -> Outcome {
    use x86_64::registers::control::{Cr4, Cr4Flags};
    // SAFETY: the module's invariant; no program uses these registers otherwise.
    unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE)) };
    let held = || {
        let held: u64;
        // SAFETY: as above.
        unsafe { asm!("movq {}, xmm7", out(reg) held, options(nomem, nostack)) };
        held
    };
    if held() != 0 {
        return Outcome::Fail;
    }
    // SAFETY: as above.
    unsafe { asm!("movq xmm7, {}", in(reg) own, options(nomem, nostack)) };
    match (0..ROUNDS).all(|_| held() == own) {
        true => Outcome::Pass,
        false => Outcome::Fail,
    }
}

/// Every operation number up to 0x300, with addresses that lead nowhere.
fn rubbish_calls() {
    for operation in 0..0x300_u64 {
        if operation == 0x203 {
            // That one would end the guest.
            continue;
        }
        for argument in [0, 1, u64::MAX, 0x3fff_f000, 0x4000_0001, 1 << 51] {
            let _result: u64;
            // SAFETY: the hypervisor preserves what it does not return.
            unsafe {
                asm!(
                    "vmmcall",
                    inlateout("rax") operation | (operation & 1) << 40 => _result,
                    in("rdi") argument,
                    in("rsi") u64::MAX,
                    in("rdx") u64::MAX,
                    in("rcx") u64::MAX,
                    options(nostack)
                );
            }
        }
    }
}
