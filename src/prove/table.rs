//! Tables as far as rows are made for them.

use super::value::Type;
use crate::pg::setting::{self, SAFE_PATH};
use crate::pg::statement;
use dragonfly_core::catalog::Oid;
use std::collections::BTreeMap;

/// A table.
pub struct Table {
    /// Its OID.
    pub oid: Oid,
    /// Its name in SQL.
    pub name: String,
    /// Its owner.
    pub owner: Oid,
    /// The name of its owner.
    pub owner_name: String,
    /// Whether its policies limit its owner.
    pub limits_owner: bool,
    /// Whether its rows are in partitions.
    pub is_partitioned: bool,
    /// Its columns by number.
    pub columns: BTreeMap<i16, Column>,
    /// Its foreign keys.
    pub references: Vec<Reference>,
    /// Its unique keys, the primary key first.
    pub keys: Vec<Vec<i16>>,
    /// Whether inserting a row, or comparing its columns, may execute code of the application while
    /// ordinary triggers are off.
    pub runs_code: bool,
    /// A trigger whose function is in a language other than SQL and PL/pgSQL.
    pub foreign_trigger: Option<String>,
    /// The triggers that see a row before it is written.
    pub triggers: Vec<String>,
}

/// A column.
pub struct Column {
    /// Its name in SQL.
    pub name: String,
    /// Its type.
    pub data_type: Type,
    /// Whether it must not be null.
    pub is_required: bool,
    /// Whether its values are computed.
    pub is_generated: bool,
    /// Whether it has a default that is a constant.
    pub has_constant: bool,
}

/// A foreign key.
pub struct Reference {
    /// The table that it references.
    pub target: Oid,
    /// Its columns, each with the one that it references.
    pub columns: Vec<(i16, i16)>,
}

impl Table {
    /// Reads a table; `None` where there is none.
    pub fn read(oid: Oid) -> Option<Self> {
        setting::under(&[SAFE_PATH], || read(oid))
    }
}

fn read(oid: Oid) -> Option<Table> {
    let of_table = statement::rows(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relowner::pg_catalog.text,
                pg_catalog.pg_get_userbyid(c.relowner),
                (c.relforcerowsecurity AND c.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls))
                  ::pg_catalog.text,
                (c.relkind = 'p')::pg_catalog.text
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_roles r ON r.oid = c.relowner
          WHERE c.oid = {oid} AND c.relkind IN ('r', 'p')"
    ));
    let mut of_table = of_table.into_iter().next()?.into_iter().map(Option::unwrap_or_default);
    let (name, owner) = (of_table.next()?, of_table.next()?.parse().ok()?);
    let (owner_name, limits_owner) = (of_table.next()?, of_table.next()? == "true");
    let is_partitioned = of_table.next()? == "true";
    let triggers = statement::rows(&format!(
        "SELECT t.tgname, l.lanname IN ('sql', 'plpgsql') OR t.tgisinternal,
                t.tgtype & 3 = 3 AND NOT t.tgisinternal
           FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
           JOIN pg_language l ON l.oid = p.prolang
          WHERE t.tgrelid = {oid} AND t.tgenabled IN ('O', 'A') ORDER BY t.tgname"
    ));
    let is = |value: &Option<String>, is: &str| value.as_deref() == Some(is);
    let names = |wanted: &dyn Fn(&[Option<String>]) -> bool| -> Vec<String> {
        let of = triggers.iter().filter(|row| wanted(row));
        of.filter_map(|row| row[0].clone()).collect()
    };
    Some(Table {
        oid,
        name,
        owner,
        owner_name,
        limits_owner,
        is_partitioned,
        columns: columns(oid),
        references: references(oid),
        keys: keys(oid),
        runs_code: runs_code(oid),
        foreign_trigger: names(&|row| is(&row[1], "f")).into_iter().next(),
        triggers: names(&|row| is(&row[2], "t")),
    })
}

