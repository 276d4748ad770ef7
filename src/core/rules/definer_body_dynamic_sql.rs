//! A SECURITY DEFINER routine executes SQL text that its caller chooses a part of.

use super::context::Context;
use super::shared::definer_bodies::{self, argument};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "definer_body_dynamic_sql",
    title: "A SECURITY DEFINER routine executes SQL text that its caller chooses a part of",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "In the body of a SECURITY DEFINER routine that a client may execute, no EXECUTE of \
             PL/pgSQL, and no function that executes its argument as SQL (such as query_to_xml and \
             ts_stat), has a text that is made of an argument or of a setting that the request \
             sets (such as request.headers): the value itself, a concatenation with it, or \
             format() with %s. Quoted arguments (%I, \
             %L, quote_ident, quote_literal), arguments of types such as integer and uuid, \
             and USING are allowed. Where the body tests the argument first, this is \
             information.",
    why: "What the caller writes is executed with the privileges of the owner of the \
             routine (SQL injection).",
    fix: "Pass values with USING, and quote names with format() and %I.",
    exempt: "A routine for administrators that executes what they write.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE FUNCTION api.find(word text) RETURNS SETOF bigint LANGUAGE plpgsql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN \
                    QUERY EXECUTE 'SELECT 1::bigint WHERE ''a'' = ''' || word || ''''; END $$; \
                    ALTER FUNCTION api.find(text) OWNER TO postgres; REVOKE EXECUTE ON \
                    FUNCTION api.find(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
                    api.find(text) TO anon, authenticated, service_role;",
        correct: "CREATE FUNCTION api.find(word text) RETURNS SETOF bigint LANGUAGE plpgsql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN \
                    QUERY EXECUTE 'SELECT 1::bigint WHERE ''a'' = $1' USING word; END $$; \
                    ALTER FUNCTION api.find(text) OWNER TO postgres; REVOKE EXECUTE ON \
                    FUNCTION api.find(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION \
                    api.find(text) TO anon, authenticated, service_role;",
    },
    references: &["CWE-89", "OWASP A03:2021"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    definer_bodies::each(cx, |routine, body, callers| {
        let Some(executed) = &body.executed else { return };
        let what = format!(
            "choose a part of the SQL text that it executes: {} is in it without quotes{}",
            argument(&executed.argument),
            if executed.is_tested { ", after a test" } else { "" }
        );
        let severity = if executed.is_tested { Severity::Info } else { RULE.severity };
        for role in callers {
            let evidence = json!({"argument": executed.argument, "tested": executed.is_tested});
            let text = ("EXECUTE", what.as_str());
            out.push(definer_bodies::draft(cx, &RULE, (routine, role), severity, text, evidence));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{BodyWay, Command, ExecutedText};

    #[test]
    fn text_of_an_argument_is_reported() {
        let mut world = World::conforming();
        world.reach("authenticated", Command::Select, BodyWay::default());
        let mut execute = |is_tested| {
            let body = world.definer_body();
            body.executed = Some(ExecutedText { argument: "q".to_owned(), is_tested });
            world.details(&RULE)
        };
        assert_eq!(
            execute(false),
            ["error: Function ops.complete_outbox_message(uuid) lets role \"authenticated\" \
                 choose a part of the SQL text that it executes: argument q is in it without \
                 quotes."]
        );
        assert!(execute(true)[0].starts_with("info: "));
    }
}
