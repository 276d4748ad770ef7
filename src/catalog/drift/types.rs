//! Reads user-defined types: enums, domains, composite types, ranges and base types.

use super::relations::Relation;
use super::{Reader, qualified};
use crate::catalog::oids;
use crate::pg::heap::{Row, Table};
use dragonfly_core::catalog::Oid;
use dragonfly_core::drift::{AclKind, Object};
use dragonfly_core::sql::{quote_ident, quote_literal};
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::collections::HashMap;

/// The columns of `pg_type` that describe domains.
struct DomainColumns {
    base: Column,
    modifier: Column,
    collation: Column,
    not_null: Column,
    default: Column,
    default_text: Column,
}

impl DomainColumns {
    fn of(table: &Table) -> Self {
        Self {
            base: table.column("typbasetype"),
            modifier: table.column("typtypmod"),
            collation: table.column("typcollation"),
            not_null: table.column("typnotnull"),
            default: table.column("typdefaultbin"),
            default_text: table.column("typdefault"),
        }
    }

    /// Sets the properties of a domain, except its constraints.
    fn set_properties(&self, reader: &Reader<'_>, row: &Row<'_>, object: &mut Object) {
        let deparser = &reader.deparser;
        let base = row.oid(self.base);
        object.set("kind", "domain");
        object.set("type", deparser.type_name(base, row.int(self.modifier)));
        object.set_some("collation", deparser.collation(base, row.oid(self.collation)));
        object.set_if("not null", row.bool(self.not_null));
        let default = row
            .raw(self.default)
            .map(|tree| deparser.tree(tree, 0))
            .or_else(|| row.text(self.default_text));
        object.set_some("default", default);
    }
}

impl Reader<'_> {
    /// Adds the types, except row types of tables and array types.
    pub fn types(&mut self, relations: &HashMap<Oid, Relation>) {
        let table = Table::open(oids::PG_TYPE);
        let column = |name| table.column(name);
        let (oid, name, schema, owner) =
            (column("oid"), column("typname"), column("typnamespace"), column("typowner"));
        let (kind, category, relation, acl) =
            (column("typtype"), column("typcategory"), column("typrelid"), column("typacl"));
        let domain = DomainColumns::of(&table);
        let (input, output) = (column("typinput"), column("typoutput"));
        let (labels, ranges, constraints) =
            (self.labels(), self.ranges(), self.domain_constraints());
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let Some(schema) = self.schema_of(oids::PG_TYPE, row.oid(oid), row.oid(schema)) else {
                return;
            };
            let mut object =
                Object::new("type", Some(&schema), qualified(&schema, &row.name(name)));
            match row.char(kind) {
                b'e' => {
                    let labels = labels.get(&row.oid(oid)).map(|labels| labels.join(", "));
                    object.set("kind", "enum");
                    object.set("labels", labels.unwrap_or_default());
                }
                b'd' => {
                    domain.set_properties(self, &row, &mut object);
                    for (name, definition) in constraints.get(&row.oid(oid)).into_iter().flatten() {
                        let check = self.domain_check(row.oid(oid), row.oid(owner), definition);
                        object.set(format!("constraint {}", quote_ident(name)), check);
                    }
                }
                b'c' => {
                    let relation = relations.get(&row.oid(relation));
                    let Some(relation) = relation.filter(|r| r.kind == b'c') else { return };
                    object.set("kind", "composite");
                    object.set("attributes", relation.attributes());
                }
                b'r' => {
                    object.set("kind", "range");
                    object.set_some("range", ranges.get(&row.oid(oid)).cloned());
                }
                b'b' if row.char(category) != b'A' => {
                    object.set("kind", "base");
                    object.set("input", self.deparser.named(pg_sys::regprocout, row.oid(input)));
                    object.set("output", self.deparser.named(pg_sys::regprocout, row.oid(output)));
                }
                _ => return,
            }
            object.set("owner", self.role(row.oid(owner)));
            self.grants(&mut object, AclKind::Type, row.oid(owner), row.acl(acl).as_ref());
            found.push(object);
        });
        self.add_all(found);
    }

    /// Returns the labels of each enum, in their order.
    fn labels(&self) -> HashMap<Oid, Vec<String>> {
        let table = Table::open(oids::PG_ENUM);
        let (of, position, label) =
            (table.column("enumtypid"), table.column("enumsortorder"), table.column("enumlabel"));
        let mut found: HashMap<Oid, Vec<(f32, String)>> = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            let position = f32::from_bits(row.int(position) as u32);
            found.entry(row.oid(of)).or_default().push((position, quote_literal(&row.name(label))));
        });
        let in_order = |mut labels: Vec<(f32, String)>| {
            labels.sort_by(|(a, _), (b, _)| a.total_cmp(b));
            labels.into_iter().map(|(_, label)| label).collect()
        };
        found.into_iter().map(|(of, labels)| (of, in_order(labels))).collect()
    }

    /// Returns subtype, operator class and functions of each range type.
    fn ranges(&self) -> HashMap<Oid, String> {
        let table = Table::open(oids::PG_RANGE);
        let column = |name| table.column(name);
        let (of, subtype, collation) =
            (column("rngtypid"), column("rngsubtype"), column("rngcollation"));
        let (canonical, difference) = (column("rngcanonical"), column("rngsubdiff"));
        let operators = column("rngsubopc");
        let mut found = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            let mut text = self.deparser.type_name(row.oid(subtype), -1);
            if let Some(collation) = self.deparser.collation(row.oid(subtype), row.oid(collation)) {
                text = format!("{text} COLLATE {collation}");
            }
            text = format!(
                "{text} by {}",
                self.deparser.described(oids::PG_OPCLASS, row.oid(operators))
            );
            for (word, function) in
                [("canonical", row.oid(canonical)), ("difference", row.oid(difference))]
            {
                if function != 0 {
                    text = format!(
                        "{text} {word} {}",
                        self.deparser.named(pg_sys::regprocout, function)
                    );
                }
            }
            found.insert(row.oid(of), text);
        });
        found
    }

    /// Returns name and definition of the constraints of each domain.
    fn domain_constraints(&self) -> HashMap<Oid, Vec<(String, String)>> {
        let table = Table::open(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (oid, name, of, kind) =
            (column("oid"), column("conname"), column("contypid"), column("contype"));
        let mut found: HashMap<Oid, Vec<(String, String)>> = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            if row.oid(of) != 0 && row.char(kind) == b'c' {
                let definition = self.deparser.call(pg_sys::pg_get_constraintdef, row.oid(oid));
                found.entry(row.oid(of)).or_default().push((row.name(name), definition));
            }
        });
        found
    }

    /// Returns a `CHECK (...)` of a domain in the form that it has after dump and restore. VALUE is
    /// parsed as a column of this name.
    fn domain_check(&self, domain: Oid, owner: Oid, definition: &str) -> String {
        let parts = definition.strip_prefix("CHECK (").and_then(|rest| rest.rsplit_once(')'));
        let Some((condition, flags)) = parts else { return definition.to_owned() };
        // SAFETY: a lookup in the system cache.
        let base = unsafe { pg_sys::getBaseType(domain.into()) }.to_u32();
        let values =
            format!(" FROM (SELECT NULL::{} AS value) AS v", self.deparser.type_name(base, -1));
        let condition = self.deparser.within(condition.to_owned(), owner, &values);
        format!("CHECK ({condition}){flags}")
    }
}
