//! GRANT and REVOKE on one object, as data.

use crate::catalog::{ObjectId, ObjectKind, Oid, Privileges};
use crate::sql::safe_ident;
use std::fmt;

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
    /// `SELECT, UPDATE`, or `SELECT (a), UPDATE (a)` of a column; ALL where, and only where,
    /// everything is meant.
    fn sql_privileges(&self, privileges: Privileges) -> String {
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
        let (words, on) = (self.on.sql_privileges(self.privileges), &self.on.sql);
        let grantees = self.grantees.iter().map(|g| g.sql.as_str()).collect::<Vec<_>>().join(", ");
        let cascade = if self.cascade { " CASCADE" } else { "" };
        match self.verb {
            Verb::Grant | Verb::Keep => write!(f, "GRANT {words} ON {on} TO {grantees};"),
            Verb::GrantWithOption => {
                write!(f, "GRANT {words} ON {on} TO {grantees} WITH GRANT OPTION;")
            }
            Verb::Revoke => write!(f, "REVOKE {words} ON {on} FROM {grantees}{cascade};"),
            Verb::RevokeGrantOption => {
                write!(f, "REVOKE GRANT OPTION FOR {words} ON {on} FROM {grantees}{cascade};")
            }
        }
    }
}
