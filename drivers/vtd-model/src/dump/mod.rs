//! What a person wants to read when a test fails: the walk of a request, and the caches.

use crate::caches::{CachedContext, CachedPasid, Caches, NO_PASID, Translation};
use crate::choice::{Chooser, Explorer};
use crate::faults::Condition;
use crate::machine::Machine;
use crate::oracle::permitting;
use crate::remapping::{Access, AddressType, Effects, Outcome, Read, Request, Structure, Walker};
use crate::tables::context::TranslationType;
use crate::tables::pasid::Granular;
use crate::tables::second_stage::Rights;
use std::fmt::Write as _;

impl Machine {
    /// How memory alone, without any cache, answers a request: each entry that is read, and
    /// the outcome.
    pub fn dump_walk(&self, request: &Request) -> String {
        let mut text = format!("{}\n", asked(request));
        let Some(unit) = self.units.get(self.unit_of(request.source).unwrap_or(0)) else {
            return text;
        };
        let nothing = Caches::default();
        let mut explorer = Explorer::default();
        let mut effects = Effects {
            trace: Some(Vec::new()),
            ..Effects::default()
        };
        let walker = unit.walker(&self.world, Chooser::Explore(&mut explorer), &mut effects);
        let outcome = Walker {
            caches: &nothing,
            ..walker
        }
        .answer(request);
        for read in effects.trace.unwrap_or_default() {
            let _ = writeln!(text, "  {}", line(&read));
        }
        let _ = match outcome {
            Outcome::Memory { address } => writeln!(text, "  -> reaches {address:#x}"),
            Outcome::Blocked {
                condition: Some(condition),
                ..
            } => writeln!(text, "  -> blocked by {condition}: {}", condition.meaning()),
            other => writeln!(text, "  -> {other:x?}"),
        };
        text
    }

    /// What a unit's caches, and the device-TLBs behind it, hold.
    pub fn dump_caches(&self, unit: usize) -> String {
        let mut text = String::new();
        let Some(this) = self.units.get(unit) else {
            return text;
        };
        let caches = &this.caches;
        for (source, value) in sorted(
            caches
                .contexts
                .iter()
                .flat_map(|(source, values)| values.iter().map(move |value| (*source, *value))),
        ) {
            let _ = writeln!(text, "context  {}  {}", id(source), context(&value));
        }
        let pasids = caches
            .pasids
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| (*key, *value)));
        for ((source, pasid), value) in sorted(pasids) {
            let _ = writeln!(
                text,
                "pasid    {} {pasid:#x}  domain {:#x}  {}",
                id(source),
                value.domain(),
                pasid_entry(&value)
            );
        }
        for ((domain, level, address), (table, accessed)) in
            sorted(caches.second.iter().map(|(pages, level, address, node)| {
                ((pages.domain, level, address), (node.table, node.accessed))
            }))
        {
            let _ = writeln!(
                text,
                "second   domain {domain:#x}  level {level} table for {address:#x} at {table:#x}{}",
                assumed(accessed)
            );
        }
        for ((domain, pasid, level, address), (table, accessed)) in
            sorted(caches.first.iter().map(|(pages, level, address, node)| {
                (
                    (pages.domain, pages.pasid, level, address),
                    (node.table, node.accessed),
                )
            }))
        {
            let _ = writeln!(
                text,
                "first    domain {domain:#x} pasid {pasid:#x}  level {level} table for {address:#x} at {table:#x}{}",
                assumed(accessed)
            );
        }
        for ((source, key, address), entry) in sorted(
            caches
                .iotlb
                .iter()
                .map(|(source, key, address, entry)| ((source, key, address), *entry)),
        ) {
            let _ = writeln!(
                text,
                "iotlb    {}",
                translation(source, key, address, &entry)
            );
        }
        for held in &this.underway {
            let line = translation(held.source, held.key, held.address, &held.entry);
            let _ = writeln!(text, "on its way  {line}");
        }
        for permitted in permitting(&caches.permissions, 0, u64::MAX) {
            let _ = writeln!(
                text,
                "hpt      {}{}  HPT domain {:#x}  {:#x}..={:#x}  {}",
                id(permitted.source),
                with_pasid(permitted.key),
                permitted.page.domain,
                permitted.first,
                permitted.last,
                letters(permitted.page.rights)
            );
        }
        for ((domain, level, address), held) in sorted(
            caches
                .permissions
                .all_tables()
                .map(|(domain, level, address, held)| ((domain, level, address), held)),
        ) {
            let _ = writeln!(
                text,
                "hpt      HPT domain {domain:#x}  level {} table for {address:#x} at {:#x}",
                level - 1,
                held.table
            );
        }
        for (index, value) in sorted(
            caches
                .interrupts
                .iter()
                .flat_map(|(index, values)| values.iter().map(move |value| (*index, *value))),
        ) {
            let _ = writeln!(
                text,
                "irte     {index:#x}  {:016x} {:016x}",
                value.0[1], value.0[0]
            );
        }
        for (source, device) in self
            .devices
            .iter()
            .filter(|(_, device)| device.unit == unit)
        {
            for ((key, address), entry) in sorted(
                device
                    .tlb
                    .iter()
                    .map(|(_, key, address, entry)| ((key, address), *entry)),
            ) {
                let _ = writeln!(
                    text,
                    "devtlb   {}",
                    translation(*source, key, address, &entry)
                );
            }
        }
        text
    }
}

