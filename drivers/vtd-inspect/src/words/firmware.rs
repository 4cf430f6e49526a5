//! What firmware left on.

use core::fmt;
use vtd::FirmwareState;

/// What firmware left on, and what becomes of it.
#[derive(Clone, Copy)]
pub struct LeftBehind<'a>(pub &'a FirmwareState);

impl fmt::Display for LeftBehind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0;
        let translation = match (state.translation, state.abort, state.scalable) {
            (false, ..) => None,
            (true, true, _) => Some("abort-DMA mode, which goes on until our tables are in force"),
            (true, _, true) => {
                Some("translation in scalable mode, which goes on until our tables are in force")
            }
            (true, _, false) => {
                Some("translation in legacy mode, which goes on until our tables are in force")
            }
        };
        let parts = [
            translation,
            state
                .protected_memory
                .then_some("protected memory regions, which are kept as long"),
            state
                .interrupt_remapping
                .then_some("interrupt remapping, which is begun anew"),
            state
                .queue
                .then_some("the invalidation queue, which is replaced"),
            state
                .queue_error
                .then_some("an error of that queue, which is cleared"),
            state.faults.then_some("recorded faults, which are dropped"),
        ];
        let mut any = false;
        for part in parts.into_iter().flatten() {
            f.write_str(if any { "; " } else { "" })?;
            f.write_str(part)?;
            any = true;
        }
        if any {
            Ok(())
        } else {
            f.write_str("nothing on")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_was_left_on_is_told_with_what_becomes_of_it() {
        assert_eq!(
            LeftBehind(&FirmwareState::default()).to_string(),
            "nothing on"
        );
        let state = FirmwareState {
            translation: true,
            queue: true,
            queue_error: true,
            ..FirmwareState::default()
        };
        assert_eq!(
            LeftBehind(&state).to_string(),
            "translation in legacy mode, which goes on until our tables are in force; \
             the invalidation queue, which is replaced; an error of that queue, which is cleared"
        );
    }
}
