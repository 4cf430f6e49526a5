//! Containment: what a device's requests may reach belongs to its owner.

use super::Owner;
use super::permission::permitting;
use crate::caches::{NO_PASID, Translation};
use crate::machine::drain::Underway;
use crate::machine::{Discovered, Machine};
use crate::violation::Rule;

impl Machine {
    /// Gives `bytes` of host memory from `hpa` on to an owner, and checks that nobody else
    /// can reach them any more, through any table or cache. Memory given to
    /// [`Owner::Nobody`] is free: it may not serve as a table either.
    pub fn own(&mut self, hpa: u64, bytes: u64, owner: Owner) {
        let last = hpa.saturating_add(bytes.saturating_sub(1));
        self.oracle.ownership.own(hpa, last, owner);
        self.check_frames(hpa, last);
        if owner == Owner::Nobody {
            self.check_tables(hpa, last);
        }
    }

    /// Says whom a device acts for, or one PASID of it.
    pub fn assign(&mut self, source: u16, pasid: Option<u32>, owner: Owner) {
        self.oracle.ownership.assign(source, pasid, owner);
        self.check_frames(0, u64::MAX);
    }

    /// Checks translations that were not possible before this step.
    pub(crate) fn judge(&mut self, unit: usize, new: &Discovered) {
        for (section, rule) in self.take_broken_rules(unit) {
            if self.oracle.rules.insert(rule.clone()) {
                self.world.violate(Rule::Programming, section, rule);
            }
        }
        if !self.oracle.ownership.is_used() {
            return;
        }
        for (source, key, address, entry) in &new.translations {
            self.contained(unit, *source, *key, *address, entry, "may now be cached");
        }
        for permitted in &new.permitted {
            self.permission_contained(unit, permitted);
        }
    }

    /// Every translation that leads into `first..=last`, in every cache.
    pub(crate) fn check_frames(&mut self, first: u64, last: u64) {
        if !self.oracle.ownership.is_used() {
            return;
        }
        for unit in 0..self.units.len() {
            let held = leading_into(self.units[unit].caches.iotlb.iter(), first, last);
            for (source, key, address, entry) in held {
                self.contained(unit, source, key, address, &entry, "is in the IOTLB");
            }
            for held in self.units[unit].underway.clone() {
                self.underway_contained(unit, &held, first, last);
            }
            for permitted in permitting(&self.units[unit].caches.permissions, first, last) {
                self.permission_contained(unit, &permitted);
            }
        }
        let sources: Vec<u16> = self.devices.keys().copied().collect();
        for source in sources {
            let device = &self.devices[&source];
            let unit = device.unit;
            for (source, key, address, entry) in leading_into(
                device.held().flat_map(crate::caches::Iotlb::iter),
                first,
                last,
            ) {
                let pasid = (key != NO_PASID).then_some(key);
                let frame = entry.mapping.output.max(first);
                let guarded = !entry.mapping.is_unity() && self.prefetch_of(unit).guards(source);
                if !guarded || self.translated_arrives(source, pasid, frame) {
                    self.contained(unit, source, key, address, &entry, "is in the device-TLB");
                }
            }
        }
    }

    /// Requests that were translated before an invalidation must have arrived before the
    /// memory changes hands (§6.5.4).
    fn underway_contained(&mut self, unit: usize, held: &Underway, first: u64, last: u64) {
        let mapping = &held.entry.mapping;
        let inside = mapping.is_unity()
            || mapping.output <= last && first <= mapping.output + ((1 << mapping.shift) - 1);
        let pasid = (held.key != NO_PASID).then_some(held.key);
        let Some(owner) = self
            .oracle
            .ownership
            .owner(held.source, pasid)
            .filter(|_| inside)
        else {
            return;
        };
        let (from, to) = if mapping.is_unity() {
            (first, last & !self.units[unit].config.above_host())
        } else {
            let end = mapping.output + ((1 << mapping.shift) - 1);
            (mapping.output.max(first), end.min(last))
        };
        let foreign = self.oracle.ownership.foreign(from, to, &[owner]);
        let Some((frame, other)) = foreign else {
            return;
        };
        let hosts = owner == Owner::Host && other != Owner::Nobody;
        let known = (held.source, held.key, held.address, frame);
        if hosts || !self.oracle.told.insert(known) {
            return;
        }
        let missing = match (held.drained.reads, held.drained.writes) {
            (true, true) => "the drain ends with the next wait: wait for it",
            (false, true) => "needed: DR in the IOTLB invalidation, and a wait for it",
            (true, false) => "needed: DW in the IOTLB invalidation, and a wait for it",
            (false, false) => {
                "needed: DR and DW in an IOTLB invalidation (type 2) that covers it, and a wait for it"
            }
        };
        let message = format!(
            "a request of {}{} (of {owner:?}) to {:#x} that was translated before the invalidation may still be on its way to {frame:#x}, \
             which now belongs to {other:?} (unit {unit}, domain {:#x}); {missing}",
            name(held.source),
            pasid.map_or(String::new(), |pasid| format!(" with PASID {pasid:#x}")),
            held.address,
            held.entry.domain,
        );
        self.world.violate(Rule::Containment, "§6.5.4", message);
    }

