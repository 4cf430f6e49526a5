//! Whether a guest's device may ask for pages: its unit takes requests, the device makes them,
//! whoever started the kernel allows ATS, and the device's path and firmware's word make it
//! trusted.
//!
//! Facts come in, a decision with its reason goes out.

use super::Distrust;
use core::fmt;
use pci::TranslationServices;

/// Why a device does not ask for pages: the first condition that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mute {
    /// The device has no page requests (PRI).
    Device,
    /// Its unit takes none (ECAP.PRS), or they are off.
    Unit,
    /// It is a virtual function: its requests are its physical function's.
    Virtual,
    /// The command line allows no device to translate for itself.
    NotAllowed,
    /// It is not trusted with translations.
    Distrusted(Distrust),
}

impl fmt::Display for Mute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("the device has no page requests (PRI)"),
            Self::Unit => f.write_str("its unit takes no page requests (ECAP.PRS)"),
            Self::Virtual => f.write_str("a virtual function asks by its physical one"),
            Self::NotAllowed => {
                f.write_str("no device may translate for itself; ats=vouched allows it")
            }
            Self::Distrusted(why) => write!(f, "{why}"),
        }
    }
}

/// Whether a device with these services asks for pages, behind a unit that takes requests or
/// not (`unit_takes`), where that is `allowed`.
pub fn may_ask(
    services: &TranslationServices,
    unit_takes: bool,
    allowed: bool,
    trust: impl FnOnce() -> Result<(), Distrust>,
) -> Result<(), Mute> {
    if !services.has_page_requests() {
        return Err(Mute::Device);
    }
    if services.is_virtual() {
        return Err(Mute::Virtual);
    }
    if !unit_takes {
        return Err(Mute::Unit);
    }
    if !allowed {
        return Err(Mute::NotAllowed);
    }
    trust().map_err(Mute::Distrusted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pci::fake::{Machine, id, scanned};

    /// All conditions but one hold; which, says the reason.
    #[test]
    fn a_device_asks_only_where_all_allow_it() {
        let machine = Machine::new();
        machine.root_port(0, 1, 0, 1, 1);
        machine.express(1, 0, 0, 0).translation_services(0x180);
        machine.root_port(0, 3, 0, 3, 3);
        machine.express(3, 0, 0, 0);
        let topology = scanned(&machine);
        let services = |device| {
            let function = topology.function(device).unwrap();
            TranslationServices::of(function)
        };
        let (able, unable) = (services(id(1, 0, 0)), services(id(3, 0, 0)));
        let port = Distrust::PortNotListed(id(0, 1, 0));
        let trusted = || Ok(());
        assert_eq!(may_ask(&able, true, true, trusted), Ok(()));
        assert_eq!(may_ask(&unable, true, true, trusted), Err(Mute::Device));
        assert_eq!(may_ask(&able, false, true, trusted), Err(Mute::Unit));
        assert_eq!(may_ask(&able, true, false, trusted), Err(Mute::NotAllowed));
        assert_eq!(
            may_ask(&able, true, true, || Err(port)),
            Err(Mute::Distrusted(port))
        );
    }
}
