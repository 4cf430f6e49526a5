//! Running and judging one case.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bad_input::{BadInput, What};
use super::case::{Case, Demonstration, Finding, Subject, Verdict};
use super::descriptor::{Descriptor, UnitOptions};
use super::matrix::NO_GUEST;
use super::qemus::Qemus;
use crate::boot::{self, Evidence, Terms};
use crate::build::{Artefacts, BOOT_TESTS, BootModule, KERNEL};
use crate::command::quote;
use crate::gdb;
use crate::judge::{self, Announced, Expectation, PROVOKED};
use crate::log::Programs;
use crate::qemu::{Machine, Qemu, Unit};
use crate::run::{self, Setup};
use crate::wire::{Line, Outcome};
use crate::workspace::Workspace;

/// How long a demonstration or a refusal may take, in real time, with another boot beside it.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What all cases share.
pub(super) struct Context<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) artefacts: &'a Artefacts,
    pub(super) programs: &'a Programs,
    pub(super) qemus: &'a Qemus,
    /// Stop at the start for a debugger.
    pub(super) gdb: bool,
    /// What must stand before the name of a case to repeat it.
    pub(super) repeat: &'a str,
}

impl Context<'_> {
    /// Runs and judges a case.
    pub(super) fn execute(&self, case: &Case) -> Finding {
        let started = Instant::now();
        let directory = case.directory(self.workspace.target());
        let verdict = self
            .verdict(case, &directory)
            .unwrap_or_else(|error| Verdict::Failed {
                problems: vec![format!("{error:#}")],
                last_lines: Vec::new(),
            });
        Finding {
            name: case.name(),
            verdict,
            elapsed: started.elapsed(),
            repeat: format!(
                "{} --seed {:#x} {}",
                self.repeat,
                case.seed,
                quote(case.name().as_ref())
            ),
            directory,
        }
    }

    fn verdict(&self, case: &Case, directory: &Path) -> Result<Verdict> {
        let qemu = match self.qemus.get(case.corner.suite) {
            Ok(qemu) => qemu,
            Err(why) => return Ok(Verdict::Skipped(why)),
        };
        if directory.exists() {
            std::fs::remove_dir_all(directory)?;
        }
        match &case.subject {
            Subject::Boot(descriptor) => self.boot_test(case, descriptor, qemu, directory),
            Subject::Demonstration(demonstration) => {
                self.demonstration(case, *demonstration, qemu, directory)
            }
            Subject::BadInput(input) => self.bad_input(case, *input, qemu, directory),
            Subject::Switch(switch) => self.switch(case, *switch, qemu, directory),
        }
    }

    fn boot_test(
        &self,
        case: &Case,
        test: &Descriptor,
        qemu: &Qemu,
        directory: &Path,
    ) -> Result<Verdict> {
        if let Some(device) = test
            .needs
            .iter()
            .find(|device| !qemu.abilities.has_device(device))
        {
            return Ok(Verdict::Skipped(format!(
                "QEMU {} has no {device}",
                qemu.version
            )));
        }
        let unit = match &test.unit {
            UnitOptions::Absent => None,
            UnitOptions::Present(options) => Some(Unit {
                options: options.clone(),
                ..unit_of(case)
            }),
        };
        let append = format!(
            "mode={} seed={:#x} test={} {}",
            case.corner.mode,
            case.seed,
            test.name,
            test.append.as_deref().unwrap_or_default()
        );
        let mut machine = Machine::new(unit, self.artefacts.file(BOOT_TESTS)?, append);
        machine.cpus = case.corner.cpus;
        machine.cpu.clone_from(&test.cpu);
        machine.clock = test.clock;
        let mut module = BootModule::of_guests(self.artefacts)?.with_callers();
        if let Some(table) = test.dmar {
            module = module.with_dmar(table.bytes(case.corner.width));
        }
        if test.next {
            module = module.with_next(self.artefacts.file(BOOT_TESTS)?)?;
        }
        machine.module = module.write(&directory.join("module.tar"))?;
        if test.no_module {
            machine.module = None;
        }
        let file = machine.kernel.display().to_string();
        machine.extra = test
            .machine
            .iter()
            .map(|word| word.replace("@kernel", &file).into())
            .collect();
        let evidence = self.boot(qemu, &machine, directory, test.limit)?;
        Ok(judge_boot_test(test, &evidence))
    }

    fn demonstration(
        &self,
        case: &Case,
        demonstration: Demonstration,
        qemu: &Qemu,
        directory: &Path,
    ) -> Result<Verdict> {
        let setup = Setup {
            hostile: true,
            ..setup_of(case)
        };
        let mut machine = setup.machine(self.artefacts, &directory.join("module.tar"))?;
        if let Some(model) = demonstration.cpu {
            machine.cpu = model.to_owned();
        }
        let evidence = self.boot(qemu, &machine, directory, LIMIT)?;
        let summary = run::judge(&evidence, &setup, qemu);
        summary.write(&directory.join("summary.json"))?;
        let mut problems = summary.problems().to_vec();
        let expected = demonstration.falls_back_to.or(setup.guest);
        if expected.is_some_and(|guest| guest != summary.guest()) {
            problems.push(format!("the guest ran as {}", summary.guest()));
        }
        Ok(verdict_of(problems, &evidence))
    }

    fn bad_input(
        &self,
        case: &Case,
        input: BadInput,
        qemu: &Qemu,
        directory: &Path,
    ) -> Result<Verdict> {
        let machine = self.bad_machine(case, input, directory)?;
        let evidence = self.boot(qemu, &machine, directory, LIMIT)?;
        Ok(judge_bad_input(input, &evidence))
    }

    fn bad_machine(&self, case: &Case, input: BadInput, directory: &Path) -> Result<Machine> {
        let mut setup = setup_of(case);
        setup.append = (!input.append.is_empty()).then(|| input.append.to_owned());
        if let What::Dmar(table) = input.what {
            let file = directory.join("dmar.bin");
            std::fs::create_dir_all(directory)?;
            std::fs::write(&file, table())?;
            setup.dmar = Some(file);
        }
        let mut machine = setup.machine(self.artefacts, &directory.join("module.tar"))?;
        machine.kernel = self.artefacts.file(KERNEL)?.to_owned();
        match input.what {
            What::CommandLine | What::Dmar(_) => {}
            What::NoUnit => machine.unit = None,
            What::UnitOption(option) => {
                if let Some(unit) = &mut machine.unit {
                    unit.options.push(option.to_owned());
                }
            }
            What::Cpu(model) => machine.cpu = model.to_owned(),
            What::Machine(arguments) => machine.extra.extend(arguments.iter().map(Into::into)),
            What::NoModule => machine.module = None,
        }
        Ok(machine)
    }

    pub(super) fn boot(
        &self,
        qemu: &Qemu,
        machine: &Machine,
        directory: &Path,
        limit: Duration,
    ) -> Result<Evidence> {
        let mut machine = machine.clone();
        if self.gdb {
            machine.gdb = Some(gdb::socket(&directory.join("gdb.sock"))?);
            gdb::announce(&machine)?;
        }
        let terms = Terms {
            directory: directory.to_owned(),
            limit: (!self.gdb).then_some(limit),
        };
        let evidence = boot::boot(qemu, &machine, self.programs, &terms, &mut |_| {})?;
        run::save(directory, qemu, &machine, &evidence)?;
        Ok(evidence)
    }
}

