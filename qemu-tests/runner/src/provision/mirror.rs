//! The mirror that this machine's own apt sources name.

use std::path::Path;

/// Used where the machine's sources name no Debian mirror (another distribution, say).
/// What comes from there is verified by Debian's keyring like everything else.
const FALLBACK: &str = "http://deb.debian.org/debian";

/// Suites of Debian's main archive begin with one of these.
const DEBIAN_SUITES: &[&str] = &[
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "testing",
    "unstable",
    "oldstable",
];

/// The first mirror of Debian's main archive in `/etc/apt`, else Debian's own.
pub(crate) fn of_machine() -> String {
    from_directory(Path::new("/etc/apt")).unwrap_or_else(|| FALLBACK.to_owned())
}

fn from_directory(apt: &Path) -> Option<String> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = std::fs::read_dir(apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => from_list(&text),
            "sources" => from_deb822(&text),
            _ => None,
        }
    })
}

/// The one-line style: `deb [options] URI suite component…`.
fn from_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split('#').next()?.trim();
        let mut rest = line.strip_prefix("deb")?;
        if !rest.starts_with([' ', '\t', '[']) {
            return None;
        }
        rest = rest.trim_start();
        if rest.starts_with('[') {
            rest = rest.split_once(']')?.1;
        }
        let mut words = rest.split_whitespace();
        let uri = words.next()?;
        let suite = words.next()?;
        (is_main_archive(suite) && words.any(|component| component == "main"))
            .then(|| uri.to_owned())
    })
}

/// The style of deb822: paragraphs of `Field: value` lines.
fn from_deb822(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .find_map(|paragraph| {
            let words = |name: &str| field(paragraph, name);
            let serves = words("Types").iter().any(|word| word == "deb")
                && words("Enabled").first().is_none_or(|word| word != "no")
                && words("Suites").iter().any(|suite| is_main_archive(suite))
                && words("Components").iter().any(|word| word == "main");
            serves.then(|| words("URIs").into_iter().next()).flatten()
        })
}

/// The words of a field, over its folded lines.
fn field(paragraph: &[&str], name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut inside = false;
    for line in paragraph {
        let value = if line.starts_with([' ', '\t']) {
            inside.then_some(*line)
        } else {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            inside = key.trim().eq_ignore_ascii_case(name);
            inside.then_some(value)
        };
        words.extend(value.unwrap_or("").split_whitespace().map(str::to_owned));
    }
    words
}

/// Whether a suite lies in the main archive: those of security updates lie elsewhere.
fn is_main_archive(suite: &str) -> bool {
    !suite.contains("security") && DEBIAN_SUITES.iter().any(|name| suite.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb822_sources_give_the_mirror_of_the_main_archive() {
        let text = "\
Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: contrib main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";
        assert_eq!(
            from_deb822(text).as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn a_disabled_paragraph_is_passed_over() {
        let text =
            "Enabled: no\nTypes: deb\nURIs: http://a/debian\nSuites: trixie\nComponents: main\n";
        assert_eq!(from_deb822(text), None);
        assert_eq!(
            from_deb822(&text.replace("no", "yes")).as_deref(),
            Some("http://a/debian")
        );
    }

    #[test]
    fn one_line_sources_give_the_mirror_with_and_without_options() {
        let text = "# deb http://old.example/debian buster main
deb-src http://source.example/debian trixie main
deb http://security.example/debian-security trixie-security main
deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian trixie main contrib
";
        assert_eq!(
            from_list(text).as_deref(),
            Some("https://mirror.example/debian")
        );
        assert_eq!(
            from_list("deb http://m.example/debian stable main # ours").as_deref(),
            Some("http://m.example/debian")
        );
    }

    #[test]
    fn other_distributions_and_other_archives_give_nothing() {
        assert_eq!(
            from_list("deb http://archive.ubuntu.com/ubuntu noble main"),
            None
        );
        let text = "Types: deb\nURIs: https://deb.nodesource.com/node_20.x\nSuites: nodistro\nComponents: main\n";
        assert_eq!(from_deb822(text), None);
    }
}
