//! The command as a whole: words in, text out.

use ::dmar::builder::{Scope, Structure, Table};
use clap::Parser;

use super::system::fake::Sys;
use super::*;

/// A client unit of its time: legacy mode, large pages, no snooping.
const CAP: &str = "d2008c40660462";
const ECAP: &str = "f050da";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn ask(words: &[&str]) -> Result<String> {
    let line = Line::try_parse_from([&["dmar"], words].concat())?;
    answer(&line.arguments)
}

/// Graphics with a unit of their own, a disk behind a port, and a unit for all the rest.
fn table() -> Vec<u8> {
    Table::new(39)
        .with(Structure::drhd(0xfed9_0000).scope(Scope::endpoint(0, &[(2, 0)])))
        .with(Structure::drhd(0xfed9_1000).flags(1))
        .with(Structure::rmrr(0x8b80_0000, 0x8fff_ffff).scope(Scope::endpoint(0, &[(2, 0)])))
        .build()
}

fn machine(name: &str) -> Sys {
    let sys = Sys::new(name);
    sys.write("firmware/acpi/tables/DMAR", &table());
    sys.function("0000:00:02.0", 0x03_0000, None);
    sys.function("0000:00:1c.0", 0x06_0400, Some((1, 1)));
    sys.function("0000:01:00.0", 0x01_0802, None);
    sys
}

fn at(sys: &Sys) -> &str {
    sys.path().to_str().unwrap()
}

#[test]
fn without_a_file_the_running_system_is_read() {
    let sys = machine("running");
    sys.unit(
        "dmar0",
        [
            ("address", "fed90000"),
            ("version", "1:0"),
            ("cap", CAP),
            ("ecap", ECAP),
        ],
    );
    let picture = ask(&["--sys", at(&sys)]).unwrap();
    for line in [
        "unit 0 at 0xfed90000, 4 KiB of registers, segment 0000, CAP 0xd2008c40660462, ECAP 0xf050da\n",
        "    here: 0000:00:02.0 (display)\n",
        "    here: 0000:00:1c.0 0000:01:00.0\n",
        "       72 MiB  00:02.0 (unit 0)\n",
        "  with unit 0\n    translates in legacy mode, by second-stage tables of 4 levels (48 bits): ",
        "  with unit 1\n    translates in scalable mode if the unit has it, else in legacy mode: ",
    ] {
        assert!(picture.contains(line), "{line:?} in\n{picture}");
    }
}

#[test]
fn a_system_that_shows_no_table_is_told_where_it_was_looked_for() {
    let sys = Sys::new("none");
    let error = format!("{:#}", ask(&["--sys", at(&sys)]).unwrap_err());
    assert!(error.contains("firmware/acpi/tables/DMAR"), "{error}");
    assert!(error.contains("name a file instead"), "{error}");
}

#[test]
fn every_file_has_its_object_in_the_order_of_the_names() {
    let sys = machine("files");
    sys.write("cut", &table()[..60]);
    let [good, cut] = ["firmware/acpi/tables/DMAR", "cut"]
        .map(|name| sys.path().join(name).to_str().unwrap().to_owned());
    let text = ask(&["--json", &good, &cut]).unwrap();
    let objects: serde_json::Value = serde_json::from_str(&text).unwrap();
    let objects = objects.as_array().unwrap();
    let files: Vec<_> = objects.iter().map(|object| &object["file"]).collect();
    assert_eq!(files, [&good, &cut]);
    let malformed: Vec<_> = objects
        .iter()
        .map(|object| !object["errors"].as_array().unwrap().is_empty())
        .collect();
    assert_eq!(malformed, [false, true]);
    assert_eq!(objects[0]["structures"][2]["limit"], 0x8fff_ffff_u32);
}

#[test]
fn registers_that_are_given_stand_for_every_unit() {
    let sys = machine("given");
    let words = [
        "--sys",
        at(&sys),
        "--cap",
        "0xd2008c40660462",
        "--ecap",
        ECAP,
    ];
    let picture = ask(&words).unwrap();
    assert!(
        picture.contains("  with units 0, 1\n    translates in legacy mode"),
        "{picture}"
    );
    assert!(ask(&words[..4]).is_err(), "one of the two alone");
    assert!(ask(&["--cap", "no", "--ecap", "1"]).is_err());
}
