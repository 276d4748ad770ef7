//! A SECURITY DEFINER routine reaches rows that are not tied to its caller.

use super::context::Context;
use super::shared::definer_bodies::{self, Fault, when_of};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "definer_body_unscoped",
    title: "A SECURITY DEFINER routine reaches rows that are not tied to its caller",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "In the body of a SECURITY DEFINER routine that a client may execute, each row \
             of a governed table with row security that does not apply to the owner is tied \
             to the caller: rows that are read, updated and deleted, and rows that are \
             inserted with arguments. Not reported are rows that policies let the client \
             reach anyway, and routines with all_rows in the contract. A body with \
             statements other than SQL, and one that calls what is not known, is \
             information, if it names such a table.",
    why: "The routine is executed as its owner, so that no policy limits it: its body is \
             the only condition.",
    fix: "Compare a column with the caller, or make the routine SECURITY INVOKER. Where \
             every row is meant, declare all_rows for the routine.",
    exempt: "A routine with aggregates for everyone. Declare all_rows for it instead.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE FUNCTION api.jobs() RETURNS SETOF public.job_queue LANGUAGE sql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT * FROM \
                    public.job_queue $$; ALTER FUNCTION api.jobs() OWNER TO postgres; REVOKE \
                    EXECUTE ON FUNCTION api.jobs() FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
                    api.jobs() TO anon, authenticated, service_role;",
        correct: "CREATE FUNCTION api.jobs() RETURNS SETOF public.job_queue LANGUAGE sql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT * FROM \
                    public.job_queue WHERE kind = current_setting('request.jwt.claims', \
                    true)::json ->> 'sub' $$; ALTER FUNCTION api.jobs() OWNER TO postgres; \
                    REVOKE EXECUTE ON FUNCTION api.jobs() FROM PUBLIC; GRANT EXECUTE ON \
                    FUNCTION api.jobs() TO anon, authenticated, service_role;",
    },
    references: &["CWE-863", "OWASP API1:2023"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let describe =
        |way: &crate::catalog::BodyWay| format!("that are not tied to the caller{}", when_of(way));
    definer_bodies::report(cx, &RULE, Fault::Unscoped, &describe, out);
    definer_bodies::report_unread(cx, &RULE, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{BodyWay, Command, DefinerBody, Exposure, Opening, Rows};

    #[test]
    fn rows_of_others_are_reported_for_the_client() {
        let mut world = World::conforming();
        world.reach("authenticated", Command::Update, BodyWay::default());
        assert_eq!(
            world.details(&RULE),
            ["warning: Function ops.complete_outbox_message(uuid) lets role \"authenticated\" \
                 update rows of table public.judgments that are not tied to the caller."]
        );
    }

    #[test]
    fn routine_is_declared_to_reach_all_rows() {
        let mut world = World::conforming();
        world.reach("authenticated", Command::Update, BodyWay::default());
        let functions = world.contract.functions.iter_mut();
        functions.for_each(|function| function.all_rows = true);
        assert_eq!(world.details(&RULE), [""; 0]);
    }

    #[test]
    fn rows_that_a_value_opens_are_information() {
        let mut world = World::conforming();
        let columns = ["stage".to_owned()].into();
        let way = BodyWay { opening: Opening::RowOpen, columns, ..BodyWay::default() };
        world.reach("anon", Command::Select, way);
        let details = world.details(&RULE);
        assert!(details[0].starts_with("info: "), "{details:?}");
    }

    #[test]
    fn body_that_is_not_read_is_reported_for_clients_that_do_not_reach_what_it_does() {
        let found = |written: &[Command]| {
            let mut world = World::conforming();
            world.reach("authenticated", Command::Select, BodyWay::default());
            let relation = world.relation("public.judgments").oid;
            let body = world.definer_body();
            let routine = body.routine;
            let unread = Some("it has statements that are not SQL".to_owned());
            let written = written.iter().map(|command| (relation, *command)).collect();
            let named = vec![relation];
            *body = DefinerBody { routine, unread, named, written, ..DefinerBody::default() };
            let all = Exposure { is_always_true: true, ..Exposure::default() };
            world.expose("authenticated", Command::Select, Rows::Existing, all);
            world.details(&RULE).len()
        };
        assert_eq!(found(&[]), 0, "it reads every row anyway");
        assert_eq!(found(&[Command::Insert]), 1);
    }

    #[test]
    fn row_without_an_argument_may_be_inserted() {
        let mut world = World::conforming();
        world.reach("authenticated", Command::Insert, BodyWay::default());
        assert_eq!(world.details(&RULE), [""; 0]);
        let null = |of: &str| [of, "IS", "NULL"].map(str::to_owned);
        let way = BodyWay { has_argument: true, ..BodyWay::default() };
        let witness = vec![null("R.owner"), null("user")];
        world.reach("anon", Command::Insert, BodyWay { witness, ..way.clone() });
        assert_eq!(world.details(&RULE), [""; 0], "it is the row of no caller");
        let witness = vec![null("user")];
        world.reach("anon", Command::Insert, BodyWay { witness, ..way.clone() });
        world.reach("authenticated", Command::Insert, way);
        assert_eq!(world.details(&RULE).len(), 1);
    }

    #[test]
    fn what_is_not_known_is_not_reported() {
        let mut world = World::conforming();
        let way = BodyWay { opening: Opening::Opaque, ..BodyWay::default() };
        world.reach("authenticated", Command::Update, way);
        assert_eq!(world.details(&RULE), [""; 0]);
    }
}
