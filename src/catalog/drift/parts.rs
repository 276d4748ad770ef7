//! Reads the parts of relations: constraints, indexes, triggers, rules and policies.

use super::relations::Relation;
use super::{Reader, qualified};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, Table};
use dragonfly_core::catalog::{Oid, PUBLIC};
use dragonfly_core::drift::Object;
use dragonfly_core::sql::{find_unquoted, quote_ident};
use pgrx::pg_sys;
use std::collections::{BTreeSet, HashMap, HashSet};

type Relations = HashMap<Oid, Relation>;

impl Reader<'_> {
    /// Adds the parts of these relations.
    pub fn parts(&mut self, relations: &Relations) {
        let of_constraints = self.constraints(relations);
        self.indexes(relations, &of_constraints);
        self.triggers(relations);
        self.rules(relations);
        self.policies(relations);
    }

    /// Returns an object whose name is local to a relation: `p on public.t`.
    fn part(object_type: &str, name: &str, relation: &Relation) -> Object {
        let identity = format!("{} on {}", quote_ident(name), relation.identity);
        Object::new(object_type, Some(&relation.schema), identity).of(&relation.identity)
    }

    /// Adds the constraints of tables and returns the indexes that belong to one. NOT NULL is a
    /// property of the column, in every release.
    fn constraints(&mut self, relations: &Relations) -> HashSet<Oid> {
        let table = Table::open(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (oid, name, kind, on) =
            (column("oid"), column("conname"), column("contype"), column("conrelid"));
        let (parent, index, tree) = (column("conparentid"), column("conindid"), column("conbin"));
        let (validated, no_inherit, enforced) =
            (column("convalidated"), column("connoinherit"), table.find("conenforced"));
        let mut indexes = HashSet::new();
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let relation_oid = row.oid(on);
            let Some(relation) = relations.get(&relation_oid) else { return };
            let definition = match row.char(kind) {
                b'c' => {
                    let Some(tree) = row.raw(tree) else { return };
                    let mut text = format!(
                        "CHECK ({})",
                        self.deparser.expression(tree, relation.of(relation_oid))
                    );
                    let is_enforced = enforced.is_none_or(|enforced| row.bool(enforced));
                    for (applies, word) in [
                        (row.bool(no_inherit), " NO INHERIT"),
                        (!row.bool(validated) && is_enforced, " NOT VALID"),
                        (!is_enforced, " NOT ENFORCED"),
                    ] {
                        text.push_str(if applies { word } else { "" });
                    }
                    text
                }
                // A foreign key that is inherited from a partitioned table is omitted: the server
                // chooses its name.
                b'f' if row.oid(parent) != 0 => return,
                b'p' | b'u' | b'x' | b'f' => {
                    if row.char(kind) != b'f' {
                        indexes.insert(row.oid(index));
                    }
                    self.deparser.call(pg_sys::pg_get_constraintdef, row.oid(oid))
                }
                _ => return,
            };
            let mut object = Self::part("table constraint", &row.name(name), relation);
            object.set("definition", definition);
            found.push(object);
        });
        self.add_all(found);
        indexes
    }

    fn indexes(&mut self, relations: &Relations, of_constraints: &HashSet<Oid>) {
        let table = Table::open(oids::PG_INDEX);
        let column = |name| table.column(name);
        let (oid, on, trees, predicate) =
            (column("indexrelid"), column("indrelid"), column("indexprs"), column("indpred"));
        let (valid, identity) = (column("indisvalid"), column("indisreplident"));
        let mut found = Vec::new();
        let mut identities = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            let relation_oid = row.oid(on);
            let Some(relation) = relations.get(&relation_oid) else { return };
            let Some((schema, name)) = catalog::name(oids::PG_CLASS, row.oid(oid)) else { return };
            if row.bool(identity) {
                identities
                    .insert(relation.identity.clone(), format!("index {}", quote_ident(&name)));
            }
            if of_constraints.contains(&row.oid(oid)) {
                return;
            }
            let mut object = Object::new("index", Some(&schema), qualified(&schema, &name))
                .of(&relation.identity);
            let mut definition = self.deparser.call(pg_sys::pg_get_indexdef, row.oid(oid));
            for trees in [trees, predicate] {
                definition = self.deparser.with_expressions(
                    definition,
                    row.text(trees),
                    relation.of(relation_oid),
                );
            }
            object.set("definition", definition);
            object.set_if("invalid", !row.bool(valid));
            found.push(object);
        });
        for object in &mut self.objects {
            if object.object_type == "table"
                && let Some(index) = identities.get(&object.identity)
            {
                object.set("replica identity", &**index);
            }
        }
        self.add_all(found);
    }

    /// Adds user-defined triggers. Internal triggers, which enforce foreign keys, are a property of
    /// the table where they are not enabled as usual.
    fn triggers(&mut self, relations: &Relations) {
        let table = Table::open(oids::PG_TRIGGER);
        let column = |name| table.column(name);
        let (oid, name, on, internal) =
            (column("oid"), column("tgname"), column("tgrelid"), column("tgisinternal"));
        let (enabled, condition) = (column("tgenabled"), column("tgqual"));
        let mut found = Vec::new();
        let mut changed_internal: HashMap<String, BTreeSet<&str>> = HashMap::new();
        table.scan(self.state, |row: Row<'_>| {
            let Some(relation) = relations.get(&row.oid(on)) else { return };
            if row.bool(internal) {
                if let Some(how) = firing(row.char(enabled)) {
                    changed_internal.entry(relation.identity.clone()).or_default().insert(how);
                }
                return;
            }
            let mut object = Self::part("trigger", &row.name(name), relation);
            let definition = self.deparser.call(pg_sys::pg_get_triggerdef, row.oid(oid));
            object.set(
                "definition",
                if row.is_null(condition) {
                    definition
                } else {
                    self.with_condition(definition, relation)
                },
            );
            object.set_some("enabled", firing(row.char(enabled)));
            found.push(object);
        });
        for object in self.objects.iter_mut().filter(|o| o.object_type == "table") {
            if let Some(how) = changed_internal.get(&object.identity) {
                object.set(
                    "foreign key triggers",
                    how.iter().copied().collect::<Vec<_>>().join(", "),
                );
            }
        }
        self.add_all(found);
    }

    /// Replaces the WHEN condition of a trigger, over its old and its new row, by the form that it
    /// has after dump and restore.
    fn with_condition(&self, definition: String, relation: &Relation) -> String {
        let (start, end) = (" WHEN (", ") EXECUTE FUNCTION ");
        let Some(from) = find_unquoted(&definition, start) else { return definition };
        let Some(length) = find_unquoted(&definition[from + start.len()..], end) else {
            return definition;
        };
        let to = from + start.len() + length;
        let condition = definition[from + start.len()..to].to_owned();
        let rows = format!(" FROM {0} AS old, {0} AS new", relation.identity);
        let condition = self.deparser.within(condition, relation.owner, &rows);
        format!("{}{condition}{}", &definition[..from + start.len()], &definition[to..])
    }

    /// Adds rules, except the queries of views.
    fn rules(&mut self, relations: &Relations) {
        let table = Table::open(oids::PG_REWRITE);
        let column = |name| table.column(name);
        let (oid, name, on, enabled) =
            (column("oid"), column("rulename"), column("ev_class"), column("ev_enabled"));
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let Some(relation) = relations.get(&row.oid(on)) else { return };
            let name = row.name(name);
            if name == "_RETURN" {
                return;
            }
            let mut object = Self::part("rule", &name, relation);
            object.set(
                "definition",
                self.deparser.call_and_release(pg_sys::pg_get_ruledef, row.oid(oid)),
            );
            object.set_some("enabled", firing(row.char(enabled)));
            found.push(object);
        });
        self.add_all(found);
    }

    fn policies(&mut self, relations: &Relations) {
        let table = Table::open(oids::PG_POLICY);
        let column = |name| table.column(name);
        let (name, on, command, permissive) =
            (column("polname"), column("polrelid"), column("polcmd"), column("polpermissive"));
        let (roles, using, check) = (column("polroles"), column("polqual"), column("polwithcheck"));
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let relation_oid = row.oid(on);
            let Some(relation) = relations.get(&relation_oid) else { return };
            let mut object = Self::part("policy", &row.name(name), relation);
            object.set(
                "command",
                match row.char(command) {
                    b'r' => "SELECT",
                    b'a' => "INSERT",
                    b'w' => "UPDATE",
                    b'd' => "DELETE",
                    _ => "ALL",
                },
            );
            object.set("kind", if row.bool(permissive) { "PERMISSIVE" } else { "RESTRICTIVE" });
            let role =
                |role: Oid| if role == PUBLIC { "PUBLIC".to_owned() } else { self.role(role) };
            let mut names: Vec<String> = row.oids(roles).into_iter().map(role).collect();
            names.sort();
            object.set("roles", names.join(", "));
            for (property, tree) in [("using", using), ("with check", check)] {
                let tree = row.raw(tree);
                object.set_some(
                    property,
                    tree.map(|tree| self.deparser.expression(tree, relation.of(relation_oid))),
                );
            }
            found.push(object);
        });
        self.add_all(found);
    }
}

/// Returns when a trigger or a rule fires, where that is not the default.
fn firing(enabled: u8) -> Option<&'static str> {
    match enabled {
        b'D' => Some("disabled"),
        b'R' => Some("in replicas alone"),
        b'A' => Some("always"),
        _ => None,
    }
}
