//! Turning what a call changed into what hardware is told.

use super::Shadow;
use iommu_core::{Backend, BackendError, Batch, Owed, Platform, Scope};

/// Why hardware could not be told, or did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SettleError {
    /// The back-end refused: a bug of ours or of its.
    Refused(BackendError),
    /// No room for all debts, which is a bug of ours. What did not fit is in quarantine.
    NoRoom,
}

impl Shadow {
    /// Debts that [`settle`](Self::settle) makes at most, for a call that began with
    /// `ranges` ranges.
    pub(crate) fn debts(&self, ranges: usize) -> usize {
        ranges.saturating_add(self.roots.iter().count())
    }

    /// Adds to `batch` all that hardware must be told since the call began, and the frames
    /// that must wait for it. Nothing is owed afterwards.
    pub(crate) fn settle<'b, B: Backend, P: Platform>(
        &mut self,
        backend: &'b B,
        platform: &P,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), SettleError> {
        let mut result = self.owe_wholesale(backend, batch);
        for planned in self.plan.ranges() {
            let Some(root) = self.roots.get(planned.root) else {
                continue;
            };
            let Some(domain) = root.domain else { continue };
            if root.forget_all || self.plan.everything() {
                continue;
            }
            let scope = Scope::Range {
                range: planned.range,
                leaf_only: planned.leaf_only,
            };
            result = result.and(add(batch, backend.invalidate(domain, scope)));
        }
        for root in self.roots.iter_mut() {
            root.forget_all = false;
        }
        self.plan.begin(0);
        let mut released = self.pages.take_released();
        if !batch.is_empty() || result.is_err() {
            batch.hold(released);
            return result;
        }
        // Nothing is owed, so no root that hardware knows led to them.
        while let Some(frame) = released.pop() {
            platform.release(frame);
        }
        Ok(())
    }

    fn owe_wholesale<'b, B: Backend>(
        &self,
        backend: &'b B,
        batch: &mut Batch<'b, B::Debt>,
    ) -> Result<(), SettleError> {
        let mut result = Ok(());
        for (_, root) in self.roots.iter() {
            let all = root.forget_all || self.plan.everything();
            if let (true, Some(domain)) = (all, root.domain) {
                let owed = backend.invalidate(domain, Scope::Everything);
                result = result.and(add(batch, owed));
            }
        }
        result
    }
}

/// Adds a debt to a batch.
pub(crate) fn add<'b, D>(
    batch: &mut Batch<'b, D>,
    owed: Result<Owed<'b, D>, BackendError>,
) -> Result<(), SettleError> {
    let owed = owed.map_err(SettleError::Refused)?;
    // A debt that does not fit is dropped into quarantine, and the error says so.
    batch.add(owed).map_err(|_| SettleError::NoRoom)
}
