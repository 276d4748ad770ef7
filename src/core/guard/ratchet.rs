//! The ratchet: only what a command made worse is refused. What was wrong before may stay wrong, and mending a part of it always
//! passes.

use crate::search_path::{Judgment, Reason, ReasonCode, Verdict};

/// Whether the path of a routine is worse `after` the command than `before` it; `None` where the routine did not exist, or was
/// SECURITY INVOKER.
#[must_use]
pub fn is_worse(before: Option<&Judgment>, after: &Judgment) -> bool {
    let after_reasons: Vec<&Reason> = after.reasons.iter().filter(|r| counts(r)).collect();
    let after_verdict = verdict(&after_reasons);
    if after_verdict == Verdict::Safe {
        return false;
    }
    let Some(before) = before else { return true };
    let before_reasons: Vec<&Reason> = before.reasons.iter().filter(|r| counts(r)).collect();
    match after_verdict.cmp(&verdict(&before_reasons)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => after_reasons.iter().any(|reason| !before_reasons.iter().any(|b| covers(b, reason))),
    }
}

/// Tables and views of somebody else in a shared schema are the audit's matter; everything else is the guard's too.
fn counts(reason: &Reason) -> bool {
    reason.code != ReasonCode::ForeignObjects || reason.planted_code
}

fn verdict(reasons: &[&Reason]) -> Verdict {
    reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Safe)
}

/// Whoever could make use of `after` could do the same by `before`. Without a path, the caller chose the whole of it; and pg_temp first by
/// default is pg_temp first by name.
fn covers(before: &Reason, after: &Reason) -> bool {
    let temp = |code| matches!(code, ReasonCode::TempNotListed | ReasonCode::TempNotLast);
    let by_fewer = after.role.is_none() || before.role == after.role || before.role.as_deref() == Some("PUBLIC");
    before.code == ReasonCode::NoPath
        || (temp(before.code) && temp(after.code) && by_fewer)
        || (before.code == after.code && before.schema == after.schema && by_fewer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgment(reasons: &[(ReasonCode, Verdict, &str)]) -> Judgment {
        let reasons: Vec<Reason> = reasons
            .iter()
            .map(|(code, verdict, schema)| Reason {
                code: *code,
                verdict: *verdict,
                schema: Some((*schema).to_owned()),
                role: None,
                planted_code: false,
            })
            .collect();
        let verdict = reasons.iter().map(|r| r.verdict).max().unwrap_or(Verdict::Safe);
        Judgment { verdict, reasons, value: None, path: None }
    }

    use ReasonCode::{ForeignObjects, MissingSchema, NoPath, TempNotLast, TempNotListed, Writable};
    use Verdict::{Exploitable, Fragile};

    #[test]
    fn new_and_unsafe_is_worse_and_safe_never_is() {
        assert!(is_worse(None, &judgment(&[(MissingSchema, Fragile, "s")])));
        assert!(!is_worse(None, &judgment(&[])));
        assert!(!is_worse(Some(&judgment(&[(NoPath, Exploitable, "")])), &judgment(&[])));
        assert!(is_worse(Some(&judgment(&[])), &judgment(&[(NoPath, Exploitable, "")])));
    }

    #[test]
    fn what_was_wrong_may_stay_wrong() {
        let old = judgment(&[(Writable, Exploitable, "s"), (TempNotListed, Exploitable, "")]);
        assert!(!is_worse(Some(&old), &old));
        assert!(!is_worse(Some(&old), &judgment(&[(Writable, Exploitable, "s")])), "one of two mended");
        assert!(!is_worse(Some(&old), &judgment(&[(TempNotLast, Exploitable, "")])));
        assert!(is_worse(Some(&old), &judgment(&[(Writable, Exploitable, "other")])));
    }

    #[test]
    fn a_step_towards_safe_passes_even_with_a_new_reason() {
        let old = judgment(&[(NoPath, Exploitable, "")]);
        assert!(!is_worse(Some(&old), &judgment(&[(Writable, Exploitable, "s")])), "no path let the caller choose any");
        assert!(!is_worse(Some(&old), &judgment(&[(MissingSchema, Fragile, "s")])));
        assert!(is_worse(Some(&judgment(&[(MissingSchema, Fragile, "s")])), &old));
    }

    #[test]
    fn an_applications_own_tables_are_left_to_the_audit() {
        assert!(!is_worse(None, &judgment(&[(ForeignObjects, Exploitable, "public")])));
    }
}
