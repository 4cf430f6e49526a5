//! The kernel with switches on its command line: how it ends, what it says, and what QEMU's
//! trace shows that it did, or did not, do.

use std::path::Path;

use anyhow::Result;

use super::canned::Canned;
use super::case::{Case, Verdict};
use super::execute::{Context, LIMIT, setup_of, verdict_of, wrong_words};
use super::talk::{self, Exchange};
use super::traces::Traces;
use crate::boot::Evidence;
use crate::judge::{self, Announced, Expectation, PROVOKED};
use crate::qemu::Qemu;

/// A boot of the kernel itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switch {
    /// Its name.
    pub(crate) name: &'static str,
    /// Words for the kernel.
    pub(crate) append: &'static str,
    /// More options of the remapping unit.
    pub(crate) unit: &'static [&'static str],
    /// The DMAR that stands in for the firmware's.
    pub(crate) dmar: Option<&'static str>,
    /// Name of the exit status.
    pub(crate) exit: &'static str,
    /// What the exit line must contain.
    pub(crate) says: &'static str,
    /// Parts of log lines, in their order.
    pub(crate) logs: &'static [&'static str],
    /// Events that QEMU's trace must hold.
    pub(crate) shows: &'static [&'static str],
    /// Events that it must not hold.
    pub(crate) lacks: &'static [&'static str],
    /// Whether the boot module holds a next kernel, which is this one again.
    pub(crate) next: bool,
    /// What is said to the kernel's monitor; nothing, if it is not to be started.
    pub(crate) talk: &'static [Exchange],
}

const PLAIN: Switch = Switch {
    name: "",
    append: "",
    unit: &[],
    dmar: None,
    exit: "ok",
    says: "",
    logs: &[],
    shows: &[],
    lacks: &[],
    next: false,
    talk: &[],
};

/// What the log tells before anything is changed, in this order.
const REPORT: &[&str] = &[
    "the DMAR names 1 unit(s)",
    "unit 0: registers at 0xfed90000, segment 0, VT-d 1.0",
    "unit 0 translates: legacy mode only; second stage 39-bit, 48-bit (pages of 4 KiB, 2 MiB, 1 GiB)",
    "unit 0: firmware left nothing on",
    "unit 0: will use legacy mode (asked for)",
    "interrupts will be remapped",
    "0000:00:00.0 8086:29c0, bridge, unit 0: blocked; not for guests: it is a bridge",
    "0000:00:04.0 1234:11e8, device, unit 0: blocked; can be given to a guest",
];

