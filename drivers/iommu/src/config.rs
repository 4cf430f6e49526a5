//! What the hypervisor decides once, and for each guest.

/// How guests' own tables come to hardware.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Nesting {
    /// By hardware wherever a unit can nest, and by shadow tables elsewhere.
    #[default]
    Hardware,
    /// By shadow tables everywhere.
    Shadow,
}

/// Limits of the whole, and policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Guests at a time; their numbers are below this.
    pub guests: u16,
    /// Devices that guests own at a time.
    pub devices: u16,
    /// Slots (devices, and PASIDs of devices) that are bound at a time.
    pub bindings: u16,
    /// Slices of devices that guests share, at a time.
    pub slices: u16,
    /// PASIDs that guests have at a time, all together.
    pub pasids: u16,
    /// A device whose interrupts are not remapped may be given to a guest. It can then
    /// raise any interrupt of the machine by DMA: for experiments only.
    pub allow_unremapped_interrupts: bool,
    /// A device that cannot be reset may be given to a guest. It may then carry over what
    /// its last owner left in it.
    pub allow_without_reset: bool,
    /// How guests' own tables come to hardware. Guests see it in capability bits only.
    pub nesting: Nesting,
    /// An odd number that guests do not know: it spreads what they choose over hash
    /// chains.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            guests: 16,
            devices: 64,
            bindings: 256,
            slices: 64,
            pasids: 1024,
            allow_unremapped_interrupts: false,
            allow_without_reset: false,
            nesting: Nesting::Hardware,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

/// What one guest may use. All memory for it but the shadow pages themselves is taken when
/// the guest is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Quota {
    /// Objects at a time, devices included.
    pub objects: u16,
    /// Pages of shadow tables; each costs two frames while it is used.
    pub shadow_pages: u32,
    /// Events that wait at a time, faults and page requests.
    pub fault_events: u16,
    /// Queues of events at a time, beside the guest's own.
    pub queues: u16,
    /// Events that those can hold together.
    pub queue_events: u32,
    /// Page requests at a time whose groups are not whole.
    pub page_requests: u16,
    /// Groups of page requests at a time that the guest has not answered.
    pub page_groups: u16,
    /// PASIDs at a time.
    pub pasids: u16,
    /// Devices, and PASIDs of devices, that are bound at a time.
    pub bindings: u16,
    /// Mappings at a time, of all address spaces that the hypervisor keeps.
    pub mappings: u16,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            objects: 64,
            shadow_pages: 2048,
            fault_events: 64,
            queues: 8,
            queue_events: 1024,
            page_requests: 64,
            page_groups: 32,
            pasids: 64,
            bindings: 32,
            mappings: 256,
        }
    }
}
