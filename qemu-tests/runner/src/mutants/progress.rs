//! What is told while mutants are tried, and what is to be done about those that were not
//! caught.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::record::{Tried, Verdict};

/// Lines as mutants end.
pub(super) struct Progress {
    total: usize,
    started: Instant,
}

impl Progress {
    pub(super) fn begin(total: usize, workers: usize) -> Self {
        println!("{total} mutants, {workers} at a time");
        Self {
            total,
            started: Instant::now(),
        }
    }

    /// The line of a mutant that ended as the `ended`th.
    pub(super) fn show(&self, tried: &Tried, ended: usize) {
        println!(
            "{} ({ended} of {}, {})",
            line(tried),
            self.total,
            left(self.started.elapsed(), ended, self.total)
        );
    }
}

fn line(tried: &Tried) -> String {
    let name = &tried.name;
    match &tried.verdict {
        Verdict::Caught { by } => match by.first() {
            Some(catch) => format!("caught {name} by {}: {}", catch.test, brief(&catch.said)),
            None => format!("caught {name}"),
        },
        Verdict::Survived { test } => format!("SURVIVED {name}: {test} passes"),
        Verdict::Hung { test } => format!("HUNG {name}: {test} runs into its time limit"),
        Verdict::NotBuilt { why } => format!("NOT BUILT {name}: {}", brief(why)),
    }
}

fn brief(text: &str) -> String {
    const LENGTH: usize = 120;
    let mut brief: String = text.chars().take(LENGTH).collect();
    if brief.len() < text.len() {
        brief.push('…');
    }
    brief
}

fn left(elapsed: Duration, ended: usize, total: usize) -> String {
    let each = elapsed.as_secs_f64() / ended.max(1) as f64;
    let seconds = each * total.saturating_sub(ended) as f64;
    match seconds {
        seconds if seconds < 0.5 => "done".to_owned(),
        seconds if seconds < 90.0 => format!("about {seconds:.0} s left"),
        seconds => format!("about {:.0} min left", seconds / 60.0),
    }
}

/// What to do about each that was not caught.
pub(super) fn summary(tried: &[Tried]) -> String {
    let mut text = String::new();
    for tried in tried {
        let advice = match &tried.verdict {
            Verdict::Caught { .. } => continue,
            Verdict::Survived { test } => format!(
                "survived: {test} does not notice it; write the test that does, and name it \
                 under `caught_by`"
            ),
            Verdict::Hung { test } => format!(
                "{test} hangs; if that is how it shows, say `hangs = true`, else bound the wait"
            ),
            Verdict::NotBuilt { why } => {
                format!("{why}; a fault must compile: mend `replace`")
            }
        };
        let _ = writeln!(text, "{} in {}: {advice}", tried.name, tried.file.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_follows_from_what_it_took_so_far() {
        let after = |seconds, ended| left(Duration::from_secs(seconds), ended, 10);
        assert_eq!(after(20, 2), "about 80 s left");
        assert_eq!(after(100, 2), "about 7 min left");
        assert_eq!(after(100, 10), "done");
    }
}
