//! Who else knows how a structure looks.

use core::fmt;

/// A project whose code was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Project {
    /// QEMU, `hw/i386/`: `intel_iommu_internal.h` as of 0192d6677c38 and, for what 10.0 and
    /// 11.1 added (PASID-based descriptors, page requests), as of 11.1; and
    /// `include/hw/i386/intel_iommu.h`.
    Qemu,
    /// Units of QEMU 10.0.13 and 11.1.3, whose registers were read while they ran.
    RunningQemu,
    /// Linux, `drivers/iommu/intel/` (037dd1308c6d), `include/linux/dmar.h`,
    /// `arch/x86/include/asm/posted_intr.h`.
    Linux,
    /// Xen, `xen/drivers/passthrough/vtd/` (c447b7308b13), and `vmx/vmcs.h` of x86's headers.
    Xen,
    /// OpenVMM, `vm/devices/iommu/intel_vtd/src/spec/` (1488a37b7cfe).
    OpenVmm,
    /// FreeBSD, `sys/x86/iommu/`.
    FreeBsd,
    /// VirtualBox, `include/VBox/iommu-intel.h`.
    VirtualBox,
    /// Messages of Linux on a machine, which print the registers.
    KernelLog,
    /// Intel's public processor datasheets: the register pages.
    Datasheet,
}

/// A place that agrees with a vector: a file of a project and the name in it by which the
/// layout is found. Names stay where lines move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// Whose.
    pub project: Project,
    /// Which file.
    pub file: &'static str,
    /// What to look for.
    pub name: &'static str,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.project, self.file, self.name)
    }
}

const fn source(project: Project, file: &'static str, name: &'static str) -> Source {
    Source {
        project,
        file,
        name,
    }
}

pub(crate) const fn qemu(name: &'static str) -> Source {
    source(Project::Qemu, "intel_iommu_internal.h", name)
}

pub(crate) const fn qemu_in(file: &'static str, name: &'static str) -> Source {
    source(Project::Qemu, file, name)
}

pub(crate) const fn running_qemu(name: &'static str) -> Source {
    source(Project::RunningQemu, "register", name)
}

pub(crate) const fn linux(name: &'static str) -> Source {
    source(Project::Linux, "iommu.h", name)
}

pub(crate) const fn linux_in(file: &'static str, name: &'static str) -> Source {
    source(Project::Linux, file, name)
}

pub(crate) const fn xen(name: &'static str) -> Source {
    source(Project::Xen, "iommu.h", name)
}

pub(crate) const fn xen_in(file: &'static str, name: &'static str) -> Source {
    source(Project::Xen, file, name)
}

pub(crate) const fn openvmm(file: &'static str, name: &'static str) -> Source {
    source(Project::OpenVmm, file, name)
}

pub(crate) const fn freebsd(name: &'static str) -> Source {
    source(Project::FreeBsd, "intel_reg.h", name)
}

pub(crate) const fn virtualbox(name: &'static str) -> Source {
    source(Project::VirtualBox, "iommu-intel.h", name)
}

pub(crate) const fn kernel_log(machine: &'static str) -> Source {
    source(
        Project::KernelLog,
        "DMAR: reg_base_addr … cap … ecap",
        machine,
    )
}

pub(crate) const fn datasheet(name: &'static str) -> Source {
    source(Project::Datasheet, "VT-d registers", name)
}
