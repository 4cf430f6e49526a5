//! What this CPU can do, as far as the kernel asks.

use quirks::Processor;
use raw_cpuid::CpuId;
use spin::Once;

/// Abilities of the CPU.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Features {
    /// 128-bit compare and exchange, which table entries are replaced with.
    pub cmpxchg16b: bool,
    /// `clflush`.
    pub clflush: bool,
    /// `clflushopt`.
    pub clflushopt: bool,
    /// Bytes that one `clflush` writes back.
    pub cache_line: usize,
    /// 1 GiB pages in the CPU's own tables.
    pub gib_pages: bool,
    /// x2APIC mode.
    pub x2apic: bool,
    /// The TSC runs at one rate in all power states.
    pub invariant_tsc: bool,
    /// AMD SVM.
    pub svm: bool,
    /// Intel VMX.
    pub vmx: bool,
    /// Bits of physical address.
    pub physical_bits: u8,
    /// Which one it is, for errata.
    pub processor: Option<Processor>,
}

/// What this CPU can do.
pub fn features() -> &'static Features {
    static FEATURES: Once<Features> = Once::new();
    FEATURES.call_once(read)
}

fn read() -> Features {
    let cpuid = CpuId::new();
    let basic = cpuid.get_feature_info();
    let structured = cpuid.get_extended_feature_info();
    let extended = cpuid.get_extended_processor_and_feature_identifiers();
    let power = cpuid.get_advanced_power_mgmt_info();
    let sizes = cpuid.get_processor_capacity_feature_info();
    Features {
        cmpxchg16b: basic.as_ref().is_some_and(|b| b.has_cmpxchg16b()),
        clflush: basic.as_ref().is_some_and(|b| b.has_clflush()),
        clflushopt: structured.as_ref().is_some_and(|s| s.has_clflushopt()),
        // CPUID counts in units of 8 bytes.
        cache_line: basic
            .as_ref()
            .map_or(64, |b| usize::from(b.cflush_cache_line_size()) * 8)
            .max(8),
        gib_pages: extended.as_ref().is_some_and(|e| e.has_1gib_pages()),
        x2apic: basic.as_ref().is_some_and(|b| b.has_x2apic()),
        invariant_tsc: power.as_ref().is_some_and(|p| p.has_invariant_tsc()),
        svm: extended.as_ref().is_some_and(|e| e.has_svm()),
        vmx: basic.as_ref().is_some_and(|b| b.has_vmx()),
        physical_bits: sizes.as_ref().map_or(36, |s| s.physical_address_bits()),
        processor: basic.as_ref().map(|basic| Processor {
            intel: cpuid
                .get_vendor_info()
                .is_some_and(|vendor| vendor.as_str() == "GenuineIntel"),
            family: basic.family_id().into(),
            model: basic.model_id(),
            stepping: basic.stepping_id(),
        }),
    }
}
