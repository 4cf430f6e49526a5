//! An apt state of our own: no root, nothing of the machine's packages read or changed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::suite::Suite;
use crate::command;

/// The keys of every suite, as the distribution ships them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What of the machine's own apt configuration is honoured: how to reach a mirror, and
/// whether the dates of a frozen one are to be believed.
const HONOURED: &[&str] = &[
    "Acquire::http",
    "Acquire::https",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
];

/// A package that apt would download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Name of the file.
    pub(crate) file: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// apt with all its files below one directory.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    directory: PathBuf,
    suite: Suite,
}

impl PrivateApt {
    /// Lays out the directory and its configuration.
    pub(crate) fn create(directory: &Path, suite: Suite, mirror: &str) -> Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("Debian's keyring {KEYRING} is not there (package debian-archive-keyring)");
        }
        let apt = Self {
            directory: directory.to_owned(),
            suite,
        };
        for path in [
            "state/lists/partial",
            "cache/archives/partial",
            "empty",
            "download",
        ] {
            std::fs::create_dir_all(directory.join(path))
                .with_context(|| format!("cannot create {}", directory.join(path).display()))?;
        }
        let honoured = honoured(&command::succeed(Command::new("apt-config").arg("dump"))?);
        for (file, text) in [
            ("status", String::new()),
            ("none", String::new()),
            ("src.sources", sources(suite, mirror)),
            ("apt.conf", configuration(directory, &honoured)?),
        ] {
            std::fs::write(directory.join(file), text)
                .with_context(|| format!("cannot write {}", directory.join(file).display()))?;
        }
        Ok(apt)
    }

    /// Fetches and verifies the indexes.
    pub(crate) fn update(&self) -> Result<()> {
        command::succeed(self.apt_get().arg("update")).map(drop)
    }

    /// The files of exactly these packages.
    pub(crate) fn archives(&self, packages: &[&str]) -> Result<Vec<Archive>> {
        command::succeed(
            self.apt_get()
                .args(["download", "--print-uris"])
                .args(packages),
        )
        .map(|text| parse_uris(&text))
    }

    /// The command that downloads exactly these packages.
    pub(crate) fn download(&self, packages: &[&str]) -> Command {
        let mut command = self.apt_get();
        command
            .arg("download")
            .args(packages)
            .current_dir(self.downloads());
        command
    }

    /// The files of these packages and all that they depend on.
    pub(crate) fn closure_archives(&self, packages: &[&str]) -> Result<Vec<Archive>> {
        command::succeed(
            self.apt_get()
                .args(["install", "--print-uris", "-y"])
                .args(packages),
        )
        .map(|text| parse_uris(&text))
    }

    /// The command that downloads these packages and all that they depend on.
    pub(crate) fn download_closure(&self, packages: &[&str]) -> Command {
        let mut command = self.apt_get();
        command
            .args(["install", "--download-only", "-y"])
            .args(packages);
        command
    }

    /// Where both kinds of download put their files, whole and in part.
    pub(crate) fn download_directories(&self) -> [PathBuf; 3] {
        let archives = self.directory.join("cache/archives");
        [self.downloads(), archives.join("partial"), archives]
    }

    fn downloads(&self) -> PathBuf {
        self.directory.join("download")
    }

    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", self.directory.join("apt.conf"))
            .env("LC_ALL", "C")
            .args(["-q", "-t", self.suite.name()]);
        command
    }
}

fn sources(suite: Suite, mirror: &str) -> String {
    format!(
        "Types: deb\nURIs: {mirror}\nSuites: {}\nComponents: main\nSigned-By: {KEYRING}\n",
        suite.sources().join(" ")
    )
}

fn configuration(directory: &Path, honoured: &str) -> Result<String> {
    let directory = directory
        .to_str()
        .filter(|path| !path.contains('"'))
        .with_context(|| format!("apt cannot work in {}", directory.display()))?;
    Ok(format!(
        r#"Dir::State "{directory}/state";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}/cache";
Dir::Etc::sourcelist "{directory}/src.sources";
Dir::Etc::sourceparts "{directory}/empty";
Dir::Etc::main "{directory}/none";
Dir::Etc::parts "{directory}/empty";
Dir::Etc::preferences "{directory}/none";
Dir::Etc::preferencesparts "{directory}/empty";
Dir::Etc::trusted "{directory}/empty/none.gpg";
Dir::Etc::trustedparts "{directory}/empty";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
{honoured}"#
    ))
}

/// The lines of `apt-config dump` that reach a mirror from this machine.
fn honoured(dump: &str) -> String {
    dump.lines()
        .filter(|line| {
            HONOURED.iter().any(|key| {
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with("::") || rest.starts_with(' '))
            })
        })
        .filter(|line| !line.ends_with(r#" "";"#))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Lines of `--print-uris`: `'URI' FILE SIZE HASH`.
fn parse_uris(text: &str) -> Vec<Archive> {
    text.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| {
            let mut words = line.rsplit_once('\'')?.1.split_whitespace();
            Some(Archive {
                file: words.next()?.to_owned(),
                size: words.next()?.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uris_that_apt_prints_give_names_and_sizes() {
        let text = "Reading package lists...
'http://deb.debian.org/debian/pool/main/s/seabios/seabios_1.16.3-2_all.deb' seabios_1.16.3-2_all.deb 166304 SHA256:00
'http://deb.debian.org/debian/pool/main/z/zlib/zlib1g_1%3a1.3_amd64.deb' zlib1g_1%3a1.3_amd64.deb 88 SHA256:11
";
        assert_eq!(
            parse_uris(text),
            [
                Archive {
                    file: "seabios_1.16.3-2_all.deb".to_owned(),
                    size: 166_304
                },
                Archive {
                    file: "zlib1g_1%3a1.3_amd64.deb".to_owned(),
                    size: 88
                },
            ]
        );
    }

    #[test]
    fn proxies_are_honoured_and_the_rest_of_the_machine_is_not() {
        let dump = r#"Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::httpsomething "1";
Acquire::Check-Date "false";
Acquire::Languages "de";
Dir::Etc "etc/apt";
"#;
        assert_eq!(
            honoured(dump),
            "Acquire::http::Proxy \"http://proxy.example:3128\";\nAcquire::Check-Date \"false\";\n"
        );
    }

    #[test]
    fn sources_name_every_suite_and_the_keyring() {
        let text = sources(Suite::TrixieBackports, "http://m.example/debian");
        assert!(text.contains("Suites: trixie trixie-backports\n"), "{text}");
        assert!(text.contains("Signed-By: /usr/share/keyrings/"), "{text}");
    }
}
