//! A table for people: units and what belongs to them, regions, what the driver would do
//! and why, and what is odd.

use std::fmt::Write;

use ::dmar::{
    AtsrFlags, DeviceProperties, Dmar, Finding, Region, SatcFlags, Scope, ScopeKind, Severity,
    Structure, Unit,
};
use iommu_core::{DeviceId, Segment};

use super::decisions::{self, Decision};
use super::input::Input;

/// The whole picture, ending with a newline.
pub(super) fn of(input: &Input) -> String {
    let mut picture = Picture {
        input,
        dmar: Dmar::new(&input.table),
        text: String::new(),
    };
    picture.title();
    picture.units();
    picture.regions();
    picture.caches();
    picture.decisions();
    picture.findings();
    picture.text
}

struct Picture<'a> {
    input: &'a Input,
    dmar: Dmar<'a>,
    text: String,
}

impl Picture<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn title(&mut self) {
        let mut title = format!("{}: {} bytes", self.input.name, self.input.table.len());
        if let Some((id, table)) = self.dmar.oem() {
            let (id, table) = (printable(id), printable(table));
            let _ = write!(title, ", made by \"{id}\" for \"{table}\"");
        }
        if let Some(bits) = self.dmar.host_address_width() {
            let _ = write!(title, ", {bits}-bit host addresses");
        }
        let flags: Vec<_> = self
            .dmar
            .flags()
            .iter_names()
            .map(|(name, _)| name)
            .collect();
        if flags.is_empty() {
            title.push_str(", no flags");
        } else {
            let _ = write!(title, ", {}", flags.join(" "));
        }
        self.line(title);
    }

    fn units(&mut self) {
        let dmar = self.dmar;
        for unit in dmar.units() {
            self.text.push('\n');
            self.unit_line(&unit);
            for scope in unit.drhd.scopes.clone() {
                self.scope_line(unit.drhd.segment, &scope);
            }
            if unit.includes_all {
                let rest = format!("everything else of segment {:04x}", unit.drhd.segment.0);
                self.line(format!("    {rest}"));
            }
            self.functions_of(&unit);
        }
    }

    fn unit_line(&mut self, unit: &Unit<'_>) {
        let drhd = &unit.drhd;
        let mut line = format!(
            "unit {} at {}, {} of registers, segment {:04x}",
            unit.index,
            drhd.register_base,
            size(drhd.register_bytes()),
            drhd.segment.0
        );
        if let Some(domain) = self.dmar.proximity_domain(unit) {
            let _ = write!(line, ", node {domain}");
        }
        if let Some(registers) = self.input.registers_at(drhd.register_base) {
            let _ = write!(
                line,
                ", CAP {:#x}, ECAP {:#x}",
                registers.cap, registers.ecap
            );
        }
        self.line(line);
    }

    fn scope_line(&mut self, segment: Segment, scope: &Scope<'_>) {
        let what = match scope.kind {
            ScopeKind::Endpoint => "device".to_owned(),
            ScopeKind::SubHierarchy => "bridge, and what is behind it".to_owned(),
            ScopeKind::IoApic => format!("I/O APIC {}", scope.enumeration_id),
            ScopeKind::Hpet => format!("HPET {}", scope.enumeration_id),
            ScopeKind::NamespaceDevice => self.namespace_device(scope.enumeration_id),
            ScopeKind::Unknown(kind) => format!("unknown, type {kind}"),
        };
        let mut line = format!("    {:<18} {what}", path(scope));
        let functions = &self.input.functions;
        // Only where the buses are known is it known what is missing.
        if scope.kind.is_pci() && !functions.0.is_empty() {
            let source = scope.source(segment, functions);
            let device = source.map(|source| DeviceId::new(segment, source));
            match device.map(|device| (device, functions.0.get(&device))) {
                Some((device, Some(function))) => {
                    let _ = write!(line, ", {device} class {:06x}", function.class);
                }
                _ => line.push_str(", not there"),
            }
        }
        self.line(line);
    }

    fn namespace_device(&self, number: u8) -> String {
        let mut devices = self.dmar.namespace_devices();
        let name = devices
            .find(|device| device.number == number)
            .and_then(|device| device.name);
        match name {
            Some(name) => format!("ACPI device {number}, {}", printable(name)),
            None => format!("ACPI device {number}"),
        }
    }

    /// The functions of a running system that belong to the unit.
    fn functions_of(&mut self, unit: &Unit<'_>) {
        let functions = &self.input.functions;
        let dmar = self.dmar;
        let belongs = |device: DeviceId| {
            let owner = dmar.unit_of(device, functions);
            owner.is_some_and(|owner| owner.index == unit.index)
        };
        let devices: Vec<_> = functions
            .0
            .iter()
            .filter(|(device, _)| belongs(**device))
            .map(|(device, function)| {
                let screen = if function.is_display() {
                    " (display)"
                } else {
                    ""
                };
                format!("{device}{screen}")
            })
            .collect();
        for (index, some) in devices.chunks(6).enumerate() {
            let title = if index == 0 { "here:" } else { "" };
            self.line(format!("    {title:<6}{}", some.join(" ")));
        }
    }

    /// What the driver would do, units with equal decisions together.
    fn decisions(&mut self) {
        let (flags, width) = (self.dmar.flags(), self.dmar.host_address_width());
        let mut groups: Vec<(Vec<String>, Vec<Decision>)> = Vec::new();
        for unit in self.dmar.units() {
            let registers = self.input.registers_at(unit.drhd.register_base);
            let decisions = decisions::of_unit(flags, width.unwrap_or(0), registers);
            let name = unit.index.to_string();
            match groups.iter_mut().find(|(_, same)| *same == decisions) {
                Some((units, _)) => units.push(name),
                None => groups.push((vec![name], decisions)),
            }
        }
        if groups.is_empty() {
            return self.line(
                "\nno unit that can be used: the driver would do nothing, and no device can be given to a guest",
            );
        }
        self.line("\nthe driver");
        for (units, decisions) in &groups {
            let several = if units.len() > 1 { "units" } else { "unit" };
            self.line(format!("  with {several} {}", units.join(", ")));
            for decision in decisions {
                self.line(format!("    {}: {}", decision.what, decision.why));
            }
        }
        self.line("  with devices");
        if self.dmar.regions().next().is_some() {
            self.line("    maps reserved regions one to one for their devices before it turns translation on, and keeps them mapped: firmware says that they are in use");
        }
        self.line(
            "    blocks what is not attached to a domain: that is what every device starts with",
        );
    }

    fn regions(&mut self) {
        let dmar = self.dmar;
        let regions: Vec<_> = dmar.regions().collect();
        if regions.is_empty() {
            self.line("\nno reserved regions");
            return;
        }
        self.line("\nreserved regions");
        for region in &regions {
            let line = self.region_line(region);
            self.line(line);
        }
    }

    fn region_line(&self, region: &Region<'_>) -> String {
        let range = format!("{}-{}", region.range.first(), region.range.last());
        let bytes = region.range.bytes().unwrap_or(u64::MAX);
        let devices: Vec<_> = region
            .scopes
            .clone()
            .map(|scope| self.owner(region.segment, &scope))
            .collect();
        let devices = if devices.is_empty() {
            "nobody".to_owned()
        } else {
            devices.join(", ")
        };
        format!("    {range:<25} {:>8}  {devices}", size(bytes))
    }

    /// A scope of a region, with the unit that would have to map it.
    fn owner(&self, segment: Segment, scope: &Scope<'_>) -> String {
        let functions = &self.input.functions;
        let source = scope.source(segment, functions);
        let unit = source.and_then(|source| {
            let device = DeviceId::new(segment, source);
            self.dmar.unit_of(device, functions)
        });
        match (source, unit) {
            (Some(_), Some(unit)) => format!("{} (unit {})", path(scope), unit.index),
            (Some(_), None) => format!("{} (no unit)", path(scope)),
            (None, _) => path(scope),
        }
    }

    fn caches(&mut self) {
        let mut lines = Vec::new();
        let has_sidp = self.dmar.has_sidp();
        for structure in self.dmar.structures() {
            match structure {
                Structure::Atsr(atsr) if atsr.flags.contains(AtsrFlags::ALL_PORTS) => {
                    lines.push(format!(
                        "    ATS behind all root ports of segment {:04x}",
                        atsr.segment.0
                    ));
                }
                Structure::Atsr(atsr) => lines
                    .extend(atsr.scopes.map(|scope| {
                        format!("    {:<18} ATS behind this root port", path(&scope))
                    })),
                Structure::Satc(satc) if !has_sidp => {
                    let required = satc.flags.contains(SatcFlags::ATC_REQUIRED);
                    let what = if required { "needs ATS" } else { "may use ATS" };
                    lines.extend(
                        satc.scopes
                            .map(|scope| format!("    {:<18} {what} (SATC)", path(&scope))),
                    );
                }
                Structure::Sidp(sidp) => {
                    lines.extend(sidp.scopes.map(|scope| {
                        format!("    {:<18} {}", path(&scope), properties(scope.flags))
                    }))
                }
                _ => {}
            }
        }
        if !lines.is_empty() {
            self.line("\ntranslation caches and other properties of devices");
            for line in lines {
                self.line(line);
            }
        }
    }

    fn findings(&mut self) {
        let mut findings: Vec<Finding> = Vec::new();
        self.dmar.audit(&mut |finding| findings.push(finding));
        for (severity, title) in [(Severity::Error, "malformed"), (Severity::Warning, "odd")] {
            let mut some = findings
                .iter()
                .filter(|finding| finding.severity() == severity);
            if let Some(first) = some.next() {
                self.line(format!("\n{title}"));
                for finding in std::iter::once(first).chain(some) {
                    let action = finding.action().name();
                    self.line(format!("    {:#06x}  {finding} ({action})", finding.offset));
                }
            }
        }
    }
}

