//! `--log LEVEL[,module=LEVEL]…`: which log calls are compiled in.

use std::fmt;
use std::str::FromStr;

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// A level for everything, and levels for modules. `defmt` reads this text itself; checked
/// here because a mistake in it would otherwise be reported from within every crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLevels(String);

impl FromStr for LogLevels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for part in text.split(',') {
            let level = match part.split_once('=') {
                Some((module, level)) if is_module(module) => level,
                Some((module, _)) => return Err(format!("`{module}` is no module path")),
                None => part,
            };
            if !LEVELS.contains(&level) {
                return Err(format!("`{level}` is no level: {}", LEVELS.join(", ")));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_module(path: &str) -> bool {
    path.split("::").all(|name| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_for_all_and_for_modules_are_taken() {
        for text in ["trace", "info,vtd=trace", "warn,vtd::queue=debug,iommu=off"] {
            assert_eq!(text.parse::<LogLevels>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("loud", "loud"),
            ("info,vtd-core=trace", "vtd-core"),
            ("vtd=", "``"),
            ("", "``"),
        ] {
            let error = text.parse::<LogLevels>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
