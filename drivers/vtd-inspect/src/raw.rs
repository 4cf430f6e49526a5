//! A dump as words: what was read, so that it can be told again elsewhere.
//!
//! One line each, numbers hexadecimal:
//!
//! | line | what |
//! |---|---|
//! | `raw unit N BITS` | from here on unit `N`, whose host has `BITS` bits of physical address |
//! | `raw r32 OFFSET VALUE`, `raw r64 OFFSET VALUE` | a register |
//! | `raw page ADDRESS INDEX=WORD…` | words of a page that are not 0; several lines for one page add up |
//! | `raw gone ADDRESS` | a page that could not be read |
//! | `raw note TEXT` | text that stands for itself |

use crate::{PAGE_WORDS, Page, Source, UnitView};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::cell::RefCell;
use core::fmt::{self, Write};
use iommu_core::Hpa;

/// Words of a page in one line, so that it fits a record of the log.
const WORDS_A_LINE: usize = 32;
/// Pages that are remembered as written out already.
const REMEMBERED: usize = 64;

/// Writes down all that is read through it.
pub struct Recorder<'a, S> {
    source: S,
    state: RefCell<State<'a>>,
}

struct State<'a> {
    /// Takes one line, without its end.
    sink: &'a mut dyn FnMut(fmt::Arguments<'_>),
    written: ArrayVec<Hpa, REMEMBERED>,
    next: usize,
}

impl<'a, S: Source> Recorder<'a, S> {
    /// Begins a unit.
    pub fn new(
        unit: u16,
        host_bits: u8,
        source: S,
        sink: &'a mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Self {
        sink(format_args!("raw unit {unit:x} {host_bits:x}"));
        Self {
            source,
            state: RefCell::new(State {
                sink,
                written: ArrayVec::new(),
                next: 0,
            }),
        }
    }

    fn line(&self, line: fmt::Arguments<'_>) {
        if let Ok(mut state) = self.state.try_borrow_mut() {
            (state.sink)(line);
        }
    }

    /// Whether the page is new; the oldest of those remembered is forgotten for it.
    fn is_new(&self, at: Hpa) -> bool {
        let Ok(mut state) = self.state.try_borrow_mut() else {
            return true;
        };
        if state.written.contains(&at) {
            return false;
        }
        if state.written.try_push(at).is_err() {
            let slot = state.next;
            if let Some(oldest) = state.written.get_mut(slot) {
                *oldest = at;
            }
            state.next = slot.wrapping_add(1) % REMEMBERED;
        }
        true
    }

    fn write_page(&self, at: Hpa, page: &Page) {
        let mut used = page
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != 0)
            .peekable();
        loop {
            let line: ArrayVec<(usize, u64), WORDS_A_LINE> = used
                .by_ref()
                .take(WORDS_A_LINE)
                .map(|(index, &word)| (index, word))
                .collect();
            self.line(format_args!("raw page {:x}{}", at.as_u64(), Words(&line)));
            if used.peek().is_none() {
                break;
            }
        }
    }
}

struct Words<'a>(&'a [(usize, u64)]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(index, word)| write!(f, " {index:x}={word:x}"))
    }
}

impl<S: Source> Source for Recorder<'_, S> {
    fn read32(&self, offset: usize) -> Option<u32> {
        let value = self.source.read32(offset)?;
        self.line(format_args!("raw r32 {offset:x} {value:x}"));
        Some(value)
    }

    fn read64(&self, offset: usize) -> Option<u64> {
        let value = self.source.read64(offset)?;
        self.line(format_args!("raw r64 {offset:x} {value:x}"));
        Some(value)
    }

    fn page(&self, at: Hpa, page: &mut Page) -> bool {
        let found = self.source.page(at, page);
        if self.is_new(at) {
            if found {
                self.write_page(at, page);
            } else {
                self.line(format_args!("raw gone {:x}", at.as_u64()));
            }
        }
        found
    }
}

