//! The version of the project in files that no build writes.

use serde_json::Value;
use std::path::Path;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn file(name: &str) -> String {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(project.join(name)).expect(name)
}

#[test]
fn meta_json_of_pgxn_has_the_version_of_the_workspace() {
    let meta: Value = serde_json::from_str(&file("META.json")).unwrap();
    assert_eq!(meta["version"], VERSION);
    assert_eq!(meta["provides"]["dragonfly_guard"]["version"], VERSION);
}

#[test]
fn extension_image_of_the_sample_cluster_has_the_version_of_the_workspace() {
    let image = format!("/dragonfly-guard-extension:{VERSION}-18\n");
    assert!(file("packaging/cloudnativepg/cluster.yaml").contains(&image), "{image}");
}
