//! Privileges on sequences differ from the contract.

use super::context::Context;
use super::shared::target::Target;
use crate::catalog::{Privileges, RelationKind, Role};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "sequence_privileges",
    title: "Privileges on a sequence differ from the contract",
    area: Area::Grants,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidGrantOperation,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "Client and worker roles have the declared privileges on each sequence. USAGE is \
             allowed, not required, on the sequence of a table into which the contract lets the \
             role insert.",
    why: "With UPDATE a client can reset a sequence so that every later insert fails; without \
          USAGE a worker cannot insert.",
    fix: "Grant or revoke as the contract declares.",
    exempt: "A sequence that serves as a public counter.",
    exempt_by_pattern: true,
    example: Example {
        violating: "GRANT UPDATE ON SEQUENCE public.job_queue_id_seq TO authenticated;",
        correct: "GRANT USAGE ON SEQUENCE public.job_queue_id_seq TO service_role;",
    },
    references: &["CIS PostgreSQL Benchmark 4.6", "CWE-732"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (sequence, schema) in cx.relations().filter(|(r, _)| r.kind == RelationKind::Sequence) {
        let declared = |role: &Role| cx.declared_on_relation(sequence, schema, role);
        let allowed = |role: &Role| {
            cx.permitted_on_relation(sequence, schema, role)
                | if cx.declares_insert_by(sequence, role) {
                    Privileges::USAGE
                } else {
                    Privileges::NONE
                }
        };
        let target = Target::of_relation(cx, sequence);
        target.report_undeclared(
            cx,
            &cx.subjects,
            &allowed,
            Privileges(u32::MAX),
            Severity::Error,
            out,
        );
        let subjects = cx.declared_subjects(sequence, schema);
        target.report_missing(cx, &subjects, &declared, Severity::Error, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Privileges, Relation, RelationKind};

    #[test]
    fn usage_is_allowed_by_a_declared_insert_on_the_table() {
        let mut world = World::conforming();
        let authenticated = world.role("authenticated").oid;
        let table = world.relation("intake.simplicity_batches").clone();
        let owned_by = Some(table.oid);
        world.add_relation(Relation {
            name: "seq".into(),
            oid: 9001,
            kind: RelationKind::Sequence,
            owned_by,
            acl: None,
            ..table
        });
        world.grant("intake.seq", authenticated, Privileges::USAGE | Privileges::UPDATE);
        assert_eq!(
            world.found(&RULE),
            [
                "error sequence intake.seq authenticated: Role \"authenticated\" has UPDATE on \
                 sequence intake.seq, which the \
                 contract does not declare. => REVOKE UPDATE ON SEQUENCE intake.seq FROM \
                 authenticated;",
                "error sequence intake.seq service_role: Role \"service_role\" does not have \
                 SELECT, UPDATE, USAGE on sequence \
                 intake.seq, which the contract declares. => GRANT ALL ON SEQUENCE intake.seq TO \
                 service_role;"
            ]
        );
    }
}
