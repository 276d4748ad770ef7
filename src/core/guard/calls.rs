//! The calls in HINTs that exempt what a regression is about.

use super::change::Regression;
use crate::catalog::ObjectId;
use crate::finding::Finding;
use crate::sql::{is_unprintable, quote_literal};

/// Returns the call that exempts the object of a regression. `None` where there is none, or the
/// object is a new routine: it would have to be exempted when it exists.
pub(super) fn exempt_statement(regression: &Regression) -> Option<String> {
    let finding = &regression.finding;
    let is_new_routine =
        regression.can_be_completed && matches!(finding.object.id, ObjectId::Routine(_));
    if is_new_routine { None } else { exempt_call(finding) }
}

/// Returns the sentence after a call that declares something: the call that exempts it, if there
/// is one.
pub(super) fn or_exempt(finding: &Finding) -> String {
    exempt_call(finding).map_or(String::new(), |call| format!(" Or exempt it: {call}"))
}

/// Returns the call that exempts the object of a finding from its rule, with a gap for the reason.
/// `None` where the rule cannot be exempted by pattern, or the identity cannot be written as one.
pub(super) fn exempt_call(finding: &Finding) -> Option<String> {
    let identity = &finding.object.identity;
    let is_exact = !identity.chars().any(|c| matches!(c, '*' | '?' | '\\') || is_unprintable(c));
    (finding.rule.exempt_by_pattern && is_exact).then(|| {
        format!(
            "SELECT ops.exempt(rule => '{}', object => {}, reason => '...', expires_at => now() + \
             interval '30 days');",
            finding.rule.id,
            quote_literal(identity)
        )
    })
}
