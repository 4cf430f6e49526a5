//! Which devices keep what they reach when the units begin to translate, and which may be
//! given to guests: the switches of the command line, applied to one device at a time.
//!
//! Facts come in, a decision with its reason goes out; nothing here touches the machine.

use crate::command_line::{
    CommandLine, Graphics, ReservedRegions, TranslationServices, UnremappedInterrupts,
};
use arrayvec::ArrayVec;
use core::fmt;
use iommu_core::DeviceId;
use pci::Bond;

/// What the switches say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    denied: ArrayVec<DeviceId, 16>,
    reserved_regions: ReservedRegions,
    graphics: Graphics,
    translation_services: TranslationServices,
    unremapped_interrupts: UnremappedInterrupts,
}

/// What is known of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Which.
    pub id: DeviceId,
    /// Its base class (PCI code and id assignment).
    pub class: u8,
    /// Its sub-class.
    pub sub_class: u8,
    /// It is a bridge.
    pub is_bridge: bool,
    /// The DMAR lists a region that it must keep reaching.
    pub has_region: bool,
    /// It is a virtual function of another device's.
    pub is_virtual: bool,
    /// What lies behind it is on no bus that is seen, and requests under its id or under ids
    /// that are no function's (Intel's VMD, non-transparent bridges).
    pub carries_others: bool,
    /// Under how many ids its requests may come; any number above what is kept track of stands
    /// for all.
    pub ids: usize,
}

/// Base class of display controllers.
const DISPLAY: u8 = 0x03;
/// Base class and sub-class of USB controllers.
const USB: (u8, u8) = (0x0c, 0x03);

impl Facts {
    fn is_display(&self) -> bool {
        self.class == DISPLAY
    }

    fn is_usb(&self) -> bool {
        (self.class, self.sub_class) == USB
    }
}

/// What a device reaches once its unit translates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nothing, until it is given something.
    Nothing,
    /// Nothing, because the command line denies it.
    Denied,
    /// Nothing, although it has reserved regions: the command line says so.
    RegionsBlocked,
    /// Its reserved regions.
    Regions,
    /// All of memory, as before: it is a display device that is left alone.
    Everything,
}

impl Reach {
    /// Whether it stays a bus master while the units are brought up.
    pub const fn keeps_mastering(self) -> bool {
        matches!(self, Self::Regions | Self::Everything)
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "blocked",
            Self::Denied => "blocked for good (deny=)",
            Self::RegionsBlocked => "blocked, its reserved regions too (rmrr=block)",
            Self::Regions => "keeps its reserved regions",
            Self::Everything => "keeps all of memory (graphics=leave)",
        }
    }
}

/// Why a device is not given to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The command line denies it.
    Denied,
    /// It has reserved regions, which it must not lose (§8.4).
    ReservedRegion,
    /// It is a display device that is left alone.
    LeftAlone,
    /// Interrupts are not remapped: it could raise any interrupt of the host's.
    UnremappedInterrupts,
    /// It is a bridge.
    Bridge,
    /// It is a virtual function.
    VirtualFunction,
    /// Others request under its id.
    CarriesOthers,
    /// Its requests come under more ids than are kept track of.
    TooManyIds,
    /// Another device, which cannot be kept apart from it, keeps memory.
    Companion {
        /// The other.
        companion: DeviceId,
        /// What it keeps.
        reach: Reach,
        /// What ties the two.
        bond: Option<Bond>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Companion {
            companion,
            reach,
            bond,
        } = self
        {
            write!(
                f,
                "it is in one group with {companion}, which {}",
                reach.name()
            )?;
            return match bond {
                Some(bond) => write!(f, ": {bond}"),
                None => Ok(()),
            };
        }
        f.write_str(match self {
            Self::Denied => "the command line denies it (deny=)",
            Self::ReservedRegion => {
                "the firmware reserves memory for it (RMRR), which it would lose; rmrr=relax allows that for USB controllers and display devices"
            }
            Self::LeftAlone => "it is a display device, and those are left alone (graphics=leave)",
            Self::UnremappedInterrupts => {
                "interrupts are not remapped, so it could raise any interrupt of the host's; turn interrupt remapping on in the firmware's set-up, or accept that by unremapped-interrupts=allow"
            }
            Self::Bridge => "it is a bridge",
            Self::VirtualFunction => {
                "it is a virtual function (SR-IOV), whose physical function would have to be driven here; give that one away as a whole"
            }
            Self::CarriesOthers => {
                "what lies behind it is on no bus that is seen and requests under its id or its bus's (VMD, which the firmware's set-up can turn off, or a non-transparent bridge)"
            }
            Self::TooManyIds => {
                "its requests may come under the ids of more bridges and phantom functions than are kept track of; put it behind fewer bridges"
            }
            Self::Companion { .. } => "of its companions",
        })
    }
}

