//! Declarations that say that what a policy lets clients reach is meant. No state of the catalog
//! shows it, so that a person decides; that a declaration suffices is tried on the contract.

use super::accept::{Accepted, Attempt, amended, attempt_with};
use super::{Declaration, Name, Rows};
use crate::catalog::{Command, ObjectId, Relation};
use crate::contract::{ByRole, PolicyCommand, TableDecl};
use crate::finding::Finding;
use crate::rule::Area;
use crate::rules::Context;
use std::collections::{BTreeSet, HashSet};

/// How many declarations are tried.
const MOST_TRIED: usize = 100;

/// Returns the first of the declarations that the text of the rule names under which a finding
/// about a policy would not be one, and no other finding would appear; `None` where there is none.
#[must_use]
pub fn meant(cx: &Context<'_>, finding: &Finding) -> Option<Vec<Declaration>> {
    Some(first_enough(cx, finding, |_| true)?.declarations)
}

/// Does the same with the declarations that allow what the policy shows and nothing else:
/// `append_only_by` and `open_rows`. These accept the finding.
#[must_use]
pub fn meant_rows(cx: &Context<'_>, finding: &Finding) -> Option<Accepted> {
    first_enough(cx, finding, |one| {
        matches!(one, Declaration::Rows(_, Rows::AppendOnlyBy(_) | Rows::OpenRows(_)))
    })
}

/// Returns the first of some declarations under which a finding would not be one, and no other
/// finding would appear.
fn first_enough(
    cx: &Context<'_>,
    finding: &Finding,
    is_wanted: impl Fn(&Declaration) -> bool,
) -> Option<Accepted> {
    if finding.rule.area != Area::Policies {
        return None;
    }
    let known: HashSet<String> =
        cx.run(finding.rule).into_iter().map(|found| found.fingerprint).collect();
    // A part of it would be another finding.
    let is_of_it = |found: &Finding| {
        found.fingerprint == finding.fingerprint
            || !known.contains(&found.fingerprint)
                && found.object.identity == finding.object.identity
                && found.roles.iter().any(|role| finding.roles.contains(role))
    };
    let is_gone = |declarations: &[Declaration]| {
        let Some(contract) = amended(cx, declarations) else { return false };
        let declared = Context::new(&contract, cx.snapshot, cx.access, cx.interrupts);
        !declared.run(finding.rule).iter().any(is_of_it)
    };
    let wanted = candidates(cx, finding)?.into_iter().filter(is_wanted);
    let tried = wanted.take(MOST_TRIED).map(|one| vec![one]);
    let mut enough = tried.filter(|declarations| is_gone(declarations));
    enough.find_map(|declarations| {
        let Attempt { accepted, left, .. } = attempt_with(cx, &[finding], declarations)?;
        left.is_empty().then_some(accepted)
    })
}

/// Returns what can be declared about the rows of the table, the narrowest first.
fn candidates(cx: &Context<'_>, finding: &Finding) -> Option<Vec<Declaration>> {
    let relation = relation(cx, finding)?;
    let name = Name::new(cx.snapshot.schema_name(relation.schema), &relation.name);
    let table = cx.contract.table(&name.schema, &name.name)?;
    let says = |word: &str| finding.rule.fix.contains(word) || finding.rule.exempt.contains(word);
    let commands = commands(finding);
    let mut rows = Vec::new();
    if says("append_only_by") && commands.contains(&Command::Insert) {
        rows.push(Rows::AppendOnlyBy(with(&table.append_only_by, &finding.roles)));
    }
    if says("open_rows") {
        rows.extend(opened(relation, finding).into_iter().map(|columns| {
            let mut open = table.open_rows.clone();
            for role in &finding.roles {
                let known = open.entry(role.clone()).or_default();
                *known = with(known, &columns);
            }
            Rows::OpenRows(open)
        }));
    }
    if says("keys") {
        let keys = |column: &String| Rows::Keys(with(&table.keys, std::slice::from_ref(column)));
        rows.extend(relation.column_names.iter().map(keys));
    }
    let mut all: Vec<Declaration> =
        rows.into_iter().map(|rows| Declaration::Rows(name.clone(), rows)).collect();
    if says("privileged") {
        let others = cx.contract.tables.iter().filter(|table| !table.privileged);
        all.extend(others.map(|table| {
            let name = Name::new(&table.schema, &table.name);
            Declaration::Rows(name, Rows::Privileged(true))
        }));
    }
    if says("email_verified") {
        let path = ["identity", "email_verified"].map(str::to_owned);
        all.push(Declaration::Set(path.to_vec(), vec!["true".to_owned()]));
    }
    if says("all_rows") {
        all.push(Declaration::AllRowsOf(name, all_rows(table, finding, &commands)));
    }
    Some(all)
}

