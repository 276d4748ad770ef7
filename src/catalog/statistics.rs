//! The views of extended statistics.

use super::deparse::call;
use super::name::relation_named;
use pgrx::pg_sys;

/// Whether pg_stats_ext shows the statistics of a table to its owner only. A minor release that
/// hides them does so in new clusters: existing ones keep their views until a script is run.
pub fn statistics_are_hidden() -> bool {
    let Some(view) = relation_named(pg_sys::PG_CATALOG_NAMESPACE, "pg_stats_ext") else {
        return true;
    };
    call(pg_sys::pg_get_viewdef, &[pg_sys::Datum::from(view)]).contains("pg_has_role(c.relowner")
}
