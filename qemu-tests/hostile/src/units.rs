//! Machines to run on: units of all kinds and ages, drawn from a seed.

use vtd::ModeRequest;
use vtd_model::{Config, Depths};

/// A kind of unit, and what it is used as.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    pub(crate) mode: ModeRequest,
}

/// Every kind that makes the driver or the policy do something else.
pub(crate) fn all() -> Vec<Kind> {
    let kind = |name, config, mode| Kind { name, config, mode };
    let legacy = Config::legacy();
    let scalable = Config::scalable();
    let asking = Config::scalable_with_ats();
    let second_only = Config {
        first_stage: false,
        first_stage_1g: false,
        first_stage_5_level: false,
        nested: false,
        ..scalable.clone()
    };
    let shadowed = Config {
        nested: false,
        ..scalable.clone()
    };
    vec![
        kind("legacy", legacy.clone(), ModeRequest::Legacy),
        kind(
            "legacy, 39 bits",
            Config {
                depths: Depths {
                    three: true,
                    four: false,
                    five: false,
                },
                guest_bits: 39,
                // The memory of these machines lies at 73 GiB.
                host_bits: 39,
                ..legacy.clone()
            },
            ModeRequest::Legacy,
        ),
        kind(
            "legacy, caching mode",
            legacy.clone().with_caching_mode(),
            ModeRequest::Legacy,
        ),
        kind(
            "legacy, not coherent, caching mode",
            legacy.clone().non_coherent().with_caching_mode(),
            ModeRequest::Legacy,
        ),
        kind(
            "legacy, not coherent",
            legacy.clone().non_coherent(),
            ModeRequest::Legacy,
        ),
        kind(
            "legacy, write buffer, no page-selective invalidation",
            Config {
                write_buffer_flush: true,
                page_selective: false,
                max_address_mask: 0,
                ..legacy.clone()
            },
            ModeRequest::Legacy,
        ),
        kind(
            "legacy, few domain ids, small address mask, no large pages",
            Config {
                domain_bits: 4,
                max_address_mask: 3,
                second_stage_2m: false,
                second_stage_1g: false,
                ..legacy.clone()
            },
            ModeRequest::Legacy,
        ),
        kind("second stage", shadowed.clone(), ModeRequest::SecondStage),
        kind(
            "second stage only, caching mode",
            second_only.clone().with_caching_mode(),
            ModeRequest::SecondStage,
        ),
        kind(
            "second stage only, coherent tables and not coherent walks",
            Config {
                walk_coherency: false,
                ..second_only
            },
            ModeRequest::SecondStage,
        ),
        kind("first stage", shadowed.clone(), ModeRequest::FirstStage),
        kind(
            "first stage, not coherent",
            shadowed.clone().non_coherent(),
            ModeRequest::FirstStage,
        ),
        kind(
            "first stage, caching mode, no page-selective invalidation",
            Config {
                page_selective: false,
                max_address_mask: 0,
                ..shadowed.with_caching_mode()
            },
            ModeRequest::FirstStage,
        ),
        kind("nesting", scalable.clone(), ModeRequest::SecondStage),
        kind(
            "nesting, caching mode",
            scalable.clone().with_caching_mode(),
            ModeRequest::SecondStage,
        ),
        kind(
            "nesting, no page-selective invalidation, few domain ids",
            Config {
                domain_bits: 6,
                page_selective: false,
                max_address_mask: 0,
                ..scalable.clone()
            },
            ModeRequest::SecondStage,
        ),
        kind(
            "nesting, not coherent",
            scalable.non_coherent(),
            ModeRequest::SecondStage,
        ),
        kind(
            "everything but device-TLBs",
            Config {
                device_tlb: false,
                page_requests: false,
                page_request_drain: false,
                host_permissions: false,
                host_permissions_1g: false,
                no_write_flag: false,
                pasid_in_translated: false,
                stop_markers: false,
                ..Config::everything()
            },
            ModeRequest::Automatic,
        ),
        kind(
            "device-TLBs",
            Config::everything(),
            ModeRequest::SecondStage,
        ),
        kind("page requests", asking.clone(), ModeRequest::SecondStage),
        kind(
            "page requests, no drain of them, caching mode",
            Config {
                page_request_drain: false,
                ..asking.clone().with_caching_mode()
            },
            ModeRequest::SecondStage,
        ),
        kind(
            "page requests, first stage",
            Config {
                nested: false,
                ..asking.clone()
            },
            ModeRequest::FirstStage,
        ),
        kind(
            "page requests, second stage only",
            Config {
                first_stage: false,
                first_stage_1g: false,
                first_stage_5_level: false,
                nested: false,
                ..asking
            },
            ModeRequest::SecondStage,
        ),
    ]
}
