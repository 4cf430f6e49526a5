//! The driver's events, told.

use super::{Interrupts, Invalidation, Lacks, LeftBehind, Translation};
use core::fmt;
use vtd::{Abilities, Event, Restraint};

/// Who wants to hear of an event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Importance {
    /// Who traces registers and descriptors.
    Trace,
    /// Who follows each step.
    Debug,
    /// Everybody.
    Info,
    /// Whoever is to do something.
    Warn,
}

/// An event in words.
#[derive(Clone, Copy)]
pub struct Told<'a>(pub &'a Event);

impl Told<'_> {
    /// Who wants to hear of it.
    pub fn importance(&self) -> Importance {
        match self.0 {
            Event::RegisterWritten { .. } | Event::Queued { .. } => Importance::Trace,
            Event::Discovered { .. }
            | Event::Firmware { .. }
            | Event::ModeChosen { .. }
            | Event::InterruptRemappingOn { .. }
            | Event::TranslationOn { .. }
            | Event::TurnedOff { .. }
            | Event::ProtectedMemoryOff { .. }
            | Event::FloodOver { .. } => Importance::Info,
            Event::QueueOn { .. } | Event::Attached { .. } | Event::Fault(_) => Importance::Debug,
            Event::FirmwareQueueNotEmpty { .. }
            | Event::TranslationWindow { .. }
            | Event::Flood { .. }
            | Event::FaultsLost { .. }
            | Event::PageRequestsLost { .. }
            | Event::DescriptorRefused { .. }
            | Event::DeviceSilent { .. }
            | Event::UnexpectedCompletion { .. }
            | Event::Isolated { .. }
            | Event::Quarantined { .. } => Importance::Warn,
            // Events that came later than this table.
            _ => Importance::Info,
        }
    }
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 {
            Event::RegisterWritten {
                unit,
                register,
                offset,
                value,
            } => write!(f, "unit {unit}: {register} ({offset:#x}) = {value:#x}"),
            Event::Queued { unit, descriptor } => write!(f, "unit {unit}: queued {descriptor:?}"),
            Event::Discovered {
                unit,
                register_base,
                version,
                capability,
                extended_capability,
            } => write!(
                f,
                "unit {unit} at {register_base}: VT-d {}.{}, CAP {:#x}, ECAP {:#x}",
                version.max(),
                version.min(),
                capability.into_bits(),
                extended_capability.into_bits()
            ),
            Event::Firmware { unit, ref state } => {
                write!(f, "unit {unit}: firmware left {}", LeftBehind(state))
            }
            Event::FirmwareQueueNotEmpty { unit } => write!(
                f,
                "unit {unit}: firmware's invalidation queue never ran empty; it is turned off as it stands"
            ),
            Event::ModeChosen { unit, choice } => write!(
                f,
                "unit {unit}: will use {} mode ({}), tables of {} levels for {} bits",
                choice.mode().name(),
                choice.reason(),
                choice.format().levels(),
                choice.format().input_bits()
            ),
            Event::QueueOn { unit, slots } => {
                write!(f, "unit {unit}: invalidation queue on, {slots} slots")
            }
            Event::InterruptRemappingOn {
                unit,
                entries,
                extended,
            } => write!(
                f,
                "unit {unit}: interrupts are remapped by {entries} entries, APIC ids of {} bits, compatibility format blocked",
                if extended { 32 } else { 8 }
            ),
            Event::TranslationWindow { unit } => write!(
                f,
                "unit {unit}: the table mode changes and this unit cannot do that live: devices reach memory untranslated until translation is on again"
            ),
            Event::TranslationOn { unit } => write!(
                f,
                "unit {unit}: translation on; what is not attached is blocked"
            ),
            Event::TurnedOff { unit } => write!(
                f,
                "unit {unit}: turned off; devices reach memory untranslated"
            ),
            Event::ProtectedMemoryOff { unit } => write!(
                f,
                "unit {unit}: firmware's protected memory regions are off, our tables protect"
            ),
            Event::Attached {
                device,
                pasid,
                domain,
                domain_id,
            } => {
                write!(f, "{device}")?;
                if let Some(pasid) = pasid {
                    write!(f, ", PASID {},", pasid.as_u32())?;
                }
                match domain {
                    Some(_) => write!(f, " is attached, domain id {domain_id}"),
                    None if domain_id == 0 => f.write_str(" is blocked"),
                    None => f.write_str(" is passed through"),
                }
            }
            Event::Fault(ref record) => write!(f, "fault: {record:?}"),
            Event::Flood {
                device,
                faults,
                interrupts,
                restraint,
            } => write!(
                f,
                "{device}: {faults} {} refused in a short time; until its pause is over {}",
                if interrupts { "interrupts" } else { "requests" },
                match restraint {
                    Restraint::Silenced => "its faults are not recorded",
                    Restraint::Blocked => "it reaches nothing",
                    Restraint::EventMasked =>
                        "its unit's faults are read by the timer, and raise no interrupt",
                }
            ),
            Event::FloodOver { device } => {
                write!(f, "{device}: the pause after too many faults is over")
            }
            Event::FaultsLost { unit } => write!(
                f,
                "unit {unit}: more faults came than it can record; some are lost"
            ),
            Event::PageRequestsLost { unit } => write!(
                f,
                "unit {unit}: the page request queue overflowed; devices were told to try again"
            ),
            Event::DescriptorRefused {
                unit,
                slot,
                code,
                words: [low, high],
            } => write!(
                f,
                "unit {unit}: refused the descriptor in slot {slot} (IQEI {code}): {low:#018x} {high:#018x}; it was replaced and the queue goes on"
            ),
            Event::DeviceSilent { unit, source } => match source {
                Some(source) => write!(
                    f,
                    "unit {unit}: device {source} does not answer an invalidation; it is cut off"
                ),
                None => write!(
                    f,
                    "unit {unit}: a device does not answer an invalidation, and the unit does not say which"
                ),
            },
            Event::UnexpectedCompletion { unit, source } => write!(
                f,
                "unit {unit}: device {source} answered an invalidation that nobody had sent"
            ),
            Event::Isolated { device } => write!(
                f,
                "{device} is cut off from memory: its cache cannot be invalidated"
            ),
            Event::Quarantined { frames } => write!(
                f,
                "{frames} pages of table memory are parked for ever: hardware did not confirm that it forgot them"
            ),
            ref other => write!(f, "{other:?}"),
        }
    }
}

