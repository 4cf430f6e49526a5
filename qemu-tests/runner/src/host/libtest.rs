//! The lines that a test program prints.

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Passed,
    Failed,
    Ignored,
}

/// The test and its result, if the line is one of those.
pub(super) fn result(line: &str) -> Option<(&str, Said)> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let said = match result {
        "ok" => Said::Passed,
        "FAILED" => Said::Failed,
        _ if result.starts_with("ignored") => Said::Ignored,
        _ => return None,
    };
    Some((name.strip_suffix(" - should panic").unwrap_or(name), said))
}

/// Whether nobody needs to see a line.
pub(super) fn is_frame(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("running ")
        || line.starts_with("test result: ok.")
        || matches!(result(line), Some((_, Said::Passed)))
}

/// What the first panic in a test's output said, in one line.
pub(super) fn first_panic(output: &str) -> Option<String> {
    let mut lines = output
        .lines()
        .skip_while(|line| !(line.starts_with("thread '") && line.contains("panicked at")))
        .skip(1)
        .take_while(|line| !line.starts_with("note: run with") && !line.starts_with("stack back"))
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let first = lines.next()?.to_owned();
    // `assertion failed` alone tells nothing.
    Some(match lines.next() {
        Some(second) if first.starts_with("assertion") => format!("{first}; {second}"),
        _ => first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_from_other_lines() {
        for (line, expected) in [
            ("test wire::a ... ok", Some(("wire::a", Said::Passed))),
            (
                "test src/lib.rs - Foo (line 3) ... ok",
                Some(("src/lib.rs - Foo (line 3)", Said::Passed)),
            ),
            (
                "test b - should panic ... FAILED",
                Some(("b", Said::Failed)),
            ),
            (
                "test c ... ignored, needs a machine",
                Some(("c", Said::Ignored)),
            ),
            ("test result: FAILED. 2 passed", None),
            ("thread 'b' panicked at src/lib.rs:1", None),
        ] {
            assert_eq!(result(line), expected, "{line}");
        }
    }

    #[test]
    fn only_what_went_wrong_is_shown() {
        assert!(is_frame("test a ... ok"));
        assert!(is_frame("running 4 tests"));
        assert!(!is_frame("test a ... FAILED"));
        assert!(!is_frame("test result: FAILED. 2 passed"));
    }

    #[test]
    fn the_first_panic_is_quoted_in_one_line() {
        let output = "---- a stdout ----\n\nthread 'a' (12) panicked at tests/a.rs:3:5:\n\
                      assertion `left == right` failed: all\n  left: 1\n right: 2\n\
                      note: run with `RUST_BACKTRACE=1`\n";
        assert_eq!(
            first_panic(output).unwrap(),
            "assertion `left == right` failed: all; left: 1"
        );
        assert_eq!(first_panic("test a ... ok"), None);
    }
}
