//! Why a request is refused: the walk that hardware makes, made again in software, with
//! each entry that it meets (§3.4, §3.6, §3.7).

mod paging;

use crate::Event;
use crate::abilities::Abilities;
use crate::driver::Driver;
use crate::tables::context::{
    ContextHigh, ContextLow, ScalableContext0, ScalableContext1, TranslationType as LegacyType,
};
use crate::tables::pasid::{PasidDirectoryEntry, PasidEntry, TranslationType};
use crate::tables::root::RootEntry;
use crate::tables::{above_host_width, address};
use crate::unit::Unit;
use iommu_core::{
    Access, FaultReason, Hpa, Iova, Mmio, Observer, Pasid, Platform, Slot, TableFormat, WalkStep,
};
use paging::{Stage, Walk};

/// An entry where a walk came by.
pub(crate) struct Visited {
    pub(crate) at: Hpa,
    pub(crate) index: u16,
    pub(crate) words: [u64; 8],
}

impl Visited {
    fn step(&self, table: &'static str, refusal: Option<FaultReason>) -> WalkStep {
        WalkStep {
            table,
            entry_at: self.at,
            index: self.index,
            words: self.words,
            refusal,
        }
    }
}

/// Tells a step, and stops there if it refuses.
fn tell(
    step: &mut dyn FnMut(&WalkStep),
    visited: &Visited,
    table: &'static str,
    refusal: Option<FaultReason>,
) -> Result<(), FaultReason> {
    step(&visited.step(table, refusal));
    match refusal {
        Some(reason) => Err(reason),
        None => Ok(()),
    }
}

/// The first condition that holds.
fn first<const N: usize>(conditions: [(bool, FaultReason); N]) -> Option<FaultReason> {
    conditions
        .into_iter()
        .find_map(|(holds, reason)| holds.then_some(reason))
}

impl<P: Platform + Observer<Event>, M: Mmio, S> Driver<P, M, S> {
    pub(crate) fn explain_request(
        &self,
        slot: Slot,
        iova: Iova,
        access: Access,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<Hpa, FaultReason> {
        let Ok((_, unit)) = self.locate(slot.device) else {
            return Err(FaultReason::ROOT_NOT_PRESENT);
        };
        let request = Request {
            platform: self.platform(),
            unit,
            slot,
            iova,
            access,
        };
        if unit.mode().is_scalable() {
            request.scalable(step)
        } else {
            request.legacy(step)
        }
    }
}

struct Request<'a, P, M> {
    platform: &'a P,
    unit: &'a Unit<M>,
    slot: Slot,
    iova: Iova,
    access: Access,
}

