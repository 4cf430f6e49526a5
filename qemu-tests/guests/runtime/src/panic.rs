//! A panic ends the guest as failed.

use crate::start::end;
use core::panic::PanicInfo;
use guest_machine::Outcome;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    x86_64::instructions::interrupts::disable();
    let place = info.location().map_or(("", 0), |at| (at.file(), at.line()));
    defmt::error!(
        "panic at {=str}:{=u32}: {}",
        place.0,
        place.1,
        defmt::Display2Format(&info.message())
    );
    end(Outcome::Fail)
}
