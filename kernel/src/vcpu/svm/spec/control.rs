//! The control area (APM 2, table B-1).

use bitfield_struct::{bitenum, bitfield};
use core::mem::offset_of;

/// Intercepts of instructions and events at 00Ch.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Instructions1 {
    /// Physical interrupts.
    pub intr: bool,
    /// Non-maskable interrupts.
    pub nmi: bool,
    /// System management interrupts.
    pub smi: bool,
    /// INIT.
    pub init: bool,
    /// The virtual interrupt of `V_IRQ` could be taken.
    pub vintr: bool,
    /// Writes to CR0 that change more than TS and MP.
    pub cr0_selective_write: bool,
    /// Reads of the IDTR.
    pub idtr_read: bool,
    /// Reads of the GDTR.
    pub gdtr_read: bool,
    /// Reads of the LDTR.
    pub ldtr_read: bool,
    /// Reads of TR.
    pub tr_read: bool,
    /// Writes to the IDTR.
    pub idtr_write: bool,
    /// Writes to the GDTR.
    pub gdtr_write: bool,
    /// Writes to the LDTR.
    pub ldtr_write: bool,
    /// Writes to TR.
    pub tr_write: bool,
    /// RDTSC.
    pub rdtsc: bool,
    /// RDPMC.
    pub rdpmc: bool,
    /// PUSHF.
    pub pushf: bool,
    /// POPF.
    pub popf: bool,
    /// CPUID.
    pub cpuid: bool,
    /// RSM.
    pub rsm: bool,
    /// IRET.
    pub iret: bool,
    /// INT n.
    pub int: bool,
    /// INVD.
    pub invd: bool,
    /// PAUSE.
    pub pause: bool,
    /// HLT.
    pub hlt: bool,
    /// INVLPG.
    pub invlpg: bool,
    /// INVLPGA.
    pub invlpga: bool,
    /// Ports whose bit in the permission map is set.
    pub ioio: bool,
    /// MSRs whose bits in the permission map are set.
    pub msr: bool,
    /// Task switches.
    pub task_switch: bool,
    /// Frozen x87 errors.
    pub ferr_freeze: bool,
    /// Triple faults.
    pub shutdown: bool,
}

/// Intercepts of instructions at 010h.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Instructions2 {
    /// VMRUN; must be set.
    pub vmrun: bool,
    /// VMMCALL.
    pub vmmcall: bool,
    /// VMLOAD.
    pub vmload: bool,
    /// VMSAVE.
    pub vmsave: bool,
    /// STGI.
    pub stgi: bool,
    /// CLGI.
    pub clgi: bool,
    /// SKINIT.
    pub skinit: bool,
    /// RDTSCP.
    pub rdtscp: bool,
    /// ICEBP.
    pub icebp: bool,
    /// WBINVD.
    pub wbinvd: bool,
    /// MONITOR.
    pub monitor: bool,
    /// MWAIT.
    pub mwait: bool,
    /// MWAIT, if the monitor is armed.
    pub mwait_armed: bool,
    /// XSETBV.
    pub xsetbv: bool,
    /// RDPRU.
    pub rdpru: bool,
    /// After writes to EFER.
    pub efer_write_after: bool,
    /// After writes to CR0 to CR15.
    pub cr_write_after: u16,
}

/// What happens to cached translations at VMRUN, at 05Ch.
#[bitenum]
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlbControl {
    /// Nothing.
    #[fallback]
    Keep = 0,
    /// All translations of all guests and of the host are flushed.
    FlushAll = 1,
}

/// Virtual interrupts, at 060h.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptControl {
    /// Task priority of the guest.
    pub tpr: u8,
    /// A virtual interrupt waits.
    pub irq: bool,
    /// The virtual global interrupt flag.
    pub gif: bool,
    #[bits(6)]
    __: u8,
    /// Priority of the waiting interrupt.
    #[bits(4)]
    pub priority: u8,
    /// The task priority does not hold it back.
    pub ignore_tpr: bool,
    #[bits(3)]
    __: u8,
    /// The guest's interrupt flag masks virtual interrupts only.
    pub masking: bool,
    /// The virtual global interrupt flag is used.
    pub gif_enable: bool,
    #[bits(6)]
    __: u8,
    /// Vector of the waiting interrupt.
    pub vector: u8,
    #[bits(24)]
    __: u32,
}

/// The interrupt shadow, at 068h.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct InterruptShadow {
    /// The instruction after one that holds interrupts back for one instruction.
    pub shadow: bool,
    /// The guest's interrupt flag, with encrypted state only.
    pub guest_interrupt_mask: bool,
    #[bits(62)]
    __: u64,
}

