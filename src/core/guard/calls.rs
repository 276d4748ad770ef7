//! The calls in HINTs that exempt what a regression is about, and those of `ops.accept()`.

use super::change::Regression;
use crate::catalog::ObjectId;
use crate::declare::{Attempt, Declaration, declare_call};
use crate::exemptions::exact_pattern;
use crate::finding::Finding;
use crate::fix::Fix;
use crate::sql::safe_literal;

/// Returns the calls that exempt what the audit would report about a regression; `is_done`: the
/// statement has been executed. `None` where there are none, or before the statement where the
/// object is a new routine: it has to exist when it is exempted.
pub(super) fn exempt_statements(regression: &Regression, is_done: bool) -> Option<Vec<String>> {
    let finding = &regression.audited;
    let is_new_routine =
        regression.can_be_completed && matches!(finding.object.id, ObjectId::Routine(_));
    if is_done {
        return Some(exempt_calls(finding).unwrap_or_else(|| vec![exempt_one(finding)]));
    }
    if is_new_routine { None } else { exempt_calls(finding) }
}

/// Returns the call that exempts a finding that is reported.
fn exempt_one(finding: &Finding) -> String {
    format!(
        "SELECT ops.exempt('{}', reason => '...', expires_at => now() + interval '30 days');",
        finding.fingerprint
    )
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
    if !finding.rule.exempt_by_pattern {
        return None;
    }
    let object = safe_literal(&exact_pattern(&finding.object.identity))?;
    let call = |role: Option<&String>| {
        let role = match role {
            Some(name) => format!(" role_name => {},", safe_literal(name)?),
            None => String::new(),
        };
        Some(format!(
            "SELECT ops.exempt(rule => '{}', object => {object},{role} reason => '...', expires_at \
             => now() + interval '30 days');",
            finding.rule.id,
        ))
    };
    match finding.roles.as_slice() {
        [] => Some(vec![call(None)?]),
        roles => roles.iter().map(|role| call(Some(role))).collect(),
    }
}

/// How many calls that exempt what is left a HINT has.
const MOST_LEFT: usize = 12;

/// Returns the HINT about a finding that a contract can allow, where other findings would be left
/// or appear: the call that declares it, and what resolves these.
#[must_use]
pub fn accept_with_left(attempt: &Attempt) -> String {
    let (mut fixes, mut calls, mut texts) = (vec![], vec![], vec![]);
    for finding in &attempt.left {
        if let Some(sql) = finding.fix.sql() {
            fixes.push(sql.replace('\n', " "));
        } else if let Some(exempt) = exempt_calls(finding) {
            calls.extend(exempt);
        } else if !texts.contains(&finding.rule.fix) {
            texts.push(finding.rule.fix);
        }
    }
    let mut lines = vec![format!("Run: {}", declare_call(&attempt.accepted.declarations))];
    if !fixes.is_empty() {
        lines.push(format!("And run: {}", fixes.join(" ")));
    }
    if calls.len() > MOST_LEFT {
        lines.push(format!(
            "And fix or exempt what remains, {} findings; after the call, this query lists them: \
             SELECT * FROM ops.findings();",
            calls.len()
        ));
    } else if !calls.is_empty() {
        lines.push(format!("And fix what remains, or exempt it:\n{}", calls.join("\n")));
    }
    lines.extend(texts.into_iter().map(str::to_owned));
    lines.join("\n")
}

/// Returns the HINT about a finding that no contract can allow as a matter of course: how to fix
/// or exempt it, and with which declarations it would be `meant`.
#[must_use]
pub fn accept_instead(finding: &Finding, meant: Option<&[Declaration]>) -> String {
    let fix = match &finding.fix {
        Fix::Proposal(text) => text.clone(),
        fix => fix.sql().map_or(finding.rule.fix.to_owned(), |sql| format!("Fix it: {sql}")),
    };
    let declare = meant.map_or(String::new(), |declarations| {
        format!("\nIf it is meant, run: {}", declare_call(declarations))
    });
    format!("{fix}{declare}\nOr exempt it: {}", exempt_one(finding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Privileges;
    use crate::declare::attempt;
    use crate::rules::testing::World;
    use crate::rules::{rls_disabled, table_privileges, ungoverned_schema_access};

    #[test]
    fn table_without_row_security_in_a_new_schema_is_left_with_a_call() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let mut schema = world.schema("api").clone();
        (schema.oid, schema.name, schema.acl) = (900, "more".into(), Some(vec![].into()));
        world.snapshot.schemas.push(schema);
        let mut table = world.relation("public.judgments").clone();
        (table.oid, table.name, table.schema, table.acl) =
            (901, "t".into(), 900, Some(vec![].into()));
        table.row_security = false;
        world.add_relation(table);
        world.grant_schema("more", anon, Privileges::USAGE);
        world.grant("more.t", anon, Privileges::SELECT);
        let finding = world.findings(&ungoverned_schema_access::RULE).remove(0);
        let hint = world.compared_with(&world, |cx, _| {
            accept_with_left(&attempt(cx, &[&finding]).expect("declarations"))
        });
        assert_eq!(
            hint,
            "Run: SELECT * FROM ops.declare('CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO \
             anon; CREATE TABLE more.t (); GRANT SELECT ON TABLE more.t TO anon', note => '...');\n\
             And fix what remains, or exempt it:\n\
             SELECT ops.exempt(rule => 'rls_disabled', object => 'more.t', reason => '...', \
             expires_at => now() + interval '30 days');"
        );
    }

    #[test]
    fn names_that_are_no_plain_text_are_exempt_by_exact_patterns() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let mut table = world.relation("public.judgments").clone();
        (table.oid, table.name, table.acl) = (901, "a/*\\\n".into(), Some(vec![].into()));
        world.add_relation(table);
        world.grant("public.a/*\\\n", anon, Privileges::SELECT);
        let found = world.findings(&table_privileges::RULE);
        let of_table = found.iter().find(|f| f.object.identity.contains("a/*")).unwrap();
        assert_eq!(
            exempt_calls(of_table).unwrap(),
            ["SELECT ops.exempt(rule => 'table_privileges', object => \
              E'public.\"a/\\\\*\\\\\\\\\\u000A\"', role_name => 'anon', reason => '...', \
              expires_at => now() + interval '30 days');"]
        );
    }

    #[test]
    fn finding_that_no_contract_allows_is_fixed_or_exempt() {
        let mut world = World::conforming();
        world.relation("public.judgments").row_security = false;
        let finding = world.findings(&rls_disabled::RULE).remove(0);
        assert_eq!(
            accept_instead(&finding, None),
            format!(
                "Fix it: ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;\n\
                 Or exempt it: SELECT ops.exempt('{}', reason => '...', expires_at => now() + \
                 interval '30 days');",
                finding.fingerprint
            )
        );
    }
}