/// Everything that a unit can do, one sentence at a time.
pub fn abilities(abilities: &Abilities, mut tell: impl FnMut(fmt::Arguments<'_>)) {
    tell(format_args!("translates: {}", Translation(abilities)));
    tell(format_args!("caches: {}", Invalidation(abilities)));
    tell(format_args!("interrupts: {}", Interrupts(abilities)));
    tell(format_args!("lacks: {}", Lacks(abilities)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn warnings_say_what_happened_and_what_now() {
        let event = Event::TranslationWindow { unit: 2 };
        assert_eq!(Told(&event).importance(), Importance::Warn);
        let text = Told(&event).to_string();
        assert!(
            text.starts_with("unit 2: ") && text.contains("until"),
            "{text}"
        );
    }

    #[test]
    fn no_sentence_shows_a_rust_structure() {
        use vtd::registers::{Cap, Ecap, Ver};
        let events = [
            Event::Discovered {
                unit: 0,
                register_base: iommu_core::Hpa::new(0xfed9_0000),
                version: Ver::new().with_max(1),
                capability: Cap::new(),
                extended_capability: Ecap::new(),
            },
            Event::Firmware {
                unit: 0,
                state: vtd::FirmwareState::default(),
            },
            Event::TranslationOn { unit: 0 },
            Event::Quarantined { frames: 3 },
        ];
        for event in &events {
            let text = format!("{}", Told(event));
            assert!(!text.contains('{'), "{text}");
        }
    }
}