/// A line that begins as one of a raw dump and is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawError {
    /// The line.
    pub line: String,
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a line of a raw dump: {}", self.line)
    }
}

impl core::error::Error for RawError {}

/// What a raw dump holds of one unit. The last value of a register counts; a page is what all
/// of its lines say.
#[derive(Default)]
struct RawUnit {
    unit: u16,
    host_bits: u8,
    narrow: BTreeMap<usize, u32>,
    wide: BTreeMap<usize, u64>,
    pages: BTreeMap<u64, Box<Page>>,
    notes: Vec<String>,
}

impl Source for RawUnit {
    fn read32(&self, offset: usize) -> Option<u32> {
        self.narrow.get(&offset).copied()
    }

    fn read64(&self, offset: usize) -> Option<u64> {
        self.wide.get(&offset).copied()
    }

    fn page(&self, at: Hpa, page: &mut Page) -> bool {
        match self.pages.get(&at.as_u64()) {
            Some(found) => {
                page.copy_from_slice(found.as_ref());
                true
            }
            None => false,
        }
    }
}

/// A raw dump, read again: one part for each `raw unit` line, in their order.
#[derive(Default)]
pub struct RawDump {
    units: Vec<RawUnit>,
}

impl RawDump {
    /// Takes a line. Lines that do not begin with `raw ` are not part of a dump: `Ok(false)`.
    pub fn take(&mut self, line: &str) -> Result<bool, RawError> {
        let Some(rest) = line.trim().strip_prefix("raw ") else {
            return Ok(false);
        };
        self.take_words(rest)
            .map(|()| true)
            .ok_or_else(|| RawError {
                line: line.to_string(),
            })
    }

    fn take_words(&mut self, rest: &str) -> Option<()> {
        let (kind, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if kind == "unit" {
            let (unit, host_bits) = rest.split_once(' ')?;
            self.units.push(RawUnit {
                unit: u16::from_str_radix(unit, 16).ok()?,
                host_bits: u8::from_str_radix(host_bits, 16).ok()?,
                ..RawUnit::default()
            });
            return Some(());
        }
        let unit = self.units.last_mut()?;
        let mut words = rest.split_ascii_whitespace();
        match kind {
            "r32" => {
                let offset = usize::from_str_radix(words.next()?, 16).ok()?;
                let value = u32::from_str_radix(words.next()?, 16).ok()?;
                unit.narrow.insert(offset, value);
            }
            "r64" => {
                let offset = usize::from_str_radix(words.next()?, 16).ok()?;
                let value = u64::from_str_radix(words.next()?, 16).ok()?;
                unit.wide.insert(offset, value);
            }
            "page" => {
                let at = u64::from_str_radix(words.next()?, 16).ok()?;
                let page = unit
                    .pages
                    .entry(at)
                    .or_insert_with(|| Box::new([0; PAGE_WORDS]));
                for word in words {
                    let (index, value) = word.split_once('=')?;
                    let index = usize::from_str_radix(index, 16).ok()?;
                    *page.get_mut(index)? = u64::from_str_radix(value, 16).ok()?;
                }
            }
            "gone" => {
                u64::from_str_radix(words.next()?, 16).ok()?;
            }
            "note" => unit.notes.push(rest.to_string()),
            _ => return None,
        }
        Some(())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Each unit with its notes, in the dump's order.
    pub fn units(&self) -> impl Iterator<Item = (UnitView<'_>, &[String])> {
        self.units.iter().map(|unit| {
            let view = UnitView {
                unit: unit.unit,
                host_bits: unit.host_bits,
                source: unit,
            };
            (view, unit.notes.as_slice())
        })
    }

    /// Tells everything, notes last, as a live dump does.
    pub fn write(&self, detail: crate::Detail, out: &mut dyn Write) -> fmt::Result {
        for (view, notes) in self.units() {
            view.write_all(detail, out)?;
            notes.iter().try_for_each(|note| writeln!(out, "{note}"))?;
        }
        Ok(())
    }
}
