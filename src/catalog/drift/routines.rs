//! Reads functions, procedures and aggregates.

use super::Reader;
use super::deparser::TOO_DEEP;
use crate::catalog::deparse::{language_name, setting};
use crate::catalog::{self, oids};
use crate::pg::heap::{Row, Table};
use crate::pg::language::{C, INTERNAL};
use dragonfly_core::catalog::Oid;
use dragonfly_core::drift::{AclKind, Object, hash_of};
use dragonfly_core::sql::quote_ident;
use dragonfly_reader::Column;
use pgrx::pg_sys;
use std::collections::HashSet;

/// The columns of `pg_proc` that are read.
struct Columns {
    oid: Column,
    name: Column,
    schema: Column,
    owner: Column,
    kind: Column,
    language: Column,
    arguments: Column,
    acl: Column,
    security_definer: Column,
    config: Column,
    volatility: Column,
    parallel: Column,
    strict: Column,
    leakproof: Column,
    source: Column,
    library: Column,
    body: Column,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("proname"),
            schema: table.column("pronamespace"),
            owner: table.column("proowner"),
            kind: table.column("prokind"),
            language: table.column("prolang"),
            arguments: table.column("proargtypes"),
            acl: table.column("proacl"),
            security_definer: table.column("prosecdef"),
            config: table.column("proconfig"),
            volatility: table.column("provolatile"),
            parallel: table.column("proparallel"),
            strict: table.column("proisstrict"),
            leakproof: table.column("proleakproof"),
            source: table.column("prosrc"),
            library: table.column("probin"),
            body: table.column("prosqlbody"),
        }
    }
}

impl Reader<'_> {
    /// Adds the routines.
    pub fn routines(&mut self) {
        let table = Table::open(oids::PG_PROC);
        let columns = Columns::of(&table);
        let internal = self.functions_of_types();
        let (mut found, mut shared) = (Vec::new(), std::mem::take(&mut self.shared));
        table.scan(self.state, |row: Row<'_>| {
            if !internal.contains(&row.oid(columns.oid))
                && let Some(mut object) = self.routine(&columns, &row)
            {
                shared.share(&mut object.properties);
                found.push(object);
            }
        });
        self.shared = shared;
        for object in found {
            self.add(object);
        }
    }

    /// Reads a row of `pg_proc`; `None` where the routine is not part of the snapshot.
    fn routine(&self, columns: &Columns, row: &Row<'_>) -> Option<Object> {
        let (routine, kind) = (row.oid(columns.oid), row.char(columns.kind));
        let schema = self.schema_of(oids::PG_PROC, routine, row.oid(columns.schema))?;
        let object_type = match kind {
            b'p' => "procedure",
            b'a' => "aggregate",
            _ => "function",
        };
        let types = catalog::argument_types(&row.oids(columns.arguments));
        let name = row.name(columns.name);
        let identity = format!("{}.{}({types})", quote_ident(&schema), quote_ident(&name));
        let mut object = Object::new(object_type, Some(&schema), identity);
        let owner = row.oid(columns.owner);
        object.set("owner", self.role(owner));
        self.grants(&mut object, AclKind::Routine, owner, row.acl(columns.acl).as_ref());
        object.set("arguments", self.deparser.call(pg_sys::pg_get_function_arguments, routine));
        object.set("result", self.deparser.call(pg_sys::pg_get_function_result, routine));
        object.set("language", quote_ident(&language_name(row.oid(columns.language))));
        object.set_if("window", kind == b'w');
        declaration(columns, row, &mut object);
        self.body(columns, row, &mut object);
        Some(object)
    }

    /// Sets what a routine executes.
    fn body(&self, columns: &Columns, row: &Row<'_>, object: &mut Object) {
        let routine = row.oid(columns.oid);
        let source = || row.text(columns.source).unwrap_or_default();
        match (row.char(columns.kind), row.oid(columns.language)) {
            (b'a', _) => self.aggregate(routine, object),
            (_, INTERNAL) => object.set("symbol", source()),
            (_, C) => {
                object.set("symbol", source());
                object.set("library", row.text(columns.library).unwrap_or_default());
            }
            _ if row.is_null(columns.body) => object.set("body", hash_of(&source())),
            _ => {
                let body = self.deparser.call_and_release(pg_sys::pg_get_function_sqlbody, routine);
                let body = if body == TOO_DEEP { body } else { hash_of(&body) };
                object.set("body", body);
            }
        }
    }

    /// Returns the constructor functions of range types, which the server creates with the type and
    /// which no dump contains.
    fn functions_of_types(&self) -> HashSet<Oid> {
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

    /// Sets the properties of an aggregate.
    fn aggregate(&self, aggregate: Oid, object: &mut Object) {
        let table = Table::open(oids::PG_AGGREGATE);
        let column = |name| table.column(name);
        let keys = [(column("aggfnoid"), aggregate)];
        table.lookup(self.state, oids::PG_AGGREGATE_FNOID_INDEX, &keys, |row: Row<'_>| {
            for name in oids::AGGREGATE_FUNCTIONS {
                let function = row.oid(column(name));
                if function != 0 {
                    object.set(&name[3..], self.deparser.named(pg_sys::regprocout, function));
                }
            }
            for (property, name) in
                [("state type", "aggtranstype"), ("moving state type", "aggmtranstype")]
            {
                let type_oid = row.oid(column(name));
                if type_oid != 0 {
                    object.set(property, self.deparser.type_name(type_oid, -1));
                }
            }
            for (property, name) in
                [("initial value", "agginitval"), ("moving initial value", "aggminitval")]
            {
                object.set_some(property, row.text(column(name)));
            }
            for name in ["aggfinalextra", "aggmfinalextra"] {
                object.set_if(&name[3..], row.bool(column(name)));
            }
            // The first two say whether the final functions read, share or modify the state.
            for name in ["aggfinalmodify", "aggmfinalmodify", "aggkind"] {
                object.set(&name[3..], char::from(row.char(column(name))).to_string());
            }
            let operator = row.oid(column("aggsortop"));
            if operator != 0 {
                object.set("sort operator", self.deparser.named(pg_sys::regoperatorout, operator));
            }
        });
    }
}

/// Sets the properties of the declaration of a routine.
fn declaration(columns: &Columns, row: &Row<'_>, object: &mut Object) {
    object.set(
        "volatility",
        match row.char(columns.volatility) {
            b'i' => "IMMUTABLE",
            b's' => "STABLE",
            _ => "VOLATILE",
        },
    );
    object.set(
        "parallel",
        match row.char(columns.parallel) {
            b's' => "SAFE",
            b'r' => "RESTRICTED",
            _ => "UNSAFE",
        },
    );
    let is_definer = row.bool(columns.security_definer);
    object.set("security", if is_definer { "DEFINER" } else { "INVOKER" });
    object.set_if("strict", row.bool(columns.strict));
    object.set_if("leakproof", row.bool(columns.leakproof));
    for item in row.texts(columns.config) {
        let item = setting(&item);
        match item.split_once('=') {
            Some(("search_path", path)) => object.set("search_path", path),
            Some((name, value)) => object.set(format!("setting {name}"), value),
            None => {}
        }
    }
}
