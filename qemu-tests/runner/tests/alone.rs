//! The driver crates without the hypervisor: in a workspace that has no path to it, on a
//! target that has no standard library, and without a logger to link.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What others take into systems of their own.
const CRATES: [&str; 3] = ["dmar", "vtd", "iommu"];
const MACHINE: &str = "x86_64-unknown-none";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs cargo beside the cargo that runs this test.
fn cargo(arguments: &[&str]) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .env("CARGO_TARGET_DIR", root().join("target/alone"))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    output
}

/// Runs an example, which asserts for itself that DMA is refused that nobody allowed.
fn run(package: &str) -> String {
    let manifest = ["--manifest-path", "examples/Cargo.toml"];
    let what = ["run", "--quiet", "--locked", "--package", package];
    let output = cargo(&[&what[..], &manifest].concat());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_driver_on_the_model_refuses_what_nobody_allowed() {
    let said = run("on-the-model");
    assert!(said.contains("Write of 0x5010: 0x85 SGN.6"), "{said}");
    assert!(said.contains("Read of 0x6000: 0x71 SFS.2"), "{said}");
}

#[test]
fn a_kernel_that_is_not_ours_has_its_devices_confined() {
    let said = run("your-kernel");
    assert!(said.contains("taken back, it is refused: 0x06"), "{said}");
}

#[test]
fn a_hypervisor_that_is_not_ours_lets_its_guest_bind_a_table() {
    let said = run("your-hypervisor");
    for wanted in [
        "0x7010 of the device is 0x8010 of the guest",
        "0xa000 is refused, and the guest is told why: 0x71",
        "0x9000 is refused, and the guest is told why: 0x79",
        "taken from the guest, it is out of the device's reach",
    ] {
        assert!(said.contains(wanted), "{wanted:?} in {said}");
    }
}

#[test]
fn the_examples_know_nothing_of_the_hypervisor() {
    let lock = std::fs::read_to_string(root().join("examples/Cargo.lock")).expect("a lock file");
    for ours in ["kernel", "boot", "defmt", "guest-runtime", "hypervisor-abi"] {
        let name = format!("name = \"{ours}\"\n");
        assert!(!lock.contains(&name), "{ours}");
    }
    for theirs in ["vtd", "iommu"] {
        assert!(lock.contains(&format!("name = \"{theirs}\"\n")), "{theirs}");
    }
}

#[test]
fn each_crate_builds_alone_without_a_standard_library() {
    for package in CRATES {
        let manifest = format!("drivers/{package}/Cargo.toml");
        cargo(&[
            "check",
            "--quiet",
            "--locked",
            "--manifest-path",
            &manifest,
            "--target",
            MACHINE,
        ]);
    }
    let example = [
        "--manifest-path",
        "examples/Cargo.toml",
        "--package",
        "your-kernel",
        "--lib",
    ];
    cargo(
        &[
            &["check", "--quiet", "--locked", "--target", MACHINE][..],
            &example,
        ]
        .concat(),
    );
}

#[test]
fn no_crate_brings_a_logger_or_the_kernel_along() {
    for package in CRATES {
        let tree = cargo(&[
            "tree",
            "--locked",
            "--package",
            package,
            "--edges",
            "normal",
            "--prefix",
            "none",
        ]);
        let tree = String::from_utf8(tree.stdout).expect("text");
        assert!(tree.starts_with(package), "{tree}");
        for line in tree.lines() {
            let name = line.split(' ').next().unwrap_or_default();
            assert!(
                !["defmt", "kernel", "boot"].contains(&name),
                "{package}: {line}"
            );
        }
    }
}

#[test]
fn each_crate_says_what_it_needs_and_under_which_licence() {
    for package in CRATES {
        let readme = root().join("drivers").join(package).join("README.md");
        let readme = std::fs::read_to_string(readme).expect("a README");
        for wanted in ["must implement", "Rust version: 1.95", "MIT or Apache-2.0"] {
            assert!(readme.contains(wanted), "{package}: {wanted}");
        }
    }
}
