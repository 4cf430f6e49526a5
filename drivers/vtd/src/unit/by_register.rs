//! Register-based invalidation (§6.5.1, §11.4.6): for units without a queue.
//!
//! It knows the context-cache and the IOTLB of legacy mode, and takes one command at a time.
//! Everything else that a unit may cache comes with abilities that need a queue. Where there
//! is a queue, it is on before the first invalidation is needed, so these registers are not
//! used even then.

use super::Unit;
use super::command::wait_until;
use crate::Event;
use crate::queue::{ContextScope, Descriptor, IotlbScope, QueueError};
use crate::registers::{Ccmd, Iotlb, Iva};
use iommu_core::{Mmio, Observer, PAGE_SHIFT, Platform};

/// CIRG and IIRG: what is asked, and what was done. The larger, the narrower.
const GLOBAL: u8 = 1;
const DOMAIN: u8 = 2;
const SELECTIVE: u8 = 3;

impl<M: Mmio> Unit<M> {
    /// Carries out one invalidation. What the unit will not do so narrowly is done more
    /// widely, and refused only if it cannot be done at all.
    pub(super) fn invalidate_by_register<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        descriptor: Descriptor,
    ) -> Result<(), QueueError> {
        let mut wanted = Some(descriptor);
        while let Some(descriptor) = wanted {
            let _one_at_a_time = self.commands.lock(platform);
            self.counters.register_invalidations.increment();
            if self.carry_out(platform, descriptor)? {
                return Ok(());
            }
            wanted = wider(descriptor);
        }
        Err(QueueError::Refused(0))
    }
}

/// The next wider invalidation of the same cache.
fn wider(descriptor: Descriptor) -> Option<Descriptor> {
    match descriptor {
        Descriptor::ContextCache(ContextScope::Device { domain, .. }) => {
            Some(Descriptor::ContextCache(ContextScope::Domain(domain)))
        }
        Descriptor::ContextCache(ContextScope::Domain(_)) => {
            Some(Descriptor::ContextCache(ContextScope::Global))
        }
        Descriptor::Iotlb(IotlbScope::Pages { domain, .. }) => {
            Some(Descriptor::Iotlb(IotlbScope::Domain(domain)))
        }
        Descriptor::Iotlb(IotlbScope::Domain(_)) => Some(Descriptor::Iotlb(IotlbScope::Global)),
        _ => None,
    }
}

impl<M: Mmio> Unit<M> {
    /// One command. Says whether the unit did at least what was asked.
    fn carry_out<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        descriptor: Descriptor,
    ) -> Result<bool, QueueError> {
        // One that was given up may still be under way, and must not be disturbed.
        self.await_answer(platform, || self.is_idle())?;
        match descriptor {
            Descriptor::ContextCache(scope) => self.invalidate_contexts(platform, scope),
            Descriptor::Iotlb(scope) => self.invalidate_iotlb(platform, scope),
            // No unit without a queue has such a cache.
            _ => Ok(false),
        }
    }

    fn invalidate_contexts<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        scope: ContextScope,
    ) -> Result<bool, QueueError> {
        let command = Ccmd::new().with_icc(true);
        let command = match scope {
            ContextScope::Global => command.with_cirg(GLOBAL),
            ContextScope::Domain(domain) => command.with_cirg(DOMAIN).with_did(domain),
            ContextScope::Device { domain, source } => command
                .with_cirg(SELECTIVE)
                .with_did(domain)
                .with_sid(source.bits()),
        };
        self.registers.write64(platform, command);
        self.await_answer(platform, || !self.registers.read64::<Ccmd>().icc())?;
        let done = self.registers.read64::<Ccmd>().caig();
        Ok(is_enough(done, command.cirg()))
    }

    fn invalidate_iotlb<P: Platform + Observer<Event>>(
        &self,
        platform: &P,
        scope: IotlbScope,
    ) -> Result<bool, QueueError> {
        let address_at = self.abilities.ecap.invalidate_address_at();
        let command = self
            .iotlb_command()
            .with_iaig(0)
            .with_did(0)
            .with_dw(true)
            .with_dr(true)
            .with_ivt(true);
        let command = match scope {
            IotlbScope::Global => command.with_iirg(GLOBAL),
            IotlbScope::Domain(domain) => command.with_iirg(DOMAIN).with_did(domain),
            IotlbScope::Pages {
                domain,
                block,
                leaf_only,
            } => {
                let address = Iva::new()
                    .with_am(block.order.log2())
                    .with_ih(leaf_only)
                    .with_addr(block.first.as_u64() >> PAGE_SHIFT);
                self.registers
                    .write64_at(platform, "IVA", address_at, address.into_bits());
                command.with_iirg(SELECTIVE).with_did(domain)
            }
            IotlbScope::Pasid { .. } | IotlbScope::PasidPages { .. } => return Ok(false),
        };
        self.registers
            .write64_at(platform, "IOTLB", self.iotlb_at(), command.into_bits());
        self.await_answer(platform, || !self.iotlb_command().ivt())?;
        Ok(is_enough(self.iotlb_command().iaig(), command.iirg()))
    }

    fn is_idle(&self) -> bool {
        !self.registers.read64::<Ccmd>().icc() && !self.iotlb_command().ivt()
    }

    fn iotlb_command(&self) -> Iotlb {
        Iotlb::from_bits(self.registers.read64_at(self.iotlb_at()))
    }

    fn iotlb_at(&self) -> usize {
        self.abilities
            .ecap
            .invalidate_address_at()
            .saturating_add(8)
    }

    fn await_answer<P: Platform>(
        &self,
        platform: &P,
        done: impl FnMut() -> bool,
    ) -> Result<(), QueueError> {
        wait_until(platform, self.limits.command, done).map_err(|waited| {
            self.counters.timeouts.increment();
            QueueError::TimedOut(waited)
        })
    }
}

/// What was done is as wide as what was asked, or wider; 0 is nothing.
const fn is_enough(done: u8, asked: u8) -> bool {
    done != 0 && done <= asked
}
