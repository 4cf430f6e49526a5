//! Answering page requests.

use crate::argument::{check_entry_size, copy_entry, element};
use crate::dispatch::Answer;
use crate::error::{Refusal, of_backend};
use crate::inbox::AnswerError;
use crate::vm::Vm;
use crate::{Iommu, PasidAllocator};
use iommu_abi::{Errno, PageAnswer, PageResponse, PageResponseCode};
use iommu_core::{Backend, Platform, ResponseCode, VmHost};

/// Answers that one call gives, at most.
const MAX_ANSWERS: u32 = 64;

impl<B: Backend, P: Platform, H: VmHost, A: PasidAllocator> Iommu<B, P, H, A> {
    pub(crate) fn page_response(&self, guest: &mut Vm, ask: &mut PageResponse) -> Answer {
        check_entry_size::<PageAnswer>(ask.entry_size)?;
        for index in 0..ask.entry_count.min(MAX_ANSWERS) {
            let answered = element(ask.answers, ask.entry_size, index).and_then(|at| {
                let answer = copy_entry(&*guest.memory, at, ask.entry_size)?;
                self.answer(guest, &answer)
            });
            answered.map_err(Refusal::with_outputs)?;
            ask.completed = index.saturating_add(1);
        }
        Ok(ask.completed.into())
    }

    /// Checks one answer and gives it to the device. What was refused can be answered still;
    /// what hardware did not take is answered.
    pub(crate) fn answer(&self, guest: &Vm, answer: &PageAnswer) -> Result<(), Errno> {
        if answer.flags & !PageAnswer::FLAGS != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let device = guest.objects.device(answer.device_id)?;
        let code = match PageResponseCode::from_u32(answer.code).ok_or(Errno::EINVAL)? {
            PageResponseCode::Success => ResponseCode::Success,
            PageResponseCode::InvalidRequest => ResponseCode::InvalidRequest,
            PageResponseCode::Failure => {
                // Virtual functions ask through their physical one: it would stop asking for
                // all of them.
                let source = device.device.source;
                if device
                    .asks
                    .is_none_or(|ats| ats.physical_function != source)
                {
                    return Err(Errno::EOPNOTSUPP);
                }
                ResponseCode::Failure
            }
        };
        let slot = self.slot(guest.id).ok_or(Errno::EIO)?;
        let told = slot
            .inbox
            .lock(&self.platform)
            .groups
            .answered(answer)
            .map_err(|error| match error {
                AnswerError::NoSuchGroup => Errno::ENOENT,
                AnswerError::Contradiction => Errno::EINVAL,
            })?;
        self.backend
            .respond(&iommu_core::PageResponse {
                slot: told.group.slot,
                group: told.group.index,
                code,
            })
            .map_err(of_backend)
    }
}
