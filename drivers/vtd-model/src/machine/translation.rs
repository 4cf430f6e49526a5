//! Translation requests as they arrive on the link: for several pages at once (§4.2.3.2),
//! and malformed ones (§4.2.1).

use super::Machine;
use crate::remapping::{AddressType, Completion, Outcome, Request};

/// Bytes of the read completion boundary: a request asks for that much at most.
const COMPLETION_BOUNDARY: u16 = 64;

/// What becomes of a translation request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Translations {
    /// A malformed packet: an error of the link; the unit says nothing.
    Malformed,
    /// Unsupported Request or Completer Abort, and the fault.
    Failed(Outcome),
    /// One translation, or several for pages of one size that follow each other: as many as
    /// the unit likes, at most as many as were asked for.
    Completed(Vec<Completion>),
}

impl Machine {
    /// A device asks for the translations of the pages from `request.address` on:
    /// `dwords / 2` of them. `byte_enables`: first and last byte enables of the packet, FFh
    /// in a good one. `request.kind` says whether only reads are meant.
    pub fn request_translations(
        &mut self,
        request: &Request,
        dwords: u16,
        byte_enables: u8,
    ) -> Translations {
        let too_long = dwords > COMPLETION_BOUNDARY / 4;
        if dwords == 0 || !dwords.is_multiple_of(2) || too_long || byte_enables != 0xff {
            return Translations::Malformed;
        }
        let no_write = matches!(request.kind, AddressType::Translation { no_write: true });
        let first = request.translation(no_write);
        let mut completions = match self.request(&first) {
            Outcome::Completion(completion) => vec![completion],
            other => return Translations::Failed(other),
        };
        let most = usize::from(dwords / 2);
        let most = if self.world.pessimist {
            most
        } else {
            self.world.random.usize(1..=most)
        };
        let shift = completions[0].shift;
        let base = request.address & !((1 << shift) - 1);
        for page in 1..most as u64 {
            let Some(address) = base.checked_add(page << shift) else {
                break;
            };
            let next = Request { address, ..first };
            // An error ends the list and is not told: nobody asked for this page alone.
            let same = |outcome: &Outcome| matches!(outcome, Outcome::Completion(next) if next.shift == shift);
            if !self.possible(&next).iter().all(same) {
                break;
            }
            match self.request(&next) {
                Outcome::Completion(completion) => completions.push(completion),
                _ => break,
            }
        }
        Translations::Completed(completions)
    }
}
