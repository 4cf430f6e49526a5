//! Golden vectors of VT-d: what registers, table entries, descriptors and records look like
//! as raw words.
//!
//! A driver and a model of the hardware that are written by the same hands can share a
//! mistake, and then agree with each other for ever. So both are held against this table,
//! which depends on neither: `vtd` encodes the fields of a vector and must get its words,
//! `vtd-model` decodes the words and must get its fields. Whoever writes another driver can
//! do the same.
//!
//! Each vector names the section of the specification (revision 5.10) that lays it out, and
//! two sources outside of this project that agree with it ([`Source`]). The words are
//! spelled out; no code composed them.
//!
//! ```
//! use vtd_golden::{Structure, vectors};
//!
//! for vector in vectors(Structure::Root) {
//!     let p = vector.get("P");
//!     let ctp = vector.get("CTP");
//!     assert_eq!(vector.words[0], ctp << 12 | p, "{vector}");
//! }
//! ```

#![no_std]
#![forbid(unsafe_code)]

/// Writes vectors down: a structure with its section and sources, and then one line each.
macro_rules! vectors {
    ($(
        $structure:ident $section:literal [$one:expr, $other:expr] {
            $($what:literal: [$($field:ident = $value:literal),*] => [$($word:literal),*];)*
        }
    )*) => {
        pub(crate) const VECTORS: &[crate::Vector] = &[$($(
            crate::Vector {
                structure: crate::Structure::$structure,
                what: $what,
                section: $section,
                sources: [$one, $other],
                fields: &[$((stringify!($field), $value)),*],
                words: &[$($word),*],
            },
        )*)*];
    };
}

mod descriptors;
mod entries;
mod interrupts;
mod paging;
mod records;
mod registers;
mod source;

pub use source::{Project, Source};

use core::fmt;

/// What a vector is a picture of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Structure {
    /// Version Register.
    Ver,
    /// Capability Register.
    Cap,
    /// Extended Capability Register.
    Ecap,
    /// Global Command Register.
    Gcmd,
    /// Global Status Register.
    Gsts,
    /// Root Table Address Register.
    Rtaddr,
    /// Context Command Register.
    Ccmd,
    /// IOTLB Invalidate Register.
    Iotlb,
    /// Invalidate Address Register.
    Iva,
    /// Fault Status Register.
    Fsts,
    /// Fault Event Control Register.
    Fectl,
    /// Protected Memory Enable Register.
    Pmen,
    /// Invalidation Queue Head Register.
    Iqh,
    /// Invalidation Queue Tail Register.
    Iqt,
    /// Invalidation Queue Address Register.
    Iqa,
    /// Invalidation Completion Status Register.
    Ics,
    /// Invalidation Event Control Register.
    Iectl,
    /// Invalidation Queue Error Record Register.
    Iqercd,
    /// Interrupt Remapping Table Address Register.
    Irta,
    /// Page Request Queue Head Register.
    Pqh,
    /// Page Request Queue Tail Register.
    Pqt,
    /// Page Request Queue Address Register.
    Pqa,
    /// Page Request Status Register.
    Prs,
    /// Page Request Event Control Register.
    Pectl,
    /// A root entry; the lower word of a scalable-mode one looks the same.
    Root,
    /// A legacy-mode context entry.
    LegacyContext,
    /// A scalable-mode context entry, its lower two words.
    ScalableContext,
    /// A PASID directory entry.
    PasidDirectory,
    /// A PASID table entry, its lower three words.
    Pasid,
    /// A first-stage paging entry.
    FirstStage,
    /// A second-stage paging entry.
    SecondStage,
    /// An interrupt remapping entry for remapped interrupts.
    RemappedInterrupt,
    /// An interrupt remapping entry for posted interrupts.
    PostedInterrupt,
    /// Word 4 of a posted-interrupt descriptor; words 0 to 3 are the vectors.
    PostedDescriptor,
    /// The address of an interrupt request in remappable format.
    RemappableAddress,
    /// An I/O APIC redirection entry in remappable format.
    IoapicEntry,
    /// Context-cache Invalidate Descriptor.
    ContextCacheDescriptor,
    /// IOTLB Invalidate Descriptor.
    IotlbDescriptor,
    /// Device-TLB Invalidate Descriptor.
    DeviceTlbDescriptor,
    /// Interrupt Entry Cache Invalidate Descriptor.
    InterruptCacheDescriptor,
    /// Invalidation Wait Descriptor.
    WaitDescriptor,
    /// PASID-based IOTLB Invalidate Descriptor.
    PasidIotlbDescriptor,
    /// PASID-cache Invalidate Descriptor.
    PasidCacheDescriptor,
    /// PASID-based Device-TLB Invalidate Descriptor.
    PasidDeviceTlbDescriptor,
    /// Page Group Response Descriptor.
    PageGroupResponse,
    /// A fault record.
    FaultRecord,
    /// A page request in its queue.
    PageRequest,
}

/// One structure as raw words, and what its fields hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vector {
    /// Of what.
    pub structure: Structure,
    /// What is particular about this one.
    pub what: &'static str,
    /// The section that lays it out.
    pub section: &'static str,
    /// Who agrees.
    pub sources: [Source; 2],
    /// Every field that is not 0, by the specification's name, as a number of its own: a
    /// pointer field is an address without the bits that the field does not have.
    pub fields: &'static [(&'static str, u64)],
    /// The words, the lowest first. Registers of 32 bits are one word.
    pub words: &'static [u64],
}

impl Vector {
    /// What a field holds.
    pub fn get(&self, name: &str) -> u64 {
        let field = self.fields.iter().find(|(known, _)| *known == name);
        field.map_or(0, |(_, value)| *value)
    }

    /// Whether a field of one bit is set.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) != 0
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.sources;
        write!(
            f,
            "{:?}: {} ({}; {one}; {other})",
            self.structure, self.what, self.section
        )
    }
}

/// All vectors.
pub fn all() -> impl Iterator<Item = &'static Vector> {
    [
        registers::VECTORS,
        entries::VECTORS,
        paging::VECTORS,
        interrupts::VECTORS,
        descriptors::VECTORS,
        records::VECTORS,
    ]
    .into_iter()
    .flatten()
}

/// Those of one structure.
pub fn vectors(structure: Structure) -> impl Iterator<Item = &'static Vector> {
    all().filter(move |vector| vector.structure == structure)
}