fn unit_of(case: &Case) -> Unit {
    Unit {
        address_width: Some(case.corner.width),
        caching_mode: case.corner.caching,
        ..Unit::new(case.corner.mode)
    }
}

pub(super) fn setup_of(case: &Case) -> Setup {
    Setup {
        mode: case.corner.mode,
        guest: (case.corner.guest != NO_GUEST).then_some(case.corner.guest),
        seed: case.seed,
        address_width: Some(case.corner.width),
        caching_mode: case.corner.caching,
        cpus: case.corner.cpus,
        append: None,
        dmar: None,
        next: false,
        hostile: false,
        extra: Vec::new(),
        gdb: false,
    }
}

pub(super) fn verdict_of(problems: Vec<String>, evidence: &Evidence) -> Verdict {
    if problems.is_empty() {
        return Verdict::Passed;
    }
    Verdict::Failed {
        problems,
        last_lines: evidence.last_lines(),
    }
}

/// The kernel's own result counts only together with the exit status, QEMU's trace and the
/// absence of complaints.
fn judge_boot_test(test: &Descriptor, evidence: &Evidence) -> Verdict {
    let expected = Expectation {
        status: test.exit.clone(),
        complaints: test.complaints.clone(),
        unit_used: false,
    };
    let mut problems = judge::problems(evidence, &expected);
    problems.extend(wrong_words(evidence, test.says.as_deref()));
    problems.extend(test.traces.problems(evidence));
    if let Some(neighbour) = judge::Neighbour::of(evidence) {
        problems.extend(neighbour.problems);
    }
    let mut skipped = None;
    if test.exit == "ok" {
        match result_of(test, evidence) {
            Ok(None) => {}
            Ok(Some(why)) => skipped = Some(why),
            Err(problem) => problems.push(problem),
        }
        problems.extend(judge::disagreements(&judge::figures(evidence)));
    }
    if let Some(wanted) = &test.fails {
        return expect_failure(wanted, &problems, evidence);
    }
    match (problems.is_empty(), skipped) {
        (true, Some(why)) => Verdict::Skipped(why),
        _ => verdict_of(problems, evidence),
    }
}

