//! The suites of the Debian archive that QEMU comes from.

/// A suite, and with it a version of QEMU. Exact versions leave the mirrors; suites stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Suite {
    /// What Debian 12's users get from their backports: 10.0.2, with its aborts.
    BookwormBackports,
    /// Debian 13's own: 10.0.
    Trixie,
    /// Debian 13's backports: 11.1, or what follows it.
    TrixieBackports,
}

impl Suite {
    /// What is downloaded if nobody asks for anything else.
    pub(crate) const DEFAULT: Self = Self::TrixieBackports;

    /// All of them, oldest first.
    pub(crate) const ALL: [Self; 3] =
        [Self::BookwormBackports, Self::Trixie, Self::TrixieBackports];

    /// The version that the suite stands for, as `--qemu-version` names it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::BookwormBackports => "10.0.2",
            Self::Trixie => "10.0",
            Self::TrixieBackports => "11.1",
        }
    }

    /// The suite that stands for a version.
    pub(crate) fn of_version(version: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|suite| suite.version() == version)
    }

    /// The suite's name in the archive, from which QEMU is taken.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::BookwormBackports => "bookworm-backports",
            Self::Trixie => "trixie",
            Self::TrixieBackports => "trixie-backports",
        }
    }

    /// Every suite that its dependencies are taken from.
    pub(crate) const fn sources(self) -> &'static [&'static str] {
        match self {
            Self::BookwormBackports => &["bookworm", "bookworm-backports"],
            Self::Trixie => &["trixie"],
            Self::TrixieBackports => &["trixie", "trixie-backports"],
        }
    }

    /// The packages that an emulator without display and sound needs: less than half of
    /// what `apt-get install` would take. Libraries are renamed now and then; then the
    /// whole closure is taken instead.
    pub(crate) fn packages(self) -> Vec<&'static str> {
        let libraries = match self {
            Self::BookwormBackports => BOOKWORM_LIBRARIES,
            Self::Trixie | Self::TrixieBackports => TRIXIE_LIBRARIES,
        };
        QEMU.iter()
            .chain(COMMON_LIBRARIES)
            .chain(libraries)
            .copied()
            .collect()
    }
}

const QEMU: &[&str] = &[
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
    "ipxe-qemu",
];

const COMMON_LIBRARIES: &[&str] = &[
    "libblkid1",
    "libbpf1",
    "libc6",
    "libcap2",
    "libdaxctl1",
    "libfdt1",
    "libffi8",
    "libgmp10",
    "libibverbs1",
    "libidn2-0",
    "libjpeg62-turbo",
    "libkmod2",
    "libmount1",
    "libndctl6",
    "libnl-3-200",
    "libnl-route-3-200",
    "libnuma1",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpixman-1-0",
    "libpmem1",
    "libsasl2-2",
    "libseccomp2",
    "libselinux1",
    "libslirp0",
    "libtasn1-6",
    "libudev1",
    "liburing2",
    "libuuid1",
    "libzstd1",
    "zlib1g",
];

const TRIXIE_LIBRARIES: &[&str] = &[
    "libaio1t64",
    "libatomic1",
    "libcapstone5",
    "libelf1t64",
    "libfuse3-4",
    "libglib2.0-0t64",
    "libgnutls30t64",
    "libhogweed6t64",
    "libnettle8t64",
    "libpng16-16t64",
    "librdmacm1t64",
    "libssl3t64",
    "libunistring5",
    "libvdeplug2t64",
];

const BOOKWORM_LIBRARIES: &[&str] = &[
    "libaio1",
    "libcapstone4",
    "libelf1",
    "libfuse3-3",
    "libglib2.0-0",
    "libgnutls30",
    "libhogweed6",
    "liblzma5",
    "libnettle8",
    "libpng16-16",
    "librdmacm1",
    "libssl3",
    "libunistring2",
    "libvdeplug2",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_names_its_suite_and_no_other_does() {
        for suite in Suite::ALL {
            assert_eq!(Suite::of_version(suite.version()), Some(suite));
        }
        assert_eq!(Suite::of_version("9.2"), None);
    }

    #[test]
    fn a_suite_is_among_its_own_sources() {
        for suite in Suite::ALL {
            assert!(suite.sources().contains(&suite.name()));
        }
    }

    #[test]
    fn no_package_is_listed_twice() {
        for suite in Suite::ALL {
            let mut packages = suite.packages();
            packages.sort_unstable();
            let before = packages.len();
            packages.dedup();
            assert_eq!(packages.len(), before, "{suite:?}");
        }
    }
}
