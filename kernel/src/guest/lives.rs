//! A guest that is made anew each time that it ends: crashed, finished or stopped.

use super::run::{Guest, Order, start_again};
use super::voice::StreamVoice;
use super::{GuestError, Stopper};
use crate::archive::Archive;
use crate::host::Host;
use crate::turns::{Task, Turn};
use crate::vcpu::Ending;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use iommu_core::Nanoseconds;

/// How the lives of a guest ended, how often.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub struct Endings {
    /// It said that it had finished.
    pub finished: u64,
    /// A triple fault, a halt for ever, memory that is not there: by its own doing.
    pub crashed: u64,
    /// Its time was over, or somebody wanted it to stop.
    pub stopped: u64,
    /// It could not be made anew, or not taken back.
    pub failed: u64,
    /// Hypercalls that it made, in all lives.
    pub hypercalls: u64,
}

impl Endings {
    /// Lives that were lived.
    pub const fn lives(&self) -> u64 {
        self.finished
            .saturating_add(self.crashed)
            .saturating_add(self.stopped)
    }
}

/// A guest that lives again and again until it is told that it is enough.
///
/// Each life has a seed of its own, which follows from the first. Everything of a life is given
/// back before the next begins, while other guests go on.
pub struct Lives<'a> {
    host: &'a Host,
    archive: &'a Archive<'a>,
    order: Order<'a>,
    guest: Option<Guest>,
    voice: Arc<StreamVoice>,
    endings: Endings,
    /// The last life ends when this is true.
    enough: &'a AtomicBool,
    /// The most time of one life.
    limit: Nanoseconds,
    error: Option<GuestError>,
}

impl<'a> Lives<'a> {
    /// The first life, made and not begun.
    pub fn new(
        host: &'a Host,
        archive: &'a Archive<'a>,
        order: Order<'a>,
        limit: Nanoseconds,
        enough: &'a AtomicBool,
    ) -> Result<Self, GuestError> {
        let mut guest = super::start(host, archive, &order)?;
        guest.set_limit(limit);
        Ok(Self {
            host,
            archive,
            order,
            voice: guest.voice().clone(),
            guest: Some(guest),
            endings: Endings::default(),
            enough,
            limit,
            error: None,
        })
    }

    /// How its lives ended so far.
    pub fn endings(&self) -> Endings {
        self.endings
    }

    /// Why there is no further life, if one could not be made or not be taken back.
    pub fn error(&self) -> Option<GuestError> {
        self.error
    }

    /// What stops the life that it has now.
    pub fn stopper(&self) -> Option<Stopper> {
        self.guest.as_ref().map(Guest::stopper)
    }

    /// Takes the last life back, if there is one.
    pub fn end(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.bury(guest);
        }
    }

    fn bury(&mut self, guest: Guest) {
        let endings = &mut self.endings;
        *match guest.ending() {
            Some(Ending::Finished(_)) => &mut endings.finished,
            Some(Ending::TimedOut | Ending::Stopped) | None => &mut endings.stopped,
            Some(_) => &mut endings.crashed,
        } += 1;
        endings.hypercalls = endings.hypercalls.saturating_add(guest.vm().hypercalls());
        if let Err(error) = guest.end() {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: GuestError) {
        self.endings.failed += 1;
        self.error = self.error.or(Some(error));
    }

    /// Ends this life and begins another, unless it is enough.
    fn live_again(&mut self) -> Turn {
        self.end();
        if self.enough.load(Ordering::Acquire) || self.error.is_some() {
            return Turn::Over;
        }
        // One step of a linear congruential generator (Knuth's), so that lives differ.
        let multiplied = self.order.seed.wrapping_mul(0x5851_f42d_4c95_7f2d);
        self.order.seed = multiplied.wrapping_add(0x1405_7b7e_f767_814f);
        let voice = self.voice.clone();
        match start_again(self.host, self.archive, &self.order, voice) {
            Ok(mut guest) => {
                guest.set_limit(self.limit);
                self.guest = Some(guest);
                Turn::Again
            }
            Err(error) => {
                self.fail(error);
                Turn::Over
            }
        }
    }
}

impl Task for Lives<'_> {
    fn turn(&mut self) -> Turn {
        let Some(guest) = &mut self.guest else {
            return Turn::Over;
        };
        if self.enough.load(Ordering::Acquire) {
            self.end();
            return Turn::Over;
        }
        match guest.turn() {
            Turn::Over => self.live_again(),
            turn => turn,
        }
    }

    fn is_awake(&self) -> bool {
        let awake = self.guest.as_ref().is_none_or(Task::is_awake);
        awake || self.enough.load(Ordering::Acquire)
    }
}
