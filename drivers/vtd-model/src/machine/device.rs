//! Devices: their device-TLBs (§4.1, §6.3), and how they answer invalidations (§4.3).

use super::Machine;
use crate::caches::{Iotlb, Mapping, NO_PASID, Translation};
use crate::faults::page_request::{PageRequest, PageResponse};
use crate::queue::descriptor::{DevicePasid, DeviceRange};
use crate::queue::{DeviceInvalidation, Outgoing};
use crate::remapping::{Access, Completion, Outcome, Request, Typing};
use crate::tables::second_stage;

/// When a device answers an invalidation request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promptness {
    /// At the next tick.
    Prompt,
    /// After so many ticks.
    Late(u64),
    /// Never: the invalidation times out (ITE).
    Never,
}

/// A device behind a unit.
pub(crate) struct Device {
    pub(crate) unit: usize,
    pub(crate) ats: bool,
    pub(crate) promptness: Promptness,
    /// Sends its PASIDs along with translated requests too.
    translated_pasid: bool,
    /// The device-TLB.
    pub(crate) tlb: Iotlb,
    /// Invalidation requests that were received and not answered, with what the device may
    /// go on using until it answers.
    inbox: Vec<(DeviceInvalidation, Iotlb)>,
}

impl Device {
    pub(crate) fn new(unit: usize) -> Self {
        Self {
            unit,
            ats: false,
            promptness: Promptness::Prompt,
            translated_pasid: false,
            tlb: Iotlb::default(),
            inbox: Vec::new(),
        }
    }

    pub(crate) fn with_tlb(unit: usize, promptness: Promptness) -> Self {
        Self {
            ats: true,
            promptness,
            ..Self::new(unit)
        }
    }

    /// Everything that the device may use: its device-TLB, and what it has not answered for.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Iotlb> {
        std::iter::once(&self.tlb).chain(self.inbox.iter().map(|(_, kept)| kept))
    }

    /// An invalidation request arrives: the entries go, but until the answer the device may
    /// still use them, and meanwhile it may ask for the same pages again.
    fn receive(&mut self, source: u16, invalidation: DeviceInvalidation) {
        let kept = self.tlb.clone();
        self.invalidate(source, &invalidation.range);
        self.inbox.push((invalidation, kept));
    }

    /// Drops what an invalidation request names (§6.5.2.5, §6.5.2.6).
    fn invalidate(&mut self, source: u16, range: &DeviceRange) {
        let key = match range.pasid {
            DevicePasid::None => Some(NO_PASID),
            DevicePasid::One(pasid) => Some(pasid),
            DevicePasid::All => None,
        };
        self.tlb.remove_space(
            |owner, pasid| owner == source && key.map_or(pasid != NO_PASID, |key| key == pasid),
            range.range,
        );
    }
}

impl Machine {
    /// A device that arrives later (hot plug), or comes back from a reset with an empty
    /// device-TLB. `ats`: how it answers invalidations, if it has a device-TLB.
    pub fn plug(&mut self, source: u16, unit: usize, ats: Option<Promptness>) {
        let device = Device {
            ats: ats.is_some(),
            promptness: ats.unwrap_or(Promptness::Prompt),
            ..Device::new(unit)
        };
        self.devices.insert(source, device);
        self.rebuild_unit(unit);
    }

    /// A device leaves. Its invalidations will not be answered any more.
    pub fn unplug(&mut self, source: u16) {
        self.devices.remove(&source);
    }

    /// Changes how a device answers.
    pub fn set_promptness(&mut self, source: u16, promptness: Promptness) {
        if let Some(device) = self.devices.get_mut(&source) {
            device.promptness = promptness;
        }
    }

    /// Turns a device's own use of ATS on or off, as software does in its ATS capability. A
    /// device that has it off asks for no translations and keeps none; it goes on answering
    /// invalidations. Those of [`Builder::ats_device`](crate::Builder::ats_device) begin with
    /// it on.
    pub fn switch_ats(&mut self, source: u16, on: bool) {
        let Some(device) = self.devices.get_mut(&source) else {
            return;
        };
        device.ats = on;
        if on {
            let unit = device.unit;
            self.rebuild_unit(unit);
        } else {
            device.tlb = Iotlb::default();
            for (_, kept) in &mut device.inbox {
                *kept = Iotlb::default();
            }
        }
    }

    /// Whether a device sends its PASIDs along with translated requests, which only a unit
    /// with ECAP.PTRS takes, and only where the context entry has EPTR set (§9.4).
    pub fn set_translated_pasid(&mut self, source: u16, sends: bool) {
        if let Some(device) = self.devices.get_mut(&source) {
            device.translated_pasid = sends;
        }
    }

    /// A device answers an invalidation request that nobody sent it (ICE).
    pub fn stray_completion(&mut self, source: u16) {
        if let Some(unit) = self.unit_of(source) {
            self.units[unit].device_answers(&mut self.world, source, u64::MAX);
        }
    }

