//! `cargo xtask run`: the whole demonstration, once, and its summary.

mod save;
mod summary;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::boot::{self, Evidence, Heard, Terms};
use crate::build::{self, Artefacts, BootModule, KERNEL};
use crate::cli::RunArguments;
use crate::gdb;
use crate::judge::{
    self, Announced, Demonstration, Expectation, Figure, Neighbour, PROVOKED, Required,
};
use crate::log::{Programs, Style};
use crate::qemu::{self, Ending, Machine, Mode, Qemu, Unit};
use crate::seed;
use crate::wire::{Line, of_qemu};
use crate::workspace::Workspace;

pub(crate) use save::save;
pub(crate) use summary::Summary;

/// Builds, boots, judges and prints.
pub(crate) fn run(workspace: &Workspace, arguments: &RunArguments) -> Result<ExitCode> {
    let qemu = qemu::find(workspace, &arguments.qemu.choice())?;
    let artefacts = build::build(
        workspace,
        &build::Options {
            levels: arguments.build.log.clone(),
        },
    )?;
    let programs = artefacts.log_tables(workspace)?;
    let directory = workspace.target().join("run");
    let demonstration = Setup::of(arguments, &qemu);
    println!(
        "QEMU {} ({}), mode {}, seed {:#x}",
        qemu.version,
        qemu.program.display(),
        demonstration.mode,
        demonstration.seed
    );
    let machine = demonstration.machine(&artefacts, &directory.join("module.tar"))?;
    let terms = Terms {
        directory: directory.clone(),
        limit: (!arguments.gdb).then(|| Duration::from_secs(arguments.time_limit)),
    };
    if arguments.gdb {
        gdb::announce(&machine)?;
    }

    let evidence = watch(&qemu, &machine, &programs, &terms)?;
    if let Some(refusal) = refusal(&evidence) {
        eprintln!("{refusal}");
        return Ok(ExitCode::from(2));
    }
    save(&directory, &qemu, &machine, &evidence)?;
    let summary = judge(&evidence, &demonstration, &qemu);
    summary.write(&workspace.target().join("summary.json"))?;
    print!("{}", summary.show(Style::of_stdout()));
    println!("log and trace: {}", directory.display());
    Ok(exit_code(&evidence, &summary))
}

/// What a demonstration is run with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The mode.
    pub(crate) mode: Mode,
    /// The back-end, if the kernel shall not choose.
    pub(crate) guest: Option<&'static str>,
    /// The seed.
    pub(crate) seed: u64,
    /// Address width of the unit.
    pub(crate) address_width: Option<u8>,
    /// Whether the unit claims to cache entries that are not present.
    pub(crate) caching_mode: bool,
    /// CPUs.
    pub(crate) cpus: u32,
    /// More words for the kernel.
    pub(crate) append: Option<String>,
    /// A DMAR that stands in for the firmware's.
    pub(crate) dmar: Option<PathBuf>,
    /// Whether the boot module holds a next kernel, which is the kernel again.
    pub(crate) next: bool,
    /// Whether there is a device for a hostile guest, too.
    pub(crate) hostile: bool,
    /// More arguments for QEMU.
    pub(crate) extra: Vec<OsString>,
    /// Wait for a debugger.
    pub(crate) gdb: bool,
}

impl Setup {
    fn of(arguments: &RunArguments, qemu: &Qemu) -> Self {
        Self {
            mode: arguments
                .mode
                .unwrap_or_else(|| Mode::best_of(&qemu.abilities)),
            guest: arguments.guest.map(|guest| guest.name()),
            seed: arguments.seed.unwrap_or_else(seed::fresh),
            address_width: arguments.aw,
            caching_mode: arguments.caching_mode,
            cpus: arguments.smp,
            append: arguments.append.clone(),
            dmar: arguments.dmar.clone(),
            next: false,
            hostile: true,
            extra: arguments.extra.clone(),
            gdb: arguments.gdb,
        }
    }

