//! The page about the format of a snapshot.

use crate::catalogs::{CATALOGS, Kind};
use crate::data::{VERSION, valued_settings};

/// Returns the page in Markdown.
#[must_use]
pub fn snapshot_page() -> String {
    let mut page = HEAD.replace("VERSION", &VERSION.to_string());
    let settings: Vec<String> =
        valued_settings().iter().map(|name| format!("  `{name}`")).collect();
    page = page.replace("SETTINGS", &settings.join(",\n"));
    for catalog in CATALOGS {
        page.push_str(&format!("\n## {}\n\n", catalog.name));
        if catalog.from != catalog.name {
            page.push_str(&format!("Read from `{}`, which every role may read.\n\n", catalog.from));
        }
        if let Some(rows) = catalog.rows {
            page.push_str(&format!(
                "Rows with:\n\n```sql\n{}\n```\n\n",
                rows.replace("\n    ", "\n")
            ));
        }
        page.push_str("| column | value |\n|---|---|\n");
        for (name, kind) in catalog.columns {
            page.push_str(&format!("| `{name}` | {} |\n", value(*kind)));
        }
    }
    page
}

const HEAD: &str = "\
<!-- Generated from src/reader/catalogs.rs: UPDATE_DOCS=1 cargo test -p dragonfly_reader -->
# Catalog snapshots

A snapshot is what the audit reads of a database, as one JSON document: rows of catalogs, and no row
of a table of the application. `ops.snapshot()` returns one; `sql/snapshot.sql` writes the same on a
server without the extension, as any role that may connect. `ops.audit_snapshot()` audits it.

Passwords are not in it. The texts of functions and the conditions of policies are, as every role
that may connect can read them in the catalogs.

```json
{
  \"dragonfly_guard_snapshot\": VERSION,
  \"server\": {\"version_num\": 150020, \"encoding\": \"UTF8\", \"database\": 16384,
    \"role\": \"auditor\", \"time\": 849225600000000,
    \"settings\": {\"search_path\": \"public\", \"work_mem\": null}},
  \"catalogs\": {\"pg_namespace\": {
    \"columns\": [\"oid\", \"nspname\", \"nspowner\", \"nspacl\"],
    \"rows\": [[2200, \"public\", 6171, \"6171=UC/6171,0=U/6171\"]]}}
}
```

- `dragonfly_guard_snapshot` is the version of the format. A reader rejects others.
- `server.time` is when it was read, in microseconds since 2000.
- `server.settings` has the name of every setting that the role may see, and the value with which a
  session starts of those that rules look at:
SETTINGS.
- `catalogs` has the rows of each catalog, each an array with a value for each of the columns.
  Catalogs and columns that a release does not have are missing. The order of rows has no meaning.
- An ACL is written as the server does it, with OIDs in place of names, 0 for PUBLIC, and commas
  between the items.

The server reads the text of a body when a function is called, so that a snapshot has no more than
the text. An audit of it reads the forms that most policies and their functions have, and means by
them what the server does. What depends on another text is a finding of severity info that says so;
advice about speed that depends on it (`policy_unindexed`) is missing.
";

fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Oid => "OID",
        Kind::Int => "number",
        Kind::Bool => "true or false",
        Kind::Char => "string of one character",
        Kind::Name | Kind::Text => "string",
        Kind::Bytes => "string of hexadecimal digits",
        Kind::Present => "true, or null",
        Kind::Acl => "ACL",
        Kind::Oids => "array of OIDs",
        Kind::Numbers => "array of numbers",
        Kind::Texts => "array of strings",
        Kind::Chars => "string of one character for each element",
        Kind::TypeName => "name of the type as the server prints it, qualified",
        Kind::Time => "microseconds since 2000; the largest number for infinity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_in_the_project_is_that_of_the_catalogs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/catalog-snapshot.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, snapshot_page()).expect("the page is written");
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == snapshot_page(), "run UPDATE_DOCS=1 cargo test -p dragonfly_reader");
    }
}
