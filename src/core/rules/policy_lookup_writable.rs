//! A policy believes a row that the client can write.

use super::context::Context;
use super::shared::exposed::{self, Exposed, Fault, Sentence};
use crate::catalog::{Command, Forgeable, Free};
use crate::contract::{GuardAction, Severity};
use crate::finding::Draft;
use crate::rule::{Area, Example, Recheck, Rule, SqlState};
use crate::sql::listed_as_alternatives;
use std::collections::{BTreeMap, BTreeSet};

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
             neither the table itself, nor by way of views, rules, parents and partitions. Nor \
             can the client make a row of others its own, by UPDATE of the columns that say whose \
             row it is. A value that each row has which the client may insert is no right, and \
             who has such a row already gains nothing. It concerns permissive policies of \
             governed tables with row security, for clients, and no command for which all_rows of \
             the table says that every row is meant.",
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
        let mut tables = BTreeMap::<&str, Vec<&Forgeable>>::new();
        for forgeable in of.exposure.forgeable.iter().filter(|_| is_reached) {
            tables.entry(&forgeable.table).or_default().push(forgeable);
        }
        tables.into_iter().map(|(table, ways)| fault(table, &ways)).collect()
    };
    exposed::report(cx, &RULE, faults, out);
}

/// Returns what is said about a table that is written in some ways.
fn fault(table: &str, ways: &[&Forgeable]) -> Fault {
    let written = |of: &Forgeable| (of.columns.clone(), of.through.clone(), of.why);
    let what = match ways {
        [first, rest @ ..] if rest.iter().all(|of| written(of) == written(first)) => {
            let commands: BTreeSet<&str> = ways.iter().map(|of| of.command.as_str()).collect();
            let commands: Vec<&str> = commands.into_iter().collect();
            let of = first.what(&listed_as_alternatives(&commands));
            format!("{of}: {}", why(first))
        }
        _ => {
            let each = ways.iter().map(|of| {
                let what = of.what(of.command.as_str());
                format!("{what} ({})", why(of))
            });
            listed_as_alternatives(&each.collect::<Vec<_>>())
        }
    };
    let commands: BTreeSet<Command> = ways.iter().map(|of| of.command).collect();
    let after = |of| if of == Command::Insert { "after INSERT" } else { "after UPDATE" };
    Fault {
        ways: commands.into_iter().map(after).collect(),
        ..Fault::plain(table, Sentence::Lets(format!("rows of others after {what}")))
    }
}

fn why(of: &Forgeable) -> &'static str {
    match of.why {
        Free::Unrestricted if of.through.is_some() => "no policy restricts that",
        Free::Unrestricted => "row security is not enabled there",
        Free::AnyValue => "who passes the policies there chooses the value",
        Free::AnyRow => "the policies there let the role update rows of others",
        Free::EachRow => "each row that the role may insert has that value",
    }
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
        let exposure = Exposure { forgeable: [forgeable.clone()].into(), ..Exposure::default() };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure.clone());
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others after INSERT of tenant on app.members: row security is not \
             enabled there."]
        );
        let both = [forgeable.clone(), Forgeable { command: Command::Update, ..forgeable.clone() }];
        let exposure = Exposure { forgeable: both.into(), ..exposure };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure.clone());
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others after INSERT or UPDATE of tenant on app.members: row security is \
             not enabled there."]
        );
        let other = Forgeable {
            command: Command::Update,
            columns: ["role".to_owned()].into(),
            why: Free::AnyValue,
            ..forgeable.clone()
        };
        let exposure = Exposure { forgeable: [forgeable, other].into(), ..exposure };
        world.expose("authenticated", Command::Select, Rows::Existing, exposure.clone());
        assert_eq!(
            world.details(&RULE),
            ["warning: Policy p on table public.judgments lets role \"authenticated\" SELECT \
             rows of others after INSERT of tenant on app.members (row security is not enabled \
             there) or UPDATE of role on app.members (who passes the policies there chooses \
             the value)."]
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
