//! A table has policies, and row level security is off.

use super::{Area, Context, Rule};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Measure};
use crate::mend::Mend;
use serde_json::json;

pub(super) static RULE: Rule = Rule {
    id: "policy_without_rls",
    title: "A table has policies that are not in force",
    area: Area::Rls,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    section: "7",
    why: "Somebody wrote the policies and believes in them; without ENABLE ROW LEVEL SECURITY they do nothing.",
    mend: "ALTER TABLE ... ENABLE ROW LEVEL SECURITY, or drop the policies.",
    judge,
};

fn judge(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (relation, schema) in cx.relations().filter(|(r, _)| !r.row_security) {
        let policies = cx.snapshot.policies_of(relation.oid);
        // Where the contract demands row security, rls_disabled says so already.
        let demanded = cx.contract.table(&schema.name, &relation.name).is_some_and(|t| t.row_security);
        if policies.is_empty() || demanded {
            continue;
        }
        let sql = cx.snapshot.relation_sql(relation);
        let names: Vec<&str> = policies.iter().map(|p| p.name.as_str()).collect();
        let count = match names.len() {
            1 => "a policy that is".to_owned(),
            n => format!("{n} policies that are"),
        };
        out.push(Draft {
            object: cx.relation_object(relation),
            role: None,
            severity: Severity::Warning,
            key: String::new(),
            measure: Measure::default(),
            detail: format!("Table {sql} has {count} not in force, for row level security is off."),
            evidence: json!({"policies": names}),
            mend: Mend::row_security(relation.oid, &sql),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::World;
    use super::RULE;
    use crate::catalog::Policy;

    #[test]
    fn policies_without_the_switch() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let relation = world.relation("ops.outbox").oid;
        world.snapshot.policies.push(Policy { name: "p".into(), relation, ..Policy::default() });
        assert_eq!(
            world.found(&RULE),
            ["warning table ops.outbox: Table ops.outbox has a policy that is not in force, for row level security is off. \
              => ALTER TABLE ops.outbox ENABLE ROW LEVEL SECURITY;"]
        );
    }
}
