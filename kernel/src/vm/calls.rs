//! Hypercalls: ours are done here, those of the IOMMU interface are passed on.

use super::Vm;
use super::trial::{Surroundings, Verdict, Witness};
use hypervisor_abi::{
    Announce, Argument, Claim, Conclude, Finish, Log, Op, Outcome, TargetEntry, TargetKind,
    Targets, Transfer, WaitForInterrupt,
};
use iommu_abi::Errno;
use iommu_core::{Gpa, GuestMemory, GuestMemoryError, Nanoseconds, SourceId};
use zerocopy::IntoBytes;

/// The most that one call hands over of a log.
const MOST_LOG_BYTES: u32 = 16 << 10;
/// The longest wait that a call asks for.
const LONGEST_WAIT: Nanoseconds = Nanoseconds::from_millis(10_000);

/// What a hypercall leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Go on with this result.
    Return(i64),
    /// The call is not done. Go on with it before anything else of the guest's, by
    /// [`Vm::go_on`].
    Again,
    /// Wait for an interrupt, at most so long; then go on with 0, or `ETIMEDOUT`.
    Wait(Nanoseconds),
    /// The guest has ended.
    Finish(Outcome),
}

/// The IOMMU interface.
pub trait IommuCalls: Send + Sync {
    /// Does one call, or a part of it, and returns what stands in the result register once
    /// it is done; until then it is called again with the same. Operations that are not of
    /// the interface are `ENOTTY`.
    fn call(&self, operation: u64, argument: Gpa) -> Option<i64>;

    /// Does what is due by itself. Called now and then while guests run, with interrupts on
    /// and no lock held.
    fn tend(&self);
}

/// Where what a guest says goes, and what is said about it.
pub trait Voice: Send + Sync {
    /// Frames of the guest's log, and how many it lost before.
    fn log(&self, frames: &[u8], lost: u32);
    /// The guest's word about itself.
    fn claim(&self, outcome: Outcome, id: &str, text: &str);
    /// What the hypervisor saw.
    fn witness(&self, witness: &Witness);
}

/// A device whose registers the hypervisor programs on a guest's behalf.
pub trait Mediated: Send + Sync {
    /// Where the guest finds it.
    fn virtual_id(&self) -> SourceId;
    /// Starts a copy between memory, at any address, and the device's own buffer.
    fn start(&self, transfer: &Transfer) -> Result<(), Errno>;
}

impl Vm {
    /// Does a hypercall of the guest's.
    pub fn hypercall(&self, operation: u64, argument: u64) -> Answer {
        self.count_hypercall();
        let Some(own) = Op::from_register(operation) else {
            return self.go_on(operation, argument);
        };
        let result = match own {
            Op::WaitForInterrupt => self.wait(argument),
            Op::Finish => self.finish(argument),
            Op::Log => self.log(argument).map(Answer::Return),
            Op::Claim => self.claim(argument).map(Answer::Return),
            Op::Announce => self.announce(argument).map(Answer::Return),
            Op::Conclude => self.conclude(argument).map(Answer::Return),
            Op::Transfer => self.transfer(argument).map(Answer::Return),
            Op::Targets => self.targets(argument).map(Answer::Return),
        };
        result.unwrap_or_else(|errno| Answer::Return(errno.to_register()))
    }

    /// Goes on with a call that is not done.
    pub fn go_on(&self, operation: u64, argument: u64) -> Answer {
        let result = self.iommu().call(operation, Gpa::new(argument));
        result.map_or(Answer::Again, Answer::Return)
    }

    fn argument<A: Argument>(&self, at: u64) -> Result<A, Errno> {
        let mut argument = A::new_zeroed();
        self.ram()
            .copy_in(Gpa::new(at), argument.as_mut_bytes())
            .map_err(fault)?;
        if argument.argsz() as usize != size_of::<A>() {
            return Err(Errno::EINVAL);
        }
        if argument.flags() != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(argument)
    }

    fn wait(&self, at: u64) -> Result<Answer, Errno> {
        let wait: WaitForInterrupt = self.argument(at)?;
        Ok(Answer::Wait(Nanoseconds(wait.limit).min(LONGEST_WAIT)))
    }

    fn finish(&self, at: u64) -> Result<Answer, Errno> {
        let finish: Finish = self.argument(at)?;
        reserved(finish.reserved)?;
        let outcome = Outcome::from_u32(finish.outcome).ok_or(Errno::EINVAL)?;
        Ok(Answer::Finish(outcome))
    }

