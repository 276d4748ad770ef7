//! The SQL script that writes a snapshot, for servers without the extension.

use crate::catalogs::{CATALOGS, Kind};
use crate::data::{VERSION, valued_settings};
use dragonfly_core::sql::quote_literal;

/// What the script begins with.
const HEAD: &str = r#"
-- Writes a snapshot of the catalogs of a database as JSON, for ops.audit_snapshot() and the program
-- dragonfly-guard. Any role that may connect can run it. It changes nothing and reads no table of
-- an application:
--
--   psql -XAtq -v ON_ERROR_STOP=1 -f snapshot.sql DATABASE > snapshot.json
--
-- The format is described in docs/reference/catalog-snapshot.md. This file is generated from
-- src/reader/catalogs.rs.
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset pager off
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_encoding = 'UTF8';
SET LOCAL quote_all_identifiers = off;
-- Roles of hosted platforms often have one.
SET LOCAL statement_timeout = 0;

-- Waits a minute for a lock, unless the role waits for another time. The values of settings are not
-- those that the role or the client has of its own: these are unknown.
SELECT left(set_config('lock_timeout', CASE current_setting('lock_timeout')
    WHEN '0' THEN '1min' ELSE current_setting('lock_timeout') END, true), 0)
  || '{"dragonfly_guard_snapshot":VERSION,"server":' || json_build_object(
  'version_num', current_setting('server_version_num')::int4,
  'encoding', current_setting('server_encoding'),
  'database', d.oid::int8,
  'role', current_user,
  'time', (extract(epoch FROM now())::numeric * 1000000 - 946684800000000)::int8,
  'settings', (
    SELECT json_object_agg(name, CASE WHEN name IN (
        VALUED)
        AND source NOT IN ('user', 'database user', 'client')
        AND NOT EXISTS (
          SELECT FROM pg_db_role_setting AS of_role, unnest(of_role.setconfig) AS item
           WHERE of_role.setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user)
             AND of_role.setdatabase IN (0, d.oid)
             AND lower(split_part(item, '=', 1)) = lower(name)) THEN reset_val END ORDER BY name)
      FROM pg_settings WHERE position('.' IN name) = 0 OR name = 'dragonfly_guard.mode')
) || ',"catalogs":{'
  FROM pg_database AS d WHERE d.datname = current_database();

