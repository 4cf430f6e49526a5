//! A line of the log, and how it is shown.

use std::io::IsTerminal;

/// One `defmt` frame, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    /// As the program's `defmt::timestamp!` shows it.
    pub(crate) time: String,
    /// `trace` to `error`; empty for `println!`.
    pub(crate) level: &'static str,
    /// Which program wrote it.
    pub(crate) program: String,
    /// The module that wrote it.
    pub(crate) module: String,
    /// File and line.
    pub(crate) place: String,
    /// What it says.
    pub(crate) text: String,
}

/// Whether lines carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// For files, pipes and `NO_COLOR`.
    Plain,
    /// For terminals.
    Coloured,
}

impl Style {
    /// What standard output can show.
    pub(crate) fn of_stdout() -> Self {
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// Text in the colour of a terminal's escape sequence (`31` is red).
    pub(crate) fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{colour}m{text}\x1b[0m"),
        }
    }
}

impl LogLine {
    /// The line in columns: time, level, program, module and text, place.
    pub(crate) fn show(&self, style: Style) -> String {
        let level = format!("{:5}", self.level);
        let level = match self.level {
            "error" => style.paint("1;31", &level),
            "warn" => style.paint("33", &level),
            "info" => style.paint("32", &level),
            _ => style.paint("2", &level),
        };
        let place = if self.place.is_empty() {
            String::new()
        } else {
            style.paint("2", &format!("  ({})", self.place))
        };
        let module = if self.module.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.module)
        };
        format!(
            "{:>12} {level} {:10} {module}{}{place}",
            self.time, self.program, self.text
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_time_level_program_module_text_and_place() {
        let line = LogLine {
            time: "0.001234".to_owned(),
            level: "warn",
            program: "kernel".to_owned(),
            module: "vtd::unit".to_owned(),
            place: "drivers/vtd/src/unit.rs:12".to_owned(),
            text: "old unit".to_owned(),
        };
        assert_eq!(
            line.show(Style::Plain),
            "    0.001234 warn  kernel     vtd::unit: old unit  (drivers/vtd/src/unit.rs:12)"
        );
        assert!(line.show(Style::Coloured).contains("\x1b[33mwarn \x1b[0m"));
    }
}
