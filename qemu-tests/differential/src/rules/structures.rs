//! Root, context and PASID entries.

use vtd_model::Condition;

use super::{Kind, Rule, View, change};
use crate::bench::Rig;
use crate::entries::{PasidLow, ScalableContext};

/// Reserved bits of a root entry or of half of one.
fn root_reserved(view: &View<'_>) -> u64 {
    0xffe | u64::MAX << view.case.rig.bits()
}

pub(super) const OTHER_HALF_OF_ROOT: Rule = Rule {
    name: "other-half-of-root",
    kind: Kind::Bug,
    reason: "reserved bits of the half of a root entry that does not serve the device fault too (§9.2)",
    predict: |view| {
        let (source, ..) = view.dma().filter(|_| view.is_fresh())?;
        let upper = usize::from(source & 0x80 != 0);
        let root = view
            .told
            .walk
            .root
            .filter(|_| view.case.rig.is_scalable())?;
        let applies = root[upper] & 1 != 0
            && root[upper] & root_reserved(view) == 0
            && root[1 - upper] & root_reserved(view) != 0;
        applies.then(|| view.fault(0x0a, false))?
    },
};

pub(super) const POINTER_OF_PASS_THROUGH: Rule = Rule {
    name: "pointer-of-pass-through",
    kind: Kind::Bug,
    reason: "SSPTPTR of a pass-through entry is ignored (§9.3); QEMU refuses bits above the host width",
    predict: |view| {
        view.dma().filter(|_| view.is_fresh())?;
        let [low, ..] = view
            .told
            .walk
            .context
            .filter(|_| !view.case.rig.is_scalable())?;
        let applies = low & 0xd == 0x9 && low & 0xff0 == 0 && low >> view.case.rig.bits() != 0;
        // The fault is not qualified either.
        applies.then(|| view.fault(0x0b, false))?
    },
};

pub(super) const CONTEXT_RESERVED_SPEAKS: Rule = Rule {
    name: "context-reserved-speaks",
    kind: Kind::Bug,
    reason: "FPD silences reserved bits of its own context entry (LCT.3, SCT.3, §7.1.3); QEMU records them",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.context_silences())?;
        let reserved = [Condition::Lct3, Condition::Sct3];
        view.is_only(&reserved).then(|| view.fault(0x0b, false))?
    },
};

pub(super) const CONTEXT_FLAGS: Rule = Rule {
    name: "context-flags",
    kind: Kind::Bug,
    reason: "DTE, PASIDE, PRE, RID_PRIV and RID_PASID are reserved without their capabilities (§9.4); QEMU does not look",
    predict: |view| {
        const RID_FIELDS: u64 = 0x1f_ffff;
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Sct3]))?;
        let at = context_at(view)?;
        let kept = if view.emulator.uses_rid_pasid() {
            0xf_ffff
        } else {
            0
        };
        let answer = view.retold(|case| {
            change(case, at, |word| {
                ScalableContext::from(word)
                    .with_device_tlb(false)
                    .with_pasid_enable(false)
                    .with_page_requests(false)
                    .into()
            });
            change(case, at + 8, |word| word & !(RID_FIELDS & !kept));
        })?;
        // Another reserved bit still faults, and then this rule has nothing to say.
        (!view.told.answers.contains(&answer)).then_some(answer)
    },
};

pub(super) const DIRECTORY_SIZE: Rule = Rule {
    name: "directory-size",
    kind: Kind::Bug,
    reason: "a RID_PASID beyond PDTS faults (43h, §9.4); QEMU does not look at PDTS",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Sct42]))?;
        let at = context_at(view)?;
        view.retold(|case| {
            change(case, at, |word| {
                ScalableContext::from(word).with_directory_size(7).into()
            });
        })
    },
};

