//! Which slot is attached to which domain, and which was until hardware has forgotten it.

use alloc::vec::Vec;
use iommu_core::{Frame, Order, OutOfFrames, Slot};

/// One slot that leads, or led, to a domain or to pass-through.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) slot: Slot,
    /// Position of the unit among the driver's.
    pub(crate) unit: usize,
    pub(crate) domain_id: u16,
    /// Index of the domain; `None` for pass-through.
    pub(crate) domain: Option<u16>,
    /// The slot leads elsewhere; hardware may not know it yet.
    pub(crate) leaving: bool,
    /// The slot's entry leads to a host permission table too.
    pub(crate) checked: bool,
    /// Debts that speak of this attachment. It exists at least until they are settled.
    pub(crate) debts: u8,
    /// A table that hardware may use until the debt of attaching is settled.
    pub(crate) retired: Option<Frame>,
}

/// An attachment in the slab. A stale one finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct AttachmentRef {
    pub(crate) index: u16,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// The next attachment of the same domain, by ascending index.
    next: Option<u16>,
    value: Option<Attachment>,
}

/// All attachments: a slab of fixed size, and an index by slot.
#[derive(Debug)]
pub(crate) struct Attachments {
    entries: Vec<Entry>,
    free: Vec<u16>,
    /// Slots that lead somewhere, sorted.
    slots: Vec<(Slot, u16)>,
}

impl Attachments {
    /// Room for `capacity` attachments, those on their way out included.
    pub(crate) fn new(capacity: u16) -> Result<Self, OutOfFrames> {
        let count = usize::from(capacity);
        let mut all = Self {
            entries: Vec::new(),
            free: Vec::new(),
            slots: Vec::new(),
        };
        let reserved = all
            .entries
            .try_reserve_exact(count)
            .and_then(|()| all.free.try_reserve_exact(count))
            .and_then(|()| all.slots.try_reserve_exact(count));
        reserved.map_err(|_| OutOfFrames { order: Order::PAGE })?;
        all.entries.resize_with(count, || Entry {
            generation: 0,
            next: None,
            value: None,
        });
        all.free.extend((0..capacity).rev());
        Ok(all)
    }

