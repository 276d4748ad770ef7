//! Access control lists (`src/include/utils/acl.h`).

use super::{Oid, PUBLIC, Shared};
use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};
use std::str::FromStr;

/// A set of privileges: the low half of `ai_privs`, with PostgreSQL's own bit numbers
/// (parsenodes.h, `ACL_INSERT` ...).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
pub struct Privileges(pub u32);

/// Each privilege and its SQL name, in the order of the documentation.
const NAMES: [(Privileges, &str); 15] = [
    (Privileges::SELECT, "SELECT"),
    (Privileges::INSERT, "INSERT"),
    (Privileges::UPDATE, "UPDATE"),
    (Privileges::DELETE, "DELETE"),
    (Privileges::TRUNCATE, "TRUNCATE"),
    (Privileges::REFERENCES, "REFERENCES"),
    (Privileges::TRIGGER, "TRIGGER"),
    (Privileges::MAINTAIN, "MAINTAIN"),
    (Privileges::EXECUTE, "EXECUTE"),
    (Privileges::USAGE, "USAGE"),
    (Privileges::CREATE, "CREATE"),
    (Privileges::TEMPORARY, "TEMPORARY"),
    (Privileges::CONNECT, "CONNECT"),
    (Privileges::SET, "SET"),
    (Privileges::ALTER_SYSTEM, "ALTER SYSTEM"),
];

#[allow(missing_docs, reason = "the constants are named like the privileges")]
impl Privileges {
    pub const NONE: Self = Self(0);
    pub const INSERT: Self = Self(1 << 0);
    pub const SELECT: Self = Self(1 << 1);
    pub const UPDATE: Self = Self(1 << 2);
    pub const DELETE: Self = Self(1 << 3);
    pub const TRUNCATE: Self = Self(1 << 4);
    pub const REFERENCES: Self = Self(1 << 5);
    pub const TRIGGER: Self = Self(1 << 6);
    pub const EXECUTE: Self = Self(1 << 7);
    pub const USAGE: Self = Self(1 << 8);
    pub const CREATE: Self = Self(1 << 9);
    pub const TEMPORARY: Self = Self(1 << 10);
    pub const CONNECT: Self = Self(1 << 11);
    pub const SET: Self = Self(1 << 12);
    pub const ALTER_SYSTEM: Self = Self(1 << 13);
    /// PostgreSQL 17 and later.
    pub const MAINTAIN: Self = Self(1 << 14);
    /// The privileges to change rows: the contract's "direct table writes".
    pub const WRITES: Self = Self(1 << 0 | 1 << 2 | 1 << 3 | 1 << 4);
    /// The privileges that `GRANT ALL` on a table gives in every release: see
    /// [`Self::all_on_table`].
    pub const ALL_ON_TABLE: Self = Self(0x7f);
    /// The privileges that exist on columns.
    pub const ON_COLUMN: Self = Self(1 << 0 | 1 << 1 | 1 << 2 | 1 << 5);
    /// Each privilege that exists on columns, in the order of the documentation.
    pub const EACH_ON_COLUMN: [Self; 4] =
        [Self::SELECT, Self::INSERT, Self::UPDATE, Self::REFERENCES];
    /// The privileges that `GRANT ALL` on a sequence gives.
    pub const ALL_ON_SEQUENCE: Self = Self(1 << 8 | 1 << 1 | 1 << 2);

    /// Returns the privileges that `GRANT ALL` on a table gives in a major version of the server:
    /// MAINTAIN is one of them since PostgreSQL 17.
    #[must_use]
    pub fn all_on_table(version: u32) -> Self {
        if version >= 17 { Self::ALL_ON_TABLE | Self::MAINTAIN } else { Self::ALL_ON_TABLE }
    }

