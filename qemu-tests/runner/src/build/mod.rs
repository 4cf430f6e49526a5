//! Building what boots: kernel, boot tests and guest programs, for `x86_64-unknown-none`.

mod callers;
mod levels;
mod module;
mod size;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::log::Programs;
use crate::workspace::Workspace;

use callers::CALLERS;
pub(crate) use levels::LogLevels;
pub(crate) use module::BootModule;
pub(crate) use target::TARGET;

/// What the programs are built for and with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Which log calls are compiled in; `None` leaves it to `.cargo/config.toml`.
    pub(crate) levels: Option<LogLevels>,
}

/// The programs, by the names that the kernel's report has for them.
#[derive(Debug)]
pub(crate) struct Artefacts {
    programs: BTreeMap<String, PathBuf>,
}

/// The kernel's name.
pub(crate) const KERNEL: &str = "kernel";
/// The boot-test kernel's name.
pub(crate) const BOOT_TESTS: &str = "boot-tests";
/// How guests' names begin.
const GUEST: &str = "guest/";

impl Artefacts {
    /// The ELF file of a program.
    pub(crate) fn file(&self, name: &str) -> Result<&Path> {
        self.programs
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("the workspace builds no program {name}"))
    }

    /// Names and files of the guests.
    pub(crate) fn guests(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.all()
            .filter_map(|(name, file)| Some((name.strip_prefix(GUEST)?, file)))
    }

    /// What decodes the logs of all programs.
    pub(crate) fn log_tables(&self, workspace: &Workspace) -> Result<Programs> {
        let mut programs = Programs::load(workspace.root(), self.all())?;
        for caller in &CALLERS {
            programs.add_silent(caller.name);
        }
        Ok(programs)
    }

    /// What each program's image takes, in bytes, without debug information.
    pub(crate) fn sizes(&self) -> Result<Vec<(&str, u64)>> {
        self.all()
            .map(|(name, file)| Ok((name, size::loaded(file)?)))
            .collect()
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.programs
            .iter()
            .map(|(name, file)| (name.as_str(), file.as_path()))
    }
}

/// Programs that are built together. Apart from the others, because cargo would give a crate
/// that several use the features of all: the test hooks of the boot tests do not go into the
/// kernel, nor does a guest's runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// The boot tests.
    BootTests,
    /// All guests.
    Guests,
    /// The kernel.
    Kernel,
}

impl Group {
    const ALL: [Self; 3] = [Self::BootTests, Self::Guests, Self::Kernel];

    fn of(program: &Program) -> Self {
        match program.name.as_str() {
            KERNEL => Self::Kernel,
            BOOT_TESTS => Self::BootTests,
            _ => Self::Guests,
        }
    }
}

/// Builds every program that boots.
pub(crate) fn build(workspace: &Workspace, options: &Options) -> Result<Artefacts> {
    build_groups(workspace, options, &Group::ALL)
}

/// Builds the programs of some groups.
pub(crate) fn build_groups(
    workspace: &Workspace,
    options: &Options,
    wanted: &[Group],
) -> Result<Artefacts> {
    target::ensure()?;
    let mut groups: BTreeMap<Group, Vec<Program>> = BTreeMap::new();
    for program in programs(workspace)? {
        let group = Group::of(&program);
        if wanted.contains(&group) {
            groups.entry(group).or_default().push(program);
        }
    }
    let mut artefacts = Artefacts {
        programs: BTreeMap::new(),
    };
    for group in groups.into_values() {
        artefacts
            .programs
            .extend(build_group(workspace, options, group)?);
    }
    Ok(artefacts)
}

