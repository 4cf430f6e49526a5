//! `cargo xtask bench`: runs the benchmarks of the driver crates, optimised as a release
//! is, and shows what they measured or counted beside their peers.
//!
//! A benchmark is a target of its crate that prints an array of [`Row`]s with `--json`.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

/// Benchmarks by crate and target.
const BENCHMARKS: [(&str, &str); 2] = [("io-pgtable", "ranges"), ("vtd-model-platform", "batches")];

/// Switches of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Print an array of `{name, value, unit, peer, peer_value, ratio}`.
    #[arg(long)]
    json: bool,
}

/// One figure beside that of a peer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    /// What was done.
    name: String,
    value: f64,
    unit: String,
    /// Who else did it.
    peer: String,
    peer_value: f64,
    /// `value` by `peer_value`.
    ratio: f64,
}

/// Measures, and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut rows = Vec::new();
    for (package, target) in BENCHMARKS {
        rows.extend(measure(package, target)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(package: &str, target: &str) -> Result<Vec<Row>> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What cargo says of building goes where people read it, and not into the figures.
    let output = Command::new(cargo)
        .args(["bench", "--quiet", "--package", package, "--bench", target])
        .arg("--manifest-path")
        .arg(manifest)
        .args(["--", "--json"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "benchmark {target} of {package} ended with {}",
            output.status
        );
    }
    parse(&output.stdout).with_context(|| format!("benchmark {target} of {package}"))
}

fn parse(output: &[u8]) -> Result<Vec<Row>> {
    let rows: Vec<Row> = serde_json::from_slice(output).context("did not print its figures")?;
    if rows.is_empty() {
        bail!("measured nothing");
    }
    Ok(rows)
}

/// For people: what was done, and below it each peer.
fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for group in rows.chunk_by(|one, next| one.name == next.name && one.value == next.value) {
        let Some(first) = group.first() else { continue };
        text += &format!("{}: {} {}\n", first.name, figure(first.value), first.unit);
        for row in group {
            let comparison = if row.ratio < 1.0 {
                format!("{} of it", figure(row.ratio))
            } else {
                format!("{} times as much", figure(row.ratio))
            };
            let peer_value = figure(row.peer_value);
            text += &format!("    {:<24} {peer_value:>12}   {comparison}\n", row.peer);
        }
    }
    text
}

/// Three digits that matter; whole numbers as they are.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, peer: &str, value: f64, peer_value: f64) -> Row {
        Row {
            name: name.to_owned(),
            value,
            unit: "ns/page".to_owned(),
            peer: peer.to_owned(),
            peer_value,
            ratio: value / peer_value,
        }
    }

    #[test]
    fn peers_stand_below_what_was_done() {
        let rows = [
            row("map", "plain stores", 0.5, 0.25),
            row("map", "a crate", 0.5, 6.5),
            row("unmap", "plain stores", 128.0, 128.0),
        ];
        assert_eq!(
            table(&rows),
            "map: 0.500 ns/page\n\
             \u{20}   plain stores                    0.250   2.00 times as much\n\
             \u{20}   a crate                          6.50   0.077 of it\n\
             unmap: 128 ns/page\n\
             \u{20}   plain stores                      128   1.00 times as much\n"
        );
    }

    #[test]
    fn figures_are_read_and_nothing_else() {
        let good =
            br#"[{"name":"map","value":1.5,"unit":"ns","peer":"p","peer_value":3.0,"ratio":0.5}]"#;
        assert_eq!(parse(good).unwrap()[0].ratio, 0.5);
        assert!(parse(b"[]").is_err());
        assert!(parse(b"running 0 tests").is_err());
        assert!(parse(br#"[{"name":"map"}]"#).is_err());
    }
}
