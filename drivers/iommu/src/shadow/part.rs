//! Calls that stop when they have done their work, and go on where they were.
//!
//! Pages that are looked at whole are marked with the number of the call that did so, after
//! all that is below them. A call that goes on takes pages for done that were marked since it
//! began, be it by another call: what the guest had changed before was seen. So what is left
//! shrinks with each part, whatever other calls of the guest do in between.

use super::Shadow;

/// Shadow entries after which a call stops: between two ranges, or between two tables of one.
pub(crate) const MAX_WORK: u64 = 1 << 16;

/// What is done of a call in one go.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The number of the call when it began; none for what must be done in one go.
    of: Option<u64>,
    /// Entries that were looked at in this part, before those of [`Shadow::work`].
    before: u64,
    /// What is being done now may stop.
    pub(super) stops: bool,
    /// It stopped.
    unfinished: bool,
}

impl Part {
    /// Adds work that was done.
    pub(super) fn count(&mut self, work: u64) {
        self.before = self.before.saturating_add(work);
    }
}

impl Shadow {
    /// From now on work is done for a call that may go on later: for one that began at `of`,
    /// or for a new one.
    pub(crate) fn begin_part(&mut self, of: Option<u64>) {
        self.work = 0;
        self.part = Part {
            of: Some(of.unwrap_or(self.call.wrapping_add(1))),
            ..Part::default()
        };
    }

    /// What comes now is done in one go.
    pub(crate) fn in_one_go(&mut self) {
        self.part = Part::default();
    }

    /// The part is over. Says when the call began if it must go on.
    pub(crate) fn end_part(&mut self) -> Option<u64> {
        let part = core::mem::take(&mut self.part);
        part.of.filter(|_| part.unfinished)
    }

    /// What has begun may stop between two tables, if it belongs to a call that can go on.
    pub(crate) fn let_stop(&mut self) {
        self.part.stops = self.part.of.is_some();
    }

    /// It will not go on: it failed otherwise, or what was done is all that was asked for.
    pub(crate) fn give_up_part(&mut self) {
        self.part.unfinished = false;
    }

    /// Whether new pages are linked empty and looked at afterwards, so that looking at them
    /// can stop.
    pub(super) fn stops(&self) -> bool {
        self.part.stops
    }

    /// Whether to stop before another table is looked at whole.
    pub(super) fn must_stop(&mut self) -> bool {
        let spent = self.part.before.saturating_add(self.work) >= MAX_WORK;
        let stop = self.part.stops && spent;
        self.part.unfinished |= stop;
        stop
    }

    /// Pages that were looked at whole in this call or a later one are done.
    pub(super) fn is_done(&self, looked_at: u64) -> bool {
        let begun = match self.part.stops {
            true => self.part.of.unwrap_or(self.call),
            false => self.call,
        };
        looked_at >= begun
    }
}
