//! What one experiment does, and what it says of the analysis.

use super::attempt::{Client, Observed};
use super::forge::{Forger, forged};
use super::seed::{Caller, Seeded, Seeder, Values, note_types, note_user};
use super::session::Session;
use super::table::Table;
use super::value::{Chosen, text_of};
use crate::catalog::{self, Mentioned, QUESTIONS, StoredPolicy};
use crate::pg::heap::interrupts;
use crate::pg::statement::{self, NotExecuted};
use crate::pg::subtransaction;
use dragonfly_core::catalog::{Command, Oid, Opening, Rows};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{
    Cell, Claims, Constant, NUMBERS, Planned, Reached, Scenario, TooLarge,
};
use dragonfly_core::sql::{capitalized, listed};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What an experiment is about.
pub struct Subject<'a> {
    /// What conditions mention.
    pub catalog: &'a Mentioned<'a>,
    /// Where the values of sessions are.
    pub identities: &'a Identities,
    /// The table.
    pub relation: Oid,
    /// Its policies.
    pub policies: &'a [StoredPolicy],
    /// The columns by which a row belongs to a caller.
    pub keys: &'a BTreeSet<i16>,
    /// The caller.
    pub caller: Caller,
    /// The client role.
    pub role: Oid,
    /// Its name.
    pub role_name: &'a str,
    /// Whether UPDATE and DELETE are executed without WHERE where other rows are there.
    pub without_where: bool,
}

/// The result of an experiment.
#[derive(Debug)]
pub struct Proof {
    /// The policy.
    pub policy: String,
    /// The command.
    pub command: Command,
    /// Who tries to reach a row.
    pub as_who: String,
    /// Whose row it is.
    pub of_whom: String,
    /// What the analysis says.
    pub expected: Expected,
    /// What was observed.
    pub observed: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub why: String,
    /// What holds in the way that was tried.
    pub witness: Vec<[String; 3]>,
}

/// What the analysis says of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The client reaches it.
    Reached,
    /// The client does not reach it.
    NotReached,
    /// It is not known.
    Unknown,
}

/// What an experiment says of the analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The client reaches what the analysis says.
    Confirmed,
    /// The server does something else.
    Refuted,
    /// The client does not reach this row, as expected.
    IsolatedHere,
    /// There was no experiment.
    NotTried,
}

impl Expected {
    /// Returns the words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::NotReached => "not reached",
            Self::Unknown => "unknown",
        }
    }
}

impl Verdict {
    /// Returns the words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refuted => "refuted",
            Self::IsolatedHere => "isolated here",
            Self::NotTried => "not tried",
        }
    }
}

/// The claims of two callers: whether the first one reaches rows of the second one.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the fields are named like the arguments of the function")]
pub struct Pair {
    pub a: Map<String, Json>,
    pub b: Map<String, Json>,
}

/// Tries to reach rows that a policy lets the role reach, in each way that the analysis has found,
/// and rows that it says belong to another caller.
pub fn policy(subject: &Subject<'_>, policy: &StoredPolicy) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for (command, rows) in QUESTIONS {
        interrupts();
        if !policy.is_for(command, subject.role, subject.catalog.rights())
            || !subject.has_privilege(command)
        {
            continue;
        }
        match subject.scenarios(policy, command, rows) {
            Err(TooLarge) => {
                let why = "The condition is too large.".to_owned();
                proofs.push(subject.not_tried(policy, command, why));
            }
            Ok(scenarios) => {
                let tried = scenarios.iter().filter_map(|scenario| {
                    subject.experiment(policy, (command, rows), scenario, None)
                });
                proofs.extend(tried);
            }
        }
    }
    proofs
}

/// An experiment before anything is put into tables.
pub struct Plan<'s> {
    pub command: Command,
    pub rows: Rows,
    pub reached: Reached,
    /// The row that must be there, with the ones that it needs.
    pub old: Option<&'s Scenario>,
    /// The row that is written, with the ones that it needs.
    pub new: Option<&'s Scenario>,
    /// The scenario that the experiment is about.
    pub main: &'s Scenario,
}

