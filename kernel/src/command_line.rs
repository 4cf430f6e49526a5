//! The command line: `key=value` words, separated by spaces (`docs/wire.md`).
//!
//! The last word of a key counts, so that a user's words can follow a runner's.

use arrayvec::ArrayString;
use core::fmt;

/// Longest name of a test.
const NAME_BYTES: usize = 128;

/// The table mode that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Mode {
    /// Legacy mode: root and context tables, second stage.
    Legacy,
    /// Scalable mode, second-stage entries.
    SecondStage,
    /// Scalable mode, first-stage entries.
    FirstStage,
}

impl Mode {
    /// The word of the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::SecondStage => "second-stage",
            Self::FirstStage => "first-stage",
        }
    }
}

/// How the guest shall run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum GuestKind {
    /// By AMD SVM with nested paging.
    Svm,
    /// Its side runs in the kernel, on a guest memory of its own.
    Direct,
    /// No guest: stop once remapping works.
    None,
}

impl GuestKind {
    /// The word of the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Svm => "svm",
            Self::Direct => "direct",
            Self::None => "none",
        }
    }
}

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandLine {
    /// `mode=`; the best that the units have, if absent.
    pub mode: Option<Mode>,
    /// `guest=`; SVM if the CPU has it, else direct, if absent.
    pub guest: Option<GuestKind>,
    /// `seed=`: all random choices of the run follow from it. Taken from the clock if absent.
    pub seed: Option<u64>,
    /// `test=`, for the boot-test kernel.
    pub test: Option<ArrayString<NAME_BYTES>>,
}

/// A word that is not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandLineError<'a> {
    /// A word without `=`, or with an unknown key.
    UnknownWord(&'a str),
    /// A value that its key does not have.
    BadValue {
        /// The word.
        word: &'a str,
        /// What the key's values look like.
        expected: &'static str,
    },
}

impl fmt::Display for CommandLineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWord(word) => write!(
                f,
                "`{word}` is not understood; there are mode=, guest=, seed= and test="
            ),
            Self::BadValue { word, expected } => {
                write!(f, "`{word}` is not understood; expected {expected}")
            }
        }
    }
}

impl CommandLine {
    /// Reads all words.
    pub fn parse(text: &str) -> Result<Self, CommandLineError<'_>> {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            line.take(word)?;
        }
        Ok(line)
    }

    fn take<'a>(&mut self, word: &'a str) -> Result<(), CommandLineError<'a>> {
        let (key, value) = word
            .split_once('=')
            .ok_or(CommandLineError::UnknownWord(word))?;
        let bad = |expected| CommandLineError::BadValue { word, expected };
        match key {
            "mode" => {
                let mode = mode(value).ok_or(bad("mode=legacy|second-stage|first-stage"))?;
                self.mode = Some(mode);
            }
            "guest" => {
                let guest = guest(value).ok_or(bad("guest=svm|direct|none"))?;
                self.guest = Some(guest);
            }
            "seed" => {
                let seed = seed(value).ok_or(bad("seed=0x and 1 to 16 hexadecimal digits"))?;
                self.seed = Some(seed);
            }
            "test" => {
                let name = ArrayString::from(value)
                    .ok()
                    .filter(|name| !name.is_empty())
                    .ok_or(bad("test= and a name of 1 to 128 bytes"))?;
                self.test = Some(name);
            }
            _ => return Err(CommandLineError::UnknownWord(word)),
        }
        Ok(())
    }
}

fn mode(value: &str) -> Option<Mode> {
    [Mode::Legacy, Mode::SecondStage, Mode::FirstStage]
        .into_iter()
        .find(|mode| mode.name() == value)
}

fn guest(value: &str) -> Option<GuestKind> {
    [GuestKind::Svm, GuestKind::Direct, GuestKind::None]
        .into_iter()
        .find(|guest| guest.name() == value)
}

fn seed(value: &str) -> Option<u64> {
    let digits = value.strip_prefix("0x")?;
    // `from_str_radix` would take a sign too.
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all_digits
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn all_keys_are_read() {
        let line =
            CommandLine::parse(" mode=first-stage  guest=direct seed=0xfeed test=a::b ").unwrap();
        assert_eq!(line.mode, Some(Mode::FirstStage));
        assert_eq!(line.guest, Some(GuestKind::Direct));
        assert_eq!(line.seed, Some(0xfeed));
        assert_eq!(line.test.as_deref(), Some("a::b"));
    }

    #[test]
    fn an_empty_line_asks_for_nothing() {
        assert_eq!(CommandLine::parse("  "), Ok(CommandLine::default()));
    }

    #[test]
    fn the_last_word_of_a_key_counts() {
        let line = CommandLine::parse("mode=legacy mode=second-stage").unwrap();
        assert_eq!(line.mode, Some(Mode::SecondStage));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for word in ["quiet", "color=red", "mode", "=legacy"] {
            assert_eq!(
                CommandLine::parse(word),
                Err(CommandLineError::UnknownWord(word))
            );
        }
        for word in [
            "mode=nested",
            "mode=",
            "guest=kvm",
            "seed=12",
            "seed=0x",
            "seed=0x+1",
            "seed=0x10000000000000000",
            "test=",
        ] {
            let error = CommandLine::parse(word).unwrap_err();
            assert!(
                matches!(error, CommandLineError::BadValue { word: named, .. } if named == word)
            );
            assert!(error.to_string().contains(word));
        }
        assert!(CommandLine::parse("seed=0xffffffffffffffff").is_ok());
    }
}
