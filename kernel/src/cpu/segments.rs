//! Segments and the task state segment of one CPU.

use super::per_cpu;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Index of the stack for non-maskable interrupts, counted from 0.
pub(super) const NMI_STACK: u16 = 0;
/// Index of the stack for double faults.
pub(super) const DOUBLE_FAULT_STACK: u16 = 1;
/// Index of the stack for machine checks.
pub(super) const MACHINE_CHECK_STACK: u16 = 2;

/// One CPU's tables.
pub(super) struct Cell(UnsafeCell<Tables>);

// SAFETY: written once, by the CPU that owns it, before it is loaded.
unsafe impl Sync for Cell {}

struct Tables {
    gdt: GlobalDescriptorTable,
    tss: TaskStateSegment,
}

impl Cell {
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new(Tables {
            gdt: GlobalDescriptorTable::new(),
            tss: TaskStateSegment::new(),
        }))
    }
}

/// Loads this CPU's segments. Once.
pub(super) fn load() {
    // SAFETY: this CPU's own tables, used by nobody before this function, which runs once.
    let tables: &'static mut Tables = unsafe { &mut *per_cpu::area().segments.0.get() };
    let stacks = per_cpu::exception_stacks();
    for (index, stack) in stacks.iter().enumerate() {
        tables.tss.interrupt_stack_table[index] = VirtAddr::new(stack.top());
    }
    let tss: &'static TaskStateSegment = &tables.tss;
    let code = tables.gdt.append(Descriptor::kernel_code_segment());
    let data = tables.gdt.append(Descriptor::kernel_data_segment());
    let task = tables.gdt.append(Descriptor::tss_segment(tss));
    tables.gdt.load();
    // SAFETY: the selectors name flat segments of the table just loaded. The GS base, which
    // is not touched, stays.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
    }
}
