//! Exits by cause.

/// Why a CPU left a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Cause {
    /// A hypercall.
    Hypercall,
    /// An interrupt of the host.
    HostInterrupt,
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest halted.
    Halt,
    /// A port.
    Port,
    /// A model-specific register.
    Msr,
    /// CPUID.
    Cpuid,
    /// A guest-physical address without memory.
    NestedFault,
    /// An instruction that the guest may not use.
    Forbidden,
    /// A triple fault.
    ShutDown,
    /// Anything else.
    Other,
}

impl Cause {
    /// Every cause, with the name of its figure.
    pub const NAMES: [(Self, &'static str); 11] = [
        (Self::Hypercall, "exits.hypercall"),
        (Self::HostInterrupt, "exits.host-interrupt"),
        (Self::InterruptWindow, "exits.interrupt-window"),
        (Self::Halt, "exits.halt"),
        (Self::Port, "exits.port"),
        (Self::Msr, "exits.msr"),
        (Self::Cpuid, "exits.cpuid"),
        (Self::NestedFault, "exits.nested-fault"),
        (Self::Forbidden, "exits.forbidden"),
        (Self::ShutDown, "exits.shut-down"),
        (Self::Other, "exits.other"),
    ];
}

/// How often a guest was left, by cause.
#[derive(Clone, Debug, Default)]
pub struct ExitCounters([u64; Cause::NAMES.len()]);

impl ExitCounters {
    /// Counts an exit.
    pub fn count(&mut self, cause: Cause) {
        if let Some(count) = self.0.get_mut(cause as usize) {
            *count += 1;
        }
    }

    /// Every cause with its figure's name and count.
    pub fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counted = Cause::NAMES.into_iter().zip(self.0);
        counted.map(|((_, name), count)| (name, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_figure_of_its_own() {
        for (index, (cause, name)) in Cause::NAMES.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
            let mut counters = ExitCounters::default();
            counters.count(cause);
            let counted: std::vec::Vec<_> = counters
                .figures()
                .filter(|(_, count)| *count == 1)
                .collect();
            assert_eq!(counted, [(name, 1)]);
        }
    }
}
