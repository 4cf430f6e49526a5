//! What a person can choose at the start, one type for each word.

use iommu_core::{DeviceId, Segment, SourceId};

/// A word with a fixed set of values.
pub trait Choice: Copy + 'static {
    /// Key and values, as they are told to who mistypes one.
    const USAGE: &'static str;
    /// All values with their names.
    const ALL: &'static [(&'static str, Self)];

    /// The value of this name.
    fn of_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter();
        all.find(|(known, _)| *known == name)
            .map(|&(_, value)| value)
    }
}

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

impl Choice for Mode {
    const USAGE: &'static str = "mode=legacy|second-stage|first-stage";
    const ALL: &'static [(&'static str, Self)] = &[
        ("legacy", Self::Legacy),
        ("second-stage", Self::SecondStage),
        ("first-stage", Self::FirstStage),
    ];
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

impl Choice for GuestKind {
    const USAGE: &'static str = "guest=svm|direct|none";
    const ALL: &'static [(&'static str, Self)] = &[
        ("svm", Self::Svm),
        ("direct", Self::Direct),
        ("none", Self::None),
    ];
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

/// What is done with the remapping units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum VtdSwitch {
    /// They are left as the firmware left them, and their registers are not even read.
    Off,
    /// Everything is read and told, and nothing is changed.
    Report,
    /// They translate.
    #[default]
    On,
}

impl Choice for VtdSwitch {
    const USAGE: &'static str = "vtd=off|report|on";
    const ALL: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("report", Self::Report),
        ("on", Self::On),
    ];
}

/// What becomes of devices that have reserved regions (RMRR, §8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum ReservedRegions {
    /// They keep reaching their regions, and none is given to a guest.
    #[default]
    Keep,
    /// They keep reaching them, but USB controllers and display devices, whose regions serve
    /// the firmware's drivers alone, can be given to a guest and then lose them.
    Relax,
    /// They are blocked like all others. What depends on a region fails.
    Block,
}

impl Choice for ReservedRegions {
    const USAGE: &'static str = "rmrr=keep|relax|block";
    const ALL: &'static [(&'static str, Self)] = &[
        ("keep", Self::Keep),
        ("relax", Self::Relax),
        ("block", Self::Block),
    ];
}

/// What becomes of display devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Graphics {
    /// They are remapped like all others.
    #[default]
    Remap,
    /// They are left as the firmware set them up: bus masters that reach all of memory at its
    /// own addresses. None is given to a guest.
    Leave,
}

impl Choice for Graphics {
    const USAGE: &'static str = "graphics=remap|leave";
    const ALL: &'static [(&'static str, Self)] = &[("remap", Self::Remap), ("leave", Self::Leave)];
}

/// Which devices may translate for themselves (address translation services).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum TranslationServices {
    /// None: each request of a device is looked at by its unit.
    #[default]
    Off,
    /// Those that the firmware vouches for (§8.5, §8.8, §8.9), while a guest has them. What they say is
    /// translated is not looked at again.
    Vouched,
}

impl Choice for TranslationServices {
    const USAGE: &'static str = "ats=off|vouched";
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("vouched", Self::Vouched)];
}

/// What becomes of passthrough where interrupts are not remapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum UnremappedInterrupts {
    /// No device is given to a guest: it could raise any interrupt of the host's.
    #[default]
    Refuse,
    /// Devices are given all the same, and the log says what that means.
    Allow,
}

impl Choice for UnremappedInterrupts {
    const USAGE: &'static str = "unremapped-interrupts=refuse|allow";
    const ALL: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("allow", Self::Allow)];
}

/// How the units are dumped once they translate, and again at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum DumpForm {
    /// Decoded.
    Text,
    /// As words, for `cargo xtask decode`.
    Raw,
    /// Both, of one and the same reading.
    Both,
}

impl Choice for DumpForm {
    const USAGE: &'static str = "dump=text|raw|both";
    const ALL: &'static [(&'static str, Self)] = &[
        ("text", Self::Text),
        ("raw", Self::Raw),
        ("both", Self::Both),
    ];
}

/// Whether a person can ask for more on the serial port before the kernel ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum MonitorSwitch {
    /// No.
    #[default]
    Off,
    /// On the first serial port, until `quit`.
    Com1,
}

impl Choice for MonitorSwitch {
    const USAGE: &'static str = "monitor=off|com1";
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("com1", Self::Com1)];
}

/// How the machine is given to the next kernel, `next.elf` of the boot module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum HandOver {
    /// The units are shut down first.
    Off,
    /// The units go on translating, with tables in memory that the next kernel is told not
    /// to use.
    On,
}

impl Choice for HandOver {
    const USAGE: &'static str = "hand-over=off|on";
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("on", Self::On)];
}

/// A device as the command line names it: `SEGMENT:BB:DD.F`, all hexadecimal.
pub fn device(text: &str) -> Option<DeviceId> {
    let (segment, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let source = SourceId::new(
        hexadecimal(bus, 2)?.try_into().ok()?,
        hexadecimal(device, 2)?.try_into().ok()?,
        hexadecimal(function, 1)?.try_into().ok()?,
    )?;
    let segment = Segment(hexadecimal(segment, 4)?.try_into().ok()?);
    Some(DeviceId::new(segment, source))
}

/// `from_str_radix` would take a sign too.
pub(super) fn hexadecimal(text: &str, most: usize) -> Option<u64> {
    let fits = (1..=most).contains(&text.len());
    let all_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (fits && all_digits)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_segment_bus_device_and_function() {
        let expected = DeviceId::new(Segment(1), SourceId::new(0x3a, 0x1f, 7).unwrap());
        assert_eq!(device("0001:3a:1f.7"), Some(expected));
        assert_eq!(device("1:3a:1f.7"), Some(expected));
        for text in [
            "3a:1f.7",
            "0001:3a:1f",
            "0001:3a:20.0",
            "0001:3a:1f.8",
            "0001:100:1f.7",
            "+1:3a:1f.7",
            "10000:3a:1f.7",
            "",
        ] {
            assert_eq!(device(text), None, "{text}");
        }
    }
}
