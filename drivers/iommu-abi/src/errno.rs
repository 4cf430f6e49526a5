//! Error numbers: those of Linux, with the meanings that iommufd gives them.

use crate::number::numbers;

numbers! {
    /// Why a call failed. On the wire the number is negated.
    pub enum Errno {
        /// The guest may not do this.
        EPERM = 1,
        /// The handle, PASID or address names nothing of this guest, or an object of
        /// another kind.
        ENOENT = 2,
        /// Hardware did not do as told; the device is blocked.
        EIO = 5,
        /// The argument is larger than the hypervisor knows, and the tail is not zero.
        E2BIG = 7,
        /// The hypervisor has no memory for this now.
        ENOMEM = 12,
        /// A guest-physical address leads to no memory of the guest, or not with the
        /// rights that are needed.
        EFAULT = 14,
        /// In use.
        EBUSY = 16,
        /// There already.
        EEXIST = 17,
        /// A value is understood and wrong.
        EINVAL = 22,
        /// No such operation.
        ENOTTY = 25,
        /// No free address, number or handle left in the space that was asked for.
        ENOSPC = 28,
        /// An address plus a length is beyond the end of the space.
        EOVERFLOW = 75,
        /// The buffer is too small; the count says what is needed.
        EMSGSIZE = 90,
        /// Unknown flag, reserved field not zero, or a value that is known and not
        /// supported here.
        EOPNOTSUPP = 95,
        /// Hardware did not answer in time; the device is blocked.
        ETIMEDOUT = 110,
        /// The guest's quota for this is used up.
        EDQUOT = 122,
    }
}

impl Errno {
    /// What stands in the result register.
    pub const fn to_register(self) -> i64 {
        (self as u32 as i64).wrapping_neg()
    }

    /// What a result register says: `Ok` with a count, or the error. A negative number
    /// without a name here is `EIO`.
    pub fn from_register(result: i64) -> Result<u64, Self> {
        match u64::try_from(result) {
            Ok(count) => Ok(count),
            Err(_) => Err(u32::try_from(result.unsigned_abs())
                .ok()
                .and_then(Self::from_u32)
                .unwrap_or(Self::EIO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_survives_the_register() {
        for &errno in Errno::ALL {
            assert_eq!(Errno::from_register(errno.to_register()), Err(errno));
        }
        assert_eq!(Errno::from_register(7), Ok(7));
    }

    #[test]
    fn an_error_that_a_newer_hypervisor_knows_is_still_an_error() {
        assert_eq!(Errno::from_register(-4000), Err(Errno::EIO));
        assert_eq!(Errno::from_register(i64::MIN), Err(Errno::EIO));
    }
}