/// Nested paging, at 090h.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct NestedControl {
    /// Nested paging is on.
    pub enable: bool,
    #[bits(63)]
    __: u64,
}

/// What kind of event is injected.
#[bitenum]
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventType {
    /// An interrupt.
    #[fallback]
    Interrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception.
    Exception = 3,
    /// INT n.
    Software = 4,
}

/// An event that is injected (0A8h) or was interrupted (088h).
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventInjection {
    /// Vector.
    pub vector: u8,
    /// Kind.
    #[bits(3)]
    pub kind: EventType,
    /// There is an error code.
    pub has_error: bool,
    #[bits(19)]
    __: u32,
    /// There is an event.
    pub valid: bool,
    /// Error code.
    pub error: u32,
}

/// The control area of a VMCB.
#[derive(Debug)]
#[repr(C)]
pub struct ControlArea {
    /// Reads of control registers, by number.
    pub cr_reads: u16,
    /// Writes to control registers.
    pub cr_writes: u16,
    /// Reads of debug registers.
    pub dr_reads: u16,
    /// Writes to debug registers.
    pub dr_writes: u16,
    /// Exceptions, by vector.
    pub exceptions: u32,
    /// Instructions and events.
    pub instructions1: Instructions1,
    /// More instructions.
    pub instructions2: Instructions2,
    /// INVLPGB and others, which no CPU without the feature looks at.
    pub instructions3: u32,
    reserved1: [u8; 0x24],
    /// PAUSE filter.
    pub pause_filter: u32,
    /// Physical address of the port permission map, 12 KiB.
    pub io_permissions: u64,
    /// Physical address of the MSR permission map, 8 KiB.
    pub msr_permissions: u64,
    /// Added to the time-stamp counter.
    pub tsc_offset: u64,
    /// Address space id; 0 is the host's.
    pub asid: u32,
    /// What is flushed.
    pub tlb_control: TlbControl,
    reserved2: [u8; 3],
    /// Virtual interrupts.
    pub interrupts: InterruptControl,
    /// Interrupt shadow.
    pub shadow: InterruptShadow,
    /// Why the guest was left; only 32 bits are compared, for CPUs differ in how they
    /// extend the sign of −1.
    pub exit_code: u64,
    /// More about that.
    pub exit_info1: u64,
    /// More about that.
    pub exit_info2: u64,
    /// An event whose delivery the exit interrupted.
    pub exit_interrupt: EventInjection,
    /// Nested paging.
    pub nested: NestedControl,
    reserved3: [u8; 0x10],
    /// An event to be delivered at VMRUN.
    pub inject: EventInjection,
    /// Root of the nested page tables.
    pub nested_cr3: u64,
    /// Last-branch records and virtual VMLOAD.
    pub virtual_extensions: u64,
    /// Which parts of the VMCB are unchanged: none.
    pub clean: u64,
    /// The next instruction, on CPUs that save it.
    pub next_rip: u64,
    /// Instruction bytes, on CPUs that fetch them.
    pub instruction_bytes: [u8; 16],
    reserved4: [u8; 0x320],
}

const _: () = {
    assert!(offset_of!(ControlArea, exceptions) == 0x008);
    assert!(offset_of!(ControlArea, instructions1) == 0x00c);
    assert!(offset_of!(ControlArea, instructions2) == 0x010);
    assert!(offset_of!(ControlArea, pause_filter) == 0x03c);
    assert!(offset_of!(ControlArea, io_permissions) == 0x040);
    assert!(offset_of!(ControlArea, msr_permissions) == 0x048);
    assert!(offset_of!(ControlArea, tsc_offset) == 0x050);
    assert!(offset_of!(ControlArea, asid) == 0x058);
    assert!(offset_of!(ControlArea, tlb_control) == 0x05c);
    assert!(offset_of!(ControlArea, interrupts) == 0x060);
    assert!(offset_of!(ControlArea, shadow) == 0x068);
    assert!(offset_of!(ControlArea, exit_code) == 0x070);
    assert!(offset_of!(ControlArea, exit_info1) == 0x078);
    assert!(offset_of!(ControlArea, exit_info2) == 0x080);
    assert!(offset_of!(ControlArea, exit_interrupt) == 0x088);
    assert!(offset_of!(ControlArea, nested) == 0x090);
    assert!(offset_of!(ControlArea, inject) == 0x0a8);
    assert!(offset_of!(ControlArea, nested_cr3) == 0x0b0);
    assert!(offset_of!(ControlArea, clean) == 0x0c0);
    assert!(offset_of!(ControlArea, next_rip) == 0x0c8);
    assert!(size_of::<ControlArea>() == 0x400);
};
