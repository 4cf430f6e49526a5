//! What a boot test says of itself, in the ELF section `.boot_tests` of the boot-test kernel:
//! for each test its name and `key=value` lines, ended by a zero byte. The keys are those of
//! `boot_test!` (`docs/testing.md`).

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::canned::Canned;
use super::matrix::Axes;
use super::traces::Traces;
use crate::judge::{Announced, Provocation};
use crate::provision::Suite;
use crate::qemu::{Clock, Mode};
use crate::wire::ExitStatus;

const SECTION: &str = ".boot_tests";

/// A boot test, as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Its function's name.
    pub(crate) name: String,
    /// On which machines it is run.
    pub(crate) axes: Axes,
    /// The remapping unit.
    pub(crate) unit: UnitOptions,
    /// QEMU's CPU model.
    pub(crate) cpu: String,
    /// How time passes.
    pub(crate) clock: Clock,
    /// More arguments of QEMU.
    pub(crate) machine: Vec<String>,
    /// Devices that QEMU must have.
    pub(crate) needs: Vec<String>,
    /// Time limit, in real time.
    pub(crate) limit: Duration,
    /// Name of the exit status that it must end with.
    pub(crate) exit: String,
    /// What the exit line must contain.
    pub(crate) says: Option<String>,
    /// What QEMU must complain of.
    pub(crate) complaints: Announced,
    /// For tests of the runner: part of the problem that it must find.
    pub(crate) fails: Option<String>,
    /// More words for the kernel.
    pub(crate) append: Option<String>,
    /// The DMAR that stands in for the firmware's.
    pub(crate) dmar: Option<Canned>,
    /// Whether there is no boot module.
    pub(crate) no_module: bool,
    /// Whether the boot module holds a next kernel, which is the boot-test kernel again.
    pub(crate) next: bool,
    /// What log and trace must hold, and must not.
    pub(crate) traces: Traces,
}

/// Whether the machine has a remapping unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UnitOptions {
    /// None.
    Absent,
    /// One, with more options than mode, width and caching mode.
    Present(Vec<String>),
}

/// The tests in the boot-test kernel.
pub(crate) fn read(file: &Path) -> Result<Vec<Descriptor>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let elf = object::File::parse(bytes.as_slice())
        .with_context(|| format!("{} is no ELF file", file.display()))?;
    let section = elf
        .section_by_name(SECTION)
        .with_context(|| format!("{} has no section {SECTION}", file.display()))?;
    parse(section.data()?)
}

pub(super) fn parse(section: &[u8]) -> Result<Vec<Descriptor>> {
    let text = std::str::from_utf8(section).context("the section of boot tests is not UTF-8")?;
    let mut tests = text
        .split_terminator('\0')
        .map(Descriptor::parse)
        .collect::<Result<Vec<_>>>()?;
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tests.windows(2).find(|pair| pair[0].name == pair[1].name) {
        bail!("two boot tests are called {}", pair[0].name);
    }
    Ok(tests)
}

impl Descriptor {
    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let name = lines.next().context("a boot test without a name")?;
        let mut test = Self {
            name: name.to_owned(),
            axes: Axes::of_boot_tests(),
            unit: UnitOptions::Present(Vec::new()),
            cpu: "max".to_owned(),
            clock: Clock::Instructions,
            machine: Vec::new(),
            needs: Vec::new(),
            limit: Duration::from_secs(20),
            exit: "ok".to_owned(),
            says: None,
            complaints: Announced::default(),
            fails: None,
            append: None,
            dmar: None,
            no_module: false,
            next: false,
            traces: Traces::default(),
        };
        for line in lines {
            test.take(line)
                .with_context(|| format!("boot test {name}: `{line}`"))?;
        }
        Ok(test)
    }

    fn take(&mut self, line: &str) -> Result<()> {
        let (key, value) = line.split_once('=').context("is no key=value")?;
        match key {
            "modes" => self.axes.modes = each(value, mode)?,
            "qemu" => self.axes.suites = each(value, Suite::of_version)?,
            "widths" => self.axes.widths = each(value, |word| word.parse().ok())?,
            "caching" => self.axes.caching = each(value, switch)?,
            "cpus" => self.axes.cpus = each(value, |word| word.parse().ok().filter(|&n| n > 0))?,
            "matrix" if value == "once" => self.axes = self.axes.first(),
            "unit" if value == "none" => self.unit = UnitOptions::Absent,
            "unit" => self.unit = UnitOptions::Present(words(value, ',')),
            "cpu" => self.cpu = value.to_owned(),
            "clock" => self.clock = clock(value).context("is no clock")?,
            "machine" => self.machine = words(value, ' '),
            "needs" => self.needs = words(value, ' '),
            "seconds" => self.limit = Duration::from_secs(value.parse()?),
            "exit" => {
                let status = ExitStatus::of_name(value).context("is no exit status")?;
                self.exit = status.name().to_owned();
            }
            "says" => self.says = Some(value.to_owned()),
            "provokes" => {
                for provocation in each(value, Provocation::of_name)? {
                    self.complaints.add(provocation);
                }
            }
            "complains" => self.complaints.must.extend(words(value, '|')),
            "fails" => self.fails = Some(value.to_owned()),
            "append" => self.append = Some(value.to_owned()),
            "dmar" => self.dmar = Some(Canned::of_name(value).context("is no canned DMAR")?),
            "module" if value == "none" => self.no_module = true,
            "next" if value == "boot-tests" => self.next = true,
            "logs" => self.traces.logs = words(value, '|'),
            "shows" => self.traces.shows = words(value, ' '),
            "lacks" => self.traces.lacks = words(value, ' '),
            _ => bail!("is not known"),
        }
        Ok(())
    }
}