    fn log(&self, at: u64) -> Result<i64, Errno> {
        let log: Log = self.argument(at)?;
        if log.bytes > MOST_LOG_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut chunk = [0; 1024];
        let (mut at, mut left, mut lost) = (log.buffer, log.bytes as usize, log.lost);
        while left > 0 {
            let length = left.min(chunk.len());
            let bytes = chunk.get_mut(..length).unwrap_or_default();
            self.ram().copy_in(Gpa::new(at), bytes).map_err(fault)?;
            self.voice().log(bytes, core::mem::take(&mut lost));
            at = at.checked_add(length as u64).ok_or(Errno::EOVERFLOW)?;
            left -= length;
        }
        Ok(0)
    }

    fn claim(&self, at: u64) -> Result<i64, Errno> {
        let claim: Claim = self.argument(at)?;
        reserved(claim.reserved)?;
        let outcome = Outcome::from_u32(claim.outcome).ok_or(Errno::EINVAL)?;
        let id = match claim.id.name() {
            "" => return Err(Errno::EINVAL),
            id => id,
        };
        self.voice().claim(outcome, id, claim.text.text());
        Ok(0)
    }

    fn transfer(&self, at: u64) -> Result<i64, Errno> {
        let transfer: Transfer = self.argument(at)?;
        if transfer.reserved != 0 || transfer.to_memory > 1 {
            return Err(Errno::EOPNOTSUPP);
        }
        let device = self.mediated().ok_or(Errno::ENOENT)?;
        if transfer.device != u32::from(device.virtual_id().bits()) {
            return Err(Errno::ENOENT);
        }
        device.start(&transfer).map(|()| 0)
    }

    fn announce(&self, at: u64) -> Result<i64, Errno> {
        let announced: Announce = self.argument(at)?;
        reserved(announced.reserved)?;
        let surroundings = self.surroundings()?;
        let device = u16::try_from(announced.device)
            .ok()
            .and_then(|id| self.device(SourceId::from_bits(id)))
            .ok_or(Errno::ENOENT)?;
        surroundings.drain_faults();
        self.watching(surroundings, |watch, scene| {
            let own = Some(device.message().address);
            watch.begin(scene, &announced, device.id(), own)
        })?;
        Ok(0)
    }

    fn conclude(&self, at: u64) -> Result<i64, Errno> {
        let _: Conclude = self.argument(at)?;
        let surroundings = self.surroundings()?;
        surroundings.drain_faults();
        let witness = self.watching(surroundings, |watch, scene| watch.end(scene))?;
        self.voice().witness(&witness);
        Ok(match witness.verdict() {
            Verdict::Pass | Verdict::Fail => Conclude::JUDGED,
            Verdict::Void => Conclude::REPEAT,
        })
    }

    fn targets(&self, at: u64) -> Result<i64, Errno> {
        let targets: Targets = self.argument(at)?;
        reserved(targets.reserved)?;
        let surroundings = self.surroundings()?;
        let room = usize::try_from(targets.capacity).map_err(|_| Errno::EINVAL)?;
        let mut count = 0;
        for entry in self.all_targets(surroundings).take(room) {
            let offset = (count as u64) * size_of::<TargetEntry>() as u64;
            let at = targets.buffer.checked_add(offset);
            let at = Gpa::new(at.ok_or(Errno::EOVERFLOW)?);
            self.ram().copy_out(at, entry.as_bytes()).map_err(fault)?;
            count += 1;
        }
        Ok(count)
    }

    fn all_targets(&self, around: &dyn Surroundings) -> impl Iterator<Item = TargetEntry> {
        let place = |kind| move |hpa: iommu_core::Hpa| entry(kind, hpa.as_u64(), 0);
        let message = |kind| {
            move |message: iommu_core::IrqMessage| entry(kind, message.address, message.data)
        };
        // Only addresses that are none of the guest's own.
        let ram = self.ram();
        let canaries = ram.canaries().iter().map(|canary| canary.hpa());
        let canaries = canaries.filter(|hpa| ram.hole(Gpa::new(hpa.as_u64())) > 0);
        let own = self.devices().first().map(|device| device.message());
        around
            .image()
            .map(place(TargetKind::Hypervisor))
            .into_iter()
            .chain(around.unit_base().map(place(TargetKind::UnitRegisters)))
            .chain(
                around
                    .foreign_message()
                    .map(message(TargetKind::ForeignInterrupt)),
            )
            .chain(own.map(message(TargetKind::OwnInterrupt)))
            .chain(canaries.take(8).map(place(TargetKind::Canary)))
    }
}