    /// The machine, its boot module in `module`.
    pub(crate) fn machine(
        &self,
        artefacts: &Artefacts,
        module: &std::path::Path,
    ) -> Result<Machine> {
        let mut contents = BootModule::of_guests(artefacts)?;
        if let Some(file) = &self.dmar {
            let table = std::fs::read(file)
                .with_context(|| format!("cannot read the DMAR table {}", file.display()))?;
            contents = contents.with_dmar(table);
        }
        if self.next {
            contents = contents.with_next(artefacts.file(KERNEL)?)?;
        }
        let mut unit = Unit::new(self.mode);
        unit.address_width = self.address_width;
        unit.caching_mode = self.caching_mode;
        let mut machine = Machine::new(Some(unit), artefacts.file(KERNEL)?, self.command_line());
        machine.cpus = self.cpus;
        machine.module = contents.write(module)?;
        if self.hostile {
            let device = ["-device", "edu,addr=6,dma_mask=0xffffffffffffffff"];
            machine.extra.extend(device.map(OsString::from));
        }
        machine.extra.extend(self.extra.iter().cloned());
        if self.gdb {
            machine.gdb = Some(gdb::socket(module)?);
        }
        Ok(machine)
    }

    fn command_line(&self) -> String {
        let mut words = vec![
            format!("mode={}", self.mode),
            format!("seed={:#x}", self.seed),
        ];
        words.extend(self.guest.map(|guest| format!("guest={guest}")));
        words.extend(self.append.clone());
        words.join(" ")
    }
}

/// Boots and prints the log while it comes.
fn watch(qemu: &Qemu, machine: &Machine, programs: &Programs, terms: &Terms) -> Result<Evidence> {
    let style = Style::of_stdout();
    boot::boot(qemu, machine, programs, terms, &mut |heard| match heard {
        Heard::Log(line) => println!("{}", line.show(style)),
        Heard::Report(Line::Exit { name, text }) => println!("exit {name}: {text}"),
        Heard::Report(_) => {}
    })
}

/// QEMU's own words, if it did not even start the machine.
fn refusal(evidence: &Evidence) -> Option<&str> {
    let refused = evidence.finished.ending == Ending::Code(1) && evidence.heard.records == 0;
    refused.then(|| evidence.finished.stderr.trim_end())
}

/// Judges a demonstration.
pub(crate) fn judge(evidence: &Evidence, setup: &Setup, qemu: &Qemu) -> Summary {
    let expected = Expectation {
        complaints: Announced::possible(PROVOKED),
        ..Expectation::quiet_success()
    };
    let figures: Vec<Figure> = judge::figures(evidence);
    let demonstration = Demonstration::of(evidence);
    let required = Required::by(setup.mode, demonstration.guest());
    let mut problems = judge::problems(evidence, &expected);
    problems.extend(judge::disagreements(&figures));
    problems.extend(demonstration.problems(setup.mode, &figures, &required));
    let neighbour = Neighbour::of(evidence);
    if let Some(neighbour) = &neighbour {
        problems.extend(neighbour.problems.iter().cloned());
        problems.extend(neighbour.idle());
    }
    Summary::new(
        evidence,
        setup,
        qemu,
        &demonstration,
        figures,
        required,
        neighbour,
        problems,
    )
}

/// 0 if all held; the kernel's own status where it refused to go on, so that a script can
/// tell the reasons apart; else 1.
fn exit_code(evidence: &Evidence, summary: &Summary) -> ExitCode {
    if summary.held() {
        return ExitCode::SUCCESS;
    }
    match evidence.finished.ending {
        Ending::Code(code) => match of_qemu(code) {
            Some(status) if status.name() != "ok" => ExitCode::from(status.value()),
            _ => ExitCode::FAILURE,
        },
        _ => ExitCode::FAILURE,
    }
}
