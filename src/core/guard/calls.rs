//! The calls in HINTs that exempt what a regression is about.

use super::change::Regression;
use crate::catalog::ObjectId;
use crate::finding::Finding;
use crate::sql::{is_unprintable, quote_literal};

/// Returns the calls that exempt what the audit would report about a regression. `None` where there
/// are none, or the object is a new routine: it would have to be exempted when it exists.
pub(super) fn exempt_statements(regression: &Regression) -> Option<Vec<String>> {
    let finding = &regression.audited;
    let is_new_routine =
        regression.can_be_completed && matches!(finding.object.id, ObjectId::Routine(_));
    if is_new_routine { None } else { exempt_calls(finding) }
}

/// Returns the line after a call that declares something: the calls that exempt it, if there are
/// any.
pub(super) fn or_exempt(finding: &Finding) -> String {
    exempt_calls(finding)
        .map_or(String::new(), |calls| format!("\nOr exempt it: {}", calls.join("\n")))
}

/// Returns the calls that exempt the object of a finding from its rule, one for each role that the
/// finding is about, with a gap for the reason. `None` where the rule cannot be exempted by
/// pattern, or the identity or a role cannot be written in a call.
pub(super) fn exempt_calls(finding: &Finding) -> Option<Vec<String>> {
    let identity = &finding.object.identity;
    let is_exact = !identity.chars().any(|c| matches!(c, '*' | '?' | '\\') || is_unprintable(c))
        && !finding.roles.iter().any(|role| role.chars().any(is_unprintable));
    let call = |role: Option<&String>| {
        let role =
            role.map_or(String::new(), |name| format!(" role_name => {},", quote_literal(name)));
        format!(
            "SELECT ops.exempt(rule => '{}', object => {},{role} reason => '...', expires_at => \
             now() + interval '30 days');",
            finding.rule.id,
            quote_literal(identity)
        )
    };
    let calls = || match finding.roles.as_slice() {
        [] => vec![call(None)],
        roles => roles.iter().map(|role| call(Some(role))).collect(),
    };
    (finding.rule.exempt_by_pattern && is_exact).then(calls)
}
