//! One mutant: put in, built, and shown to the tests that must notice it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::baseline::Baseline;
use super::list::Mutant;
use super::record::{Catch, Verdict};
use super::scratch::Scratch;
use crate::host::{self, Ending, TestTarget, TestTargets};
use crate::test;

/// How the names of boot tests begin.
const BOOT: &str = "boot::";
/// All random choices of boots follow from it, with the fault and without.
const SEED: u64 = 1;

/// Tries a mutant.
pub(super) fn attempt(
    scratch: &Scratch,
    targets: &TestTargets,
    baseline: &Baseline,
    mutant: &Mutant,
) -> Result<Verdict> {
    scratch.changed(
        &mutant.file,
        |text| mutant.applied_to(text).map_err(|why| anyhow!(why)),
        || {
            let tests: Vec<&str> = mutant.caught_by.iter().map(String::as_str).collect();
            // One that does not notice is enough to know.
            let go_on = |_: &str, ending: &Ending| *ending != Ending::Passed;
            let ends = run_all(
                scratch,
                targets,
                &tests,
                |test| baseline.limit(test),
                &go_on,
            );
            Ok(match ends {
                Ok(ends) => judge(mutant, ends),
                Err(error) => Verdict::NotBuilt {
                    why: format!("{error:#}"),
                },
            })
        },
    )
}

fn judge(mutant: &Mutant, ends: Vec<(String, Ending, Duration)>) -> Verdict {
    let mut by = Vec::new();
    for (test, ending, _) in ends {
        let said = match ending {
            Ending::Failed(said) => said,
            Ending::TimedOut if mutant.hangs => "runs for ever".to_owned(),
            Ending::TimedOut => return Verdict::Hung { test },
            Ending::Passed => return Verdict::Survived { test },
            Ending::Absent => {
                return Verdict::NotBuilt {
                    why: format!("{test} is gone"),
                };
            }
        };
        by.push(Catch { test, said });
    }
    Verdict::Caught { by }
}

/// Builds and runs tests, as long as `go_on` wants to know more. An error means that something
/// was not built.
pub(super) fn run_all(
    scratch: &Scratch,
    targets: &TestTargets,
    tests: &[&str],
    limit: impl Fn(&str) -> Duration,
    go_on: &dyn Fn(&str, &Ending) -> bool,
) -> Result<Vec<(String, Ending, Duration)>> {
    let mut hosted: BTreeMap<TestTarget, Vec<(&str, &str)>> = BTreeMap::new();
    let mut boots = Vec::new();
    for &test in tests {
        match test.strip_prefix(BOOT) {
            Some(boot) => boots.push((test, boot)),
            None => {
                let (target, path) = targets.resolve(test).map_err(|why| anyhow!(why))?;
                hosted.entry(target).or_default().push((test, path));
            }
        }
    }
    let mut ends = Vec::new();
    for (target, tests) in hosted {
        let copied = TestTargets::of(scratch.workspace())?;
        let programs = host::build(scratch.workspace(), &copied, &target.selection(), true)?;
        let program = programs
            .iter()
            .find(|program| program.target == target)
            .ok_or_else(|| anyhow!("cargo built no {}", target.prefix()))?;
        for (test, path) in tests {
            let (ending, took) = program.run_one(path, limit(test))?;
            let more = go_on(test, &ending);
            ends.push((test.to_owned(), ending, took));
            if !more {
                return Ok(ends);
            }
        }
    }
    if boots.is_empty() {
        return Ok(ends);
    }
    let names: Vec<&str> = boots.iter().map(|(_, boot)| *boot).collect();
    let session = test::Session::open(scratch.workspace(), &names, SEED)?;
    for (test, boot) in boots {
        let (ending, took) = session.boot(boot)?;
        let more = go_on(test, &ending);
        ends.push((test.to_owned(), ending, took));
        if !more {
            break;
        }
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::mutant;
    use super::*;

    fn ends(endings: &[Ending]) -> Vec<(String, Ending, Duration)> {
        let named = |(index, ending): (usize, &Ending)| {
            (format!("t{index}"), ending.clone(), Duration::ZERO)
        };
        endings.iter().enumerate().map(named).collect()
    }

    fn failed() -> Ending {
        Ending::Failed("why".to_owned())
    }

    #[test]
    fn a_mutant_is_caught_if_every_named_test_fails() {
        let mutant = mutant("a", "one");
        let verdict = judge(&mutant, ends(&[failed(), failed()]));
        assert!(matches!(verdict, Verdict::Caught { by } if by.len() == 2));
        let verdict = judge(&mutant, ends(&[failed(), Ending::Passed]));
        assert!(matches!(verdict, Verdict::Survived { test } if test == "t1"));
    }

    #[test]
    fn a_hang_catches_only_what_is_announced_to_hang() {
        let mut mutant = mutant("a", "one");
        let verdict = judge(&mutant, ends(&[Ending::TimedOut]));
        assert!(matches!(verdict, Verdict::Hung { .. }));
        mutant.hangs = true;
        let verdict = judge(&mutant, ends(&[Ending::TimedOut]));
        assert!(matches!(verdict, Verdict::Caught { .. }));
    }
}
