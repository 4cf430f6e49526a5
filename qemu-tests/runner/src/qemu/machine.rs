//! A machine, described to QEMU in the words of the QEMU at hand.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Abilities;

/// The table mode that the kernel shall use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Mode {
    /// Root and context tables, second stage.
    Legacy,
    /// Scalable mode, second-stage entries.
    SecondStage,
    /// Scalable mode, first-stage entries.
    FirstStage,
}

impl Mode {
    /// Every mode.
    pub(crate) const ALL: [Self; 3] = [Self::Legacy, Self::SecondStage, Self::FirstStage];

    /// The word of the kernel's command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::SecondStage => "second-stage",
            Self::FirstStage => "first-stage",
        }
    }

    /// What is shown if nobody asks for a mode.
    pub(crate) fn best_of(abilities: &Abilities) -> Self {
        if abilities.first_stage().is_some() {
            Self::FirstStage
        } else {
            Self::SecondStage
        }
    }

    /// What the remapping unit must be told to offer this mode.
    fn options(self, abilities: &Abilities) -> Result<Vec<String>, Unsupported> {
        let scalable = || {
            abilities
                .scalable_mode()
                .ok_or(Unsupported("scalable mode"))
        };
        Ok(match self {
            Self::Legacy => Vec::new(),
            Self::SecondStage => vec![format!("{}=on", scalable()?)],
            Self::FirstStage => {
                let first_stage = abilities
                    .first_stage()
                    .ok_or(Unsupported("first-stage translation"))?;
                vec![format!("{}=on", scalable()?), format!("{first_stage}=on")]
            }
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that this QEMU does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsupported(pub(crate) &'static str);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this QEMU has no {}", self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Whose remapping unit the machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// The mode that it must offer.
    pub(crate) mode: Mode,
    /// Its address width, if not QEMU's default.
    pub(crate) address_width: Option<u8>,
    /// Whether it claims to cache entries that are not present.
    pub(crate) caching_mode: bool,
    /// More options of `-device intel-iommu`, as QEMU spells them.
    pub(crate) options: Vec<String>,
}

impl Unit {
    /// A unit with QEMU's defaults.
    pub(crate) const fn new(mode: Mode) -> Self {
        Self {
            mode,
            address_width: None,
            caching_mode: false,
            options: Vec::new(),
        }
    }

    fn device(&self, abilities: &Abilities) -> Result<String, Unsupported> {
        let mut words = vec!["intel-iommu".to_owned(), "intremap=on".to_owned()];
        words.extend(self.mode.options(abilities)?);
        words.extend(self.address_width.map(|bits| format!("aw-bits={bits}")));
        if self.caching_mode {
            words.push("caching-mode=on".to_owned());
        }
        words.extend(self.options.iter().cloned());
        Ok(words.join(","))
    }
}

/// How virtual time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// By instructions, 1024 ns each: deterministic, one thread for all CPUs, and the
    /// 100 ms of virtual time that `edu` takes for each DMA pass quickly.
    Instructions,
    /// By the host's clock, a thread for each CPU: true races.
    Host,
}

/// A machine and what is booted on it.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// `None`: a machine without remapping.
    pub(crate) unit: Option<Unit>,
    /// CPUs of QEMU.
    pub(crate) cpus: u32,
    /// The CPU model and its features.
    pub(crate) cpu: String,
    /// How time passes.
    pub(crate) clock: Clock,
    /// The kernel's ELF file.
    pub(crate) kernel: PathBuf,
    /// The boot module, if there is one.
    pub(crate) module: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) append: String,
    /// What follows all else on QEMU's command line.
    pub(crate) extra: Vec<OsString>,
    /// Waits for a debugger on this socket before the first instruction.
    pub(crate) gdb: Option<PathBuf>,
}

impl Machine {
    /// A machine of one CPU with a unit of this mode.
    pub(crate) fn new(unit: Option<Unit>, kernel: &Path, append: String) -> Self {
        Self {
            unit,
            cpus: 1,
            cpu: "max".to_owned(),
            clock: Clock::Instructions,
            kernel: kernel.to_owned(),
            module: None,
            append,
            extra: Vec::new(),
            gdb: None,
        }
    }