impl Subject<'_> {
    /// Whether the role has the privilege for a command on the table, or on a part of it.
    pub fn has_privilege(&self, command: Command) -> bool {
        self.catalog.rights().on_part(self.role, self.relation, command.privilege())
    }

    /// Returns why rows pass a policy, each with a session and rows.
    pub fn scenarios(
        &self,
        policy: &StoredPolicy,
        command: Command,
        rows: Rows,
    ) -> Result<Vec<Scenario>, TooLarge> {
        catalog::scenarios(
            (self.catalog, self.identities),
            self.relation,
            (policy, self.policies),
            self.role,
            (command, rows),
        )
    }

    /// Returns the result for a policy that was not tried.
    pub fn not_tried(&self, policy: &StoredPolicy, command: Command, why: String) -> Proof {
        Proof {
            policy: policy.name.clone(),
            command,
            as_who: self.role_name.to_owned(),
            of_whom: String::new(),
            expected: Expected::Unknown,
            observed: "nothing".to_owned(),
            verdict: Verdict::NotTried,
            why,
            witness: Vec::new(),
        }
    }

    /// Executes the experiment for a scenario; `None` where another one says the same.
    pub fn experiment(
        &self,
        policy: &StoredPolicy,
        (command, rows): (Command, Rows),
        scenario: &Scenario,
        pair: Option<&Pair>,
    ) -> Option<Proof> {
        let is_open = matches!(scenario.reached, Reached::Open(_));
        let is_update = command == Command::Update;
        // Whether a row can be given to another caller is asked where the analysis says so.
        let is_forged = matches!(scenario.reached, Reached::Forged(_));
        if (is_update && rows == Rows::New && !is_open) || (is_forged && command != Command::Select)
        {
            return None;
        }
        let beside = match (command, rows) {
            (Command::Update, Rows::Existing) => Some(Rows::New),
            (Command::Update, Rows::New) => Some(Rows::Existing),
            _ => None,
        };
        // The row before an update, or after it, is one of the caller's where there is such a one.
        let other = beside.and_then(|of| {
            let found = self.scenarios(policy, command, of).unwrap_or_default();
            found.into_iter().find_map(|other| scenario.joined(&other))
        });
        let (main, other) = match &other {
            Some((main, other)) => (main, Some(other)),
            None => (scenario, None),
        };
        let (old, new) = match (command, rows) {
            (Command::Insert, _) => (None, Some(main)),
            (Command::Update, Rows::New) => (other, Some(main)),
            (Command::Update, Rows::Existing) => (Some(main), other),
            _ => (Some(main), None),
        };
        let plan = Plan { command, rows, reached: scenario.reached, old, new, main };
        let result = subtransaction::rolled_back(|| self.run(&plan, pair));
        let (expected, outcome) = match result {
            Ok(done) => done,
            Err(error) => {
                let message = subtransaction::report(&error).message().to_owned();
                let why = format!("The experiment failed: {message}.");
                (plan.expected(), Outcome::not_tried(why))
            }
        };
        let (as_who, of_whom) = self.parties(&plan);
        let proof = Proof {
            policy: policy.name.clone(),
            command,
            as_who,
            of_whom,
            expected,
            observed: outcome.observed,
            verdict: outcome.verdict,
            why: outcome.why,
            witness: scenario.witness.clone(),
        };
        Some(if is_open { proof } else { self.explained(proof, rows, outcome.values.as_ref()) })
    }

    /// Returns the result for a row of another caller that was reached: as expected, where a policy
    /// opens rows.
    pub fn explained(&self, proof: Proof, rows: Rows, values: Option<&Values>) -> Proof {
        if proof.verdict != Verdict::Refuted {
            return proof;
        }
        match self.open(proof.command, rows, values) {
            Some((policy, why)) => Proof {
                expected: Expected::Reached,
                verdict: Verdict::Confirmed,
                why: format!("Policy {policy} opens rows. {why}"),
                ..proof
            },
            None => proof,
        }
    }

    /// Returns a policy by which rows pass that are not the caller's, and how.
    fn open(
        &self,
        command: Command,
        rows: Rows,
        values: Option<&Values>,
    ) -> Option<(String, String)> {
        let policies = self.policies.iter();
        let rights = self.catalog.rights();
        let permissive =
            policies.filter(|of| of.is_permissive && of.is_for(command, self.role, rights));
        permissive
            .flat_map(|policy| {
                let scenarios = self.scenarios(policy, command, rows).unwrap_or_default();
                scenarios.into_iter().map(move |scenario| (policy, scenario))
            })
            .find(|(_, scenario)| {
                let unknown = [Opening::Opaque, Opening::ForeignOperator];
                matches!(scenario.reached, Reached::Open(of) if !unknown.contains(&of))
                    && values.is_none_or(|values| may_have(values, scenario))
            })
            .map(|(policy, scenario)| (policy.name.clone(), when(&scenario.witness)))
    }

    /// Returns who tries to reach a row, and whose it is.
    fn parties(&self, plan: &Plan<'_>) -> (String, String) {
        let as_who = match plan.main.claims {
            Claims::Missing => format!("{} without claims", self.role_name),
            Claims::Role => format!("{} without a user", self.role_name),
            Claims::User => format!("{}, user a", self.role_name),
        };
        let of_whom = match (plan.is_own(), plan.rows) {
            (false, _) if plan.reached == Reached::Never => "anyone",
            (false, _) => "user b",
            (true, Rows::Existing) => "another caller",
            (true, Rows::New) => "a new row of another caller",
        };
        (as_who, of_whom.to_owned())
    }

    /// Puts the rows of a plan into tables and tries to reach one.
    fn run(&self, plan: &Plan<'_>, pair: Option<&Pair>) -> (Expected, Outcome) {
        let expected = plan.expected();
        let outcome = self.tried(plan, expected, pair).unwrap_or_else(Outcome::not_tried);
        (expected, outcome)
    }

    /// Executes a plan; the callers are a pair whose claims are given, or have made up ones.
    fn tried(
        &self,
        plan: &Plan<'_>,
        expected: Expected,
        pair: Option<&Pair>,
    ) -> Result<Outcome, String> {
        let scenarios = || plan.old.iter().chain(&plan.new);
        let planned = scenarios().flat_map(|of| &of.rows).map(|row| row.relation).collect();
        let mut seeder = Seeder::new(self.catalog, self.caller, planned);
        let table = seeder.table(self.relation)?;
        if let Some(trigger) = table.foreign_trigger.as_ref().filter(|_| plan.writes()) {
            return Err(format!(
                "Trigger {trigger} is in a language other than SQL and PL/pgSQL: what it does may \
                 outlast a rollback."
            ));
        }
        let mut chosen = Chosen::default();
        for scenario in scenarios() {
            note_all(&mut seeder, scenario, &mut chosen)?;
        }
        let callers = self.callers(plan, pair, &table, &mut chosen)?;
        let is_alone = begin(&seeder, &table)? || self.without_where;
        let (forged, others) = forged(self.catalog, plan.main);
        let is_open = matches!(plan.reached, Reached::Open(_));
        let row = match plan.old {
            Some(scenario) => {
                let is_of_other = is_open && plan.rows == Rows::Existing;
                let mut rows = self.with_keys(&scenario.rows, is_of_other);
                if !forged.is_empty() {
                    rows.truncate(1);
                    rows.extend(others);
                }
                Some(self.seed(&mut seeder, &rows, &mut chosen)?)
            }
            None => None,
        };
        let mut written = None;
        if let Some(scenario) = plan.new {
            let row = self.with_keys(&scenario.rows, is_open && plan.rows == Rows::New);
            written = Some(self.planned(&mut seeder, &table, &row, &mut chosen)?);
        }
        if let (Some(of), Some(row)) = (&plan.main.forged, &row) {
            let mut client =
                Client { role: self.role, session: &callers.own, is_alone, keeps: false };
            if client.select(&seeder, &table, row) == Observed::Reached {
                return Err("The client reaches the row before it writes the lookup.".to_owned());
            }
            client.keeps = true;
            let forger = Forger { catalog: self.catalog, role: self.role_name, forged: of };
            let failed = forger.write(&mut seeder, &forged, &client, &mut chosen)?;
            if let Some((table, observed)) = failed {
                return Ok(outcome_of_forgery(&table, &observed));
            }
        }
        // What another caller writes is that caller's.
        let by_other = match (&callers.other, plan.new) {
            (Some(session), Some(scenario)) if plan.rows == Rows::Existing && !plan.is_own() => {
                let mine = |name: &String| session.value(name);
                Some(own_values(scenario, written.as_ref(), &mine))
            }
            _ => None,
        };
        let attempt = Attempt {
            seeder: &seeder,
            table: &table,
            row: row.as_ref(),
            written: written.as_ref(),
            asks_new: plan.rows == Rows::New,
        };
        let of_other = Attempt { written: by_other.as_ref().or(attempt.written), ..attempt };
        let outcome = self.judge(plan, expected, &callers, (&attempt, &of_other), is_alone)?;
        Ok(Outcome { values: row.map(|row| row.values), ..outcome })
    }

    /// Returns the sessions of a plan.
    fn callers(
        &self,
        plan: &Plan<'_>,
        pair: Option<&Pair>,
        table: &Table,
        chosen: &mut Chosen,
    ) -> Result<Callers, String> {
        let of = (self.identities, self.role_name);
        let of_claims = |claims: &Map<String, Json>| {
            Session::of_claims(claims.clone(), self.role_name, self.identities)
        };
        let (own, unset) = match pair {
            Some(pair) => {
                let (user, claims) = if plan.is_own() { ("a", &pair.a) } else { ("b", &pair.b) };
                let session = of_claims(claims);
                session.choose(plan.main, (user, self.role_name), chosen)?;
                if plan.is_own() {
                    self.choose_keys(table, &of_claims(&pair.b), chosen);
                }
                (session, Vec::new())
            }
            None => Session::of_values(plan.main.claims, &plan.main.session, of, chosen),
        };
        let other = match pair {
            _ if plan.is_own() && plan.expected() != Expected::Unknown => None,
            Some(pair) if !plan.is_own() => Some(of_claims(&pair.a)),
            _ => {
                let others = another(plan, chosen);
                Some(Session::of_values(plan.main.claims, &others, of, chosen).0)
            }
        };
        let is_alike = |of: &Session| of.is_same(&own, &plan.main.session);
        if plan.reached == Reached::Tied && other.as_ref().is_some_and(is_alike) {
            let names: Vec<&str> = plan.main.session.keys().map(String::as_str).collect();
            return Err(format!("Both callers have the same {}.", listed(&names)));
        }
        Ok(Callers { own, unset, other })
    }

    /// Tries to reach the row, as the one caller and the other.
    fn judge(
        &self,
        plan: &Plan<'_>,
        expected: Expected,
        callers: &Callers,
        (attempt, of_other): (&Attempt<'_>, &Attempt<'_>),
        is_alone: bool,
    ) -> Result<Outcome, String> {
        let table = &**attempt.table;
        let client = |session| Client { role: self.role, session, is_alone, keeps: false };
        let own = attempt.by(plan.command, &client(&callers.own));
        let by_other = || {
            let other = callers.other.as_ref()?;
            Some(of_other.by(plan.command, &client(other)))
        };
        if plan.reached == Reached::Never && !plan.main.may_fail {
            return Ok(outcome_of_tied(own, (true, false), table));
        }
        if plan.is_own() || plan.main.may_fail {
            let is_of_caller = own == Observed::Reached
                && expected == Expected::Unknown
                && !plan.main.session.is_empty()
                && by_other().is_some_and(|observed| observed != Observed::Reached);
            if is_of_caller {
                return Ok(outcome_of_tied(Observed::NotReached, (false, false), table));
            }
            return Ok(outcome_of_open(plan, expected, own, (&callers.unset, is_alone, table)));
        }
        // The row is its owner's, if the owner reaches it.
        if own != Observed::Reached {
            let finds_none = matches!(plan.command, Command::Update | Command::Delete) && !is_alone;
            let advice = if finds_none {
                " Without a policy of SELECT, WHERE finds no row: see without_where."
            } else {
                ""
            };
            return Err(format!(
                "The caller whose row it is does not reach it either: {}.{advice}{}",
                own.text(),
                unmet(&plan.main.unmet, &callers.unset)
            ));
        }
        let observed = by_other().unwrap_or(Observed::NotReached);
        Ok(outcome_of_tied(observed, (false, plan.command == Command::Update), table))
    }

    /// Gives the keys of a row that is not the caller's the number of the other user, as far as
    /// they can have it.
    fn choose_keys(&self, table: &Table, session: &Session, chosen: &mut Chosen) {
        let Some(user) = session.value("user") else { return };
        for (at, key) in self.keys.iter().enumerate() {
            if table.columns.get(key).is_some_and(|column| column.data_type.has(&user)) {
                chosen.set(2 * NUMBERS + at as u32, user.clone());
            }
        }
    }

    /// Returns rows of which the first one belongs to another caller, where it is not said whose it
    /// is.
    fn with_keys(&self, rows: &[Planned], is_of_other: bool) -> Vec<Planned> {
        let mut rows = rows.to_vec();
        if let Some(checked) = rows.first_mut().filter(|_| is_of_other) {
            for (at, key) in self.keys.iter().enumerate() {
                let other = Cell::Any(2 * NUMBERS + at as u32);
                checked.columns.entry(*key).or_insert(other);
            }
        }
        rows
    }

    /// Puts rows into tables, the first one last, and returns it.
    fn seed(
        &self,
        seeder: &mut Seeder<'_>,
        rows: &[Planned],
        chosen: &mut Chosen,
    ) -> Result<Seeded, String> {
        let Some((checked, lookups)) = rows.split_first() else {
            return Err("There is no row.".to_owned());
        };
        self.seed_lookups(seeder, lookups, chosen)?;
        note_types(&*seeder.table(checked.relation)?, &checked.columns, chosen);
        seeder.row(checked.relation, &checked.columns, self.role_name, chosen)
    }

    fn seed_lookups(
        &self,
        seeder: &mut Seeder<'_>,
        lookups: &[Planned],
        chosen: &mut Chosen,
    ) -> Result<(), String> {
        for lookup in lookups {
            interrupts();
            seeder.lookup(lookup.relation, &lookup.columns, self.role_name, chosen)?;
        }
        Ok(())
    }

    /// Puts the rows that a new row needs into tables, and returns its values: all of them, and
    /// those that matter.
    fn planned(
        &self,
        seeder: &mut Seeder<'_>,
        table: &Table,
        rows: &[Planned],
        chosen: &mut Chosen,
    ) -> Result<(Values, Values), String> {
        let Some((checked, lookups)) = rows.split_first() else {
            return Err("There is no row.".to_owned());
        };
        self.seed_lookups(seeder, lookups, chosen)?;
        note_types(table, &checked.columns, chosen);
        seeder.planned(table, &checked.columns, self.role_name, chosen)
    }
}

