//! How much of the catalog has to be looked at to check what a transaction has changed: a pure
//! decision, made as more becomes known.

use std::collections::BTreeSet;

/// How much of the catalog has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// Nothing: both states agree in everything that rules look at.
    Skip,
    /// What was changed.
    Changed,
    /// That, and what has to do with some schemas.
    Schemas,
    /// All of it, for roles have changed.
    Everything,
}

/// A kind of thing that a transaction has changed, or may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A relation, policy, routine or its extension is another than before, or what it depends on
    /// may be.
    Objects,
    /// A type or an operator stands in another schema, or has another owner.
    Placed,
    /// Default privileges.
    DefaultAcls,
    /// Something of the guard's own.
    Own,
    /// Schemas; they may be as they were.
    Schemas,
    /// Roles, memberships or the database; they may be as they were.
    Roles,
    /// A catalog has been written directly: anything.
    Catalogs,
}

/// What a transaction has changed.
pub type Aspects = BTreeSet<Aspect>;

/// What is to be checked even where schemas and roles are as they were.
const OF_OBJECTS: [Aspect; 4] = [Aspect::Objects, Aspect::Placed, Aspect::DefaultAcls, Aspect::Own];

fn has_any(aspects: &Aspects, wanted: &[Aspect]) -> bool {
    wanted.iter().any(|aspect| aspects.contains(aspect))
}

/// Whether roles count. They change by statements without an event alone, which not every session
/// would see checked.
fn roles_count(aspects: &Aspects, is_hardened: bool) -> bool {
    aspects.contains(&Aspect::Roles) && is_hardened
}

/// Returns whether roles and schemas have to be read. Otherwise there is nothing to check.
pub fn needs_base(aspects: &Aspects, is_hardened: bool) -> bool {
    has_any(aspects, &OF_OBJECTS)
        || has_any(aspects, &[Aspect::Schemas, Aspect::Catalogs])
        || roles_count(aspects, is_hardened)
}

/// Whether both states of roles and schemas have to be read; otherwise they are the same.
pub fn needs_base_before(aspects: &Aspects) -> bool {
    has_any(aspects, &[Aspect::Schemas, Aspect::Roles, Aspect::Catalogs])
}

/// Returns the plan once roles and schemas are known: whether the schemas differ, and whether the
/// roles do, which is asked where it counts.
pub fn by_base(
    aspects: &Aspects,
    is_hardened: bool,
    schemas_differ: bool,
    roles_differ: impl FnOnce() -> bool,
) -> Plan {
    if aspects.contains(&Aspect::Catalogs) || roles_count(aspects, is_hardened) && roles_differ() {
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

/// Returns what becomes of [`Plan::Changed`] once that has been read: whether something has come to
/// stand in a schema where its owner could not have created it, whether default privileges differ,
/// and whether the guard was there before, for one that is being created has no past.
pub fn by_changed(
    aspects: &Aspects,
    is_planted: bool,
    default_acls_differ: bool,
    existed: bool,
) -> Plan {
    if is_planted {
        Plan::Schemas
    } else if has_any(aspects, &[Aspect::Objects, Aspect::Placed])
        || default_acls_differ
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
    fn changed_objects_are_looked_at() {
        for aspect in OF_OBJECTS {
            assert_eq!(plan(&[aspect], false, false, false), Plan::Changed, "{aspect:?}");
        }
    }

    #[test]
    fn schemas_as_they_were_are_skipped() {
        assert_eq!(plan(&[Aspect::Schemas], false, false, false), Plan::Skip);
        assert_eq!(plan(&[Aspect::Schemas], false, true, false), Plan::Schemas);
    }

    #[test]
    fn schemas_that_differ_count_beside_changed_objects() {
        assert_eq!(plan(&[Aspect::Objects, Aspect::Roles], false, true, false), Plan::Schemas);
        assert_eq!(
            plan(&[Aspect::Roles], true, true, false),
            Plan::Skip,
            "another session has changed them"
        );
    }

    #[test]
    fn roles_count_in_hardened_mode_alone() {
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
    fn planted_object_widens_the_plan_to_its_schema() {
        assert_eq!(by_changed(&[Aspect::Objects].into(), true, false, true), Plan::Schemas);
        assert_eq!(by_changed(&[Aspect::Objects].into(), false, false, true), Plan::Changed);
    }

    #[test]
    fn default_acls_as_they_were_are_skipped() {
        assert_eq!(by_changed(&[Aspect::DefaultAcls].into(), false, false, true), Plan::Skip);
        assert_eq!(by_changed(&[Aspect::DefaultAcls].into(), false, true, true), Plan::Changed);
    }

    #[test]
    fn guard_that_is_being_created_has_no_past() {
        assert_eq!(by_changed(&[Aspect::Own].into(), false, false, false), Plan::Skip);
        assert_eq!(by_changed(&[Aspect::Own].into(), false, false, true), Plan::Changed);
    }
}
