//! One request on its way through the unit.

use super::{
    Access, AddressType, Completion, Effects, Outcome, Request, Typing, in_interrupt_range,
};
use crate::caches::{Caches, Mapping, NO_PASID, Translation};
use crate::choice::Chooser;
use crate::config::Config;
use crate::faults::{Completes, Condition, Status};
use crate::memory::{HostMemory, Image};
use crate::registers::Happening;
use crate::tables::{bit, bits, page};

/// RTADDR as the last SRTP took it over (§11.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Latched {
    pub(crate) enabled: bool,
    pub(crate) root: u64,
    /// Stores wait in a write buffer until they are flushed, snooped or not (CAP.RWBF,
    /// §6.8).
    pub(crate) buffered: bool,
}

/// TTM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Legacy,
    Scalable,
    Reserved,
    Abort,
}

impl Latched {
    pub(crate) fn mode(self) -> Mode {
        match bits(self.root, 11, 10) {
            0 => Mode::Legacy,
            1 => Mode::Scalable,
            2 => Mode::Reserved,
            _ => Mode::Abort,
        }
    }

    pub(crate) fn table(self) -> u64 {
        page(self.root)
    }

    pub(crate) fn io_rights(self) -> bool {
        bit(self.root, 7)
    }

    /// Why no request at all can be served, if so (RTA.1).
    pub(crate) fn fault(self, config: &Config) -> Option<Condition> {
        match self.mode() {
            Mode::Abort if config.abort_dma => Some(Condition::Rta4),
            Mode::Abort => Some(Condition::Rta11),
            Mode::Reserved => Some(Condition::Rta12),
            Mode::Scalable if !config.scalable_mode => Some(Condition::Rta13),
            Mode::Legacy if self.io_rights() => Some(Condition::Rta14),
            Mode::Legacy | Mode::Scalable => None,
        }
    }
}

/// Everything that a request needs to be answered.
pub(crate) struct Walker<'a> {
    pub(crate) config: &'a Config,
    pub(crate) latched: Latched,
    pub(crate) caches: &'a Caches,
    pub(crate) memory: &'a dyn HostMemory,
    pub(crate) image: &'a Image,
    pub(crate) choose: Chooser<'a>,
    pub(crate) effects: &'a mut Effects,
    /// The step of the model, for the age of entries.
    pub(crate) now: u64,
    /// Some entry met on the way has FPD set.
    pub(crate) fpd: bool,
    /// An IOTLB entry answers: no other was met.
    pub(crate) is_hit: bool,
}

/// A mapping and whether it was granted to a privileged request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) mapping: Mapping,
    pub(crate) privileged: bool,
}

