//! Functions, procedures and aggregates.

use super::Reader;
use crate::catalog::deparse::{language_name, setting};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, Table};
use crate::pg::language::{C, INTERNAL};
use dragonfly_core::catalog::Oid;
use dragonfly_core::drift::{AclKind, Object, hash_of};
use dragonfly_core::sql::quote_ident;
use pgrx::pg_sys;
use std::collections::HashSet;

impl Reader<'_> {
    /// Notes the routines.
    pub fn routines(&mut self) {
        let table = Table::open(oids::PG_PROC);
        let column = |name| table.column(name);
        let (oid, name, schema, owner) =
            (column("oid"), column("proname"), column("pronamespace"), column("proowner"));
        let (kind, language, arguments, acl) =
            (column("prokind"), column("prolang"), column("proargtypes"), column("proacl"));
        let (security, config, volatility, parallel) = (
            column("prosecdef"),
            column("proconfig"),
            column("provolatile"),
            column("proparallel"),
        );
        let flags = [("strict", column("proisstrict")), ("leakproof", column("proleakproof"))];
        let (source, library, body) = (column("prosrc"), column("probin"), column("prosqlbody"));
        let made_with_a_type = self.made_with_a_type();
        let mut found = Vec::new();
        table.scan(self.state, |row: Row<'_>| {
            let routine = row.oid(oid);
            if made_with_a_type.contains(&routine) {
                return;
            }
            let Some(schema) = self.schema_of(oids::PG_PROC, routine, row.oid(schema)) else { return };
            let object_type = match row.char(kind) {
                b'p' => "procedure",
                b'a' => "aggregate",
                _ => "function",
            };
            let types = catalog::argument_types(&row.oids(arguments));
            let identity =
                format!("{}.{}({types})", quote_ident(&schema), quote_ident(&row.name(name)));
            let mut object = Object::new(object_type, Some(&schema), identity);
            object.set("owner", self.role(row.oid(owner)));
            self.grants(&mut object, AclKind::Routine, row.oid(owner), row.acl(acl).as_ref());
            object.set("arguments", self.deparser.call(pg_sys::pg_get_function_arguments, routine));
            object.set("result", self.deparser.call(pg_sys::pg_get_function_result, routine));
            object.set("language", quote_ident(&language_name(row.oid(language))));
            object.set_if("window", row.char(kind) == b'w');
            object.set(
                "volatility",
                match row.char(volatility) {
                    b'i' => "IMMUTABLE",
                    b's' => "STABLE",
                    _ => "VOLATILE",
                },
            );
            object.set(
                "parallel",
                match row.char(parallel) {
                    b's' => "SAFE",
                    b'r' => "RESTRICTED",
                    _ => "UNSAFE",
                },
            );
            object.set("security", if row.bool(security) { "DEFINER" } else { "INVOKER" });
            flags.iter().for_each(|(property, column)| object.set_if(property, row.bool(*column)));
            for item in row.texts(config) {
                let item = setting(&item);
                match item.split_once('=') {
                    Some(("search_path", path)) => object.set("search_path", path),
                    Some((name, value)) => object.set(format!("setting {name}"), value),
                    None => {}
                }
            }
            match (row.char(kind), row.oid(language)) {
                (b'a', _) => self.aggregate(routine, &mut object),
                (_, INTERNAL) => object.set("symbol", row.text(source).unwrap_or_default()),
                (_, C) => {
                    object.set("symbol", row.text(source).unwrap_or_default());
                    object.set("library", row.text(library).unwrap_or_default());
                }
                _ if !row.is_null(body) => {
                    object.set(
                        "body",
                        hash_of(
                            &self
                                .deparser
                                .call_and_release(pg_sys::pg_get_function_sqlbody, routine),
                        ),
                    );
                }
                _ => object.set("body", hash_of(&row.text(source).unwrap_or_default())),
            }
            found.push(object);
        });
        for object in found {
            self.add(object);
        }
    }

    /// The functions that the server makes with a range, to make its values: no dump has them.
    fn made_with_a_type(&self) -> HashSet<Oid> {
        let table = Table::open(oids::PG_DEPEND);
        let column = |name| table.column(name);
        let (class, object, to_class, kind) =
            (column("classid"), column("objid"), column("refclassid"), column("deptype"));
        let mut found = HashSet::new();
        table.scan(self.state, |row: Row<'_>| {
            if row.oid(class) == oids::PG_PROC
                && row.oid(to_class) == oids::PG_TYPE
                && row.char(kind) == b'i'
            {
                found.insert(row.oid(object));
            }
        });
        found
    }

    /// What an aggregate is made of.
    fn aggregate(&self, aggregate: Oid, object: &mut Object) {
        let table = Table::open(oids::PG_AGGREGATE);
        let column = |name| table.column(name);
        let (of, sort) = (column("aggfnoid"), column("aggsortop"));
        let states = [
            ("state type", column("aggtranstype")),
            ("moving state type", column("aggmtranstype")),
        ];
        let starts = [
            ("initial value", column("agginitval")),
            ("moving initial value", column("aggminitval")),
        ];
        let functions = [
            "aggtransfn",
            "aggfinalfn",
            "aggcombinefn",
            "aggserialfn",
            "aggdeserialfn",
            "aggmtransfn",
            "aggminvtransfn",
            "aggmfinalfn",
        ];
        let functions = functions.map(|name| (name, column(name)));
        let flags = ["aggfinalextra", "aggmfinalextra"].map(|name| (name, column(name)));
        // What the final functions do to the state: read it, share it, or change it.
        let letters =
            ["aggfinalmodify", "aggmfinalmodify", "aggkind"].map(|name| (name, column(name)));
        table.lookup(
            self.state,
            oids::PG_AGGREGATE_FNOID_INDEX,
            &[(of, aggregate)],
            |row: Row<'_>| {
                for (name, column) in functions {
                    if row.oid(column) != 0 {
                        object.set(
                            &name[3..],
                            self.deparser.named(pg_sys::regprocout, row.oid(column)),
                        );
                    }
                }
                for (property, column) in
                    states.into_iter().filter(|(_, column)| row.oid(*column) != 0)
                {
                    object.set(property, self.deparser.type_name(row.oid(column), -1));
                }
                starts
                    .into_iter()
                    .for_each(|(property, column)| object.set_some(property, row.text(column)));
                flags
                    .into_iter()
                    .for_each(|(name, column)| object.set_if(&name[3..], row.bool(column)));
                letters.into_iter().for_each(|(name, column)| {
                    object.set(&name[3..], char::from(row.char(column)).to_string())
                });
                if row.oid(sort) != 0 {
                    object.set(
                        "sort operator",
                        self.deparser.named(pg_sys::regoperatorout, row.oid(sort)),
                    );
                }
            },
        );
    }
}
