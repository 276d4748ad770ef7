//! A SECURITY DEFINER routine lets its caller choose who it is.

use super::context::Context;
use super::shared::definer_bodies::{self, argument};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::policy::identity::Kind;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::printable;
use serde_json::json;

/// The rule.
pub static RULE: Rule = Rule {
    id: "definer_sets_identity",
    title: "A SECURITY DEFINER routine lets its caller choose who it is",
    area: Area::Functions,
    severity: Severity::Error,
    guard: GuardAction::Warn,
    sqlstate: SqlState::InvalidFunctionDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No SECURITY DEFINER routine that a client may execute sets a parameter that \
             says who the caller is, or one whose name is computed, to something that is \
             made of an argument. The parameters are those that identity of the contract \
             declares, those of PostgREST with the claims, and those that conditions of \
             policies ask for. Where the body tests the argument first, this is \
             information.",
    why: "Policies trust the parameter: with another user or tenant in it, the caller \
             reaches the rows of that one.",
    fix: "Set the parameter to what the database knows of the caller, or revoke EXECUTE \
             from clients.",
    exempt: "A routine that checks a secret that the caller passes.",
    exempt_by_pattern: true,
    example: Example {
        violating: "CREATE FUNCTION api.act_as(who text) RETURNS void LANGUAGE plpgsql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN PERFORM \
                    set_config('request.jwt.claims', json_build_object('sub', who)::text, \
                    true); END $$; ALTER FUNCTION api.act_as(text) OWNER TO postgres; REVOKE \
                    EXECUTE ON FUNCTION api.act_as(text) FROM PUBLIC; GRANT EXECUTE ON \
                    FUNCTION api.act_as(text) TO anon, authenticated, service_role;",
        correct: "CREATE FUNCTION api.act_as(who text) RETURNS void LANGUAGE plpgsql \
                    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN PERFORM \
                    set_config('app.request_id', who, true); END $$; ALTER FUNCTION \
                    api.act_as(text) OWNER TO postgres; REVOKE EXECUTE ON FUNCTION \
                    api.act_as(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION api.act_as(text) \
                    TO anon, authenticated, service_role;",
    },
    references: &["CWE-290", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let identities = cx.contract.identities();
    let is_identity = |name: &str| {
        let kind = identities.setting(name).kind;
        !matches!(kind, Kind::Settable | Kind::Request) || is_asked(cx, name)
    };
    definer_bodies::each(cx, |routine, body, callers| {
        for set in &body.parameters {
            if !set.name.as_deref().is_none_or(is_identity) {
                continue;
            }
            let parameter = match &set.name {
                Some(name) => format!("parameter {}", printable(name)),
                None => "a parameter with a computed name".to_owned(),
            };
            let what = format!(
                "choose the value of {parameter}: it is set to what is made of {}{}",
                argument(&set.argument),
                if set.is_tested { ", after a test" } else { "" }
            );
            let severity = if set.is_tested { Severity::Info } else { RULE.severity };
            let kind = set.name.as_deref().unwrap_or("computed");
            let evidence = json!({"parameter": set.name, "argument": set.argument});
            for role in callers {
                let (of, evidence) = ((routine, *role), evidence.clone());
                out.push(definer_bodies::draft(cx, &RULE, of, severity, (kind, &what), evidence));
            }
        }
    });
}

/// Whether a policy asks for the value of a parameter.
fn is_asked(cx: &Context<'_>, name: &str) -> bool {
    let open = cx.snapshot.exposures.iter().flat_map(|of| &of.exposure.open);
    let mut operands =
        open.flat_map(|open| &open.witness).flat_map(|[left, _, right]| [left, right]);
    operands.any(|operand| operand.contains(name))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{BodyWay, Command, SetParameter};

    #[test]
    fn parameter_that_says_who_the_caller_is_is_reported() {
        let mut world = World::conforming();
        world.reach("authenticated", Command::Select, BodyWay::default());
        let mut set = |name: Option<&str>| {
            let (name, argument) = (name.map(str::to_owned), "u".to_owned());
            let parameter = SetParameter { name, argument, is_tested: false };
            world.definer_body().parameters = [parameter].into();
            world.details(&RULE)
        };
        assert_eq!(
            set(Some("request.jwt.claims")),
            ["error: Function ops.complete_outbox_message(uuid) lets role \"authenticated\" \
                 choose the value of parameter request.jwt.claims: it is set to what is made of \
                 argument u."]
        );
        assert_eq!(set(None).len(), 1);
        assert_eq!(set(Some("app.request_id")), [""; 0]);
    }
}
