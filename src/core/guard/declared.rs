//! What a contract would have to say so that it allows what a transaction does. Whether it would is
//! tried on the contract, never assumed.

use super::calls::exempt_calls;
use super::change::{Change, Regression};
use super::reach::{reaches_further, without_dropped_with_schema};
use crate::access::Access;
use crate::catalog::{ObjectId, Oid, Policy, Snapshot};
use crate::contract::{Contract, GuardAction};
use crate::declare::{
    Declaration, Grant, Name, On, PolicyHeader, RowSecurity, Target, add, amended, candidates,
    contradicts, declare_call, for_created, meant_rows, reported,
};
use crate::finding::Finding;
use crate::rule::Recheck;
use crate::rules::{Context, rls_disabled, rls_policy_missing};
use crate::sql::call_running;
use std::cell::{OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

/// Declarations under which a contract would allow some findings, and what has to be done beside
/// that so that none is left.
#[derive(Debug, Clone)]
pub struct Declared {
    /// The fingerprints of the findings.
    findings: HashSet<String>,
    /// The declarations.
    declarations: Vec<Declaration>,
    /// The calls that exempt what no contract can allow on objects that existed before.
    exempt: Vec<String>,
    /// The statements that fix what no contract can allow on new objects: EXECUTE of PUBLIC, tables
    /// without row security.
    afterwards: Vec<String>,
    /// The statements that have to be executed in the same transaction.
    together: Vec<String>,
    /// The statements of the call of `ops.declare()` that has executed what is rejected.
    again: Option<String>,
}

/// How many bytes the call of `ops.declare()` in a HINT has at most.
const LONGEST_CALL: usize = 2_000;

/// How often declarations are tried together with what a new role may do already: what is declared
/// for it may need something else.
const MOST_ROUNDS: usize = 3;

/// How many calls that exempt what remains a HINT has.
const MOST_REMAINING: usize = 12;

/// The two states that a guarded transaction is compared by.
#[derive(Clone, Copy)]
pub struct States<'a> {
    /// The catalog without the changes of the transaction.
    pub before: &'a Context<'a>,
    /// The catalog with them.
    pub after: &'a Context<'a>,
    /// The routines on which the transaction has granted EXECUTE to PUBLIC.
    pub granted_to_public: &'a HashSet<Oid>,
    /// Reads both states of the whole catalog; `None` where the two contexts show it.
    pub whole: &'a dyn Fn() -> Option<[Snapshot; 2]>,
    /// Whether a finding is exempt.
    pub is_exempt: &'a dyn Fn(&Context<'_>, &Finding) -> bool,
}

impl Declared {
    /// Returns the declarations for findings of regressions; `None` where no contract can allow
    /// them.
    #[must_use]
    pub fn of(states: States<'_>, regressions: &[&Regression]) -> Option<Self> {
        if regressions.is_empty() {
            return None;
        }
        let States { before, after, .. } = states;
        let declarations = declarations(before, after, regressions)?;
        let whole = reaches_further(&declarations).then(states.whole).flatten();
        let access = whole.as_ref().map(|[earlier, later]| [earlier, later].map(Access::new));
        let context =
            |snapshot, access| Context::new(before.contract, snapshot, access, before.interrupts);
        let whole = match (&whole, &access) {
            (Some([earlier, later]), Some([was, is])) => {
                Some([context(earlier, was), context(later, is)])
            }
            _ => None,
        };
        let [old, new, known] = match &whole {
            Some([old, new]) => [old, new, old],
            None => [before, after, after],
        };
        let left = Left::of(old, known, regressions, states.is_exempt);
        let Found { declarations, contract, left } = Found::of(new, declarations, &left)?;
        // Some findings are less severe where the contract declares what they are about.
        let is_left = |regression: &&Regression| {
            let Regression { finding, audited, .. } = regression;
            left.iter().map(|left| &left.finding).any(|left| {
                left.severity >= audited.severity
                    && [finding, audited].iter().any(|one| one.fingerprint == left.fingerprint)
            })
        };
        if contract == *before.contract || regressions.iter().all(is_left) {
            return None;
        }
        let old = Context::new(&contract, before.snapshot, before.access, before.interrupts);
        let new = Context::new(&contract, after.snapshot, after.access, after.interrupts);
        let change =
            Change::new(&old, &new).with_grants_to_public(states.granted_to_public.clone());
        let rejected = Rejected::by(&change);
        let mut declared = Self::following(regressions, declarations, vec![], vec![]);
        left.into_iter().try_for_each(|left| declared.add(states, &rejected, &left))?;
        Some(declared)
    }

