//! The random mode's prefetching: now and then a translation that nobody asked for is
//! cached, because the tables allow it (§6.2.5.5, §6.5.3.6).

use super::attachment::{Attachment, Kind};
use crate::caches::{CachedContext, NO_PASID};
use crate::choice::{Chooser, Explorer};
use crate::machine::Machine;
use crate::machine::unit::Unit;
use crate::machine::world::World;
use crate::remapping::{Effects, FirstStage, Outcome, Request, SecondStage, Walker};
use crate::tables::context::TranslationType;
use crate::tables::{first_stage, second_stage};

impl Machine {
    /// Caches one translation that some device could ask for, if chance finds one.
    pub(crate) fn prefetch_at_random(&mut self, unit: usize) {
        let here: Vec<u16> = self
            .devices
            .iter()
            .filter(|(_, device)| device.unit == unit)
            .map(|(source, _)| *source)
            .collect();
        let this = &mut self.units[unit];
        if here.is_empty() || !this.latched.enabled {
            return;
        }
        let source = here[self.world.random.usize(..here.len())];
        let mut random = self.world.random.fork();
        if let Some(request) = reachable(this, &self.world, source, &mut random) {
            let mut effects = Effects::default();
            let outcome = this
                .walker(&self.world, Chooser::Random(&mut random), &mut effects)
                .answer(&request);
            // Only what needs no flag set: a driver that looks at flags sees real accesses.
            if matches!(outcome, Outcome::Memory { .. }) && effects.updates.is_empty() {
                effects.fills.iter().for_each(|fill| {
                    this.fill(fill);
                });
            }
        }
    }
}

/// The domain id and PASID that tag what serves a requester now, and whether a first stage
/// takes part.
pub(crate) fn serving(
    unit: &Unit,
    world: &World,
    source: u16,
    pasid: Option<u32>,
) -> Option<(u16, u32, bool)> {
    if !unit.latched.enabled {
        return None;
    }
    let mut effects = Effects::default();
    let mut explorer = Explorer::default();
    let mut walker = unit.walker(world, Chooser::Explore(&mut explorer), &mut effects);
    let found = attachment(&mut walker, source, pasid)?;
    Some((found.domain(), found.tag, found.first().is_some()))
}

/// A request that the tables of memory let through, found by going down at random.
fn reachable(
    unit: &Unit,
    world: &World,
    source: u16,
    random: &mut fastrand::Rng,
) -> Option<Request> {
    let mut effects = Effects::default();
    let keys: Vec<u32> = unit
        .caches
        .pasids
        .keys()
        .filter(|(owner, _)| *owner == source)
        .map(|(_, pasid)| *pasid)
        .collect();
    let key = if keys.is_empty() || random.bool() {
        None
    } else {
        Some(keys[random.usize(..keys.len())])
    };
    let mut choices = random.fork();
    let mut walker = unit.walker(world, Chooser::Random(&mut choices), &mut effects);
    let attachment = attachment(&mut walker, source, key)?;
    let address = if let Some(stage) = attachment.second(unit.snoops()) {
        down_second(&walker, &stage, random)?
    } else if let Some((stage, _)) = attachment.first() {
        down_first(&walker, &stage, random)?
    } else {
        random.u64(..) & !unit.config.above_host()
    };
    let pasid = (attachment.key != NO_PASID).then_some(attachment.key);
    Some(Request {
        pasid,
        ..Request::read(source, address)
    })
}

fn attachment(walker: &mut Walker<'_>, source: u16, pasid: Option<u32>) -> Option<Attachment> {
    let plain = |key, tag, kind| Attachment {
        source,
        key,
        tag,
        kind,
        device_tlb: false,
        rid_priv: false,
        guard: None,
    };
    match walker.read_context(source).ok()? {
        CachedContext::Legacy(entry) if entry.kind != TranslationType::PassThrough => {
            Some(plain(NO_PASID, 0, Kind::Legacy(entry)))
        }
        CachedContext::Scalable(context) => {
            let pasid = pasid.filter(|pasid| context.pasid_enable && *pasid != context.rid_pasid);
            let (tag, _) = walker.tag(&context, pasid, false).ok()?;
            let entry = walker.read_pasid(&context, tag).ok()?.entry.ok()?;
            Some(plain(pasid.unwrap_or(NO_PASID), tag, Kind::Scalable(entry)))
        }
        CachedContext::Legacy(_) | CachedContext::Fault { .. } => None,
    }
}

/// The next entry from a random one on that `wanted` takes.
fn some_entry<T>(
    walker: &Walker<'_>,
    table: u64,
    random: &mut fastrand::Rng,
    wanted: impl Fn(u64) -> Option<T>,
) -> Option<(u64, T)> {
    let from = random.u64(..512);
    (0..512)
        .map(|step| (from + step) % 512)
        .find_map(|index| Some((index, wanted(walker.memory.load(table + index * 8)?)?)))
}

fn down_second(
    walker: &Walker<'_>,
    stage: &SecondStage,
    random: &mut fastrand::Rng,
) -> Option<u64> {
    use second_stage::Entry;
    let mut table = stage.table;
    let mut address = 0;
    for level in (1..=stage.levels).rev() {
        let present =
            |raw| match second_stage::decode(raw, level, walker.config, walker.latched.io_rights())
            {
                entry @ (Entry::Table { .. } | Entry::Page { .. }) => Some(entry),
                Entry::NotPresent | Entry::Reserved => None,
            };
        let (index, entry) = some_entry(walker, table, random, present)?;
        address |= index << (12 + 9 * (level - 1));
        match entry {
            Entry::Table { address: next, .. } => table = next,
            _ => return Some(address),
        }
    }
    None
}

fn down_first(walker: &Walker<'_>, stage: &FirstStage, random: &mut fastrand::Rng) -> Option<u64> {
    use first_stage::Entry;
    let host = |table| match &stage.nested {
        None => Some(table),
        Some(second) => walker.newest_host(second, table).map(|(host, _)| host),
    };
    let mut table = host(stage.table)?;
    let mut address = 0_u64;
    for level in (1..=stage.levels).rev() {
        let present = |raw| match first_stage::decode(raw, level, walker.config) {
            entry @ (Entry::Table { .. } | Entry::Page { .. }) => Some(entry),
            Entry::NotPresent | Entry::Reserved => None,
        };
        let (index, entry) = some_entry(walker, table, random, present)?;
        address |= index << (12 + 9 * (level - 1));
        match entry {
            Entry::Table { address: next, .. } => table = host(next)?,
            _ => {
                let unused = 64 - (12 + 9 * u32::from(stage.levels));
                return Some(((address << unused) as i64 >> unused) as u64);
            }
        }
    }
    None
}
