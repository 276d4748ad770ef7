//! What permissive policies let clients reach, for the rules about it.

use super::policies::policy_object;
use super::reached::of_role;
use crate::catalog::{
    Command, Exposure, Open, Opening, Policy, PolicyExposure, Relation, Role, Rows,
};
use crate::contract::{GuardAction, Severity, TableDecl};
use crate::finding::{Draft, Measure, Predicate, Verb};
use crate::fix::Fix;
use crate::rule::Rule;
use crate::rules::context::{Context, OfClient};
use crate::sql::{listed, quote_ident, safe_ident};
use serde_json::json;
use std::collections::BTreeSet;

/// What a policy lets a client reach with a command.
pub(crate) struct Exposed<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its table.
    pub relation: &'a Relation,
    /// The declaration of the table.
    pub table: Option<&'a TableDecl>,
    /// The client.
    pub role: &'a Role,
    /// The command.
    pub command: Command,
    /// The rows that are asked about.
    pub rows: Rows,
    /// What is reached.
    pub exposure: &'a Exposure,
    /// Whether another policy lets all of that through.
    pub is_covered: bool,
    /// The triggers that may change or refuse the row before it is written.
    pub triggers: &'a BTreeSet<String>,
}

/// What a rule says about a policy, a client and a command.
pub(crate) struct Fault {
    /// Distinguishes what a rule says about one policy and client.
    pub kind: String,
    /// The sentence, apart from policy, client and commands.
    pub sentence: Sentence,
    /// What holds for the rows: left operands, operators and right operands.
    pub witness: Vec<[String; 3]>,
    /// What is to be done, where that is more than the fix of the rule.
    pub proposal: Option<String>,
    /// Whether something else may prevent what is said: then it is a warning.
    pub may_be_prevented: bool,
    /// In which ways the client gets there, where there are several: another one is worse.
    pub ways: Vec<&'static str>,
}

/// A sentence about a policy, a client and commands.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Sentence {
    /// The policy lets the client SELECT this.
    Lets(String),
    /// The policy raises an error for the client on SELECT, because of this.
    Fails(String),
    /// The policy can raise an error for the client on SELECT, because of this.
    MayFail(String),
    /// The policy asks this of the client on SELECT.
    Asks(String),
}

impl Sentence {
    fn predicate(self, policy: &str, commands: &str) -> Predicate {
        let (verb, rest) = match self {
            Self::Lets(what) => ("lets", format!("{commands} {what}.")),
            Self::Fails(why) => ("raises an error for", format!("on {commands}: {why}.")),
            Self::MayFail(why) => ("can raise an error for", format!("on {commands}: {why}.")),
            Self::Asks(what) => ("decides for", format!("on {commands} {what}.")),
        };
        Predicate { verb: Verb::Of(format!("Policy {policy} {verb}")), rest }
    }
}

impl Fault {
    /// Returns what is said about a way in which rows pass: `what` and when, `why` that is wrong.
    pub fn of(open: &Open, what: &str, why: &str) -> Self {
        let when = when(&open.witness);
        Self {
            kind: open.opening.as_str().to_owned(),
            sentence: Sentence::Lets(format!("{what}{when}{why}")),
            witness: open.witness.clone(),
            proposal: None,
            may_be_prevented: false,
            ways: Vec::new(),
        }
    }

    /// Returns what is said without an example of a row.
    pub fn plain(kind: impl Into<String>, sentence: Sentence) -> Self {
        Self {
            kind: kind.into(),
            sentence,
            witness: Vec::new(),
            proposal: None,
            may_be_prevented: false,
            ways: Vec::new(),
        }
    }

    /// Returns what is said about a way in which rows of `of` are written, which `what` names: a
    /// trigger of the table may prevent it.
    pub fn of_write(of: &Exposed<'_>, open: &Open, what: &str) -> Self {
        if of.triggers.is_empty() {
            return Self::of(open, what, "");
        }
        let does = if of.rows == Rows::New { "set what they contain" } else { "refuse that" };
        let names: Vec<_> = of.triggers.iter().map(|name| safe_ident(name)).collect();
        let word = if names.len() == 1 { "trigger" } else { "triggers" };
        let why = format!("; {word} {} may {does}", listed(&names));
        Self { may_be_prevented: true, ..Self::of(open, what, &why) }
    }