fn build_group(
    workspace: &Workspace,
    options: &Options,
    programs: Vec<Program>,
) -> Result<Vec<(String, PathBuf)>> {
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--target", TARGET]);
    command.arg("--message-format=json-render-diagnostics");
    for program in &programs {
        command.args(["--package", &program.package, "--bin", &program.binary]);
        for feature in &program.features {
            command.args(["--features", &format!("{}/{feature}", program.package)]);
        }
    }
    if let Some(levels) = &options.levels {
        command.env("DEFMT_LOG", levels.to_string());
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        let names: Vec<_> = programs.into_iter().map(|program| program.name).collect();
        bail!("{} cannot be built", names.join(", "));
    }
    let built = executables(&String::from_utf8_lossy(&output.stdout));
    programs
        .into_iter()
        .map(|program| {
            let file = built
                .get(&program.binary)
                .with_context(|| format!("cargo built no {}", program.binary))?;
            Ok((program.name, file.clone()))
        })
        .collect()
}

/// Cargo in the workspace, building where the workspace builds. `RUSTFLAGS` would replace those of `.cargo/config.toml`, without
/// which nothing boots.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// A program of the workspace that boots.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    name: String,
    package: String,
    binary: String,
    /// Without these cargo refuses to build it.
    features: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<PackageTarget>,
}

#[derive(Deserialize)]
struct PackageTarget {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
    #[serde(default, rename = "required-features")]
    required_features: Vec<String>,
}

/// Every binary of `kernel`, `qemu-tests/tests` and `qemu-tests/guests`: found, not listed.
fn programs(workspace: &Workspace) -> Result<Vec<Program>> {
    let text = crate::command::succeed(cargo(workspace).args([
        "metadata",
        "--no-deps",
        "--format-version=1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    Ok(programs_in(workspace.root(), metadata))
}

fn programs_in(root: &Path, metadata: Metadata) -> Vec<Program> {
    let mut programs = Vec::new();
    for package in metadata.packages {
        for target in package.targets {
            if !target.kind.iter().any(|kind| kind == "bin") {
                continue;
            }
            let Ok(place) = target.src_path.strip_prefix(root) else {
                continue;
            };
            let name = if place.starts_with("kernel") {
                KERNEL.to_owned()
            } else if place.starts_with("qemu-tests/tests") {
                BOOT_TESTS.to_owned()
            } else if place.starts_with("qemu-tests/guests") {
                format!("{GUEST}{}", target.name)
            } else {
                continue;
            };
            programs.push(Program {
                name,
                package: package.name.clone(),
                binary: target.name,
                features: target.required_features,
            });
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs
}

#[derive(Deserialize)]
struct Message {
    target: Option<MessageTarget>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MessageTarget {
    name: String,
}

/// The executables that cargo's messages name, by their target.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter_map(|message| Some((message.target?.name, message.executable?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_where_they_lie() {
        let text = r#"{"packages":[
            {"name":"kernel","targets":[
                {"name":"kernel","kind":["lib"],"src_path":"/w/kernel/src/lib.rs"},
                {"name":"kernel","kind":["bin"],"src_path":"/w/kernel/src/main.rs"}]},
            {"name":"xtask","targets":[
                {"name":"xtask","kind":["bin"],"src_path":"/w/qemu-tests/runner/src/main.rs"}]},
            {"name":"boot-tests","targets":[
                {"name":"boot-tests","kind":["bin"],"src_path":"/w/qemu-tests/tests/src/main.rs"}]},
            {"name":"nested","targets":[
                {"name":"nested-bind","kind":["bin"],"src_path":"/w/qemu-tests/guests/n/src/main.rs",
                 "required-features":["image"]}]}]}"#;
        let programs = programs_in(Path::new("/w"), serde_json::from_str(text).unwrap());
        let names: Vec<_> = programs
            .iter()
            .map(|program| program.name.as_str())
            .collect();
        assert_eq!(names, ["boot-tests", "guest/nested-bind", "kernel"]);
        assert_eq!(programs[1].package, "nested");
        assert_eq!(programs[1].features, ["image"]);
    }

    #[test]
    fn executables_are_read_from_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"vtd","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"kernel","kind":["bin"]},"executable":"/t/kernel"}
not json
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["kernel"], Path::new("/t/kernel"));
    }
}
