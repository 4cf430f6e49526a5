//! The hypervisor.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare_metal {
    use kernel::command_line::{GuestKind, MonitorSwitch, VtdSwitch};
    use kernel::exit::{ExitStatus, exit};
    use kernel::guest::BackEnd;
    use kernel::log::report;
    use kernel::start::Machine;
    use kernel::{demonstration, host, inspect, monitor, time};

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
        if let Err(error) = demonstration::guest(&host, &machine, guest, seed) {
            exit(error.status(), format_args!("{error}"));
        }
        dump(&host, &machine);
        if machine.command_line.monitor == MonitorSwitch::Com1 {
            monitor::run(&host);
        }
        demonstration::figures(&host);
        if demonstration::has_failed() {
            exit(ExitStatus::Failed, format_args!("a step failed"));
        }
        exit(ExitStatus::Ok, format_args!("every step held"))
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