/// All of them. A refusal stands beside what differs in one word and is permitted.
pub(crate) const ALL: &[Switch] = &[
    Switch {
        name: "vtd_report_tells_everything_and_changes_nothing",
        append: "vtd=report",
        says: "nothing was changed",
        logs: REPORT,
        shows: &["vtd_reg_read"],
        lacks: &["vtd_reg_write", "vtd_dmar_enable"],
        ..PLAIN
    },
    Switch {
        name: "vtd_on_tells_the_same_before_translation_is_on",
        append: "vtd=on guest=none",
        logs: &[
            "the DMAR names 1 unit(s)",
            "unit 0 translates: ",
            "unit 0: will use legacy mode (asked for)",
            "0000:00:04.0 1234:11e8, device, unit 0: blocked; can be given to a guest",
            "device(s) are bus masters no more",
            "unit 0: translation on",
        ],
        shows: &["vtd_reg_write", "vtd_dmar_enable"],
        ..PLAIN
    },
    Switch {
        name: "firmware_that_opts_in_is_told_of",
        append: "vtd=report",
        dmar: Some("opt-in"),
        logs: &["the firmware promises that its own DMA keeps to reserved regions"],
        ..PLAIN
    },
    Switch {
        name: "firmware_that_does_not_opt_in_is_told_of",
        append: "vtd=report",
        dmar: Some("plain"),
        logs: &["the firmware does not promise that its own DMA keeps to reserved regions"],
        ..PLAIN
    },
    Switch {
        name: "vtd_off_does_not_even_read_a_unit",
        append: "vtd=off",
        says: "left as the firmware left them",
        lacks: &["vtd_reg_read", "vtd_reg_write"],
        ..PLAIN
    },
    Switch {
        name: "a_denied_device_is_kept_from_the_guest",
        append: "deny=0000:00:04.0",
        exit: "not-for-guests",
        says: "denies it",
        logs: &["0000:00:04.0 1234:11e8, device, unit 0: blocked for good (deny=); not for guests"],
        shows: &["vtd_dmar_enable"],
        ..PLAIN
    },
    Switch {
        name: "denying_another_device_changes_nothing_for_the_guest",
        append: "deny=0000:00:1e.0",
        logs: &["deny=0000:00:1e.0 names a device that is not there"],
        ..PLAIN
    },
    Switch {
        name: "a_device_with_a_reserved_region_is_kept_from_the_guest",
        append: "rmrr=keep",
        dmar: Some("reserved-edu"),
        exit: "not-for-guests",
        says: "RMRR",
        logs: &["0000:00:04.0: keeps reaching 0xfffc000 to 0xfffdfff (RMRR)"],
        ..PLAIN
    },
    Switch {
        name: "a_device_whose_region_is_given_up_can_be_the_guests",
        append: "rmrr=block",
        dmar: Some("reserved-edu"),
        logs: &["0000:00:04.0 1234:11e8, device, unit 0: blocked, its reserved regions too"],
        ..PLAIN
    },
    Switch {
        name: "without_interrupt_remapping_no_guest_gets_a_device",
        append: "",
        unit: &["intremap=off"],
        exit: "not-for-guests",
        says: "unremapped-interrupts=allow",
        logs: &["interrupts will not be remapped"],
        ..PLAIN
    },
    Switch {
        name: "without_interrupt_remapping_a_guest_gets_a_device_if_told_loudly",
        append: "unremapped-interrupts=allow",
        unit: &["intremap=off"],
        // The guest's own trials of interrupts cannot hold there.
        exit: "failed",
        says: "a step failed",
        logs: &["its guest can make it raise ANY interrupt of this machine"],
        ..PLAIN
    },
    Switch {
        name: "a_dump_says_the_same_live_and_decoded_from_its_words",
        append: "dump=both guest=none",
        dmar: Some("reserved-edu"),
        ..PLAIN
    },
    Switch {
        name: "the_next_kernel_finds_the_units_off",
        append: "guest=none hand-over=off",
        next: true,
        logs: &[
            "unit 0: firmware left nothing on",
            "unit 0: translation on",
            "unit 0: turned off; devices reach memory untranslated",
            "the next kernel finds the units off",
            "started by PVH",
            "unit 0: firmware left nothing on",
            "unit 0: translation on",
        ],
        ..PLAIN
    },
    Switch {
        name: "the_next_kernel_finds_the_units_translating",
        append: "guest=none hand-over=on",
        next: true,
        logs: &[
            "unit 0: translation on",
            "the next kernel finds the units translating, and their tables kept",
            "started by PVH",
            "unit 0: firmware left translation in legacy mode, which goes on until our tables are in force; interrupt remapping, which is begun anew; the invalidation queue, which is replaced",
            "unit 0: translation on",
        ],
        ..PLAIN
    },
    Switch {
        name: "without_a_next_kernel_the_machine_stays",
        append: "guest=none hand-over=off",
        exit: "failed",
        says: "the boot module holds no next.elf",
        ..PLAIN
    },
    Switch {
        name: "the_monitor_answers_while_a_guest_runs",
        append: "monitor=com1 guest=svm",
        talk: &[("units", &["unit 0: registers at 0xfed90000, segment 0"])],
        logs: &[
            "the monitor has answered while guests run",
            "guest 0: Finished(Pass)",
        ],
        ..PLAIN
    },
    Switch {
        name: "the_monitor_answers_on_the_serial_port",
        append: "monitor=com1 guest=none",
        dmar: Some("reserved-edu"),
        talk: &[
            ("help", &["walk SSSS:BB:DD.F", "quit"]),
            (
                "units",
                &["unit 0: registers at 0xfed90000, segment 0, all devices"],
            ),
            (
                "registers",
                &["VER ", "max=1", "GSTS", "ires", "qies", "tes", "RTADDR"],
            ),
            (
                "tables",
                &[
                    "legacy mode, root table at 0x",
                    "in force",
                    "00:04.0: second stage at 0x",
                    "0xfffc000 to 0xfffdfff leads to 0xfffc000, read-write, pages of 4 KiB",
                ],
            ),
            (
                "device 0:0:4.0",
                &["00:04.0: second stage", "1 runs in 4 tables"],
            ),
            (
                "walk 0:0:4.0 fffc123",
                &["level 1 entry", "leads to 0xfffc123, read-write"],
            ),
            (
                "walk 0:0:4.0 fffe123",
                &["level 1 entry", "refused: the entry is not present"],
            ),
            (
                "walk 0:0:1f.2 fffc123",
                &["context entry", "refused: the context entry is not present"],
            ),
            (
                "queue",
                &["8192 slots of 128 bits", "empty", "wait: kind=5 sw fnflag"],
            ),
            (
                "irt",
                &["256 entries at 0x", "compatibility format blocked"],
            ),
            (
                "domains",
                &["0000:00:04.0: domain", "tables of 4 levels (48 bits)"],
            ),
            (
                "counters",
                &["descriptors", "waits took", "ns in the median", "faults: "],
            ),
            ("fly", &["there is no command `fly`"]),
            ("queue 7", &["there is no unit 7"]),
        ],
        ..PLAIN
    },
];

