//! `cargo xtask hostile`: see the library.

use clap::Parser;
use hostile::{Campaign, Fault, Verdict};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Random and adversarial hypercalls from several guests on several virtual CPUs, against the
/// driver on the hardware model.
#[derive(Debug, Parser)]
struct Arguments {
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hypercalls.
    #[arg(long, default_value_t = 100_000)]
    calls: u64,
    /// Runs at a time; the default is the number of CPUs.
    #[arg(long)]
    jobs: Option<usize>,
    /// Seconds for which a failing run is made shorter.
    #[arg(long, default_value_t = 60)]
    shrink: u64,
    /// Real threads, as an extra: as many as there are virtual CPUs, and nothing repeats.
    #[arg(long)]
    threads: bool,
    /// Repeats the one run of this seed, as a failure named it.
    #[arg(long)]
    run: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = Campaign {
        seed: arguments.seed,
        calls: arguments.calls,
        workers: arguments.jobs.unwrap_or(workers),
        patience: Duration::from_secs(arguments.shrink),
    };
    if let Some(seed) = arguments.run {
        let verdict = campaign.again(seed);
        print!("{}", verdict.tally.report());
        return last_line(&verdict, &[]);
    }
    let begun = Instant::now();
    let progress = |done: u64, all: u64| {
        if done * 10 / all != (done - 1) * 10 / all {
            eprintln!(
                "{done} of {all} runs, {:.0} s",
                begun.elapsed().as_secs_f64()
            );
        }
    };
    if arguments.threads {
        let verdict = campaign.on_threads(progress);
        print!("{}", verdict.tally.report());
        return last_line(&verdict, &[]);
    }
    let mut missed = Vec::new();
    for fault in Fault::ALL {
        match campaign.catch(fault) {
            Ok(caught) => println!(
                "a driver that {}: caught after {} calls\n    {}",
                fault.words(),
                caught.calls,
                caught.words
            ),
            Err(calls) => missed.push(format!(
                "a driver that {} was not caught in {calls} calls",
                fault.words()
            )),
        }
    }
    let verdict = campaign.run(progress);
    print!("{}", verdict.tally.report());
    let mut short = missed;
    short.extend(verdict.tally.shortfalls());
    last_line(&verdict, &short)
}

fn last_line(verdict: &Verdict, short: &[String]) -> ExitCode {
    for (number, failure) in verdict.failures.iter().enumerate() {
        println!(
            "run {} (--run {}) failed at step {}: {}",
            number, failure.seed, failure.finding.step, failure.finding.words
        );
        if !failure.trace.is_empty() {
            println!(
                " shrunk from {} actions to {}:",
                failure.actions.0, failure.actions.1
            );
            for line in &failure.trace {
                println!("{line}");
            }
        }
    }
    for words in short {
        println!("VOID: {words}");
    }
    let late = verdict.tally.too_late();
    println!(
        "{} calls, {} violations, {} leaks",
        verdict.tally.calls,
        verdict.violations + late,
        verdict.tally.leaks
    );
    let good = verdict.violations + late + verdict.tally.leaks == 0 && short.is_empty();
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