impl Walker<'_> {
    /// Answers the request.
    pub(crate) fn answer(&mut self, request: &Request) -> Outcome {
        self.effects
            .happens(|| Happening::REQUEST.of_type(address_type(request)));
        if let Some(outcome) = self.before_tables(request) {
            return outcome;
        }
        let outcome = match self.find(request) {
            Ok(found) => self.finish(request, &found),
            Err(condition) => self.refuse(request, condition),
        };
        if let Outcome::Completion(completion) = &outcome
            && self.config.host_permissions
            && self.latched.mode() == Mode::Scalable
            && !self.choose.explores()
            && (completion.read || completion.write && !completion.untranslated_only)
        {
            self.prefetch_permission(request, completion);
        }
        outcome
    }

    /// A fault of a request. A cached translation does not know FPD: the entries do, through
    /// which the request is processed (§9.3 to §9.6).
    fn refuse(&mut self, request: &Request, condition: Condition) -> Outcome {
        if self.is_hit {
            self.learn_fault_disable(request);
        }
        self.fail(request, condition)
    }

    fn learn_fault_disable(&mut self, request: &Request) {
        if self.latched.mode() == Mode::Legacy {
            let _ = self.legacy_context(request.source);
        } else if let Ok(context) = self.scalable_context(request.source)
            && let Ok((tag, _)) = self.tag(&context, request.pasid, false)
        {
            let _ = self.pasid_entry(request.source, &context, tag);
        }
    }

    /// What is decided without a table (§3.15, §4.2.1).
    #[inline]
    fn before_tables(&self, request: &Request) -> Option<Outcome> {
        let untranslated = request.kind == AddressType::Untranslated;
        let interrupt_range =
            untranslated && request.pasid.is_none() && in_interrupt_range(request.address);
        if interrupt_range {
            return Some(match request.access {
                Access::Write => Outcome::Interrupt,
                Access::ZeroLengthRead => Outcome::NoTranslation,
                Access::Read | Access::Atomic => Outcome::Blocked {
                    condition: Some(Condition::Irq29),
                    status: Status::UnsupportedRequest,
                    logged: true,
                },
            });
        }
        if !self.latched.enabled {
            return Some(if untranslated {
                Outcome::Memory {
                    address: request.address,
                }
            } else {
                Outcome::refused(Status::UnsupportedRequest)
            });
        }
        let translated = request.kind == AddressType::Translated;
        if translated && request.pasid.is_some() && !self.config.pasid_in_translated {
            return Some(Outcome::refused(Status::UnsupportedRequest));
        }
        None
    }

    fn find(&mut self, request: &Request) -> Result<Found, Condition> {
        if let Some(condition) = self.latched.fault(self.config) {
            return Err(condition);
        }
        let legacy = self.latched.mode() == Mode::Legacy;
        if legacy && request.pasid.is_some() {
            return Err(Condition::Rta2);
        }
        let execute = request.execute && request.pasid.is_some();
        if execute && self.config.major >= 8 {
            return Err(Condition::Rta5);
        }
        if request.kind == AddressType::Untranslated
            && !execute
            && let Some(hit) = self.hit(request)
        {
            self.is_hit = true;
            return hit;
        }
        if legacy {
            self.legacy(request)
        } else {
            self.scalable(request)
        }
    }

    /// An IOTLB entry, if there is one and hardware chooses to use it.
    #[inline]
    pub(crate) fn hit(&mut self, request: &Request) -> Option<Result<Found, Condition>> {
        let caches = self.caches;
        let pasid = request.pasid.unwrap_or(NO_PASID);
        let beyond = request.address & self.config.above_host() != 0;
        let hits = || {
            let found = caches.iotlb.find(request.source, pasid, request.address);
            found.filter(move |entry| !(beyond && entry.mapping.is_unity()))
        };
        if self.choose.explores()
            && caches.absent.hits(request.source, pasid, request.address)
            && self.choose.pick(2) == 1
        {
            return Some(self.absent());
        }
        self.effects.happens(|| Happening::IOTLB_LOOKUP);
        let taken = self.cached(hits().count())?;
        let entry = hits().nth(taken)?;
        let found = self.use_entry(request, entry);
        if found.is_some() {
            let level = entry.mapping.shift.min(30) / 9;
            self.effects
                .happens(|| Happening::IOTLB_HIT.at_level(level));
        }
        found
    }

    /// A cached absence (§6.1): no right at all.
    fn absent(&self) -> Result<Found, Condition> {
        if self.latched.mode() == Mode::Scalable {
            return Err(Condition::Sss2);
        }
        Ok(Found {
            mapping: Mapping::absent(),
            privileged: false,
        })
    }

    fn use_entry(
        &mut self,
        request: &Request,
        entry: &Translation,
    ) -> Option<Result<Found, Condition>> {
        if let Some(condition) = entry.fault {
            return Some(Err(condition));
        }
        let privileged = self.privilege(request, entry.mapping.rid_priv);
        let found = Found {
            mapping: entry.mapping,
            privileged,
        };
        // What was only assumed to be prefetched sets its flags by a walk, if one is made.
        if !entry.accessed && !self.choose.explores() {
            return None;
        }
        // A write through an entry whose D is not set walks again to set it (§6.2.4).
        if !entry.mapping.dirty && wants_write(request, self.config) {
            return None;
        }
        Some(Ok(found))
    }

    /// Which of `count` cached values is used; `None` to look at memory.
    #[inline]
    pub(crate) fn cached(&mut self, count: usize) -> Option<usize> {
        if count == 0 {
            return None;
        }
        if self.choose.explores() {
            let taken = self.choose.pick(count + 1);
            return (taken < count).then_some(taken);
        }
        self.choose.likely(250).then(|| self.choose.pick(count))
    }

    pub(crate) fn privilege(&self, request: &Request, rid_priv: bool) -> bool {
        if request.pasid.is_some() {
            request.privileged
        } else {
            rid_priv
        }
    }

    /// Rights, output check, answer.
    #[inline]
    fn finish(&mut self, request: &Request, found: &Found) -> Outcome {
        if let AddressType::Translation { no_write } = request.kind {
            return self.complete(request, found, no_write && self.config.no_write_flag);
        }
        match self.reaches(request, found) {
            Ok(address) => Outcome::Memory { address },
            Err(condition) => self.refuse(request, condition),
        }
    }

    /// Where a memory request comes out.
    #[inline]
    fn reaches(&self, request: &Request, found: &Found) -> Result<u64, Condition> {
        let zero_length = self.config.zero_length_read;
        found
            .mapping
            .check(request, found.privileged, zero_length)?;
        let address = found.mapping.apply(request.address);
        if in_interrupt_range(address) {
            return Err(self.interrupt_output());
        }
        Ok(address)
    }

    /// The page that a memory request reaches, with what a walk or a cached translation says
    /// of it.
    pub(crate) fn page(&mut self, request: &Request) -> Option<(u64, bool, Typing)> {
        match self.before_tables(request) {
            Some(Outcome::Memory { address }) => return Some((address, false, Typing::Unsaid)),
            Some(_) => return None,
            None => {}
        }
        if matches!(request.kind, AddressType::Translation { .. }) {
            return None;
        }
        let found = self.find(request).ok()?;
        let address = self.reaches(request, &found).ok()?;
        Some((address, found.mapping.snoop, found.mapping.typing))
    }

    fn interrupt_output(&self) -> Condition {
        if self.latched.mode() == Mode::Legacy {
            Condition::Lgn4
        } else {
            Condition::Sgn8
        }
    }

    /// The answer to a translation request that found a page (§4.2.3).
    fn complete(&mut self, request: &Request, found: &Found, no_write: bool) -> Outcome {
        let mapping = &found.mapping;
        let privileged = request.pasid.is_some() && request.privileged;
        if request.pasid.is_none() && in_interrupt_range(request.address) {
            // S.1, S.2: the device may write interrupts there, untranslated.
            let write = mapping.second.write;
            let nothing = Completion::nothing(false);
            return Outcome::Completion(Completion {
                write,
                untranslated_only: write,
                ..nothing
            });
        }
        if found.privileged && !mapping.supervisor {
            return Outcome::Completion(Completion::nothing(privileged));
        }
        let rights = mapping.rights(found.privileged);
        let shift = if mapping.is_unity() {
            self.largest_page()
        } else {
            mapping.shift
        };
        let address = mapping.apply(request.address) & !((1 << shift) - 1);
        let last = address + ((1 << shift) - 1);
        let touches_interrupts = address <= 0xfeef_ffff && last >= 0xfee0_0000;
        if touches_interrupts && !mapping.is_unity() {
            let condition = self.interrupt_output();
            return self.fail(request, condition);
        }
        let write = rights.write && !no_write;
        if !(rights.read || write) {
            return Outcome::Completion(Completion::nothing(privileged));
        }
        Outcome::Completion(Completion {
            address,
            shift,
            read: rights.read,
            write,
            untranslated_only: false,
            snoop: mapping.snoop,
            privileged,
        })
    }

    fn largest_page(&self) -> u8 {
        if self.config.second_stage_1g || self.config.first_stage_1g {
            30
        } else if self.config.second_stage_2m || self.config.first_stage {
            21
        } else {
            12
        }
    }

    /// What the requester sees of a fault, by the columns of table 30.
    pub(crate) fn fail(&mut self, request: &Request, condition: Condition) -> Outcome {
        let logged = !(self.fpd && condition.qualified());
        let blocked = |status| Outcome::Blocked {
            condition: Some(condition),
            status,
            logged,
        };
        match request.kind {
            AddressType::Untranslated => blocked(Status::UnsupportedRequest),
            AddressType::Translated => blocked(condition.translated_status()),
            AddressType::Translation { .. } => match condition.row().translation {
                Completes::Abort => blocked(Status::CompleterAbort),
                Completes::NothingLogged | Completes::Nothing | Completes::Effective => {
                    if logged && condition.row().translation == Completes::NothingLogged {
                        self.effects.logged = Some(condition);
                    }
                    let privileged = request.pasid.is_some() && request.privileged;
                    Outcome::Completion(Completion::nothing(privileged))
                }
                Completes::Unsupported | Completes::Never => blocked(Status::UnsupportedRequest),
            },
        }
    }

    /// A translated request reaches the address that it carries (§4.2.5).
    pub(crate) fn translated(
        &self,
        request: &Request,
        beyond: Condition,
    ) -> Result<Found, Condition> {
        if request.address & self.config.above_host() != 0 {
            return Err(beyond);
        }
        let mapping = Mapping {
            typing: Typing::Unsaid,
            ..Mapping::unity(self.latched.mode() == Mode::Legacy, false)
        };
        Ok(Found {
            mapping,
            privileged: false,
        })
    }
}

/// The request's bit in an address type filter (§11.4.13.19).
pub(crate) fn address_type(request: &Request) -> u8 {
    match request.kind {
        AddressType::Untranslated => 0,
        AddressType::Translation { .. } => 1,
        AddressType::Translated => 2,
    }
}

/// Whether the request counts as a write for dirty flags (§4.2.3.1).
pub(crate) fn wants_write(request: &Request, config: &Config) -> bool {
    match request.kind {
        AddressType::Untranslated => request.access.writes(),
        AddressType::Translation { no_write } => !(no_write && config.no_write_flag),
        AddressType::Translated => false,
    }
}