impl Context<'_> {
    /// Runs and judges one.
    pub(super) fn switch(
        &self,
        case: &Case,
        switch: Switch,
        qemu: &Qemu,
        directory: &Path,
    ) -> Result<Verdict> {
        let mut setup = setup_of(case);
        setup.next = switch.next;
        setup.append = (!switch.append.is_empty()).then(|| switch.append.to_owned());
        if let Some(name) = switch.dmar {
            let table = Canned::of_name(name).expect("the list names what exists");
            let file = directory.join("dmar.bin");
            std::fs::create_dir_all(directory)?;
            std::fs::write(&file, table.bytes(case.corner.width))?;
            setup.dmar = Some(file);
        }
        let mut machine = setup.machine(self.artefacts, &directory.join("module.tar"))?;
        if let Some(unit) = &mut machine.unit {
            unit.options
                .extend(switch.unit.iter().map(|&option| option.to_owned()));
        }
        let conversation = (!switch.talk.is_empty()).then(|| {
            let socket = talk::socket();
            machine
                .extra
                .extend(talk::arguments(&socket).iter().map(Into::into));
            talk::begin(socket, switch.talk)
        });
        let evidence = self.boot(qemu, &machine, directory, LIMIT)?;
        let mut problems = problems(switch, &evidence);
        if let Some(conversation) = conversation {
            let found = conversation.join();
            problems.extend(found.unwrap_or_else(|_| vec!["the conversation failed".to_owned()]));
        }
        Ok(verdict_of(problems, &evidence))
    }
}

fn problems(switch: Switch, evidence: &Evidence) -> Vec<String> {
    let expected = Expectation {
        status: switch.exit.to_owned(),
        // Where a guest runs, it tries what is refused.
        complaints: Announced::possible(PROVOKED),
        unit_used: false,
    };
    let mut expected = expected;
    if !switch.talk.is_empty() {
        expected.complaints.may.push(talk::WAITING.to_owned());
    }
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let traces = Traces {
        logs: words(switch.logs),
        shows: words(switch.shows),
        lacks: words(switch.lacks),
    };
    let mut problems = judge::problems(evidence, &expected);
    problems.extend(wrong_words(evidence, Some(switch.says)));
    problems.extend(traces.problems(evidence));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ExitStatus;

    #[test]
    fn each_names_a_status_and_a_table_that_exist() {
        for switch in ALL {
            assert!(
                ExitStatus::of_name(switch.exit).is_some(),
                "{}",
                switch.name
            );
            assert!(
                switch
                    .dmar
                    .is_none_or(|name| Canned::of_name(name).is_some())
            );
        }
    }
}
