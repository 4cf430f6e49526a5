//! The hypervisor.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare_metal {
    use kernel::command_line::GuestKind;
    use kernel::exit::{ExitStatus, exit};
    use kernel::log::report;
    use kernel::start::Machine;
    use kernel::{cpu, demonstration, host, time};

    kernel::entry!("kernel", main);

    fn main(machine: Machine) -> ! {
        let host = host::start_or_exit(&machine);
        let seed = machine.command_line.seed.unwrap_or_else(time::seed);
        let guest = guest_kind(machine.command_line.guest);
        report::chosen(format_args!(
            "mode={} guest={} seed={seed:#x}",
            host.remapping.mode.name(),
            guest.name()
        ));
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

    /// What was asked for; else SVM, if the CPU has it.
    fn guest_kind(asked: Option<GuestKind>) -> GuestKind {
        match asked {
            Some(GuestKind::Svm) if !cpu::features().svm => exit(
                ExitStatus::NoSvm,
                format_args!("the CPU has no SVM: ask for guest=direct (QEMU: -cpu max has it)"),
            ),
            Some(kind) => kind,
            None if cpu::features().svm => GuestKind::Svm,
            None => GuestKind::Direct,
        }
    }
}

/// On a host the kernel is only a library with tests.
#[cfg(not(target_os = "none"))]
fn main() {}