    /// Returns the fault with what is to be done.
    pub fn with_proposal(self, proposal: String) -> Self {
        Self { proposal: Some(proposal), ..self }
    }
}

impl Exposed<'_> {
    /// Returns the ways in which rows pass that are not tied to the caller, and that the contract
    /// does not say are meant.
    pub fn openings(&self) -> Vec<Open> {
        if self.exposure.is_always_true && !self.reads() && !self.is_stated() {
            let open = Open { opening: Opening::IgnoresRow, ..Open::default() };
            return if self.is_meant(&open) { Vec::new() } else { vec![open] };
        }
        let openings = self.exposure.openings().into_iter().map(std::borrow::Cow::into_owned);
        openings.filter(|open| !self.is_meant(open)).collect()
    }

    /// Whether the contract declares a policy for the client and the command.
    pub fn is_declared(&self) -> bool {
        let declared = self.table.map(|table| table.policy_commands(&self.role.name));
        declared.is_some_and(|commands| commands.contains(&self.command))
    }

    /// Whether `rls_policy_always_true` reports a condition that is always true.
    fn is_stated(&self) -> bool {
        if self.is_declared() {
            self.table.is_some_and(|table| table.all_rows.is_some())
        } else {
            self.policy.always_true
        }
    }

    /// Returns the ways of one kind.
    pub fn of_kind(&self, opening: Opening) -> impl Iterator<Item = Open> {
        self.openings().into_iter().filter(move |open| open.opening == opening)
    }

    /// Whether rows are read.
    pub fn reads(&self) -> bool {
        self.command == Command::Select
    }

    /// Whether every row is meant for the role and the command.
    pub fn is_for_all(&self) -> bool {
        let commands = self.table.and_then(|table| table.all_rows_commands(&self.role.name));
        commands.is_some_and(|commands| commands.contains(&self.command))
    }

    fn is_meant(&self, open: &Open) -> bool {
        let Some(table) = self.table else { return false };
        let role = self.role.name.as_str();
        let is_of_row = matches!(
            open.opening,
            Opening::RowOpen | Opening::RowOpenByParent | Opening::NullRowOpen
        );
        let opens_row = || {
            let declared = table.open_rows.get(role);
            declared.is_some_and(|declared| open.columns.iter().all(|c| declared.contains(c)))
        };
        self.is_for_all()
            || (self.reads() && is_of_row && opens_row())
            || (self.command == Command::Insert
                && is_of_no_other_rule(open)
                && table.append_only_by.iter().any(|name| name == role))
    }

    /// Whether the contract says by which columns a row is its caller's, or does not declare the
    /// policy: then the rules apply with full severity.
    fn is_strict(&self) -> bool {
        self.table.is_some_and(|table| !table.keys.is_empty()) || !self.is_declared()
    }
}

/// Returns ` when `, and what holds; nothing where nothing does.
pub(crate) fn when(witness: &[[String; 3]]) -> String {
    const MOST: usize = 4;
    let mut parts: Vec<String> = witness.iter().take(MOST).map(comparison).collect();
    if witness.len() > MOST {
        let left = witness.len() - MOST;
        parts.push(format!("{left} more condition{}", if left == 1 { "" } else { "s" }));
    }
    if parts.is_empty() { String::new() } else { format!(" when {}", parts.join(" and ")) }
}

/// Returns a comparison, with the column of the policy's table first.
fn comparison([left, operator, right]: &[String; 3]) -> String {
    let turned = match operator.as_str() {
        "=" => Some("="),
        "<>" => Some("<>"),
        "<" => Some(">"),
        "<=" => Some(">="),
        ">" => Some("<"),
        ">=" => Some("<="),
        _ => None,
    };
    match turned {
        Some(turned) if right.starts_with("R.") && !left.starts_with("R.") => {
            format!("{} {turned} {}", operand(right), operand(left))
        }
        _ => format!("{} {operator} {}", operand(left), operand(right)),
    }
}

/// Returns an operand of a witness as a sentence names it: a column of the policy's table without
/// the row.
fn operand(text: &str) -> String {
    if text == "user" {
        return "the user".to_owned();
    }
    let text = text.strip_prefix("R.").unwrap_or(text);
    without_numbers(&text.replace("(R.", "(").replace(" R.", " "))
}

