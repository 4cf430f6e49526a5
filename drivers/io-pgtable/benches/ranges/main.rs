//! Ranges mapped and unmapped: this crate beside the crates `x86_64` and
//! `page_table_multiarch`, and beside plain stores of the same entries, which nobody can
//! beat who writes them.
//!
//! All contestants take their tables from the same pool of pages that are in the CPU's
//! reach already, in turns, and the fastest of many rounds counts: the machine's other
//! work can only slow a round down.
//!
//! What stands between scattered runs and twice the plain stores: a list of one run a page
//! has 16 bytes for each, 4 MiB for 1 GiB, which no second-level cache holds. Whoever stores
//! plainly reads it once, at about 0.65 ns a page; this crate reads it a second time, before
//! the first store, because nothing may fail after that, and zeroes its tables (tried in
//! vain: checking without branches).
//!
//! `cargo bench -p io-pgtable --bench ranges -- --json` prints an array of
//! `{name, value, unit, peer, peer_value, ratio}`; `ratio` is value by peer's value.

mod contest;
mod ours;
mod peers;
mod plain;
mod pool;

use contest::{Contestant, Fastest, Workload};
use serde_json::{Value, json};
use std::env;

fn main() {
    let mut results = Vec::new();
    for workload in Workload::all() {
        contest(&workload, &mut results);
    }
    if env::args().any(|argument| argument == "--json") {
        println!("{}", Value::Array(results));
    } else {
        results.iter().for_each(print);
    }
}

/// Ours against each of the others.
fn contest(workload: &Workload, results: &mut Vec<Value>) {
    let mut contestants: Vec<(Box<dyn Contestant>, Fastest)> = [
        ours::contestant(workload),
        plain::contestant(workload),
        peers::x86_64(workload),
        peers::multiarch(workload),
    ]
    .into_iter()
    .flatten()
    .map(|contestant| (contestant, Fastest::default()))
    .collect();
    for _ in 0..workload.rounds {
        for (contestant, fastest) in &mut contestants {
            fastest.add(contestant.as_mut(), workload.leaves);
        }
    }
    let Some(((_, ours), others)) = contestants.split_first() else {
        return;
    };
    let gib = workload.bytes() as f64 / f64::from(1 << 30);
    for (measure, unit) in [
        ("map", "ns/page"),
        ("unmap", "ns/page"),
        ("table memory,", "bytes/GiB"),
    ] {
        let figure = |fastest: &Fastest| match measure {
            "map" => fastest.map,
            "unmap" => fastest.unmap,
            _ => fastest.table_bytes / gib,
        };
        for (peer, theirs) in others {
            let (value, peer_value) = (figure(ours), figure(theirs));
            // Plain stores make no tables.
            if peer_value == 0.0 {
                continue;
            }
            results.push(json!({
                "name": format!("{measure} {}", workload.name),
                "value": round(value),
                "unit": unit,
                "peer": peer.name(),
                "peer_value": round(peer_value),
                "ratio": round(value / peer_value),
            }));
        }
    }
}

fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn print(row: &Value) {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    println!(
        "{:<48} {:>12} {:<10} {:<28} {:>12} {:>8}",
        text("name"),
        row["value"].to_string(),
        text("unit"),
        text("peer"),
        row["peer_value"].to_string(),
        row["ratio"].to_string(),
    );
}
