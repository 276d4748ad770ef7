//! Access control lists as properties: who holds what, whoever granted it.

use super::Object;
use crate::catalog::{AclItem, Oid, PUBLIC, Privileges};
use crate::sql::quote_ident;
use std::collections::BTreeMap;

/// Whose ACL it is: what its owner and everybody hold where nothing is stored (acl.c,
/// `acldefault`), and what `ALL` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AclKind {
    Relation,
    Sequence,
    Column,
    Routine,
    Schema,
    Type,
}

impl AclKind {
    /// Everything there is to grant, in any release: MAINTAIN came with 17, and `ALL` means it from
    /// then on.
    fn all(self) -> Privileges {
        match self {
            Self::Relation => Privileges::ALL_ON_TABLE,
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
        }
    }

    /// What PUBLIC holds where no ACL is stored.
    fn public(self) -> Privileges {
        match self {
            Self::Routine => Privileges::EXECUTE,
            Self::Type => Privileges::USAGE,
            _ => Privileges::NONE,
        }
    }

    /// What the owner holds where no ACL is stored. Nobody owns a column by itself.
    fn own(self) -> Privileges {
        if self == Self::Column { Privileges::NONE } else { self.all() }
    }
}

/// Notes an ACL: one property for each grantee. The owner's own is noted only where it is not what
/// every owner has. Who granted it is left out, for it follows the owner; `version` is the
/// server's.
pub fn grants(
    object: &mut Object,
    kind: AclKind,
    owner: Oid,
    acl: Option<&[AclItem]>,
    version: u32,
    name: &dyn Fn(Oid) -> String,
) {
    let mut held: BTreeMap<Oid, (Privileges, Privileges)> = BTreeMap::new();
    match acl {
        Some(items) => {
            for item in items {
                let entry = held.entry(item.grantee).or_default();
                entry.0 |= item.privileges;
                entry.1 |= item.grantable;
            }
        }
        None => {
            held.insert(PUBLIC, (kind.public(), Privileges::NONE));
            held.insert(owner, (everything(kind.own(), kind, version), Privileges::NONE));
        }
    }
    // Nobody knows an owner of default privileges or of a column.
    if owner != PUBLIC {
        let (own, grantable) = held.remove(&owner).unwrap_or_default();
        if own != everything(kind.own(), kind, version) || !grantable.is_empty() {
            object.set("grants to its owner", words(own, grantable, kind, version));
        }
    }
    for (grantee, (privileges, grantable)) in held {
        if privileges.is_empty() {
            continue;
        }
        let grantee = if grantee == PUBLIC {
            "PUBLIC".to_owned()
        } else {
            quote_ident(&name(grantee)).into_owned()
        };
        object.set(format!("grants to {grantee}"), words(privileges, grantable, kind, version));
    }
}

/// With what this release adds to `ALL`.
fn everything(privileges: Privileges, kind: AclKind, version: u32) -> Privileges {
    match kind == AclKind::Relation && version >= 17 && privileges == Privileges::ALL_ON_TABLE {
        true => privileges | Privileges::MAINTAIN,
        false => privileges,
    }
}

/// `SELECT, INSERT WITH GRANT OPTION`; `ALL` where it is all there is in this release.
fn words(privileges: Privileges, grantable: Privileges, kind: AclKind, version: u32) -> String {
    let all = everything(kind.all(), kind, version);
    // One word says as much as ALL where there is but one privilege.
    let is_all = |some: Privileges| some == all && all.0.count_ones() > 1;
    let list = |some: Privileges| if is_all(some) { "ALL".to_owned() } else { some.to_string() };
    let plain = Privileges(privileges.0 & !grantable.0);
    match (plain.is_empty(), grantable.is_empty()) {
        (true, true) => "nothing".to_owned(),
        (_, true) => list(privileges),
        (true, false) => format!("{} WITH GRANT OPTION", list(grantable)),
        (false, false) => format!("{plain}; {grantable} WITH GRANT OPTION"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: AclKind, owner: Oid, acl: Option<&[AclItem]>, version: u32) -> Vec<String> {
        let mut object = Object::default();
        grants(&mut object, kind, owner, acl, version, &|oid| format!("r{oid}"));
        object
            .properties
            .into_iter()
            .map(|(property, text)| format!("{property}: {text}"))
            .collect()
    }

    fn item(grantee: Oid, privileges: Privileges, grantable: Privileges) -> AclItem {
        AclItem { grantee, grantor: 99, privileges, grantable }
    }

    #[test]
    fn none_is_what_the_server_takes_it_for() {
        assert_eq!(written(AclKind::Relation, 1, None, 15), [""; 0]);
        assert_eq!(written(AclKind::Routine, 1, None, 15), ["grants to PUBLIC: EXECUTE"]);
        let stored = [
            item(0, Privileges::EXECUTE, Privileges::NONE),
            item(1, Privileges::EXECUTE, Privileges::NONE),
        ];
        assert_eq!(
            written(AclKind::Routine, 1, Some(&stored), 15),
            written(AclKind::Routine, 1, None, 15)
        );
    }

    #[test]
    fn one_grantee_is_one_line_whoever_granted_it() {
        let (select, insert) = (Privileges::SELECT, Privileges::INSERT);
        let own = item(1, Privileges::ALL_ON_TABLE, Privileges::NONE);
        let acl = [
            own,
            item(2, select, Privileges::NONE),
            item(2, insert, insert),
            item(3, select, select),
        ];
        assert_eq!(
            written(AclKind::Relation, 1, Some(&acl), 15),
            [
                "grants to r2: SELECT; INSERT WITH GRANT OPTION",
                "grants to r3: SELECT WITH GRANT OPTION"
            ]
        );
        assert_eq!(written(AclKind::Relation, 1, Some(&[]), 15), ["grants to its owner: nothing"]);
        assert_eq!(
            written(AclKind::Relation, 1, Some(&[item(1, select, Privileges::NONE)]), 15),
            ["grants to its owner: SELECT"]
        );
    }

    #[test]
    fn all_is_all_in_every_release() {
        for (version, all) in
            [(15, Privileges::ALL_ON_TABLE), (17, Privileges::ALL_ON_TABLE | Privileges::MAINTAIN)]
        {
            let acl = [item(1, all, Privileges::NONE), item(2, all, Privileges::NONE)];
            assert_eq!(written(AclKind::Relation, 1, Some(&acl), version), ["grants to r2: ALL"]);
            assert_eq!(written(AclKind::Relation, 1, None, version), [""; 0]);
        }
    }
}