fn columns(oid: Oid) -> BTreeMap<i16, Column> {
    // The base type of a domain, with its modifier, and whether a domain on the way is NOT NULL.
    let rows = statement::rows(&format!(
        "SELECT a.attnum, pg_catalog.quote_ident(a.attname), b.typname, b.typtype, b.typcategory,
                base.typmod,
                (a.attnotnull OR base.is_required), a.attgenerated <> '',
                coalesce(d.adbin::pg_catalog.text ~ '^\\{{CONST ', false),
                ARRAY(SELECT enumlabel FROM pg_enum WHERE enumtypid = b.oid ORDER BY enumsortorder)
                  ::pg_catalog.text
           FROM pg_attribute a
           CROSS JOIN LATERAL (
             WITH RECURSIVE up(oid, typmod, is_required, level) AS (
               SELECT a.atttypid, a.atttypmod, false, 0
               UNION ALL
               SELECT t.typbasetype, t.typtypmod, up.is_required OR t.typnotnull, up.level + 1
                 FROM up JOIN pg_type t ON t.oid = up.oid WHERE t.typtype = 'd')
             SELECT * FROM up ORDER BY level DESC LIMIT 1) base
           JOIN pg_type b ON b.oid = base.oid
           LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped"
    ));
    let column = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap_or_default();
        let number = next().parse().ok()?;
        let name = next();
        let (type_name, kind, category) = (next(), next(), next());
        let modifier = next().parse().unwrap_or(-1);
        let (is_required, is_generated, has_constant) =
            (next() == "t", next() == "t", next() == "t");
        let labels = next();
        let data_type = Type::new(&type_name, &kind, &category, modifier, &labels);
        let column = Column { name, data_type, is_required, is_generated, has_constant };
        Some((number, column))
    };
    rows.into_iter().filter_map(column).collect()
}

fn references(oid: Oid) -> Vec<Reference> {
    let rows = statement::rows(&format!(
        "SELECT confrelid, pg_catalog.array_to_string(conkey, ' '),
                pg_catalog.array_to_string(confkey, ' ')
           FROM pg_constraint WHERE conrelid = {oid} AND contype = 'f' ORDER BY conname"
    ));
    let reference = |row: Vec<Option<String>>| {
        let [target, from, to] = &row[..] else { return None };
        let columns = numbers(from.as_deref()).into_iter().zip(numbers(to.as_deref())).collect();
        Some(Reference { target: target.as_ref()?.parse().ok()?, columns })
    };
    rows.into_iter().filter_map(reference).collect()
}

fn keys(oid: Oid) -> Vec<Vec<i16>> {
    let rows = statement::rows(&format!(
        "SELECT pg_catalog.array_to_string(
                  (indkey::pg_catalog.int2[])[0:indnkeyatts - 1], ' ')
           FROM pg_index
          WHERE indrelid = {oid} AND indisunique AND indisvalid AND indpred IS NULL
            AND NOT 0 = ANY (indkey::pg_catalog.int2[])
          ORDER BY indisprimary DESC, indexrelid"
    ));
    rows.iter().filter_map(|row| row.first()).map(|text| numbers(text.as_deref())).collect()
}

fn numbers(text: Option<&str>) -> Vec<i16> {
    let text = text.unwrap_or_default();
    text.split(' ').filter_map(|number| number.parse().ok()).collect()
}

/// Whether a table has something that executes code which was not created with the server: triggers
/// that always fire, rules, partitions, and functions, operators and types in constraints, indexes,
/// generated columns and columns.
fn runs_code(oid: Oid) -> bool {
    statement::count(&format!(
        "SELECT WHERE EXISTS (SELECT FROM pg_trigger WHERE tgrelid = {oid}
                               AND tgenabled IN ('A', 'R'))
           OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = {oid})
           OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = {oid} AND relkind <> 'r')
           OR EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
                        LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
                       WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
                         AND coalesce(e.typtype, t.typtype) <> 'e'
                         AND coalesce(e.oid, t.oid) >= 16384)
           OR EXISTS (SELECT FROM pg_depend d
                       WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass,
                               'pg_opclass'::regclass, 'pg_collation'::regclass)
                         AND d.refobjid >= 16384
                         AND (d.classid = 'pg_class'::regclass AND (d.objid = {oid}
                               OR d.objid IN (SELECT indexrelid FROM pg_index
                                               WHERE indrelid = {oid}))
                           OR d.classid = 'pg_constraint'::regclass AND d.objid IN (
                                SELECT c.oid FROM pg_constraint c WHERE c.conrelid = {oid})
                           OR d.classid = 'pg_attrdef'::regclass AND d.objid IN (
                                SELECT f.oid FROM pg_attrdef f WHERE f.adrelid = {oid})))"
    )) > 0
}
