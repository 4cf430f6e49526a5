//! Units of all kinds and ages.

use vtd::ModeRequest;
use vtd_model::{Config, Depths};

/// A kind of unit, and what it is used as.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    pub(crate) mode: ModeRequest,
}

/// Every kind that makes the driver do something else.
pub(crate) fn all() -> Vec<Kind> {
    let kind = |name, config, mode| Kind { name, config, mode };
    let legacy = Config::legacy();
    let scalable = Config::scalable();
    let only = |three, four, five| Depths { three, four, five };
    vec![
        kind("legacy", legacy.clone(), ModeRequest::Legacy),
        kind(
            "legacy, 39 bits",
            Config {
                depths: only(true, false, false),
                guest_bits: 39,
                host_bits: 39,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, 57 bits",
            Config {
                depths: only(false, false, true),
                guest_bits: 57,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, caching mode",
            legacy.clone().with_caching_mode(),
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, not coherent",
            legacy.clone().non_coherent(),
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, write buffer",
            Config {
                write_buffer_flush: true,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, no page-selective invalidation",
            Config {
                page_selective: false,
                max_address_mask: 0,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, no queue",
            Config {
                queued_invalidation: false,
                interrupt_remapping: false,
                x2apic: false,
                max_handle_mask: 0,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, no queue, write buffer, caching mode",
            Config {
                queued_invalidation: false,
                interrupt_remapping: false,
                x2apic: false,
                max_handle_mask: 0,
                write_buffer_flush: true,
                ..legacy.clone().with_caching_mode()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, small address mask",
            Config {
                max_address_mask: 3,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy, few domain ids, no large pages, no pass-through",
            Config {
                domain_bits: 4,
                second_stage_2m: false,
                second_stage_1g: false,
                pass_through: false,
                ..legacy.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "legacy on a scalable unit",
            scalable.clone(),
            ModeRequest::Legacy,
        ),
        kind("second stage", scalable.clone(), ModeRequest::SecondStage),
        kind("first stage", scalable.clone(), ModeRequest::FirstStage),
        kind(
            "first stage only",
            Config {
                second_stage: false,
                nested: false,
                ..scalable.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "second stage only",
            Config {
                first_stage: false,
                first_stage_1g: false,
                first_stage_5_level: false,
                nested: false,
                ..scalable.clone()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "second stage, caching mode",
            scalable.clone().with_caching_mode(),
            ModeRequest::SecondStage,
        ),
        kind(
            "first stage, caching mode",
            scalable.clone().with_caching_mode(),
            ModeRequest::FirstStage,
        ),
        kind(
            "second stage, not coherent",
            scalable.clone().non_coherent(),
            ModeRequest::SecondStage,
        ),
        kind(
            "first stage, not coherent",
            scalable.clone().non_coherent(),
            ModeRequest::FirstStage,
        ),
        kind(
            "second stage, coherent tables and not coherent walks",
            Config {
                walk_coherency: false,
                ..scalable.clone()
            },
            ModeRequest::SecondStage,
        ),
        kind(
            "second stage, coherent walks and not coherent tables",
            Config {
                coherent: false,
                ..scalable.clone()
            },
            ModeRequest::SecondStage,
        ),
        kind(
            "second stage, no page-selective invalidation",
            Config {
                page_selective: false,
                max_address_mask: 0,
                ..scalable.clone()
            },
            ModeRequest::SecondStage,
        ),
        kind("everything", Config::everything(), ModeRequest::Automatic),
        kind(
            "everything, version 6",
            Config {
                major: 6,
                ..Config::everything()
            },
            ModeRequest::SecondStage,
        ),
        kind(
            "everything, version 8",
            Config {
                major: 8,
                ..Config::everything()
            },
            ModeRequest::Automatic,
        ),
    ]
}
