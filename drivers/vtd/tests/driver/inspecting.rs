//! Reading everything back.

use crate::world::*;
use iommu_core::*;
use vtd::Inspected;

fn inspected(world: &World) -> Vec<Inspected> {
    let mut all = Vec::new();
    assert!(world.driver.inspect(UNIT, &mut |item| all.push(*item)));
    all
}

#[test]
fn what_is_told_is_what_hardware_reads() {
    let world = Plan::rich().boot();
    let domain = world
        .driver
        .create(
            device(0x1234),
            &DomainSpec::Paging(TableFormat::FirstStage4),
        )
        .unwrap();
    world.attach(slot(0x1234), Attachment::Domain(domain));
    world.attach(pasid_slot(0x1234, 0x777), Attachment::PassThrough);
    let handle = world.driver.allocate(device(0x1234), 1).unwrap();
    let all = inspected(&world);
    let registers: Vec<_> = all
        .iter()
        .filter_map(|item| match item {
            Inspected::Register { name, value, .. } => Some((*name, *value)),
            _ => None,
        })
        .collect();
    assert!(registers.contains(&("RTADDR", world.fake.get64(0x20))));
    assert!(registers.contains(&("GSTS", u64::from(world.fake.get32(0x1c)))));
    let words = world.context(0x1234).unwrap();
    assert!(all.contains(&Inspected::Context {
        source: SourceId::from_bits(0x1234),
        words,
    }));
    for number in [0, 0x777] {
        let words = world.pasid_entry(0x1234, number).unwrap();
        assert!(all.contains(&Inspected::Pasid {
            source: SourceId::from_bits(0x1234),
            pasid: Pasid::new(number as u32).unwrap(),
            entry: vtd::tables::pasid::PasidEntry::from_words(words),
        }));
    }
    assert!(all.iter().any(
        |item| matches!(item, Inspected::Interrupt { index: 0, high, .. } if high.sid() == 0x1234)
    ));
    assert!(all.contains(&Inspected::Attachment {
        slot: slot(0x1234),
        domain: Some(domain),
        format: Some(TableFormat::FirstStage4),
        domain_id: 2,
        leaving: false,
    }));
    assert_eq!(
        all.iter()
            .filter(|item| matches!(item, Inspected::Root { .. }))
            .count(),
        1
    );
    world.driver.free(handle).unwrap();
}

#[test]
fn an_attachment_that_is_leaving_is_told_until_that_is_settled() {
    let world = Plan::legacy().boot();
    let domain = world.domain();
    world.attach(slot(1), Attachment::Domain(domain));
    let replaced = world.driver.replace(slot(1), Attachment::Blocked).unwrap();
    let attachments = |world: &World| -> Vec<bool> {
        inspected(world)
            .iter()
            .filter_map(|item| match item {
                Inspected::Attachment { leaving, .. } => Some(*leaving),
                _ => None,
            })
            .collect()
    };
    assert_eq!(attachments(&world), [true]);
    world.commit(replaced.owed);
    assert!(attachments(&world).is_empty());
}

#[test]
fn there_is_nothing_to_tell_of_a_unit_that_does_not_exist() {
    let world = Plan::legacy().boot();
    assert!(!world.driver.inspect(UNIT + 1, &mut |_| panic!()));
}
