//! The program as a virtual machine.
#![no_std]
#![no_main]

guest_runtime::program!(nested_bind::run);
