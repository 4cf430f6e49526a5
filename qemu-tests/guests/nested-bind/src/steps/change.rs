//! Copies, and what changing the table does to them.

use crate::session::Session;
use guest_machine::Trouble;
use iommu_core::{Access, FaultReason, Gva, PAGE_SIZE};

const PAGE: u16 = PAGE_SIZE as u16;

fn next_page(page: Gva) -> Gva {
    Gva::new(page.as_u64().saturating_add(PAGE_SIZE))
}

/// Whole pages, from anywhere to anywhere.
pub(crate) fn copy(session: &mut Session) -> Result<(), Trouble> {
    for part in ["1", "2", "3", "4"] {
        let (source, _) = session.map_random_page()?;
        let (destination, _) = session.map_random_page()?;
        session.copy(part, source, destination, PAGE)?;
        session.same_bytes(source, destination, PAGE)?;
    }
    Ok(())
}

/// Bytes that begin within one page and end within the next, whose pages lie elsewhere.
pub(crate) fn copy_across_pages(session: &mut Session) -> Result<(), Trouble> {
    let mut across = |offset: u64| -> Result<Gva, Trouble> {
        let first = session.fresh_address()?;
        for page in [first, next_page(first)] {
            let to = session.random_page()?;
            session.map(page, to)?;
        }
        session.invalidate(&[first, next_page(first)])?;
        Ok(Gva::new(first.as_u64() | offset))
    };
    let (source, destination) = (across(0x7f9)?, across(0xb04)?);
    session.copy("", source, destination, PAGE)?;
    session.same_bytes(source, destination, PAGE)
}

/// An address that leads nowhere leads somewhere once it is mapped and made known.
pub(crate) fn map_more(session: &mut Session) -> Result<(), Trouble> {
    let at = session.fresh_address()?;
    let page = session.random_page()?;
    let reasons = [FaultReason::FIRST_STAGE_NOT_PRESENT];
    session.refused("before", at, Access::WRITE, &reasons)?;
    session.map(at, page)?;
    session.invalidate(&[at])?;
    let (source, _) = session.map_random_page()?;
    session.copy("after", source, at, PAGE)?;
    session.same_bytes(source, at, PAGE)
}

/// An address that led to one page leads to another, and no longer to the first.
pub(crate) fn remap(session: &mut Session) -> Result<(), Trouble> {
    let (at, old) = session.map_random_page()?;
    let (source, _) = session.map_random_page()?;
    session.copy("before", source, at, PAGE)?;
    let new = session.random_page()?;
    session.map(at, new)?;
    session.invalidate(&[at])?;
    let (source, _) = session.map_random_page()?;
    // The old page stays reachable under another address, to see that it is left alone.
    let elsewhere = session.fresh_address()?;
    session.map(elsewhere, old)?;
    session.copy("after", source, at, PAGE)?;
    session.same_bytes(source, at, PAGE)
}

/// An address that worked faults once it is unmapped and made known, and the guest is told
/// what and why.
pub(crate) fn unmap(session: &mut Session) -> Result<(), Trouble> {
    let (at, page) = session.map_random_page()?;
    let (source, _) = session.map_random_page()?;
    session.copy("before", source, at, PAGE)?;
    let entry = session.space.entry(session.machine(), at, 1)?;
    session.space.unmap(session.machine(), at)?;
    session.invalidate(&[at])?;
    session.fill(page)?;
    let reasons = [FaultReason::FIRST_STAGE_NOT_PRESENT];
    let fault = session.refused("after", at, Access::WRITE, &reasons)?;
    if let Some(refusing) = fault.entry {
        let wanted = entry.map_or(0, |entry| entry.as_u64());
        Trouble::unless_equal("the refusing entry's address", wanted, refusing.address)?;
    }
    let (table, found) = (session.table()?.id(), fault.ioas_id.unwrap_or(0));
    Trouble::unless_equal("the fault's table", table.into(), found.into())?;
    session.map(at, page)?;
    session.invalidate(&[at])?;
    session.copy("again", source, at, PAGE)?;
    session.same_bytes(source, at, PAGE)
}

/// Many changed pages are made known by one call.
pub(crate) fn invalidate_many_at_once(session: &mut Session) -> Result<(), Trouble> {
    const MANY: usize = 24;
    let mut pages = [Gva::new(0); MANY];
    for slot in &mut pages {
        *slot = session.fresh_address()?;
        let page = session.random_page()?;
        session.map(*slot, page)?;
    }
    session.calls_only("call", |session| session.invalidate(&pages))?;
    let [source, .., destination] = pages;
    session.copy("copy", source, destination, PAGE)?;
    session.same_bytes(source, destination, PAGE)?;
    let fresh = session.random_page()?;
    session.map(destination, fresh)?;
    session.calls_only("call-again", |session| session.invalidate(&pages))?;
    session.copy("copy-again", source, destination, PAGE)?;
    session.same_bytes(source, destination, PAGE)
}

/// What changed somewhere in large tables is made known by one call, which takes more looks at
/// entries than one turn of the guest's has.
pub(crate) fn invalidate_everything(session: &mut Session) -> Result<(), Trouble> {
    /// Each takes two tables of its own at least, whose 512 entries are looked at.
    const MANY: usize = 80;
    let page = session.random_page()?;
    let mut pages = [Gva::new(0); MANY];
    for slot in &mut pages {
        *slot = session.fresh_address()?;
        session.map(*slot, page)?;
    }
    session.calls_only("call", Session::invalidate_everything)?;
    let (source, _) = session.map_random_page()?;
    let [first, .., last] = pages;
    session.copy("copy", source, first, PAGE)?;
    session.same_bytes(source, last, PAGE)?;
    let fresh = session.random_page()?;
    session.map(last, fresh)?;
    session.calls_only("call-again", Session::invalidate_everything)?;
    let (source, _) = session.map_random_page()?;
    session.copy("copy-again", source, last, PAGE)?;
    session.same_bytes(source, last, PAGE)
}
