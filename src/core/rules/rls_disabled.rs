//! Row security is disabled on a table.

use super::context::Context;
use super::shared::row_security::RowSecurity;
use crate::catalog::{Privileges, Relation, Role};
use crate::contract::{GuardAction, SchemaDecl, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::Fix;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::printable;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "rls_disabled",
    title: "Row security is disabled",
    area: Area::Rls,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    checks: "Row security is enabled on every table for which the contract declares it, and on \
             every other table of a governed schema that a client can reach (warning).",
    why: "Without row security, policies are ignored, and a privilege on the table applies to \
          all of its rows.",
    fix: "Run ALTER TABLE ... ENABLE ROW LEVEL SECURITY after creating the policies that the \
          declared roles need. Without a policy that admits it, a role sees no rows.",
    exempt: "A lookup table whose rows every client may read, after its privileges are declared.",
    exempt_by_pattern: true,
    example: Example {
        violating: "DROP POLICY queue_worker ON public.job_queue;\n\
                    ALTER TABLE public.job_queue DISABLE ROW LEVEL SECURITY;",
        correct: "DROP POLICY queue_worker ON public.job_queue;\n\
                  ALTER TABLE public.job_queue ENABLE ROW LEVEL SECURITY;",
    },
    references: &[
        "splinter 0013_rls_disabled_in_public",
        "CIS PostgreSQL Benchmark 4.7",
        "CWE-862",
    ],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let row_security = RowSecurity::new(cx);
    for (relation, schema) in cx.relations() {
        let Some(Reason { severity, why, at_most }) = reason(cx, relation, schema) else {
            continue;
        };
        let sql = cx.snapshot.relation_sql(relation);
        let fix = if relation.kind.has_row_security() {
            row_security.enable(relation, schema)
        } else {
            let object_type = relation.kind.object_type();
            Fix::Proposal(format!(
                "A {object_type} cannot have row security. Revoke its privileges from clients:\n\
                 REVOKE ALL ON TABLE {sql} FROM ...;"
            ))
        };
        // A table that no client can access yet must not become accessible in this state; one that
        // no client can access any more is no worse.
        let measure = match cx.reached_by(relation) {
            Some(_) => Measure::excess("rows", vec!["reached"]),
            None => Measure::missing("rows", vec![]),
        };
        let detail = format!("Row security is disabled on table {sql}, {why}.");
        let draft = Draft::new(cx.relation_object(relation), severity, detail)
            .evidence(json!({"row_security": false}))
            .fix(fix)
            .measure(measure.limited_to(at_most));
        out.push(draft);
    }
}

/// Why row security should be enabled on a table.
struct Reason {
    severity: Severity,
    /// A relative clause about the table.
    why: String,
    /// The strongest action of the guard.
    at_most: GuardAction,
}

/// Returns the reason where row security should be enabled and is not: the contract requires it, or
/// a client can access the table. Where the contract declares the table and each privilege of the
/// clients without row security, the guard must not block what it declares.
fn reason(cx: &Context<'_>, relation: &Relation, schema: &SchemaDecl) -> Option<Reason> {
    if relation.row_security {
        return None;
    }
    if cx.contract.table(&schema.name, &relation.name).is_some_and(|t| t.row_security) {
        let never =
            if relation.kind.has_row_security() { "" } else { ", and which cannot have it" };
        let why = format!("for which the contract requires it{never}");
        return Some(Reason { severity: Severity::Error, why, at_most: GuardAction::Block });
    }
    if !relation.kind.has_row_security() {
        return None;
    }
    let reached_by = cx.reached_by(relation)?;
    let (client, severity, how, at_most) =
        if let Some(client) = undeclared_access(cx, relation, schema) {
            (client, Severity::Warning, "", GuardAction::Block)
        } else if let Some(client) = declared_access(cx, relation, schema) {
            (client, Severity::Warning, " as the contract declares", GuardAction::Audit)
        } else {
            (reached_by, Severity::Info, " as declared access needs it", GuardAction::Audit)
        };
    let why = format!("which role \"{}\" can access{how}", printable(&client.name));
    Some(Reason { severity, why, at_most })
}

/// Returns the first client that can access rows of a table and for which the contract declares it.
fn declared_access<'a>(
    cx: &Context<'a>,
    relation: &Relation,
    schema: &SchemaDecl,
) -> Option<&'a Role> {
    let rows = Privileges::SELECT | Privileges::WRITES;
    cx.clients
        .iter()
        .copied()
        .filter(|client| cx.reaches(client, relation))
        .find(|client| cx.declared_on_some_column(relation, schema, client).intersects(rows))
}

