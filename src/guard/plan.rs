//! Decides how much of the catalog has to be read to check the changes of a transaction. The
//! decision is refined as more of the catalog is known, and reads nothing itself.

use std::collections::BTreeSet;

/// How much of the catalog has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// Nothing: both states agree in everything that the rules check.
    Skip,
    /// The changed objects.
    Changed,
    /// The changed objects and everything that depends on some schemas.
    Schemas,
    /// Everything, because roles have changed.
    Everything,
}

/// A kind of change that a transaction has made, or may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A relation, a policy, a routine, or the membership of one in an extension has changed, or
    /// its dependencies may have.
    Objects,
    /// A type or an operator has another schema or owner.
    Placed,
    /// Default privileges.
    DefaultAcls,
    /// Privileges on objects of the server, or their owners; possibly unchanged.
    ServerObjects,
    /// An object of the guard.
    Own,
    /// Schemas; possibly unchanged.
    Schemas,
    /// Roles, memberships or the database; possibly unchanged.
    Roles,
    /// A catalog has been written directly, so that anything may have changed.
    Catalogs,
}

/// The kinds of changes of a transaction.
pub type Aspects = BTreeSet<Aspect>;

/// The kinds that are checked even where schemas and roles are unchanged.
const OF_OBJECTS: [Aspect; 5] =
    [Aspect::Objects, Aspect::Placed, Aspect::DefaultAcls, Aspect::ServerObjects, Aspect::Own];

fn has_any(aspects: &Aspects, wanted: &[Aspect]) -> bool {
    wanted.iter().any(|aspect| aspects.contains(aspect))
}

/// Whether changes of roles are checked. Statements that change roles fire no event trigger, so
/// that only hardened sessions check them.
fn are_roles_checked(aspects: &Aspects, is_hardened: bool) -> bool {
    aspects.contains(&Aspect::Roles) && is_hardened
}

/// Whether roles and schemas have to be read. Otherwise there is nothing to check.
pub fn needs_base(aspects: &Aspects, is_hardened: bool) -> bool {
    has_any(aspects, &OF_OBJECTS)
        || has_any(aspects, &[Aspect::Schemas, Aspect::Catalogs])
        || are_roles_checked(aspects, is_hardened)
}

/// Whether both states of roles and schemas have to be read; otherwise they are the same.
pub fn needs_base_before(aspects: &Aspects) -> bool {
    has_any(aspects, &[Aspect::Schemas, Aspect::Roles, Aspect::Catalogs])
}

/// Whether the roles before the changes matter, besides the schemas.
pub fn needs_roles_before(aspects: &Aspects) -> bool {
    has_any(aspects, &[Aspect::Roles, Aspect::Catalogs])
}

/// Returns the plan once roles and schemas are known. `roles_differ` is called only where the
/// answer matters.
pub fn by_base(
    aspects: &Aspects,
    is_hardened: bool,
    schemas_differ: bool,
    roles_differ: impl FnOnce() -> bool,
) -> Plan {
    if aspects.contains(&Aspect::Catalogs)
        || are_roles_checked(aspects, is_hardened) && roles_differ()
    {
        Plan::Everything
    } else if schemas_differ
        && (has_any(aspects, &OF_OBJECTS) || aspects.contains(&Aspect::Schemas))
    {
        Plan::Schemas
    } else if has_any(aspects, &OF_OBJECTS) {
        Plan::Changed
    } else {
        Plan::Skip
    }
}

/// Returns the plan that follows [`Plan::Changed`] once the changed objects have been read.
///
/// `has_misplaced`: an object has been moved into a schema where its owner has no privilege to
/// create it. `acls_differ`: default privileges, or privileges on objects of the server, do.
/// `existed`: the extension existed before, and is not just being created.
pub fn by_changed(
    aspects: &Aspects,
    has_misplaced: bool,
    acls_differ: bool,
    existed: bool,
) -> Plan {
    if has_misplaced {
        Plan::Schemas
    } else if has_any(aspects, &[Aspect::Objects, Aspect::Placed])
        || acls_differ
        || existed && aspects.contains(&Aspect::Own)
    {
        Plan::Changed
    } else {
        Plan::Skip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        aspects: &[Aspect],
        is_hardened: bool,
        schemas_differ: bool,
        roles_differ: bool,
    ) -> Plan {
        let aspects = aspects.iter().copied().collect();
        if !needs_base(&aspects, is_hardened) {
            return Plan::Skip;
        }
        by_base(&aspects, is_hardened, schemas_differ, || roles_differ)
    }

    #[test]
    fn nothing_changed_is_skipped() {
        assert_eq!(plan(&[], true, true, true), Plan::Skip);
    }

    #[test]
    fn changed_objects_are_read() {
        for aspect in OF_OBJECTS {
            assert_eq!(plan(&[aspect], false, false, false), Plan::Changed, "{aspect:?}");
        }
    }

    #[test]
    fn unchanged_schemas_are_skipped() {
        assert_eq!(plan(&[Aspect::Schemas], false, false, false), Plan::Skip);
        assert_eq!(plan(&[Aspect::Schemas], false, true, false), Plan::Schemas);
    }

    #[test]
    fn changed_schemas_widen_the_plan_of_changed_objects() {
        assert_eq!(plan(&[Aspect::Objects, Aspect::Roles], false, true, false), Plan::Schemas);
        assert_eq!(
            plan(&[Aspect::Roles], true, true, false),
            Plan::Skip,
            "another session has changed them"
        );
    }

    #[test]
    fn roles_are_checked_in_hardened_mode_only() {
        assert_eq!(plan(&[Aspect::Roles], false, false, true), Plan::Skip);
        assert_eq!(plan(&[Aspect::Roles], true, false, true), Plan::Everything);
        assert_eq!(plan(&[Aspect::Roles], true, false, false), Plan::Skip);
        assert_eq!(plan(&[Aspect::Roles, Aspect::Objects], true, false, false), Plan::Changed);
    }

    #[test]
    fn directly_written_catalog_needs_everything() {
        assert_eq!(plan(&[Aspect::Catalogs], false, false, false), Plan::Everything);
        assert_eq!(
            plan(&[Aspect::Catalogs, Aspect::Schemas], false, true, false),
            Plan::Everything
        );
    }

    #[test]
    fn both_bases_are_read_where_they_may_differ() {
        for aspect in [Aspect::Schemas, Aspect::Roles, Aspect::Catalogs] {
            assert!(needs_base_before(&[aspect].into()), "{aspect:?}");
        }
        assert!(!needs_base_before(&OF_OBJECTS.into()));
    }

    #[test]
    fn misplaced_object_widens_the_plan_to_its_schema() {
        assert_eq!(by_changed(&[Aspect::Objects].into(), true, false, true), Plan::Schemas);
        assert_eq!(by_changed(&[Aspect::Objects].into(), false, false, true), Plan::Changed);
    }

    #[test]
    fn unchanged_default_acls_are_skipped() {
        assert_eq!(by_changed(&[Aspect::DefaultAcls].into(), false, false, true), Plan::Skip);
        assert_eq!(by_changed(&[Aspect::DefaultAcls].into(), false, true, true), Plan::Changed);
    }

    #[test]
    fn guard_that_is_being_created_is_skipped() {
        assert_eq!(by_changed(&[Aspect::Own].into(), false, false, false), Plan::Skip);
        assert_eq!(by_changed(&[Aspect::Own].into(), false, false, true), Plan::Changed);
    }
}
