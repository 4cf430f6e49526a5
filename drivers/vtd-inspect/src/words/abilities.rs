//! What a unit can do, and what it cannot do and what that means.

use core::fmt;
use vtd::Abilities;

/// How addresses are translated: stages, widths, page sizes.
#[derive(Clone, Copy)]
pub struct Translation<'a>(pub &'a Abilities);

/// Writes the parts that apply, separated.
struct List<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    separator: &'static str,
    any: bool,
}

impl<'a, 'b> List<'a, 'b> {
    fn new(out: &'a mut fmt::Formatter<'b>, separator: &'static str) -> Self {
        Self {
            out,
            separator,
            any: false,
        }
    }

    fn add(&mut self, applies: bool, text: fmt::Arguments<'_>) -> fmt::Result {
        if !applies {
            return Ok(());
        }
        if self.any {
            self.out.write_str(self.separator)?;
        }
        self.any = true;
        self.out.write_fmt(text)
    }

    fn or(self, nothing: &str) -> fmt::Result {
        if self.any {
            Ok(())
        } else {
            self.out.write_str(nothing)
        }
    }
}

struct SecondStage<'a>(&'a Abilities);

impl fmt::Display for SecondStage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cap = self.0.cap;
        let mut widths = List::new(f, ", ");
        for (levels, bits) in [(3, 39), (4, 48), (5, 57)] {
            widths.add(
                cap.has_second_stage_levels(levels),
                format_args!("{bits}-bit"),
            )?;
        }
        widths.or("no width")?;
        let leaves = self.0.second_stage_leaves();
        pages(f, leaves.mib2, leaves.gib1)
    }
}

struct FirstStage<'a>(&'a Abilities);

impl fmt::Display for FirstStage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cap = self.0.cap;
        f.write_str(if cap.fs5lp() {
            "48-bit, 57-bit"
        } else {
            "48-bit"
        })?;
        pages(f, true, cap.fs1gp())
    }
}

fn pages(f: &mut fmt::Formatter<'_>, mib2: bool, gib1: bool) -> fmt::Result {
    f.write_str(match (mib2, gib1) {
        (_, true) => " (pages of 4 KiB, 2 MiB, 1 GiB)",
        (true, false) => " (pages of 4 KiB, 2 MiB)",
        _ => " (pages of 4 KiB)",
    })
}

impl fmt::Display for Translation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Abilities { cap, ecap, .. } = *self.0;
        let modes = match (ecap.smts(), ecap.adms()) {
            (true, true) => "legacy, scalable and abort-DMA mode",
            (true, false) => "legacy and scalable mode",
            (false, true) => "legacy and abort-DMA mode",
            (false, false) => "legacy mode only",
        };
        write!(f, "{modes}; second stage {}", SecondStage(self.0))?;
        if ecap.fsts() {
            write!(f, "; first stage {}", FirstStage(self.0))?;
        }
        if ecap.nest() {
            f.write_str("; guests' tables nested in hardware")?;
        }
        if ecap.pt() {
            f.write_str("; pass-through")?;
        }
        write!(
            f,
            "; {} domains; device addresses up to {} bits",
            cap.domain_ids(),
            cap.guest_address_bits()
        )?;
        if ecap.pasid() {
            write!(f, "; {} bits of PASID", ecap.pasid_bits())?;
        }
        Ok(())
    }
}

/// Caches and how they are told of changes; faults; device TLBs.
#[derive(Clone, Copy)]
pub struct Invalidation<'a>(pub &'a Abilities);

impl fmt::Display for Invalidation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Abilities { cap, ecap, .. } = *self.0;
        let mut list = List::new(f, "; ");
        match self.0.second_stage_mask_limit() {
            Some(order) => list.add(
                true,
                format_args!("invalidates up to 2^{order} pages at once"),
            )?,
            None => list.add(
                true,
                format_args!("invalidates whole domains only (no PSI)"),
            )?,
        }
        list.add(
            cap.cm(),
            format_args!("caches entries that are not present (CM): an emulated unit"),
        )?;
        list.add(
            cap.rwbf(),
            format_args!("its write buffer must be flushed (RWBF)"),
        )?;
        list.add(ecap.dt(), format_args!("device TLBs (ATS)"))?;
        list.add(ecap.prs(), format_args!("page requests (PRI)"))?;
        list.add(
            true,
            format_args!("{} fault record(s)", cap.fault_records()),
        )
    }
}

