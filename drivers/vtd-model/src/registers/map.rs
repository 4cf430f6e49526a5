//! Where registers lie (§11.1, §11.4).

use super::{memory_type, perfmon, virtual_command};
use crate::config::{Config, EVENTS, STRIDE};

/// A register, as far as its access rules go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    Ver,
    Cap,
    Ecap,
    Gcmd,
    Gsts,
    Rtaddr,
    Ccmd,
    Fsts,
    Event(Source, Field),
    Pmen,
    Plmbase,
    Plmlimit,
    Phmbase,
    Phmlimit,
    Iqh,
    Iqt,
    Iqa,
    Ics,
    Iqercd,
    Irta,
    Pqh,
    Pqt,
    Pqa,
    Prs,
    Iva,
    Iotlb,
    /// Record and half.
    Frcd(usize, bool),
    Mtrr(memory_type::Place),
    Perfcap,
    /// PERFCFGOFF, PERFFRZOFF, PERFOVFOFF, PERFCNTROFF.
    PerfOffset(usize),
    /// PERFEVNTCAP of a group.
    Perfevntcap(usize),
    Perf(perfmon::Place),
    Ecmd,
    Eceo,
    Ecrsp,
    /// ECSTS, reserved as a whole.
    Ecsts,
    Eccap(usize),
    Virtual(virtual_command::Place),
}

/// Whose event registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Fault,
    Invalidation,
    PageRequest,
    Performance,
}

/// Which of the four.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Field {
    Control,
    Data,
    Address,
    Upper,
}

/// A register with its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) register: Register,
    pub(crate) base: usize,
    /// 4 or 8.
    pub(crate) bytes: usize,
}

/// The register that holds the byte at `offset`, if the unit has one there.
pub(crate) fn locate(offset: usize, config: &Config) -> Option<Place> {
    fixed(offset, config)
        .or_else(|| movable(offset, config))
        .or_else(|| counters(offset, config))
}

fn fixed(offset: usize, config: &Config) -> Option<Place> {
    use Register as R;
    let place = |register, base, bytes| {
        Some(Place {
            register,
            base,
            bytes,
        })
    };
    let queue = config.queued_invalidation;
    match offset {
        0x00..=0x03 => place(R::Ver, 0, 4),
        0x08..=0x0f => place(R::Cap, 0x08, 8),
        0x10..=0x17 => place(R::Ecap, 0x10, 8),
        0x18..=0x1b => place(R::Gcmd, 0x18, 4),
        0x1c..=0x1f => place(R::Gsts, 0x1c, 4),
        0x20..=0x27 => place(R::Rtaddr, 0x20, 8),
        0x28..=0x2f => place(R::Ccmd, 0x28, 8),
        0x34..=0x37 => place(R::Fsts, 0x34, 4),
        0x38..=0x47 => event(Source::Fault, offset, 0x38),
        0x64..=0x67 if config.protected_low || config.protected_high => place(R::Pmen, 0x64, 4),
        0x68..=0x6b if config.protected_low => place(R::Plmbase, 0x68, 4),
        0x6c..=0x6f if config.protected_low => place(R::Plmlimit, 0x6c, 4),
        0x70..=0x77 if config.protected_high => place(R::Phmbase, 0x70, 8),
        0x78..=0x7f if config.protected_high => place(R::Phmlimit, 0x78, 8),
        0x80..=0x87 if queue => place(R::Iqh, 0x80, 8),
        0x88..=0x8f if queue => place(R::Iqt, 0x88, 8),
        0x90..=0x97 if queue => place(R::Iqa, 0x90, 8),
        0x9c..=0x9f if queue => place(R::Ics, 0x9c, 4),
        0xa0..=0xaf if queue => event(Source::Invalidation, offset, 0xa0),
        0xb0..=0xb7 if queue => place(R::Iqercd, 0xb0, 8),
        0xb8..=0xbf if config.interrupt_remapping => place(R::Irta, 0xb8, 8),
        0xc0..=0xc7 if config.page_requests => place(R::Pqh, 0xc0, 8),
        0xc8..=0xcf if config.page_requests => place(R::Pqt, 0xc8, 8),
        0xd0..=0xd7 if config.page_requests => place(R::Pqa, 0xd0, 8),
        0xdc..=0xdf if config.page_requests => place(R::Prs, 0xdc, 4),
        0xe0..=0xef if config.page_requests => event(Source::PageRequest, offset, 0xe0),
        0x100..=0x21f if config.memory_type => Some(Place {
            register: R::Mtrr(memory_type::place(offset)?),
            base: offset & !7,
            bytes: 8,
        }),
        0x300..=0x3ff if config.perfmon.is_some() => performance(offset),
        0x400..=0x44f if config.enhanced_commands => enhanced(offset),
        0xe00..=0xe37 if config.virtual_commands => virtual_commands(offset),
        _ => None,
    }
}

