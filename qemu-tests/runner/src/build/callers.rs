//! Guests that were built when some version of the guest interface was the newest, kept as
//! bytes: `guest/caller-VERSION.elf` in the boot module of boot tests.
//!
//! # An image that is kept never changes
//! Neither the file nor its hash below. If the guest in it does not run any more, the
//! hypervisor is wrong. A new version adds an image. How they were built stands in
//! `docs/guests.md`; they log nothing.

/// An image, and what it is called.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The program's name, as for all guests.
    pub(crate) name: &'static str,
    /// The ELF file.
    pub(crate) image: &'static [u8],
    /// The version of the interface that was the newest.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who read, and the tests")
    )]
    version: u32,
    /// Its SHA-256.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for those who read, and the tests")
    )]
    hash: &'static str,
}

/// One for each version.
pub(crate) const CALLERS: [Caller; 3] = [
    Caller {
        name: "guest/caller-1",
        image: include_bytes!("../../../callers/version-1.elf"),
        version: 1,
        hash: "9529a8645bd64deb0ba85c40643256634e71046512d6e8d71d52f3abc87f497c",
    },
    Caller {
        name: "guest/caller-2",
        image: include_bytes!("../../../callers/version-2.elf"),
        version: 2,
        hash: "32268cd32d69e5e2205475d001ccf7e4f0bd8cb0a45d8fa705ff92468e5f7254",
    },
    Caller {
        name: "guest/caller-3",
        image: include_bytes!("../../../callers/version-3.elf"),
        version: 3,
        hash: "33d8111a55d8316466575b09a7f830f6209771ef0ecd258fbb5bea523e44b0f3",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};
    use sha2::{Digest, Sha256};

    /// None is larger, so that they can be kept for ever.
    const MOST_BYTES: usize = 80 << 10;

    #[test]
    fn an_image_that_is_kept_never_changes() {
        for caller in &CALLERS {
            let now: String = Sha256::digest(caller.image)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(now, caller.hash, "{}", caller.name);
        }
    }

    #[test]
    fn an_image_of_every_version_is_kept() {
        let kept: Vec<u32> = CALLERS.iter().map(|caller| caller.version).collect();
        assert_eq!(kept, (1..=iommu_abi::VERSION).collect::<Vec<_>>());
        for caller in &CALLERS {
            assert_eq!(caller.name, format!("guest/caller-{}", caller.version));
        }
    }

    #[test]
    fn an_image_is_a_small_program_for_a_guest_s_memory() {
        for caller in &CALLERS {
            assert!(caller.image.len() < MOST_BYTES, "{}", caller.name);
            let elf = object::File::parse(caller.image).expect(caller.name);
            let first = elf.segments().map(|segment| segment.address()).min();
            assert_eq!(first, Some(0x4001_0000), "{}", caller.name);
        }
    }
}
