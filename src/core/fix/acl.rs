//! GRANT and REVOKE on one object, as data.

use crate::catalog::{ObjectId, ObjectKind, Oid, Privileges};
use crate::sql::safe_ident;
use std::fmt;

/// An object with an ACL, or a column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Securable {
    /// The object; [`ObjectId::Named`] is the database.
    pub id: ObjectId,
    /// The kind of object for the default ACL.
    pub kind: ObjectKind,
    /// The object in SQL, after ON: `TABLE public.t`, `SCHEMA intake`.
    pub sql: String,
    /// The columns, for column ACLs. Empty: the object itself.
    pub columns: Vec<String>,
    /// The privileges for which the statement says ALL; empty if it never does.
    pub all: Privileges,
}

impl Securable {
    /// Returns the privileges in SQL: `SELECT, UPDATE`, for columns `SELECT (a, b), UPDATE (a, b)`,
    /// and ALL for exactly [`Self::all`].
    fn sql_privileges(&self, privileges: Privileges) -> String {
        if !self.all.is_empty() && privileges == self.all {
            return "ALL".to_owned();
        }
        let columns: Vec<_> = self.columns.iter().map(|column| safe_ident(column)).collect();
        let word = |word: &&str| match columns.as_slice() {
            [] => (*word).to_owned(),
            columns => format!("{word} ({})", columns.join(", ")),
        };
        privileges.words().iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

/// What a statement does with privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Verb {
    Grant,
    /// GRANT of privileges that the role has through PUBLIC, before they are revoked from PUBLIC.
    Keep,
    GrantWithOption,
    Revoke,
    RevokeGrantOption,
}

/// A grantee.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grantee {
    /// [`PUBLIC`](crate::catalog::PUBLIC) or a role.
    pub oid: Oid,
    /// The name in SQL.
    pub sql: String,
}

/// GRANT or REVOKE, by the owner of the object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct AclStatement {
    pub verb: Verb,
    pub privileges: Privileges,
    pub on: Securable,
    pub grantees: Vec<Grantee>,
    pub cascade: bool,
    /// The grants on columns that belong to the same step. REVOKE on a table also revokes the
    /// privileges on its columns (aclchk.c, `expand_all_col_privileges`): these restore the ones
    /// that the contract declares.
    pub then: Vec<Self>,
}

impl AclStatement {
    /// Whether another statement does the same for other grantees only.
    pub(super) fn is_same_for_others(&self, other: &Self) -> bool {
        self.on == other.on
            && (self.verb, self.privileges, self.cascade)
                == (other.verb, other.privileges, other.cascade)
            && self.then == other.then
            && !other.grantees.iter().any(|grantee| self.grantees.contains(grantee))
    }
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
        }?;
        self.then.iter().try_for_each(|next| write!(f, "\n{next}"))
    }
}
