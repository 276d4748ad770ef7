//! Statements whose effect is known.

use crate::catalog::{Attribute, Membership, ObjectId, ObjectKind, Oid, Privileges, RelationKind, Role, Routine};
use crate::sql::safe_ident;
use std::fmt;

/// How a finding is mended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mend {
    /// By these statements, in this order.
    Statements(Vec<Statement>),
    /// By SQL that runs as it stands, and in no transaction block (ALTER SYSTEM).
    Alone(String),
    /// By something that a person decides: SQL with gaps in it, of one line or more.
    Proposal(String),
    /// Nothing is to be said about it.
    #[default]
    Unknown,
}

impl Mend {
    /// The one statement.
    #[must_use]
    pub fn by(statement: Statement) -> Self {
        Self::Statements(vec![statement])
    }

    /// By row level security; `table` is the relation's name as SQL writes it.
    #[must_use]
    pub fn row_security(relation: Oid, table: &str) -> Self {
        let sql = format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;");
        Self::by(Statement::new(Change::EnableRowSecurity(relation), sql))
    }

    /// The statements, or what to propose where there are none.
    #[must_use]
    pub fn or_proposal(statements: Option<Vec<Statement>>, proposal: impl FnOnce() -> String) -> Self {
        statements.filter(|s| !s.is_empty()).map_or_else(|| Self::Proposal(proposal()), Self::Statements)
    }

    /// The statements; none where a person decides.
    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        match self {
            Self::Statements(statements) => statements,
            Self::Alone(_) | Self::Proposal(_) | Self::Unknown => &[],
        }
    }

    /// SQL that runs as it stands; `None` where a person decides.
    #[must_use]
    pub fn sql(&self) -> Option<String> {
        if let Self::Alone(sql) = self {
            return Some(sql.clone());
        }
        let statements = self.statements();
        (!statements.is_empty()).then(|| statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

/// One statement and what it changes. Its text is SQL that runs as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// GRANT or REVOKE on an object.
    Acl(AclStatement),
    /// Anything else, by its text.
    Other(Change, String),
}

impl Statement {
    /// A statement that changes so much.
    #[must_use]
    pub fn new(change: Change, sql: impl Into<String>) -> Self {
        Self::Other(change, sql.into())
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acl(statement) => statement.fmt(f),
            Self::Other(_, sql) => f.write_str(sql),
        }
    }
}

/// What a statement does to the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Change {
    /// CREATE ROLE; the OID does not count.
    AddRole(Role),
    /// ALTER ROLE, to have an attribute or not.
    AlterRole {
        role: Oid,
        attribute: Attribute,
        on: bool,
    },
    /// REVOKE of a membership.
    EndMembership(Membership),
    AddSchema(String),
    /// CREATE VIEW, MATERIALIZED VIEW or SEQUENCE: schema, name.
    AddRelation(RelationKind, String, String),
    /// OWNER TO; of a SECURITY DEFINER routine or of anything else.
    Own {
        object: ObjectId,
        owner: Oid,
        definer: bool,
    },
    /// ALTER DEFAULT PRIVILEGES ... REVOKE, by creator, schema (0: every schema) and `defaclobjtype`.
    RevokeDefault {
        role: Oid,
        schema: Oid,
        object_type: u8,
        grantee: Oid,
        privileges: Privileges,
    },
    /// ALTER ROUTINE.
    AlterRoutine(Oid, Vec<RoutineChange>),
    /// DROP ROUTINE, by schema, name and argument types as its identity has them.
    DropRoutine(String, String, String),
    EnableRowSecurity(Oid),
    ForceRowSecurity(Oid),
    DropPolicy(Oid),
    /// ALTER POLICY ... TO.
    PolicyRoles(Oid, Vec<Oid>),
    /// Something of the guard's own; the same so that it does no harm to run it again.
    Guard(Option<String>),
}

/// One action of ALTER ROUTINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutineChange {
    /// SECURITY DEFINER, or INVOKER.
    SecurityDefiner(bool),
    /// SET search_path, to this stored value, whatever it is set to now and how often.
    SearchPath(String),
    /// RESET of a parameter.
    Reset(&'static str),
}

impl RoutineChange {
    /// The routine after some actions.
    pub(super) fn all(actions: &[Self], routine: &Routine) -> Routine {
        let mut altered = routine.clone();
        actions.iter().for_each(|action| action.apply(&mut altered));
        altered
    }

    fn apply(&self, routine: &mut Routine) {
        let sets = |item: &String, name: &str| item.split_once('=').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name));
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

/// What carries an ACL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Securable {
    /// [`ObjectId::Named`] is the database.
    pub id: ObjectId,
    /// Whose default ACL it has.
    pub kind: ObjectKind,
    /// After the word ON: `TABLE public.t`, `SCHEMA intake`.
    pub sql: String,
    /// Of a column ACL.
    pub column: Option<String>,
    /// What ALL means here; nothing where it is not to be said.
    pub all: Privileges,
}

