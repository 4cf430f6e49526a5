//! Arithmetic on memory maps: what is free, and what must be mapped.

use arrayvec::ArrayVec;
use boot::layout::EARLY_BYTES;
use boot::{MemoryKind, MemoryRegion};
use iommu_core::{Address, AddressRange, Hpa, PAGE_SIZE};

/// Ranges that fit a [`Ranges`].
const CAPACITY: usize = 320;

/// Memory below 1 MiB is left to the firmware and to the start of other CPUs.
const LOW_MEMORY: u64 = 1 << 20;

/// Page-aligned ranges of memory that do not overlap.
pub type Ranges = ArrayVec<AddressRange<Hpa>, CAPACITY>;

/// The map has more regions than the fixed table holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapIncomplete;

/// The usable regions, in whole pages, without anything that another region claims too.
/// Firmware's lists overlap at times; the stricter kind counts.
pub fn usable_memory(map: &[MemoryRegion]) -> Result<Ranges, MapIncomplete> {
    let mut usable = Ranges::new();
    for region in map {
        if region.kind == MemoryKind::Usable
            && let Some(pages) = whole_pages(&region.range)
        {
            add(&mut usable, pages)?;
        }
    }
    for region in map {
        if region.kind != MemoryKind::Usable {
            remove(&mut usable, &touched_pages(&region.range))?;
        }
    }
    Ok(usable)
}

/// Usable memory and the modules, without the kernel's image: what the direct map shows.
/// Loaders put modules anywhere, GRUB under UEFI even into low memory, and QEMU where SeaBIOS
/// has reserved memory for itself.
pub fn mapped_memory(
    map: &[MemoryRegion],
    image: AddressRange<Hpa>,
    modules: &[AddressRange<Hpa>],
) -> Result<Ranges, MapIncomplete> {
    let mut mapped = usable_memory(map)?;
    for module in modules.iter().map(touched_pages) {
        if !mapped.iter().any(|range| range.covers(&module)) {
            add(&mut mapped, module)?;
        }
    }
    remove(&mut mapped, &touched_pages(&image))?;
    Ok(mapped)
}

/// Usable memory that is nobody's: without the image, low memory and the modules.
pub fn free_memory(
    map: &[MemoryRegion],
    image: AddressRange<Hpa>,
    modules: &[AddressRange<Hpa>],
) -> Result<Ranges, MapIncomplete> {
    let mut free = usable_memory(map)?;
    remove(&mut free, &touched_pages(&image))?;
    if let Ok(low) = AddressRange::of_bytes(Hpa::new(0), LOW_MEMORY) {
        remove(&mut free, &low)?;
    }
    for module in modules {
        remove(&mut free, &touched_pages(module))?;
    }
    Ok(free)
}

/// The highest page of low memory that is usable and holds no part of a module; never the
/// first, where the real mode's interrupt table lies.
pub fn low_page(map: &[MemoryRegion], modules: &[AddressRange<Hpa>]) -> Option<AddressRange<Hpa>> {
    let usable = usable_memory(map).ok()?;
    let pages = 1..LOW_MEMORY / PAGE_SIZE;
    let mut pages = pages.filter_map(|page| {
        let first = Hpa::new(page.checked_mul(PAGE_SIZE)?);
        AddressRange::of_bytes(first, PAGE_SIZE).ok()
    });
    pages.rfind(|page| {
        let taken = modules.iter().any(|module| module.overlaps(page));
        !taken && usable.iter().any(|range| range.covers(page))
    })
}

/// Memory within and beyond the reach of the early address space.
pub struct EarlyPart {
    /// What it reaches.
    pub ranges: Ranges,
    /// What it does not.
    pub beyond: Ranges,
}

/// Splits ranges at the end of the early address space.
pub fn early_part(ranges: &Ranges) -> EarlyPart {
    let mut part = EarlyPart {
        ranges: Ranges::new(),
        beyond: Ranges::new(),
    };
    let limit = Hpa::new(EARLY_BYTES);
    for range in ranges {
        // At most one range is split, into one of either side, so both lists have room.
        if range.last() < limit {
            part.ranges.push(*range);
        } else if range.first() >= limit {
            part.beyond.push(*range);
        } else {
            let below = AddressRange::inclusive(range.first(), Hpa::new(EARLY_BYTES - 1));
            let above = AddressRange::inclusive(limit, range.last());
            part.ranges.extend(below);
            part.beyond.extend(above);
        }
    }
    part
}

