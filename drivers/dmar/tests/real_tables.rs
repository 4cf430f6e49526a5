//! Tables of real machines, from the folder that `DMAR_TABLES` names. They are firmware's
//! and stay out of the repository; without the variable there is nothing to read, and the
//! test says so.

use dmar::{Dmar, NoBridges, Severity, Structure, exercise};
use iommu_core::{DeviceId, Segment, SourceId};
use std::path::PathBuf;
use std::{env, fs};

fn tables() -> Vec<(PathBuf, Vec<u8>)> {
    let Some(folder) = env::var_os("DMAR_TABLES") else {
        eprintln!("skipped: DMAR_TABLES names no folder");
        return Vec::new();
    };
    let entries = fs::read_dir(&folder).expect("DMAR_TABLES names a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| matches!(path.extension(), Some(kind) if kind == "dat" || kind == "aml"));
    paths.sort();
    assert!(!paths.is_empty(), "no table in {folder:?}");
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Every byte of the table belongs to the header or to one structure that can be read.
#[test]
fn real_tables_are_read_to_the_last_byte() {
    for (path, bytes) in tables() {
        let dmar = Dmar::new(&bytes);
        dmar.audit(&mut |finding| {
            assert_eq!(finding.severity(), Severity::Warning, "{path:?}: {finding}");
        });
        assert!(!dmar.is_malformed());
        let mut end = 48;
        for structure in dmar.structures() {
            assert_eq!(structure.offset(), end, "{path:?}");
            let at = |byte: usize| u16::from(bytes[end + byte]);
            assert_eq!(structure.kind(), at(0) | at(1) << 8);
            end += usize::from(at(2) | at(3) << 8);
        }
        assert_eq!(end, bytes.len(), "{path:?}");
    }
}

#[test]
fn real_machines_have_units_that_remap_their_devices() {
    for (path, bytes) in tables() {
        let dmar = Dmar::new(&bytes);
        assert!(dmar.structures().any(|s| matches!(s, Structure::Drhd(_))));
        let bases: Vec<_> = dmar.units().map(|unit| unit.drhd.register_base).collect();
        for (index, base) in bases.iter().enumerate() {
            assert!(!bases[..index].contains(base), "{path:?}: {base} twice");
        }
        // What no unit names belongs to the one that includes all, of which there is one at
        // most.
        let rest: Vec<_> = dmar.units().filter(|unit| unit.includes_all).collect();
        assert!(rest.len() <= 1, "{path:?}: all of these have one segment");
        let unnamed = DeviceId::new(Segment(0), SourceId::new(0x77, 9, 3).unwrap());
        let unit = dmar.unit_of(unnamed, &NoBridges).map(|unit| unit.index);
        assert_eq!(unit, rest.first().map(|unit| unit.index));
        // A device that a unit names by a fixed path belongs to it.
        for unit in dmar.units() {
            for scope in unit.drhd.scopes.clone().filter(|scope| scope.kind.is_pci()) {
                let Some(source) = scope.fixed_source() else {
                    continue;
                };
                let device = DeviceId::new(unit.drhd.segment, source);
                let found = dmar.unit_of(device, &NoBridges).map(|unit| unit.index);
                assert_eq!(found, Some(unit.index), "{path:?}: {device}");
            }
        }
    }
}

#[test]
fn regions_of_real_machines_are_whole_pages_with_devices() {
    for (path, bytes) in tables() {
        let dmar = Dmar::new(&bytes);
        for region in dmar.regions() {
            assert!(region.range.is_page_aligned(), "{path:?}");
            assert!(region.scopes.clone().next().is_some(), "{path:?}");
        }
    }
}

/// Not at every byte of every table, but over all tables at every kind of byte.
#[test]
fn real_tables_cut_off_or_changed_are_survived() {
    const STEP: usize = 7;
    for (number, (_, bytes)) in tables().into_iter().enumerate() {
        for at in (number % STEP..bytes.len()).step_by(STEP) {
            exercise(&bytes[..at]);
            let mut changed = bytes.clone();
            for value in [0, 1, !bytes[at]] {
                changed[at] = value;
                exercise(&changed);
            }
        }
    }
}
