//! Groups of page requests: gathered until they are whole, told once, answered once.

use alloc::vec::Vec;
use iommu_abi::{FaultEvent, PageAnswer};
use iommu_core::{DeviceId, Pasid, Slot};

/// Group indices of a device (§7.4.1.1: 9 bits), a bit for each.
type Indices = [u64; 8];

/// Which group of page requests, as the device names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    /// With a host PASID.
    pub(crate) slot: Slot,
    /// Page request group index, unique within the device.
    pub(crate) index: u16,
}

/// One request of a group, as its guest will read it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) group: Group,
    pub(crate) event: FaultEvent,
}

/// A group that the guest knows and has not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) group: Group,
    cookie: u64,
    device_id: u32,
    /// The PASID of the guest's numbering.
    pasid: Option<Pasid>,
    /// The queue by which it was told.
    queue: u32,
}

/// Why an answer is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AnswerError {
    /// No group that waits has this cookie.
    NoSuchGroup,
    /// The cookie is of another group than the answer says.
    Contradiction,
}

/// All groups of a guest.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Requests of groups whose last one has not come.
    parts: Vec<Part>,
    /// Groups that wait for an answer.
    told: Vec<Told>,
    /// Devices that may ask, and those of their groups of which a part had no room.
    torn: Vec<(DeviceId, Indices)>,
    last_cookie: u64,
}

impl Groups {
    /// Room for nothing.
    pub(super) const fn none() -> Self {
        Self {
            parts: Vec::new(),
            told: Vec::new(),
            torn: Vec::new(),
            last_cookie: 0,
        }
    }

    /// Room for so many requests of groups that are not whole, groups that wait for an
    /// answer, and devices; `None` without memory.
    pub(super) fn new(parts: usize, told: usize, devices: usize) -> Option<Self> {
        let mut groups = Self::none();
        groups.parts.try_reserve_exact(parts).ok()?;
        groups.told.try_reserve_exact(told).ok()?;
        groups.torn.try_reserve_exact(devices).ok()?;
        Some(groups)
    }

    /// A device may ask from now on. There is room for as many as the guest can have.
    pub(crate) fn admit(&mut self, device: DeviceId) {
        if self.torn.len() < self.torn.capacity() {
            self.torn.push((device, Indices::default()));
        }
    }

    /// A device does not ask any more, and no group of it waits.
    pub(crate) fn dismiss(&mut self, device: DeviceId) {
        self.torn.retain(|(known, _)| *known != device);
    }

    /// Keeps a request until its group is whole. `false` if there is no room: then the
    /// group will not be.
    pub(super) fn keep(&mut self, part: Part) -> bool {
        if self.parts.len() < self.parts.capacity() {
            self.parts.push(part);
            return true;
        }
        if let Some((word, bit)) = self.torn_bit(&part.group) {
            *word |= bit;
        }
        false
    }

    /// Whether every request of the group that came was kept.
    pub(super) fn is_whole(&mut self, group: &Group) -> bool {
        self.torn_bit(group)
            .is_some_and(|(word, bit)| *word & bit == 0)
    }