impl Rules {
    /// Those of a command line.
    pub fn of(line: &CommandLine) -> Self {
        Self {
            denied: line.denied.clone(),
            reserved_regions: line.reserved_regions,
            graphics: line.graphics,
            translation_services: line.translation_services,
            unremapped_interrupts: line.unremapped_interrupts,
        }
    }

    /// The same, with display devices left alone: for machines on which they are not
    /// remapped correctly.
    pub fn leaving_graphics(mut self) -> Self {
        self.graphics = Graphics::Leave;
        self
    }

    /// Devices that are denied, whether they exist or not.
    pub fn denied(&self) -> &[DeviceId] {
        &self.denied
    }

    /// Whether devices may be given to guests where interrupts are not remapped.
    pub fn allows_unremapped_interrupts(&self) -> bool {
        self.unremapped_interrupts == UnremappedInterrupts::Allow
    }

    /// Whether devices that the firmware vouches for may translate for themselves.
    pub fn lets_vouched_translate(&self) -> bool {
        self.translation_services == TranslationServices::Vouched
    }

    /// What the device reaches once its unit translates.
    pub fn reach(&self, facts: &Facts) -> Reach {
        if self.denied.contains(&facts.id) {
            return Reach::Denied;
        }
        if facts.is_display() && self.graphics == Graphics::Leave {
            return Reach::Everything;
        }
        match (facts.has_region, self.reserved_regions) {
            (false, _) => Reach::Nothing,
            (true, ReservedRegions::Block) => Reach::RegionsBlocked,
            (true, ReservedRegions::Keep | ReservedRegions::Relax) => Reach::Regions,
        }
    }

