//! The tests, a file for each thing that they are about.

mod blocking;
mod costs;
mod devices;
mod guests;
mod hand_over;
mod inspect;
mod interrupts;
mod invalidation;
mod linux;
mod mapping;
mod memory;
mod old_callers;
mod own_driver;
mod pasid;
mod polled;
mod registers;
mod ring;
mod runner;
mod several;
mod shared;
mod switches;
mod topology;
