//! How often one request through random tables translates, or meets which fault.

use super::entries::{
    beyond_width, entry_absent, entry_reserved, flags_in_rom, right_missing, sets_flags, silent,
    supervisor_page, table_in_hole, to_interrupts, translates,
};
use super::structures::{
    context_absent, context_in_hole, context_reserved, directory_absent, directory_in_hole,
    pasid_absent, pasid_in_hole, pasid_invalid, root_absent, root_in_hole, root_reserved,
    silent_context, top_in_hole, type_unsupported, width_unsupported,
};
use super::{Card, Make};
use crate::case::Mode;

pub(super) fn cards() -> Vec<Card> {
    let mut cards = Vec::new();
    let mut deal = |mode, hands: &[(u64, &'static str, Make)]| {
        cards.extend(hands.iter().map(|&(count, intent, make)| Card {
            count,
            mode,
            intent,
            make,
        }));
    };
    deal(
        Mode::Legacy,
        &[
            (600, "translates", translates),
            (50, "root absent", root_absent),
            (50, "context absent", context_absent),
            (30, "width unsupported", width_unsupported),
            (20, "type unsupported", type_unsupported),
            (30, "first table in a hole", top_in_hole),
            (60, "beyond the width", beyond_width),
            (120, "right missing", right_missing),
            (60, "lower table in a hole", table_in_hole),
            (50, "root table in a hole", root_in_hole),
            (50, "context table in a hole", context_in_hole),
            (50, "root reserved", root_reserved),
            (50, "context reserved", context_reserved),
            (60, "entry reserved", entry_reserved),
            (90, "leads to the interrupt range", to_interrupts),
            (80, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::PassThrough,
        &[
            (699, "translates", translates),
            (40, "root absent", root_absent),
            (40, "context absent", context_absent),
            (30, "root table in a hole", root_in_hole),
            (30, "context table in a hole", context_in_hole),
            (30, "root reserved", root_reserved),
            (40, "context reserved", context_reserved),
            (40, "fault not to be recorded", silent_context),
        ],
    );
    deal(
        Mode::Second,
        &[
            (430, "translates", translates),
            (25, "root absent", root_absent),
            (25, "context absent", context_absent),
            (25, "root table in a hole", root_in_hole),
            (25, "context table in a hole", context_in_hole),
            (25, "root reserved", root_reserved),
            (25, "context reserved", context_reserved),
            (35, "PASID directory in a hole", directory_in_hole),
            (35, "PASID directory entry absent", directory_absent),
            (35, "PASID table in a hole", pasid_in_hole),
            (35, "PASID entry absent", pasid_absent),
            (40, "PASID entry invalid", pasid_invalid),
            (40, "first table in a hole", top_in_hole),
            (50, "beyond the width", beyond_width),
            (110, "right missing", right_missing),
            (50, "lower table in a hole", table_in_hole),
            (50, "entry reserved", entry_reserved),
            (30, "leads to the interrupt range", to_interrupts),
            (20, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::First,
        &[
            (527, "translates", translates),
            (100, "sets flags", sets_flags),
            (15, "root absent", root_absent),
            (15, "context absent", context_absent),
            (15, "root table in a hole", root_in_hole),
            (15, "context table in a hole", context_in_hole),
            (15, "root reserved", root_reserved),
            (15, "context reserved", context_reserved),
            (30, "PASID directory in a hole", directory_in_hole),
            (30, "PASID directory entry absent", directory_absent),
            (30, "PASID table in a hole", pasid_in_hole),
            (30, "PASID entry absent", pasid_absent),
            (30, "PASID entry invalid", pasid_invalid),
            (75, "first table in a hole", top_in_hole),
            (75, "not canonical", beyond_width),
            (75, "right missing", right_missing),
            (75, "entry absent", entry_absent),
            (75, "supervisor's page", supervisor_page),
            (75, "lower table in a hole", table_in_hole),
            (75, "entry reserved", entry_reserved),
            (40, "leads to the interrupt range", to_interrupts),
            (75, "flags in a ROM", flags_in_rom),
            (10, "fault not to be recorded", silent),
        ],
    );
    deal(
        Mode::RidPasid,
        &[
            (420, "translates", translates),
            (40, "PASID directory in a hole", directory_in_hole),
            (40, "PASID directory entry absent", directory_absent),
            (40, "PASID table in a hole", pasid_in_hole),
            (40, "PASID entry absent", pasid_absent),
            (40, "PASID entry invalid", pasid_invalid),
            (120, "right missing", right_missing),
            (40, "lower table in a hole", table_in_hole),
            (40, "entry reserved", entry_reserved),
            (40, "first table in a hole", top_in_hole),
            (50, "beyond the width", beyond_width),
            (50, "leads to the interrupt range", to_interrupts),
            (60, "fault not to be recorded", silent),
        ],
    );
    cards
}
