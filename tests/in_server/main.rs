//! Writes the installation script of a library with tests, as `cargo pgrx schema` does, and checks
//! that the script without the tests equals the one in sql/.
//!
//! Arguments: the section `.pgrxsc` of the library as a file, the control file, the installation
//! script, the version, and the file to write. cargo-pgrx is not used, because it would have to be
//! installed and would build every dependency again.

use pgrx_sql_entity_graph::{ControlFile, PgrxSql, SqlGraphEntity, section::decode_entities};
use std::error::Error;

/// The schema of the tests, which are SQL functions without arguments.
const TESTS: &str = "tests";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [section, control, install, version, script] = arguments.as_slice() else {
        return Err("usage: dragonfly_in_server SECTION CONTROL INSTALL VERSION SCRIPT".into());
    };
    let section = std::fs::read(section)?;
    let entities = decode_entities(&section)?;
    let install = std::fs::read_to_string(install)?;
    for entity in entities.iter().filter(|entity| !is_test(entity)) {
        match entity {
            SqlGraphEntity::CustomSql(sql) if sql.sql == install => {}
            other => {
                let problem = "SQL that is not in the installation script would not be installed";
                return Err(format!("{problem}: {other:?}").into());
            }
        }
    }
    let control = ControlFile::from_path_with_cargo_version(control, version)?;
    let root = std::iter::once(SqlGraphEntity::ExtensionRoot(control));
    let name = "dragonfly_guard".to_owned();
    PgrxSql::build(root.chain(entities), name, false)?.to_file(script)?;
    Ok(())
}

fn is_test(entity: &SqlGraphEntity<'_>) -> bool {
    match entity {
        SqlGraphEntity::Schema(schema) => schema.name == TESTS,
        SqlGraphEntity::Function(function) => function.module_path.ends_with("::tests"),
        _ => false,
    }
}
