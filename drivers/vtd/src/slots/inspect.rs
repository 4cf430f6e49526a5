//! Reading all tables back.

use super::Tables;
use crate::driver::{Inspected, Sink};
use crate::tables::root::RootEntry;
use iommu_core::SourceId;

impl Tables {
    /// Tells every entry of root, context and PASID tables that is not all zeroes.
    pub(crate) fn inspect(&self, sink: Sink<'_>) {
        for bus in 0..=u8::MAX {
            for upper in [false, true] {
                if !upper || self.scalable {
                    self.inspect_bus(bus, upper, sink);
                }
            }
        }
        for (source, directory) in &self.directories {
            directory.inspect(&mut |pasid, entry| {
                sink(&Inspected::Pasid {
                    source: *source,
                    pasid,
                    entry,
                });
            });
        }
    }

    fn inspect_bus(&self, bus: u8, upper: bool, sink: Sink<'_>) {
        let cell = usize::from(bus) << 1 | usize::from(upper);
        let entry = RootEntry::from_bits(self.root.load(cell).unwrap_or(0));
        if !entry.p() {
            return;
        }
        sink(&Inspected::Root { bus, upper, entry });
        let devices = match (self.scalable, upper) {
            (false, _) => 0..=u8::MAX,
            (true, false) => 0..=0x7f,
            (true, true) => 0x80..=u8::MAX,
        };
        for devfn in devices {
            let source = SourceId::from_bits(u16::from(bus) << 8 | u16::from(devfn));
            let words = self.context_entry(source).map(|visited| visited.words);
            if let Some([low, high, ..]) = words.filter(|words| *words != [0; 8]) {
                sink(&Inspected::Context {
                    source,
                    words: [low, high],
                });
            }
        }
    }
}