    /// Whether another attachment can be added.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(crate) fn get(&self, index: u16) -> Option<&Attachment> {
        self.entries.get(usize::from(index))?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u16) -> Option<&mut Attachment> {
        self.entries.get_mut(usize::from(index))?.value.as_mut()
    }

    /// The attachment that is meant, if it still exists.
    pub(crate) fn resolve(&self, reference: AttachmentRef) -> Option<&Attachment> {
        let entry = self.entries.get(usize::from(reference.index))?;
        (entry.generation == reference.generation)
            .then_some(entry.value.as_ref())
            .flatten()
    }

    pub(crate) fn reference(&self, index: u16) -> Option<AttachmentRef> {
        let entry = self.entries.get(usize::from(index))?;
        entry.value.as_ref()?;
        Some(AttachmentRef {
            index,
            generation: entry.generation,
        })
    }

    /// The attachment that a slot leads through.
    pub(crate) fn of_slot(&self, slot: Slot) -> Option<u16> {
        let at = self.find(slot).ok()?;
        self.slots.get(at).map(|(_, index)| *index)
    }

    /// Adds an attachment; from now on its slot leads through it. `head` is the first of
    /// its domain's. `None` if there is no room.
    pub(crate) fn add(
        &mut self,
        attachment: Attachment,
        head: Option<&mut Option<u16>>,
    ) -> Option<u16> {
        let index = self.free.pop()?;
        let slot = attachment.slot;
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.value = Some(attachment);
            entry.next = None;
        }
        if let Some(head) = head {
            self.link(index, head);
        }
        match self.find(slot) {
            Ok(at) => {
                if let Some(known) = self.slots.get_mut(at) {
                    known.1 = index;
                }
            }
            // There is room for as many slots as there are attachments.
            Err(at) => self.slots.insert(at, (slot, index)),
        }
        Some(index)
    }

    /// The slot leads nowhere from now on.
    pub(crate) fn forget_slot(&mut self, slot: Slot) {
        if let Ok(at) = self.find(slot) {
            self.slots.remove(at);
        }
    }

    /// Takes an attachment out, which no slot leads through. `head` is the first of its
    /// domain's.
    pub(crate) fn remove(
        &mut self,
        index: u16,
        head: Option<&mut Option<u16>>,
    ) -> Option<Attachment> {
        if let Some(head) = head {
            self.unlink(index, head);
        }
        let entry = self.entries.get_mut(usize::from(index))?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    /// The attachments of a domain, by ascending index, from its first one on.
    pub(crate) fn of_domain(&self, head: Option<u16>) -> impl Iterator<Item = (u16, &Attachment)> {
        core::iter::successors(head, |&index| {
            self.entries.get(usize::from(index)).and_then(|e| e.next)
        })
        .filter_map(|index| Some((index, self.get(index)?)))
    }

    /// All attachments.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Attachment)> {
        (0..)
            .zip(&self.entries)
            .filter_map(|(index, entry)| Some((index, entry.value.as_ref()?)))
    }

    /// Takes out the tables that were replaced, once hardware is off.
    pub(crate) fn take_retired(&mut self) -> impl Iterator<Item = Frame> {
        self.entries
            .iter_mut()
            .filter_map(|entry| entry.value.as_mut()?.retired.take())
    }

    fn find(&self, slot: Slot) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&slot, |(slot, _)| *slot)
    }

    /// Keeps the list in ascending order, so that a walk along it can be taken up again
    /// after others have changed it.
    fn link(&mut self, index: u16, head: &mut Option<u16>) {
        let mut previous = None;
        let mut next = *head;
        while let Some(at) = next.filter(|&at| at < index) {
            previous = Some(at);
            next = self.entries.get(usize::from(at)).and_then(|e| e.next);
        }
        if let Some(entry) = self.entries.get_mut(usize::from(index)) {
            entry.next = next;
        }
        self.set_next(previous, head, Some(index));
    }

    fn unlink(&mut self, index: u16, head: &mut Option<u16>) {
        let mut previous = None;
        let mut at = *head;
        while let Some(current) = at {
            let next = self.entries.get(usize::from(current)).and_then(|e| e.next);
            if current == index {
                self.set_next(previous, head, next);
                return;
            }
            previous = Some(current);
            at = next;
        }
    }

    fn set_next(&mut self, previous: Option<u16>, head: &mut Option<u16>, next: Option<u16>) {
        match previous {
            None => *head = next,
            Some(previous) => {
                if let Some(entry) = self.entries.get_mut(usize::from(previous)) {
                    entry.next = next;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iommu_core::{DeviceId, Segment, SourceId};

    fn attachment(source: u16) -> Attachment {
        Attachment {
            slot: Slot {
                device: DeviceId::new(Segment(0), SourceId::from_bits(source)),
                pasid: None,
            },
            unit: 0,
            domain_id: 2,
            domain: Some(0),
            leaving: false,
            checked: false,
            debts: 0,
            retired: None,
        }
    }

    fn listed(all: &Attachments, head: Option<u16>) -> Vec<u16> {
        all.of_domain(head).map(|(index, _)| index).collect()
    }

    #[test]
    fn a_domains_list_stays_in_ascending_order() {
        let mut all = Attachments::new(4).unwrap();
        let mut head = None;
        for source in 0..4 {
            all.add(attachment(source), Some(&mut head)).unwrap();
        }
        assert_eq!(listed(&all, head), [0, 1, 2, 3]);
        all.remove(2, Some(&mut head)).unwrap();
        all.remove(0, Some(&mut head)).unwrap();
        assert_eq!(listed(&all, head), [1, 3]);
        all.add(attachment(9), Some(&mut head)).unwrap();
        all.add(attachment(10), Some(&mut head)).unwrap();
        assert_eq!(listed(&all, head), [0, 1, 2, 3]);
        assert!(!all.has_room());
        assert_eq!(all.add(attachment(11), Some(&mut head)), None);
    }

    #[test]
    fn a_stale_reference_finds_nothing() {
        let mut all = Attachments::new(1).unwrap();
        let mut head = None;
        let index = all.add(attachment(1), Some(&mut head)).unwrap();
        let reference = all.reference(index).unwrap();
        assert!(all.resolve(reference).is_some());
        all.forget_slot(attachment(1).slot);
        all.remove(index, Some(&mut head)).unwrap();
        all.add(attachment(1), Some(&mut head)).unwrap();
        assert!(all.resolve(reference).is_none());
    }

    #[test]
    fn a_slot_leads_through_its_latest_attachment() {
        let mut all = Attachments::new(2).unwrap();
        let slot = attachment(1).slot;
        assert_eq!(all.of_slot(slot), None);
        assert_eq!(all.add(attachment(1), None), Some(0));
        assert_eq!(all.add(attachment(1), None), Some(1));
        assert_eq!(all.of_slot(slot), Some(1));
        all.forget_slot(slot);
        assert_eq!(all.of_slot(slot), None);
    }
}
