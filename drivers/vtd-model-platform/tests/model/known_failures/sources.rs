//! What only the sources themselves can show.

use std::path::{Path, PathBuf};

/// What may decide which lines are compiled: who tests them, and whether they can log. No
/// protection may.
const CONDITIONS: &[&str] = &[
    "test",
    "not(test)",
    "doctest",
    "loom",
    "not(loom)",
    "all(loom, test)",
    "all(test, loom)",
    "all(test, not(loom))",
    "feature = \"defmt\"",
    // What needs a heap of the caller's.
    "feature = \"alloc\"",
    "all(test, feature = \"alloc\")",
    // Faults that tests seed; see below.
    "feature = \"test-hooks\"",
    "not(feature = \"test-hooks\")",
    // Makes tables for tests; reads none.
    "feature = \"builder\"",
    "debug_assertions",
    "target_endian = \"little\"",
    "target_arch = \"x86_64\"",
    "not(target_arch = \"x86_64\")",
];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The condition that begins behind `cfg(`, up to its closing parenthesis, on one line.
fn condition(text: &str) -> String {
    let mut depth = 1;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    let words: Vec<&str> = text[..end.expect("a closing one")]
        .split_whitespace()
        .collect();
    words.join(" ").trim_end_matches(',').to_owned()
}

#[test]
fn xsa_450_no_protection_depends_on_how_it_is_built() {
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let packages = [
        "dmar",
        "iommu",
        "iommu-abi",
        "iommu-core",
        "io-pgtable",
        "vtd",
    ];
    let mut files = Vec::new();
    for package in packages {
        // Nobody seeds faults without asking for it.
        let manifest = drivers.join(package).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("a manifest");
        let default = manifest.lines().find(|line| line.starts_with("default"));
        assert!(!default.unwrap_or_default().contains("test-hooks"));
        sources(&drivers.join(package).join("src"), &mut files);
    }
    let mut seen = 0;
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a source");
        for begin in ["#[cfg(", "#![cfg(", "cfg!("] {
            for (at, _) in text.match_indices(begin) {
                let found = condition(&text[at + begin.len()..]);
                seen += 1;
                assert!(
                    CONDITIONS.contains(&found.as_str()),
                    "{}: {found}",
                    file.display()
                );
            }
        }
    }
    assert!(
        files.len() > 100 && seen > 10,
        "{} files, {seen}",
        files.len()
    );
}

/// What stands between backticks.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_failures_names_each_of_these_tests_and_none_that_is_not() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = package.join("../../docs/security.md");
    let table = std::fs::read_to_string(table).expect("the table");
    let mut files = Vec::new();
    sources(&package.join("tests/model/known_failures"), &mut files);
    files.push(package.join("../iommu/tests/known_failures.rs"));
    let mut tests = 0;
    for file in &files {
        let text = std::fs::read_to_string(file).expect("a source");
        let ours = file.starts_with(package.join("tests"));
        let module = file.file_stem().expect("a name").to_string_lossy();
        for (at, _) in text.match_indices("#[test]\nfn ") {
            let name = text[at + "#[test]\nfn ".len()..].split('(').next();
            let name = name.expect("a name");
            if name.starts_with("the_table_of") {
                continue;
            }
            let full = if ours {
                format!("{module}::{name}")
            } else {
                format!("iommu::{module}::{name}")
            };
            assert!(
                names(&table).any(|named| named == full),
                "{full} is not told"
            );
            tests += 1;
        }
    }
    assert!(tests >= 44, "{tests} tests");
    let class = ["::xsa_", "::cve_", "::own_", "::qi_", "::posted_"];
    for named in names(&table).filter(|named| class.iter().any(|mark| named.contains(mark))) {
        let name = named.rsplit("::").next().expect("a name");
        let function = format!("fn {name}()");
        let exists = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).expect("a source");
            text.contains(&function)
        };
        assert!(files.iter().any(exists), "{named} does not exist");
    }
}
