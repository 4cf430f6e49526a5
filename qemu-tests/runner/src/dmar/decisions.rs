//! What the driver would do with a unit, and why: its own rules, asked with the registers
//! that are known.

use ::dmar::DmarFlags;
use iommu_core::{Coherence, LeafSizes, Stage};
use vtd::registers::{Cap, Ecap, Ver};
use vtd::{Abilities, ModeChoice, ModeRequest};

use super::input::Registers;

/// Something that the driver would do.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Decision {
    pub(super) what: String,
    pub(super) why: String,
}

fn decision(what: impl Into<String>, why: impl Into<String>) -> Decision {
    Decision {
        what: what.into(),
        why: why.into(),
    }
}

/// What the driver would do with a unit that has these registers, of a table with these
/// flags and this host address width.
pub(super) fn of_unit(
    flags: DmarFlags,
    host_bits: u16,
    registers: Option<Registers>,
) -> Vec<Decision> {
    match registers {
        Some(registers) => with_registers(flags, abilities(registers, host_bits)),
        None => vec![translation_unknown(), interrupts_by_table(flags)],
    }
}

fn abilities(registers: Registers, host_bits: u16) -> Abilities {
    Abilities {
        version: Ver::from_bits(registers.version.unwrap_or(0x10)),
        cap: Cap::from_bits(registers.cap),
        ecap: Ecap::from_bits(registers.ecap),
        host_bits: u8::try_from(host_bits).unwrap_or(u8::MAX),
    }
}

fn translation_unknown() -> Decision {
    decision(
        "translates in scalable mode if the unit has it, else in legacy mode",
        "CAP and ECAP decide (give them with --cap and --ecap)",
    )
}

fn interrupts_by_table(flags: DmarFlags) -> Decision {
    if !flags.contains(DmarFlags::INTR_REMAP) {
        decision("leaves interrupts alone", "INTR_REMAP is not set")
    } else if flags.contains(DmarFlags::X2APIC_OPT_OUT) {
        decision(
            "remaps interrupts if ECAP.IR is 1, with 8-bit APIC ids",
            "INTR_REMAP and X2APIC_OPT_OUT are set",
        )
    } else {
        decision("remaps interrupts if ECAP.IR is 1", "INTR_REMAP is set")
    }
}

fn with_registers(flags: DmarFlags, abilities: Abilities) -> Vec<Decision> {
    if !abilities.ecap.qi() {
        return vec![decision(
            "leaves the unit off, and its devices with the hypervisor",
            "it has no invalidation queue (ECAP.QI = 0)",
        )];
    }
    let choice = match abilities.choose(ModeRequest::Automatic) {
        Ok(choice) => choice,
        Err(error) => {
            return vec![decision(
                "leaves the unit off, and its devices with the hypervisor",
                error.to_string(),
            )];
        }
    };
    let mut decisions = vec![translation(&choice)];
    decisions.push(pages(&abilities, choice.mode().stage()));
    decisions.push(coherence(&abilities, choice.mode().is_scalable()));
    decisions.push(nesting(&abilities));
    decisions.extend(invalidation(&abilities));
    decisions.push(interrupts(flags, &abilities));
    decisions
}

fn translation(choice: &ModeChoice) -> Decision {
    let format = choice.format();
    let tables = match choice.mode().is_scalable() {
        true => "scalable mode",
        false => "legacy mode",
    };
    let stage = match choice.mode().stage() {
        Stage::First => "first-stage",
        Stage::Second => "second-stage",
    };
    decision(
        format!(
            "translates in {tables}, by {stage} tables of {} levels ({} bits)",
            format.levels(),
            format.input_bits()
        ),
        choice.reason(),
    )
}

fn pages(abilities: &Abilities, stage: Stage) -> Decision {
    let (leaves, field) = match stage {
        Stage::First => (abilities.first_stage_leaves(), "CAP.FS1GP"),
        Stage::Second => (abilities.second_stage_leaves(), "CAP.SSLPS"),
    };
    let what = match leaves {
        LeafSizes { gib1: true, .. } => "maps pages of 4 KiB, 2 MiB and 1 GiB",
        LeafSizes { mib2: true, .. } => "maps pages of 4 KiB and 2 MiB",
        _ => "maps pages of 4 KiB alone",
    };
    decision(what, field)
}

fn coherence(abilities: &Abilities, scalable: bool) -> Decision {
    let field = if scalable { "ECAP.SMPWCS" } else { "ECAP.C" };
    match abilities.paging_coherence(scalable) {
        Coherence::Snooped => decision(
            "leaves page tables in the caches",
            format!("the unit snoops ({field} = 1)"),
        ),
        Coherence::WriteBack => decision(
            "writes back every changed line of page tables",
            format!("the unit does not snoop ({field} = 0)"),
        ),
    }
}

fn nesting(abilities: &Abilities) -> Decision {
    if abilities.ecap.nest() {
        decision("nests guests' own tables in hardware", "ECAP.NEST = 1")
    } else {
        decision(
            "shadows guests' own tables",
            "the unit cannot nest them (ECAP.NEST = 0)",
        )
    }
}

