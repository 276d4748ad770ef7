//! Routines that nobody touched and that are unsafe all the same now: somebody may create in a schema of theirs, or it is gone, or
//! belongs to somebody else.

use super::ratchet::counts;
use crate::catalog::{Oid, Routine};
use crate::rules::{Context, security_definer_search_path as search_path};
use crate::search_path::{Judgment, Reason};
use std::collections::{HashMap, HashSet};

/// A routine, and what is wrong with its path that was not so before.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Exposed<'a> {
    pub routine: &'a Routine,
    pub judgment: Judgment,
}

/// The SECURITY DEFINER routines of `after`, without the `touched`, that have a reason to be unsafe which they did not have `before`.
/// Other than for a routine that is altered, another role is another reason: the path is the same, and somebody more can make use of it.
#[must_use]
pub fn exposed<'a>(before: &Context<'_>, after: &Context<'a>, touched: &HashSet<Oid>) -> Vec<Exposed<'a>> {
    let past: HashMap<Oid, &Routine> = before.snapshot.routines.iter().map(|r| (r.oid, r)).collect();
    let mut found = Vec::new();
    for routine in after.snapshot.routines.iter().filter(|r| r.security_definer && !touched.contains(&r.oid)) {
        after.check_interrupts();
        let Some(judgment) = search_path::judgment(after, routine) else { continue };
        if judgment.reasons.is_empty()
            || after.routine_managed_by(routine).is_some()
            || search_path::accepts_empty(after, &judgment)
        {
            continue;
        }
        // What the platform excused then is no excuse now; nor is it that it was in a session's temporary schema, where no one looks.
        let earlier = past.get(&routine.oid).filter(|r| r.security_definer && before.routine_managed_by(r).is_none());
        let was = earlier.map(|earlier| before.judge.config(&earlier.config, earlier.owner));
        let reasons = was.as_ref().map_or(&[][..], |was| &was.reasons);
        let known: HashSet<_> = reasons.iter().map(by_whom).collect();
        let new: Vec<Reason> = judgment.reasons.iter().filter(|r| counts(r) && !known.contains(&by_whom(r))).cloned().collect();
        if let Some(verdict) = new.iter().map(|r| r.verdict).max() {
            found.push(Exposed { routine, judgment: Judgment { verdict, reasons: new, ..(*judgment).clone() } });
        }
    }
    found
}

fn by_whom(reason: &Reason) -> (crate::search_path::ReasonCode, Option<&str>, Option<&str>) {
    (reason.code, reason.schema.as_deref(), reason.role.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::{PUBLIC, Privileges};
    use crate::rules::cases::World;

    fn names(before: &World, after: &World, touched: &[Oid]) -> Vec<String> {
        let (old, new) = (before.snapshot.clone().complete(), after.snapshot.clone().complete());
        let (old_access, new_access) = (Access::new(&old), Access::new(&new));
        let old = Context::new(&before.contract, &old, &old_access, &|| {});
        let new = Context::new(&after.contract, &new, &new_access, &|| {});
        let touched = touched.iter().copied().collect();
        exposed(&old, &new, &touched).iter().map(|e| new.snapshot.routine_message(e.routine)).collect()
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
        let one = after.snapshot.routines[0].oid;
        assert_eq!(names(&before, &after, &[one]).len(), all - 1, "what was touched is judged by itself");
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
