//! A register or an entry by its fields, without those that are 0.

use core::fmt::{self, Debug, Display, Write};

/// Shows the fields of a bitfield that are not 0, in the order of the specification: flags by
/// their name alone, others as `name=value`; `-` if there is none.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a dyn Debug);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut filter = Filter {
            out: f,
            name: Text::default(),
            value: Text::default(),
            place: Place::Head,
            depth: 0,
            any: false,
        };
        write!(filter, "{:x?}", self.0)?;
        if !filter.any {
            f.write_char('-')?;
        }
        Ok(())
    }
}

/// Longest name or value that is kept.
const BYTES: usize = 64;
type Text = arrayvec::ArrayString<BYTES>;

/// Where in `Name { field: value, field: value }` the next character stands.
enum Place {
    Head,
    Name,
    Value,
    Tail,
}

/// Takes a derived `Debug` apart while it is written.
struct Filter<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    name: Text,
    value: Text,
    place: Place,
    /// Brackets of any kind that are open within a value.
    depth: u8,
    any: bool,
}

impl Filter<'_, '_> {
    fn end_of_field(&mut self) -> fmt::Result {
        let (name, value) = (self.name.trim(), self.value.trim());
        let is_zero = matches!(value, "0" | "false" | "");
        if !is_zero {
            if self.any {
                self.out.write_char(' ')?;
            }
            self.out.write_str(name)?;
            if value != "true" {
                let is_number = value.bytes().all(|byte| byte.is_ascii_hexdigit());
                let prefix = if is_number && value.len() > 1 {
                    "0x"
                } else {
                    ""
                };
                write!(self.out, "={prefix}{value}")?;
            }
            self.any = true;
        }
        self.name.clear();
        self.value.clear();
        self.place = Place::Name;
        Ok(())
    }

    fn take(&mut self, character: char) -> fmt::Result {
        match self.place {
            Place::Head if character == '{' => self.place = Place::Name,
            Place::Head | Place::Tail => {}
            Place::Name => match character {
                ':' => self.place = Place::Value,
                '}' => self.place = Place::Tail,
                other => {
                    let _ = self.name.try_push(other);
                }
            },
            Place::Value => match (character, self.depth) {
                (',', 0) => self.end_of_field()?,
                ('}', 0) => {
                    self.end_of_field()?;
                    self.place = Place::Tail;
                }
                (other, _) => {
                    match other {
                        '(' | '{' | '[' => self.depth = self.depth.saturating_add(1),
                        ')' | '}' | ']' => self.depth = self.depth.saturating_sub(1),
                        _ => {}
                    }
                    let _ = self.value.try_push(other);
                }
            },
        }
        Ok(())
    }
}

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|character| self.take(character))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use vtd::registers::{Gsts, Iqa, Rtaddr, TableMode};

    #[test]
    fn flags_are_named_and_numbers_are_hexadecimal() {
        let status = Gsts::new().with_tes(true).with_qies(true);
        assert_eq!(Fields(&status).to_string(), "qies tes");
        let queue = Iqa::new().with_qs(5).with_iqa(0x1a2b).with_dw(true);
        assert_eq!(Fields(&queue).to_string(), "qs=5 dw iqa=0x1a2b");
    }

    #[test]
    fn an_empty_register_shows_a_dash_and_enumerations_their_names() {
        assert_eq!(Fields(&Gsts::new()).to_string(), "-");
        let root = Rtaddr::new().with_ttm(TableMode::Scalable).with_rta(9);
        assert_eq!(Fields(&root).to_string(), "ttm=Scalable rta=9");
    }

    #[test]
    fn values_with_commas_of_their_own_stay_whole() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "shown by Debug alone")]
        struct Outer {
            pair: (u8, u8),
            last: u8,
        }
        let outer = Outer {
            pair: (1, 2),
            last: 3,
        };
        assert_eq!(Fields(&outer).to_string(), "pair=(1, 2) last=3");
    }
}