fn performance(offset: usize) -> Option<Place> {
    use Register as R;
    let (register, base, bytes) = match offset {
        0x300..=0x307 => (R::Perfcap, 0x300, 8),
        0x310..=0x31f => (R::PerfOffset((offset - 0x310) / 4), offset & !3, 4),
        0x324..=0x327 => (R::Perf(perfmon::Place::Status), 0x324, 4),
        0x328..=0x337 => return event(Source::Performance, offset, 0x328),
        0x380.. => {
            let group = (offset - 0x380) / 8;
            (
                (group < EVENTS.len()).then_some(R::Perfevntcap(group))?,
                offset & !7,
                8,
            )
        }
        _ => return None,
    };
    Some(Place {
        register,
        base,
        bytes,
    })
}

fn enhanced(offset: usize) -> Option<Place> {
    use Register as R;
    let base = offset & !7;
    let register = match base {
        0x400 => R::Ecmd,
        0x408 => R::Eceo,
        0x410 => R::Ecrsp,
        0x420 | 0x428 => R::Ecsts,
        0x430.. => R::Eccap((base - 0x430) / 8),
        _ => return None,
    };
    Some(Place {
        register,
        base,
        bytes: 8,
    })
}

fn virtual_commands(offset: usize) -> Option<Place> {
    use virtual_command::Place as V;
    let base = offset & !7;
    let register = match base {
        0xe00 => V::Command,
        0xe08 => V::Operand,
        0xe10 => V::Response,
        0xe30 => V::Capability,
        _ => return None,
    };
    Some(Place {
        register: Register::Virtual(register),
        base,
        bytes: 8,
    })
}

/// Registers of the counters, wherever they lie.
fn counters(offset: usize, config: &Config) -> Option<Place> {
    use perfmon::Place as P;
    let (perfmon, places) = (config.perfmon.as_ref()?, config.perfmon_places()?);
    let count = usize::from(perfmon.counters);
    let place = |register, base, bytes| {
        Some(Place {
            register: Register::Perf(register),
            base,
            bytes,
        })
    };
    if (places.freeze..places.freeze + 8).contains(&offset) {
        return place(P::Freeze, places.freeze, 8);
    }
    if (places.overflow..places.overflow + 8).contains(&offset) {
        return place(P::Overflow, places.overflow, 8);
    }
    if let Some(at) = offset.checked_sub(places.counters) {
        let counter = at / STRIDE;
        let value = at % STRIDE < 8 && counter < count;
        return place(P::Value(counter), offset & !7, 8).filter(|_| value);
    }
    let at = offset.checked_sub(places.configuration)?;
    let (counter, within) = (at / 0x100, at % 0x100);
    let identity = perfmon.identity_filters;
    let register = match within & !3 {
        _ if counter >= count => return None,
        0x00 | 0x04 => return place(P::Configuration(counter), offset & !7, 8),
        0x08 if identity => P::Filter(counter, 0),
        0x0c if identity => P::Filter(counter, 1),
        0x10 if identity => P::Filter(counter, 2),
        0x14 if perfmon.address_type_filter => P::Filter(counter, 3),
        0x18 if perfmon.level_filter => P::Filter(counter, 4),
        _ => return None,
    };
    place(register, offset & !3, 4)
}

fn event(source: Source, offset: usize, base: usize) -> Option<Place> {
    let index = (offset - base) / 4;
    let field = [Field::Control, Field::Data, Field::Address, Field::Upper][index];
    Some(Place {
        register: Register::Event(source, field),
        base: base + 4 * index,
        bytes: 4,
    })
}

fn movable(offset: usize, config: &Config) -> Option<Place> {
    let iotlb = 16 * usize::from(config.iotlb_offset);
    let faults = 16 * usize::from(config.fault_offset);
    if (iotlb..iotlb + 8).contains(&offset) {
        return Some(Place {
            register: Register::Iva,
            base: iotlb,
            bytes: 8,
        });
    }
    if (iotlb + 8..iotlb + 16).contains(&offset) {
        return Some(Place {
            register: Register::Iotlb,
            base: iotlb + 8,
            bytes: 8,
        });
    }
    let half = offset.checked_sub(faults)? / 8;
    let record = half / 2;
    (record < usize::from(config.fault_records)).then(|| Place {
        register: Register::Frcd(record, half % 2 == 1),
        base: faults + 8 * half,
        bytes: 8,
    })
}
