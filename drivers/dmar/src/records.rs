//! Cutting bytes into records that carry their own length.

use crate::finding::{Finding, Oddity};
use crate::raw;
use zerocopy::FromBytes;

/// Bytes of the table, with their offset from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) offset: usize,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// What lies behind the first `length` bytes.
    pub(crate) fn behind(self, length: usize) -> Part<'a> {
        Part {
            offset: self.offset.saturating_add(length),
            bytes: self.bytes.get(length..).unwrap_or_default(),
        }
    }

    fn first(self, length: usize) -> Part<'a> {
        Part {
            bytes: self.bytes.get(..length).unwrap_or(self.bytes),
            ..self
        }
    }
}

/// What the two kinds of records have in common.
pub(crate) trait Framing {
    /// The length that the record at the start of `bytes` claims; `None` if the bytes end
    /// before it says so.
    fn claimed_length(bytes: &[u8]) -> Option<usize>;
    /// The least length that a record can have.
    const LEAST: usize;
    /// What to say of a record that does not fit in `left` bytes.
    fn cut_off(claimed: usize, left: usize) -> Oddity;
    /// What to say of a record that claims less than the least.
    fn too_short(claimed: usize) -> Oddity;
}

/// Remapping structures in a table.
#[derive(Clone, Debug)]
pub(crate) enum Structures {}

impl Framing for Structures {
    const LEAST: usize = raw::Prefix::SIZE;

    fn claimed_length(bytes: &[u8]) -> Option<usize> {
        let (prefix, _) = raw::Prefix::ref_from_prefix(bytes).ok()?;
        Some(prefix.length.get().into())
    }

    fn cut_off(claimed: usize, left: usize) -> Oddity {
        Oddity::StructureCutOff { claimed, left }
    }

    fn too_short(claimed: usize) -> Oddity {
        Oddity::StructureWithoutHeader { claimed }
    }
}

/// Device scope entries in a structure.
#[derive(Clone, Debug)]
pub(crate) enum ScopeEntries {}

impl Framing for ScopeEntries {
    const LEAST: usize = raw::Scope::SIZE;

    fn claimed_length(bytes: &[u8]) -> Option<usize> {
        let (scope, _) = raw::Scope::ref_from_prefix(bytes).ok()?;
        Some(scope.length.into())
    }

    fn cut_off(claimed: usize, left: usize) -> Oddity {
        Oddity::ScopeCutOff { claimed, left }
    }

    fn too_short(claimed: usize) -> Oddity {
        Oddity::ScopeWithoutHeader { claimed }
    }
}

/// Iterates over records, and ends with the first that does not fit, because nobody knows
/// where the next one would begin.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a, F> {
    left: Part<'a>,
    framing: core::marker::PhantomData<fn() -> F>,
}

impl<'a, F: Framing> Records<'a, F> {
    pub(crate) fn new(part: Part<'a>) -> Self {
        Self {
            left: part,
            framing: core::marker::PhantomData,
        }
    }

    /// The length of the first record, or what is wrong with it.
    fn first_length(&self) -> Result<usize, Oddity> {
        let left = self.left.bytes.len();
        let claimed = F::claimed_length(self.left.bytes).ok_or(F::cut_off(F::LEAST, left))?;
        if claimed < F::LEAST {
            return Err(F::too_short(claimed));
        }
        if claimed > left {
            return Err(F::cut_off(claimed, left));
        }
        Ok(claimed)
    }
}

impl<'a, F: Framing> Iterator for Records<'a, F> {
    type Item = Result<Part<'a>, Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.bytes.is_empty() {
            return None;
        }
        let offset = self.left.offset;
        match self.first_length() {
            Ok(length) => {
                let record = self.left.first(length);
                self.left = self.left.behind(length);
                Some(Ok(record))
            }
            Err(oddity) => {
                self.left.bytes = &[];
                Some(Err(Finding { offset, oddity }))
            }
        }
    }
}