/// `00:1c.0`, or with further steps `00:1c.0/00.0`.
fn path(scope: &Scope<'_>) -> String {
    let mut text = format!("{:02x}:", scope.start_bus);
    for (index, hop) in scope.path().enumerate() {
        let slash = if index == 0 { "" } else { "/" };
        let _ = write!(text, "{slash}{:02x}.{:x}", hop.device, hop.function);
    }
    text
}

fn properties(flags: DeviceProperties) -> String {
    let names: Vec<_> = (flags & DeviceProperties::all())
        .iter_names()
        .map(|(name, _)| name)
        .collect();
    if names.is_empty() {
        "no property".to_owned()
    } else {
        names.join(" ")
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in UNITS {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// Text of firmware: without the padding at its end, and without what a terminal would obey.
fn printable(bytes: &[u8]) -> String {
    let visible = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte),
        0 => ' ',
        _ => '?',
    };
    let text: String = bytes.iter().map(visible).collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmar::input::Function;
    use ::dmar::BusRange;
    use ::dmar::builder::{self, Scope, Table};
    use iommu_core::SourceId;

    fn machine() -> Vec<u8> {
        Table::new(39)
            .with(builder::Structure::drhd(0xfed9_0000).scope(Scope::endpoint(0, &[(2, 0)])))
            .with(
                builder::Structure::drhd(0xfed9_1000)
                    .flags(1)
                    .byte(5, 4)
                    .scope(Scope::io_apic(2, 0xf0, (0x1f, 0)))
                    .scope(Scope::namespace(1, 0, (0x15, 0)))
                    .scope(Scope::endpoint(0, &[(0x1c, 4), (0, 0)])),
            )
            .with(builder::Structure::drhd(0))
            .with(
                builder::Structure::rmrr(0x8b80_0000, 0x8fff_ffff)
                    .scope(Scope::endpoint(0, &[(2, 0)])),
            )
            .with(builder::Structure::andd(1, b"\\_SB.I2C0\x1b\0"))
            .build()
    }

    const OF_A_FILE: &str = r#"m.dat: 181 bytes, made by "TEST" for "TESTTEST", 39-bit host addresses, INTR_REMAP

unit 0 at 0xfed90000, 4 KiB of registers, segment 0000
    00:02.0            device

unit 1 at 0xfed91000, 64 KiB of registers, segment 0000
    f0:1f.0            I/O APIC 2
    00:15.0            ACPI device 1, \_SB.I2C0?
    00:1c.4/00.0       device
    everything else of segment 0000

reserved regions
    0x8b800000-0x8fffffff       72 MiB  00:02.0 (unit 0)

the driver
  with units 0, 1
    translates in scalable mode if the unit has it, else in legacy mode: CAP and ECAP decide (give them with --cap and --ecap)
    remaps interrupts if ECAP.IR is 1: INTR_REMAP is set
  with devices
    maps reserved regions one to one for their devices before it turns translation on, and keeps them mapped: firmware says that they are in use
    blocks what is not attached to a domain: that is what every device starts with

odd
    0x0048  register base 0xfed91000 is not aligned to the register set's 0x10000 bytes (ignored)
    0x0048  the INCLUDE_PCI_ALL unit is not the last of its segment (offset 0x72 follows); it is matched last (repaired)
    0x0068  an INCLUDE_PCI_ALL unit names a PCI endpoint, which it need not (ignored)
    0x0072  register base 0x0 is no address: the unit is left out (refused)
    0x0072  the unit has neither INCLUDE_PCI_ALL nor a device scope: it remaps nothing (ignored)
    0x00a2  the object name is not printable ASCII (ignored)
"#;

    #[test]
    fn a_file_is_drawn_as_far_as_it_tells() {
        let picture = of(&Input::new("m.dat".to_owned(), machine()));
        assert_eq!(picture, OF_A_FILE);
    }

    #[test]
    fn a_running_system_shows_whose_devices_are_where() {
        let mut input = Input::new("running".to_owned(), machine());
        let mut add = |bus, device, function, class, behind| {
            let source = SourceId::new(bus, device, function).unwrap();
            let function = Function { class, behind };
            input
                .functions
                .0
                .insert(DeviceId::new(Segment(0), source), function);
        };
        let behind = BusRange {
            secondary: 6,
            subordinate: 6,
        };
        add(0, 2, 0, 0x03_0000, None);
        add(0, 0x1c, 4, 0x06_0400, Some(behind));
        add(6, 0, 0, 0x02_0000, None);
        let picture = of(&input);
        for line in [
            "    00:02.0            device, 0000:00:02.0 class 030000\n",
            "    here: 0000:00:02.0 (display)\n",
            "    00:1c.4/00.0       device, 0000:06:00.0 class 020000\n",
            "    here: 0000:00:1c.4 0000:06:00.0\n",
        ] {
            assert!(picture.contains(line), "{line:?} in\n{picture}");
        }
        input
            .functions
            .0
            .retain(|device, _| device.source.bus() == 0);
        assert!(of(&input).contains("00:1c.4/00.0       device, not there\n"));
    }

    #[test]
    fn what_is_left_of_a_table_is_drawn() {
        let picture = of(&Input::new("cut".to_owned(), machine()[..80].to_vec()));
        assert!(picture.contains("unit 0 at 0xfed90000"));
        assert!(picture.contains("\nmalformed\n    0x0004  the table claims"));
        let nothing = of(&Input::new("empty".to_owned(), Vec::new()));
        assert!(nothing.contains("no unit that can be used"));
    }
}
