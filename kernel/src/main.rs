//! The hypervisor.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare_metal {
    use kernel::demonstration;
    use kernel::exit::{ExitStatus, exit};
    use kernel::host;
    use kernel::log::report;
    use kernel::start::Machine;

    kernel::entry!("kernel", main);

    fn main(machine: Machine) -> ! {
        let host = host::start_or_exit(&machine);
        report::chosen(format_args!("mode={}", host.remapping.mode.name()));
        demonstration::units(&host);
        demonstration::blocked_by_default(&host);
        if let Err(error) = demonstration::guest(&host, &machine) {
            exit(error.status(), format_args!("{error}"));
        }
        demonstration::figures(&host);
        if demonstration::has_failed() {
            exit(ExitStatus::Failed, format_args!("a step failed"));
        }
        exit(ExitStatus::Ok, format_args!("every step held"))
    }
}

/// On a host the kernel is only a library with tests.
#[cfg(not(target_os = "none"))]
fn main() {}