    /// Adds what has to be done about a finding that is left; `None` where nothing helps.
    fn add(
        &mut self,
        states: States<'_>,
        rejected: &Rejected<'_, '_>,
        left: &LeftOver,
    ) -> Option<()> {
        if rejected.contains(&left.finding) {
            return None;
        }
        let fix = fix_of_new(states.after, &left.finding).filter(|_| left.is_new);
        if let Some(sql) = fix {
            self.afterwards.push(sql.replace('\n', " "));
        } else if left.is_added {
            let calls = exempt_calls(&left.finding)?;
            // Where a role exists after the transaction only, nothing could be exempted before.
            let list = if has_new_role(states.before.snapshot, &left.finding) {
                &mut self.afterwards
            } else {
                &mut self.exempt
            };
            for call in calls {
                if !list.contains(&call) {
                    list.push(call);
                }
            }
        }
        Some(())
    }

    /// Returns declarations under which a contract allows some findings: with the calls that exempt
    /// what remains, and with the statements that have to be executed in the same transaction,
    /// `together`.
    pub(crate) fn following(
        regressions: &[&Regression],
        declarations: Vec<Declaration>,
        exempt: Vec<String>,
        together: Vec<String>,
    ) -> Self {
        let findings = regressions.iter().map(|r| r.finding.fingerprint.clone()).collect();
        Self { findings, declarations, exempt, afterwards: vec![], together, again: None }
    }

    /// Returns the declarations.
    pub(crate) fn declarations(&self) -> &[Declaration] {
        &self.declarations
    }

    /// Returns the statements that have to be executed in the same transaction.
    pub(super) fn together(&self) -> &[String] {
        &self.together
    }

    /// Whether it follows what has been renamed.
    pub(super) fn follows(&self) -> bool {
        self.declarations.iter().any(is_rename)
    }

    /// Whether the declarations allow all of some regressions.
    #[must_use]
    pub fn covers(&self, regressions: &[&Regression]) -> bool {
        regressions.iter().all(|r| self.findings.contains(&r.finding.fingerprint))
    }

    /// Whether it can be declared: the name of a policy that has been dropped means nothing.
    pub(super) fn is_possible(&self, is_done: bool) -> bool {
        let drops = |one: &Declaration| matches!(one, Declaration::DropPolicy(_));
        !is_done || !self.declarations.iter().any(drops)
    }

    /// Sets the statements of the call of `ops.declare()` that has executed what is rejected.
    pub(super) fn called_with(&mut self, statements: &str) {
        self.again = Some(statements.to_owned());
    }

    /// Whether the call that declares it repeats one that has been rejected.
    pub(super) fn is_called_again(&self) -> bool {
        self.again.is_some()
    }

    /// Returns the rejected call with the declarations. It executes them: what exists is declared
    /// by the statements themselves, or by a call before it.
    fn call_again(&self, statements: &str) -> String {
        let is_of_role = |one: &&Declaration| {
            matches!(
                one,
                Declaration::Create(Target::Role(_) | Target::Schema(_))
                    | Declaration::Attributes(..)
                    | Declaration::Kind(..)
            )
        };
        let is_created = |one: &Declaration| {
            matches!(
                one,
                Declaration::Create(_)
                    | Declaration::CreateView { .. }
                    | Declaration::CreateFunction { .. }
            )
        };
        let (first, rest): (Vec<&Declaration>, Vec<&Declaration>) =
            self.declarations.iter().partition(is_of_role);
        let rest = rest.into_iter().filter(|one| !is_created(one)).map(ToString::to_string);
        let call = call_running(&with_more(statements, &rest.collect::<Vec<_>>()));
        if first.is_empty() {
            return call;
        }
        format!("{}\n{call}", declare_call(&first.into_iter().cloned().collect::<Vec<_>>()))
    }

    /// Returns the call that declares it, followed by what has to be done beside that. `None` where
    /// the call is too long for a HINT. `is_done`: the statement has been executed.
    pub(super) fn calls(&self, is_done: bool) -> Option<String> {
        let call = match &self.again {
            None => declare_call(&self.declarations),
            Some(statements) => self.call_again(statements),
        };
        if call.len() > LONGEST_CALL + self.again.as_ref().map_or(0, String::len) {
            return None;
        }
        let mut text = call;
        if self.exempt.len() > MOST_REMAINING {
            text += &format!(
                "\nAnd exempt what remains, {} findings; after the call, this query lists them: \
                 SELECT * FROM ops.findings();",
                self.exempt.len()
            );
        } else if !self.exempt.is_empty() {
            let calls = self.exempt.iter().map(|call| format!("\n{call}"));
            let when = if self.declarations.iter().any(is_rename) {
                ", before the statement too; these names exist only after it"
            } else {
                ""
            };
            text += &format!("\nAnd exempt what remains{when}:{}", calls.collect::<String>());
        }
        let mut afterwards = self.afterwards.clone();
        if is_done {
            afterwards.extend(self.together.iter().cloned());
        }
        if !afterwards.is_empty() {
            let then = if is_done { "And run" } else { "After the statement, run" };
            text += &format!("\n{then}: {}", afterwards.join(" "));
        }
        Some(text)
    }
}

