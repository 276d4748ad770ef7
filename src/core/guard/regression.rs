//! The ratchet: only what a command made worse is refused. What was wrong before may stay wrong,
//! and mending a part of it always passes.

use crate::search_path::{Assessment, Reason, ReasonCode};
use std::collections::HashSet;

/// Whether the path of a routine is worse `after` the command than `before` it; `None` where the
/// routine did not exist, or was SECURITY INVOKER.
///
/// What the past excuses is told by kind and schema of the reasons alone, not by the verdict: who
/// can create where today was said by GRANT, which can be taken back tomorrow, while the path
/// stays.
#[must_use]
pub fn is_regression(before: Option<&Assessment>, after: &Assessment) -> bool {
    let Some(before) = before else { return after.reasons.iter().any(counts) };
    let past: HashSet<(ReasonCode, Option<&str>)> =
        before.reasons.iter().filter(|r| counts(r)).map(kind).collect();
    // Without a path, the caller chose the whole of it.
    !past.contains(&(ReasonCode::NoPath, None))
        && after.reasons.iter().any(|r| counts(r) && !past.contains(&kind(r)))
}

/// Tables and views of somebody else in a shared schema are the audit's matter; everything else is
/// the guard's too.
pub(super) fn counts(reason: &Reason) -> bool {
    reason.code != ReasonCode::ForeignObjects || reason.planted_code
}

/// What a reason is about; pg_temp first by default is pg_temp first by name.
fn kind(reason: &Reason) -> (ReasonCode, Option<&str>) {
    let code = if reason.code == ReasonCode::TempNotLast {
        ReasonCode::TempNotListed
    } else {
        reason.code
    };
    (code, reason.schema.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search_path::Verdict;

    fn assess(reasons: &[(ReasonCode, Verdict, &str)]) -> Assessment {
        let reasons: Vec<Reason> = reasons
            .iter()
            .map(|(code, verdict, schema)| Reason {
                code: *code,
                verdict: *verdict,
                schema: (!schema.is_empty()).then(|| (*schema).to_owned()),
                role: None,
                planted_code: false,
            })
            .collect();
        let verdict = reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Safe);
        Assessment { verdict, reasons, value: None, path: None }
    }

    use ReasonCode::{ForeignObjects, MissingSchema, NoPath, TempNotLast, TempNotListed, Writable};
    use Verdict::{Exploitable, Fragile};

    #[test]
    fn new_and_unsafe_is_worse_and_safe_never_is() {
        assert!(is_regression(None, &assess(&[(MissingSchema, Fragile, "s")])));
        assert!(!is_regression(None, &assess(&[])));
        assert!(!is_regression(Some(&assess(&[(NoPath, Exploitable, "")])), &assess(&[])));
        assert!(is_regression(Some(&assess(&[])), &assess(&[(NoPath, Exploitable, "")])));
    }

    #[test]
    fn what_was_wrong_may_stay_wrong() {
        let old = assess(&[(Writable, Exploitable, "s"), (TempNotListed, Exploitable, "")]);
        assert!(!is_regression(Some(&old), &old));
        assert!(
            !is_regression(Some(&old), &assess(&[(Writable, Exploitable, "s")])),
            "one of two mended"
        );
        assert!(!is_regression(Some(&old), &assess(&[(TempNotLast, Exploitable, "")])));
        assert!(is_regression(Some(&old), &assess(&[(Writable, Exploitable, "other")])));
    }

    #[test]
    fn no_path_let_the_caller_choose_any() {
        let old = assess(&[(NoPath, Exploitable, "")]);
        assert!(!is_regression(Some(&old), &assess(&[(Writable, Exploitable, "s")])));
        assert!(!is_regression(Some(&old), &assess(&[(MissingSchema, Fragile, "s")])));
        assert!(is_regression(Some(&assess(&[(MissingSchema, Fragile, "s")])), &old));
    }

    #[test]
    fn a_verdict_that_a_grant_made_worse_for_a_moment_excuses_nothing() {
        let opened = assess(&[(Writable, Exploitable, "s")]);
        assert!(is_regression(Some(&opened), &assess(&[(MissingSchema, Fragile, "nope")])));
        assert!(is_regression(Some(&opened), &assess(&[(TempNotListed, Fragile, "")])));
        // Nor does a path get worse by what others have done to the schema.
        assert!(!is_regression(
            Some(&assess(&[(MissingSchema, Fragile, "s")])),
            &assess(&[(MissingSchema, Exploitable, "s")])
        ));
    }

    #[test]
    fn an_applications_own_tables_are_left_to_the_audit() {
        assert!(!is_regression(None, &assess(&[(ForeignObjects, Exploitable, "public")])));
    }
}
