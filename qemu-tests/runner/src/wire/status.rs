//! Exit statuses of the kernel, and of QEMU by them.

/// Why the kernel ended, as it told QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitStatus {
    value: u8,
    name: &'static str,
}

/// `docs/wire.md`, "Exit status".
const STATUSES: &[(u8, &str)] = &[
    (0x10, "ok"),
    (0x11, "failed"),
    (0x12, "panic"),
    (0x13, "exception"),
    (0x20, "no-dmar"),
    (0x21, "bad-dmar"),
    (0x22, "no-unit"),
    (0x23, "dead-unit"),
    (0x24, "no-width"),
    (0x25, "no-mode"),
    (0x26, "no-memory"),
    (0x27, "bad-command-line"),
    (0x28, "no-guest"),
    (0x29, "no-svm"),
    (0x2a, "not-for-guests"),
];

impl ExitStatus {
    /// The status of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        STATUSES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|&(value, name)| Self { value, name })
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        self.name
    }

    /// Its number, as the kernel writes it.
    pub(crate) const fn value(self) -> u8 {
        self.value
    }

    /// What QEMU's exit status becomes by it.
    #[cfg(test)]
    pub(crate) const fn as_qemu(self) -> i32 {
        (self.value as i32) << 1 | 1
    }
}

/// The kernel's status behind QEMU's, which is `(value << 1) | 1`. `None` if the kernel did
/// not end QEMU, or by a value that it does not have.
pub(crate) fn of_qemu(code: i32) -> Option<ExitStatus> {
    let value = u8::try_from(code >> 1).ok().filter(|_| code & 1 == 1)?;
    STATUSES
        .iter()
        .find(|(known, _)| *known == value)
        .map(|&(value, name)| ExitStatus { value, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_survive_the_way_through_qemu() {
        for (_, name) in STATUSES {
            let status = ExitStatus::of_name(name).unwrap();
            assert_eq!(of_qemu(status.as_qemu()), Some(status));
        }
        assert_eq!(ExitStatus::of_name("ok").unwrap().as_qemu(), 33);
    }

    #[test]
    fn what_the_kernel_did_not_write_is_no_status() {
        for code in [0, 1, 2, 32, 34, 35 + 0x10, 255, -6] {
            assert_eq!(of_qemu(code), None, "{code}");
        }
    }
}
