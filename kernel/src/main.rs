//! The hypervisor.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare_metal {
    use kernel::exit::{ExitStatus, exit};
    use kernel::start::Machine;

    kernel::entry!("kernel", main);

    fn main(_machine: Machine) -> ! {
        exit(ExitStatus::Ok, format_args!("nothing more to do yet"))
    }
}

/// On a host the kernel is only a library with tests.
#[cfg(not(target_os = "none"))]
fn main() {}