    /// The requests of a group, in the order in which they came.
    pub(super) fn parts_of(&self, group: &Group) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.group == *group)
    }

    /// Drops what is known of a group before it was told.
    pub(crate) fn forget(&mut self, group: &Group) {
        self.parts.retain(|part| part.group != *group);
        if let Some((word, bit)) = self.torn_bit(group) {
            *word &= !bit;
        }
    }

    fn torn_bit(&mut self, group: &Group) -> Option<(&mut u64, u64)> {
        let device = group.slot.device;
        let (_, indices) = self.torn.iter_mut().find(|(known, _)| *known == device)?;
        let word = indices.get_mut(usize::from(group.index / 64))?;
        Some((word, 1u64.checked_shl(u32::from(group.index % 64))?))
    }

    /// Notes that the guest owes an answer. Returns the cookie that stands for it, or
    /// `None` if too many groups wait.
    pub(super) fn expect_answer(&mut self, last: &Part, device_id: u32, queue: u32) -> Option<u64> {
        if self.told.len() == self.told.capacity() {
            return None;
        }
        self.last_cookie = self.last_cookie.checked_add(1)?;
        let with_pasid = last.event.flags & FaultEvent::PASID != 0;
        self.told.push(Told {
            group: last.group,
            cookie: self.last_cookie,
            device_id,
            pasid: with_pasid.then(|| Pasid::new(last.event.pasid)).flatten(),
            queue,
        });
        Some(self.last_cookie)
    }

    /// The oldest group that waits of a device, by the names that the device's requests
    /// have.
    pub(crate) fn cookie_of(
        &self,
        device_id: u32,
        pasid: Option<Pasid>,
        index: u32,
    ) -> Option<u64> {
        let meant = |told: &&Told| {
            told.device_id == device_id
                && told.pasid == pasid
                && u32::from(told.group.index) == index
        };
        self.told.iter().find(meant).map(|told| told.cookie)
    }

    /// Takes out the group that an answer is for. After that its cookie names nothing.
    pub(crate) fn answered(&mut self, answer: &PageAnswer) -> Result<Told, AnswerError> {
        let mut waiting = self.told.iter();
        let place = waiting
            .position(|told| told.cookie == answer.cookie)
            .ok_or(AnswerError::NoSuchGroup)?;
        let told = self.told.get(place).ok_or(AnswerError::NoSuchGroup)?;
        let with_pasid = answer.flags & PageAnswer::PASID != 0;
        let agrees = told.device_id == answer.device_id
            && u32::from(told.group.index) == answer.group
            && told.pasid.is_some() == with_pasid
            && told.pasid.map_or(0, Pasid::as_u32) == answer.pasid;
        if agrees {
            Ok(self.told.remove(place))
        } else {
            Err(AnswerError::Contradiction)
        }
    }

    /// Takes out any group that was told by a queue and waits for an answer.
    pub(crate) fn take_told_by(&mut self, queue: u32) -> Option<Told> {
        let place = self.told.iter().position(|told| told.queue == queue)?;
        Some(self.told.remove(place))
    }

    /// Takes out any group of a slot that waits for an answer.
    pub(crate) fn take_told(&mut self, slot: Slot) -> Option<Told> {
        let place = self.told.iter().position(|told| told.group.slot == slot)?;
        Some(self.told.remove(place))
    }

    /// Drops the requests of a slot whose groups will not be told.
    pub(crate) fn forget_parts(&mut self, slot: Slot) {
        self.parts.retain(|part| part.group.slot != slot);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Delivered, Inbox};
    use super::*;
    use crate::Quota;
    use iommu_core::{Segment, SourceId};

    fn inbox(change: impl FnOnce(&mut Quota)) -> Inbox {
        let mut quota = Quota::default();
        change(&mut quota);
        let mut inbox = Inbox::new(&quota).unwrap();
        inbox.groups.admit(slot(1).device);
        inbox
    }

    fn slot(source: u16) -> Slot {
        Slot {
            device: DeviceId::new(Segment(0), SourceId::from_bits(source)),
            pasid: Pasid::new(40),
        }
    }

    fn part(index: u16, page: u64) -> Part {
        Part {
            group: Group {
                slot: slot(1),
                index,
            },
            event: FaultEvent {
                flags: FaultEvent::PASID,
                pasid: 7,
                group: index.into(),
                address: page,
                ..FaultEvent::default()
            },
        }
    }

    fn pages(inbox: &Inbox) -> Vec<(u64, u64)> {
        (0..inbox.events.len())
            .filter_map(|place| inbox.events.peek(place))
            .map(|event| (event.address, event.cookie))
            .collect()
    }

    fn answer(cookie: u64, index: u32) -> PageAnswer {
        PageAnswer {
            cookie,
            device_id: 3,
            flags: PageAnswer::PASID,
            pasid: 7,
            group: index,
            ..PageAnswer::default()
        }
    }

    #[test]
    fn a_group_is_told_when_it_is_whole_and_in_one_piece() {
        let mut inbox = inbox(|_| ());
        inbox.gather(part(5, 0x1000));
        inbox.gather(part(6, 0x2000));
        inbox.gather(part(5, 0x3000));
        assert_eq!(inbox.events.len(), 0);
        assert_eq!(inbox.complete(part(5, 0x4000), 3), Delivered::First);
        assert_eq!(pages(&inbox), [(0x1000, 1), (0x3000, 1), (0x4000, 1)]);
        assert_eq!(inbox.complete(part(6, 0x5000), 3), Delivered::Queued);
        assert_eq!(pages(&inbox)[3..], [(0x2000, 2), (0x5000, 2)]);
    }

    #[test]
    fn a_group_without_room_for_all_of_it_is_lost_whole() {
        let mut inbox = inbox(|quota| quota.fault_events = 3);
        inbox.gather(part(5, 0x1000));
        assert_eq!(inbox.complete(part(5, 0x2000), 3), Delivered::First);
        inbox.gather(part(6, 0x3000));
        assert_eq!(inbox.complete(part(6, 0x4000), 3), Delivered::Lost);
        assert_eq!(pages(&inbox).len(), 2);
        assert_eq!(inbox.events.take_lost(), 2);
        // One that fits is told, with a mark.
        assert_eq!(inbox.complete(part(7, 0x5000), 3), Delivered::Queued);
        let newest = inbox.events.peek(2).unwrap();
        assert_ne!(newest.flags & FaultEvent::LOST_BEFORE, 0);
    }

    #[test]
    fn a_group_that_lost_a_part_is_not_told_and_the_next_of_its_index_is() {
        let mut inbox = inbox(|quota| quota.page_requests = 2);
        inbox.gather(part(5, 0x1000));
        inbox.gather(part(5, 0x2000));
        inbox.gather(part(6, 0x3000));
        assert_eq!(inbox.complete(part(5, 0x4000), 3), Delivered::First);
        assert_eq!(inbox.complete(part(6, 0x5000), 3), Delivered::Lost);
        assert_eq!(inbox.complete(part(6, 0x6000), 3), Delivered::Queued);
        assert_eq!(inbox.events.take_lost(), 2);
    }

    #[test]
    fn as_many_groups_wait_as_may_and_no_more() {
        let mut inbox = inbox(|quota| quota.page_groups = 1);
        assert_eq!(inbox.complete(part(5, 0x1000), 3), Delivered::First);
        assert_eq!(inbox.complete(part(6, 0x2000), 3), Delivered::Lost);
        inbox.groups.answered(&answer(1, 5)).unwrap();
        assert_eq!(inbox.complete(part(6, 0x2000), 3), Delivered::Queued);
    }

    #[test]
    fn a_cookie_answers_its_group_once_and_no_other() {
        let mut inbox = inbox(|_| ());
        inbox.complete(part(5, 0x1000), 3);
        let right = answer(1, 5);
        for wrong in [
            PageAnswer { group: 6, ..right },
            PageAnswer { pasid: 8, ..right },
            PageAnswer {
                flags: 0,
                pasid: 0,
                ..right
            },
            PageAnswer {
                device_id: 4,
                ..right
            },
        ] {
            let refused = inbox.groups.answered(&wrong);
            assert_eq!(refused, Err(AnswerError::Contradiction));
        }
        let strange = inbox.groups.answered(&answer(2, 5));
        assert_eq!(strange, Err(AnswerError::NoSuchGroup));
        let told = inbox.groups.answered(&right).unwrap();
        assert_eq!(told.group, part(5, 0).group);
        let again = inbox.groups.answered(&right);
        assert_eq!(again, Err(AnswerError::NoSuchGroup));
    }
}