fn entry(kind: TargetKind, address: u64, data: u32) -> TargetEntry {
    TargetEntry {
        address,
        data,
        kind: kind as u32,
    }
}

fn reserved(value: u32) -> Result<(), Errno> {
    match value {
        0 => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn fault(_: GuestMemoryError) -> Errno {
    Errno::EFAULT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::virtual_machine::tests::{Heard, small_vm};
    use hypervisor_abi::Label;
    use std::string::ToString;

    const AT: u64 = Vm::MEMORY.as_u64() + 0x3000;

    fn call<A: Argument>(vm: &Vm, argument: A) -> Answer {
        vm.ram()
            .copy_out(Gpa::new(AT), argument.as_bytes())
            .unwrap();
        vm.hypercall(A::OP as u64, AT)
    }

    fn refused(errno: Errno) -> Answer {
        Answer::Return(errno.to_register())
    }

    #[test]
    fn a_claim_is_passed_on_as_printable_text() {
        let (vm, voice) = small_vm();
        let claim = Claim {
            outcome: 1,
            id: Label::new("copy pass"),
            text: Label::new("fine\nwitness copy verdict=pass"),
            ..Claim::new()
        };
        assert_eq!(call(&vm, claim), Answer::Return(0));
        assert_eq!(
            voice.heard(),
            [Heard::Claim(
                Outcome::Pass,
                "copy".to_string(),
                "fine".to_string()
            )]
        );
    }

    #[test]
    fn arguments_that_are_wrong_are_refused_and_nothing_is_heard() {
        let (vm, voice) = small_vm();
        let good = Claim {
            id: Label::new("x"),
            ..Claim::new()
        };
        let cases = [
            (Errno::EINVAL, Claim { argsz: 239, ..good }),
            (Errno::EINVAL, Claim { argsz: 241, ..good }),
            (Errno::EOPNOTSUPP, Claim { flags: 1, ..good }),
            (
                Errno::EOPNOTSUPP,
                Claim {
                    reserved: 1,
                    ..good
                },
            ),
            (Errno::EINVAL, Claim { outcome: 2, ..good }),
            (
                Errno::EINVAL,
                Claim {
                    id: Label::new(" "),
                    ..good
                },
            ),
        ];
        for (errno, claim) in cases {
            assert_eq!(call(&vm, claim), refused(errno), "{claim:?}");
        }
        let end = vm.ram().end();
        for at in [end, end - 8, u64::MAX] {
            assert_eq!(vm.hypercall(Op::Claim as u64, at), refused(Errno::EFAULT));
        }
        assert_eq!(voice.heard(), []);
        assert_eq!(call(&vm, good), Answer::Return(0));
    }

    #[test]
    fn a_log_outside_memory_is_refused() {
        let (vm, voice) = small_vm();
        let end = vm.ram().end();
        let log = |buffer, bytes| Log {
            buffer,
            bytes,
            ..Log::new()
        };
        assert_eq!(call(&vm, log(end - 4, 8)), refused(Errno::EFAULT));
        assert_eq!(call(&vm, log(0, u32::MAX)), refused(Errno::EINVAL));
        assert_eq!(voice.heard(), []);
        assert_eq!(call(&vm, log(end - 8, 8)), Answer::Return(0));
        assert_eq!(voice.heard(), [Heard::Log(8)]);
    }

    #[test]
    fn what_is_not_ours_goes_to_the_iommu() {
        let (vm, _) = small_vm();
        assert_eq!(vm.hypercall(0x100, 5), Answer::Return(0x105));
        assert_eq!(vm.hypercall(u64::MAX, 5), Answer::Return(4));
    }

    #[test]
    fn a_guest_waits_no_longer_than_it_is_let() {
        let (vm, _) = small_vm();
        let wait = |limit| WaitForInterrupt {
            limit,
            ..WaitForInterrupt::new()
        };
        assert_eq!(call(&vm, wait(5)), Answer::Wait(Nanoseconds(5)));
        assert_eq!(call(&vm, wait(u64::MAX)), Answer::Wait(LONGEST_WAIT));
    }

    #[test]
    fn a_trial_of_a_device_that_the_guest_lacks_is_refused() {
        let (vm, _) = small_vm();
        let announce = Announce {
            device: 0x20,
            ..Announce::new()
        };
        assert_eq!(call(&vm, announce), refused(Errno::ENOENT));
        assert_eq!(call(&vm, Conclude::new()), refused(Errno::ENOENT));
    }
}
