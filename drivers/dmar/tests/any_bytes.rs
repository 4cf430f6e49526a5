//! Whatever the bytes are, they are read without panic, and tables that differ only in how
//! they are wrong are read alike.

use dmar::builder::{Scope, Structure, Table, fix_checksum};
use dmar::{Dmar, Severity, exercise};
use proptest::prelude::*;

fn scope() -> impl Strategy<Value = Scope> {
    let path = proptest::collection::vec((0u8..40, 0u8..10), 0..4);
    let fields = (0u8..8, any::<u8>(), any::<u8>(), path);
    let lie = proptest::option::weighted(0.1, any::<u8>());
    (fields, lie).prop_map(|((kind, id, bus, path), lie)| {
        let scope = Scope::new(kind, id, bus, &path);
        match lie {
            Some(length) => scope.claiming(length),
            None => scope,
        }
    })
}

fn structure() -> impl Strategy<Value = Structure> {
    let payload = proptest::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..40);
    let scopes = proptest::collection::vec(scope(), 0..4);
    let lie = proptest::option::weighted(0.1, 0u16..100);
    (0u16..9, payload, scopes, lie).prop_map(|(kind, payload, scopes, lie)| {
        let structure = Structure::other(kind, &payload);
        let structure = scopes.into_iter().fold(structure, Structure::scope);
        match lie {
            Some(length) => structure.claiming(length),
            None => structure,
        }
    })
}

fn table() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(structure(), 0..8).prop_map(|structures| {
        structures
            .into_iter()
            .fold(Table::new(39), Table::with)
            .build()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
    }

    #[test]
    fn any_structures_behind_a_sound_header_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        let mut table = Table::new(39).build();
        table.extend(bytes);
        let length = u32::try_from(table.len()).unwrap();
        table[4..8].copy_from_slice(&length.to_le_bytes());
        fix_checksum(&mut table);
        exercise(&table);
    }

    #[test]
    fn tables_that_are_nearly_right_are_survived(table in table(), cut in 0usize..200) {
        exercise(&table);
        exercise(&table[..table.len().saturating_sub(cut)]);
    }

    #[test]
    fn what_can_be_read_does_not_depend_on_the_checksum(table in table(), sum in 1u8..) {
        let mut wrong = table.clone();
        wrong[9] = wrong[9].wrapping_add(sum);
        let offsets = |bytes: &[u8]| -> Vec<usize> {
            Dmar::new(bytes).structures().map(|structure| structure.offset()).collect()
        };
        prop_assert_eq!(offsets(&table), offsets(&wrong));
        prop_assert!(Dmar::new(&wrong).is_malformed());
    }

    #[test]
    fn findings_lie_within_the_bytes(table in table()) {
        let mut outside = 0;
        let mut errors = 0;
        let dmar = Dmar::new(&table);
        dmar.audit(&mut |finding| {
            outside += usize::from(finding.offset >= table.len());
            errors += usize::from(finding.severity() == Severity::Error);
        });
        prop_assert_eq!(outside, 0);
        prop_assert_eq!(errors > 0, dmar.is_malformed());
    }
}