/// What it does with interrupts.
#[derive(Clone, Copy)]
pub struct Interrupts<'a>(pub &'a Abilities);

impl fmt::Display for Interrupts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Abilities { cap, ecap, .. } = *self.0;
        if !ecap.ir() {
            return f.write_str("cannot remap interrupts");
        }
        f.write_str("remaps interrupts, APIC ids of ")?;
        f.write_str(if ecap.eim() {
            "8 or 32 bits"
        } else {
            "8 bits (no x2APIC mode)"
        })?;
        f.write_str(if cap.pi() { ", posts them too" } else { "" })
    }
}

/// What the unit lacks, and what the driver does instead.
#[derive(Clone, Copy)]
pub struct Lacks<'a>(pub &'a Abilities);

impl fmt::Display for Lacks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Abilities { cap, ecap, .. } = *self.0;
        let mut list = List::new(f, "; ");
        list.add(
            !ecap.nest(),
            format_args!("no nesting (NEST), so guests' own tables are shadowed"),
        )?;
        list.add(
            !ecap.c(),
            format_args!(
                "tables are not read through the caches (C), so every change is written back"
            ),
        )?;
        list.add(
            !cap.esrtps(),
            format_args!(
                "a new root table does not empty the caches (ESRTPS), so they are emptied by the queue"
            ),
        )?;
        list.add(
            !ecap.ir(),
            format_args!("no interrupt remapping (IR), so no device is given to a guest"),
        )?;
        list.add(
            !ecap.pasid(),
            format_args!("no requests with PASID (PASID)"),
        )?;
        list.or("nothing that the driver wants")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use vtd::registers::{Cap, Ecap, Ver};

    /// QEMU 11.1 in its default mode.
    fn qemu() -> Abilities {
        Abilities {
            version: Ver::new().with_max(1),
            cap: Cap::from_bits(0x80d2_008c_222f_0606),
            ecap: Ecap::from_bits(0xf0_0f4a),
            host_bits: 48,
        }
    }

    #[test]
    fn a_unit_is_described_in_words() {
        let unit = qemu();
        assert_eq!(
            Translation(&unit).to_string(),
            "legacy mode only; second stage 39-bit, 48-bit (pages of 4 KiB, 2 MiB, 1 GiB); pass-through; 65536 domains; device addresses up to 48 bits"
        );
        assert_eq!(
            Invalidation(&unit).to_string(),
            "invalidates up to 2^18 pages at once; 1 fault record(s)"
        );
        assert_eq!(
            Interrupts(&unit).to_string(),
            "remaps interrupts, APIC ids of 8 bits (no x2APIC mode)"
        );
        assert!(Lacks(&unit).to_string().contains("shadowed"));
    }

    #[test]
    fn what_a_unit_has_more_is_told_and_what_it_lacks_no_more() {
        let plain = qemu();
        let unit = Abilities {
            ecap: plain
                .ecap
                .with_nest(true)
                .with_c(true)
                .with_pasid(true)
                .with_pss(19)
                .with_fsts(true)
                .with_smts(true),
            ..plain
        };
        let text = Translation(&unit).to_string();
        assert!(text.contains("nested in hardware"), "{text}");
        assert!(text.contains("20 bits of PASID"), "{text}");
        assert_eq!(Lacks(&unit).to_string(), "nothing that the driver wants");
    }

    #[test]
    fn a_unit_without_interrupt_remapping_says_what_that_costs() {
        let plain = qemu();
        let unit = Abilities {
            ecap: plain.ecap.with_ir(false),
            ..plain
        };
        assert_eq!(Interrupts(&unit).to_string(), "cannot remap interrupts");
        assert!(
            Lacks(&unit)
                .to_string()
                .contains("no device is given to a guest")
        );
    }
}
