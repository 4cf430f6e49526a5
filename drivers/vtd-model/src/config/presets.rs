//! Configurations to start from.

use super::{Config, Depths, Perfmon};

impl Config {
    /// An older server unit: legacy mode, second stage of 3 and 4 levels with superpages,
    /// queue, interrupt remapping; coherent.
    pub fn legacy() -> Self {
        Self {
            major: 1,
            host_bits: 46,
            domain_bits: 16,
            write_buffer_flush: false,
            protected_low: true,
            protected_high: true,
            caching_mode: false,
            depths: Depths {
                three: true,
                four: true,
                five: false,
            },
            guest_bits: 48,
            zero_length_read: true,
            fault_offset: 0x20,
            fault_records: 8,
            fault_compression: false,
            second_stage_2m: true,
            second_stage_1g: true,
            page_selective: true,
            max_address_mask: 18,
            draining: true,
            first_stage_1g: false,
            first_stage_5_level: false,
            posted_interrupts: false,
            sirtp_invalidates: false,
            srtp_invalidates: false,
            coherent: true,
            queued_invalidation: true,
            device_tlb: false,
            interrupt_remapping: true,
            x2apic: true,
            x2apic_required: false,
            remapping_required: false,
            pass_through: true,
            snoop_control: true,
            iotlb_offset: 0x50,
            max_handle_mask: 15,
            memory_type: false,
            nested: false,
            page_requests: false,
            supervisor_requests: false,
            no_write_flag: false,
            extended_accessed: false,
            pasid_bits: None,
            invalidation_throttle: false,
            page_request_drain: false,
            scalable_mode: false,
            second_stage_dirty: false,
            second_stage: true,
            first_stage: false,
            walk_coherency: false,
            rid_pasid: false,
            rid_priv: false,
            abort_dma: false,
            pasid_in_translated: false,
            second_stage_io_rights: false,
            stop_markers: false,
            host_permissions: false,
            host_permissions_1g: false,
            enhanced_commands: false,
            perfmon: None,
            virtual_commands: false,
        }
    }

    /// A recent server unit: scalable mode with both stages and nesting, PASIDs of 20 bits,
    /// coherent walks; no device-TLBs.
    pub fn scalable() -> Self {
        Self {
            major: 5,
            first_stage_1g: true,
            first_stage_5_level: true,
            depths: Depths {
                three: true,
                four: true,
                five: true,
            },
            guest_bits: 57,
            protected_low: false,
            protected_high: false,
            nested: true,
            pasid_bits: Some(20),
            scalable_mode: true,
            first_stage: true,
            walk_coherency: true,
            ..Self::legacy()
        }
    }

    /// [`Config::scalable`] with device-TLBs, page requests and their drain.
    pub fn scalable_with_ats() -> Self {
        Self {
            device_tlb: true,
            page_requests: true,
            page_request_drain: true,
            no_write_flag: true,
            ..Self::scalable()
        }
    }

    /// Everything that one unit of major version 5 may have at once.
    pub fn everything() -> Self {
        Self {
            posted_interrupts: true,
            sirtp_invalidates: true,
            srtp_invalidates: true,
            supervisor_requests: true,
            extended_accessed: true,
            second_stage_dirty: true,
            rid_pasid: true,
            rid_priv: true,
            abort_dma: true,
            pasid_in_translated: true,
            second_stage_io_rights: true,
            stop_markers: true,
            host_permissions: true,
            host_permissions_1g: true,
            enhanced_commands: true,
            perfmon: Some(Perfmon::default()),
            protected_low: true,
            protected_high: true,
            ..Self::scalable_with_ats()
        }
    }

    /// The same unit without snooping: every table must be written back (§6.8 and §3.10).
    pub fn non_coherent(self) -> Self {
        Self {
            coherent: false,
            walk_coherency: false,
            extended_accessed: false,
            second_stage_dirty: false,
            ..self
        }
    }

    /// The same unit with caching mode, as emulations report it (§6.1).
    pub fn with_caching_mode(self) -> Self {
        Self {
            caching_mode: true,
            ..self
        }
    }
}