    fn check_tables(&mut self, first: u64, last: u64) {
        for frame in first >> 12..=last >> 12 {
            for unit in 0..self.units.len() {
                if let Some(source) = self.prefetch_of(unit).serves(&self.units[unit], frame) {
                    let message = format!(
                        "frame {:#x} was freed, and unit {unit} may still read it as a table for requests of {}: \
                         unlink it, invalidate with IH = 0 (or coarser), wait, then free it",
                        frame << 12,
                        name(source)
                    );
                    self.world.violate(Rule::Containment, "§6.5.3.6", message);
                }
            }
        }
    }

    fn contained(
        &mut self,
        unit: usize,
        source: u16,
        key: u32,
        address: u64,
        entry: &Translation,
        how: &str,
    ) {
        let pasid = (key != NO_PASID).then_some(key);
        let Some(owner) = self.oracle.ownership.owner(source, pasid) else {
            return;
        };
        let mapping = &entry.mapping;
        let (first, last) = if mapping.is_unity() {
            (0, !self.units[unit].config.above_host())
        } else {
            (mapping.output, mapping.output + ((1 << mapping.shift) - 1))
        };
        let Some((frame, other)) = self.oracle.ownership.foreign(first, last, &[owner]) else {
            return;
        };
        if owner == Owner::Host && other != Owner::Nobody
            || !self.oracle.told.insert((source, key, address, frame))
        {
            return;
        }
        let live = self.live(source, pasid, address, frame);
        let advice = if live {
            "the tables allow it now".to_owned()
        } else {
            self.advice(unit, source, pasid, address, entry)
        };
        let message = format!(
            "{}{} (of {owner:?}) can reach {frame:#x}, which belongs to {other:?}, at address {address:#x}: \
             the translation {how} of unit {unit}, domain {:#x}; {advice}",
            name(source),
            pasid.map_or(String::new(), |pasid| format!(" with PASID {pasid:#x}")),
            entry.domain,
        );
        self.world.violate(Rule::Containment, "§6.2.4", message);
    }

    /// Whether memory alone, without any cache, still leads there.
    fn live(&self, source: u16, pasid: Option<u32>, address: u64, frame: u64) -> bool {
        let unit = self.unit_of(source).unwrap_or(0);
        self.uncached(unit, source, pasid, address)
            .is_some_and(|target| target >> 12 == frame >> 12)
    }

    /// Which invalidation would have removed a translation that memory no longer allows.
    fn advice(
        &self,
        unit: usize,
        source: u16,
        pasid: Option<u32>,
        address: u64,
        entry: &Translation,
    ) -> String {
        let in_unit = self.units[unit]
            .caches
            .iotlb
            .find(source, pasid.unwrap_or(NO_PASID), address)
            .any(|held| held == entry);
        let mask = entry.mapping.shift.saturating_sub(12);
        let domain = entry.domain;
        if !in_unit {
            let kind = if pasid.is_some() {
                "PASID-based device-TLB (type 8)"
            } else {
                "device-TLB (type 3)"
            };
            return format!(
                "the tables no longer allow it; needed: {kind} invalidation of {address:#x}, after the IOTLB's, and a wait"
            );
        }
        let what = if entry.mapping.is_unity() {
            format!(
                "IOTLB invalidation (type 2) of domain {domain:#x}, after that of the context or PASID entry"
            )
        } else if entry.mapping.has_first {
            format!(
                "PASID-based IOTLB invalidation (type 6) of domain {domain:#x}, PASID {:#x}, address {address:#x}, AM {mask} or more",
                entry.pasid
            )
        } else {
            format!(
                "IOTLB invalidation (type 2) of domain {domain:#x}, address {address:#x}, AM {mask} or more, IH 0 if a table changed"
            )
        };
        format!("the tables no longer allow it; needed: {what}, and a wait for it")
    }
}

type Held = (u16, u32, u64, Translation);

fn leading_into<'a>(
    entries: impl Iterator<Item = (u16, u32, u64, &'a Translation)>,
    first: u64,
    last: u64,
) -> Vec<Held> {
    let mut held: Vec<Held> = entries
        .filter(|(.., entry)| entry.fault.is_none())
        .filter(|(.., entry)| {
            let mapping = &entry.mapping;
            mapping.is_unity()
                || mapping.output <= last && first <= mapping.output + ((1 << mapping.shift) - 1)
        })
        .map(|(source, key, address, entry)| (source, key, address, *entry))
        .collect();
    held.sort_unstable_by_key(|(source, key, address, entry)| {
        (*source, *key, *address, entry.mapping.output)
    });
    held
}

/// A source id as people write it.
pub(crate) fn name(source: u16) -> String {
    format!(
        "device {:02x}:{:02x}.{}",
        source >> 8,
        source >> 3 & 0x1f,
        source & 7
    )
}