/// The table of the finding, or of its policy.
fn relation<'a>(cx: &Context<'a>, finding: &Finding) -> Option<&'a Relation> {
    match finding.object.id {
        ObjectId::Relation(oid) => cx.snapshot.relation(oid),
        ObjectId::Policy(oid) => {
            let policy = cx.snapshot.policies.iter().find(|policy| policy.oid == oid)?;
            cx.snapshot.relation(policy.relation)
        }
        _ => None,
    }
}

fn commands(finding: &Finding) -> Vec<Command> {
    let words = finding.evidence["commands"].as_array();
    let words: Vec<&str> = words.into_iter().flatten().filter_map(|one| one.as_str()).collect();
    Command::ALL.into_iter().filter(|command| words.contains(&command.as_str())).collect()
}

/// The columns that may open the row: those of the example, or else one of all.
fn opened(relation: &Relation, finding: &Finding) -> Vec<Vec<String>> {
    let witness = finding.evidence["witness"].as_array();
    let operands = witness.into_iter().flatten().filter_map(|one| one.as_array()).flatten();
    let columns = operands.filter_map(|text| text.as_str()?.strip_prefix("R."));
    let columns: BTreeSet<String> = columns
        .map(str::to_owned)
        .filter(|column| relation.column_names.contains(column))
        .collect();
    if columns.is_empty() {
        return relation.column_names.iter().map(|column| vec![column.clone()]).collect();
    }
    vec![columns.into_iter().collect()]
}

fn all_rows(table: &TableDecl, finding: &Finding, commands: &[Command]) -> ByRole<PolicyCommand> {
    let mut all = table.all_rows.clone().unwrap_or_default();
    for role in &finding.roles {
        let mut meant = table.all_rows_commands(role).unwrap_or_default();
        meant.extend(commands);
        all.insert(role.clone(), PolicyCommand::names_of(&meant));
    }
    all
}

/// Returns names with more of them, each once.
fn with(known: &[String], more: &[String]) -> Vec<String> {
    let more = more.iter().filter(|one| !known.contains(one));
    known.iter().chain(more).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Exposure, Open, Opening, Rows as Reached};
    use crate::rule::Rule;
    use crate::rules::testing::World;
    use crate::rules::{policy_open_without_identity, policy_row_open, policy_write_unchecked};

    /// Returns the statements that say that what a policy lets a client reach is meant.
    fn statements(
        rule: &'static Rule,
        (command, reached): (Command, Reached),
        opening: Opening,
    ) -> String {
        let mut world = World::conforming();
        world.relation("public.judgments").column_names = ["id".into(), "stage".into()].into();
        let witness = ["R.stage", "=", "'new'"].map(str::to_owned);
        let open = Open {
            is_flag: false,
            opening,
            columns: ["stage".to_owned()].into(),
            lookups: Some([].into()),
            witness: vec![witness],
            captured: None,
        };
        let exposure = Exposure { open: vec![open], ..Exposure::default() };
        world.expose("authenticated", command, reached, exposure);
        let finding = world.findings(rule).remove(0);
        let declarations = world.compared_with(&world, |cx, _| meant(cx, &finding));
        let declarations = declarations.unwrap_or_default();
        let statements: Vec<String> = declarations.iter().map(ToString::to_string).collect();
        statements.join("; ")
    }

    #[test]
    fn what_a_policy_opens_is_meant_by_the_narrowest_declaration_that_the_rule_names() {
        let insert = (Command::Insert, Reached::New);
        let select = (Command::Select, Reached::Existing);
        assert_eq!(
            statements(&policy_write_unchecked::RULE, insert, Opening::RowOpen),
            "ALTER TABLE public.judgments SET (contract.append_only_by = 'authenticated')"
        );
        assert_eq!(
            statements(&policy_row_open::RULE, select, Opening::RowOpen),
            "ALTER TABLE public.judgments SET (contract.open_rows = \
             '{\"authenticated\":[\"stage\"]}')"
        );
        assert_eq!(
            statements(&policy_open_without_identity::RULE, select, Opening::WithoutIdentity),
            "ALTER TABLE public.judgments SET (contract.all_rows = \
             '{\"authenticated\":[\"SELECT\"]}')"
        );
    }
}
