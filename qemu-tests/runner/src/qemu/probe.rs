//! Probing a QEMU once for each binary: the answers are kept under `target/qemu/probed`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Abilities, Qemu, Version};
use crate::command;
use crate::workspace::Workspace;

/// What tells one binary from another. A script may start something that was replaced
/// without the script being touched, so what it reports of itself belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Identity {
    path: String,
    length: u64,
    modified_ns: u128,
    reported: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    identity: Identity,
    abilities: Abilities,
}

/// The program's version and abilities, from memory where the binary is the same.
pub(crate) fn probe(workspace: &Workspace, program: &Path) -> Result<Qemu> {
    let reported = command::succeed(Command::new(program).arg("--version"))?;
    let version =
        Version::parse(&reported).with_context(|| format!("{} is no QEMU", program.display()))?;
    let identity = identify(program, reported)?;
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    let memory = workspace
        .target()
        .join(format!("qemu/probed/{:016x}.json", hasher.finish()));
    let abilities = match recall(&memory, &identity) {
        Some(abilities) => abilities,
        None => {
            let abilities = Abilities::probe(program)?;
            remember(&memory, identity, abilities)?
        }
    };
    Ok(Qemu {
        program: program.to_owned(),
        version,
        abilities,
    })
}

fn identify(program: &Path, reported: String) -> Result<Identity> {
    let path = program
        .canonicalize()
        .with_context(|| format!("{} is not there", program.display()))?;
    let metadata = path.metadata()?;
    Ok(Identity {
        path: path.to_string_lossy().into_owned(),
        length: metadata.len(),
        modified_ns: metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_nanos()),
        reported,
    })
}

/// Anything that cannot be read, or is another binary's, is as good as forgotten.
fn recall(memory: &Path, identity: &Identity) -> Option<Abilities> {
    let text = std::fs::read(memory).ok()?;
    let remembered: Remembered = serde_json::from_slice(&text).ok()?;
    (remembered.identity == *identity).then_some(remembered.abilities)
}

fn remember(memory: &Path, identity: Identity, abilities: Abilities) -> Result<Abilities> {
    let remembered = Remembered {
        identity,
        abilities,
    };
    if let Some(directory) = memory.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // Renamed into place: another xtask may be reading.
    let partial = memory.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, serde_json::to_vec(&remembered)?)?;
    std::fs::rename(&partial, memory)?;
    Ok(remembered.abilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A script that answers like a QEMU and counts how often it was asked for devices.
    fn pretender(directory: &Path, version: &str) -> std::path::PathBuf {
        let program = directory.join("qemu");
        let count = directory.join("asked");
        std::fs::write(
            &program,
            format!(
                "#!/bin/sh\ncase \"$*\" in\n\
                 --version) echo 'QEMU emulator version {version}';;\n\
                 *intel-iommu,help) echo x >>{}; echo '  fsts=<bool>  - on/off';;\n\
                 *trace*) echo vtd_inv_qi_head; echo vtd_inv_qi_tail; echo vtd_frr_new;;\n\
                 *) echo 'name \"edu\", bus PCI';;\nesac\n",
                count.display()
            ),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn a_binary_is_asked_once_and_again_when_it_reports_something_else() {
        let directory = std::env::temp_dir().join(format!("probe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let workspace = Workspace::at(&directory);
        let asked = || {
            std::fs::read_to_string(directory.join("asked"))
                .unwrap()
                .lines()
                .count()
        };

        let program = pretender(&directory, "11.1.3");
        let first = probe(&workspace, &program).unwrap();
        assert_eq!(first.abilities.first_stage(), Some("fsts"));
        let second = probe(&workspace, &program).unwrap();
        assert_eq!(second.abilities, first.abilities);
        assert_eq!(asked(), 1);

        pretender(&directory, "11.2.0");
        assert_eq!(probe(&workspace, &program).unwrap().version.minor, 2);
        assert_eq!(asked(), 2);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