impl Plan<'_> {
    /// Returns what the analysis says.
    fn expected(&self) -> Expected {
        match self.reached {
            _ if self.main.may_fail => Expected::Unknown,
            Reached::Open(Opening::Opaque | Opening::ForeignOperator) => Expected::Unknown,
            Reached::Open(_) | Reached::Forged(_) => Expected::Reached,
            Reached::Tied | Reached::Privileged | Reached::Never => Expected::NotReached,
        }
    }

    /// Whether the one who asks is said to reach the row, which is not that caller's.
    fn is_own(&self) -> bool {
        matches!(self.reached, Reached::Open(_) | Reached::Forged(_))
    }

    /// Whether a new row is asked for nothing.
    fn asks_nothing(&self) -> bool {
        let columns = self.new.and_then(|of| of.rows.first()).map(|row| &row.columns);
        self.rows == Rows::New && columns.is_some_and(BTreeMap::is_empty)
    }

    fn writes(&self) -> bool {
        self.command != Command::Select
    }
}

/// Prepares the subtransaction, and returns whether the table has no row.
fn begin(seeder: &Seeder<'_>, table: &Table) -> Result<bool, String> {
    statement::count(
        "SELECT pg_catalog.set_config('lock_timeout', '1s', true)
          WHERE pg_catalog.current_setting('lock_timeout') OPERATOR(pg_catalog.=) '0'",
    );
    statement::count("SELECT pg_catalog.set_config('row_security', 'on', true)");
    // A deferred trigger cannot be fired by what the client does.
    statement::run("SET CONSTRAINTS ALL IMMEDIATE").map_err(NotExecuted::code)?;
    Ok(!seeder.exists(table, &Values::new())?)
}

