//! Statements and their effect on the catalog.

use super::acl::AclStatement;
use crate::catalog::{
    Attribute, Membership, ObjectId, Oid, Privileges, RelationKind, Role, RoleSetting, Routine,
};
use std::fmt;

/// A statement with its effect. Its text is complete SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// GRANT or REVOKE on an object.
    Acl(AclStatement),
    /// Any other statement.
    Ddl(Ddl),
}

/// A statement other than GRANT and REVOKE on an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ddl {
    /// Its effect on the catalog.
    pub change: Change,
    /// Its text.
    pub sql: String,
    /// Its text in a form that can be run again without an error; `None` where `sql` can be.
    pub repeatable: Option<String>,
}

impl Statement {
    /// Returns a statement that can be run twice.
    #[must_use]
    pub fn new(change: Change, sql: impl Into<String>) -> Self {
        Self::Ddl(Ddl { change, sql: sql.into(), repeatable: None })
    }

    /// Returns a statement that has another form, `repeatable`, that can be run twice.
    #[must_use]
    pub fn with_repeatable(
        change: Change,
        sql: impl Into<String>,
        repeatable: impl Into<String>,
    ) -> Self {
        Self::Ddl(Ddl { change, sql: sql.into(), repeatable: Some(repeatable.into()) })
    }

    /// Returns its text in a form that can be run again without an error.
    #[must_use]
    pub fn repeatable(&self) -> String {
        match self {
            Self::Acl(statement) => statement.to_string(),
            Self::Ddl(ddl) => ddl.repeatable.clone().unwrap_or_else(|| ddl.sql.clone()),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acl(statement) => statement.fmt(f),
            Self::Ddl(ddl) => f.write_str(&ddl.sql),
        }
    }
}

/// The effect of a statement on the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Change {
    /// CREATE ROLE; the OID is ignored.
    AddRole(Role),
    /// ALTER ROLE, to set or remove an attribute.
    AlterRole {
        role: Oid,
        attribute: Attribute,
        on: bool,
    },
    /// ALTER ROLE or ALTER DATABASE ... RESET of a stored setting.
    ResetSetting(RoleSetting),
    /// REVOKE of a membership.
    RevokeMembership(Membership),
    AddSchema(String),
    /// CREATE VIEW, MATERIALIZED VIEW or SEQUENCE: schema, name.
    AddRelation(RelationKind, String, String),
    /// ALTER ... OWNER TO, of an object without code.
    ChangeOwner {
        object: ObjectId,
        owner: Oid,
        /// The object in SQL, between ALTER and OWNER TO: `TABLE public.t`.
        target: String,
    },
    /// ALTER DEFAULT PRIVILEGES ... REVOKE, by creator, schema (0: every schema) and
    /// `defaclobjtype`.
    RevokeDefault {
        role: Oid,
        schema: Oid,
        object_type: u8,
        grantee: Oid,
        privileges: Privileges,
    },
    /// REVOKE on an object of the server, by type and identity.
    RevokeOnServerObject {
        object: (&'static str, String),
        grantee: Oid,
        privileges: Privileges,
    },
    /// ALTER ROUTINE.
    AlterRoutine(Oid, Vec<RoutineChange>),
    /// DROP ROUTINE: schema, name, and argument types as in its identity.
    DropRoutine(String, String, String),
    EnableRowSecurity(Oid),
    ForceRowSecurity(Oid),
    DropPolicy(Oid),
    /// ALTER POLICY ... TO.
    PolicyRoles(Oid, Vec<Oid>),
    /// A repair of the guard's own objects, of which a snapshot contains only a part.
    Guard,
}

/// One action of ALTER ROUTINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutineChange {
    /// SECURITY DEFINER, or INVOKER.
    SecurityDefiner(bool),
    /// SET search_path to this stored value, replacing all current settings.
    SearchPath(String),
    /// RESET of a parameter.
    Reset(&'static str),
}

impl RoutineChange {
    /// Returns the routine as it is after `actions`.
    pub(crate) fn apply_all(actions: &[Self], routine: &Routine) -> Routine {
        let mut altered = routine.clone();
        actions.iter().for_each(|action| action.apply(&mut altered));
        altered
    }

    fn apply(&self, routine: &mut Routine) {
        let sets = |item: &String, name: &str| {
            item.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        match self {
            Self::SecurityDefiner(on) => routine.security_definer = *on,
            Self::SearchPath(value) => {
                routine.config.retain(|item| !sets(item, "search_path"));
                routine.config.push(format!("search_path={value}"));
            }
            Self::Reset(name) => routine.config.retain(|item| !sets(item, name)),
        }
    }
}

/// Returns a DO block that runs `sql` and ignores the condition that PL/pgSQL calls `condition`.
pub(crate) fn ignoring(sql: &str, condition: &str) -> String {
    let quote = dollar_quote(sql);
    format!("DO {quote}BEGIN\n  {sql}\nEXCEPTION WHEN {condition} THEN NULL;\nEND{quote};")
}

/// Returns a dollar quote that does not occur in `text`.
fn dollar_quote(text: &str) -> String {
    let quotes = std::iter::once("$fix$".to_owned()).chain((1..).map(|n| format!("$fix{n}$")));
    quotes.into_iter().find(|quote| !text.contains(quote.as_str())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::safe_ident;

    #[test]
    fn dollar_quote_avoids_names_that_contain_it() {
        let create = |name: &str| {
            ignoring(&format!("CREATE ROLE {} NOLOGIN;", safe_ident(name)), "duplicate_object")
        };
        assert_eq!(
            create("anon"),
            "DO $fix$BEGIN\n  CREATE ROLE anon NOLOGIN;\nEXCEPTION WHEN duplicate_object THEN \
             NULL;\nEND$fix$;"
        );
        assert!(create("$fix$; DROP").starts_with("DO $fix1$BEGIN"));
    }

    #[test]
    fn repeatable_form_is_used_where_there_is_one() {
        let drop = Statement::with_repeatable(
            Change::DropPolicy(1),
            "DROP POLICY p ON t;",
            "DROP POLICY IF EXISTS p ON t;",
        );
        assert_eq!(
            (drop.to_string(), drop.repeatable()),
            ("DROP POLICY p ON t;".into(), "DROP POLICY IF EXISTS p ON t;".into())
        );
        let enable = Statement::new(
            Change::EnableRowSecurity(1),
            "ALTER TABLE t ENABLE ROW LEVEL SECURITY;",
        );
        assert_eq!(enable.repeatable(), enable.to_string());
    }
}