impl Securable {
    /// `SELECT, UPDATE`, or `SELECT (a), UPDATE (a)` of a column; ALL where, and only where, everything is meant.
    fn words(&self, privileges: Privileges) -> String {
        if !self.all.is_empty() && privileges == self.all {
            return "ALL".to_owned();
        }
        let word = |word: &&str| match &self.column {
            Some(column) => format!("{word} ({})", safe_ident(column)),
            None => (*word).to_owned(),
        };
        privileges.words().iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

/// What is done with privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Verb {
    Grant,
    /// GRANT of what the role has by PUBLIC, which is about to lose it.
    Keep,
    GrantWithOption,
    Revoke,
    RevokeGrantOption,
}

/// Who gets or loses them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grantee {
    /// [`PUBLIC`](crate::catalog::PUBLIC) or a role.
    pub oid: Oid,
    /// As SQL writes it.
    pub sql: String,
}

/// GRANT or REVOKE, by the owner of the object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct AclStatement {
    pub verb: Verb,
    pub privileges: Privileges,
    pub on: Securable,
    pub grantees: Vec<Grantee>,
    pub cascade: bool,
}

impl fmt::Display for AclStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, on) = (self.on.words(self.privileges), &self.on.sql);
        let grantees = self.grantees.iter().map(|g| g.sql.as_str()).collect::<Vec<_>>().join(", ");
        let cascade = if self.cascade { " CASCADE" } else { "" };
        match self.verb {
            Verb::Grant | Verb::Keep => write!(f, "GRANT {words} ON {on} TO {grantees};"),
            Verb::GrantWithOption => write!(f, "GRANT {words} ON {on} TO {grantees} WITH GRANT OPTION;"),
            Verb::Revoke => write!(f, "REVOKE {words} ON {on} FROM {grantees}{cascade};"),
            Verb::RevokeGrantOption => write!(f, "REVOKE GRANT OPTION FOR {words} ON {on} FROM {grantees}{cascade};"),
        }
    }
}

/// A statement's text in a form that can be run again without harm, and without an error.
#[must_use]
pub fn repeatable(statement: &Statement) -> String {
    let Statement::Other(change, sql) = statement else { return statement.to_string() };
    let and_exists = |words: &str| sql.replacen(words, &format!("{words} IF EXISTS"), 1);
    let unless_exists = |words: &str| sql.replacen(words, &format!("{words} IF NOT EXISTS"), 1);
    match change {
        // There is no CREATE ROLE IF NOT EXISTS.
        Change::AddRole(_) => unless(sql, "duplicate_object"),
        Change::AddSchema(_) => unless_exists("CREATE SCHEMA"),
        Change::AddRelation(RelationKind::Sequence, ..) => unless_exists("CREATE SEQUENCE"),
        Change::AddRelation(RelationKind::MaterializedView, ..) => unless_exists("CREATE MATERIALIZED VIEW"),
        Change::AddRelation(..) => sql.replacen("CREATE VIEW", "CREATE OR REPLACE VIEW", 1),
        Change::DropPolicy(_) => and_exists("DROP POLICY"),
        Change::DropRoutine(..) => and_exists("DROP ROUTINE"),
        Change::Guard(Some(again)) => again.clone(),
        _ => sql.clone(),
    }
}

/// `sql`, and no error where it meets a condition that PL/pgSQL calls so.
pub(crate) fn unless(sql: &str, condition: &str) -> String {
    let quote = dollar_quote(sql);
    format!("DO {quote}BEGIN\n  {sql}\nEXCEPTION WHEN {condition} THEN NULL;\nEND{quote};")
}

/// A dollar quote that `text` does not end.
fn dollar_quote(text: &str) -> String {
    let quotes = std::iter::once("$mend$".to_owned()).chain((1..).map(|n| format!("$mend{n}$")));
    quotes.into_iter().find(|quote| !text.contains(quote.as_str())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_quote_it_stands_in() {
        let role = |name: &str| {
            let sql = format!("CREATE ROLE {} NOLOGIN;", safe_ident(name));
            repeatable(&Statement::new(Change::AddRole(Role::default()), sql))
        };
        assert_eq!(
            role("anon"),
            "DO $mend$BEGIN\n  CREATE ROLE anon NOLOGIN;\nEXCEPTION WHEN duplicate_object THEN NULL;\nEND$mend$;"
        );
        assert!(role("$mend$; DROP").starts_with("DO $mend1$BEGIN"));
    }

    #[test]
    fn names_in_a_statement_stay_as_they_are() {
        let drop = Statement::new(Change::DropPolicy(1), "DROP POLICY \"DROP POLICY\" ON public.t;");
        assert_eq!(repeatable(&drop), "DROP POLICY IF EXISTS \"DROP POLICY\" ON public.t;");
    }
}