/// Declarations with the contract that they make, and the findings that are left with it.
struct Found {
    declarations: Vec<Declaration>,
    contract: Contract,
    left: Vec<LeftOver>,
}

impl Found {
    /// Tries declarations on the contract of `cx`, and with them what the roles that they create
    /// may do already.
    fn of(cx: &Context<'_>, declarations: Vec<Declaration>, left: &Left<'_, '_>) -> Option<Self> {
        let tried = |declarations: Vec<Declaration>| {
            let contract = amended(cx, &declarations)?;
            let declared = Context::new(&contract, cx.snapshot, cx.access, cx.interrupts);
            let left = left.among(&declared);
            let marked = left.iter().map(|left| (&left.finding, left.is_added));
            let mut more = for_created(&declared, &declarations, marked);
            for left in left.iter().filter(|left| left.is_added) {
                let rows = meant_rows(&declared, &left.finding);
                rows.into_iter().for_each(|rows| more.extend(rows.declarations));
            }
            Some((Self { declarations, contract, left }, more))
        };
        let (mut found, mut more) = tried(declarations)?;
        for _ in 0..MOST_ROUNDS {
            let mut all = found.declarations.clone();
            more.into_iter().for_each(|one| add(&mut all, one));
            let all = merged(all);
            if all == found.declarations || declare_call(&all).len() > LONGEST_CALL {
                break;
            }
            let Some(next) = tried(all) else { break };
            (found, more) = next;
        }
        Some(found)
    }
}

/// Returns statements, followed by more.
pub(super) fn with_more(statements: &str, more: &[String]) -> String {
    // A comment at the end must not contain what follows.
    let end = if statements.contains("--") { "\n; " } else { "; " };
    let all = [&[statements.to_owned()], more].concat();
    all.join(end)
}

fn is_rename(declaration: &Declaration) -> bool {
    matches!(declaration, Declaration::Rename(_))
}

/// The findings that the guard rejects, determined once for each rule that is asked for.
pub(super) struct Rejected<'c, 'a> {
    change: &'c Change<'a>,
    by_rule: RefCell<HashMap<&'static str, HashSet<String>>>,
}

impl<'c, 'a> Rejected<'c, 'a> {
    pub fn by(change: &'c Change<'a>) -> Self {
        Self { change, by_rule: RefCell::default() }
    }

    /// Whether the guard rejects a finding. Rules about single routines are checked separately, and
    /// do not depend on what is declared.
    pub fn contains(&self, finding: &Finding) -> bool {
        let rule = finding.rule;
        let fingerprints = || {
            let regressions = self.change.regressions(rule).into_iter();
            let blocked = regressions.filter(|r| r.action == GuardAction::Block);
            blocked.map(|r| r.audited.fingerprint).collect()
        };
        rule.recheck != Recheck::Routines
            && self
                .by_rule
                .borrow_mut()
                .entry(rule.id)
                .or_insert_with(fingerprints)
                .contains(&finding.fingerprint)
    }
}

/// Whether a finding is about a role that did not exist before.
fn has_new_role(before: &Snapshot, finding: &Finding) -> bool {
    finding.roles.iter().any(|name| name != "PUBLIC" && before.role_named(name).is_none())
}

/// A finding that would be there although the contract declared something.
struct LeftOver {
    finding: Finding,
    /// Whether it is about a new object.
    is_new: bool,
    /// Whether it would not be there without the transaction and the declarations.
    is_added: bool,
}

/// Tells which findings are left. Those that are exempt do not count.
pub(super) struct Left<'c, 'a> {
    before: &'c Context<'a>,
    /// What is reported here would be there without the declarations.
    known: &'c Context<'a>,
    /// The findings that are reported there.
    found: OnceCell<Vec<Finding>>,
    /// The fingerprints of the regressions, and of the findings of the audit about them.
    accepted: HashSet<String>,
    /// The objects of the regressions, and whether these are new.
    objects: HashMap<ObjectId, bool>,
    is_exempt: &'c dyn Fn(&Context<'_>, &Finding) -> bool,
}