    /// QEMU's arguments, the trace in `trace` unless `extra` moves it.
    pub(crate) fn arguments(
        &self,
        abilities: &Abilities,
        trace: &Path,
    ) -> Result<Vec<OsString>, Unsupported> {
        let mut arguments = Arguments::default();
        arguments.words("-machine q35 -accel tcg -m 256M");
        arguments.pair("-cpu", &self.cpu);
        arguments.words("-nodefaults -display none -no-reboot");
        arguments.words("-device isa-debug-exit,iobase=0xf4,iosize=4 -debugcon stdio");
        arguments.pair("-smp", self.cpus.to_string());
        match self.clock {
            Clock::Instructions => arguments.words("-icount shift=10,sleep=off"),
            Clock::Host => {}
        }
        if let Some(unit) = &self.unit {
            arguments.pair("-device", unit.device(abilities)?);
        }
        arguments.words("-device edu,addr=4,dma_mask=0xffffffffffffffff");
        // Behind the unit: a device that comes before it bypasses translation.
        if abilities.has_device("iommu-testdev") {
            arguments.words("-device iommu-testdev,addr=5");
        }
        arguments.words("-trace vtd_*");
        arguments.pair("-D", trace);
        arguments.pair("-kernel", &self.kernel);
        if let Some(module) = &self.module {
            arguments.pair("-initrd", module);
        }
        arguments.pair("-append", &self.append);
        if let Some(socket) = &self.gdb {
            let mut chardev = OsString::from("unix:");
            chardev.push(socket);
            chardev.push(",server=on,wait=off");
            arguments.pair("-gdb", chardev);
            arguments.words("-S");
        }
        arguments.0.extend(self.extra.iter().cloned());
        Ok(arguments.0)
    }
}

/// The file to which a `-D FILE` among QEMU's arguments moves the trace; the last counts.
pub(crate) fn moved_trace(extra: &[OsString]) -> Option<PathBuf> {
    extra
        .windows(2)
        .rfind(|pair| pair[0] == "-D" || pair[0] == "--D")
        .map(|pair| PathBuf::from(&pair[1]))
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn words(&mut self, words: &str) {
        self.0.extend(words.split(' ').map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old() -> Abilities {
        Abilities::of(
            &["aw-bits", "x-scalable-mode", "x-flts", "x-pasid-mode"],
            &["edu"],
        )
    }

    fn new() -> Abilities {
        Abilities::of(
            &["aw-bits", "scalable-mode", "fsts", "pasid-bits"],
            &["edu", "iommu-testdev"],
        )
    }

    fn line(machine: &Machine, abilities: &Abilities) -> String {
        let arguments = machine.arguments(abilities, Path::new("t")).unwrap();
        arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn machine(mode: Mode) -> Machine {
        Machine::new(Some(Unit::new(mode)), Path::new("k"), "mode=x".to_owned())
    }

    #[test]
    fn options_are_spelled_as_the_qemu_at_hand_spells_them() {
        let machine = machine(Mode::FirstStage);
        assert!(
            line(&machine, &old())
                .contains("-device intel-iommu,intremap=on,x-scalable-mode=on,x-flts=on ")
        );
        assert!(
            line(&machine, &new())
                .contains("-device intel-iommu,intremap=on,scalable-mode=on,fsts=on ")
        );
    }

    #[test]
    fn the_test_device_comes_after_the_unit_and_only_where_it_exists() {
        let text = line(&machine(Mode::Legacy), &new());
        assert!(text.find("intel-iommu").unwrap() < text.find("iommu-testdev").unwrap());
        assert!(!line(&machine(Mode::Legacy), &old()).contains("iommu-testdev"));
    }

    #[test]
    fn a_mode_that_this_qemu_lacks_is_refused_by_name() {
        let abilities = Abilities::of(&["x-scalable-mode"], &[]);
        let error = machine(Mode::FirstStage)
            .arguments(&abilities, Path::new("t"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "this QEMU has no first-stage translation"
        );
        assert!(
            machine(Mode::SecondStage)
                .arguments(&abilities, Path::new("t"))
                .is_ok()
        );
        assert_eq!(Mode::best_of(&abilities), Mode::SecondStage);
        assert_eq!(Mode::best_of(&old()), Mode::FirstStage);
    }

    #[test]
    fn width_caching_mode_and_cpus_are_passed_on() {
        let mut machine = machine(Mode::Legacy);
        machine.cpus = 2;
        let unit = machine.unit.as_mut().unwrap();
        unit.address_width = Some(39);
        unit.caching_mode = true;
        let text = line(&machine, &new());
        assert!(
            text.contains("intremap=on,aw-bits=39,caching-mode=on "),
            "{text}"
        );
        assert!(text.contains("-smp 2"), "{text}");
    }

    #[test]
    fn what_the_user_adds_comes_last_and_may_move_the_trace() {
        let mut machine = machine(Mode::Legacy);
        machine.extra = ["-m", "1G", "-D", "/tmp/t"].map(OsString::from).to_vec();
        assert!(line(&machine, &new()).ends_with("-append mode=x -m 1G -D /tmp/t"));
        assert_eq!(moved_trace(&machine.extra), Some(PathBuf::from("/tmp/t")));
        assert_eq!(moved_trace(&[OsString::from("-D")]), None);
    }
}
