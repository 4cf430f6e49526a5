//! What errors say to people, and that they are errors.

use crate::{GuestMemoryError, IrqError, OutOfFrames, RangeError, ResetError, ServiceError};
use core::error::Error;
use core::fmt;

impl Error for OutOfFrames {}
impl Error for RangeError {}
impl Error for GuestMemoryError {}
impl Error for ResetError {}
impl Error for ServiceError {}
impl Error for IrqError {}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the range is empty",
            Self::Wraps => "the range runs beyond the end of the address space",
            Self::Misaligned => "the range does not begin and end at pages",
        })
    }
}

impl fmt::Display for GuestMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped(at) => write!(f, "the guest has no memory at {at}"),
            Self::Denied(at) => write!(f, "the guest may not access its memory at {at} so"),
            Self::Misaligned(at) => write!(f, "{at} is not aligned to the access"),
        }
    }
}

impl fmt::Display for ResetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMethod(device) => write!(f, "{device} has no reset that is known"),
            Self::TimedOut(device) => write!(f, "{device} did not come back from its reset"),
            Self::Gone(device) => write!(f, "{device} does not answer; was it taken out?"),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(device) => {
                write!(f, "{device} cannot ask for pages, or may not")
            }
            Self::TimedOut(device) => write!(f, "{device} did not stop asking for pages"),
        }
    }
}

impl fmt::Display for IrqError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRemapped(device) => {
                write!(f, "no unit remaps the interrupts of {device}")
            }
            Self::Exhausted { wanted } => {
                write!(f, "no run of {wanted} free interrupt-remapping entries")
            }
            Self::ApicIdTooWide(id) => write!(
                f,
                "APIC id {id:#x} has more than the 8 bits that remapping without EIM can name"
            ),
            Self::NoSuchEntry(index) => write!(f, "entry {index} is beyond the handle's count"),
            Self::BadVector(vector) => {
                write!(f, "vector {vector} is not for devices, which begin at 16")
            }
            Self::Flush => f.write_str("the unit did not confirm that it forgot the entry"),
        }
    }
}

#[cfg(feature = "alloc")]
mod of_backends {
    use crate::{BackendError, BatchFull, DirtyError, FlushError, MapError, PAGE_SIZE};
    use core::error::Error;
    use core::fmt;