impl<'c, 'a> Left<'c, 'a> {
    pub fn of(
        before: &'c Context<'a>,
        known: &'c Context<'a>,
        regressions: &[&Regression],
        is_exempt: &'c dyn Fn(&Context<'_>, &Finding) -> bool,
    ) -> Self {
        let fingerprints = regressions.iter().flat_map(|r| [&r.finding, &r.audited]);
        let objects = regressions.iter().map(|r| (r.finding.object.id, !r.existed));
        Self {
            before,
            known,
            found: OnceCell::new(),
            accepted: fingerprints.map(|finding| finding.fingerprint.clone()).collect(),
            objects: objects.filter(|(id, _)| *id != ObjectId::Named).collect(),
            is_exempt,
        }
    }

    /// Returns the findings of a state that are not exempt.
    fn reported(&self, cx: &Context<'_>) -> Vec<Finding> {
        let mut found = reported(cx);
        found.retain(|finding| !(self.is_exempt)(cx, finding));
        found
    }

    /// Returns the findings with the declarations that would not be there without the transaction
    /// and the declarations.
    pub fn added(&self, declared: &Context<'_>) -> Vec<Finding> {
        let left = self.among(declared).into_iter().filter(|left| left.is_added);
        left.map(|left| left.finding).collect()
    }

    /// Returns what is left in the later state with the declarations.
    fn among(&self, declared: &Context<'_>) -> Vec<LeftOver> {
        let known = self.found.get_or_init(|| self.reported(self.known));
        let known: HashSet<_> = known.iter().flat_map(Finding::about).collect();
        // Few transactions need it.
        let earlier = OnceCell::new();
        let existed = |finding: &Finding| {
            let earlier: &HashSet<String> = earlier.get_or_init(|| {
                let earlier = self.reported(self.before).into_iter();
                earlier.map(|finding| finding.fingerprint).collect()
            });
            earlier.contains(&finding.fingerprint)
        };
        let left = |finding: Finding| {
            let object = self.objects.get(&finding.object.id);
            let is_new = object.is_some_and(|is_new| *is_new);
            let is_added = self.accepted.contains(&finding.fingerprint)
                || !finding.about().all(|about| known.contains(&about))
                || object.is_some_and(|is_new| !is_new && !existed(&finding));
            (is_added || is_new).then_some(LeftOver { finding, is_new, is_added })
        };
        self.reported(declared).into_iter().filter_map(left).collect()
    }
}

/// Returns the statements that fix a finding about a new object. Row security takes no rows away
/// from anyone there: the table has none yet.
fn fix_of_new(after: &Context<'_>, finding: &Finding) -> Option<String> {
    let table = match finding.object.id {
        ObjectId::Relation(oid) if *finding.rule == rls_disabled::RULE => {
            after.snapshot.relation(oid).filter(|relation| relation.kind.has_row_security())
        }
        _ => None,
    };
    let enable = |table| {
        format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY;", after.snapshot.relation_sql(table))
    };
    table.map(enable).or_else(|| finding.fix.sql())
}

/// Returns what a contract would have to say; `None` where a person has to decide.
fn declarations(
    before: &Context<'_>,
    after: &Context<'_>,
    regressions: &[&Regression],
) -> Option<Vec<Declaration>> {
    let mut all: Vec<Declaration> = Vec::new();
    for regression in regressions {
        let mut one = dropped_policies(before, after, &regression.finding);
        if one.is_empty() {
            one = candidates(after, &regression.finding);
        }
        if one.is_empty() {
            return None;
        }
        one.into_iter().for_each(|declaration| add(&mut all, declaration));
    }
    let created: HashSet<Name> = all.iter().filter_map(created_table).cloned().collect();
    // A new declaration of a table says so already.
    all.retain(|one| match one {
        Declaration::RowSecurity(table, RowSecurity::Disable) => {
            let declared = before.contract.table(&table.schema, &table.name);
            !created.contains(table) && declared.is_none_or(|declared| declared.row_security)
        }
        _ => true,
    });
    Some(merged(without_dropped_with_schema(all)))
}

fn created_table(declaration: &Declaration) -> Option<&Name> {
    if let Declaration::Create(Target::Table(name)) = declaration { Some(name) } else { None }
}

