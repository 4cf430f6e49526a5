//! Programs and frames made by hand, for tests.

use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// An ELF file whose log table holds these levels and format strings, from index 1 on.
pub(crate) fn elf(messages: &[(&str, &str)]) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, &[0xf4], 1);
    let section = object.add_section(Vec::new(), b".defmt".to_vec(), SectionKind::Data);
    object.append_section_data(section, &vec![0; messages.len() + 1], 1);
    let mut add = |name: String, section: SymbolSection, value: u64| {
        object.add_symbol(Symbol {
            name: name.into_bytes(),
            value,
            size: 1,
            kind: SymbolKind::Data,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        });
    };
    add("_defmt_version_ = 4".to_owned(), SymbolSection::Absolute, 0);
    add(
        "_defmt_encoding_ = rzcobs".to_owned(),
        SymbolSection::Absolute,
        0,
    );
    for (index, (level, format)) in (1..).zip(messages) {
        let name = format!(
            r#"{{"package":"p","tag":"defmt_{level}","data":"{format}","disambiguator":"{index}","crate_name":"c"}}"#
        );
        add(name, SymbolSection::Section(section), index);
    }
    object.write().unwrap()
}

/// A frame with its delimiter: an index and its arguments.
pub(crate) fn frame(index: u16, arguments: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_le_bytes().to_vec();
    bytes.extend_from_slice(arguments);
    let mut encoded = rzcobs(&bytes);
    encoded.push(0);
    encoded
}

/// Short input only: groups of seven bytes, each behind the mask of which are zero.
fn rzcobs(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    for group in bytes.chunks(7) {
        let mut mask = 0x7f;
        for (position, &byte) in group.iter().enumerate() {
            if byte != 0 {
                encoded.push(byte);
                mask &= !(1 << position);
            }
        }
        encoded.push(mask);
    }
    encoded
}
