//! Whole purposes, such as shared virtual addressing: the answer whether a device can serve
//! one is true, and names everything that is missing, whatever the unit has and has not.

use crate::guest::{ALL, BASE, PRESENT};
use crate::guests::{House, Hypervisor, Tenant, Way};
use crate::rig::{ONE, device};
use iommu::Quota;
use iommu_abi::*;
use iommu_core::{AtsCapability, SourceId};
use std::collections::BTreeMap;
use vtd::{ModeRequest, PageRequestConfig};
use vtd_model::{Config, Freedom, Promptness};

/// A function with a device-TLB.
const SOURCE: u16 = 0x0420;

/// What a unit may have or not.
#[derive(Clone, Copy, Debug)]
struct Abilities {
    mode: ModeRequest,
    first_stage: bool,
    nested: bool,
    pasids: bool,
    coherent: bool,
    /// The unit takes page requests, and the hypervisor lets the device ask.
    asks: bool,
}

fn all() -> Vec<Abilities> {
    let mut all = Vec::new();
    for mode in [
        ModeRequest::Legacy,
        ModeRequest::SecondStage,
        ModeRequest::FirstStage,
    ] {
        for bits in 0..32u8 {
            let bit = |place: u8| bits >> place & 1 == 1;
            all.push(Abilities {
                mode,
                first_stage: bit(0),
                nested: bit(1),
                pasids: bit(2),
                coherent: bit(3),
                asks: bit(4),
            });
        }
    }
    all
}

impl Abilities {
    /// `None` if no such unit can be.
    fn config(&self) -> Option<Config> {
        let legacy = self.mode == ModeRequest::Legacy;
        let scalable = self.first_stage || self.nested || self.pasids || self.asks;
        if legacy && scalable || self.nested && !self.first_stage {
            return None;
        }
        if self.mode == ModeRequest::FirstStage && !self.first_stage || self.asks && !self.pasids {
            return None;
        }
        let base = match (legacy, self.asks) {
            (true, _) => Config::legacy(),
            (false, false) => Config::scalable(),
            (false, true) => Config::scalable_with_ats(),
        };
        let base = if self.coherent {
            base
        } else {
            base.non_coherent()
        };
        Some(Config {
            first_stage: base.first_stage && self.first_stage,
            first_stage_1g: base.first_stage_1g && self.first_stage,
            first_stage_5_level: base.first_stage_5_level && self.first_stage,
            nested: base.nested && self.nested,
            pasid_bits: base.pasid_bits.filter(|_| self.pasids),
            ..base
        })
    }

    fn house<'h>(&self, config: Config, host: &'h Hypervisor) -> House<'h> {
        let way = Way::shadowed("whatever", config, self.mode);
        House::with(&way, Freedom::Random(5), host, |plan| {
            if !self.asks {
                return plan;
            }
            let mut plan = plan.ats_device(SOURCE, 0, Promptness::Prompt);
            plan.page_requests = Some(PageRequestConfig {
                pages_log2: 0,
                message: None,
            });
            plan
        })
    }
}

/// The hypervisor's answer for a purpose.
fn probe(tenant: &Tenant<'_>, purpose: Use) -> (bool, Capabilities) {
    let mut ask = Probe {
        subject: Subject::Use.as_u32(),
        number: purpose.as_u32().into(),
        device_id: tenant.device.as_u32(),
        ..Probe::new()
    };
    assert_eq!(tenant.call(&mut ask), Ok(0));
    (
        ask.supported == 1,
        Capabilities::from_bits_retain(ask.missing),
    )
}

fn has(tenant: &Tenant<'_>) -> Capabilities {
    let mut ask = DeviceInfo {
        device_id: tenant.device.as_u32(),
        ..DeviceInfo::new()
    };
    assert_eq!(tenant.call(&mut ask), Ok(0));
    Capabilities::from_bits_retain(ask.capabilities)
}

