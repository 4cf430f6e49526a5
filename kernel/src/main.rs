//! The hypervisor.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare_metal {
    use arrayvec::ArrayString;
    use core::fmt::Write;
    use kernel::command_line::{GuestKind, HandOver, MonitorSwitch, VtdSwitch};
    use kernel::exit::{ExitStatus, exit};
    use kernel::guest::BackEnd;
    use kernel::log::report;
    use kernel::start::Machine;
    use kernel::{demonstration, host, inspect, monitor, next, time};

    kernel::entry!("kernel", main);

    fn main(machine: Machine) -> ! {
        if machine.command_line.vtd != VtdSwitch::On {
            host::look_and_exit(&machine);
        }
        let host = host::start_or_exit(&machine);
        let seed = machine.command_line.seed.unwrap_or_else(time::seed);
        let guest = machine.command_line.guest.unwrap_or_else(best_guest);
        report::chosen(format_args!(
            "mode={} guest={} seed={seed:#x}",
            host.remapping.mode.name(),
            guest.name()
        ));
        demonstration::units(&host);
        dump(&host, &machine);
        demonstration::blocked_by_default(&host);
        demonstration::interrupt_source(&host);
        if machine.command_line.monitor == MonitorSwitch::Com1 {
            monitor::begin();
        }
        if let Err(error) = demonstration::guest(&host, &machine, guest, seed) {
            exit(error.status(), format_args!("{error}"));
        }
        dump(&host, &machine);
        if machine.command_line.monitor == MonitorSwitch::Com1 {
            monitor::run(&host);
        }
        demonstration::figures(&host);
        if let Some(how) = machine.command_line.hand_over {
            // What this one was asked for is done; the next only starts and ends.
            let line = format_args!("guest=none mode={}", host.remapping.mode.name());
            let error = hand_over(&host, &machine, how, line);
            exit(ExitStatus::Failed, format_args!("no next kernel: {error}"));
        }
        if demonstration::has_failed() {
            exit(ExitStatus::Failed, format_args!("a step failed"));
        }
        exit(ExitStatus::Ok, format_args!("every step held"))
    }

    fn hand_over(
        host: &host::Host,
        machine: &Machine,
        how: HandOver,
        line: core::fmt::Arguments<'_>,
    ) -> next::HandOverError {
        let mut text = ArrayString::<64>::new();
        // The longest mode's name fits.
        let _ = text.write_fmt(line);
        next::hand_over(host, machine, how, &text)
    }

    /// Dumps all units, if the command line asks for that.
    fn dump(host: &host::Host, machine: &Machine) {
        if let Some(form) = machine.command_line.dump {
            inspect::dump(host.remapping, form);
        }
    }

    /// SVM, if the CPU has it with nested paging.
    fn best_guest() -> GuestKind {
        match BackEnd::best() {
            BackEnd::Svm => GuestKind::Svm,
            BackEnd::Direct => GuestKind::Direct,
        }
    }
}

/// On a host the kernel is only a library with tests.
#[cfg(not(target_os = "none"))]
fn main() {}