/// Nothing if the test says that it passed; why, if it was skipped.
fn result_of(test: &Descriptor, evidence: &Evidence) -> Result<Option<String>, String> {
    let mut results = evidence.heard.report.iter().filter_map(|line| match line {
        Line::Test {
            outcome,
            name,
            text,
        } => Some((*outcome, name, text)),
        _ => None,
    });
    match (results.next(), results.next()) {
        (Some((outcome, name, text)), None) if *name == test.name => match outcome {
            Outcome::Pass => Ok(None),
            Outcome::Skip => Ok(Some(text.clone())),
            Outcome::Fail => Err(text.clone()),
        },
        (Some((_, name, _)), None) => Err(format!("the result is that of {name}")),
        (Some(_), Some(_)) => Err("there is more than one result".to_owned()),
        (None, _) => Err("the test reports no result".to_owned()),
    }
}

/// A test of the runner passes if the runner finds just that problem.
fn expect_failure(wanted: &str, problems: &[String], evidence: &Evidence) -> Verdict {
    if problems.iter().any(|problem| problem.contains(wanted)) {
        return Verdict::Passed;
    }
    let found = if problems.is_empty() {
        "nothing".to_owned()
    } else {
        problems.join("; ")
    };
    verdict_of(
        vec![format!(
            "the runner should have found `{wanted}` and found {found}"
        )],
        evidence,
    )
}

pub(super) fn wrong_words(evidence: &Evidence, wanted: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    let said = evidence.heard.exit().map_or("", |(_, text)| text);
    (!said.contains(wanted)).then(|| format!("the exit line does not say `{wanted}` but `{said}`"))
}

