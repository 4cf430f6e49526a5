//! The structures of `linux/iommu.h` (v5.10), translated into what the other operations do.
//!
//! What the header promises holds here, also where the driver behind it did otherwise: an
//! invalidation is done as it was asked for or it is refused, and whoever names a PASID
//! must have it.

mod bind;
mod fault;
mod invalidate;
mod response;
mod structure;
