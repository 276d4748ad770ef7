//! Several permissive policies are for one command of a client.

use super::context::Context;
use super::shared::exposed::each;
use crate::catalog::{Command, Oid, Relation, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed, safe_ident};
use serde_json::json;
use std::collections::BTreeMap;

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_multiple_permissive",
    title: "Several permissive policies are for one command of a client",
    area: Area::Policies,
    severity: Severity::Info,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "At most one permissive policy is for a command and a client. Policies \
              that add nothing, or let no row through, are reported for themselves. It \
              concerns permissive policies of governed tables with row security, for \
              clients.",
    why: "The policies are joined by OR: whichever opens a row, the others do not \
              matter. What the client reaches is only seen by reading all of them, and \
              each is evaluated.",
    fix: "Join the conditions by OR in one policy.",
    exempt: "Policies whose separate conditions are easier to read.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub'));\n\
              CREATE POLICY batches_by_id ON intake.simplicity_batches FOR SELECT TO \
              authenticated\n\
              USING (id = (SELECT (current_setting('request.jwt.claims', true)::json \
              ->> 'sub')::uuid));",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
              = (SELECT current_setting('request.jwt.claims', true)::json ->> 'sub') \
              OR id = (SELECT (current_setting('request.jwt.claims', true)::json ->> \
              'sub')::uuid));",
    },
    references: &["splinter 0006_multiple_permissive_policies"],
};

/// The policies of a table for a client, by command.
struct Several<'a> {
    relation: &'a Relation,
    role: &'a Role,
    policies: BTreeMap<Command, Vec<String>>,
}

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let mut found: BTreeMap<(Oid, Oid), Several<'_>> = BTreeMap::new();
    each(cx, |exposed| {
        for of in exposed.iter().filter(|of| !of.exposure.is_never_true && !of.is_covered) {
            let new =
                || Several { relation: of.relation, role: of.role, policies: BTreeMap::new() };
            let several = found.entry((of.relation.oid, of.role.oid)).or_insert_with(new);
            let names = several.policies.entry(of.command).or_default();
            let name = safe_ident(&of.policy.name).into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    });
    for several in found.into_values() {
        out.extend(drafts(cx, several));
    }
}

/// Returns a finding for all commands that the same policies are for.
fn drafts(cx: &Context<'_>, several: Several<'_>) -> Vec<Draft> {
    let Several { relation, role, policies } = several;
    let mut by_policies: BTreeMap<Vec<String>, Vec<&str>> = BTreeMap::new();
    for (command, mut names) in policies.into_iter().filter(|(_, names)| names.len() > 1) {
        names.sort();
        by_policies.entry(names).or_default().push(command.as_str());
    }
    let draft = |(names, commands): (Vec<String>, Vec<&str>)| {
        let table = cx.snapshot.relation_sql(relation);
        let predicate = Predicate {
            verb: Verb::Of(format!("Table {table} lets")),
            rest: format!(
                "{} by {} permissive policies: {}.",
                listed(&commands),
                names.len(),
                listed(&names)
            ),
        };
        let grantee = (role.oid, role.name.as_str());
        Draft::of_grantee(cx.relation_object(relation), Severity::Info, grantee, predicate)
            .key(format!("{} {}", commands.join(", "), names.join(", ")))
            .evidence(json!({"commands": commands, "policies": names}))
            .fix(Fix::Proposal(RULE.fix.to_owned()))
    };
    by_policies.into_iter().map(draft).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Policy, Rows};

    #[test]
    fn two_policies_for_one_command_are_reported() {
        let mut world = World::conforming();
        world.expose("authenticated", Command::Select, Rows::Existing, Exposure::default());
        let policy = world.snapshot.policies.last().unwrap().clone();
        world.snapshot.policies.push(Policy { oid: 9_001, name: "q".into(), ..policy });
        let one = world.snapshot.exposures[0].clone();
        let mut other = one.clone();
        other.policy = 9_001;
        assert_eq!(world.details(&RULE), [""; 0]);
        world.snapshot.exposures = vec![one.clone(), other.clone()].into();
        assert_eq!(
            world.details(&RULE),
            ["info: Table public.judgments lets role \"authenticated\" SELECT by 2 permissive \
              policies: p and q."]
        );
        other.covered_by = Some(9_000);
        world.snapshot.exposures = vec![one, other].into();
        assert_eq!(world.details(&RULE), [""; 0], "one adds nothing");
    }
}
