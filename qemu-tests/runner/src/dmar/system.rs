//! What Linux shows of the machine that it runs on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use iommu_core::{DeviceId, Hpa, Segment, SourceId};

use ::dmar::BusRange;

use super::input::{Function, Functions, Registers};

/// Offsets in configuration space (PCI 3.0, 6.1; PCI-to-PCI bridges 1.2, 3.2).
const HEADER_TYPE: usize = 0x0e;
const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1a;

/// Where the table is.
pub(super) fn table(sys: &Path) -> PathBuf {
    sys.join("firmware/acpi/tables/DMAR")
}

/// All PCI functions.
pub(super) fn functions(sys: &Path) -> Result<Functions> {
    let folder = sys.join("bus/pci/devices");
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut functions = Functions::default();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(device) = device_id(&name) else {
            continue;
        };
        let function =
            function(&path).with_context(|| format!("cannot read {}", path.display()))?;
        functions.0.insert(device, function);
    }
    Ok(functions)
}

fn function(path: &Path) -> Result<Function> {
    let class = hexadecimal(&fs::read_to_string(path.join("class"))?).context("class")?;
    // The first 64 bytes can be read by everybody.
    let config = fs::read(path.join("config"))?;
    let byte = |offset: usize| config.get(offset).copied().unwrap_or(0);
    let is_bridge = byte(HEADER_TYPE) & 0x7f == 1;
    Ok(Function {
        class: u32::try_from(class).context("class")?,
        behind: is_bridge.then(|| BusRange {
            secondary: byte(SECONDARY_BUS),
            subordinate: byte(SUBORDINATE_BUS),
        }),
    })
}

/// The registers that the kernel shows for each unit, by the unit's register base. A kernel
/// that does not use the units shows none.
pub(super) fn registers(sys: &Path) -> BTreeMap<Hpa, Registers> {
    let Ok(entries) = fs::read_dir(sys.join("class/iommu")) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("dmar"))
        .filter_map(|entry| unit(&entry.path().join("intel-iommu")))
        .collect()
}

fn unit(folder: &Path) -> Option<(Hpa, Registers)> {
    let number = |name: &str| hexadecimal(&fs::read_to_string(folder.join(name)).ok()?);
    let registers = Registers {
        version: fs::read_to_string(folder.join("version"))
            .ok()
            .and_then(|text| version(&text)),
        cap: number("cap")?,
        ecap: number("ecap")?,
    };
    Some((Hpa::new(number("address")?), registers))
}

/// `major:minor`, as VER has them.
fn version(text: &str) -> Option<u32> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(major.parse::<u32>().ok()? << 4 | minor.parse::<u32>().ok()?)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// A name like `0000:00:1f.3`. Segments of devices behind VMD have more than 16 bits; no
/// unit's scope can name those.
fn device_id(name: &str) -> Option<DeviceId> {
    let (segment, rest) = name.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let byte = |text: &str| u8::from_str_radix(text, 16).ok();
    let source = SourceId::new(byte(bus)?, byte(device)?, byte(function)?)?;
    let segment = u16::from_str_radix(segment, 16).ok()?;
    Some(DeviceId::new(Segment(segment), source))
}

/// A machine as a Linux system shows it, in a folder of its own.
#[cfg(test)]
pub(super) mod fake {
    use super::*;

    /// A folder that is gone with this value.
    pub(in crate::dmar) struct Sys(PathBuf);

    impl Drop for Sys {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Sys {
        /// Nothing but the folder of PCI devices.
        pub(in crate::dmar) fn new(name: &str) -> Self {
            let root =
                std::env::temp_dir().join(format!("xtask-dmar-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(root.join("bus/pci/devices")).unwrap();
            Self(root)
        }

        pub(in crate::dmar) fn path(&self) -> &Path {
            &self.0
        }

        pub(in crate::dmar) fn write(&self, path: &str, content: &[u8]) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        pub(in crate::dmar) fn function(&self, name: &str, class: u32, behind: Option<(u8, u8)>) {
            let folder = format!("bus/pci/devices/{name}");
            let mut config = [0; 64];
            // Of several functions, as most are.
            config[HEADER_TYPE] = 0x80;
            // What no bridge has there is no bus.
            (config[SECONDARY_BUS], config[SUBORDINATE_BUS]) = (3, 4);
            if let Some(buses) = behind {
                config[HEADER_TYPE] = 0x81;
                (config[SECONDARY_BUS], config[SUBORDINATE_BUS]) = buses;
            }
            self.write(
                &format!("{folder}/class"),
                format!("0x{class:06x}\n").as_bytes(),
            );
            self.write(&format!("{folder}/config"), &config);
        }

        pub(in crate::dmar) fn unit(&self, name: &str, registers: [(&str, &str); 4]) {
            for (register, text) in registers {
                let path = format!("class/iommu/{name}/intel-iommu/{register}");
                self.write(&path, format!("{text}\n").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_bridges_and_registers_are_read_from_sysfs() {
        let sys = fake::Sys::new("sysfs");
        sys.function("0000:00:02.0", 0x03_0000, None);
        sys.function("0001:40:1c.4", 0x06_0400, Some((0x41, 0x4f)));
        sys.write("bus/pci/devices/10000:e1:00.0/class", b"0x010802\n");
        sys.unit(
            "dmar1",
            [
                ("address", "fed91000"),
                ("version", "4:0"),
                ("cap", "d2008c40660462"),
                ("ecap", "f050da"),
            ],
        );
        sys.write("class/iommu/smmu0/intel-iommu/cap", b"1\n");

        let functions = functions(sys.path()).unwrap();
        let registers = registers(sys.path());

        let device = |segment, bus, device, function| {
            let source = SourceId::new(bus, device, function).unwrap();
            DeviceId::new(Segment(segment), source)
        };
        assert_eq!(functions.0.len(), 2);
        let graphics = functions.0[&device(0, 0, 2, 0)];
        assert!(graphics.is_display());
        assert_eq!(graphics.behind, None);
        let bridge = functions.0[&device(1, 0x40, 0x1c, 4)];
        let behind = bridge.behind.unwrap();
        assert_eq!((behind.secondary, behind.subordinate), (0x41, 0x4f));
        let expected = Registers {
            version: Some(0x40),
            cap: 0x00d2_008c_4066_0462,
            ecap: 0x00f0_50da,
        };
        assert_eq!(
            registers,
            BTreeMap::from([(Hpa::new(0xfed9_1000), expected)])
        );
    }
}
