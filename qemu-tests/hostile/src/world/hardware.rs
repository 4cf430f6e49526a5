//! Units: brought up, ill, and looked after by the hypervisor.

use super::{FLUSH_LIMIT, Vtd, World, device_id};
use crate::floor::{Floor, Illness, Registers};
use crate::outline::Setting;
use crate::ram::lock;
use crate::stage;
use iommu_core::{Backend, DeviceId, Hpa, Nanoseconds, Platform, Segment};
use std::sync::Arc;
use vtd::{
    Discovered, DriverConfig, InterruptConfig, Message, PageRequestConfig, TimeLimits, UnitConfig,
    UnitDescription,
};
use vtd_model::{Rule, Violation};

pub(super) fn bring_up(setting: &Setting, floor: &Arc<Floor>, illnesses: &[Arc<Illness>]) -> Vtd {
    let mut limits = TimeLimits::default();
    if !setting.real {
        limits.flush = FLUSH_LIMIT;
    }
    let mut ready = Vec::new();
    for (index, unit) in setting.units.iter().enumerate() {
        let description = UnitDescription {
            index: index as u16,
            segment: Segment(0),
            register_base: Hpa::new(0xfed9_0000 + 0x1000 * index as u64),
            host_bits: unit.config.host_bits,
        };
        let registers = Registers::new(floor, index, &illnesses[index]);
        let config = UnitConfig {
            mode: unit.mode,
            interrupts: Some(InterruptConfig {
                entries_log2: 8,
                extended: false,
            }),
            fault_message: Some(Message {
                address: 0xfee0_1000,
                data: 0x31,
            }),
            page_requests: unit.config.page_requests.then_some(PageRequestConfig {
                pages_log2: 0,
                message: None,
            }),
        };
        let unit = Discovered::open(description, registers, floor)
            .expect("the unit answers")
            .quiesce(floor, limits)
            .expect("the unit comes to rest")
            .prepare(floor, &config);
        ready.push(unit.expect("the unit is ready"));
    }
    let scopes: Vec<(DeviceId, u16)> = setting
        .devices
        .iter()
        .map(|device| (device_id(device.source), device.unit as u16))
        .collect();
    let scopes = move |wanted| {
        let found = scopes.iter().find(|(device, _)| *device == wanted);
        found.map(|(_, unit)| *unit)
    };
    let config = DriverConfig {
        domains: 128,
        attachments: 128,
        ..DriverConfig::default()
    };
    let driver = vtd::Driver::new(Arc::clone(floor), ready, Box::new(scopes), &config);
    let driver = driver.expect("memory for the driver");
    driver.enable().expect("translation comes on")
}

impl World {
    /// The hypervisor looks at a guest's rings, having said so or not.
    pub(super) fn poll(&self, guest: usize, random: &mut fastrand::Rng) -> String {
        let Some(life) = self.life(guest) else {
            return "dead".to_owned();
        };
        let vm = self.guests[guest].vm;
        stage::call_for(life.number());
        let words = match random.u8(..3) {
            0 => format!("polls: {:?}", self.iommu.set_polling(vm, true)),
            1 => format!("polls no more: {:?}", self.iommu.set_polling(vm, false)),
            _ => format!("looks: {:?}", self.iommu.poll_rings(vm)),
        };
        stage::call_for(None);
        words
    }

    pub(super) fn stall(&self, unit: usize) -> String {
        let until = self.floor.now().0 + 2 * FLUSH_LIMIT.0;
        self.illnesses[unit].stall(Nanoseconds(until));
        lock(&self.tally).stalls += 1;
        format!("unit {unit} stalls")
    }

    /// Hardware forgets everything, and what was in quarantine is free.
    pub(super) fn reclaim(&self) -> String {
        // What is buried afterwards was in quarantine before.
        let remains = std::mem::take(&mut *lock(&self.remains));
        match self.driver.reclaim() {
            Ok(mut flushed) => {
                while let Some(frame) = flushed.frames.pop() {
                    self.floor.release(frame);
                }
                let count = remains.len();
                for remains in remains {
                    self.bury(remains);
                }
                format!("reclaimed, {count} remains")
            }
            Err(error) => {
                lock(&self.remains).extend(remains);
                format!("{error:?}")
            }
        }
    }

    pub(super) fn drain_faults(&self) -> String {
        let mut records = Vec::new();
        self.driver
            .drain_faults(&mut |record| records.push(*record));
        let told = records
            .iter()
            .filter(|record| self.iommu.report(record).is_some())
            .count();
        self.floor.model.with_machine(|machine| {
            machine.take_messages();
        });
        format!("{} faults, {told} told", records.len())
    }
}

/// What a unit says that lost a descriptor.
pub(super) fn is_damage(found: &Violation) -> bool {
    found.rule == Rule::Queue && found.message.contains("queue error")
}
