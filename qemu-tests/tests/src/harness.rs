//! From the start of the kernel to the result of one test.

use kernel::exit::{ExitStatus, exit};
use kernel::log::report::{self, Verdict};
use kernel::start::Machine;

use crate::bench::Bench;
use crate::check::Deviation;
use crate::registry::BootTest;

kernel::entry!("boot-tests", main);

fn main(machine: Machine) -> ! {
    let Some(name) = machine.command_line.test else {
        exit(
            ExitStatus::BadCommandLine,
            format_args!("no test=NAME on the command line"),
        );
    };
    let Some(test) = BootTest::find(&name) else {
        exit(
            ExitStatus::BadCommandLine,
            format_args!("there is no boot test `{name}`"),
        );
    };
    let mut bench = Bench::new(machine);
    let outcome = test.run(&mut bench);
    bench.report_figures();
    match outcome {
        Ok(()) => {
            report::test(Verdict::Pass, &name, format_args!(""));
            exit(ExitStatus::Ok, format_args!("{name} passed"))
        }
        Err(Deviation::Skipped(why)) => {
            report::test(Verdict::Skip, &name, format_args!("{why}"));
            exit(ExitStatus::Ok, format_args!("{name} was skipped"))
        }
        Err(Deviation::Failed(why)) => {
            report::test(Verdict::Fail, &name, format_args!("{why}"));
            exit(ExitStatus::Failed, format_args!("{name}: {why}"))
        }
    }
}
