//! Acts that abort QEMU, each on a QEMU of its own, which must end as is known of its version.
