//! The version that a QEMU reports.

use std::fmt;

/// Major, minor and micro number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) micro: u32,
}

impl Version {
    /// The oldest that is supported: 7.2 records no interrupt-remapping faults and has no
    /// first stage.
    pub(crate) const OLDEST: Self = Self {
        major: 10,
        minor: 0,
        micro: 0,
    };

    /// Reads the first line of `--version`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let words = text
            .lines()
            .next()?
            .strip_prefix("QEMU emulator version ")?;
        let mut numbers = words
            .split_whitespace()
            .next()?
            .splitn(3, '.')
            .map(|number| {
                let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
                digits.parse().ok()
            });
        Some(Self {
            major: numbers.next()??,
            minor: numbers.next()??,
            micro: numbers.next().flatten().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        Version::parse(text).map(|version| version.to_string())
    }

    #[test]
    fn distributions_and_releases_are_understood() {
        let debian = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright\n";
        assert_eq!(parsed(debian).as_deref(), Some("11.1.3"));
        assert_eq!(
            parsed("QEMU emulator version 10.2.50").as_deref(),
            Some("10.2.50")
        );
        assert_eq!(
            parsed("QEMU emulator version 10.1").as_deref(),
            Some("10.1.0")
        );
    }

    #[test]
    fn other_programs_have_no_version() {
        assert_eq!(parsed("bash 5.2"), None);
        assert_eq!(parsed("QEMU emulator version x.y"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        let old = Version::parse("QEMU emulator version 7.2.22").unwrap();
        assert!(old < Version::OLDEST);
        assert!(Version::parse("QEMU emulator version 10.0.2").unwrap() > Version::OLDEST);
    }
}
