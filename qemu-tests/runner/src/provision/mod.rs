//! Getting QEMU onto a machine that has none: Debian's packages, verified by the
//! distribution's own keyring, unpacked under `target/qemu/SUITE`. No root; nothing is
//! installed in the system; the network is used once.
//!
//! Safe against others doing the same (a lock file) and against being interrupted (all is
//! made in `SUITE.partial`, which becomes `SUITE` by one rename at the end).

mod apt;
mod mirror;
pub(crate) mod progress;
mod suite;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::lock::DirectoryLock;
use crate::workspace::Workspace;
use apt::{Archive, PrivateApt};
use progress::Step;
pub(crate) use suite::Suite;

/// What a person can do where this cannot work.
const REMEDY: &str = "install qemu-system-x86 (10.0 or later) so that it is on the PATH, or name one with --qemu PATH";

/// The packages whose dependencies are the whole of QEMU.
const CLOSURE_OF: &[&str] = &["qemu-system-x86"];

/// The launcher of a suite's QEMU, which is downloaded if it is not there yet.
pub(crate) fn ensure(workspace: &Workspace, suite: Suite) -> Result<PathBuf> {
    let home = workspace.target().join("qemu");
    let launcher = home.join(suite.name()).join(tree::LAUNCHER_NAME);
    if launcher.exists() {
        return Ok(launcher);
    }
    obtain(&home, suite).map_err(|error| {
        anyhow::anyhow!(
            "cannot get QEMU {} from Debian: {error:#}; {REMEDY}",
            suite.version()
        )
    })?;
    Ok(launcher)
}

fn obtain(home: &Path, suite: Suite) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "only packages for x86-64 are known and this is {}",
            std::env::consts::ARCH
        );
    }
    let name = suite.name();
    let _lock = DirectoryLock::acquire(
        &home.join(format!("{name}.lock")),
        &format!("QEMU {}", suite.version()),
    )?;
    let finished = home.join(name);
    if finished.join(tree::LAUNCHER_NAME).exists() {
        return Ok(());
    }
    let partial = home.join(format!("{name}.partial"));
    let work = home.join(format!("{name}.apt"));
    for leftover in [&finished, &partial, &work] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover)
                .with_context(|| format!("cannot remove {}", leftover.display()))?;
        }
    }
    std::fs::create_dir_all(&partial)?;

    let mirror = mirror::of_machine();
    let apt = PrivateApt::create(&work, suite, &mirror)?;
    {
        let _step = Step::waiting(&format!(
            "QEMU {}: reading the package lists of {mirror} ({name})",
            suite.version()
        ));
        apt.update()?;
    }
    let launcher = unpack_list(&apt, &partial, suite)
        .or_else(|error| unpack_closure(&apt, &partial, suite, &error))?;
    let version = command::succeed(Command::new(&launcher).arg("--version"))?;
    std::fs::rename(&partial, &finished)
        .with_context(|| format!("cannot rename {}", partial.display()))?;
    std::fs::remove_dir_all(&work)?;
    eprintln!(
        "{} is ready in {}",
        version.lines().next().unwrap_or("QEMU"),
        finished.display()
    );
    Ok(())
}

/// The short list, which fails when a library was renamed: apt does not know the name, or
/// the emulator does not start.
fn unpack_list(apt: &PrivateApt, partial: &Path, suite: Suite) -> Result<PathBuf> {
    let packages = suite.packages();
    let archives = apt.archives(&packages)?;
    fetch(apt, apt.download(&packages), &archives, suite)?;
    let launcher = tree::unpack(partial, &downloaded(apt)?)?;
    command::succeed(Command::new(&launcher).args(["-accel", "help"]))?;
    Ok(launcher)
}

/// All that the emulator depends on: larger, and right whatever the names are.
fn unpack_closure(
    apt: &PrivateApt,
    partial: &Path,
    suite: Suite,
    why: &anyhow::Error,
) -> Result<PathBuf> {
    eprintln!("the short list of packages does not do ({why:#}); taking all dependencies");
    let archives = apt.closure_archives(CLOSURE_OF)?;
    fetch(apt, apt.download_closure(CLOSURE_OF), &archives, suite)?;
    tree::unpack(partial, &downloaded(apt)?)
}

/// Runs a download and shows how far it is, by the size of what lies there.
fn fetch(
    apt: &PrivateApt,
    mut download: Command,
    archives: &[Archive],
    suite: Suite,
) -> Result<()> {
    let total: u64 = archives.iter().map(|archive| archive.size).sum();
    let step = Step::bytes(
        &format!(
            "QEMU {}: downloading {} packages, {:.1} MB",
            suite.version(),
            archives.len(),
            total as f64 / 1e6
        ),
        total,
    );
    let mut child = download
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start apt-get")?;
    while child.try_wait()?.is_none() {
        let directories = apt.download_directories();
        step.at(directories
            .iter()
            .map(|path| progress::bytes_in(path))
            .sum());
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("apt-get: {}", command::last_words(&output));
    }
    Ok(())
}

fn downloaded(apt: &PrivateApt) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for directory in apt.download_directories() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                packages.push(path);
            }
        }
    }
    packages.sort();
    packages.dedup_by(|a, b| a.file_name() == b.file_name());
    if packages.is_empty() {
        bail!("apt-get downloaded nothing");
    }
    Ok(packages)
}