/// The sessions of a plan.
struct Callers {
    /// The one that the analysis says something of, or whose the row is.
    own: Session,
    /// What could not be set in it.
    unset: Vec<String>,
    /// The one of another caller, where it matters.
    other: Option<Session>,
}

/// What is tried, once the rows are there.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    seeder: &'a Seeder<'a>,
    table: &'a Rc<Table>,
    row: Option<&'a Seeded>,
    /// The values of the new row: all of them, and those that matter.
    written: Option<&'a (Values, Values)>,
    /// Whether the new row matters.
    asks_new: bool,
}

impl Attempt<'_> {
    fn by(&self, command: Command, client: &Client<'_>) -> Observed {
        let (seeder, table) = (self.seeder, &**self.table);
        let nothing = (Values::new(), Values::new());
        let (all, asked) = self.written.unwrap_or(&nothing);
        match (command, self.row) {
            (Command::Insert, _) => client.insert(seeder, table, all, asked),
            (Command::Select, Some(row)) => client.select(seeder, table, row),
            (Command::Delete, Some(row)) => client.delete(seeder, table, row),
            (Command::Update, Some(row)) => {
                client.update(seeder, table, row, asked, self.asks_new.then_some(asked))
            }
            (_, None) => Observed::NotTried("No row of the caller's passes before.".to_owned()),
        }
    }
}