/// Returns a text with columns of further rows of one table as people name them: `app.m#2.tenant`
/// becomes `tenant of another row of app.m`.
fn without_numbers(text: &str) -> String {
    let (mut written, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('#') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let number = after[..digits].parse::<u32>();
        let column = number.ok().zip(after[digits..].strip_prefix('.'));
        let mut is_quoted = false;
        let is_end = |c: char| {
            is_quoted ^= c == '"';
            !is_quoted && matches!(c, ' ' | '(' | ',' | '\'' | '[')
        };
        let start = before.rfind(is_end).map_or(0, |end| end + 1);
        let is_literal = (written.matches('\'').count() + before.matches('\'').count()) % 2 == 1;
        let Some((number, of)) = column.filter(|_| start < at && !is_literal) else {
            written.push_str(&rest[..=at]);
            rest = after;
            continue;
        };
        let end = of.find([' ', ')', ',', '[', ']']).unwrap_or(of.len());
        let which = if number == 2 { "another row" } else { "yet another row" };
        let (table, column) = (&before[start..], &of[..end]);
        written.push_str(&before[..start]);
        written.push_str(&format!("{column} of {which} of {table}"));
        rest = &of[end..];
    }
    written + rest
}

/// Adds what `faults` returns about each permissive policy, client and command: one finding for
/// all commands with the same fault.
pub(crate) fn report(
    cx: &Context<'_>,
    rule: &Rule,
    faults: impl Fn(&Exposed<'_>) -> Vec<Fault>,
    out: &mut Vec<Draft>,
) {
    each(cx, |exposed| {
        let mut found: Vec<(Fault, Vec<&Exposed<'_>>)> = Vec::new();
        for of in exposed {
            for fault in faults(of) {
                match found
                    .iter_mut()
                    .find(|(known, _)| known.kind == fault.kind && known.sentence == fault.sentence)
                {
                    Some((_, with)) => with.push(of),
                    None => found.push((fault, vec![of])),
                }
            }
        }
        out.extend(found.into_iter().map(|(fault, with)| draft(cx, rule, fault, &with)));
    });
}

/// Returns a clause about the columns of lookups in a way that have the name of a column of the
/// table which the way does not ask for: that column may have been meant. Nothing about `id`, which
/// most tables have.
pub(crate) fn namesakes(of: &Exposed<'_>, open: &Open) -> String {
    let operands: Vec<&str> = open.witness.iter().flatten().map(String::as_str).collect();
    let is_asked = |column: &String| open.columns.contains(column);
    let is_of_lookup = |column: &String| {
        let end = format!(".{}", quote_ident(column));
        operands.iter().any(|operand| {
            operand.match_indices(&end).any(|(at, _)| {
                let after = operand[at + end.len()..].chars().next();
                let is_whole = after.is_none_or(|of| !of.is_alphanumeric() && of != '_');
                is_whole && !operand[..at].ends_with('R')
            })
        })
    };
    let columns = of.relation.column_names.iter();
    let mut same: Vec<String> = columns
        .filter(|column| *column != "id" && !is_asked(column) && is_of_lookup(column))
        .map(|column| quote_ident(column).into_owned())
        .collect();
    same.sort();
    match same.len() {
        0 => String::new(),
        1 => format!("; the policy's table has a column {}, too", same[0]),
        _ => format!("; the policy's table has columns {}, too", listed(&same)),
    }
}

/// Adds what a rule finds about one kind of opening, for each command; `why` says what is wrong
/// about it.
pub(crate) fn report_opening(
    cx: &Context<'_>,
    rule: &Rule,
    opening: Opening,
    why: &str,
    out: &mut Vec<Draft>,
) {
    let fault = |open: Open| Fault::of(&open, "rows of others", why);
    report(cx, rule, |of| of.of_kind(opening).map(fault).collect(), out);
}

/// Adds what a rule finds about one kind of opening for SELECT, by which a client reads `what`.
/// Other rules report it for the other commands.
pub(crate) fn report_read(
    cx: &Context<'_>,
    rule: &Rule,
    opening: Opening,
    what: &str,
    out: &mut Vec<Draft>,
) {
    let fault = |open: Open| Fault::of(&open, what, "");
    let of_reads =
        |of: &Exposed<'_>| of.of_kind(opening).filter(|_| of.reads()).map(fault).collect();
    report(cx, rule, of_reads, out);
}

/// Calls `work` with what each permissive policy lets each client reach.
pub(crate) fn each<'a>(cx: &Context<'a>, mut work: impl FnMut(&[Exposed<'a>])) {
    for of in cx.exposed.get_or_init(|| of_clients(cx)) {
        cx.check_interrupts();
        let snapshot = cx.snapshot;
        let Some(relation) = snapshot.relation(of.relation) else { continue };
        let schema = cx.governed(relation.schema);
        let table = schema.and_then(|schema| cx.contract.table(&schema.name, &relation.name));
        let exposed: Vec<Exposed<'a>> = of
            .exposures
            .iter()
            .map(|index| {
                let found = &snapshot.exposures[*index];
                Exposed {
                    policy: &snapshot.policies_of(relation.oid)[of.policy],
                    relation,
                    table,
                    role: cx.clients[of.role],
                    command: found.command,
                    rows: found.rows,
                    exposure: &found.exposure,
                    is_covered: found.covered_by.is_some(),
                    triggers: &found.triggers,
                }
            })
            .collect();
        work(&exposed);
    }
}

fn of_clients(cx: &Context<'_>) -> Vec<OfClient> {
    let (mut all, snapshot) = (Vec::new(), cx.snapshot);
    if snapshot.exposures.is_empty() {
        return all;
    }
    for (relation, _) in cx.relations().filter(|(relation, _)| relation.row_security) {
        cx.check_interrupts();
        let policies = snapshot.policies_of(relation.oid).iter().enumerate();
        for (number, policy) in policies.filter(|(_, policy)| policy.permissive) {
            let first = snapshot.exposures.partition_point(|of| of.policy < policy.oid);
            for (client, role) in cx.clients.iter().enumerate() {
                let mut updates = None;
                let mut is_asked = |of: &PolicyExposure| {
                    let is_new = (of.command, of.rows) == (Command::Update, Rows::New);
                    of.role == role.oid
                        && is_asked(cx, of, policy, relation, role)
                        && (!is_new
                            || *updates.get_or_insert_with(|| updates_some_row(cx, relation, role)))
                };
                let of_policy = snapshot.exposures[first..].iter().enumerate();
                let of_policy = of_policy.take_while(|(_, of)| of.policy == policy.oid);
                let exposures: Vec<usize> = of_policy
                    .filter(|(_, of)| is_asked(of))
                    .map(|(index, _)| first + index)
                    .collect();
                if !exposures.is_empty() {
                    all.push(OfClient {
                        relation: relation.oid,
                        policy: number,
                        role: client,
                        exposures,
                    });
                }
            }
        }
    }
    all
}

/// Whether a policy of a table lets a client update a row: without one, there is no new row.
fn updates_some_row(cx: &Context<'_>, relation: &Relation, role: &Role) -> bool {
    let policies = cx.snapshot.policies_of(relation.oid).iter().filter(|of| of.permissive);
    let existing = policies
        .filter_map(|policy| of_role(cx, policy, role, Command::Update, Rows::Existing))
        .collect::<Vec<_>>();
    existing.is_empty() || existing.iter().any(|of| !of.is_never_true)
}

/// Whether a policy applies to a client with the privilege that it is asked for: a plan may have
/// changed that.
fn is_asked(
    cx: &Context<'_>,
    found: &PolicyExposure,
    policy: &Policy,
    relation: &Relation,
    role: &Role,
) -> bool {
    policy.covers(found.command)
        && cx.access.policy_applies(policy, role.oid)
        && cx.has_privilege_on_a_column(role, relation, found.command.privilege())
}

fn draft(cx: &Context<'_>, rule: &Rule, fault: Fault, with: &[&Exposed<'_>]) -> Draft {
    let [first, ..] = with else { unreachable!("a fault is about a command") };
    let mut commands: Vec<&str> = with.iter().map(|of| of.command.as_str()).collect();
    commands.dedup();
    let (name, table) = (safe_ident(&first.policy.name), cx.snapshot.relation_sql(first.relation));
    let of = format!("{name} on table {table}");
    let predicate = fault.sentence.predicate(&of, &listed(&commands));
    let is_strict = with.iter().any(|of| of.is_strict());
    let is_strict = is_strict && !fault.may_be_prevented;
    let severity = if is_strict { rule.severity } else { rule.severity.min(Severity::Warning) };
    // The guard compares the tables of which the contract says by which columns a row is its
    // caller's.
    let has_keys = first.table.is_some_and(|table| !table.keys.is_empty());
    let action = match (has_keys, fault.may_be_prevented) {
        (true, false) => GuardAction::Block,
        (true, true) => GuardAction::Warn,
        (false, _) => GuardAction::Audit,
    };
    let mut evidence = json!({"commands": commands});
    if !fault.witness.is_empty() {
        evidence["witness"] = json!(fault.witness);
    }
    let clause = if with.iter().all(|of| of.rows == Rows::New) { "WITH CHECK" } else { "USING" };
    let proposal = match &fault.proposal {
        Some(sql) if sql.ends_with(';') => format!("{}\n{sql}", rule.fix),
        of => {
            let text = of.as_deref().unwrap_or(rule.fix);
            format!("{text}\nALTER POLICY {name} ON {table} {clause} (...);")
        }
    };
    let grantee = (first.role.oid, first.role.name.as_str());
    let object = policy_object(cx, first.policy, first.relation);
    let kind = [fault.ways.join(" "), fault.kind.clone()].join(" ");
    let key = format!("{} {}", commands.join(", "), kind.trim_start());
    commands.extend(fault.ways);
    Draft::of_grantee(object, severity, grantee, predicate)
        .key(key)
        .evidence(evidence)
        .fix(Fix::Proposal(proposal))
        .measure(Measure::excess(fault.kind, commands).limited_to(action).due_at_commit())
}

/// Whether no rule of its own reports what opens rows: rules about commands do.
pub(crate) fn is_of_no_other_rule(open: &Open) -> bool {
    matches!(
        open.opening,
        Opening::RowOpen
            | Opening::RowOpenByParent
            | Opening::NullRowOpen
            | Opening::WithoutIdentity
            | Opening::IgnoresRow
    )
}

/// Whether a role has the privilege for a command on a column.
pub(crate) fn can_write(
    cx: &Context<'_>,
    relation: &Relation,
    role: &Role,
    command: Command,
    column: &str,
) -> bool {
    cx.access.column_privileges(role.oid, relation, column).contains(command.privilege())
}

/// Whether the contract declares that each of some tables lists callers with a right.
pub(crate) fn is_of_privileged(cx: &Context<'_>, tables: &BTreeSet<String>) -> bool {
    let is_privileged = |name: &String| {
        let declared = cx.contract.tables.iter().filter(|table| table.privileged);
        declared.into_iter().any(|table| {
            format!("{}.{}", quote_ident(&table.schema), quote_ident(&table.name)) == *name
        })
    };
    tables.iter().all(is_privileged)
}

#[cfg(test)]
mod tests {
    use super::{when, without_numbers};

    fn part(left: &str, operator: &str, right: &str) -> [String; 3] {
        [left, operator, right].map(str::to_owned)
    }

    #[test]
    fn further_rows_of_a_table_are_named_in_words() {
        for (witness, text) in [
            ("app.m.tenant", "app.m.tenant"),
            ("app.m#2.tenant", "tenant of another row of app.m"),
            ("lower(app.\"a b\"#3.role)", "lower(role of yet another row of app.\"a b\")"),
            ("'a#2.b'", "'a#2.b'"),
            ("data #>> '{a}'", "data #>> '{a}'"),
        ] {
            assert_eq!(without_numbers(witness), text);
        }
    }

    #[test]
    fn conditions_that_are_left_out_are_counted() {
        let one = part("R.a", "=", "1");
        let all: Vec<_> = std::iter::repeat_n(one, 6).collect();
        assert_eq!(when(&all), " when a = 1 and a = 1 and a = 1 and a = 1 and 2 more conditions");
        assert!(when(&all[..5]).ends_with(" and 1 more condition"));
    }
}
