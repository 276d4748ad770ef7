//! Objects of the server: those that initdb creates, and those that belong to no schema.

use super::{Acl, AclItem, Oid, PUBLIC};

/// An object of the server, or a column of one, with privileges beyond those that it was created
/// with (`pg_init_privs`, or the built-in default), or with an owner that may be a role of
/// requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerObject {
    /// The object type, as `pg_identify_object` returns it.
    pub object_type: &'static str,
    /// The schema; `None` for an object that is in no schema.
    pub schema: Option<String>,
    /// The identity, as `pg_identify_object` returns it.
    pub identity: String,
    /// The object as GRANT names it: `TABLE pg_catalog.pg_authid`.
    pub sql: String,
    /// The column as SQL, for a column.
    pub column: Option<String>,
    /// The owner.
    pub owner: Oid,
    /// What has been granted since, to other roles than the owner.
    pub added: Acl,
}

impl ServerObject {
    /// Returns the entries of `acl` that `initial` does not contain, to other roles than the owner.
    #[must_use]
    pub fn added(owner: Oid, acl: &[AclItem], initial: &[AclItem]) -> Acl {
        let others = acl.iter().filter(|item| item.grantee != owner);
        let rest = others.map(|item| {
            // What PUBLIC has is no more where a role has it too.
            let known = initial.iter().filter(|k| [item.grantee, PUBLIC].contains(&k.grantee));
            let mut rest = *item;
            for known in known {
                rest.privileges = rest.privileges & !known.privileges;
                rest.grantable = rest.grantable & !known.grantable;
            }
            // A grant option is reported with its privilege.
            rest.privileges |= rest.grantable;
            rest
        });
        rest.filter(|item| !item.privileges.is_empty()).collect()
    }
}