fn invalidation(abilities: &Abilities) -> Vec<Decision> {
    let mut decisions = Vec::new();
    if abilities.caches_absence() {
        decisions.push(decision(
            "invalidates after mapping too",
            "entries that are not present may be cached (CAP.CM = 1)",
        ));
    }
    if abilities.needs_write_buffer_flush() {
        decisions.push(decision(
            "flushes the write buffer where no invalidation follows",
            "CAP.RWBF = 1",
        ));
    }
    if abilities.second_stage_mask_limit().is_none() {
        decisions.push(decision(
            "invalidates whole domains",
            "there is no page-selective invalidation (CAP.PSI = 0)",
        ));
    }
    decisions
}

fn interrupts(flags: DmarFlags, abilities: &Abilities) -> Decision {
    if !flags.contains(DmarFlags::INTR_REMAP) {
        return decision("leaves interrupts alone", "INTR_REMAP is not set");
    }
    if !abilities.ecap.ir() {
        return decision(
            "leaves interrupts alone",
            "the unit cannot remap them (ECAP.IR = 0)",
        );
    }
    if flags.contains(DmarFlags::X2APIC_OPT_OUT) {
        return decision(
            "remaps interrupts, with 8-bit APIC ids",
            "firmware asks not to use x2APIC mode (X2APIC_OPT_OUT)",
        );
    }
    if abilities.ecap.eim() {
        return decision(
            "remaps interrupts, with 32-bit APIC ids where the CPUs are in x2APIC mode",
            "INTR_REMAP is set, ECAP.IR = 1, ECAP.EIM = 1",
        );
    }
    decision(
        "remaps interrupts, with 8-bit APIC ids",
        "INTR_REMAP is set, ECAP.IR = 1, ECAP.EIM = 0",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Skylake client unit: legacy mode, large pages, no snooping, no nesting.
    const CAP: u64 = 0x00d2_008c_4066_0462;
    const ECAP: u64 = 0x00f0_50da;

    fn decide(flags: DmarFlags, cap: u64, ecap: u64) -> Vec<String> {
        let registers = Registers {
            version: None,
            cap,
            ecap,
        };
        let decisions = of_unit(flags, 39, Some(registers));
        decisions
            .into_iter()
            .map(|decision| decision.what)
            .collect()
    }

    #[test]
    fn a_client_unit_translates_in_legacy_mode() {
        assert_eq!(
            decide(DmarFlags::INTR_REMAP, CAP, ECAP),
            [
                "translates in legacy mode, by second-stage tables of 4 levels (48 bits)",
                "maps pages of 4 KiB, 2 MiB and 1 GiB",
                "writes back every changed line of page tables",
                "shadows guests' own tables",
                "remaps interrupts, with 32-bit APIC ids where the CPUs are in x2APIC mode",
            ]
        );
    }

    #[test]
    fn each_bit_changes_its_decision_alone() {
        let remap = DmarFlags::INTR_REMAP;
        let before = decide(remap, CAP, ECAP);
        let changed = |flags, cap, ecap| -> Vec<String> {
            let after = decide(flags, cap, ecap);
            after
                .into_iter()
                .filter(|what| !before.contains(what))
                .collect()
        };
        assert_eq!(
            changed(remap, CAP & !(1 << 35), ECAP),
            ["maps pages of 4 KiB and 2 MiB"]
        );
        assert_eq!(
            changed(remap, CAP & !(3 << 34), ECAP),
            ["maps pages of 4 KiB alone"]
        );
        assert_eq!(
            changed(remap, CAP, ECAP | 1),
            ["leaves page tables in the caches"]
        );
        assert_eq!(
            changed(remap, CAP | 1 << 7, ECAP),
            ["invalidates after mapping too"]
        );
        assert_eq!(
            changed(remap, CAP | 1 << 4, ECAP),
            ["flushes the write buffer where no invalidation follows"]
        );
        assert_eq!(
            changed(remap, CAP & !(1 << 39), ECAP),
            ["invalidates whole domains"]
        );
        assert_eq!(
            changed(DmarFlags::empty(), CAP, ECAP),
            ["leaves interrupts alone"]
        );
        assert_eq!(
            changed(remap, CAP, ECAP & !(1 << 3)),
            ["leaves interrupts alone"]
        );
        let opted_out = remap | DmarFlags::X2APIC_OPT_OUT;
        for (flags, ecap) in [(opted_out, ECAP), (remap, ECAP & !(1 << 4))] {
            let what = changed(flags, CAP, ecap);
            assert_eq!(what, ["remaps interrupts, with 8-bit APIC ids"]);
        }
    }

    #[test]
    fn a_unit_that_cannot_be_driven_is_left_off() {
        let off = ["leaves the unit off, and its devices with the hypervisor"];
        let flags = DmarFlags::INTR_REMAP;
        assert_eq!(decide(flags, CAP, ECAP & !2), off);
        assert_eq!(decide(flags, CAP & !0x1f00, ECAP), off);
    }

    #[test]
    fn without_registers_the_table_decides_what_it_can() {
        let what = |flags| of_unit(flags, 39, None).pop().unwrap().what;
        assert_eq!(what(DmarFlags::empty()), "leaves interrupts alone");
        assert_eq!(
            what(DmarFlags::INTR_REMAP),
            "remaps interrupts if ECAP.IR is 1"
        );
    }
}
