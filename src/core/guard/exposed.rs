//! Routines that have become unsafe without being changed: a schema of their path is open to other
//! roles, has been dropped, or has another owner.

use super::regression::at_most;
use crate::catalog::{Oid, Routine, Snapshot};
use crate::contract::GuardAction;
use crate::rules::Context;
use crate::rules::shared::definer_path;
use crate::search_path::{Assessment, Exploiter, Reason, ReasonCode};
use std::collections::{HashMap, HashSet};

/// A routine, and the new reasons for which its path is not safe.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Exposed<'a> {
    pub routine: &'a Routine,
    pub assessment: Assessment,
    /// The strongest action of the guard.
    pub at_most: GuardAction,
}

/// Returns the SECURITY DEFINER routines of `after` with a reason to be unsafe that they did not
/// have `before`.
///
/// For an unchanged routine, another role is another reason: the path is the same, and one more
/// role can exploit it. For an altered routine, only reasons about changed schemas count here. The
/// others, and routines that are new (in `changed` and not in `before`), are checked one by one.
#[must_use]
pub fn exposed<'a>(
    before: &Context<'_>,
    after: &Context<'a>,
    changed: &HashSet<Oid>,
) -> Vec<Exposed<'a>> {
    let past: HashMap<Oid, &Routine> =
        before.snapshot.routines.iter().map(|r| (r.oid, r)).collect();
    let schemas = changed_schemas(before.snapshot, after.snapshot);
    let mut found = Vec::new();
    for routine in after.snapshot.routines.iter().filter(|r| r.security_definer) {
        after.check_interrupts();
        let Some(assessment) = definer_path::assess(after, routine) else { continue };
        let earlier = past.get(&routine.oid).copied();
        if assessment.reasons.is_empty()
            || (earlier.is_none() && changed.contains(&routine.oid))
            || is_excused(before, after, routine)
            || definer_path::accepts_empty(after, &assessment)
        {
            continue;
        }
        let altered = earlier.is_some_and(|e| {
            e.config != routine.config || e.owner != routine.owner || !e.security_definer
        });
        // Reasons do not count as earlier ones while the routine was in a managed or a temporary
        // schema, where they were not checked.
        let earlier =
            earlier.filter(|r| r.security_definer && before.routine_managed_by(r).is_none());
        let was = earlier.map(|earlier| before.paths.config(&earlier.config, earlier.owner));
        let reasons = was.as_ref().map_or(&[][..], |was| &was.reasons);
        let is_known = |new: &Reason| {
            let covers = |r: &Reason| identity(r) == identity(new) && at_most(r) >= at_most(new);
            reasons.iter().any(covers)
        };
        let is_about_a_change =
            |r: &Reason| r.schema.as_deref().is_some_and(|schema| schemas.contains(schema));
        let is_new = |r: &&Reason| !is_known(r) && (!altered || is_about_a_change(r));
        let mut new: Vec<Reason> = assessment.reasons.iter().filter(is_new).cloned().collect();
        let Some(strongest) = new.iter().map(at_most).max() else { continue };
        new.retain(|reason| at_most(reason) == strongest);
        let verdict = new.iter().map(|r| r.verdict).max().unwrap_or(assessment.verdict);
        let assessment = Assessment { verdict, reasons: new, ..(*assessment).clone() };
        found.push(Exposed { routine, assessment, at_most: strongest });
    }
    found
}

/// Whether a routine belongs to a managed schema or extension. A schema that the transaction has
/// renamed does not count.
#[must_use]
pub fn is_excused(before: &Context<'_>, after: &Context<'_>, routine: &Routine) -> bool {
    let renamed =
        match (before.snapshot.schema(routine.schema), after.snapshot.schema(routine.schema)) {
            (Some(then), Some(now)) => then.name != now.name,
            _ => false,
        };
    !renamed && after.routine_managed_by(routine).is_some()
}

/// Returns the names of schemas that have been created, dropped or renamed, or have another owner,
/// ACL or owners of contained objects.
fn changed_schemas<'s>(before: &'s Snapshot, after: &'s Snapshot) -> HashSet<&'s str> {
    let facts = |snapshot: &'s Snapshot| -> HashMap<&'s str, _> {
        let contents = |oid: &Oid| snapshot.contents.get(oid);
        snapshot
            .schemas
            .iter()
            .map(|s| (s.name.as_str(), (s.oid, s.owner, &s.acl, contents(&s.oid))))
            .collect()
    };
    let (then, now) = (facts(before), facts(after));
    then.keys().chain(now.keys()).copied().filter(|name| then.get(name) != now.get(name)).collect()
}

/// Returns what distinguishes reasons here: code, schema and role.
fn identity(reason: &Reason) -> (ReasonCode, Option<&str>, Option<&Exploiter>) {
    (reason.code, reason.schema.as_deref(), reason.role.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{PUBLIC, Privileges};
    use crate::rules::testing::World;

    fn names(before: &World, after: &World, changed: &[Oid]) -> Vec<String> {
        let changed = changed.iter().copied().collect();
        before.compared_with(after, |old, new| {
            exposed(old, new, &changed)
                .iter()
                .map(|e| new.snapshot.routine_message(e.routine))
                .collect()
        })
    }

    #[test]
    fn grant_on_a_schema_exposes_routines_that_search_it() {
        let (before, mut after) = (World::conforming(), World::conforming());
        assert_eq!(names(&before, &after, &[]), [""; 0]);
        after.grant_schema("api", PUBLIC, Privileges::CREATE);
        assert_eq!(names(&before, &after, &[]), [""; 0], "no path names it");
        after.grant_schema("public", PUBLIC, Privileges::CREATE);
        let all = before.snapshot.routines.len();
        assert_eq!(names(&before, &after, &[]).len(), all);
        // A change of the routine itself does not excuse it.
        let one = after.snapshot.routines[0].oid;
        after.snapshot.routines[0].config = vec!["search_path=public".into()].into();
        assert_eq!(names(&before, &after, &[one]).len(), all);
        // Another role is another reason; the same role is not.
        let mut more = World::conforming();
        more.grant_schema("public", PUBLIC, Privileges::CREATE);
        assert_eq!(names(&after, &more, &[]), [""; 0]);
        more.add_role("mallory");
        let mallory = more.role("mallory").oid;
        more.grant_schema("public", mallory, Privileges::CREATE);
        assert_eq!(names(&after, &more, &[]).len(), all);
        assert_eq!(names(&more, &after, &[]), [""; 0], "one role less is a fix");
    }

    #[test]
    fn renamed_schema_exposes_routines_that_search_it() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.schema("public").name = "elsewhere".into();
        assert_eq!(names(&before, &after, &[]).len(), before.snapshot.routines.len());
    }
}
