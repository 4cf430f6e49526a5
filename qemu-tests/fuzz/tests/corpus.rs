//! What the fuzzer found worth keeping is run again in every test run.

use fuzz_targets::{TARGETS, target};
use std::fs;
use std::path::{Path, PathBuf};

/// All corpora together stay below this, so that the repository stays small.
const MOST_BYTES: u64 = 300 << 10;

fn files(name: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Runs the whole corpus of a target. A panic is preceded by the file's name.
fn replay(name: &str) {
    let target = target(name).expect("a target");
    let files = files(name);
    assert!(files.len() >= 10, "{name}: a corpus, not {}", files.len());
    for file in files {
        println!("{}", file.display());
        (target.run)(&fs::read(&file).unwrap());
    }
}

#[test]
fn tables_of_firmware_are_read_without_panic() {
    replay("dmar");
}

#[test]
fn tables_of_guests_never_lead_a_device_astray() {
    replay("guest-tables");
}

#[test]
fn calls_of_guests_are_done_or_change_nothing() {
    replay("hypercalls");
}

#[test]
fn whatever_hardware_says_the_driver_comes_to_an_end() {
    replay("hardware");
}

#[test]
fn whatever_a_driver_writes_the_model_goes_on() {
    replay("model");
}

#[test]
fn inputs_of_nothing_are_survived() {
    for target in TARGETS {
        (target.run)(&[]);
        (target.run)(&[0; 64]);
        (target.run)(&[0xff; 64]);
    }
}

#[test]
fn the_corpora_are_small() {
    let sizes = TARGETS
        .iter()
        .flat_map(|target| files(target.name))
        .map(|file| fs::metadata(file).unwrap().len());
    let all: u64 = sizes.sum();
    assert!(all <= MOST_BYTES, "{all} bytes");
}
