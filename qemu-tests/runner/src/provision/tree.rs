//! A QEMU that was unpacked and not installed: its directory and the script that starts it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::progress::Step;
use crate::command;

/// Starts the emulator by its own loader and libraries, wherever the directory lies now.
/// Debian 12 keeps the loader in /lib, Debian 13 in /usr/lib. Without `-L` a QEMU
/// silently takes the firmware of one that is installed, and without the module directory
/// it finds no modules.
const LAUNCHER: &str = r#"#!/bin/sh
# Written by cargo xtask.
root=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)/tree
usr=$root/usr/lib/x86_64-linux-gnu
old=$root/lib/x86_64-linux-gnu
for loader in "$usr" "$old"; do
  [ -e "$loader/ld-linux-x86-64.so.2" ] && break
done
QEMU_MODULE_DIR=$usr/qemu exec "$loader/ld-linux-x86-64.so.2" --library-path "$usr:$old" \
  "$root/usr/bin/qemu-system-x86_64" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
"#;

/// Name of the launcher in its directory.
pub(crate) const LAUNCHER_NAME: &str = "qemu-system-x86_64";

/// Unpacks packages below `directory` and writes the launcher; gives the launcher's path.
pub(crate) fn unpack(directory: &Path, packages: &[PathBuf]) -> Result<PathBuf> {
    let tree = directory.join("tree");
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    std::fs::create_dir_all(&tree)?;
    let step = Step::items("unpacking", packages.len() as u64);
    for (count, package) in (1..).zip(packages) {
        command::succeed(Command::new("dpkg-deb").arg("-x").arg(package).arg(&tree))
            .with_context(|| format!("cannot unpack {}", package.display()))?;
        step.at(count);
    }
    let launcher = directory.join(LAUNCHER_NAME);
    std::fs::write(&launcher, LAUNCHER)?;
    std::fs::set_permissions(&launcher, std::fs::Permissions::from_mode(0o755))?;
    Ok(launcher)
}