    /// Whether the device may be given to a guest.
    pub fn pass_through(&self, facts: &Facts, interrupts_remapped: bool) -> Result<(), Refusal> {
        if self.denied.contains(&facts.id) {
            return Err(Refusal::Denied);
        }
        if facts.is_bridge {
            return Err(Refusal::Bridge);
        }
        if facts.is_virtual {
            return Err(Refusal::VirtualFunction);
        }
        if facts.carries_others {
            return Err(Refusal::CarriesOthers);
        }
        if facts.ids > iommu::MAX_REQUESTERS {
            return Err(Refusal::TooManyIds);
        }
        if facts.is_display() && self.graphics == Graphics::Leave {
            return Err(Refusal::LeftAlone);
        }
        let relaxed = self.reserved_regions == ReservedRegions::Relax
            && (facts.is_display() || facts.is_usb());
        if facts.has_region && self.reserved_regions != ReservedRegions::Block && !relaxed {
            return Err(Refusal::ReservedRegion);
        }
        if !interrupts_remapped && self.unremapped_interrupts == UnremappedInterrupts::Refuse {
            return Err(Refusal::UnremappedInterrupts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::device;

    fn rules(line: &str) -> Rules {
        Rules::of(&CommandLine::parse(line).unwrap())
    }

    fn facts(class: u8, sub_class: u8, has_region: bool) -> Facts {
        Facts {
            id: device("0:0:4.0").unwrap(),
            class,
            sub_class,
            is_bridge: false,
            has_region,
            is_virtual: false,
            carries_others: false,
            ids: 1,
        }
    }

    const NETWORK: u8 = 0x02;

    #[test]
    fn a_device_without_anything_special_is_blocked_and_can_be_given_away() {
        let network = facts(NETWORK, 0, false);
        assert_eq!(rules("").reach(&network), Reach::Nothing);
        assert_eq!(rules("").pass_through(&network, true), Ok(()));
    }

    #[test]
    fn a_denied_device_reaches_nothing_even_where_firmware_reserves_memory_for_it() {
        let denying = rules("deny=0:0:4.0 graphics=leave");
        let other = rules("deny=0:0:5.0 graphics=leave");
        let display = facts(DISPLAY, 0, true);
        assert_eq!(denying.reach(&display), Reach::Denied);
        assert_eq!(other.reach(&display), Reach::Everything);
        let network = facts(NETWORK, 0, false);
        assert_eq!(denying.pass_through(&network, true), Err(Refusal::Denied));
        assert_eq!(other.pass_through(&network, true), Ok(()));
    }

    #[test]
    fn reserved_regions_are_kept_unless_told_otherwise() {
        let storage = facts(0x01, 0x06, true);
        assert_eq!(rules("").reach(&storage), Reach::Regions);
        assert_eq!(rules("rmrr=relax").reach(&storage), Reach::Regions);
        assert_eq!(rules("rmrr=block").reach(&storage), Reach::RegionsBlocked);
    }

    #[test]
    fn only_usb_and_display_devices_can_lose_their_regions_to_a_guest() {
        let (usb, display) = (facts(0x0c, 0x03, true), facts(DISPLAY, 0, true));
        let (firewire, storage) = (facts(0x0c, 0x00, true), facts(0x01, 0x06, true));
        for device in [usb, display, firewire, storage] {
            assert_eq!(
                rules("").pass_through(&device, true),
                Err(Refusal::ReservedRegion)
            );
        }
        let relaxed = rules("rmrr=relax");
        assert_eq!(relaxed.pass_through(&usb, true), Ok(()));
        assert_eq!(relaxed.pass_through(&display, true), Ok(()));
        for device in [firewire, storage] {
            assert_eq!(
                relaxed.pass_through(&device, true),
                Err(Refusal::ReservedRegion)
            );
        }
    }

    #[test]
    fn no_device_is_given_away_without_interrupt_remapping_unless_told_otherwise() {
        let network = facts(NETWORK, 0, false);
        assert_eq!(
            rules("").pass_through(&network, false),
            Err(Refusal::UnremappedInterrupts)
        );
        let loud = rules("unremapped-interrupts=allow");
        assert_eq!(loud.pass_through(&network, false), Ok(()));
    }

    #[test]
    fn graphics_that_are_left_alone_stay_with_the_host() {
        let display = facts(DISPLAY, 0, false);
        let leaving = rules("graphics=leave");
        assert_eq!(leaving.reach(&display), Reach::Everything);
        assert!(leaving.reach(&display).keeps_mastering());
        assert_eq!(
            leaving.pass_through(&display, true),
            Err(Refusal::LeftAlone)
        );
        assert_eq!(rules("").pass_through(&display, true), Ok(()));
        let network = facts(NETWORK, 0, false);
        assert_eq!(leaving.reach(&network), Reach::Nothing);
    }

    #[test]
    fn nothing_translates_for_itself_unless_told() {
        assert!(!rules("").lets_vouched_translate());
        assert!(!rules("ats=off").lets_vouched_translate());
        assert!(rules("ats=vouched").lets_vouched_translate());
    }

    #[test]
    fn bridges_are_not_given_away() {
        let bridge = Facts {
            is_bridge: true,
            ..facts(0x06, 0x04, false)
        };
        assert_eq!(rules("").pass_through(&bridge, true), Err(Refusal::Bridge));
    }

    #[test]
    fn what_stands_for_others_and_what_another_stands_for_is_refused_by_name() {
        let plain = facts(NETWORK, 0, false);
        let part = Facts {
            is_virtual: true,
            ..plain
        };
        let whole = Facts {
            carries_others: true,
            ..plain
        };
        let refused = |facts| rules("").pass_through(&facts, true);
        assert_eq!(refused(part), Err(Refusal::VirtualFunction));
        assert_eq!(refused(whole), Err(Refusal::CarriesOthers));
        assert_eq!(refused(plain), Ok(()));
    }

    #[test]
    fn a_device_whose_ids_cannot_all_be_kept_is_refused() {
        let with = |ids| Facts {
            ids,
            ..facts(NETWORK, 0, false)
        };
        let given = |ids| rules("").pass_through(&with(ids), true);
        assert_eq!(given(iommu::MAX_REQUESTERS), Ok(()));
        assert_eq!(given(iommu::MAX_REQUESTERS + 1), Err(Refusal::TooManyIds));
    }

    #[test]
    fn graphics_that_are_not_remapped_correctly_are_left_alone_unasked() {
        let display = facts(DISPLAY, 0, false);
        let leaving = rules("").leaving_graphics();
        assert_eq!(leaving.reach(&display), Reach::Everything);
        assert_eq!(
            leaving.pass_through(&display, true),
            Err(Refusal::LeftAlone)
        );
    }

    #[test]
    fn a_companion_that_keeps_memory_is_named_with_what_ties_them() {
        let refusal = Refusal::Companion {
            companion: device("0:2:1.0").unwrap(),
            reach: Reach::Regions,
            bond: Some(Bond::Port(device("0:0:1c.0").unwrap())),
        };
        assert_eq!(
            std::format!("{refusal}"),
            "it is in one group with 0000:02:01.0, which keeps its reserved regions: \
             0000:00:1c.0 lets what is behind it reach each other (access control services)"
        );
    }
}