/// Returns the declarations of the policies of a table without which one that is declared is
/// missing: of those that are dropped, and of those that are no longer for some role.
fn dropped_policies(
    before: &Context<'_>,
    after: &Context<'_>,
    finding: &Finding,
) -> Vec<Declaration> {
    let ObjectId::Relation(oid) = finding.object.id else { return vec![] };
    let Some(relation) =
        after.snapshot.relation(oid).filter(|_| *finding.rule == rls_policy_missing::RULE)
    else {
        return vec![];
    };
    let table = Name::new(after.snapshot.schema_name(relation.schema), &relation.name);
    let mut declarations = Vec::new();
    for policy in before.snapshot.policies_of(oid).iter().filter(|policy| policy.permissive) {
        let now = after.snapshot.policies_of(oid).iter().find(|now| now.oid == policy.oid);
        if now.is_some_and(|now| policy.roles.iter().all(|role| now.roles.contains(role))) {
            continue;
        }
        declarations.push(Declaration::DropPolicy(header(before.snapshot, policy, &table)));
        let altered = now.map(|now| PolicyHeader {
            all_rows: now.commands().into_iter().filter(|c| now.is_for_all_rows(*c)).collect(),
            ..header(after.snapshot, now, &table)
        });
        let altered = altered.filter(|header| !header.roles.is_empty());
        declarations.extend(altered.map(Declaration::CreatePolicy));
    }
    declarations
}

/// Returns the header of a policy.
fn header(snapshot: &Snapshot, policy: &Policy, table: &Name) -> PolicyHeader {
    let named = policy.roles.iter().filter_map(|role| snapshot.role(*role));
    PolicyHeader {
        name: policy.name.clone(),
        table: table.clone(),
        commands: policy.commands(),
        roles: named.map(|role| role.name.clone()).collect(),
        all_rows: vec![],
    }
}

/// Merges what is granted to the same roles on several objects of one kind into one GRANT, where
/// the first of them is: what it needs stands before it, because each object is declared first.
fn merged(declarations: Vec<Declaration>) -> Vec<Declaration> {
    let (grants, mut all): (Vec<_>, Vec<_>) =
        declarations.into_iter().partition(|one| matches!(one, Declaration::Grant(_)));
    let first = all.len();
    for one in grants {
        let Declaration::Grant(grant) = one else { continue };
        // What is granted after a REVOKE of the same is not granted before it.
        let after = all.iter().rposition(|known| contradicts(known, &grant));
        let first = after.map_or(first, |place| first.max(place + 1));
        let same = all[first..].iter_mut().find_map(|known| match known {
            Declaration::Grant(known) if is_same(known, &grant) => Some(&mut known.on),
            _ => None,
        });
        let left = match same {
            Some(known) => extend(known, grant.on).map(|on| Grant { on, ..grant }),
            None => Some(grant),
        };
        all.extend(left.map(Declaration::Grant));
    }
    all
}

/// Whether two statements grant the same privileges to the same roles.
fn is_same(one: &Grant, other: &Grant) -> bool {
    one.is_revoke == other.is_revoke
        && one.privileges == other.privileges
        && one.roles == other.roles
        && one.to_public == other.to_public
        && std::mem::discriminant(&one.on) == std::mem::discriminant(&other.on)
}

/// Adds objects to others of the same kind. Returns those of a kind that is not listed.
fn extend(known: &mut On, more: On) -> Option<On> {
    match (known, more) {
        (On::Tables(known), On::Tables(more)) | (On::Sequences(known), On::Sequences(more)) => {
            known.extend(more);
        }
        (On::Schemas(known), On::Schemas(more)) => known.extend(more),
        (On::Functions(known), On::Functions(more)) => known.extend(more),
        (_, more) => return Some(more),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_at_the_end_of_statements_does_not_contain_what_follows() {
        let more = ["GRANT SELECT ON t TO a".to_owned()];
        assert_eq!(with_more("SELECT 1", &more), "SELECT 1; GRANT SELECT ON t TO a");
        assert_eq!(with_more("SELECT 1 -- x", &more), "SELECT 1 -- x\n; GRANT SELECT ON t TO a");
    }

    #[test]
    fn call_to_run_again_creates_nothing_that_its_statements_create() {
        let declarations = vec![
            Declaration::Create(Target::Role("nurse".into())),
            Declaration::Create(Target::Sequence(Name::new("public", "t_id_seq"))),
            Declaration::RowSecurity(Name::new("public", "t"), RowSecurity::Enable),
        ];
        let mut declared = Declared::following(&[], declarations, vec![], vec![]);
        declared.called_with("CREATE TABLE public.t (id serial)");
        assert_eq!(
            declared.calls(false).unwrap(),
            "SELECT * FROM ops.declare('CREATE ROLE nurse', note => '...');\n\
             SELECT * FROM ops.declare('CREATE TABLE public.t (id serial); ALTER TABLE public.t \
             ENABLE ROW LEVEL SECURITY', note => '...', run => true);"
        );
    }
}
