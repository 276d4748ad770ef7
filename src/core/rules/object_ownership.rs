//! A client or worker owns something in a governed schema, or somebody who is not trusted with the
//! structure owns the schema.

use super::context::Context;
use super::shared::privileges::Target;
use crate::catalog::{Oid, PG_DATABASE_OWNER, RoutineKind};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{printable, safe_ident};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "object_ownership",
    title: "A client or worker role owns a governed object",
    area: Area::Objects,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: true,
    section: "2",
    checks: "Schemas, relations and routines of the governed schemas belong to trusted owners, \
             not to client or worker roles.",
    why: "An owner can grant itself any privilege, disable row security and replace the body of \
          a routine. No grant and no policy restricts it.",
    fix: "Change the owner to the role that runs migrations.",
    exempt: "A schema or table that a worker must own, for example because it creates \
             partitions at run time.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER TABLE ops.reaper_log OWNER TO service_role;",
        correct: "ALTER TABLE ops.reaper_log OWNER TO postgres;",
    },
    references: &["CWE-282"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    for (schema, _) in cx.schemas() {
        let owner = if schema.owner == PG_DATABASE_OWNER {
            cx.snapshot.database.owner
        } else {
            schema.owner
        };
        let target = cx.schema_target(schema);
        if cx.is_subject(owner) {
            out.push(draft(cx, &target, owner, Severity::Error, ("SCHEMA", false)));
        } else if !cx.is_trusted_owner(owner) && owner != cx.snapshot.database.owner {
            out.push(draft(cx, &target, owner, Severity::Warning, ("SCHEMA", false)));
        }
    }
    for (relation, _) in
        cx.relations().filter(|(r, _)| cx.is_subject(r.owner) && r.owned_by.is_none())
    {
        let kind = relation.kind.object_type().to_uppercase();
        out.push(draft(
            cx,
            &cx.relation_target(relation),
            relation.owner,
            Severity::Error,
            (&kind, false),
        ));
    }
    for (routine, _) in cx.routines().filter(|(r, _)| cx.is_subject(r.owner)) {
        let kind = if routine.kind == RoutineKind::Aggregate { "AGGREGATE" } else { "ROUTINE" };
        out.push(draft(
            cx,
            &cx.routine_target(routine),
            routine.owner,
            Severity::Error,
            (kind, routine.security_definer),
        ));
    }
}

fn draft(
    cx: &Context<'_>,
    target: &Target<'_>,
    owner: Oid,
    severity: Severity,
    (kind, definer): (&str, bool),
) -> Draft {
    let name = cx.snapshot.role_name(owner);
    // After the word that GRANT wants stands the object's name.
    let object = target.sql.split_once(' ').map_or(target.sql.as_str(), |(_, object)| object);
    let keeper =
        cx.contract.roles_of(RoleKind::Owner).find_map(|role| cx.snapshot.role_named(role));
    Draft {
        object: target.object.clone(),
        role: Some(name.clone()),
        severity,
        key: String::new(),
        // Another owner of a schema than the contract knows may be meant so.
        measure: Measure {
            at_most: if severity == Severity::Error {
                GuardAction::Block
            } else {
                GuardAction::Warn
            },
            ..Measure::default()
        },
        detail: format!(
            "{}{} belongs to role \"{}\".",
            target.name[..1].to_uppercase(),
            &target.name[1..],
            printable(&name)
        ),
        evidence: json!({"owner": name}),
        fix: match keeper {
            Some(keeper) => {
                let target_sql = format!("{kind} {object}");
                let sql = format!("ALTER {target_sql} OWNER TO {};", safe_ident(&keeper.name));
                let (object, owner) = (target.object.id, keeper.oid);
                Fix::by(Statement::new(
                    Change::ChangeOwner { object, owner, target: target_sql, definer },
                    sql,
                ))
            }
            None => Fix::Proposal(format!("ALTER {kind} {object} OWNER TO ...;")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn clients_and_workers_own_nothing() {
        let mut world = World::conforming();
        assert_eq!(world.found(&RULE), [""; 0]);
        world.add_role("mallory");
        let (anon, worker, mallory) =
            (world.role("anon").oid, world.role("service_role").oid, world.role("mallory").oid);
        world.relation("public.judgments").owner = worker;
        world.routine("get_ceo_metrics").owner = anon;
        world.schema("enforcement").owner = mallory;
        assert_eq!(
            world.found(&RULE),
            [
                "error function api.get_ceo_metrics() anon: Function api.get_ceo_metrics() belongs to role \"anon\". \
                 => ALTER ROUTINE api.get_ceo_metrics() OWNER TO postgres;",
                "warning schema enforcement mallory: Schema enforcement belongs to role \"mallory\". \
                 => ALTER SCHEMA enforcement OWNER TO postgres;",
                "error table public.judgments service_role: Table public.judgments belongs to role \"service_role\". \
                 => ALTER TABLE public.judgments OWNER TO postgres;"
            ]
        );
    }
}
