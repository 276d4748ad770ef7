//! A name in a SECURITY DEFINER routine means a column and not the argument.

use super::context::Context;
use super::shared::definer_bodies::{self, Fault};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::safe_ident;

/// The rule.
pub static RULE: Rule = Rule {
    id: "definer_name_captured",
    title: "A name in a SECURITY DEFINER routine means a column and not the argument",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "In the body of a SECURITY DEFINER routine that a client may execute, no column \
             is compared with itself because its name is also the one of an argument, or of \
             a column of the table outside of the subquery, so that rows that are not tied \
             to the caller are reached.",
    why: "In a function in SQL, a name that a column has means the column: id = id is \
             true for each row.",
    fix: "Qualify the argument with the name of the function, or give it another name.",
    exempt: "None is known.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE FUNCTION api.job(kind text) RETURNS SETOF public.job_queue LANGUAGE \
                    sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT * \
                    FROM public.job_queue WHERE job_queue.kind = kind $$; ALTER FUNCTION \
                    api.job(text) OWNER TO postgres; REVOKE EXECUTE ON FUNCTION api.job(text) \
                    FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.job(text) TO anon, \
                    authenticated, service_role;",
        correct: "CREATE FUNCTION api.job(kind text) RETURNS SETOF public.job_queue LANGUAGE \
                    sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT * \
                    FROM public.job_queue WHERE job_queue.kind = job.kind AND job.kind = \
                    current_setting('request.jwt.claims', true)::json ->> 'sub' $$; ALTER \
                    FUNCTION api.job(text) OWNER TO postgres; REVOKE EXECUTE ON FUNCTION \
                    api.job(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.job(text) TO \
                    anon, authenticated, service_role;",
    },
    references: &["CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let describe = |way: &crate::catalog::BodyWay| {
        let name = way.captured.as_deref().unwrap_or_default();
        format!("that are not tied to the caller: {0} = {0} compares a column with itself", {
            safe_ident(name)
        })
    };
    definer_bodies::report(cx, &RULE, Fault::NameCaptured, &describe, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{BodyWay, Command};

    #[test]
    fn column_that_is_compared_with_itself_is_reported() {
        let mut world = World::conforming();
        let way = BodyWay { captured: Some("id".to_owned()), ..BodyWay::default() };
        world.reach("authenticated", Command::Delete, way);
        assert_eq!(
            world.details(&RULE),
            ["error: Function ops.complete_outbox_message(uuid) lets role \"authenticated\" \
                 delete rows of table public.judgments that are not tied to the caller: id = id \
                 compares a column with itself."]
        );
        assert_eq!(world.details(&super::super::definer_body_unscoped::RULE), [""; 0]);
    }
}
