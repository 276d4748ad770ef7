//! What one experiment does, and what it says of the analysis.

use super::attempt::{Client, Observed};
use super::callers;
use super::failure::Failure;
use super::forge::{Forger, Writer, forged, writers};
use super::outcome::{
    NEEDS_NO_WHERE, Outcome, outcome_of_forgery, outcome_of_open, outcome_of_tied, unmet,
};
use super::plan::{Plan, another, note_all, note_rows, own_values};
use super::proof::{Expected, Proof, Verdict};
use super::seed::{Seeded, Seeder, note_types};
use super::session::Session;
use super::subject::Subject;
use super::table::Table;
use super::value::{Chosen, Values};
use crate::catalog::{QUESTIONS, StoredPolicy};
use crate::pg::heap::interrupts;
use crate::pg::statement::{self, NotExecuted};
use crate::pg::subtransaction;
use dragonfly_core::catalog::{Command, Rows};
use dragonfly_core::policy::{Cell, NUMBERS, Planned, Reached, Scenario, TooLarge};
use dragonfly_core::sql::listed;
use pgrx::pg_sys::panic::CaughtError;
use serde_json::{Map, Value as Json};
use std::rc::Rc;

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
                proofs.push(subject.too_large(policy, command));
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

impl Subject<'_> {
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
        if is_update && rows == Rows::New && !is_open {
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
            found.iter().find_map(|other| scenario.joined(other))
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
        // A row that a lookup opens keeps its values, unless that is not allowed.
        let kept = match (command, scenario.forged.is_some()) {
            (Command::Update, true) => Some(Plan { new: None, ..plan }),
            _ => None,
        };
        let result = self.first_confirmed(kept.iter().chain([&plan]), pair);
        let (expected, outcome) = match result {
            Ok(done) => done,
            Err(error) => {
                let failure = Failure::of(&error);
                let why = failure.after(&format!("The experiment failed: {}", failure.message));
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

    /// Executes plans until one reaches its row as the analysis says, and returns what became of
    /// the last one.
    fn first_confirmed<'p>(
        &self,
        plans: impl Iterator<Item = &'p Plan<'p>>,
        pair: Option<&Pair>,
    ) -> Done {
        let mut last = Ok((Expected::Unknown, Outcome::not_tried(String::new())));
        for plan in plans {
            last = subtransaction::rolled_back(|| self.run(plan, pair, None));
            if is_confirmed(&last) {
                break;
            }
            // Who may write the lookup may have to have a role there first.
            for writer in writers((self.catalog, self.identities), self.role, plan.main) {
                let run = || self.run(plan, pair, Some(&writer));
                let done = subtransaction::rolled_back(run);
                if is_confirmed(&done) {
                    return done;
                }
            }
        }
        last
    }

    /// Puts the rows of a plan into tables and tries to reach one.
    fn run(
        &self,
        plan: &Plan<'_>,
        pair: Option<&Pair>,
        writer: Option<&Writer>,
    ) -> (Expected, Outcome) {
        let expected = plan.expected();
        let outcome = self.tried(plan, expected, (pair, writer)).unwrap_or_else(Outcome::not_tried);
        (expected, outcome)
    }

    /// Executes a plan; the callers are a pair whose claims are given, or have made up ones.
    fn tried(
        &self,
        plan: &Plan<'_>,
        expected: Expected,
        (pair, writer): (Option<&Pair>, Option<&Writer>),
    ) -> Result<Outcome, String> {
        let scenarios = || plan.old.iter().chain(&plan.new);
        let of_writer = writer.map_or(&[][..], |writer| &writer.rows);
        let rows = scenarios().flat_map(|of| &of.rows).chain(of_writer);
        let planned = rows.map(|row| row.relation).collect();
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
        note_rows(&mut seeder, of_writer, &mut chosen)?;
        let callers = self.callers(plan, pair, &table, &mut chosen)?;
        let is_alone = begin(&seeder, &table)? || self.without_where;
        let (forged, others) = forged(self.catalog, plan.main);
        let is_open = matches!(plan.reached, Reached::Open(_));
        let rows_of = |scenario: &Scenario, rows: Rows| {
            let mut all = self.with_keys(&scenario.rows, is_open && plan.rows == rows);
            // What the client writes is not there yet.
            if !forged.is_empty() && std::ptr::eq(scenario, plan.main) {
                all.truncate(1);
                all.extend(others.iter().cloned());
            }
            all
        };
        let row = match plan.old {
            Some(scenario) => {
                let rows = rows_of(scenario, Rows::Existing);
                Some(self.seed(&mut seeder, &rows, &mut chosen)?)
            }
            None => None,
        };
        let mut written = None;
        if let Some(scenario) = plan.new {
            let rows = rows_of(scenario, Rows::New);
            written = Some(self.planned(&mut seeder, &table, &rows, &mut chosen)?);
        }
        let raised = std::cell::Cell::new(false);
        if let Some(of) = &plan.main.forged {
            let mut client =
                Client { role: self.role, session: &callers.own, is_alone, keeps: false };
            let (catalog, role) = (self.catalog, self.role_name);
            let forger = Forger { catalog, role, forged: of, writer };
            self.seed_lookups(&mut seeder, of_writer, &mut chosen)?;
            let prepared = forger.prepare(&mut seeder, &forged, &mut chosen)?;
            let before = Attempt {
                seeder: &seeder,
                table: &table,
                row: row.as_ref(),
                written: written.as_ref(),
                asks_new: plan.rows == Rows::New,
                raised: &raised,
            };
            if before.by(plan.command, &client) == Observed::Reached {
                return Err(format!(
                    "The role reaches the row before it writes {}: another policy lets it through.",
                    of.table
                ));
            }
            client.keeps = true;
            let rows = (&forged[..], &prepared[..]);
            let failed = forger.write(&mut seeder, rows, &client, &mut chosen)?;
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
        raised.set(false);
        let tried = |seeder: &Seeder<'_>| {
            let attempt = Attempt {
                seeder,
                table: &table,
                row: row.as_ref(),
                written: written.as_ref(),
                asks_new: plan.rows == Rows::New,
                raised: &raised,
            };
            let of_other = Attempt { written: by_other.as_ref().or(attempt.written), ..attempt };
            self.judge(plan, expected, &callers, (&attempt, &of_other), is_alone)
        };
        let mut outcome = tried(&seeder);
        // Code of the application may have missed what each caller has.
        if raised.get() && self.seed_callers(&mut seeder, &table, &callers, plan, &mut chosen) {
            let again = tried(&seeder);
            if again.as_ref().is_ok_and(|of| of.verdict != Verdict::NotTried) {
                outcome = again;
            }
        }
        Ok(Outcome { values: row.map(|row| row.values), ..outcome? })
    }

    /// Puts the rows that say who the callers are into the tables of users; returns whether there
    /// was such a row to be put into one.
    fn seed_callers(
        &self,
        seeder: &mut Seeder<'_>,
        table: &Table,
        callers: &Callers,
        plan: &Plan<'_>,
        chosen: &mut Chosen,
    ) -> bool {
        let user = plan.main.session.get("user");
        let cells = plan.main.rows.first().into_iter().flat_map(|row| &row.columns);
        let of_user = cells.filter(|(_, cell)| Some(*cell) == user).map(|(number, _)| *number);
        let columns = of_user.chain(self.keys.iter().copied()).collect();
        let tables = callers::tables(table, &columns, self.identities);
        let mut is_any = false;
        for session in [Some(&callers.own), callers.other.as_ref()].into_iter().flatten() {
            let Some(user) = session.value("user") else { continue };
            for table in &tables {
                is_any |= seeder.caller_row(*table, &user, chosen);
            }
        }
        is_any
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
            return Err(format!(
                "Both callers have the same {}: arguments a and b need different ones.",
                listed(&names)
            ));
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
        match own {
            Observed::Reached => {}
            Observed::NotTried(why) => return Err(why),
            own => {
                let is_hidden = matches!(plan.command, Command::Update | Command::Delete)
                    && own == Observed::NotReached
                    && !is_alone;
                let advice = if is_hidden { NEEDS_NO_WHERE } else { own.advice() };
                let said = format!(
                    "The caller whose row it is does not reach it either: {}. {advice}{}",
                    own.text(),
                    unmet(&plan.main.unmet, &callers.unset)
                );
                return Err(said.trim_end().to_owned());
            }
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

/// What became of an experiment.
type Done = Result<(Expected, Outcome), Box<CaughtError>>;

fn is_confirmed(done: &Done) -> bool {
    done.as_ref().is_ok_and(|(_, outcome)| outcome.verdict == Verdict::Confirmed)
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
    /// Whether something else than a policy or a privilege ended an attempt.
    raised: &'a std::cell::Cell<bool>,
}

impl Attempt<'_> {
    fn by(&self, command: Command, client: &Client<'_>) -> Observed {
        let (seeder, table) = (self.seeder, &**self.table);
        let nothing = (Values::new(), Values::new());
        let (all, asked) = self.written.unwrap_or(&nothing);
        let observed = match (command, self.row) {
            (Command::Insert, _) => client.insert(seeder, table, all, asked),
            (Command::Select, Some(row)) => client.select(seeder, table, row),
            (Command::Delete, Some(row)) => client.delete(seeder, table, row),
            (Command::Update, Some(row)) => {
                client.update(seeder, table, row, asked, self.asks_new.then_some(asked))
            }
            (_, None) => {
                let why = "No row passes USING that the caller could then change.";
                Observed::NotTried(why.to_owned())
            }
        };
        if observed.is_raised() {
            self.raised.set(true);
        }
        observed
    }
}
