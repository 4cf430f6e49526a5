//! Which test programs the workspace has, and which of them a test's name means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::build::cargo;
use crate::command;
use crate::workspace::Workspace;

/// A test program, as cargo is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestTarget {
    pub(crate) package: String,
    pub(crate) kind: Kind,
}

/// Where its tests stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// In the library.
    Library,
    /// In a program.
    Binary(String),
    /// In `tests/`, under this name.
    Tests(String),
}

impl TestTarget {
    /// How the names of its tests begin.
    pub(crate) fn prefix(&self) -> String {
        match &self.kind {
            Kind::Library | Kind::Binary(_) => self.package.clone(),
            Kind::Tests(name) => format!("{}::{name}", self.package),
        }
    }

    /// The words that tell cargo to build it alone.
    pub(crate) fn selection(&self) -> Vec<&str> {
        let mut words = vec!["--package", &self.package];
        match &self.kind {
            Kind::Library => words.push("--lib"),
            Kind::Binary(name) => words.extend(["--bin", name]),
            Kind::Tests(name) => words.extend(["--test", name]),
        }
        words
    }
}

/// Every test program of the workspace.
#[derive(Debug)]
pub(crate) struct TestTargets {
    root: PathBuf,
    packages: BTreeMap<String, Package>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<PackageTarget>,
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Nothing, `dev` or `build`.
    kind: Option<String>,
    /// Of our own.
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct PackageTarget {
    name: String,
    kind: Vec<String>,
}

impl TestTargets {
    /// Asks cargo.
    pub(crate) fn of(workspace: &Workspace) -> Result<Self> {
        let text = command::succeed(cargo(workspace).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(text).context("cargo metadata")?;
        Ok(Self {
            root: metadata.workspace_root,
            packages: metadata
                .packages
                .into_iter()
                .map(|package| (package.name.clone(), package))
                .collect(),
        })
    }

    /// The program that has this test, and the test's name there.
    pub(crate) fn resolve<'n>(&self, name: &'n str) -> Result<(TestTarget, &'n str), String> {
        let (package, path) = name
            .split_once("::")
            .ok_or_else(|| format!("`{name}` is no PACKAGE::PATH of a test"))?;
        let found = self
            .packages
            .get(package)
            .ok_or_else(|| format!("`{name}`: the workspace has no package {package}"))?;
        let (kind, path) = found
            .program(path)
            .ok_or_else(|| format!("`{name}`: {package} has no such test program"))?;
        let package = package.to_owned();
        Ok((TestTarget { package, kind }, path))
    }

    /// Whether a package has a library, whose documentation can have examples.
    pub(crate) fn has_library(&self, package: &str) -> bool {
        self.packages
            .get(package)
            .is_some_and(|package| package.targets.iter().any(PackageTarget::is_library))
    }

    /// The directories of all packages, from the workspace's root.
    pub(crate) fn directories(&self) -> BTreeSet<PathBuf> {
        let all = self.packages.values();
        all.filter_map(|package| self.directory(package)).collect()
    }

    /// The directories of the packages that the tests of one are built from, itself among
    /// them.
    pub(crate) fn built_from(&self, package: &str) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut next = vec![package];
        while let Some(name) = next.pop() {
            let Some(of) = self.packages.get(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            found.extend(self.directory(of));
            // What others are only tested with does not go into them.
            let counts = |kind: &Option<String>| kind.as_deref() != Some("dev") || name == package;
            let ours = |dependency: &&Dependency| dependency.path.is_some();
            next.extend(
                of.dependencies
                    .iter()
                    .filter(ours)
                    .filter(|dependency| counts(&dependency.kind))
                    .map(|dependency| dependency.name.as_str()),
            );
        }
        found
    }

    fn directory(&self, package: &Package) -> Option<PathBuf> {
        let directory = package.manifest_path.parent()?;
        directory.strip_prefix(&self.root).ok().map(Path::to_owned)
    }

    /// The package with this manifest.
    pub(super) fn package_at(&self, manifest: &Path) -> Option<&str> {
        self.packages
            .values()
            .find(|package| package.manifest_path == manifest)
            .map(|package| package.name.as_str())
    }
}

impl Package {
    fn program<'n>(&self, path: &'n str) -> Option<(Kind, &'n str)> {
        if let Some((first, rest)) = path.split_once("::")
            && self.has("test", first)
        {
            return Some((Kind::Tests(first.to_owned()), rest));
        }
        let library = self.targets.iter().find(|target| target.is_library());
        let binary = self.targets.iter().find(|target| target.is("bin"));
        match (library, binary) {
            (Some(_), _) => Some((Kind::Library, path)),
            (None, Some(binary)) => Some((Kind::Binary(binary.name.clone()), path)),
            (None, None) => None,
        }
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.is(kind) && target.name == name)
    }
}

impl PackageTarget {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|found| found == kind)
    }

    fn is_library(&self) -> bool {
        ["lib", "rlib", "proc-macro"]
            .iter()
            .any(|kind| self.is(kind))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn some() -> TestTargets {
        TestTargets::parse(
            r#"{"workspace_root":"/w","packages":[
            {"name":"vtd","manifest_path":"/w/vtd/Cargo.toml","targets":[
                {"name":"vtd","kind":["lib"]},{"name":"driver","kind":["test"]}],
             "dependencies":[{"name":"core","kind":null,"path":"/w/core"},
                {"name":"serde","kind":null,"path":null},
                {"name":"arena","kind":"dev","path":"/w/arena"}]},
            {"name":"core","manifest_path":"/w/core/Cargo.toml","targets":[]},
            {"name":"arena","manifest_path":"/w/arena/Cargo.toml","targets":[]},
            {"name":"xtask","manifest_path":"/w/runner/Cargo.toml","targets":[
                {"name":"xtask","kind":["bin"]}],
             "dependencies":[{"name":"vtd","kind":null,"path":"/w/vtd"}]}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_name_means_a_test_program_before_a_module_of_the_library() {
        let targets = some();
        let (target, path) = targets.resolve("vtd::driver::faults::a").unwrap();
        assert_eq!(target.kind, Kind::Tests("driver".to_owned()));
        assert_eq!(path, "faults::a");
        assert_eq!(target.selection(), ["--package", "vtd", "--test", "driver"]);
        let (target, path) = targets.resolve("vtd::mode::tests::a").unwrap();
        assert_eq!((target.kind, path), (Kind::Library, "mode::tests::a"));
        let (target, _) = targets.resolve("xtask::seed::a").unwrap();
        assert_eq!(target.kind, Kind::Binary("xtask".to_owned()));
        assert_eq!(target.prefix(), "xtask");
    }

    #[test]
    fn a_name_that_means_nothing_is_refused_with_its_reason() {
        let targets = some();
        assert!(
            targets
                .resolve("iommu::a")
                .unwrap_err()
                .contains("no package iommu")
        );
        assert!(
            targets
                .resolve("alone")
                .unwrap_err()
                .contains("PACKAGE::PATH")
        );
    }

    #[test]
    fn tests_are_built_from_what_their_package_needs_and_not_from_what_that_is_tested_with() {
        let targets = some();
        let of = |package| -> Vec<String> {
            let found = targets.built_from(package);
            found
                .iter()
                .map(|path| path.display().to_string())
                .collect()
        };
        assert_eq!(of("vtd"), ["arena", "core", "vtd"]);
        assert_eq!(of("xtask"), ["core", "runner", "vtd"]);
        assert_eq!(targets.directories().len(), 4);
    }
}