/// Whether all of `range` lies in memory that the map lists as the firmware's. Neighbouring
/// regions count together.
pub fn is_firmware_memory(map: &[MemoryRegion], range: &AddressRange<Hpa>) -> bool {
    let mut next = range.first();
    // Each round passes at least one region, so there are at most as many rounds.
    for _ in 0..=map.len() {
        let region = map
            .iter()
            .find(|region| region.kind != MemoryKind::Usable && region.range.contains(next));
        let Some(region) = region else {
            return false;
        };
        if region.range.last() >= range.last() {
            return true;
        }
        match region.range.last().checked_add(1) {
            Some(after) => next = after,
            None => return true,
        }
    }
    false
}

/// Whether a byte of `range` is usable memory.
pub fn touches_usable_memory(map: &[MemoryRegion], range: &AddressRange<Hpa>) -> bool {
    map.iter()
        .any(|region| region.kind == MemoryKind::Usable && region.range.overlaps(range))
}

fn add(ranges: &mut Ranges, range: AddressRange<Hpa>) -> Result<(), MapIncomplete> {
    // What is listed twice counts once.
    remove(ranges, &range)?;
    ranges.try_push(range).map_err(|_| MapIncomplete)
}

fn remove(ranges: &mut Ranges, hole: &AddressRange<Hpa>) -> Result<(), MapIncomplete> {
    let mut index = 0;
    while let Some(range) = ranges.get(index).copied() {
        if !range.overlaps(hole) {
            index += 1;
            continue;
        }
        ranges.swap_remove(index);
        let below = hole
            .first()
            .as_u64()
            .checked_sub(1)
            .and_then(|last| AddressRange::inclusive(range.first(), Hpa::new(last)).ok());
        let above = hole
            .last()
            .checked_add(1)
            .and_then(|first| AddressRange::inclusive(first, range.last()).ok());
        for rest in [below, above].into_iter().flatten() {
            ranges.try_push(rest).map_err(|_| MapIncomplete)?;
        }
        // The slot holds another range now: look at it again.
    }
    Ok(())
}

/// The pages that lie wholly within.
fn whole_pages(range: &AddressRange<Hpa>) -> Option<AddressRange<Hpa>> {
    let first = range.first().as_u64().checked_next_multiple_of(PAGE_SIZE)?;
    let end = range.last().as_u64().checked_add(1)? & !(PAGE_SIZE - 1);
    AddressRange::inclusive(Hpa::new(first), Hpa::new(end.checked_sub(1)?)).ok()
}