-- One statement for each catalog, with the columns that this release has.
WITH wanted_rows (catalog, wanted) AS (VALUES
"#;

/// What is between the conditions of rows and the columns.
const MIDDLE: &str = "\
), catalog_columns (catalog_place, catalog, source, place, name, kind) AS (VALUES
";

/// What the script ends with.
const TAIL: &str = r#"), existing AS (
  SELECT c.*, coalesce(w.wanted, '') AS wanted, a.attnotnull AS is_never_null,
         -- PostgreSQL 13 shows the columns of subscriptions to every role, but not this one.
         c.source = 'pg_subscription' AND c.name = 'oid'
           AND NOT has_column_privilege(r.oid, a.attnum, 'SELECT') AS is_hidden,
         row_number() OVER (PARTITION BY catalog ORDER BY place) = 1 AS is_first
    FROM catalog_columns AS c
    LEFT JOIN wanted_rows AS w USING (catalog)
    JOIN pg_class AS r ON r.relname = c.source AND r.relnamespace = 'pg_catalog'::regnamespace
    JOIN pg_attribute AS a ON a.attrelid = r.oid AND NOT a.attisdropped
     AND a.attname = CASE kind WHEN 'type_name' THEN 'oid' ELSE c.name END
), expressed AS (
  SELECT e.*, CASE CASE WHEN is_hidden THEN 'hidden' ELSE kind END
      WHEN 'hidden' THEN '0'
      WHEN 'oid' THEN format('s.%I::oid', name)
      WHEN 'int' THEN format('s.%I', name)
      WHEN 'bool' THEN format('s.%I::text', name)
      WHEN 'bytes' THEN format('encode(s.%I, ''hex'')', name)
      WHEN 'present' THEN format('CASE WHEN s.%I IS NULL THEN ''null'' ELSE ''true'' END', name)
      -- Types of pg_catalog are printed without it, and those of the SQL standard have no schema.
      WHEN 'type_name' THEN 'CASE WHEN s.typnamespace = ''pg_catalog''::regnamespace AND CASE'
        ' WHEN s.typcategory = ''A'' AND s.oid NOT IN (22, 30) THEN s.typelem ELSE s.oid END NOT IN'
        ' (16, 20, 21, 23, 700, 701, 1042, 1043, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700'
        -- The type json, since PostgreSQL 17.
        || CASE WHEN current_setting('server_version_num')::int4 >= 170000 THEN ', 114' ELSE '' END
        || ') THEN ''pg_catalog.'' ELSE '''' END || format_type(s.oid, NULL)'
      WHEN 'acl' THEN 'acls.written'
      WHEN 'oids' THEN format('s.%I::oid[]::int8[]', name)
      WHEN 'numbers' THEN format('s.%I::int2[]', name)
      WHEN 'texts' THEN format('s.%I', name)
      WHEN 'chars' THEN format('array_to_string(s.%I, '''')', name)
      WHEN 'time' THEN format(
        'CASE WHEN isfinite(s.%1$I)'
        ' THEN (extract(epoch FROM s.%1$I)::numeric * 1000000 - 946684800000000)::int8'
        ' WHEN s.%1$I > now() THEN 9223372036854775807'
        ' WHEN s.%1$I < now() THEN -9223372036854775808 END', name)
      ELSE format('s.%I::text', name) END AS expression
    FROM existing AS e
), written AS (
  -- As JSON. That of numbers is their text, and the ACLs are JSON already.
  SELECT e.*, CASE WHEN kind = 'present' THEN expression
                   WHEN is_never_null THEN value
                   ELSE format('coalesce((%s)::text, ''null'')', value) END AS value_of_row
    FROM expressed AS e, LATERAL (SELECT CASE
           WHEN kind IN ('oid', 'int', 'bool', 'time', 'acl', 'present') THEN expression
           ELSE format('to_json(%s)', expression) END) AS v (value)
), catalogs AS (
  SELECT catalog_place, catalog, source, wanted,
         json_agg(name ORDER BY place)::text AS names,
         string_agg(value_of_row, ', '','', ' ORDER BY place) AS values_of_row,
         -- At most one column of a catalog is an ACL.
         max(name) FILTER (WHERE kind = 'acl') AS acl,
         row_number() OVER (ORDER BY catalog_place) = 1 AS is_first
    FROM written
   GROUP BY catalog_place, catalog, source, wanted
)
SELECT format('SELECT %L', CASE WHEN is_first THEN '' ELSE ',' END
         || to_json(catalog)::text || ':{"columns":' || names || ',"rows":['),
       CASE WHEN acl IS NOT NULL THEN format(
         -- Thousands of rows share a few ACLs, which are written once. As the server writes them,
         -- with OIDs in place of names.
         'WITH acls AS MATERIALIZED (SELECT acl, to_json(coalesce((SELECT string_agg(item.written,'
         ' '','' ORDER BY item.place) FROM (SELECT min(place) AS place, grantee::text || ''='''
         ' || string_agg(CASE privilege_type WHEN ''INSERT'' THEN ''a'' WHEN ''SELECT'' THEN ''r'''
         ' WHEN ''UPDATE'' THEN ''w'' WHEN ''DELETE'' THEN ''d'' WHEN ''TRUNCATE'' THEN ''D'''
         ' WHEN ''REFERENCES'' THEN ''x'' WHEN ''TRIGGER'' THEN ''t'' WHEN ''EXECUTE'' THEN ''X'''
         ' WHEN ''USAGE'' THEN ''U'' WHEN ''CREATE'' THEN ''C'' WHEN ''TEMPORARY'' THEN ''T'''
         ' WHEN ''CONNECT'' THEN ''c'' WHEN ''SET'' THEN ''s'' WHEN ''ALTER SYSTEM'' THEN ''A'''
         ' WHEN ''MAINTAIN'' THEN ''m'' END || CASE WHEN is_grantable THEN ''*'' ELSE '''' END,'
         ' '''' ORDER BY place) || ''/'' || grantor::text AS written'
         ' FROM aclexplode(acl) WITH ORDINALITY AS'
         ' e (grantor, grantee, privilege_type, is_grantable, place)'
         ' GROUP BY grantor, grantee) AS item), '''')) AS written'
         ' FROM (SELECT DISTINCT %1$I AS acl FROM %2$I WHERE %1$I IS NOT NULL) AS d) ', acl, source)
       ELSE '' END
       || format('SELECT concat(CASE WHEN row_number() OVER () = 1 THEN ''['' ELSE '',['' END,'
         ' %s, '']'') FROM %I AS s %s %s', values_of_row, source,
         CASE WHEN acl IS NOT NULL THEN format('LEFT JOIN acls ON acls.acl = s.%I', acl)
         ELSE '' END,
         CASE WHEN wanted <> '' THEN 'WHERE ' || wanted ELSE '' END),
       'SELECT '']}'''
  FROM catalogs ORDER BY catalog_place
\gexec

SELECT '}}';
COMMIT;
"#;

/// Returns the script.
#[must_use]
pub fn snapshot_sql() -> String {
    let valued: Vec<String> = valued_settings().iter().map(|name| format!("'{name}'")).collect();
    let valued = valued.join(",\n        ");
    let mut script =
        HEAD.trim_start().replace("VERSION", &VERSION.to_string()).replace("VALUED", &valued);
    let wanted = CATALOGS.iter().filter_map(|catalog| {
        Some(format!("  ('{}', {})", catalog.name, quote_literal(catalog.rows?)))
    });
    script.push_str(&wanted.collect::<Vec<_>>().join(",\n"));
    script.push('\n');
    script.push_str(MIDDLE);
    let mut rows = Vec::new();
    for (catalog, place) in CATALOGS.iter().zip(1..) {
        for ((name, kind), column) in catalog.columns.iter().zip(1..) {
            let (table, from) = (catalog.name, catalog.from);
            let kind = word(*kind);
            rows.push(format!("  ({place}, '{table}', '{from}', {column}, '{name}', '{kind}')"));
        }
    }
    script.push_str(&rows.join(",\n"));
    script.push('\n');
    script.push_str(TAIL);
    script
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Oid => "oid",
        Kind::Int => "int",
        Kind::Bool => "bool",
        Kind::Char => "char",
        Kind::Name => "name",
        Kind::Text => "text",
        Kind::Bytes => "bytes",
        Kind::Present => "present",
        Kind::Acl => "acl",
        Kind::Oids => "oids",
        Kind::Numbers => "numbers",
        Kind::Texts => "texts",
        Kind::Chars => "chars",
        Kind::Time => "time",
        Kind::TypeName => "type_name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_in_the_project_is_that_of_the_catalogs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sql/snapshot.sql");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, snapshot_sql()).expect("the script is written");
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == snapshot_sql(), "run UPDATE_DOCS=1 cargo test -p dragonfly_reader");
    }

    #[test]
    fn catalog_has_at_most_one_acl() {
        for catalog in CATALOGS {
            let acls = catalog.columns.iter().filter(|(_, kind)| *kind == Kind::Acl).count();
            assert!(acls <= 1, "{}", catalog.name);
        }
    }
}
