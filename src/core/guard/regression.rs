//! Regressions of a search_path: the guard acts about these only. An earlier violation may stay,
//! and fixing a part of it always passes.

use crate::contract::GuardAction;
use crate::search_path::{Assessment, Reason, ReasonCode};

/// Returns the strongest action about the search_path of a routine: [`GuardAction::Audit`] unless
/// it is worse `after` the command than `before` it; `before` is `None` if the routine did not
/// exist, or was SECURITY INVOKER.
///
/// Reasons are compared by kind and schema, not by verdict: the verdict depends on the roles that
/// can create objects today, which a REVOKE changes while the path stays.
#[must_use]
pub fn path_at_most(before: Option<&Assessment>, after: &Assessment) -> GuardAction {
    let past = before.map_or(&[][..], |before| &before.reasons);
    // Without a path, the caller could choose any.
    if past.iter().any(|reason| reason.code == ReasonCode::NoPath) {
        return GuardAction::Audit;
    }
    let is_known = |new: &Reason| past.iter().any(|known| is_covered(known, new));
    let new = after.reasons.iter().filter(|reason| !is_known(reason));
    new.map(at_most).max().unwrap_or(GuardAction::Audit)
}

/// Returns the strongest action because of a reason. Tables and views of other roles in a shared
/// schema are common, and only a warning.
pub(super) fn at_most(reason: &Reason) -> GuardAction {
    if reason.code == ReasonCode::ForeignObjects && !reason.planted_code {
        GuardAction::Warn
    } else {
        GuardAction::Block
    }
}

/// Whether an earlier reason is the same as a new one, of whatever role, or a greater one.
fn is_covered(known: &Reason, new: &Reason) -> bool {
    kind(known) == kind(new) && at_most(known) >= at_most(new)
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

    /// Whether the guard blocks the later path.
    fn is_regression(before: Option<&Assessment>, after: &Assessment) -> bool {
        path_at_most(before, after) == GuardAction::Block
    }

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
    fn tables_of_other_roles_are_a_warning_and_their_code_is_blocked() {
        let theirs = |planted_code: bool| {
            let mut assessment = assess(&[(ForeignObjects, Exploitable, "public")]);
            assessment.reasons[0].planted_code = planted_code;
            assessment
        };
        let (tables, code) = (theirs(false), theirs(true));
        assert!(!is_regression(None, &tables));
        assert_eq!(path_at_most(None, &tables), GuardAction::Warn);
        assert_eq!(path_at_most(Some(&assess(&[])), &tables), GuardAction::Warn);
        assert_eq!(path_at_most(Some(&tables), &tables), GuardAction::Audit);
        assert_eq!(path_at_most(Some(&code), &tables), GuardAction::Audit, "a part is fixed");
        assert_eq!(path_at_most(Some(&tables), &code), GuardAction::Block);
        let no_path = assess(&[(NoPath, Exploitable, "")]);
        assert_eq!(path_at_most(Some(&no_path), &tables), GuardAction::Audit);
    }
}
