//! The rows of the documents: `| D1 | what it is | tests | limits |`.
//!
//! Tests are names in backticks; one that ends in `::*` means all below it. A limit that begins
//! with `OPEN:` says that the feature is not all there, whatever its tests say.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// A document and the rows that it must have, by letter and highest number.
#[derive(Debug)]
pub(super) struct Document {
    file: &'static str,
    rows: &'static [(char, u32)],
}

/// All documents.
pub(super) const DOCUMENTS: &[Document] = &[
    Document {
        file: "docs/features.md",
        rows: &[
            ('D', 10),
            ('T', 13),
            ('I', 6),
            ('F', 4),
            ('R', 3),
            ('G', 8),
            ('C', 7),
            ('H', 6),
            ('U', 8),
        ],
    },
    Document {
        file: "docs/origins.md",
        rows: &[('O', 16)],
    },
];

/// Whether one of the documents has a row of this name.
pub(crate) fn is_row(id: &str) -> bool {
    DOCUMENTS
        .iter()
        .any(|document| document.ids().any(|known| known == id))
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: String,
    /// Names of tests, or beginnings of names.
    pub(super) tests: Vec<TestPattern>,
    /// Why the feature is not all there, if it is not.
    pub(super) open: Option<String>,
}

/// What a name in the column of tests means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TestPattern {
    /// One test.
    One(String),
    /// All tests below a module.
    Below(String),
}

impl TestPattern {
    fn parse(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(module) => Self::Below(module.to_owned()),
            None => Self::One(text.to_owned()),
        }
    }

    /// Whether it means this test. A boot on one machine is one of its test.
    pub(super) fn means(&self, test: &str) -> bool {
        let test = test.split_once('[').map_or(test, |(test, _)| test);
        match self {
            Self::One(name) => name == test,
            Self::Below(module) => test.starts_with(module.as_str()),
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::One(name) => name.clone(),
            Self::Below(module) => format!("{module}*"),
        }
    }
}

impl Document {
    fn ids(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|(letter, highest)| {
            (1..=*highest).map(move |number| format!("{letter}{number}"))
        })
    }

    /// Its rows, in its order; an error if one is missing, is there twice or cannot be read.
    pub(super) fn read(&self, workspace: &Workspace) -> Result<Vec<Row>> {
        let file = workspace.root().join(self.file);
        let text = std::fs::read_to_string(&file).with_context(|| self.file.to_owned())?;
        self.parse(&text).with_context(|| self.file.to_owned())
    }

    fn parse(&self, text: &str) -> Result<Vec<Row>> {
        let mut wanted: BTreeSet<String> = self.ids().collect();
        let mut rows = Vec::new();
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
            let id = cells[0].trim();
            if !is_id(id) {
                continue;
            }
            if !wanted.remove(id) {
                bail!("{id} is no feature, or stands here twice");
            }
            rows.push(row(id, &cells).with_context(|| id.to_owned())?);
        }
        if !wanted.is_empty() {
            let missing: Vec<_> = wanted.into_iter().collect();
            bail!("there is no row {}", missing.join(", "));
        }
        Ok(rows)
    }
}

fn is_id(cell: &str) -> bool {
    let mut letters = cell.chars();
    letters.next().is_some_and(|c| c.is_ascii_uppercase())
        && !letters.as_str().is_empty()
        && letters.all(|c| c.is_ascii_digit())
}

fn row(id: &str, cells: &[&str]) -> Result<Row> {
    let [_, _, tests, limits] = cells else {
        bail!("a row has four cells, and this has {}", cells.len());
    };
    Ok(Row {
        id: id.to_owned(),
        tests: patterns(tests)?,
        open: limits
            .trim()
            .strip_prefix("OPEN:")
            .map(|why| why.trim().to_owned()),
    })
}

/// Names in backticks, and nothing else but commas between them.
fn patterns(cell: &str) -> Result<Vec<TestPattern>> {
    let mut found = Vec::new();
    for (index, part) in cell.split('`').enumerate() {
        if index % 2 == 1 {
            found.push(TestPattern::parse(part.trim()));
        } else if !part.chars().all(|c| c == ',' || c.is_whitespace()) {
            bail!("`{}` is not the name of a test in backticks", part.trim());
        }
    }
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row as it would stand in a document.
    pub(crate) fn parsed(tests: &str, limits: &str) -> Row {
        row("X1", &["X1", "what", tests, limits]).unwrap()
    }

    const SMALL: Document = Document {
        file: "x.md",
        rows: &[('X', 2)],
    };

    #[test]
    fn rows_are_read_and_other_tables_left_alone() {
        let rows = SMALL
            .parse(
                "# X\n| id | feature | tests | limits |\n|---|---|---|---|\n\
                 | X1 | one | `a::b`, `c::*` | none |\n| X2 | two | | OPEN: not begun |\n\
                 | other | table |\n",
            )
            .unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows[0].tests,
            [
                TestPattern::One("a::b".to_owned()),
                TestPattern::Below("c::".to_owned())
            ]
        );
        assert_eq!(rows[0].open, None);
        assert_eq!(rows[1].open.as_deref(), Some("not begun"));
    }

    #[test]
    fn what_cannot_be_checked_is_an_error_that_names_it() {
        let one = "| X1 | one | | |\n";
        for (text, named) in [
            (one, "X2"),
            ("| X1 | one | | |\n| X1 | one | | |\n", "X1"),
            ("| X1 | one | | |\n| X3 | one | | |\n", "X3"),
            ("| X1 | one | | |\n| X2 | one | |\n", "four cells"),
            ("| X1 | one | | |\n| X2 | one | a::b | |\n", "a::b"),
        ] {
            let error = format!("{:#}", SMALL.parse(text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(
            SMALL
                .parse(&format!("{one}| X2 | one | `a::b` | |\n"))
                .is_ok()
        );
    }

    #[test]
    fn a_name_means_itself_on_every_machine_and_a_module_what_is_below() {
        let one = TestPattern::parse("boot::a");
        assert!(one.means("boot::a[legacy,11.1]") && one.means("boot::a"));
        assert!(!one.means("boot::ab") && !one.means("boot::a::b"));
        let below = TestPattern::parse("vtd::driver::*");
        assert!(below.means("vtd::driver::a::b") && !below.means("vtd::drivers::a"));
    }

    #[test]
    fn the_documents_can_be_read_as_they_are() {
        let workspace = Workspace::find().unwrap();
        for document in DOCUMENTS {
            document.read(&workspace).unwrap();
        }
    }

    #[test]
    fn the_known_rows_are_those_of_the_documents() {
        for known in ["D1", "T13", "O16", "U8"] {
            assert!(is_row(known));
        }
        for unknown in ["D11", "O17", "X1", "D0", ""] {
            assert!(!is_row(unknown));
        }
    }
}
