//! Routines that nobody touched and that are unsafe all the same now: somebody may create in a
//! schema of theirs, or it is gone, or belongs to somebody else.

use super::regression::counts;
use crate::catalog::{Oid, Routine, Snapshot};
use crate::rules::Context;
use crate::rules::shared::definer_path;
use crate::search_path::{Assessment, Reason};
use std::collections::{HashMap, HashSet};

/// A routine, and what is wrong with its path that was not so before.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Exposed<'a> {
    pub routine: &'a Routine,
    pub assessment: Assessment,
}

/// The SECURITY DEFINER routines of `after` that have a reason to be unsafe which they did not have
/// `before`.
///
/// Other than for a routine that is altered, another role is another reason: the path is the same,
/// and somebody more can make use of it. An altered one is judged here only for the schemas that
/// have changed around it; the rest, and all that is new (`touched`, and not there before), is
/// judged for itself.
#[must_use]
pub fn exposed<'a>(
    before: &Context<'_>,
    after: &Context<'a>,
    touched: &HashSet<Oid>,
) -> Vec<Exposed<'a>> {
    let past: HashMap<Oid, &Routine> =
        before.snapshot.routines.iter().map(|r| (r.oid, r)).collect();
    let changed = changed_schemas(before.snapshot, after.snapshot);
    let mut found = Vec::new();
    for routine in after.snapshot.routines.iter().filter(|r| r.security_definer) {
        after.check_interrupts();
        let Some(assessment) = definer_path::assess(after, routine) else { continue };
        let earlier = past.get(&routine.oid).copied();
        if assessment.reasons.is_empty()
            || (earlier.is_none() && touched.contains(&routine.oid))
            || is_excused(before, after, routine)
            || definer_path::accepts_empty(after, &assessment)
        {
            continue;
        }
        let altered = earlier.is_some_and(|e| {
            e.config != routine.config || e.owner != routine.owner || !e.security_definer
        });
        // What the platform excused then is no excuse now; nor is it that it was in a session's
        // temporary schema, where no one looks.
        let earlier =
            earlier.filter(|r| r.security_definer && before.routine_managed_by(r).is_none());
        let was = earlier.map(|earlier| before.paths.config(&earlier.config, earlier.owner));
        let reasons = was.as_ref().map_or(&[][..], |was| &was.reasons);
        let known: HashSet<_> = reasons.iter().map(by_whom).collect();
        let is_about_a_change =
            |r: &Reason| r.schema.as_deref().is_some_and(|schema| changed.contains(schema));
        let is_new = |r: &&Reason| {
            counts(r) && !known.contains(&by_whom(r)) && (!altered || is_about_a_change(r))
        };
        let new: Vec<Reason> = assessment.reasons.iter().filter(is_new).cloned().collect();
        if let Some(verdict) = new.iter().map(|r| r.verdict).max() {
            found.push(Exposed {
                routine,
                assessment: Assessment { verdict, reasons: new, ..(*assessment).clone() },
            });
        }
    }
    found
}

/// Whether the platform excuses a routine: a managed schema or extension does, but for a schema
/// that has only just been given such a name.
#[must_use]
pub fn is_excused(before: &Context<'_>, after: &Context<'_>, routine: &Routine) -> bool {
    let renamed =
        match (before.snapshot.schema(routine.schema), after.snapshot.schema(routine.schema)) {
            (Some(then), Some(now)) => then.name != now.name,
            _ => false,
        };
    !renamed && after.routine_managed_by(routine).is_some()
}

/// The names of schemas that are not what they were: made, dropped, renamed, given away, opened or
/// closed, or with things of somebody else's in them.
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

fn by_whom(reason: &Reason) -> (crate::search_path::ReasonCode, Option<&str>, Option<&str>) {
    (reason.code, reason.schema.as_deref(), reason.role.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::{PUBLIC, Privileges};
    use crate::rules::testing::World;

    fn names(before: &World, after: &World, touched: &[Oid]) -> Vec<String> {
        let (old, new) = (before.snapshot.clone().complete(), after.snapshot.clone().complete());
        let (old_access, new_access) = (Access::new(&old), Access::new(&new));
        let old = Context::new(&before.contract, &old, &old_access, &|| {});
        let new = Context::new(&after.contract, &new, &new_access, &|| {});
        let touched = touched.iter().copied().collect();
        exposed(&old, &new, &touched)
            .iter()
            .map(|e| new.snapshot.routine_message(e.routine))
            .collect()
    }

    #[test]
    fn a_grant_exposes_what_searches_the_schema() {
        let (before, mut after) = (World::conforming(), World::conforming());
        assert_eq!(names(&before, &after, &[]), [""; 0]);
        after.grant_schema("api", PUBLIC, Privileges::CREATE);
        assert_eq!(names(&before, &after, &[]), [""; 0], "no path names it");
        after.grant_schema("public", PUBLIC, Privileges::CREATE);
        let all = before.snapshot.routines.len();
        assert_eq!(names(&before, &after, &[]).len(), all);
        // That it has been touched, or altered, is no excuse for what happens around it.
        let one = after.snapshot.routines[0].oid;
        after.snapshot.routines[0].config = vec!["search_path=public".into()];
        assert_eq!(names(&before, &after, &[one]).len(), all);
        // One more role that may is one more reason; the same role is none.
        let mut more = World::conforming();
        more.grant_schema("public", PUBLIC, Privileges::CREATE);
        assert_eq!(names(&after, &more, &[]), [""; 0]);
        more.add_role("mallory");
        let mallory = more.role("mallory").oid;
        more.grant_schema("public", mallory, Privileges::CREATE);
        assert_eq!(names(&after, &more, &[]).len(), all);
        assert_eq!(names(&more, &after, &[]), [""; 0], "and one less mends");
    }

    #[test]
    fn a_schema_that_is_gone_exposes_too() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.schema("public").name = "elsewhere".into();
        assert_eq!(names(&before, &after, &[]).len(), before.snapshot.routines.len());
    }
}
