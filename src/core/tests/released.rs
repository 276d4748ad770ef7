//! The scripts of a version are never edited after its release: databases have been created by
//! them. A change needs a version of its own, with a script that updates to it.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Returns each script of the extension with the SHA-256 of its contents.
fn scripts(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries
        .filter(|path| name(path).starts_with("dragonfly_guard--"))
        .map(|path| (name(&path), format!("{:x}", Sha256::digest(fs::read(&path).unwrap()))))
        .collect()
}

#[test]
fn scripts_are_those_of_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let list = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let listed = list.lines().map(|line| {
        let (sum, file) = line.split_once("  ").expect("a line of sha256sum");
        (file.to_owned(), sum.to_owned())
    });
    let advice = "a script has changed: see \"Change the SQL objects\" in CONTRIBUTING.md";
    assert_eq!(scripts(&folder), listed.collect(), "{advice}");
}

#[test]
fn version_has_a_script_and_a_way_from_each_earlier_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let scripts = scripts(&folder);
    let names = scripts.keys().map(|name| {
        let name = name.strip_prefix("dragonfly_guard--").unwrap();
        name.strip_suffix(".sql").expect("a script")
    });
    let (updates, versions): (Vec<&str>, Vec<&str>) = names.partition(|name| name.contains("--"));
    let current = env!("CARGO_PKG_VERSION");
    assert!(versions.contains(&current), "no script for version {current}");
    // Each version is updated to the next one; ALTER EXTENSION goes the whole way.
    let mut reached = vec![current];
    let mut at = 0;
    while let Some(to) = reached.get(at) {
        let from = updates.iter().filter_map(|update| update.strip_suffix(&format!("--{to}")));
        reached.extend(from.collect::<Vec<&str>>());
        at += 1;
    }
    for version in versions {
        assert!(reached.contains(&version), "no way from version {version} to {current}");
    }
}