/// Returns the first client that can access rows of a table in a way that the contract does not
/// declare, and that nothing declared needs.
fn undeclared_access<'a>(
    cx: &Context<'a>,
    relation: &Relation,
    schema: &SchemaDecl,
) -> Option<&'a Role> {
    let rows = Privileges::SELECT | Privileges::WRITES;
    cx.clients.iter().copied().filter(|client| cx.reaches(client, relation)).find(|client| {
        let held = cx.access.relation_privileges(client.oid, relation);
        let is_undeclared = |column: &String| {
            let held = cx.access.column_privileges(client.oid, relation, column);
            let permitted = cx.permitted_on_relation(relation, schema, client)
                | cx.declared_on_column(relation, schema, client, column)
                | cx.permitted_on_column(relation, column, client);
            (held & rows & !permitted) != Privileges::NONE
        };
        (held & rows & !cx.permitted_on_relation(relation, schema, client)) != Privileges::NONE
            || relation.columns.iter().any(|(column, _)| is_undeclared(column))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::{Context, RULE};
    use crate::access::Access;
    use crate::catalog::Privileges;
    use crate::contract::{ByRole, ColumnGrants, GuardAction};
    use crate::fix::Fix;

    #[test]
    fn declared_table_and_table_that_a_client_can_access_are_reported() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        let anon = world.role("anon").oid;
        world.relation("public.judgments").row_security = false;
        world.grant("public.plaintiff_tasks", anon, Privileges::SELECT);
        world.grant("ops.outbox", anon, Privileges::SELECT);
        assert_eq!(
            world.found(&RULE),
            [
                "error table public.judgments: Row security is disabled on table public.judgments, \
                 for which the \
                 contract requires it. \
                 => ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;",
                "warning table public.plaintiff_tasks: Row security is disabled on table \
                 public.plaintiff_tasks, \
                 which role \"anon\" can access. => ALTER TABLE public.plaintiff_tasks ENABLE ROW \
                 LEVEL SECURITY;"
            ]
        );
    }

    #[test]
    fn enable_is_a_proposal_where_a_declared_role_would_see_no_rows() {
        let mut world = World::conforming();
        world.relation("public.judgments").row_security = false;
        let table = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        let mut columns = ColumnGrants::default();
        columns.add(Privileges::UPDATE, "status");
        table.column_grants.insert("authenticated".into(), columns);
        let Fix::Proposal(proposal) = world.findings(&RULE)[0].fix.clone() else {
            panic!("a proposal")
        };
        assert_eq!(
            proposal.lines().collect::<Vec<_>>(),
            [
                "No policy on table public.judgments admits role \"authenticated\" (UPDATE).",
                "Run in one transaction:",
                "CREATE POLICY \"authenticated update\" ON public.judgments FOR UPDATE TO \
                 authenticated USING (...) WITH CHECK (...);",
                "ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;",
            ]
        );
        world.role("authenticated").bypass_rls = true;
        assert_eq!(world.fixes(&RULE), ["ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;"]);
    }

    #[test]
    fn enable_is_a_proposal_where_views_of_another_owner_would_show_no_rows() {
        let mut world = World::conforming();
        world.relation("public.judgments").row_security = false;
        world.add_role("reporting");
        let reporting = world.role("reporting").oid;
        world.relation("public.v_judgment_pipeline").owner = reporting;
        assert_eq!(world.fixes(&RULE).len(), 1, "it cannot read the table");
        world.grant("public.judgments", reporting, Privileges::SELECT);
        let Fix::Proposal(proposal) = world.findings(&RULE)[0].fix.clone() else {
            panic!("a proposal")
        };
        assert!(
            proposal.contains("role \"reporting\" (SELECT) in its views and SECURITY DEFINER"),
            "{proposal}"
        );
    }

    #[test]
    fn table_that_is_declared_without_row_security_is_a_warning_with_a_proposal() {
        let mut world = World::conforming();
        let table = world.contract.tables.iter_mut().find(|t| t.name == "judgments").unwrap();
        (table.row_security, table.policies) = (false, ByRole::new());
        let relation = world.relation("public.judgments");
        relation.row_security = false;
        let oid = relation.oid;
        world.snapshot.policies.retain(|policy| policy.relation != oid);
        assert_eq!(
            world.found(&RULE),
            ["warning table public.judgments: Row security is disabled on table \
                 public.judgments, \
              which role \"authenticated\" can access as the contract declares."]
        );
        assert_eq!(at_most(&world), [GuardAction::Audit]);
        let Fix::Proposal(proposal) = world.findings(&RULE)[0].fix.clone() else {
            panic!("a proposal")
        };
        let lines: Vec<&str> = proposal.lines().collect();
        assert!(lines[0].starts_with("The contract declares table public.judgments"), "{lines:?}");
        assert_eq!(
            lines[1..],
            [
                "Run in one transaction:",
                "CREATE POLICY \"authenticated select\" ON public.judgments FOR SELECT TO \
                 authenticated USING (...);",
                "ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;",
            ]
        );
        let anon = world.role("anon").oid;
        world.grant("public.judgments", anon, Privileges::SELECT);
        assert_eq!(at_most(&world), [GuardAction::Block], "access that is not declared");
    }

    /// Returns the strongest actions of the guard about the findings.
    fn at_most(world: &World) -> Vec<GuardAction> {
        let snapshot = world.snapshot.clone().complete();
        let access = Access::new(&snapshot);
        let contract = world.contract.clone();
        let drafts = Context::new(&contract, &snapshot, &access, &|| {}).drafts(&RULE);
        drafts.iter().map(|draft| draft.measure.at_most).collect()
    }
}