    /// One access of a device with a device-TLB: a hit becomes a translated request;
    /// otherwise a translation is asked for, kept, and used. A [`Completion`] without the
    /// needed right is returned as such: the device may ask for the page.
    pub fn ats_access(
        &mut self,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        access: Access,
    ) -> Outcome {
        let key = pasid.unwrap_or(NO_PASID);
        let request = Request {
            pasid,
            ..Request::new(source, address, access)
        };
        let held = self.devices.get(&source).and_then(|device| {
            let entry = device
                .tlb
                .find(source, key, address)
                .find(|entry| is_usable(entry, access))?;
            Some(entry.mapping.apply(address))
        });
        let target = match held {
            Some(target) => target,
            None => match self.request(&request.translation(!access.writes())) {
                Outcome::Completion(completion) => {
                    match self.keep(source, key, address, &completion, access) {
                        Some(target) => target,
                        None => return Outcome::Completion(completion),
                    }
                }
                other => return other,
            },
        };
        // Whether the PASID goes along is the device's choice.
        let device = self.devices.get(&source);
        let sends = device.is_some_and(|device| device.translated_pasid);
        self.request(
            &Request {
                pasid: pasid.filter(|_| sends),
                address: target,
                ..request
            }
            .translated(),
        )
    }

    fn keep(
        &mut self,
        source: u16,
        key: u32,
        address: u64,
        completion: &Completion,
        access: Access,
    ) -> Option<u64> {
        let rights = second_stage::Rights {
            read: completion.read,
            write: completion.write,
        };
        let mapping = Mapping {
            output: completion.address,
            shift: completion.shift,
            second: rights,
            typing: Typing::Unsaid,
            ..Mapping::unity(false, completion.snoop)
        };
        if !grants(&mapping, access) || completion.untranslated_only {
            return None;
        }
        let entry = Translation {
            mapping,
            fault: None,
            domain: 0,
            pasid: key,
            born: self.world.step,
            accessed: true,
        };
        if let Some(device) = self.devices.get_mut(&source).filter(|device| device.ats) {
            device.tlb.add(source, key, address, entry);
        }
        Some(mapping.apply(address))
    }

    /// A device sends a page request message (§7.4).
    pub fn page_request(&mut self, request: &PageRequest) {
        let Some(unit) = self.unit_of(request.source) else {
            return;
        };
        let (answer, removal) = self.units[unit].receive_page_request(&mut self.world, request);
        self.responses.extend(answer);
        self.after_removal(unit, removal);
    }

    /// Page group responses that reached devices since the last call.
    pub fn take_responses(&mut self) -> Vec<PageResponse> {
        std::mem::take(&mut self.responses)
    }

    /// Messages of a unit reach their devices.
    pub(crate) fn deliver(&mut self, outgoing: Vec<Outgoing>) {
        for message in outgoing {
            match message {
                Outgoing::Respond(response) => self.responses.push(response),
                Outgoing::Invalidate(invalidation) => {
                    let source = invalidation.range.source;
                    if let Some(device) = self.devices.get_mut(&source) {
                        device.receive(source, invalidation);
                        self.refill_device(source);
                    }
                }
            }
        }
    }

    /// Devices answer what they have had for long enough.
    pub(crate) fn devices_answer(&mut self) {
        let sources: Vec<u16> = self.devices.keys().copied().collect();
        for source in sources {
            let Some(device) = self.devices.get_mut(&source) else {
                continue;
            };
            for (invalidation, _) in &mut device.inbox {
                invalidation.age += 1;
            }
            let wait = match device.promptness {
                Promptness::Prompt => 0,
                Promptness::Late(ticks) => ticks,
                Promptness::Never => continue,
            };
            let due = device
                .inbox
                .extract_if(.., |(message, _)| message.age > wait);
            let due: Vec<u64> = due.map(|(message, _)| message.tag).collect();
            let unit = device.unit;
            for tag in due {
                self.units[unit].device_answers(&mut self.world, source, tag);
            }
        }
    }

    /// The device may ask again for everything that the unit would answer: what its IOTLB
    /// may hold.
    fn refill_device(&mut self, source: u16) {
        let Some(unit) = self.unit_of(source).filter(|_| self.world.pessimist) else {
            return;
        };
        if !self.prefetch_of(unit).lets_device_keep(source) {
            return;
        }
        let Some(device) = self.devices.get_mut(&source).filter(|device| device.ats) else {
            return;
        };
        for (owner, key, address, entry) in self.units[unit].caches.iotlb.iter() {
            if owner == source {
                device.tlb.add(source, key, address, *entry);
            }
        }
    }

    pub(crate) fn unit_of(&self, source: u16) -> Option<usize> {
        self.devices.get(&source).map(|device| device.unit)
    }
}

/// Whether the device may go by an entry without asking. What is only assumed to have been
/// asked for ahead has set no flags, and the unit sets them before it completes a request for
/// a translation (§4.2.3.1): so the device asks now.
fn is_usable(entry: &Translation, access: Access) -> bool {
    let flagged = entry.accessed && (entry.mapping.dirty || !access.writes());
    flagged && grants(&entry.mapping, access)
}

fn grants(mapping: &Mapping, access: Access) -> bool {
    let rights = mapping.rights(false);
    (!access.reads() || rights.read) && (!access.writes() || rights.write)
}