fn line(read: &Read) -> String {
    let what = match read.structure {
        Structure::Root => "root entry".to_owned(),
        Structure::Context => "context entry".to_owned(),
        Structure::PasidDirectory => "PASID directory entry".to_owned(),
        Structure::PasidTable => "PASID table entry".to_owned(),
        Structure::FirstStage(level) => format!("first stage, level {level}"),
        Structure::SecondStage(level) => format!("second stage, level {level}"),
        Structure::Permission(level) => format!("host permission, level {level}"),
    };
    let words = match &read.words {
        None => "no memory".to_owned(),
        Some(words) => words
            .iter()
            .rev()
            .map(|word| format!("{word:016x}"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    format!("{what:<22} at {:#010x}: {words}", read.hpa)
}

fn sorted<K: Ord, V>(items: impl Iterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut items: Vec<(K, V)> = items.collect();
    items.sort_by(|left, right| left.0.cmp(&right.0));
    items
}

fn id(source: u16) -> String {
    format!(
        "{:02x}:{:02x}.{}",
        source >> 8,
        source >> 3 & 0x1f,
        source & 7
    )
}

fn assumed(accessed: bool) -> &'static str {
    if accessed {
        ""
    } else {
        " (prefetched at most)"
    }
}

fn context(value: &CachedContext) -> String {
    match value {
        CachedContext::Legacy(entry) if entry.kind == TranslationType::PassThrough => {
            format!("domain {:#x}  pass-through", entry.domain)
        }
        CachedContext::Legacy(entry) => format!(
            "domain {:#x}  second stage, {} levels at {:#x}{}",
            entry.domain,
            entry.levels,
            entry.table,
            allowed(entry.kind == TranslationType::DeviceTlb, "ATS")
        ),
        CachedContext::Scalable(entry) => format!(
            "PASID directory at {:#x}, RID_PASID {:#x}{}{}{}",
            entry.directory,
            entry.rid_pasid,
            allowed(entry.pasid_enable, "PASIDs"),
            allowed(entry.device_tlb, "ATS"),
            allowed(entry.permissions, "host permissions"),
        ),
        CachedContext::Fault { condition, .. } => fault(*condition),
    }
}

fn pasid_entry(value: &CachedPasid) -> String {
    let entry = match &value.entry {
        Ok(entry) => entry,
        Err(condition) => return fault(*condition),
    };
    let first = format!(
        "first stage, {} levels at {:#x}",
        entry.first_levels, entry.first_table
    );
    let second = format!(
        "second stage, {} levels at {:#x}",
        entry.second_levels, entry.second_table
    );
    match entry.kind {
        Granular::First => first,
        Granular::Second => second,
        Granular::Nested => format!("{first}, over {second}"),
        Granular::PassThrough => "pass-through".to_owned(),
    }
}

fn allowed(yes: bool, what: &str) -> String {
    if yes {
        format!(", with {what}")
    } else {
        String::new()
    }
}

fn fault(condition: Condition) -> String {
    format!("fault {condition}: {}", condition.meaning())
}

/// A request in words.
fn asked(request: &Request) -> String {
    let access = match request.access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Atomic => "atomic access",
        Access::ZeroLengthRead => "zero-length read",
    };
    let kind = match request.kind {
        AddressType::Untranslated => access.to_owned(),
        AddressType::Translation { no_write: true } => "translation request (NW)".to_owned(),
        AddressType::Translation { .. } => "translation request".to_owned(),
        AddressType::Translated => format!("translated {access}"),
    };
    format!(
        "{kind} of {:#x} by {}{}{}",
        request.address,
        id(request.source),
        with_pasid(request.pasid.unwrap_or(NO_PASID)),
        allowed(request.privileged, "supervisor privilege"),
    )
}

fn with_pasid(key: u32) -> String {
    if key == NO_PASID {
        String::new()
    } else {
        format!(" pasid {key:#x}")
    }
}

fn letters(rights: Rights) -> String {
    format!(
        "{}{}",
        if rights.read { "R" } else { "-" },
        if rights.write { "W" } else { "-" }
    )
}

fn translation(source: u16, key: u32, address: u64, entry: &Translation) -> String {
    let pasid = with_pasid(key);
    let tags = format!(
        "{}{pasid}  domain {:#x} tag {:#x}",
        id(source),
        entry.domain,
        entry.pasid
    );
    if let Some(fault) = entry.fault {
        return format!("{tags}  {address:#x} -> {}", self::fault(fault));
    }
    let mapping = &entry.mapping;
    let target = if mapping.is_unity() {
        "itself".to_owned()
    } else {
        format!("{:#x}, 2^{} bytes", mapping.output, mapping.shift)
    };
    let rights = letters(mapping.rights(false));
    format!(
        "{tags}  {address:#x} -> {target}  {rights}  since step {}{}",
        entry.born,
        assumed(entry.accessed)
    )
}