/// The pages of which a byte lies within.
fn touched_pages(range: &AddressRange<Hpa>) -> AddressRange<Hpa> {
    let first = AddressRange::page_of(range.first());
    let last = AddressRange::page_of(range.last());
    AddressRange::inclusive(first.first(), last.last()).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_the_start_of_cpus_is_low_usable_and_no_modules() {
        let range = |first: u64, last: u64| {
            AddressRange::inclusive(Hpa::new(first), Hpa::new(last)).unwrap()
        };
        let region = |first, last, kind| MemoryRegion {
            range: range(first, last),
            kind,
        };
        let map = [
            region(0, 0x9_fbff, MemoryKind::Usable),
            region(0xf_0000, 0xf_ffff, MemoryKind::Reserved),
            region(0x10_0000, 0xfff_ffff, MemoryKind::Usable),
        ];
        assert_eq!(low_page(&map, &[]), Some(range(0x9_e000, 0x9_efff)));
        let module = range(0x9_d800, 0x9_e7ff);
        assert_eq!(low_page(&map, &[module]), Some(range(0x9_c000, 0x9_cfff)));
        let whole = range(0x1000, 0x9_ffff);
        assert_eq!(low_page(&map, &[whole]), None);
    }
    use std::vec::Vec;

    fn range(first: u64, last: u64) -> AddressRange<Hpa> {
        AddressRange::inclusive(Hpa::new(first), Hpa::new(last)).unwrap()
    }

    fn region(first: u64, last: u64, kind: MemoryKind) -> MemoryRegion {
        MemoryRegion {
            range: range(first, last),
            kind,
        }
    }

    fn sorted(ranges: &Ranges) -> Vec<(u64, u64)> {
        let mut list: Vec<_> = ranges
            .iter()
            .map(|range| (range.first().as_u64(), range.last().as_u64()))
            .collect();
        list.sort();
        list
    }

    const USABLE: MemoryKind = MemoryKind::Usable;
    const RESERVED: MemoryKind = MemoryKind::Reserved;

    #[test]
    fn image_modules_and_low_memory_are_not_free() {
        let map = [
            region(0, 0x9_fbff, USABLE),
            region(0x10_0000, 0xfff_ffff, USABLE),
        ];
        let free = free_memory(
            &map,
            range(0x10_0000, 0x17_ffff),
            // The module's last page is only partly its own.
            &[range(0xff0_0000, 0xff0_1234)],
        )
        .unwrap();
        assert_eq!(
            sorted(&free),
            [(0x18_0000, 0xfef_ffff), (0xff0_2000, 0xfff_ffff)]
        );
    }

    #[test]
    fn a_module_in_low_memory_is_mapped() {
        let map = [
            region(0, 0x9_fbff, USABLE),
            region(0x10_0000, 0xfff_ffff, USABLE),
        ];
        let image = range(0x10_0000, 0x17_ffff);
        assert_eq!(
            sorted(&mapped_memory(&map, image, &[range(0x1000, 0x1fff)]).unwrap()),
            [(0, 0x9_efff), (0x18_0000, 0xfff_ffff)]
        );
    }

    #[test]
    fn a_module_in_reserved_memory_is_mapped_and_the_rest_of_it_is_not() {
        let map = [
            region(0x10_0000, 0xffa_ffff, USABLE),
            region(0xffb_0000, 0xfff_ffff, RESERVED),
        ];
        let image = range(0x10_0000, 0x17_ffff);
        let module = range(0xffa_f000, 0xffb_1234);
        let mapped = mapped_memory(&map, image, &[module]).unwrap();
        assert_eq!(
            sorted(&mapped),
            [(0x18_0000, 0xffa_efff), (0xffa_f000, 0xffb_1fff)]
        );
        let free = free_memory(&map, image, &[module]).unwrap();
        assert_eq!(sorted(&free), [(0x18_0000, 0xffa_efff)]);
    }

    #[test]
    fn a_module_that_claims_the_image_is_not_mapped() {
        let map = [region(0x10_0000, 0xfff_ffff, USABLE)];
        let image = range(0x10_0000, 0x17_ffff);
        let mapped = mapped_memory(&map, image, &[range(0x17_f000, 0x18_0fff)]).unwrap();
        assert!(!mapped.iter().any(|range| range.overlaps(&image)));
    }

    #[test]
    fn where_regions_overlap_the_stricter_kind_counts() {
        let map = [
            region(0x10_0000, 0x1f_ffff, USABLE),
            region(0x14_0800, 0x14_0fff, RESERVED),
        ];
        assert_eq!(
            sorted(&usable_memory(&map).unwrap()),
            [(0x10_0000, 0x13_ffff), (0x14_1000, 0x1f_ffff)]
        );
    }

    #[test]
    fn memory_listed_twice_is_free_once() {
        let map = [
            region(0x10_0000, 0x1f_ffff, USABLE),
            region(0x18_0000, 0x2f_ffff, USABLE),
        ];
        let usable = usable_memory(&map).unwrap();
        let pages: u64 = usable.iter().map(AddressRange::pages).sum();
        assert_eq!(pages, 0x200);
    }

    #[test]
    fn partial_pages_are_not_usable() {
        let map = [region(0x10_0001, 0x10_2ffe, USABLE)];
        assert_eq!(
            sorted(&usable_memory(&map).unwrap()),
            [(0x10_1000, 0x10_1fff)]
        );
        let map = [region(0x10_0001, 0x10_1ffe, USABLE)];
        assert!(usable_memory(&map).unwrap().is_empty());
    }

    #[test]
    fn memory_is_split_where_the_early_address_space_ends() {
        let map = [
            region(0x10_0000, 0x1f_ffff, USABLE),
            region(0xf000_0000, 0x1_0fff_ffff, USABLE),
            region(0x2_0000_0000, 0x2_0fff_ffff, USABLE),
        ];
        let part = early_part(&usable_memory(&map).unwrap());
        assert_eq!(
            sorted(&part.ranges),
            [(0x10_0000, 0x1f_ffff), (0xf000_0000, 0xffff_ffff)]
        );
        assert_eq!(
            sorted(&part.beyond),
            [
                (0x1_0000_0000, 0x1_0fff_ffff),
                (0x2_0000_0000, 0x2_0fff_ffff)
            ]
        );
    }

    #[test]
    fn a_table_may_span_two_regions_of_the_firmware_but_no_gap() {
        let map = [
            region(0x7ff0_0000, 0x7ff0_ffff, MemoryKind::Acpi),
            region(0x7ff1_0000, 0x7ff1_ffff, MemoryKind::AcpiNvs),
            region(0x7ff3_0000, 0x7ff3_ffff, RESERVED),
            region(0x10_0000, 0x1f_ffff, USABLE),
        ];
        assert!(is_firmware_memory(&map, &range(0x7ff0_fff0, 0x7ff1_0010)));
        assert!(!is_firmware_memory(&map, &range(0x7ff1_fff0, 0x7ff3_0010)));
        assert!(!is_firmware_memory(&map, &range(0x10_0000, 0x10_0010)));
        assert!(!is_firmware_memory(&map, &range(0x7ff3_fff0, 0x7ff4_0000)));
    }
}