    /// Returns these privileges, with MAINTAIN where they are all privileges on a table in other
    /// respects and the major version of the server has it. A contract that declares ALL permits
    /// MAINTAIN and does not require it, so that it holds in every version.
    #[must_use]
    pub fn with_maintain(self, version: u32) -> Self {
        if self.contains(Self::ALL_ON_TABLE) { self | Self::all_on_table(version) } else { self }
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the privileges one by one, in the order of the documentation.
    #[must_use]
    pub fn each(self) -> Vec<Self> {
        NAMES.iter().map(|(bit, _)| *bit).filter(|bit| self.intersects(*bit)).collect()
    }

    /// Returns the SQL names of the privileges, in the order of the documentation.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        NAMES.iter().filter(|(bit, _)| self.intersects(*bit)).map(|(_, name)| *name).collect()
    }
}

/// The text is not the name of a privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a privilege")]
pub struct UnknownPrivilege;

/// Reads the name of one privilege, in upper or lower case.
impl FromStr for Privileges {
    type Err = UnknownPrivilege;

    fn from_str(name: &str) -> Result<Self, UnknownPrivilege> {
        let known = NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map(|(bit, _)| *bit).ok_or(UnknownPrivilege)
    }
}

impl fmt::Debug for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join("|"))
    }
}

/// Writes the names as in GRANT: `SELECT, INSERT`.
impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().join(", "))
    }
}

impl BitOr for Privileges {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl BitOrAssign for Privileges {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

impl BitAnd for Privileges {
    type Output = Self;
    fn bitand(self, rhs: Self) -> Self {
        Self(self.0 & rhs.0)
    }
}

impl Not for Privileges {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// One entry of an ACL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct AclItem {
    /// A role, or [`PUBLIC`].
    pub grantee: Oid,
    pub grantor: Oid,
    pub privileges: Privileges,
    /// The privileges that are granted WITH GRANT OPTION.
    pub grantable: Privileges,
}

/// An ACL in stored order. Objects with the same one share it.
pub type Acl = Shared<Vec<AclItem>>;

/// The kinds of objects with different built-in default ACLs (acl.c, `acldefault`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum ObjectKind {
    Relation,
    Sequence,
    Column,
    Routine,
    Schema,
    Database,
}

impl ObjectKind {
    /// Returns the ACL of an object without a stored ACL (acl.c, `acldefault`).
    #[must_use]
    pub fn default_acl(self, owner: Oid) -> Acl {
        let (of_public, of_owner) = match self {
            Self::Relation => (Privileges::NONE, Privileges::ALL_ON_TABLE | Privileges::MAINTAIN),
            Self::Sequence => (Privileges::NONE, Privileges::ALL_ON_SEQUENCE),
            Self::Column => (Privileges::NONE, Privileges::NONE),
            Self::Routine => (Privileges::EXECUTE, Privileges::EXECUTE),
            Self::Schema => (Privileges::NONE, Privileges::USAGE | Privileges::CREATE),
            Self::Database => (
                Privileges::TEMPORARY | Privileges::CONNECT,
                Privileges::CREATE | Privileges::TEMPORARY | Privileges::CONNECT,
            ),
        };
        let item = |grantee, privileges| AclItem {
            grantee,
            grantor: owner,
            privileges,
            grantable: Privileges::NONE,
        };
        [item(PUBLIC, of_public), item(owner, of_owner)]
            .into_iter()
            .filter(|i| !i.privileges.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_documentation() {
        assert_eq!(
            (Privileges::WRITES | Privileges::SELECT).to_string(),
            "SELECT, INSERT, UPDATE, DELETE, TRUNCATE"
        );
        assert_eq!("select".parse(), Ok(Privileges::SELECT));
        assert_eq!("fly".parse::<Privileges>(), Err(UnknownPrivilege));
    }

    #[test]
    fn default_acl_of_a_routine_gives_public_execute() {
        let acl = ObjectKind::Routine.default_acl(10);
        assert_eq!(acl[0].grantee, PUBLIC);
        assert_eq!(acl[0].privileges, Privileges::EXECUTE);
        assert!(ObjectKind::Column.default_acl(10).is_empty());
    }
}