    impl Error for MapError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::OutOfFrames(error) => Some(error),
                _ => None,
            }
        }
    }

    impl Error for BackendError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::OutOfFrames(error) => Some(error),
                Self::Flush(error) => Some(error),
                Self::Device(error) => Some(error),
                _ => None,
            }
        }
    }

    impl Error for DirtyError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            match self {
                Self::Range(error) => Some(error),
                Self::OutOfFrames(error) => Some(error),
                _ => None,
            }
        }
    }

    impl Error for FlushError {}
    impl<D: fmt::Debug> Error for BatchFull<'_, D> {}

    impl fmt::Display for FlushError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::UnitTimedOut { unit, waited } => write!(
                    f,
                    "unit {unit} did not confirm invalidations within {} ms",
                    waited.0 / 1_000_000
                ),
                Self::DeviceTimedOut(device) => write!(
                    f,
                    "{device} did not answer the invalidation of its TLB, and was cut off"
                ),
                Self::DescriptorRefused { unit, code } => {
                    write!(f, "unit {unit} refused an invalidation (IQEI {code})")
                }
            }
        }
    }

    impl<D> fmt::Display for BatchFull<'_, D> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the batch has no room for another debt")
        }
    }

    impl fmt::Display for BackendError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NoUnit(device) => write!(f, "no unit remaps {device}"),
                Self::NoDomain(domain) => write!(
                    f,
                    "there is no domain {} of generation {}",
                    domain.index, domain.generation
                ),
                Self::Busy(domain) => write!(f, "domain {} is in use", domain.index),
                Self::Unsupported(device) => {
                    write!(f, "the unit of {device} cannot do this in its mode")
                }
                Self::FormatUnsupported { device, format } => {
                    write!(f, "the unit of {device} cannot walk {format:?} tables")
                }
                Self::DirtyTrackingUnsupported(device) => write!(
                    f,
                    "the unit of {device} keeps no dirty flags, which the domain is tracked by"
                ),
                Self::AttributesUnsupported(device) => write!(
                    f,
                    "the unit of {device} has not all of snoop control and memory types that \
                     the domain's pages need"
                ),
                Self::Unchecked(device) => {
                    write!(f, "what {device} translated itself cannot be checked")
                }
                Self::PasidOutOfRange(slot) => write!(
                    f,
                    "{:?} is no PASID that slots of {} can have",
                    slot.pasid, slot.device
                ),
                Self::BeyondHostWidth(at) => {
                    write!(f, "{at} is no page within the host's physical addresses")
                }
                Self::Reserved(device) => {
                    write!(f, "{device} must keep the mapping of its reserved region")
                }
                Self::OutOfDomains => {
                    f.write_str("all domains, domain ids or attachments are taken")
                }
                Self::OutOfFrames(error) => error.fmt(f),
                Self::Flush(error) => error.fmt(f),
                Self::Device(error) => error.fmt(f),
            }
        }
    }

    impl fmt::Display for DirtyError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NoDomain(domain) => write!(
                    f,
                    "there is no domain {} of generation {}",
                    domain.index, domain.generation
                ),
                Self::NotSecondStage(domain) => write!(
                    f,
                    "domain {} has no second-stage tables of the driver's",
                    domain.index
                ),
                Self::Unsupported(device) => write!(
                    f,
                    "the unit of {device} keeps no dirty flags in second-stage tables"
                ),
                Self::NotTracking(domain) => {
                    write!(f, "writes through domain {} are not tracked", domain.index)
                }
                Self::Range(error) => error.fmt(f),
                Self::OutOfFrames(error) => error.fmt(f),
            }
        }
    }

    impl fmt::Display for MapError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::NotPaging(domain) => {
                    write!(f, "domain {} has no tables of the driver's", domain.index)
                }
                Self::Occupied(at) => write!(f, "something is mapped at {at}"),
                Self::BeyondWidth(at) => write!(f, "{at} is wider than the tables translate"),
                Self::InterruptRange(at) => write!(f, "{at} is where interrupts are requested"),
                Self::BeyondHostWidth(at) => {
                    write!(f, "{at} is wider than the host's physical addresses")
                }
                Self::NoAccess => f.write_str("neither reading nor writing was asked for"),
                Self::AccessUnsupported(access) => {
                    write!(f, "the format has no entry that allows just {access}")
                }
                Self::Malformed => write!(f, "no pages, or not multiples of {PAGE_SIZE:#x} bytes"),
                Self::MappedTooOften(at) => {
                    write!(f, "{at} is mapped in more places than can be counted")
                }
                Self::Corrupt(at) => write!(
                    f,
                    "an entry on the way to {at} was not written by the driver"
                ),
                Self::OutOfFrames(error) => error.fmt(f),
            }
        }
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use crate::{BackendError, FlushError, Nanoseconds, Order, OutOfFrames};
    use core::error::Error;
    use std::string::ToString;

    #[test]
    fn what_caused_an_error_can_be_asked_for() {
        let flush = FlushError::UnitTimedOut {
            unit: 3,
            waited: Nanoseconds::from_millis(2_000),
        };
        let error = BackendError::Flush(flush);
        assert_eq!(
            error.to_string(),
            "unit 3 did not confirm invalidations within 2000 ms"
        );
        let source = error.source().and_then(|error| error.downcast_ref());
        assert_eq!(source, Some(&flush));
        let memory = BackendError::from(OutOfFrames { order: Order::PAGE });
        assert_eq!(memory.to_string(), "no free block of 1 pages");
        assert!(BackendError::OutOfDomains.source().is_none());
    }
}
