//! A table for machines: fields by the specification's names in lower case.

use serde::Serialize;

use ::dmar::{Dmar, Finding, Severity};

use super::input::Input;

/// One table.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    file: String,
    /// In bits; `null` where the header is cut off.
    host_address_width: Option<u16>,
    flags: u8,
    structures: Vec<Structure>,
    warnings: Vec<Message>,
    errors: Vec<Message>,
}

#[derive(Debug, Serialize)]
struct Message {
    offset: usize,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
enum Structure {
    Drhd {
        flags: u8,
        size: u8,
        segment: u16,
        register_base: u64,
        scopes: Vec<Scope>,
    },
    Rmrr {
        segment: u16,
        base: u64,
        limit: u64,
        scopes: Vec<Scope>,
    },
    Atsr {
        flags: u8,
        segment: u16,
        scopes: Vec<Scope>,
    },
    Rhsa {
        register_base: u64,
        proximity_domain: u32,
    },
    Andd {
        acpi_device_number: u8,
        object_name: String,
    },
    Satc {
        flags: u8,
        segment: u16,
        scopes: Vec<Scope>,
    },
    Sidp {
        segment: u16,
        scopes: Vec<Scope>,
    },
    Unknown {
        number: u16,
        length: usize,
    },
}

#[derive(Debug, Serialize)]
struct Scope {
    #[serde(rename = "type")]
    kind: u8,
    flags: u8,
    enumeration_id: u8,
    bus: u8,
    path: Vec<[u8; 2]>,
}

impl Table {
    pub(super) fn of(input: &Input) -> Self {
        let dmar = Dmar::new(&input.table);
        let (mut warnings, mut errors) = (Vec::new(), Vec::new());
        dmar.audit(&mut |finding| match finding.severity() {
            Severity::Warning => warnings.push(Message::of(finding)),
            Severity::Error => errors.push(Message::of(finding)),
        });
        Self {
            file: input.name.clone(),
            host_address_width: dmar.host_address_width(),
            flags: dmar.flags().bits(),
            structures: dmar.structures().map(Structure::of).collect(),
            warnings,
            errors,
        }
    }
}

impl Message {
    fn of(finding: Finding) -> Self {
        Self {
            offset: finding.offset,
            message: format!("{finding} ({})", finding.action().name()),
        }
    }
}

impl Structure {
    fn of(structure: ::dmar::Structure<'_>) -> Self {
        match structure {
            ::dmar::Structure::Drhd(drhd) => Self::Drhd {
                flags: drhd.flags.bits(),
                size: drhd.size,
                segment: drhd.segment.0,
                register_base: drhd.register_base.as_u64(),
                scopes: scopes(drhd.scopes),
            },
            ::dmar::Structure::Rmrr(rmrr) => Self::Rmrr {
                segment: rmrr.segment.0,
                base: rmrr.base.as_u64(),
                limit: rmrr.limit.as_u64(),
                scopes: scopes(rmrr.scopes),
            },
            ::dmar::Structure::Atsr(atsr) => Self::Atsr {
                flags: atsr.flags.bits(),
                segment: atsr.segment.0,
                scopes: scopes(atsr.scopes),
            },
            ::dmar::Structure::Rhsa(rhsa) => Self::Rhsa {
                register_base: rhsa.register_base.as_u64(),
                proximity_domain: rhsa.proximity_domain,
            },
            ::dmar::Structure::Andd(andd) => Self::Andd {
                acpi_device_number: andd.acpi_device_number,
                object_name: String::from_utf8_lossy(andd.object_name()).into_owned(),
            },
            ::dmar::Structure::Satc(satc) => Self::Satc {
                flags: satc.flags.bits(),
                segment: satc.segment.0,
                scopes: scopes(satc.scopes),
            },
            ::dmar::Structure::Sidp(sidp) => Self::Sidp {
                segment: sidp.segment.0,
                scopes: scopes(sidp.scopes),
            },
            ::dmar::Structure::Unknown(unknown) => Self::Unknown {
                number: unknown.kind,
                length: unknown.bytes.len(),
            },
        }
    }
}

fn scopes(scopes: ::dmar::Scopes<'_>) -> Vec<Scope> {
    let scope = |scope: ::dmar::Scope<'_>| Scope {
        kind: scope.kind.byte(),
        flags: scope.flags.bits(),
        enumeration_id: scope.enumeration_id,
        bus: scope.start_bus,
        path: scope.path().map(|hop| [hop.device, hop.function]).collect(),
    };
    scopes.map(scope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::dmar::builder::{self, Scope};
    use serde_json::json;

    fn object(table: Vec<u8>) -> serde_json::Value {
        let input = Input::new("table.dat".to_owned(), table);
        serde_json::to_value(Table::of(&input)).unwrap()
    }

    #[test]
    fn every_type_has_its_fields() {
        let table = builder::Table::new(46)
            .with(
                builder::Structure::drhd(0xfed9_0000)
                    .flags(1)
                    .byte(5, 2)
                    .segment(3)
                    .scope(Scope::new(3, 9, 0xf0, &[(1, 0), (31, 7)])),
            )
            .with(
                builder::Structure::rmrr(1 << 62, (1 << 62) | 0xfff)
                    .scope(Scope::endpoint(0, &[(2, 0)])),
            )
            .with(builder::Structure::atsr().flags(1))
            .with(builder::Structure::rhsa(0xfed9_0000, 0xffff_ffff))
            .with(builder::Structure::andd(7, b"\\_SB.I2C0\0"))
            .with(builder::Structure::satc().flags(1))
            .with(builder::Structure::sidp().scope(Scope::endpoint(0, &[(8, 0)]).flags(0x1f)))
            .with(builder::Structure::other(0x77, &[0; 3]))
            .build();
        let object = object(table);
        assert_eq!(object["file"], "table.dat");
        assert_eq!(object["host_address_width"], 46);
        assert_eq!(object["flags"], 1);
        assert_eq!(object["errors"], json!([]));
        let expected = json!([
            {"type": "DRHD", "flags": 1, "size": 2, "segment": 3, "register_base": 0xfed9_0000u32,
             "scopes": [{"type": 3, "flags": 0, "enumeration_id": 9, "bus": 0xf0, "path": [[1, 0], [31, 7]]}]},
            {"type": "RMRR", "segment": 0, "base": 0x4000_0000_0000_0000u64,
             "limit": 0x4000_0000_0000_0fffu64,
             "scopes": [{"type": 1, "flags": 0, "enumeration_id": 0, "bus": 0, "path": [[2, 0]]}]},
            {"type": "ATSR", "flags": 1, "segment": 0, "scopes": []},
            {"type": "RHSA", "register_base": 0xfed9_0000u32, "proximity_domain": 0xffff_ffffu32},
            {"type": "ANDD", "acpi_device_number": 7, "object_name": "\\_SB.I2C0"},
            {"type": "SATC", "flags": 1, "segment": 0, "scopes": []},
            {"type": "SIDP", "segment": 0,
             "scopes": [{"type": 1, "flags": 0x1f, "enumeration_id": 0, "bus": 0, "path": [[8, 0]]}]},
            {"type": "UNKNOWN", "number": 0x77, "length": 7},
        ]);
        assert_eq!(object["structures"], expected);
    }

    #[test]
    fn a_malformed_table_has_errors_and_what_could_be_read() {
        let unit = builder::Structure::drhd(0xfed9_0000).flags(1);
        let mut table = builder::Table::new(39).flags(0).with(unit).build();
        assert_eq!(object(table.clone())["errors"], json!([]));
        table[9] ^= 0x10;
        let object = object(table);
        assert_eq!(object["errors"][0]["offset"], 9);
        assert_eq!(object["structures"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_table_without_a_header_is_an_object_too() {
        let object = object(b"DMAR".to_vec());
        assert_eq!(object["host_address_width"], json!(null));
        assert_eq!(object["structures"], json!([]));
        assert_eq!(object["errors"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_odd_but_readable_is_a_warning() {
        let table = builder::Table::new(39)
            .flags(0)
            .with(builder::Structure::drhd(0))
            .build();
        let object = object(table);
        assert_eq!(object["errors"], json!([]));
        let message = object["warnings"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("0x0") && message.contains("(refused)"),
            "{message}"
        );
    }
}
