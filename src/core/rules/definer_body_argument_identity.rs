//! A SECURITY DEFINER routine takes from an argument who its caller is.

use super::context::Context;
use super::shared::definer_bodies::{self, Fault, when_of};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "definer_body_argument_identity",
    title: "A SECURITY DEFINER routine takes from an argument who its caller is",
    area: Area::Functions,
    severity: Severity::Warning,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "In the body of a SECURITY DEFINER routine that a client may execute, no \
             argument is compared with the column by which a row of a governed table \
             belongs to its owner, unless the row is tied to the caller as well. The \
             columns are those in keys of the table, and those by which policies tie rows \
             to the caller. Where the routine only answers yes or no, this is information.",
    why: "The caller chooses the argument: a default such as auth.uid() is no condition.",
    fix: "Compare the column with the caller and not with the argument, or compare the \
             argument with the caller first.",
    exempt: "A routine that looks up what anyone may know about anyone.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY batches_read ON intake.simplicity_batches USING \
                    (file_name = (SELECT current_setting('request.jwt.claims', \
                    true)::json ->> 'sub')); CREATE FUNCTION api.batches(owner text) \
                    RETURNS SETOF intake.simplicity_batches LANGUAGE sql SECURITY DEFINER \
                    SET search_path = pg_catalog, pg_temp AS $$ SELECT * FROM \
                    intake.simplicity_batches WHERE file_name = owner $$; ALTER FUNCTION \
                    api.batches(text) OWNER TO postgres; REVOKE EXECUTE ON FUNCTION \
                    api.batches(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
                    api.batches(text) TO anon, authenticated, service_role;",
        correct: "ALTER POLICY batches_read ON intake.simplicity_batches USING (file_name \
                  = (SELECT current_setting('request.jwt.claims', true)::json ->> \
                  'sub')); CREATE FUNCTION api.batches() RETURNS SETOF \
                  intake.simplicity_batches LANGUAGE sql SECURITY DEFINER SET search_path \
                  = pg_catalog, pg_temp AS $$ SELECT * FROM intake.simplicity_batches \
                  WHERE file_name = (SELECT current_setting('request.jwt.claims', \
                  true)::json ->> 'sub') $$; ALTER FUNCTION api.batches() OWNER TO \
                  postgres; REVOKE EXECUTE ON FUNCTION api.batches() FROM PUBLIC; GRANT \
                  EXECUTE ON FUNCTION api.batches() TO anon, authenticated, service_role;",
    },
    references: &["CWE-639", "OWASP API1:2023"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let describe =
        |way: &crate::catalog::BodyWay| format!("that only an argument ties{}", when_of(way));
    definer_bodies::report(cx, &RULE, Fault::ByArgument, &describe, out);
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{BodyWay, Command, Opening};

    #[test]
    fn argument_in_the_place_of_the_caller_is_reported() {
        let mut world = World::conforming();
        let way = BodyWay {
            opening: Opening::RowOpen,
            by_argument: ["case_number".to_owned()].into(),
            has_argument: true,
            witness: vec![["R.case_number", "=", "argument u"].map(str::to_owned)],
            ..BodyWay::default()
        };
        world.reach("anon", Command::Select, way);
        // No column says whose rows they are.
        assert_eq!(world.details(&RULE), [""; 0]);
        let tables = world.contract.tables.iter_mut();
        tables.for_each(|table| table.keys = vec!["case_number".into()]);
        assert_eq!(
            world.details(&RULE),
            ["warning: Function ops.complete_outbox_message(uuid) lets role \"anon\" read rows \
                 of table public.judgments that only an argument ties when case_number = argument \
                 u."]
        );
    }
}
