//! Regressions of a search_path: only these are blocked. An earlier violation may stay, and fixing
//! a part of it always passes.

use crate::search_path::{Assessment, Reason, ReasonCode};
use std::collections::HashSet;

/// Whether the search_path of a routine is worse `after` the command than `before` it; `before` is
/// `None` if the routine did not exist, or was SECURITY INVOKER.
///
/// Reasons are compared by kind and schema, not by verdict: the verdict depends on the roles that
/// can create objects today, which a REVOKE changes while the path stays.
#[must_use]
pub fn is_regression(before: Option<&Assessment>, after: &Assessment) -> bool {
    let Some(before) = before else { return after.reasons.iter().any(counts) };
    let past: HashSet<(ReasonCode, Option<&str>)> =
        before.reasons.iter().filter(|r| counts(r)).map(kind).collect();
    // Without a path, the caller could choose any.
    !past.contains(&(ReasonCode::NoPath, None))
        && after.reasons.iter().any(|r| counts(r) && !past.contains(&kind(r)))
}

/// Whether the guard blocks because of a reason. Tables and views of other roles in a shared schema
/// are common, and only reported by the audit.
pub(super) fn counts(reason: &Reason) -> bool {
    reason.code != ReasonCode::ForeignObjects || reason.planted_code
}

/// Returns what identifies a reason. pg_temp that is first by default is the same as pg_temp that
/// is listed first.
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
                ability: None,
            })
            .collect();
        let verdict = reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Safe);
        Assessment { verdict, reasons, value: None, path: None }
    }

    use ReasonCode::{ForeignObjects, MissingSchema, NoPath, TempNotLast, TempNotListed, Writable};
    use Verdict::{Exploitable, Fragile};

    #[test]
    fn new_routine_with_an_unsafe_path_is_a_regression() {
        assert!(is_regression(None, &assess(&[(MissingSchema, Fragile, "s")])));
        assert!(!is_regression(None, &assess(&[])));
        assert!(!is_regression(Some(&assess(&[(NoPath, Exploitable, "")])), &assess(&[])));
        assert!(is_regression(Some(&assess(&[])), &assess(&[(NoPath, Exploitable, "")])));
    }

    #[test]
    fn earlier_reason_is_no_regression() {
        let old = assess(&[(Writable, Exploitable, "s"), (TempNotListed, Exploitable, "")]);
        assert!(!is_regression(Some(&old), &old));
        assert!(
            !is_regression(Some(&old), &assess(&[(Writable, Exploitable, "s")])),
            "one of two fixed"
        );
        assert!(!is_regression(Some(&old), &assess(&[(TempNotLast, Exploitable, "")])));
        assert!(is_regression(Some(&old), &assess(&[(Writable, Exploitable, "other")])));
    }

    #[test]
    fn any_path_is_no_regression_from_no_path() {
        let old = assess(&[(NoPath, Exploitable, "")]);
        assert!(!is_regression(Some(&old), &assess(&[(Writable, Exploitable, "s")])));
        assert!(!is_regression(Some(&old), &assess(&[(MissingSchema, Fragile, "s")])));
        assert!(is_regression(Some(&assess(&[(MissingSchema, Fragile, "s")])), &old));
    }

    #[test]
    fn reason_of_another_kind_is_a_regression_whatever_the_verdict() {
        let opened = assess(&[(Writable, Exploitable, "s")]);
        assert!(is_regression(Some(&opened), &assess(&[(MissingSchema, Fragile, "nope")])));
        assert!(is_regression(Some(&opened), &assess(&[(TempNotListed, Fragile, "")])));
        // A grant on the schema does not make the path worse.
        assert!(!is_regression(
            Some(&assess(&[(MissingSchema, Fragile, "s")])),
            &assess(&[(MissingSchema, Exploitable, "s")])
        ));
    }

    #[test]
    fn tables_of_other_roles_are_no_regression() {
        assert!(!is_regression(None, &assess(&[(ForeignObjects, Exploitable, "public")])));
    }
}