/// Does it, up to the device's access. Everything is undone.
fn attempt(tenant: &Tenant<'_>, purpose: Use) -> Result<(), Errno> {
    let device_id = tenant.device.as_u32();
    let data = tenant.guest.data(3);
    let root = tenant.guest.table();
    tenant.guest.map(root, 0x5000, data, ALL);
    let request = tenant.read(0x5000);
    let table = || {
        let mut ask = IoasAllocate {
            flags: IoasAllocate::USER_TABLE,
            format: Format::X86_64Level4.as_u32(),
            user_page_directory: root,
            device_id,
            ..IoasAllocate::new()
        };
        tenant.call(&mut ask).map(|_| ask.ioas_id)
    };
    let bind = |ioas_id: u32, flags: u32| {
        let mut pasid = PasidAllocate {
            minimum: 9,
            maximum: 9,
            ..PasidAllocate::new()
        };
        assert_eq!(tenant.call(&mut pasid), Ok(0));
        let by_pasid = flags & Bind::PASID != 0;
        let mut ask = Bind {
            flags,
            device_id,
            ioas_id,
            pasid: if by_pasid { 9 } else { 0 },
            ..Bind::new()
        };
        let mut bound = tenant.call(&mut ask).map(drop);
        if bound.is_ok() {
            let sent = if by_pasid {
                request.with_pasid(1)
            } else {
                request
            };
            tenant.assert_reaches(&sent, data);
            bound = tenant
                .call(&mut Unbind {
                    flags: flags & Bind::PASID,
                    device_id,
                    pasid: ask.pasid,
                    ..Unbind::new()
                })
                .map(drop);
        }
        let mut free = PasidFree {
            pasid: 9,
            ..PasidFree::new()
        };
        assert_eq!(tenant.call(&mut free), Ok(0));
        bound
    };
    match purpose {
        Use::ManagedDma => {
            let mut ask = IoasAllocate {
                device_id,
                ..IoasAllocate::new()
            };
            tenant.call(&mut ask)?;
            let mut map = IoasMap {
                flags: IoasMap::FIXED_IOVA | IoasMap::READABLE | IoasMap::WRITEABLE,
                ioas_id: ask.ioas_id,
                gpa: data,
                length: 0x1000,
                iova: 0x5000,
                ..IoasMap::new()
            };
            tenant.call(&mut map)?;
            bind(ask.ioas_id, 0)
        }
        Use::UserTable => bind(table()?, 0),
        Use::UserTableByPasid => bind(table()?, Bind::PASID),
        Use::SharedVirtualAddressing => bind(table()?, Bind::PASID | Bind::PAGE_REQUESTS),
        Use::SharedTables => {
            let mut ask = IoasAllocate {
                flags: IoasAllocate::SHARED,
                device_id,
                ..IoasAllocate::new()
            };
            tenant.call(&mut ask)?;
            bind(ask.ioas_id, 0)
        }
        Use::TableAboveManaged => {
            let mut parent = IoasAllocate {
                device_id,
                ..IoasAllocate::new()
            };
            tenant.call(&mut parent)?;
            // The parent maps the guest's memory one to one.
            let mut map = IoasMap {
                flags: IoasMap::FIXED_IOVA | IoasMap::READABLE | IoasMap::WRITEABLE,
                ioas_id: parent.ioas_id,
                gpa: BASE,
                length: 128 << 12,
                iova: BASE,
                ..IoasMap::new()
            };
            tenant.call(&mut map)?;
            let mut ask = IoasAllocate {
                flags: IoasAllocate::USER_TABLE,
                parent_ioas_id: parent.ioas_id,
                format: Format::X86_64Level4.as_u32(),
                user_page_directory: root,
                device_id,
                ..IoasAllocate::new()
            };
            tenant.call(&mut ask)?;
            bind(ask.ioas_id, 0)
        }
        Use::PasidTable => {
            let [directory, entries] = [tenant.guest.table(), tenant.guest.table()];
            tenant.guest.store(directory, entries | PRESENT);
            tenant.guest.store(entries + 64 * 9 + 16, root);
            tenant.guest.store(entries + 64 * 9, PRESENT | 1 << 6);
            let mut ask = PasidTableBind {
                device_id,
                directory,
                ..PasidTableBind::new()
            };
            tenant.call(&mut ask)?;
            if ask.bound == 1 {
                tenant.assert_reaches(&request.with_pasid(1), data);
            }
            let mut unbind = PasidTableUnbind {
                device_id,
                ..PasidTableUnbind::new()
            };
            tenant.call(&mut unbind)?;
            // Without PASIDs the entry of one is refused.
            if ask.bound == 1 {
                Ok(())
            } else {
                Err(Errno::EOPNOTSUPP)
            }
        }
    }
}

#[test]
fn the_answer_for_a_whole_purpose_is_true_and_names_all_that_is_missing() {
    let mut answers: BTreeMap<(&str, bool), u32> = BTreeMap::new();
    let mut units = 0;
    for abilities in all() {
        let Some(config) = abilities.config() else {
            continue;
        };
        units += 1;
        let host = Hypervisor::default();
        let house = abilities.house(config, &host);
        let quota = Quota {
            objects: 32,
            ..Quota::default()
        };
        let source = if abilities.asks { SOURCE } else { ONE };
        let tenant = house.guest_with(1, 128, source, quota);
        if abilities.asks {
            let ats = AtsCapability {
                queue_depth: 0,
                physical_function: SourceId::from_bits(SOURCE),
            };
            let allowed = house
                .iommu
                .allow_page_requests(tenant.vm, device(SOURCE), ats);
            allowed.expect("it may ask");
        }
        let has = has(&tenant);
        for &purpose in Use::ALL {
            let (supported, missing) = probe(&tenant, purpose);
            let told = format!("{purpose:?} on {abilities:?}: {missing:?}");
            assert_eq!(missing, purpose.needs() - has, "{told}");
            assert_eq!(supported, missing.is_empty(), "{told}");
            assert_eq!(attempt(&tenant, purpose).is_ok(), supported, "{told}");
            *answers.entry((purpose.name(), supported)).or_default() += 1;
        }
        // What is missing is what the unit, or the hypervisor's word, lacks.
        let (_, missing) = probe(&tenant, Use::SharedVirtualAddressing);
        assert_eq!(missing.contains(Capabilities::PASID), !abilities.pasids);
        assert_eq!(
            missing.contains(Capabilities::PAGE_REQUESTS),
            !abilities.asks
        );
        house.iommu.destroy_guest(tenant.vm).expect("ended");
    }
    assert!(units > 20, "{units} units");
    for purpose in [
        Use::TableAboveManaged,
        Use::UserTableByPasid,
        Use::SharedVirtualAddressing,
        Use::PasidTable,
    ] {
        for supported in [false, true] {
            let count = answers.get(&(purpose.name(), supported)).copied();
            assert!(count.unwrap_or(0) > 2, "{purpose:?}: {answers:?}");
        }
    }
}
