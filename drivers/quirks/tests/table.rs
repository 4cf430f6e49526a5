//! The table, asked about functions and CPUs as machines have them.

use quirks::{Alias, Effect, Identity, Processor, TABLE, Who, of_device, of_processor};

fn function(vendor: u16, device: u16) -> Identity {
    Identity {
        vendor,
        device,
        revision: 0,
        class: 0,
    }
}

fn effects(identity: Identity) -> Vec<Effect> {
    of_device(&identity).map(|quirk| quirk.effect).collect()
}

fn processor(model: u8, stepping: u8) -> Processor {
    Processor {
        intel: true,
        family: 6,
        model,
        stepping,
    }
}

#[test]
fn a_sata_controller_requests_as_function_1_and_its_neighbour_by_number_does_not() {
    assert_eq!(
        effects(function(0x1b4b, 0x9230)),
        [Effect::RequestsAs(Alias::Function(1))]
    );
    assert_eq!(effects(function(0x1b4b, 0x9231)), []);
    assert_eq!(effects(function(0x1b4c, 0x9230)), []);
}

#[test]
fn an_erratum_ends_with_the_revision_that_mends_it() {
    let at = |revision| {
        effects(Identity {
            revision,
            ..function(0x8086, 0x1453)
        })
    };
    assert_eq!(at(0x1f), [Effect::NoTranslationServices]);
    assert_eq!(at(0x20), []);
    let hub = |revision| {
        effects(Identity {
            revision,
            ..function(0x8086, 0x3405)
        })
    };
    for revision in [0, 0x13, 0x14, 0x22] {
        assert_eq!(hub(revision), [Effect::NoInterruptRemapping]);
    }
    assert_eq!(hub(0x23), []);
}

#[test]
fn a_family_of_graphics_is_known_by_its_class_too() {
    let graphics = Identity {
        class: 0x03,
        ..function(0x8086, 0x9a49)
    };
    assert_eq!(effects(graphics), [Effect::KeepsTranslating]);
    let other = Identity {
        class: 0x0c,
        ..graphics
    };
    assert_eq!(effects(other), []);
}

#[test]
fn what_has_another_side_carries_others() {
    for (vendor, device) in [(0x10b5, 0x87b0), (0x8086, 0x2958), (0x11f8, 0x8545)] {
        assert_eq!(effects(function(vendor, device)), [Effect::CarriesOthers]);
    }
    // A switch of the same maker without such a bridge.
    assert_eq!(effects(function(0x10b5, 0x8747)), []);
}

#[test]
fn graphics_lose_the_bus_reset_by_the_upper_bits_of_their_number() {
    for device in [0x2340, 0x235a, 0x237f] {
        assert_eq!(effects(function(0x10de, device)), [Effect::NoBusReset]);
    }
    for device in [0x233f, 0x2380] {
        assert_eq!(effects(function(0x10de, device)), []);
    }
}

#[test]
fn a_cpu_has_all_errata_of_its_model_and_stepping() {
    let of =
        |processor| -> Vec<Effect> { of_processor(&processor).map(|quirk| quirk.effect).collect() };
    assert_eq!(
        of(processor(0x2d, 6)),
        [Effect::NoSecondStageSuperpages, Effect::MaskAtMost(9)]
    );
    assert_eq!(of(processor(0x2d, 7)), [Effect::NoSecondStageSuperpages]);
    assert_eq!(of(processor(0x3c, 6)), []);
    let other = Processor {
        intel: false,
        ..processor(0x2d, 6)
    };
    assert_eq!(of(other), []);
}

#[test]
fn every_row_has_a_name_of_its_own_a_source_and_somebody_whom_it_is_about() {
    for (index, quirk) in TABLE.iter().enumerate() {
        assert!(quirk.source.len() > 8, "{}", quirk.name);
        let others = TABLE.iter().skip(index + 1);
        assert!(
            others.clone().all(|other| other.name != quirk.name),
            "{} twice",
            quirk.name
        );
        match &quirk.who {
            Who::Devices { devices, .. } => assert!(!devices.is_empty()),
            Who::Run { devices, .. } => assert!(!devices.is_empty()),
            Who::Family { upper, .. } => assert!(!upper.is_empty()),
            Who::Class { class, .. } => assert_ne!(*class, 0),
            Who::Processors { models, .. } => assert!(!models.is_empty()),
        }
        if let Effect::SetConfiguration { offset, bits } = quirk.effect {
            assert!(offset % 4 == 0 && bits != 0, "{}", quirk.name);
        }
    }
}

#[test]
fn no_row_names_a_device_twice() {
    for quirk in TABLE {
        if let Who::Devices { devices, .. } = &quirk.who {
            let mut sorted = devices.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), devices.len(), "{}", quirk.name);
        }
    }
}
