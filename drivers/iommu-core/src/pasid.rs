//! Where PASIDs come from.

use crate::{Pasid, Platform};
use core::ops::RangeInclusive;

#[cfg(feature = "alloc")]
use alloc::sync::Arc;

/// Gives PASIDs out. Host PASIDs are system-wide, since units tag what they cache with
/// them.
///
/// Both functions may be called in interrupt handlers, with interrupts off, and under locks
/// of ranks below [`Rank::Pasids`](crate::sync::Rank::Pasids). They do not block: one that has
/// hardware do the work waits for it no longer than a command may take.
pub trait PasidAllocator: Send + Sync {
    /// A PASID that nobody has, within the range and not 0.
    fn allocate(&self, platform: &dyn Platform, range: RangeInclusive<Pasid>) -> Option<Pasid>;
    /// Takes one back. Hardware has forgotten it.
    fn free(&self, platform: &dyn Platform, pasid: Pasid);
}

macro_rules! by_reference {
    ($($pointer:ty),*) => {$(
        impl<A: PasidAllocator + ?Sized> PasidAllocator for $pointer {
            fn allocate(
                &self,
                platform: &dyn Platform,
                range: RangeInclusive<Pasid>,
            ) -> Option<Pasid> {
                (**self).allocate(platform, range)
            }

            fn free(&self, platform: &dyn Platform, pasid: Pasid) {
                (**self).free(platform, pasid)
            }
        }
    )*};
}
by_reference!(&A);
#[cfg(feature = "alloc")]
by_reference!(Arc<A>);