fn judge_bad_input(input: BadInput, evidence: &Evidence) -> Verdict {
    let expected = Expectation {
        status: input.exit.to_owned(),
        // Some inputs turn out bad only when the demonstration has begun.
        complaints: Announced::possible(PROVOKED),
        unit_used: false,
    };
    let mut problems = judge::problems(evidence, &expected);
    problems.extend(
        input
            .says
            .iter()
            .filter_map(|wanted| wrong_words(evidence, Some(wanted))),
    );
    verdict_of(problems, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::evidence_of;
    use crate::qemu::Ending;
    use crate::test::descriptor;

    fn test(lines: &str) -> Descriptor {
        descriptor::parse(format!("t\n{lines}\0").as_bytes())
            .unwrap()
            .remove(0)
    }

    const FIGURES: [&str; 4] = [
        "figure descriptors 0",
        "figure doorbells 0",
        "figure waits 0",
        "figure faults 0",
    ];

    fn evidence(report: &[&str]) -> Evidence {
        evidence_of(&[&FIGURES, report].concat(), &["vtd_reset_exit "])
    }

    fn problems(verdict: Verdict) -> Vec<String> {
        match verdict {
            Verdict::Failed { problems, .. } => problems,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_test_passes_by_its_result_and_its_exit() {
        let passed = evidence(&["test pass t", "exit ok"]);
        assert_eq!(judge_boot_test(&test(""), &passed), Verdict::Passed);
    }

    #[test]
    fn an_exit_without_a_result_is_not_enough() {
        for report in [
            &["exit ok"][..],
            &["test pass other", "exit ok"],
            &["test pass t", "test pass t", "exit ok"],
        ] {
            assert_eq!(
                problems(judge_boot_test(&test(""), &evidence(report))).len(),
                1
            );
        }
    }

    #[test]
    fn counts_that_differ_from_qemus_make_a_passing_test_fail() {
        let mut passed = evidence(&["test pass t", "exit ok"]);
        passed.trace.take("vtd_inv_qi_head read head 0");
        assert_eq!(
            problems(judge_boot_test(&test(""), &passed)),
            ["descriptors: we counted 0 and QEMU 1"]
        );
    }

    #[test]
    fn a_skip_is_told_with_its_reason() {
        let skipped = evidence(&["test skip t no such device", "exit ok"]);
        assert_eq!(
            judge_boot_test(&test(""), &skipped),
            Verdict::Skipped("no such device".to_owned())
        );
    }

    #[test]
    fn an_expected_exit_must_come_with_its_words() {
        let mut panicked = evidence_of(&["exit panic out of cheese"], &[]);
        panicked.finished.ending = Ending::Code(0x12 << 1 | 1);
        let expecting = |words: &str| test(&format!("exit=panic\nsays={words}\n"));
        assert_eq!(
            judge_boot_test(&expecting("cheese"), &panicked),
            Verdict::Passed
        );
        assert_eq!(
            problems(judge_boot_test(&expecting("wine"), &panicked)).len(),
            1
        );
    }

    #[test]
    fn a_test_of_the_runner_passes_only_if_the_runner_finds_the_problem() {
        let hung = {
            let mut evidence = evidence(&["note began"]);
            evidence.finished.ending = Ending::TimedOut(Duration::from_secs(2));
            evidence
        };
        let wanted = test("fails=no end within\n");
        assert_eq!(judge_boot_test(&wanted, &hung), Verdict::Passed);
        let passed = evidence(&["test pass t", "exit ok"]);
        assert_eq!(problems(judge_boot_test(&wanted, &passed)).len(), 1);
    }

    #[test]
    fn a_refusal_needs_its_status_and_its_words() {
        let input = BadInput {
            name: "x",
            what: What::NoUnit,
            append: "",
            exit: "no-dmar",
            says: &["DMAR"],
        };
        let mut refused = evidence_of(&["exit no-dmar the firmware has no DMAR table"], &[]);
        refused.finished.ending = Ending::Code(0x20 << 1 | 1);
        assert_eq!(judge_bad_input(input, &refused), Verdict::Passed);
        let mut mute = evidence_of(&["exit no-dmar"], &[]);
        mute.finished.ending = Ending::Code(0x20 << 1 | 1);
        assert_eq!(problems(judge_bad_input(input, &mute)).len(), 1);
    }
}