pub(super) const DIRECTORY_RESERVED: Rule = Rule {
    name: "directory-reserved",
    kind: Kind::Bug,
    reason: "reserved bits of a PASID directory entry fault (52h, §9.5); QEMU does not look",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Spd3]))?;
        let word = view.told.walk.directory?;
        // Bits above the host width are part of QEMU's address.
        if word >> view.case.rig.bits() != 0 {
            return view.fault(0x58, false);
        }
        let context = view.told.walk.context?;
        let at = (context[0] & !0xfff) + u64::from(view.told.walk.pasid >> 6) * 8;
        view.retold(|case| change(case, at, |word| word & !0xffc))
    },
};

pub(super) const TYPE_BEFORE_PRESENT: Rule = Rule {
    name: "type-before-present",
    kind: Kind::Bug,
    reason: "P of a PASID entry decides before all else (59h, §9.6); QEMU looks at PGTT first",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Spt2]))?;
        let entry = PasidLow::from(view.told.walk.pasid_entry?[0]);
        let applies = !type_is_valid(view, entry);
        applies.then(|| view.fault(0x5b, view.context_silences()))?
    },
};

fn type_is_valid(view: &View<'_>, entry: PasidLow) -> bool {
    let rig = view.case.rig;
    match entry.kind() {
        1 => rig == Rig::First,
        2 => rig != Rig::First && matches!((entry.width(), rig.bits()), (1, _) | (2, 48)),
        kind => kind == 4,
    }
}

pub(super) const PASID_FAULT_DISABLE: Rule = Rule {
    name: "pasid-fault-disable",
    kind: Kind::Bug,
    reason: "FPD of PASID directory and table entries silences their own faults too (§7.1.3); in QEMU only the context entry's does",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && !view.context_silences())?;
        let reason = match view.told.conditions[..] {
            [Condition::Spd2] => 0x51,
            [Condition::Spt2] => 0x59,
            [Condition::Spt41 | Condition::Spt42 | Condition::Spt43] => 0x5b,
            _ => return None,
        };
        view.silences().then(|| view.fault(reason, false))?
    },
};

pub(super) const PASID_RESERVED: Rule = Rule {
    name: "pasid-reserved",
    kind: Kind::Bug,
    reason: "reserved bits of a PASID entry fault (5Ah, §9.6); QEMU does not look",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.is_only(&[Condition::Spt3]))?;
        let at = (view.told.walk.directory? & !0xfff) + u64::from(view.told.walk.pasid & 0x3f) * 64;
        view.retold(|case| {
            // What QEMU looks at, and SNP, which nobody does.
            const LOOKED_AT: [u64; 8] = [0xffff_ffff_ffff_f1df, 0x80_ffff, !0xff2, 0, 0, 0, 0, 0];
            let bits = u64::MAX << case.rig.bits();
            for (place, mask) in (at..).step_by(8).zip(LOOKED_AT) {
                let mask = if mask >> 63 != 0 { mask & !bits } else { mask };
                change(case, place, |word| word & mask);
            }
        })
    },
};

pub(super) const FIRST_STAGE_TYPE: Rule = Rule {
    name: "one-stage-only",
    kind: Kind::Limit,
    reason: "QEMU's unit has a first stage or a second; the model's has both where AW is to mean something (ECAP.SSTS)",
    predict: |view| {
        view.dma()
            .filter(|_| view.is_fresh() && view.case.rig == Rig::First)?;
        let [low, ..] = view.told.walk.pasid_entry?;
        let entry = PasidLow::from(low);
        let applies = entry.present() && entry.kind() == 2;
        applies.then(|| view.fault(0x5b, view.context_silences()))?
    },
};

/// Where the context entry of the request lies, in scalable mode.
fn context_at(view: &View<'_>) -> Option<u64> {
    let (source, ..) = view.dma()?;
    let root = view.told.walk.root?;
    let half = root[usize::from(source & 0x80 != 0)];
    Some((half & !0xfff) + u64::from(source & 0x7f) * 32)
}
