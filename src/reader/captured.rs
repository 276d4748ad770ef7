//! What the caller of a function can give another meaning in its text.

use crate::oids;
use crate::text_body::{Text, Used};
use dragonfly_core::catalog::{FIRST_NORMAL, Oid};
use dragonfly_core::policy::facts::Captured;
use dragonfly_core::sql::body::Mentions;
use dragonfly_core::sql::quote_ident;
use std::collections::BTreeSet;

/// Returns the objects that a text names without a schema although its caller can give these
/// names to others: by the search_path where the function sets none, and by temporary tables
/// where its path does not end with pg_temp. `name` returns schema and name of an object.
pub fn captured(
    name: &dyn Fn(Oid, Oid) -> Option<(String, String)>,
    text: &Text<'_>,
    used: &Used,
) -> Captured {
    let path = text.path.as_deref().unwrap_or("\"$user\"");
    let has_temporary_last = path
        .rsplit(',')
        .next()
        .is_some_and(|last| last.trim().trim_matches('"').eq_ignore_ascii_case("pg_temp"));
    // The schemas that the caller may not use are not searched.
    let schemas = path.split(',').map(str::trim).filter(|name| !name.contains("pg_")).count();
    let is_set = !path.contains("$user") && (text.is_definer || schemas < 2);
    let names_temporary_first = path.matches("pg_temp").count() > 1;
    if is_set && has_temporary_last && !names_temporary_first {
        return Captured::default();
    }
    let mentions = Mentions::of(text.source, text.language);
    let named = |catalog, objects: &BTreeSet<Oid>, is_named: &dyn Fn(&String) -> bool| {
        let objects = objects.iter().filter(|oid| **oid >= FIRST_NORMAL);
        objects
            .filter_map(|oid| name(catalog, *oid))
            .filter(|(_, name)| is_named(name))
            .map(|(schema, name)| format!("{}.{}", quote_ident(&schema), quote_ident(&name)))
            .collect()
    };
    let is_unqualified = |name: &String| used.unqualified.contains(name);
    let is_called = |name: &String| !is_set && mentions.words.contains_key(name);
    Captured {
        relations: named(oids::PG_CLASS, &used.relations, &is_unqualified),
        functions: named(oids::PG_PROC, &used.functions, &is_called),
    }
}
