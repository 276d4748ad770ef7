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
    /// Returns the statements that revoke one privilege each and have the same effect together;
    /// none where it revokes one only, or grants.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let revokes = matches!(self.verb, Verb::Revoke | Verb::RevokeGrantOption);
        let each = self.privileges.each();
        if !revokes || each.len() < 2 {
            return vec![];
        }
        let with = |statement: &Self, privileges| Self { privileges, ..statement.clone() };
        let part = |privilege: Privileges| {
            let then = self.then.iter().filter(|next| next.privileges.intersects(privilege));
            let then = then.map(|next| with(next, next.privileges & privilege)).collect();
            Self { then, ..with(self, privilege) }
        };
        each.into_iter().map(part).collect()
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::PUBLIC;

    #[test]
    fn parts_of_a_revoke_restore_the_columns_that_it_would_take() {
        let on = Securable {
            id: ObjectId::Relation(1),
            kind: ObjectKind::Relation,
            sql: "TABLE t".into(),
            columns: vec![],
            all: Privileges::ALL_ON_TABLE,
        };
        let revoke = AclStatement {
            verb: Verb::Revoke,
            privileges: Privileges::SELECT | Privileges::INSERT,
            on: on.clone(),
            grantees: vec![Grantee { oid: PUBLIC, sql: "PUBLIC".into() }],
            cascade: true,
            then: vec![],
        };
        let grant = AclStatement {
            verb: Verb::Grant,
            privileges: Privileges::SELECT,
            on: Securable { columns: vec!["a".into()], ..on },
            cascade: false,
            ..revoke.clone()
        };
        let revoke = AclStatement { then: vec![grant.clone()], ..revoke };
        let parts: Vec<String> = revoke.parts().iter().map(ToString::to_string).collect();
        assert_eq!(
            parts,
            [
                "REVOKE SELECT ON TABLE t FROM PUBLIC CASCADE;\nGRANT SELECT (a) ON TABLE t TO \
                 PUBLIC;",
                "REVOKE INSERT ON TABLE t FROM PUBLIC CASCADE;",
            ]
        );
        assert_eq!((grant.parts(), revoke.parts()[0].parts()), (vec![], vec![]));
    }
}
