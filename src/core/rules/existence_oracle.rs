//! A unique key tells clients of rows that policies hide.

use super::context::Context;
use super::shared::exposed::can_write;
use super::shared::reached::is_for_all_rows;
use crate::catalog::{Command, Oid, PolicyExposure, Relation, Role, UniqueKey};
use crate::contract::{GuardAction, Severity};
use crate::finding::{Draft, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{listed, listed_set};
use serde_json::json;
use std::collections::HashSet;

/// The rule.
pub static RULE: Rule = Rule {
    id: "existence_oracle",
    title: "A unique key tells clients of rows that policies hide",
    area: Area::Rls,
    severity: Severity::Warning,
    guard: GuardAction::Audit,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No unique index of a governed table with row security has only columns \
              that a client can choose, and none that a policy ties to the caller. \
              Keys of UUIDs, identity columns and primary keys of integers do not \
              count, and no table of which the client may read every row.",
    why: "The error for a duplicate key tells a client that a row with this value \
              exists, although no policy shows it: an address that is registered, a \
              name that is taken.",
    fix: "Add the column that ties the row to the caller to the key, or write \
              through a function that answers alike in either case.",
    exempt: "Names that are meant to be unique across tenants and whose existence is \
              no secret.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING (id = \
              (SELECT (current_setting('request.jwt.claims', true)::json ->> \
              'sub')::uuid));\n\
              CREATE UNIQUE INDEX ON intake.simplicity_batches (file_name);",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (id = \
              (SELECT (current_setting('request.jwt.claims', true)::json ->> \
              'sub')::uuid));\n\
              CREATE UNIQUE INDEX ON intake.simplicity_batches (file_name, id);",
    },
    references: &["CWE-203"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for key in cx.snapshot.unique_keys.iter().filter(|key| !key.is_number) {
        cx.check_interrupts();
        let Some(relation) = cx.snapshot.relation(key.relation).filter(|of| of.row_security) else {
            continue;
        };
        let policies = cx.snapshot.policies_of(relation.oid);
        let policies: HashSet<Oid> = policies.iter().map(|policy| policy.oid).collect();
        let of_table = cx.snapshot.exposures.iter().filter(|of| policies.contains(&of.policy));
        let exposures: Vec<&PolicyExposure> = of_table.collect();
        for client in cx.clients.iter().filter(|client| !reads_all(cx, relation, client)) {
            let commands = [Command::Insert, Command::Update];
            let told = |command: &Command| tells(cx, (key, relation), client, *command, &exposures);
            let commands: Vec<&str> =
                commands.into_iter().filter(told).map(Command::as_str).collect();
            if !commands.is_empty() {
                out.push(draft(cx, (key, relation), client, &commands));
            }
        }
    }
}

/// Whether no policy hides a row from a client.
fn reads_all(cx: &Context<'_>, relation: &Relation, client: &Role) -> bool {
    !cx.access.is_limited_by_policies(client.oid, relation)
        || cx.snapshot.policies_of(relation.oid).iter().any(|policy| {
            policy.permissive
                && policy.covers(Command::Select)
                && cx.policy_applies(policy, client)
                && is_for_all_rows(cx, policy, client, Command::Select)
        })
}

/// Whether a client can choose the values of a key with a command, in rows that need not be tied to
/// it by a column of the key.
fn tells(
    cx: &Context<'_>,
    (key, relation): (&UniqueKey, &Relation),
    client: &Role,
    command: Command,
    exposures: &[&PolicyExposure],
) -> bool {
    let can_write = |column: &String| can_write(cx, relation, client, command, column);
    let is_chosen = match command {
        Command::Update => key.columns.iter().any(can_write),
        _ => key.columns.iter().all(can_write),
    };
    let is_asked =
        |of: &&&PolicyExposure| of.role == client.oid && of.command == command && !of.is_of_old();
    is_chosen
        && exposures.iter().filter(is_asked).any(|of| {
            let is_bound = |column: &String| {
                let mut ties = of.exposure.ties.iter();
                of.exposure.fixed.contains(column) || ties.any(|columns| columns.contains(column))
            };
            !of.exposure.is_never_true && !key.columns.iter().any(is_bound)
        })
}

fn draft(
    cx: &Context<'_>,
    (key, relation): (&UniqueKey, &Relation),
    client: &Role,
    commands: &[&str],
) -> Draft {
    let table = cx.snapshot.relation_sql(relation);
    let columns = key.columns.iter().cloned().collect();
    let predicate = Predicate {
        verb: Verb::Of(format!("The unique key ({}) of table {table} tells", listed_set(&columns))),
        rest: format!("on {} which values hidden rows have.", listed(commands)),
    };
    let grantee = (client.oid, client.name.as_str());
    Draft::of_grantee(cx.relation_object(relation), RULE.severity, grantee, predicate)
        .key(format!("{} {}", key.columns.join(", "), commands.join(", ")))
        .evidence(json!({"columns": key.columns, "commands": commands, "index": key.index}))
        .fix(Fix::Proposal(RULE.fix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Rows, UniqueKey};

    fn world(exposure: Exposure) -> World {
        let mut world = World::conforming();
        world.expose("authenticated", Command::Insert, Rows::New, exposure);
        world.snapshot.unique_keys = vec![UniqueKey {
            relation: world.relation("public.judgments").oid,
            index: "judgments_case_number_key".to_owned(),
            columns: vec!["case_number".to_owned()],
            is_number: false,
        }]
        .into();
        world
    }

    #[test]
    fn key_that_a_client_can_choose_is_reported() {
        let exposure = Exposure::default();
        assert_eq!(
            world(exposure.clone()).details(&RULE),
            ["warning: The unique key (case_number) of table public.judgments tells role \
              \"authenticated\" on INSERT which values hidden rows have."]
        );
        let ties = [["case_number".to_owned()].into()].into();
        assert_eq!(world(Exposure { ties, ..exposure.clone() }).details(&RULE), [""; 0], "tied");
        let mut numbers = world(exposure);
        let mut key = numbers.snapshot.unique_keys[0].clone();
        key.is_number = true;
        numbers.snapshot.unique_keys = vec![key].into();
        assert_eq!(numbers.details(&RULE), [""; 0], "a number");
    }
}