impl<P: Platform + Observer<Event>, M: Mmio> Request<'_, P, M> {
    fn abilities(&self) -> &Abilities {
        &self.unit.abilities
    }

    /// §3.4.2 and the conditions LRT, LCT and LGN.
    fn legacy(&self, step: &mut dyn FnMut(&WalkStep)) -> Result<Hpa, FaultReason> {
        let host_bits = self.abilities().host_bits;
        let (root, context) = {
            let tables = self.unit.tables.lock(self.platform);
            let source = self.slot.device.source;
            (tables.root_entry(source), tables.context_entry(source))
        };
        let [word, upper, ..] = root.words;
        let refusal = first([
            (
                !RootEntry::from_bits(word).p(),
                FaultReason::ROOT_NOT_PRESENT,
            ),
            (
                word & RootEntry::reserved(host_bits) != 0 || upper != 0,
                FaultReason::ROOT_RESERVED,
            ),
        ]);
        tell(step, &root, "root", refusal)?;
        let context = context.ok_or(FaultReason::CONTEXT_TABLE_ERROR)?;
        let [low, high, ..] = context.words;
        let (low, high) = (ContextLow::from_bits(low), ContextHigh::from_bits(high));
        let levels = high.aw().saturating_add(2);
        let has_width = self.abilities().cap.has_second_stage_levels(levels);
        let refusal = first([
            (!low.p(), FaultReason::CONTEXT_NOT_PRESENT),
            (
                low.into_bits() & ContextLow::reserved(host_bits) != 0
                    || high.into_bits() & ContextHigh::RESERVED != 0,
                FaultReason::CONTEXT_RESERVED,
            ),
            (
                !has_width || low.tt() == LegacyType::Reserved,
                FaultReason::CONTEXT_INVALID,
            ),
        ]);
        tell(step, &context, "context", refusal)?;
        if low.tt() == LegacyType::PassThrough {
            return self.pass_through(FaultReason::BEYOND_WIDTH, FaultReason::INTO_INTERRUPT_RANGE);
        }
        self.walk(Stage::Legacy, second_stage_format(levels), low.ssptptr())
            .run(step)
    }

    /// §3.4.3 and the conditions SRT, SCT, SPD, SPT and SGN.
    fn scalable(&self, step: &mut dyn FnMut(&WalkStep)) -> Result<Hpa, FaultReason> {
        let context = self.scalable_context(step)?;
        let pasid = self.pasid(&context)?;
        let entry = self.pasid_entry(&context, pasid, step)?;
        match entry.word0.pgtt() {
            TranslationType::PASS_THROUGH => self.pass_through(
                FaultReason::BEYOND_HOST_WIDTH,
                FaultReason::SCALABLE_INTO_INTERRUPT_RANGE,
            ),
            TranslationType::SECOND_STAGE => {
                let levels = entry.word0.aw().saturating_add(2);
                let format = second_stage_format(levels);
                self.walk(Stage::Second, format, entry.word0.ssptptr())
                    .run(step)
            }
            _ => {
                let format = if entry.word2.fspm() == 1 {
                    TableFormat::FirstStage5
                } else {
                    TableFormat::FirstStage4
                };
                let first = self.walk(Stage::First, format, entry.word2.fsptptr());
                if entry.word0.pgtt() == TranslationType::NESTED {
                    let levels = entry.word0.aw().saturating_add(2);
                    let second = self.walk(
                        Stage::Second,
                        second_stage_format(levels),
                        entry.word0.ssptptr(),
                    );
                    first.run_nested(&second, step)
                } else {
                    first.run(step)
                }
            }
        }
    }

    fn scalable_context(
        &self,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<ScalableContext, FaultReason> {
        let host_bits = self.abilities().host_bits;
        let (root, context) = {
            let tables = self.unit.tables.lock(self.platform);
            let source = self.slot.device.source;
            (tables.root_entry(source), tables.context_entry(source))
        };
        let [word, ..] = root.words;
        let refusal = first([
            (
                !RootEntry::from_bits(word).p(),
                FaultReason::SCALABLE_ROOT_NOT_PRESENT,
            ),
            (
                word & RootEntry::reserved(host_bits) != 0,
                FaultReason::SCALABLE_ROOT_RESERVED,
            ),
        ]);
        tell(step, &root, "root", refusal)?;
        let context = context.ok_or(FaultReason::SCALABLE_CONTEXT_TABLE_ERROR)?;
        let [word0, word1, word2, word3, ..] = context.words;
        let known = ScalableContext {
            word0: ScalableContext0::from_bits(word0),
            word1: ScalableContext1::from_bits(word1),
        };
        let ecap = self.abilities().ecap;
        let reserved = word0 & ScalableContext0::reserved(ecap, host_bits)
            | word1 & ScalableContext1::reserved(ecap)
            | word2
            | word3;
        let refusal = first([
            (!known.word0.p(), FaultReason::SCALABLE_CONTEXT_NOT_PRESENT),
            (reserved != 0, FaultReason::SCALABLE_CONTEXT_RESERVED),
            (
                known.word0.pre() && !known.word0.dte(),
                FaultReason::SCALABLE_CONTEXT_INVALID,
            ),
        ]);
        tell(step, &context, "context", refusal)?;
        Ok(known)
    }

    /// The PASID by which the tables are walked.
    fn pasid(&self, context: &ScalableContext) -> Result<Pasid, FaultReason> {
        let ecap = self.abilities().ecap;
        let number = match self.slot.pasid {
            None if ecap.rps() => context.word1.rid_pasid(),
            None => 0,
            Some(_) if !context.word0.paside() => return Err(FaultReason::PASID_BLOCKED),
            Some(pasid) if pasid.as_u32() >> ecap.pasid_bits() != 0 => {
                return Err(FaultReason::PASID_TOO_WIDE);
            }
            Some(pasid) => pasid.as_u32(),
        };
        let covered = 13u8.saturating_add(context.word0.pdts());
        if number >> covered != 0 {
            return Err(FaultReason::PASID_BEYOND_DIRECTORY);
        }
        Ok(Pasid::new(number).unwrap_or(Pasid::ZERO))
    }

    fn pasid_entry(
        &self,
        context: &ScalableContext,
        pasid: Pasid,
        step: &mut dyn FnMut(&WalkStep),
    ) -> Result<PasidEntry, FaultReason> {
        let host_bits = self.abilities().host_bits;
        let (directory, entry) = {
            let tables = self.unit.tables.lock(self.platform);
            tables.pasid_entries(self.slot.device.source, pasid)
        };
        let _ = context;
        let directory = directory.ok_or(FaultReason::PASID_DIRECTORY_ERROR)?;
        let [word, ..] = directory.words;
        let refusal = first([
            (
                !PasidDirectoryEntry::from_bits(word).p(),
                FaultReason::PASID_DIRECTORY_NOT_PRESENT,
            ),
            (
                word & PasidDirectoryEntry::reserved(host_bits) != 0,
                FaultReason::PASID_DIRECTORY_RESERVED,
            ),
        ]);
        tell(step, &directory, "PASID directory", refusal)?;
        let visited = entry.ok_or(FaultReason::PASID_TABLE_ERROR)?;
        let [word0, word1, word2, ..] = visited.words;
        let entry = PasidEntry::from_words(visited.words);
        let [r0, r1, r2] = PasidEntry::reserved(self.abilities().ecap, host_bits);
        // AW is not held against an entry: see `quirks`.
        let aw = crate::tables::pasid::Pasid0::new().with_aw(7).into_bits();
        let reserved = word0 & r0 & !aw | word1 & r1 | word2 & r2;
        let refusal = first([
            (!entry.word0.p(), FaultReason::PASID_NOT_PRESENT),
            (reserved != 0, FaultReason::PASID_RESERVED),
            (!self.is_valid(&entry), FaultReason::PASID_INVALID),
        ]);
        tell(step, &visited, "PASID table", refusal)?;
        Ok(entry)
    }

    /// Condition SPT.4.
    fn is_valid(&self, entry: &PasidEntry) -> bool {
        let abilities = self.abilities();
        let levels = entry.word0.aw().saturating_add(2);
        let second = abilities.ecap.ssts() && abilities.cap.has_second_stage_levels(levels);
        let first = abilities.ecap.fsts()
            && match entry.word2.fspm() {
                0 => true,
                1 => abilities.cap.fs5lp(),
                _ => false,
            };
        match entry.word0.pgtt() {
            TranslationType::FIRST_STAGE => first,
            TranslationType::SECOND_STAGE => second,
            TranslationType::NESTED => first && second && abilities.ecap.nest(),
            TranslationType::PASS_THROUGH => abilities.ecap.pt(),
            _ => false,
        }
    }

    fn pass_through(
        &self,
        beyond: FaultReason,
        interrupts: FaultReason,
    ) -> Result<Hpa, FaultReason> {
        let to = self.iova.as_u64();
        if to & above_host_width(self.abilities().host_bits) != 0 {
            return Err(beyond);
        }
        if paging::is_interrupt_range(to) {
            return Err(interrupts);
        }
        Ok(Hpa::new(to))
    }

    fn walk(&self, stage: Stage, format: TableFormat, root: u64) -> Walk<'_, P> {
        Walk {
            platform: self.platform,
            abilities: self.abilities(),
            stage,
            format,
            root: address(root),
            iova: self.iova,
            access: self.access,
        }
    }
}

struct ScalableContext {
    word0: ScalableContext0,
    word1: ScalableContext1,
}

fn second_stage_format(levels: u8) -> TableFormat {
    match levels {
        3 => TableFormat::SecondStage3,
        5 => TableFormat::SecondStage5,
        _ => TableFormat::SecondStage4,
    }
}
