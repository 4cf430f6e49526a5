//! What a request wants, and what a mapping allows.

/// A set of rights. For a request: what it wants. For a mapping: what it allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Access(u8);

impl Access {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(1);
    /// Write.
    pub const WRITE: Self = Self(2);
    /// Read and write; an atomic operation wants both.
    pub const READ_WRITE: Self = Self(3);

    /// Both sets together.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rights that both sets have.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every right of `wanted` is in the set.
    pub const fn allows(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether reading is in the set.
    pub const fn reads(self) -> bool {
        self.allows(Self::READ)
    }

    /// Whether writing is in the set.
    pub const fn writes(self) -> bool {
        self.allows(Self::WRITE)
    }

    /// Whether there is no right in the set.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    const fn name(self) -> &'static str {
        match self.0 {
            0 => "none",
            1 => "read",
            2 => "write",
            _ => "read-write",
        }
    }
}

impl core::fmt::Debug for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Access {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.name());
    }
}
