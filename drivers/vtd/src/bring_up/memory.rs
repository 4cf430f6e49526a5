//! All that a unit needs, allocated before it is told anything.

use super::UnitConfig;
use crate::abilities::Abilities;
use crate::irq_remap::InterruptTable;
use crate::mode::ModeChoice;
use crate::page_request::PageRequestQueue;
use crate::queue::Queue;
use crate::slots::Tables;
use iommu_core::{OutOfFrames, Platform};

pub(super) struct Memory {
    pub(super) queue: Option<Queue>,
    pub(super) tables: Tables,
    pub(super) interrupts: Option<InterruptTable>,
    pub(super) page_requests: Option<PageRequestQueue>,
}

impl Memory {
    pub(super) fn allocate<P: Platform>(
        platform: &P,
        abilities: &Abilities,
        choice: ModeChoice,
        config: &UnitConfig,
    ) -> Result<Self, OutOfFrames> {
        let queue = if abilities.has_queue() {
            Some(Queue::new(platform, abilities.wide_descriptors())?)
        } else {
            None
        };
        let tables = match Tables::new(platform, *abilities, choice.mode().is_scalable()) {
            Ok(tables) => tables,
            Err(error) => {
                if let Some(queue) = queue {
                    queue.dispose(platform);
                }
                return Err(error);
            }
        };
        let mut memory = Self {
            queue,
            tables,
            interrupts: None,
            page_requests: None,
        };
        match memory.allocate_rest(platform, abilities, choice, config) {
            Ok(()) => Ok(memory),
            Err(error) => {
                memory.dispose(platform);
                Err(error)
            }
        }
    }

    fn allocate_rest<P: Platform>(
        &mut self,
        platform: &P,
        abilities: &Abilities,
        choice: ModeChoice,
        config: &UnitConfig,
    ) -> Result<(), OutOfFrames> {
        if let Some(wanted) = config.interrupts {
            self.interrupts = Some(InterruptTable::new(
                platform,
                wanted.entries_log2,
                wanted.extended,
                abilities.table_coherence(),
            )?);
        }
        let can_ask = choice.mode().is_scalable() && abilities.page_requests();
        if let Some(wanted) = config.page_requests.filter(|_| can_ask) {
            self.page_requests = Some(PageRequestQueue::new(platform, wanted.pages_log2)?);
        }
        Ok(())
    }

    pub(super) fn dispose<P: Platform>(self, platform: &P) {
        if let Some(queue) = self.queue {
            queue.dispose(platform);
        }
        self.tables.dispose(platform);
        if let Some(interrupts) = self.interrupts {
            interrupts.dispose(platform);
        }
        if let Some(page_requests) = self.page_requests {
            page_requests.dispose(platform);
        }
    }
}
