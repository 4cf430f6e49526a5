//! A guest that is made anew each time that it ends: crashed, finished or stopped.

use super::run::{Guest, Order, start_again};
use super::voice::StreamVoice;
use super::{GuestError, Stopper, belongings};
use crate::archive::Archive;
use crate::host::Host;
use crate::turns::{Countdown, Task, Turn};
use crate::vcpu::Ending;
use alloc::sync::Arc;
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
    /// It could not be made anew or not taken back, or had written where it may not.
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

/// A guest that lives again and again until others are over.
///
/// Each life has a seed of its own, which follows from the first. Everything of a life is given
/// back before the next begins, while other guests go on.
pub struct Lives<'a> {
    host: &'a Host,
    archive: &'a Archive<'a>,
    order: Order<'a>,
    /// Of the lives after the first.
    seeds: fastrand::Rng,
    guest: Option<Guest>,
    voice: Arc<StreamVoice>,
    endings: Endings,
    /// The last life ends with this.
    others: &'a Countdown,
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
        others: &'a Countdown,
    ) -> Result<Self, GuestError> {
        let mut guest = super::start(host, archive, &order)?;
        guest.set_limit(limit);
        belongings::tell(&guest, order.label);
        Ok(Self {
            host,
            archive,
            seeds: fastrand::Rng::with_seed(order.seed),
            order,
            voice: guest.voice().clone(),
            guest: Some(guest),
            endings: Endings::default(),
            others,
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
        if !belongings::tell_end(&guest, self.order.label) {
            endings.failed += 1;
        }
        if let Err(error) = guest.end() {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: GuestError) {
        self.endings.failed += 1;
        self.error = self.error.or(Some(error));
    }

    /// Ends this life and begins another, unless the others are over.
    fn live_again(&mut self) -> Turn {
        self.end();
        if self.others.is_over() || self.error.is_some() {
            return Turn::Over;
        }
        self.order.seed = self.seeds.u64(..);
        let voice = self.voice.clone();
        match start_again(self.host, self.archive, &self.order, voice) {
            Ok(mut guest) => {
                guest.set_limit(self.limit);
                belongings::tell(&guest, self.order.label);
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
        if self.others.is_over() {
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
        awake || self.others.is_over()
    }

    fn tend(&self) {
        if let Some(guest) = &self.guest {
            guest.tend();
        }
    }
}