/// What came out of an experiment.
pub struct Outcome {
    pub observed: String,
    pub verdict: Verdict,
    pub why: String,
    /// The values of the row that was there.
    pub values: Option<Values>,
}

impl Outcome {
    /// Returns the outcome of an experiment that was not executed.
    pub fn not_tried(why: String) -> Self {
        let observed = "nothing".to_owned();
        Self { observed, verdict: Verdict::NotTried, why, values: None }
    }
}

/// Why a statement that finds no row says nothing.
const NEEDS_NO_WHERE: &str = "A statement with WHERE reaches only what SELECT shows, and one \
    without it would reach the other rows of the table: without_where => true executes it, and \
    locks them until it is rolled back.";

/// Returns the outcome where the client could not write a lookup.
fn outcome_of_forgery(table: &str, observed: &Observed) -> Outcome {
    let why = format!("The client could not write a row of {table}: {}.", observed.text());
    // A new row may need others, which the client could write as well.
    let verdict = match observed {
        Observed::NotReached | Observed::Changed => Verdict::Refuted,
        _ => Verdict::NotTried,
    };
    Outcome { observed: "not reached".to_owned(), verdict, why, values: None }
}

/// Returns the values that a new row has where another caller writes it: those of the session are
/// the other caller's.
fn own_values(
    scenario: &Scenario,
    written: Option<&(Values, Values)>,
    value: &dyn Fn(&String) -> Option<String>,
) -> (Values, Values) {
    let (mut all, mut asked) = written.cloned().unwrap_or_default();
    let cells = scenario.rows.first().map(|row| &row.columns);
    for (number, cell) in cells.into_iter().flatten() {
        let of_session = scenario.session.iter().find(|(_, of)| *of == cell);
        if let Some(value) = of_session.and_then(|(name, _)| value(name)) {
            all.insert(*number, Some(value.clone()));
            asked.insert(*number, Some(value));
        }
    }
    (all, asked)
}