fn words(value: &str, separator: char) -> Vec<String> {
    value
        .split(separator)
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn each<T>(value: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let values = value
        .split_whitespace()
        .map(|word| parse(word).with_context(|| format!("`{word}` is not known")))
        .collect::<Result<Vec<T>>>()?;
    if values.is_empty() {
        bail!("is empty");
    }
    Ok(values)
}

fn mode(word: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == word)
}

fn switch(word: &str) -> Option<bool> {
    match word {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn clock(word: &str) -> Option<Clock> {
    match word {
        "instructions" => Some(Clock::Instructions),
        "host" => Some(Clock::Host),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_with_nothing_but_a_name_has_the_defaults() {
        let tests = parse(b"faults\n\0").unwrap();
        assert_eq!(tests[0].name, "faults");
        assert_eq!(tests[0].axes, Axes::of_boot_tests());
        assert_eq!(tests[0].exit, "ok");
    }

    #[test]
    fn every_key_is_understood() {
        let text = "b\nmodes=legacy first-stage\nqemu=10.0.2 11.1\nwidths=39\ncaching=on\ncpus=2 4\n\
                    unit=eim=on,snoop-control=on\ncpu=max,-svm\nclock=host\nmachine=-m 1G\nneeds=iommu-testdev\n\
                    seconds=3\nexit=panic\nsays=out of\ncomplains=a b|c\nprovokes=refused-dma\nfails=x\n\
                    append=rmrr=block\nmodule=none\nnext=boot-tests\ndmar=reserved-edu\nlogs=first|then\nshows=vtd_a vtd_b\nlacks=vtd_c\n\0";
        let test = parse(text.as_bytes()).unwrap().remove(0);
        assert_eq!(test.axes.modes, [Mode::Legacy, Mode::FirstStage]);
        assert_eq!(
            test.axes.suites,
            [Suite::BookwormBackports, Suite::TrixieBackports]
        );
        assert_eq!(
            (test.axes.widths, test.axes.caching, test.axes.cpus),
            (vec![39], vec![true], vec![2, 4])
        );
        assert_eq!(
            test.unit,
            UnitOptions::Present(vec!["eim=on".to_owned(), "snoop-control=on".to_owned()])
        );
        assert_eq!(test.cpu, "max,-svm");
        assert_eq!(test.clock, Clock::Host);
        assert_eq!(test.machine, ["-m", "1G"]);
        assert_eq!(test.needs, ["iommu-testdev"]);
        assert_eq!(test.limit, Duration::from_secs(3));
        assert_eq!(
            (test.exit.as_str(), test.says.as_deref()),
            ("panic", Some("out of"))
        );
        assert_eq!(
            test.complaints.must,
            ["a b", "c", "detected translation failure"]
        );
        assert_eq!(test.fails.as_deref(), Some("x"));
        assert_eq!(test.append.as_deref(), Some("rmrr=block"));
        assert!(test.next && test.no_module);
        assert_eq!(test.dmar, Canned::of_name("reserved-edu"));
        assert_eq!(test.traces.logs, ["first", "then"]);
        assert_eq!(test.traces.shows, ["vtd_a", "vtd_b"]);
        assert_eq!(test.traces.lacks, ["vtd_c"]);
    }

    #[test]
    fn once_keeps_the_first_value_of_each_axis() {
        let test = parse(b"a\nmodes=second-stage legacy\nmatrix=once\n\0")
            .unwrap()
            .remove(0);
        assert_eq!(test.axes.modes, [Mode::SecondStage]);
        assert_eq!(test.axes.suites, [Suite::TrixieBackports]);
        assert_eq!(test.axes.cpus, [1]);
    }

    #[test]
    fn mistakes_are_named_with_the_test_and_the_line() {
        for line in [
            "modes=fast",
            "modes=",
            "exit=happy",
            "colour=red",
            "seconds=soon",
            "cpus=0",
            "dmar=golden",
            "rubbish",
        ] {
            let error = parse(format!("t\n{line}\n\0").as_bytes()).unwrap_err();
            assert!(
                format!("{error:#}").starts_with(&format!("boot test t: `{line}`")),
                "{error:#}"
            );
        }
    }

    #[test]
    fn two_tests_of_one_name_are_refused() {
        assert!(parse(b"a\n\0a\n\0").is_err());
        assert_eq!(parse(b"b\n\0a\n\0").unwrap()[0].name, "a");
    }
}
