//! Objects with an ACL, as rules about privileges check them.

use crate::catalog::{
    Acl, Object, ObjectId, ObjectKind, Oid, Privileges, Relation, RelationKind, Routine, Schema,
};
use crate::rules::context::Context;
use crate::sql::{listed, printable, quote_ident, safe_ident};

/// Returns columns as a sentence names them: `column "a"`, `columns "a" and "b"`.
pub(crate) fn named_columns(columns: &[&str]) -> String {
    let names: Vec<String> =
        columns.iter().map(|column| format!("\"{}\"", printable(column))).collect();
    let noun = if columns.len() == 1 { "column" } else { "columns" };
    format!("{noun} {}", listed(&names))
}

/// An object, or columns of it, with an ACL.
pub(crate) struct Target<'a> {
    pub owner: Oid,
    pub acl: Option<&'a Acl>,
    pub kind: ObjectKind,
    /// The type of object as GRANT names it: `TABLE`, `SCHEMA`.
    pub keyword: &'static str,
    /// The name as SQL: `public.t`.
    pub sql: String,
    /// The name in a sentence: `table public.t`.
    pub name: String,
    pub object: Object,
    /// The columns, for column ACLs. Empty: the object itself.
    pub columns: Vec<&'a str>,
    /// The major version of the server: ALL contains MAINTAIN since 17.
    pub version: u32,
}

impl<'a> Target<'a> {
    /// Returns a relation.
    pub fn of_relation(cx: &Context<'_>, relation: &'a Relation) -> Self {
        let is_sequence = relation.kind == RelationKind::Sequence;
        Self::new(
            cx,
            cx.relation_object(relation),
            relation.kind.acl_kind(),
            relation.owner,
            relation.acl.as_ref(),
            if is_sequence { "SEQUENCE" } else { "TABLE" },
            cx.snapshot.relation_sql(relation),
        )
    }

    /// Returns a column of a relation.
    pub fn of_column(
        cx: &Context<'_>,
        relation: &'a Relation,
        column: &'a str,
        acl: &'a Acl,
    ) -> Self {
        Self { acl: Some(acl), ..Self::of_columns(cx, relation, vec![column]) }
    }

    /// Returns some columns of a relation, without an ACL.
    pub fn of_columns(cx: &Context<'_>, relation: &'a Relation, columns: Vec<&'a str>) -> Self {
        let table = Self::of_relation(cx, relation);
        Self {
            acl: None,
            kind: ObjectKind::Column,
            name: format!("{} of {}", named_columns(&columns), table.name),
            columns,
            ..table
        }
    }

    /// Returns a routine.
    pub fn of_routine(cx: &Context<'_>, routine: &'a Routine) -> Self {
        // A sentence names the argument types without pg_catalog.
        let name = cx.snapshot.routine_message(routine);
        Self {
            owner: routine.owner,
            acl: routine.acl.as_ref(),
            kind: ObjectKind::Routine,
            keyword: "ROUTINE",
            sql: cx.snapshot.routine_sql(routine),
            name: format!("{} {name}", routine.object_type()),
            object: cx.routine_object(routine),
            columns: vec![],
            version: cx.snapshot.version,
        }
    }

    /// Returns a schema.
    pub fn of_schema(cx: &Context<'_>, schema: &'a Schema) -> Self {
        Self::new(
            cx,
            Object { id: ObjectId::Schema(schema.oid), ..Context::schema_object(&schema.name) },
            ObjectKind::Schema,
            schema.owner,
            schema.acl.as_ref(),
            "SCHEMA",
            safe_ident(&schema.name).into_owned(),
        )
    }

    /// Returns the database.
    pub fn of_database(cx: &Context<'a>) -> Self {
        let database = &cx.snapshot.database;
        let object = Object {
            object_type: "database",
            schema: None,
            identity: quote_ident(&database.name).into_owned(),
            managed_by: None,
            id: ObjectId::Named,
        };
        Self::new(
            cx,
            object,
            ObjectKind::Database,
            database.owner,
            database.acl.as_ref(),
            "DATABASE",
            safe_ident(&database.name).into_owned(),
        )
    }

    fn new(
        cx: &Context<'_>,
        object: Object,
        kind: ObjectKind,
        owner: Oid,
        acl: Option<&'a Acl>,
        keyword: &'static str,
        sql: String,
    ) -> Self {
        Self {
            owner,
            acl,
            kind,
            keyword,
            name: format!("{} {sql}", object.object_type),
            sql,
            object,
            columns: vec![],
            version: cx.snapshot.version,
        }
    }

    /// Returns the ACL, or the built-in default where there is none.
    pub fn acl_or_default(&self) -> Acl {
        self.acl.cloned().unwrap_or_else(|| {
            let mut acl = self.kind.default_acl(self.owner);
            // MAINTAIN exists since 17.
            acl.iter_mut()
                .filter(|_| self.version < 17)
                .for_each(|i| i.privileges = i.privileges & !Privileges::MAINTAIN);
            acl
        })
    }
}