/// Returns the outcome where the analysis says that the row is not the caller's, and passes.
fn outcome_of_open(
    plan: &Plan<'_>,
    expected: Expected,
    observed: Observed,
    (unset, is_alone, table): (&[String], bool, &Table),
) -> Outcome {
    let text = observed.text();
    let (verdict, why) = match observed {
        // Any new row counts, where it is not said by which columns a row is its caller's.
        Observed::Reached if plan.asks_nothing() && !table.triggers.is_empty() => (
            Verdict::NotTried,
            format!(
                "A row is written, but trigger {} may have made it the caller's: declare the keys \
                 of the table.",
                listed(&table.triggers)
            ),
        ),
        Observed::Reached => match &plan.main.forged {
            Some(forged) => (Verdict::Confirmed, forged.describe()),
            None => (Verdict::Confirmed, when(&plan.main.witness)),
        },
        Observed::Changed => (Verdict::Refuted, changed(table)),
        Observed::NotTried(why) => (Verdict::NotTried, why),
        Observed::Rejected(why) | Observed::Failed(why) if plan.main.may_fail => {
            (Verdict::IsolatedHere, format!("Reading fails: {why}."))
        }
        Observed::Failed(why) => (Verdict::NotTried, format!("{}.", capitalized(&why))),
        _ if expected == Expected::Unknown => (
            Verdict::NotTried,
            "It is not known which rows pass: compare two callers with ops.prove_isolation()."
                .to_owned(),
        ),
        _ if !(plan.main.unmet.is_empty() && unset.is_empty()) => {
            (Verdict::NotTried, unmet(&plan.main.unmet, unset).trim_start().to_owned())
        }
        Observed::NotReached | Observed::Rejected(_)
            if plan.command != Command::Select && plan.command != Command::Insert && !is_alone =>
        {
            (Verdict::NotTried, NEEDS_NO_WHERE.to_owned())
        }
        Observed::NotReached | Observed::Rejected(_) => {
            (Verdict::Refuted, "The server decides: it does not let this row through.".to_owned())
        }
    };
    Outcome { observed: text, verdict, why, values: None }
}

