//! Machines, tables and command lines with which the kernel cannot do its work. Each must
//! end in a status of its own and a sentence that says what was found.

use ::dmar::builder::{Structure, Table, fix_checksum};

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BadInput {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is bad.
    pub(crate) what: What,
    /// More words for the kernel.
    pub(crate) append: &'static str,
    /// Name of the exit status.
    pub(crate) exit: &'static str,
    /// What the sentence must contain, each of these.
    pub(crate) says: &'static [&'static str],
}

/// What is bad.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Nothing but the kernel's command line.
    CommandLine,
    /// The machine has no remapping unit, and so no DMAR.
    NoUnit,
    /// The DMAR is replaced by this one.
    Dmar(fn() -> Vec<u8>),
    /// The unit has these options besides.
    UnitOption(&'static str),
    /// QEMU's CPU model.
    Cpu(&'static str),
    /// QEMU is told this besides.
    Machine(&'static [&'static str]),
    /// There is no boot module.
    NoModule,
}

/// Where QEMU's unit has its registers.
const UNIT: u64 = 0xfed9_0000;
/// Where the machine has nothing at all: reads give all ones.
const NOTHING: u64 = 0xfed9_8000;

/// All of them.
pub(crate) const ALL: &[BadInput] = &[
    BadInput {
        name: "without_a_dmar_table",
        what: What::NoUnit,
        append: "",
        exit: "no-dmar",
        says: &["DMAR"],
    },
    BadInput {
        name: "with_a_dmar_of_wrong_checksum",
        what: What::Dmar(wrong_checksum),
        append: "",
        exit: "bad-dmar",
        says: &["sum up to"],
    },
    BadInput {
        name: "with_a_dmar_longer_than_its_file",
        what: What::Dmar(too_long),
        append: "",
        exit: "bad-dmar",
        says: &["claims", "only"],
    },
    BadInput {
        name: "with_a_dmar_that_is_cut_off",
        what: What::Dmar(|| b"DMAR\x08\0\0\0".to_vec()),
        append: "",
        exit: "bad-dmar",
        says: &[],
    },
    BadInput {
        name: "with_a_dmar_that_names_no_unit",
        what: What::Dmar(|| table().build()),
        append: "",
        exit: "no-unit",
        says: &[],
    },
    BadInput {
        name: "with_a_unit_that_does_not_answer",
        what: What::Dmar(|| table_of_unit(NOTHING)),
        append: "",
        exit: "dead-unit",
        says: &["0xfed98000"],
    },
    BadInput {
        name: "with_a_unit_that_translates_no_width",
        what: What::UnitOption("dma-translation=off"),
        append: "",
        exit: "no-width",
        says: &[],
    },
    BadInput {
        name: "with_a_mode_that_the_unit_lacks",
        what: What::CommandLine,
        append: "mode=first-stage",
        exit: "no-mode",
        says: &["scalable mode"],
    },
    BadInput {
        name: "with_svm_asked_for_on_a_cpu_without",
        what: What::Cpu("qemu64,-svm"),
        append: "guest=svm",
        exit: "no-svm",
        says: &["SVM"],
    },
    BadInput {
        name: "with_a_word_that_is_not_understood",
        what: What::CommandLine,
        append: "colour=red",
        exit: "bad-command-line",
        says: &["colour=red"],
    },
    BadInput {
        name: "without_a_guest_program",
        what: What::NoModule,
        append: "guest=svm",
        exit: "no-guest",
        says: &["boot module"],
    },
    BadInput {
        name: "with_too_little_memory",
        what: What::Machine(&["-m", "8M"]),
        append: "",
        exit: "no-memory",
        says: &["memory"],
    },
];

fn table() -> Table {
    /// Interrupts can be remapped (§8.1).
    const INTR_REMAP: u8 = 1;
    Table::new(48).flags(INTR_REMAP)
}

/// One unit for all devices of segment 0.
fn table_of_unit(register_base: u64) -> Vec<u8> {
    /// DRHD: all devices that no other unit has (§8.3).
    const INCLUDE_PCI_ALL: u8 = 1;
    let unit = Structure::drhd(register_base).flags(INCLUDE_PCI_ALL);
    table().with(unit).build()
}

fn wrong_checksum() -> Vec<u8> {
    let mut bytes = table_of_unit(UNIT);
    bytes[CHECKSUM] = bytes[CHECKSUM].wrapping_add(1);
    bytes
}

/// Claims more bytes than there are; the checksum is right.
fn too_long() -> Vec<u8> {
    let mut bytes = table_of_unit(UNIT);
    bytes[LENGTH] += 64;
    fix_checksum(&mut bytes);
    bytes
}

/// Where the length of a table begins, and where its checksum is (ACPI, table header).
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ExitStatus;

    #[test]
    fn each_names_a_status_that_exists() {
        for input in ALL {
            assert!(ExitStatus::of_name(input.exit).is_some(), "{}", input.name);
            assert_ne!(input.exit, "ok");
        }
    }
}
