//! A client or worker owns an object of a governed schema, or an untrusted role owns the schema.

use super::context::Context;
use super::shared::target::Target;
use crate::catalog::{Object, Oid, PG_DATABASE_OWNER, RoutineKind};
use crate::contract::{GuardAction, RoleKind, Severity};
use crate::finding::{Draft, Measure};
use crate::fix::{Change, Fix, Statement};
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::{capitalized, printable, safe_ident};
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
        let severity = if cx.is_subject(owner) {
            Severity::Error
        } else if !cx.is_trusted_owner(owner) && owner != cx.snapshot.database.owner {
            Severity::Warning
        } else {
            continue;
        };
        let owned = Owned { kind: "SCHEMA".to_owned(), owner, security_definer: false };
        out.push(owned.draft(cx, &Target::of_schema(cx, schema), severity));
    }
    for (relation, _) in
        cx.relations().filter(|(r, _)| cx.is_subject(r.owner) && r.owned_by.is_none())
    {
        let owned = Owned {
            kind: relation.kind.object_type().to_uppercase(),
            owner: relation.owner,
            security_definer: false,
        };
        out.push(owned.draft(cx, &Target::of_relation(cx, relation), Severity::Error));
    }
    for (routine, _) in cx.routines().filter(|(r, _)| cx.is_subject(r.owner)) {
        let kind = if routine.kind == RoutineKind::Aggregate { "AGGREGATE" } else { "ROUTINE" };
        let owned = Owned {
            kind: kind.to_owned(),
            owner: routine.owner,
            security_definer: routine.security_definer,
        };
        out.push(owned.draft(cx, &Target::of_routine(cx, routine), Severity::Error));
    }
}

/// An object with the wrong owner.
struct Owned {
    /// The type of object as ALTER names it.
    kind: String,
    owner: Oid,
    security_definer: bool,
}

impl Owned {
    fn draft(&self, cx: &Context<'_>, target: &Target<'_>, severity: Severity) -> Draft {
        let owner = cx.snapshot.role_name(self.owner);
        // An owner of a schema that the contract does not know may be intended.
        let (problem, at_most) = if severity == Severity::Error {
            ("which is a client or worker role", GuardAction::Block)
        } else {
            ("which is not a trusted owner", GuardAction::Warn)
        };
        let detail = format!(
            "{} is owned by role \"{}\", {problem}.",
            capitalized(&target.name),
            printable(&owner)
        );
        let managed_by = target.object.managed_by.clone().or_else(|| cx.managed_role(self.owner));
        Draft::new(Object { managed_by, ..target.object.clone() }, severity, detail)
            .role(&owner)
            .evidence(json!({"owner": owner}))
            .fix(self.fix(cx, target))
            .measure(Measure::default().limited_to(at_most))
    }

    /// Returns the change to the first owner role of the contract that exists.
    fn fix(&self, cx: &Context<'_>, target: &Target<'_>) -> Fix {
        let object = format!("{} {}", self.kind, target.sql);
        let owner =
            cx.contract.roles_of(RoleKind::Owner).find_map(|role| cx.snapshot.role_named(role));
        let Some(owner) = owner else {
            return Fix::Proposal(format!("ALTER {object} OWNER TO ...;"));
        };
        let sql = format!("ALTER {object} OWNER TO {};", safe_ident(&owner.name));
        let change = Change::ChangeOwner {
            object: target.object.id,
            owner: owner.oid,
            target: object,
            definer: self.security_definer,
        };
        Fix::by(Statement::new(change, sql))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;

    #[test]
    fn object_of_a_client_or_worker_and_schema_of_an_untrusted_role_are_reported() {
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
                "error function api.get_ceo_metrics() anon: Function api.get_ceo_metrics() is \
                 owned by role \"anon\", which is a client or worker role. \
                 => ALTER ROUTINE api.get_ceo_metrics() OWNER TO postgres;",
                "warning schema enforcement mallory: Schema enforcement is owned by role \
                 \"mallory\", which is not a trusted owner. \
                 => ALTER SCHEMA enforcement OWNER TO postgres;",
                "error table public.judgments service_role: Table public.judgments is owned by \
                 role \"service_role\", which is a client or worker role. \
                 => ALTER TABLE public.judgments OWNER TO postgres;"
            ]
        );
    }
}