/// Returns the outcome where the row is another caller's.
fn outcome_of_tied(
    observed: Observed,
    (is_never, is_update): (bool, bool),
    table: &Table,
) -> Outcome {
    let text = observed.text();
    let (verdict, why) = match observed {
        Observed::NotReached | Observed::Rejected(_) | Observed::Failed(_) if is_never => (
            Verdict::IsolatedHere,
            "No row passes, says the analysis, and this one does not: a sample, and no proof."
                .to_owned(),
        ),
        Observed::Reached => (
            Verdict::Refuted,
            "The server lets another caller reach the row: another policy, or something that the \
             analysis does not see."
                .to_owned(),
        ),
        Observed::Changed => (Verdict::IsolatedHere, changed(table)),
        Observed::Rejected(why) if is_update => {
            (Verdict::NotTried, format!("The row was found, and the new one was rejected: {why}."))
        }
        Observed::NotReached | Observed::Rejected(_) => (
            Verdict::IsolatedHere,
            "The caller whose row it is reaches it, and another one does not: a sample, and no \
             proof."
                .to_owned(),
        ),
        Observed::Failed(why) => (Verdict::NotTried, format!("{}.", capitalized(&why))),
        Observed::NotTried(why) => (Verdict::NotTried, why),
    };
    Outcome { observed: text, verdict, why, values: None }
}

/// Whether a row with these values may pass in the way of a scenario.
fn may_have(values: &Values, scenario: &Scenario) -> bool {
    let columns = scenario.rows.first().map(|row| &row.columns);
    columns.into_iter().flatten().all(|(number, cell)| {
        // It may have its default.
        let Some(value) = values.get(number).cloned() else { return true };
        match cell {
            Cell::Null => value.is_none(),
            Cell::Constant(constant) => value == Some(text_of(constant)),
            // Whether a value is less than another one is not compared.
            Cell::Beside { .. } => false,
            _ => true,
        }
    })
}

/// Returns the sentence about a row that triggers have changed.
fn changed(table: &Table) -> String {
    if table.triggers.is_empty() {
        let why = "The row that is written is another one: the role cannot write every column.";
        return why.to_owned();
    }
    format!("The row that is written is another one: see trigger {}.", listed(&table.triggers))
}

/// Returns the sentence about the way in which a row passes.
fn when(witness: &[[String; 3]]) -> String {
    let all: Vec<String> = witness.iter().map(|part| part.join(" ")).collect();
    if all.is_empty() {
        return "Nothing is asked of the row.".to_owned();
    }
    format!("The row passes when {}.", all.join(" and "))
}

/// Returns the sentence about what could not be brought about.
fn unmet(of_rows: &BTreeSet<String>, of_session: &[String]) -> String {
    let all: Vec<&str> =
        of_rows.iter().map(String::as_str).chain(of_session.iter().map(String::as_str)).collect();
    if all.is_empty() {
        return String::new();
    }
    format!(" It is not known how to bring about {}.", listed(&all))
}

/// Notes the types of all values of a scenario.
fn note_all(
    seeder: &mut Seeder<'_>,
    scenario: &Scenario,
    chosen: &mut Chosen,
) -> Result<(), String> {
    for row in &scenario.rows {
        note_types(&*seeder.table(row.relation)?, &row.columns, chosen);
    }
    if let Some(user) = scenario.session.get("user") {
        note_user(user, chosen);
    }
    Ok(())
}

/// Returns the values of a session of another caller: where the row is tied to the caller, those
/// that are no constants are others; where the caller has a right, that right is missing.
fn another(plan: &Plan<'_>, chosen: &mut Chosen) -> BTreeMap<String, Cell> {
    let mut number = 3 * NUMBERS;
    let mut other = |cell: &Cell, chosen: &mut Chosen| {
        number += 1;
        chosen.note_like(number, cell);
        Cell::Any(number)
    };
    let keeps_constants = plan.reached != Reached::Privileged;
    let cells = plan.main.session.iter().map(|(name, cell)| {
        let cell = match cell {
            Cell::Null => Cell::Null,
            constant @ Cell::Constant(_) if keeps_constants => constant.clone(),
            Cell::Constant(Constant::Boolean(value)) => Cell::Constant(Constant::Boolean(!value)),
            Cell::List(of) => Cell::List(other(of, chosen).into()),
            cell => other(cell, chosen),
        };
        (name.clone(), cell)
    });
    cells.collect()
}
