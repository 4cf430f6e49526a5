//! `cargo xtask`: builds the kernel, gets QEMU, boots it there, decodes what it says and
//! judges it.

mod boot;
mod build;
mod command;
mod judge;
mod lock;
mod log;
mod provision;
mod qemu;
mod trace;
mod wire;
mod workspace;

fn main() -> anyhow::Result<()> {
    let workspace = workspace::Workspace::find()?;
    let suite = std::env::args()
        .nth(1)
        .and_then(|v| provision::Suite::of_version(&v));
    let qemu = qemu::find(
        &workspace,
        &qemu::Choice {
            program: None,
            suite,
        },
    )?;
    println!("{qemu:?}");
    Ok(())
}
