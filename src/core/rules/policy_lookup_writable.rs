//! A policy believes a row that the client can write.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::catalog::{Forgeable, Free};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};

/// The rule.
pub static RULE: Rule = Rule {
    id: "policy_lookup_writable",
    title: "A policy believes a row that the client can write",
    area: Area::Policies,
    severity: Severity::Error,
    guard: GuardAction::Block,
    sqlstate: SqlState::InvalidObjectDefinition,
    recheck: Recheck::ChangedObjects,
    breaks_declared: false,
    checks: "No row of another table by which a policy ties rows to the caller, or gives the \
             caller a right, can be written by the client with values that the policy asks for: \
             neither the table itself, nor by way of views, rules, parents and partitions. A \
             value that each row has which the client may insert is no right, and who has such a \
             row already gains nothing. It concerns permissive policies of governed tables with \
             row security, for clients, and no command for which all_rows of the table says that \
             every row is meant.",
    why: "A caller who can insert a membership, or point the own one at another tenant, reads \
          that tenant's rows.",
    fix: "Revoke INSERT and UPDATE on those columns from the client, or check new rows: WITH \
          CHECK must tie them to something that the client does not choose.",
    exempt: "A table in which callers may enlist themselves, and that opens nothing confidential.",
    exempt_by_pattern: true,
    example: Example {
        violating: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                    FROM intake.simplicity_batches b WHERE b.id::text = (SELECT \
                    current_setting('request.jwt.claims', true)::json ->> 'sub') AND \
                    b.file_name = judgments.case_number));",
        correct: "ALTER POLICY judgments_read ON public.judgments USING (EXISTS (SELECT \
                  FROM public.plaintiffs p WHERE p.name = (SELECT \
                  current_setting('request.jwt.claims', true)::json ->> 'sub') AND \
                  p.status = judgments.case_number));",
    },
    references: &["CWE-269", "CWE-863"],
};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Draft>) {
    let faults = |of: &Exposed<'_>| -> Vec<Fault> {
        // Of a policy that raises an error, no row is reached.
        let is_reached = !of.is_for_all() && !of.exposure.fails();
        let forgeable = of.exposure.forgeable.iter().filter(|_| is_reached);
        forgeable.map(fault).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

fn fault(of: &Forgeable) -> Fault {
    let why = match of.why {
        Free::Unrestricted if of.through.is_some() => "no policy restricts that",
        Free::Unrestricted => "row security is not enabled there",
        Free::AnyValue => "the policies there allow any value",
        Free::EachRow => "each row that the role may insert has that value",
    };
    let what = format!("rows of others after {}: {why}", of.what());
    let kind = match &of.through {
        Some(through) => format!("{} {} {through}", of.command.as_str(), of.table),
        None => format!("{} {}", of.command.as_str(), of.table),
    };
    Fault::plain(kind, Sentence::Lets(what))
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::RULE;
    use crate::catalog::{Command, Exposure, Forgeable, Free, Rows};

    #[test]
    fn policy_lookup_writable_is_reported_for_the_client() {
        let mut world = World::conforming();
        let forgeable = Forgeable {
            command: Command::Insert,
            table: "app.members".into(),
            columns: ["tenant".to_owned()].into(),
            through: None,
            why: Free::Unrestricted,
        };
        let exposure = Exposure { forgeable: [forgeable].into(), ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure.clone());
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others after INSERT of tenant on app.members: row security is not \
             enabled there."]
        );
        let recursive = ["public.judgments".to_owned()].into();
        world.expose(
            "authenticated",
            Command::Select,
            Rows::Existing,
            Exposure { recursive, ..exposure },
        );
        assert_eq!(world.details(&RULE), [""; 0], "reading raises an error");
    }
}
