//! What libFuzzer says while it runs, and what that comes to.

use std::io::{BufRead, BufReader, Read};

use anyhow::Result;

/// Reads libFuzzer's standard error.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Watcher {
    runs: u64,
    /// Edges of the control flow, and those together with counts and comparisons.
    edges: u64,
    features: u64,
    inputs: u64,
    crash: Option<String>,
}

/// How lines begin that say nothing of use: other statistics, what libFuzzer misses of
/// sanitizers that are not there, functions without names, and a dictionary of bytes.
const CHATTER: [&str; 7] = [
    "stat::",
    "INFO:",
    "WARNING: Failed to find function",
    "NEW_FUNC",
    "###### ",
    "\"",
    "Done ",
];

impl Watcher {
    /// To the end, showing what is more than progress.
    pub(super) fn read(&mut self, output: impl Read) -> Result<()> {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if self.take(&line) {
                eprintln!("{line}");
            }
        }
        Ok(())
    }

    /// Counts a line; whether somebody should see it.
    fn take(&mut self, line: &str) -> bool {
        if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
            self.runs = runs.trim().parse().unwrap_or(self.runs);
            return false;
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.crash = Some(path.trim().to_owned());
            return true;
        }
        if CHATTER
            .iter()
            .any(|start| line.trim_start().starts_with(start))
        {
            return false;
        }
        if !line.starts_with('#') {
            return true;
        }
        self.progress(line);
        line.contains("pulse") || line.contains("INITED")
    }

    /// `#4096 pulse cov: 355 ft: 801 corp: 90/1245b lim: 43 exec/s: 2048 rss: 40Mb`
    fn progress(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let number = || {
                let digits = pair[1].split('/').next();
                digits.and_then(|digits| digits.parse().ok())
            };
            let figure = match pair[0] {
                "cov:" => &mut self.edges,
                "ft:" => &mut self.features,
                "corp:" => &mut self.inputs,
                _ => continue,
            };
            *figure = number().unwrap_or(*figure);
        }
        let runs = words.first().and_then(|word| word[1..].parse().ok());
        self.runs = self.runs.max(runs.unwrap_or(0));
    }

    /// The input that crashed or hung.
    pub(super) fn crash(&self) -> Option<&str> {
        self.crash.as_deref()
    }

    /// The last line.
    pub(super) fn summary(&self, seconds: u64) -> String {
        let end = match &self.crash {
            Some(path) => format!("crashed: {path}"),
            None => "no crash".to_owned(),
        };
        format!(
            "{} runs in {seconds} s, {} edges and {} features covered by {} inputs, {end}",
            self.runs, self.edges, self.features, self.inputs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(lines: &[&str]) -> (Watcher, usize) {
        let mut watcher = Watcher::default();
        let shown = lines.iter().filter(|line| watcher.take(line)).count();
        (watcher, shown)
    }

    #[test]
    fn the_last_progress_and_the_statistics_make_the_summary() {
        let (watcher, shown) = watch(&[
            "INFO: Running with entropic power schedule (0xFF, 100).",
            "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 30Mb",
            "#40\tNEW    cov: 20 ft: 31 corp: 7/12b lim: 4 exec/s: 0 rss: 31Mb L: 3/4",
            "#4096\tpulse  cov: 355 ft: 801 corp: 90/1245b lim: 43 exec/s: 2048 rss: 40Mb",
            "#9000\tDONE   cov: 356 ft: 803 corp: 91/1250b lim: 87 exec/s: 900 rss: 41Mb",
            "stat::number_of_executed_units: 9000",
            "stat::peak_rss_mb:              41",
            "\tNEW_FUNC[1/1]: 0x55fe9dca0ab1",
            "\"\\377\\001\" # Uses: 22",
            "Done 9000 runs in 10 second(s)",
        ]);
        assert_eq!(shown, 2);
        assert_eq!(
            watcher.summary(10),
            "9000 runs in 10 s, 356 edges and 803 features covered by 91 inputs, no crash"
        );
    }

    #[test]
    fn a_crash_is_named_with_its_input() {
        let (watcher, shown) = watch(&[
            "thread '<unnamed>' panicked at src/lib.rs:3:5:",
            "artifact_prefix='t/'; Test unit written to t/crash-0a1b",
        ]);
        assert_eq!(shown, 2);
        assert_eq!(watcher.crash(), Some("t/crash-0a1b"));
        assert!(watcher.summary(1).ends_with("crashed: t/crash-0a1b"));
    }
}
