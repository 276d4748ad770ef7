//! Template.

use super::context::Context;
use crate::catalog::Relation;
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "template",
    title: "Template",
    area: Area::Objects,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "",
    why: "",
    fix: "",
    exempt: "",
    exempt_by_pattern: true,
    example: Example { violating: "", correct: "" },
    references: &[],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, _) in cx.relations().filter(|(relation, _)| violates(relation)) {
        let detail = format!("Table {} violates the rule.", cx.snapshot.relation_sql(relation));
        let draft = Draft::new(cx.relation_object(relation), RULE.severity, detail);
        out.push(draft.measure(Measure::missing("", vec![])));
    }
}

/// Returns whether the relation violates the rule.
fn violates(_relation: &Relation) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn conforming_database_has_no_finding() {
        assert_eq!(World::conforming().found(&RULE), [""; 0]);
    }
}
