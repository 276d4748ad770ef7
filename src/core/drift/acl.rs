//! Access control lists as properties: the privileges of each grantee, without the grantors.

use super::snapshot::Object;
use crate::catalog::{AclItem, Oid, PUBLIC, Privileges};
use crate::sql::quote_ident;
use std::collections::BTreeMap;

/// The kind of an object with an ACL. It determines the privileges of the owner and of PUBLIC
/// without a stored ACL (acl.c, `acldefault`), and the meaning of `ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum AclKind {
    Relation,
    Sequence,
    Column,
    Routine,
    Schema,
    Type,
    LargeObject,
}

impl AclKind {
    /// Returns the privileges that can be granted in a major version of the server.
    fn all(self, version: u32) -> Privileges {
        match self {
            Self::Relation => Privileges::all_on_table(version),
            Self::Sequence => Privileges::ALL_ON_SEQUENCE,
            Self::Column => {
                Privileges::SELECT
                    | Privileges::INSERT
                    | Privileges::UPDATE
                    | Privileges::REFERENCES
            }
            Self::Routine => Privileges::EXECUTE,
            Self::Schema => Privileges::USAGE | Privileges::CREATE,
            Self::Type => Privileges::USAGE,
            Self::LargeObject => Privileges::SELECT | Privileges::UPDATE,
        }
    }

    /// Returns the privileges of PUBLIC without a stored ACL.
    fn public(self) -> Privileges {
        match self {
            Self::Routine => Privileges::EXECUTE,
            Self::Type => Privileges::USAGE,
            _ => Privileges::NONE,
        }
    }

    /// Returns the privileges of the owner without a stored ACL. A column has no owner of its own.
    fn owner(self, version: u32) -> Privileges {
        if self == Self::Column { Privileges::NONE } else { self.all(version) }
    }
}

/// The privileges of one grantee.
#[derive(Default)]
struct Held {
    privileges: Privileges,
    /// Those held WITH GRANT OPTION.
    grantable: Privileges,
}

/// Sets one property of `object` for each grantee of its ACL. The property of the owner is set only
/// if it differs from the default. Grantors are omitted, because they change with the owner.
/// `version` is the major version of the server; `name` returns the name of a role.
pub fn grants(
    object: &mut Object,
    kind: AclKind,
    owner: Oid,
    acl: Option<&[AclItem]>,
    version: u32,
    name: &dyn Fn(Oid) -> String,
) {
    let mut by_grantee: BTreeMap<Oid, Held> = BTreeMap::new();
    let owner_default = kind.owner(version);
    if let Some(items) = acl {
        for item in items {
            let held = by_grantee.entry(item.grantee).or_default();
            held.privileges |= item.privileges;
            held.grantable |= item.grantable;
        }
    } else {
        let of_public = Held { privileges: kind.public(), ..Held::default() };
        let of_owner = Held { privileges: owner_default, ..Held::default() };
        by_grantee.insert(PUBLIC, of_public);
        by_grantee.insert(owner, of_owner);
    }
    // Default privileges and columns have no owner.
    if owner != PUBLIC {
        let held = by_grantee.remove(&owner).unwrap_or_default();
        if held.privileges != owner_default || !held.grantable.is_empty() {
            object.set("grants to its owner", held.describe(kind, version));
        }
    }
    for (grantee, held) in by_grantee {
        if held.privileges.is_empty() {
            continue;
        }
        let grantee = if grantee == PUBLIC {
            "PUBLIC".to_owned()
        } else {
            quote_ident(&name(grantee)).into_owned()
        };
        object.set(format!("grants to {grantee}"), held.describe(kind, version));
    }
}

impl Held {
    /// Returns `SELECT, INSERT WITH GRANT OPTION`, or `ALL` for all privileges of this release.
    fn describe(&self, kind: AclKind, version: u32) -> String {
        let all = kind.all(version);
        // A single privilege is named even if it is the only one of its kind of object.
        let is_all = |some: Privileges| some == all && all.0.count_ones() > 1;
        let list =
            |some: Privileges| if is_all(some) { "ALL".to_owned() } else { some.to_string() };
        let plain = Privileges(self.privileges.0 & !self.grantable.0);
        match (plain.is_empty(), self.grantable.is_empty()) {
            (true, true) => "nothing".to_owned(),
            (_, true) => list(self.privileges),
            (true, false) => format!("{} WITH GRANT OPTION", list(self.grantable)),
            (false, false) => format!("{plain}; {} WITH GRANT OPTION", self.grantable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(kind: AclKind, owner: Oid, acl: Option<&[AclItem]>, version: u32) -> Vec<String> {
        let mut object = Object::default();
        grants(&mut object, kind, owner, acl, version, &|oid| format!("r{oid}"));
        object.properties.iter().map(|(property, text)| format!("{property}: {text}")).collect()
    }

    fn item(grantee: Oid, privileges: Privileges, grantable: Privileges) -> AclItem {
        AclItem { grantee, grantor: 99, privileges, grantable }
    }

    #[test]
    fn missing_acl_equals_the_default() {
        assert_eq!(properties(AclKind::Relation, 1, None, 15), [""; 0]);
        assert_eq!(properties(AclKind::Routine, 1, None, 15), ["grants to PUBLIC: EXECUTE"]);
        let stored = [
            item(0, Privileges::EXECUTE, Privileges::NONE),
            item(1, Privileges::EXECUTE, Privileges::NONE),
        ];
        assert_eq!(
            properties(AclKind::Routine, 1, Some(&stored), 15),
            properties(AclKind::Routine, 1, None, 15)
        );
    }

    #[test]
    fn grants_of_several_grantors_are_one_property() {
        let (select, insert) = (Privileges::SELECT, Privileges::INSERT);
        let own = item(1, Privileges::ALL_ON_TABLE, Privileges::NONE);
        let acl = [
            own,
            item(2, select, Privileges::NONE),
            item(2, insert, insert),
            item(3, select, select),
        ];
        assert_eq!(
            properties(AclKind::Relation, 1, Some(&acl), 15),
            [
                "grants to r2: SELECT; INSERT WITH GRANT OPTION",
                "grants to r3: SELECT WITH GRANT OPTION"
            ]
        );
        assert_eq!(
            properties(AclKind::Relation, 1, Some(&[]), 15),
            ["grants to its owner: nothing"]
        );
        assert_eq!(
            properties(AclKind::Relation, 1, Some(&[item(1, select, Privileges::NONE)]), 15),
            ["grants to its owner: SELECT"]
        );
    }

    #[test]
    fn all_privileges_are_all_in_every_release() {
        for (version, all) in
            [(15, Privileges::ALL_ON_TABLE), (17, Privileges::ALL_ON_TABLE | Privileges::MAINTAIN)]
        {
            let acl = [item(1, all, Privileges::NONE), item(2, all, Privileges::NONE)];
            assert_eq!(
                properties(AclKind::Relation, 1, Some(&acl), version),
                ["grants to r2: ALL"]
            );
            assert_eq!(properties(AclKind::Relation, 1, None, version), [""; 0]);
        }
    }
}
