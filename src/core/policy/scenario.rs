//! Rows and a session with which a row passes a policy: what an experiment puts into tables.
//!
//! A way to meet a condition says what its terms are to each other. Here, columns and values of the
//! session get values of which all that is true, as far as such values can be found.

use super::asked::{Asked, Question};
use super::facts::Catalog;
use super::formula::{Comparison, Formula, Shape};
use super::literals::{Classes, Literal, Session};
use super::opening::{Way, operands};
use super::parts::{Inspector, KEEPING, WIDENING};
use super::reader::{Found, Reader};
use super::search::{Budget, Nulls, TooLarge, Want, ways};
use super::term::{Constant, Operation, Row, Term, TermId, Terms};
use super::ties::Ties;
use super::witness::Names;
use super::writable::Writers;
use crate::catalog::{Caller, Command, Forgeable, Oid, Opening};
use crate::sql::quote_literal;
use crate::stored::SqlValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// A session and rows with which a row passes a policy in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Why the row passes.
    pub reached: Reached,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
    /// The same as conditions in SQL.
    pub conditions: Vec<String>,
    /// What the claims of the session contain.
    pub claims: Claims,
    /// Values of the session, by their names, such as `user` or `claims.app_metadata.tenant`.
    pub session: BTreeMap<String, Cell>,
    /// The rows that must be there, the one that is checked first.
    pub rows: Vec<Planned>,
    /// What is asked for without being known how to bring it about.
    pub unmet: BTreeSet<String>,
    /// The columns of a lookup that the caller writes first.
    pub forged: Option<Forgeable>,
    /// Whether reading may fail: the role lacks a privilege on what is looked up, or the policies
    /// of a lookup lead to themselves.
    pub may_fail: bool,
}

/// Why a row passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// It is tied to the caller.
    Tied,
    /// The caller has a right.
    Privileged,
    /// It is open in this way.
    Open(Opening),
    /// The caller makes it its own, by a row that the caller writes with this command.
    Forged(Command),
    /// It does not: no row passes.
    Never,
}

/// What the claims of a session contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// There are none.
    Missing,
    /// The role.
    Role,
    /// The role and a user.
    User,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The table.
    pub relation: Oid,
    /// The columns that have certain values.
    pub columns: BTreeMap<i16, Cell>,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Null.
    Null,
    /// A constant.
    Constant(Constant),
    /// Any value: the same for the same number, and another one for each other number.
    Any(u32),
    /// The name of the role that asks.
    Role,
    /// The time of the transaction.
    Now,
    /// A value that is greater than another one, or less.
    Beside {
        /// The other one.
        of: Box<Self>,
        /// Whether it is greater.
        is_above: bool,
    },
    /// A value that is greater than one and less than another one.
    Between {
        /// The lesser one.
        low: Box<Self>,
        /// The greater one.
        high: Box<Self>,
    },
    /// Any value, as [`Cell::Any`], but for some.
    Except {
        /// The number.
        number: u32,
        /// What it is not.
        not: Vec<Constant>,
    },
    /// The result of an expression in SQL over constants and the time, by functions of the server
    /// that do nothing but compute one.
    Computed(String),
    /// A list with one element; where the type is none of lists, the element.
    List(Box<Self>),
    /// A JSON object.
    Object(BTreeMap<String, Self>),
    /// A text with a separator, of which one part has a value.
    Part {
        /// The value.
        of: Box<Self>,
        /// Which part it is, from 1.
        position: usize,
        /// What is between the parts.
        separator: String,
    },
}

/// The numbers of [`Cell::Any`] of one scenario are less than this.
pub const NUMBERS: u32 = 100_000;

/// The numbers of [`Cell::Any`] of what lets a caller write a lookup are greater than this.
const OF_WRITER: u32 = 2_000_000_000;

impl Scenario {
    /// Returns this scenario and another one in one session: what both ask of a value of the
    /// session has one value. `None` where that is impossible.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Option<(Self, Self)> {
        let (mut one, mut other) = (self.clone(), other.renumbered(&|n| Cell::Any(n + NUMBERS)));
        for name in self.session.keys() {
            let (Some(a), Some(b)) = (one.session.get(name), other.session.get(name)) else {
                continue;
            };
            match (a.clone(), b.clone()) {
                (a, b) if a == b => {}
                (a, Cell::Any(number)) => other = other.substituted(number, &a),
                (Cell::Any(number), b) => one = one.substituted(number, &b),
                _ => return None,
            }
        }
        let session: BTreeMap<_, _> = one.session.iter().chain(&other.session).collect();
        let session: BTreeMap<_, _> =
            session.into_iter().map(|(name, cell)| (name.clone(), cell.clone())).collect();
        one.session.clone_from(&session);
        other.session = session;
        Some((one, other))
    }

    /// Returns this scenario in a session, and with a checked row that has known values as well:
    /// the values of that row, and the other rows. A free value of the row may become what the
    /// scenario asks for. `None` where that is impossible.
    #[must_use]
    pub fn within(
        &self,
        session: &BTreeMap<String, Cell>,
        (row, free): (&Planned, &BTreeSet<i16>),
        keys: &[BTreeSet<i16>],
    ) -> Option<(Planned, Vec<Planned>)> {
        let mut own = self.renumbered(&|number| Cell::Any(number + OF_WRITER));
        for name in self.session.keys() {
            own = own.with(session.get(name)?, |of| of.session.get(name))?;
        }
        let mut row = row.clone();
        for at in 0..own.rows.len() {
            let agrees = |key: &BTreeSet<i16>| {
                !key.is_empty()
                    && key.iter().all(|number| {
                        let of = |row: &Planned| row.columns.get(number).cloned();
                        of(&own.rows[at]).is_some_and(|cell| of(&row) == Some(cell))
                    })
            };
            let is_it = own.rows[at].relation == row.relation && keys.iter().any(agrees);
            if at > 0 && !is_it {
                continue;
            }
            for number in own.rows[at].columns.clone().into_keys() {
                let asked = own.rows[at].columns[&number].clone();
                match row.columns.get(&number).cloned() {
                    None => {
                        row.columns.insert(number, asked);
                    }
                    Some(Cell::Except { not, .. }) if free.contains(&number) => {
                        if matches!(&asked, Cell::Constant(constant) if not.contains(constant)) {
                            return None;
                        }
                        if matches!(asked, Cell::Constant(_)) {
                            row.columns.insert(number, asked);
                        }
                    }
                    Some(Cell::Any(_)) if free.contains(&number) => {
                        row.columns.insert(number, asked);
                    }
                    Some(known) => {
                        own = own.with(&known, |of| of.rows[at].columns.get(&number))?;
                    }
                }
            }
            if at > 0 {
                own.rows[at].columns.clear();
                own.rows[at].relation = 0;
            }
        }
        let others = own.rows.into_iter().skip(1).filter(|row| row.relation != 0);
        Some((row, others.collect()))
    }

    /// Returns this scenario where one of its values is another one; `None` where it cannot be.
    fn with(&self, known: &Cell, of: impl Fn(&Self) -> Option<&Cell>) -> Option<Self> {
        match (of(self)?, known) {
            (own, known) if own == known => Some(self.clone()),
            (Cell::Any(number), known) => Some(self.substituted(*number, known)),
            (Cell::Except { number, not }, Cell::Constant(constant)) if !not.contains(constant) => {
                Some(self.substituted(*number, known))
            }
            _ => None,
        }
    }

    fn substituted(&self, number: u32, by: &Cell) -> Self {
        self.renumbered(&|n| if n == number { by.clone() } else { Cell::Any(n) })
    }

    fn renumbered(&self, new: &dyn Fn(u32) -> Cell) -> Self {
        let mut changed = self.clone();
        for cell in changed.session.values_mut() {
            *cell = cell.renumbered(new);
        }
        for cell in changed.rows.iter_mut().flat_map(|row| row.columns.values_mut()) {
            *cell = cell.renumbered(new);
        }
        changed
    }
}

impl Cell {
    /// Returns the value with other numbers: each one greater by `more`.
    #[must_use]
    pub fn numbered_from(&self, more: u32) -> Self {
        self.renumbered(&|number| Self::Any(number + more))
    }

    fn renumbered(&self, new: &dyn Fn(u32) -> Self) -> Self {
        let inner = |of: &Self| Box::new(of.renumbered(new));
        match self {
            Self::Any(number) => new(*number),
            Self::Beside { of, is_above } => Self::Beside { of: inner(of), is_above: *is_above },
            Self::Between { low, high } => Self::Between { low: inner(low), high: inner(high) },
            Self::Except { number, not } => match new(*number) {
                Self::Any(number) => Self::Except { number, not: not.clone() },
                other => other,
            },
            Self::List(of) => Self::List(inner(of)),
            Self::Object(keys) => {
                let keys = keys.iter().map(|(key, of)| (key.clone(), of.renumbered(new)));
                Self::Object(keys.collect())
            }
            Self::Part { of, position, separator } => {
                Self::Part { of: inner(of), position: *position, separator: separator.clone() }
            }
            other => other.clone(),
        }
    }

    /// Returns a value to which a further comparison applies as well; `None` where that is not
    /// known.
    fn narrowed(&self, comparison: Comparison, by: &Self) -> Option<Self> {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let is_above = matches!(comparison, Greater | GreaterOrEqual);
        let is_below = matches!(comparison, Less | LessOrEqual);
        let boxed = || Box::new(by.clone());
        match (self, by) {
            (Self::Beside { of, is_above: true }, _) if is_below => {
                Some(Self::Between { low: of.clone(), high: boxed() })
            }
            (Self::Beside { of, is_above: false }, _) if is_above => {
                Some(Self::Between { low: boxed(), high: of.clone() })
            }
            (Self::Beside { of, is_above: was_above }, Self::Constant(Constant::Integer(new)))
                if is_above || is_below =>
            {
                let Self::Constant(Constant::Integer(known)) = **of else { return None };
                let bound = if *was_above { known.max(*new) } else { known.min(*new) };
                let of = Box::new(Self::Constant(Constant::Integer(bound)));
                Some(Self::Beside { of, is_above })
            }
            (Self::Except { number, not }, Self::Constant(constant)) if comparison == NotEqual => {
                let not = not.iter().chain([constant]).cloned().collect();
                Some(Self::Except { number: *number, not })
            }
            (Self::Except { .. }, _) if is_above || is_below => {
                Some(Self::Beside { of: boxed(), is_above })
            }
            _ => None,
        }
    }
}

/// Returns a scenario for each reason why rows pass: the one that asks for least. Where none does,
/// returns one with any row, which is not reached.
///
/// # Errors
/// The condition is too large.
pub fn scenarios(question: &Question<'_>) -> Result<Vec<Scenario>, TooLarge> {
    let asked = Asked::read(*question);
    let writers = Writers::new(*question);
    let choice = Choice { is_new: question.written.is_some(), element: 0 };
    // What is too large is refused before each way is looked at in detail.
    asked.each_way(&mut |_, _| ControlFlow::Continue(()))?;
    let mut shortest: BTreeMap<(Reached, BTreeSet<Asks>), Candidate> = BTreeMap::new();
    for (number, session) in asked.sessions.iter().enumerate() {
        asked.each_way_in(session, false, &mut |literals, way| {
            let ties = way.ties(&BTreeSet::new());
            let reached = reached(way, &ties);
            let mut ways = vec![(reached, None)];
            if matches!(reached, Reached::Tied | Reached::Privileged) {
                let forgeable = writers.forgeable(way, &ties).into_iter();
                ways.extend(forgeable.map(|of| (Reached::Forged(of.command), Some(of))));
            }
            let asks = asks(&asked, literals);
            for (reached, forged) in ways {
                let is_shorter =
                    |known: &Candidate| known.unmet > 0 || literals.len() < known.shortest.1.len();
                let kind = (reached, asks.clone());
                if shortest.get(&kind).is_none_or(is_shorter) {
                    let unmet = solve_all(&asked, choice, session, literals).unmet.len();
                    let found = Candidate { unmet, shortest: (number, literals.to_vec(), forged) };
                    let known = shortest.entry(kind).or_insert_with(|| found.clone());
                    if found.cost() < known.cost() {
                        *known = found;
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
    }
    if shortest.is_empty() {
        let last = asked.sessions.len().saturating_sub(1);
        let nothing = Candidate { unmet: 0, shortest: (last, Vec::new(), None) };
        shortest.insert((Reached::Never, BTreeSet::new()), nothing);
    }
    let found = simplest(shortest).into_iter();
    Ok(found.map(|(reached, found)| scenario((&asked, choice), reached, found.shortest)).collect())
}

/// How values are chosen.
#[derive(Debug, Clone, Copy)]
struct Choice {
    /// Whether the checked row is a new one.
    is_new: bool,
    /// Which element of a list of constants a value is, from 0.
    element: usize,
}

/// How many elements of a list of constants are looked at.
const MOST_ELEMENTS: usize = 3;

/// How many scenarios are returned where each counts.
const MOST_SCENARIOS: usize = 12;

/// Returns scenarios in which rows pass, as far as it is known how to bring them about, up to a
/// number: other than [`scenarios`], also those that are about the same columns with other
/// constants.
#[must_use]
pub fn each_scenario(question: &Question<'_>) -> Vec<Scenario> {
    let asked = Asked::read(*question);
    let is_new = question.written.is_some();
    let mut found: Vec<Scenario> = Vec::new();
    for (number, session) in asked.sessions.iter().enumerate() {
        // Of what is too large, those that were found will do.
        let _ = asked.each_way_in(session, false, &mut |literals, way| {
            let reached = reached(way, &way.ties(&BTreeSet::new()));
            for element in 0..MOST_ELEMENTS {
                let choice = Choice { is_new, element };
                let way = (number, literals.to_vec(), None);
                let new = scenario((&asked, choice), reached, way);
                let is_known = |of: &Scenario| of.rows == new.rows && of.session == new.session;
                if new.unmet.is_empty() && !found.iter().any(is_known) {
                    found.push(new);
                }
            }
            let is_enough = found.len() >= MOST_SCENARIOS;
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
    found
}

/// Something that a way is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    Column(Option<Oid>, i16),
    Session(String),
}

/// Returns the columns and values of the session that literals are about.
fn asks(asked: &Asked<'_>, literals: &[Literal]) -> BTreeSet<Asks> {
    let inspector = asked.inspector();
    let mut all = BTreeSet::new();
    for term in literals.iter().flat_map(|literal| operands(*literal)) {
        let parts = inspector.parts(term);
        let column =
            |(row, number): &(Row, i16)| Asks::Column(asked.found.rows.get(row).copied(), *number);
        all.extend(parts.columns.iter().map(column));
        all.extend(parts.identities.iter().map(|of| Asks::Session(of.name.clone())));
    }
    all
}

/// How many ways for one reason are returned.
const MOST: usize = 8;

/// Returns the ways that ask for no more than another one for the same reason, the simplest ones.
fn simplest(
    all: BTreeMap<(Reached, BTreeSet<Asks>), Candidate>,
) -> impl IntoIterator<Item = (Reached, Candidate)> {
    let mut found: Vec<(Reached, BTreeSet<Asks>, Candidate)> = Vec::new();
    let mut all: Vec<_> =
        all.into_iter().map(|((reached, asks), of)| (reached, asks, of)).collect();
    all.sort_by_key(|(reached, asks, of)| (*reached, asks.len(), of.cost()));
    for (reached, asks, candidate) in all {
        let of_reason = || found.iter().filter(|(known, ..)| *known == reached);
        let says_more = of_reason().any(|(_, known, of)| of.unmet == 0 && known.is_subset(&asks));
        if !says_more && of_reason().count() < MOST {
            found.push((reached, asks, candidate));
        }
    }
    found.into_iter().map(|(reached, _, candidate)| (reached, candidate))
}

/// A way, and how many of its parts cannot be brought about.
#[derive(Clone)]
struct Candidate {
    unmet: usize,
    shortest: Shortest,
}

impl Candidate {
    fn cost(&self) -> (usize, usize) {
        (self.unmet, self.shortest.1.len())
    }
}

/// The number of a session, what holds in it, and what the caller writes first.
type Shortest = (usize, Vec<Literal>, Option<Forgeable>);

fn reached(way: &Way<'_>, ties: &Ties) -> Reached {
    if !ties.columns.is_empty() {
        Reached::Tied
    } else if way.is_privileged(ties) {
        Reached::Privileged
    } else {
        Reached::Open(way.opening())
    }
}

fn scenario(
    (asked, choice): (&Asked<'_>, Choice),
    reached: Reached,
    (number, literals, forged): Shortest,
) -> Scenario {
    let literals = &literals[..];
    let (inspector, found) = (asked.inspector(), &asked.found);
    let constrained = with_checks(asked, &asked.sessions[number], literals);
    let solved = solve_all(asked, choice, &asked.sessions[number], &constrained);
    let mut wanted: BTreeMap<Row, BTreeMap<i16, Cell>> =
        unconditional(inspector.terms, found).map(|row| (row, BTreeMap::new())).collect();
    wanted.insert(Row::CHECKED, BTreeMap::new());
    for ((row, column), cell) in solved.columns {
        let row = solved.twins.get(&row).copied().unwrap_or(row);
        wanted.entry(row).or_default().insert(column, cell);
    }
    for twin in solved.twins.keys() {
        wanted.remove(twin);
    }
    // The row that UPDATE replaces is one of a scenario of its own.
    wanted.remove(&asked.replaced);
    for literal in literals {
        if let Literal::NullRow(row) = literal {
            wanted.remove(row);
        }
    }
    let rows = wanted
        .into_iter()
        .filter_map(|(row, columns)| Some(Planned { relation: *found.rows.get(&row)?, columns }));
    let claims = match asked.caller {
        Some(Caller::Without) if number == 0 => Claims::Missing,
        Some(Caller::Without) => Claims::Role,
        Some(Caller::With) | None => Claims::User,
    };
    Scenario {
        reached,
        witness: Names::of(inspector, found, literals).witness(literals),
        conditions: Names::of(inspector, found, literals).conditions(literals),
        claims,
        session: solved.session,
        rows: rows.collect(),
        unmet: solved.unmet,
        forged,
        may_fail: !(found.denied.is_empty()
            && found.recursive.is_empty()
            && found.not_executable.is_empty()),
    }
}

/// Returns a way that also meets the CHECK constraints of the table, where there is such a one.
fn with_checks(asked: &Asked<'_>, session: &Session, literals: &[Literal]) -> Vec<Literal> {
    let table = asked.found.rows.get(&Row::CHECKED);
    if table.is_none_or(|table| asked.inspector().catalog.checks(*table).is_empty()) {
        return literals.to_vec();
    }
    let mut found = None;
    // Where there are too many ways, the constraints are left to the experiment.
    let _ = asked.each_way_in(session, true, &mut |way, _| {
        if literals.iter().all(|literal| way.contains(literal)) {
            found = Some(way.to_vec());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    found.unwrap_or_else(|| literals.to_vec())
}

/// Returns the rows of lookups of which no condition says anything.
fn unconditional(terms: &Terms, found: &Found) -> impl Iterator<Item = Row> {
    let mentioned: BTreeSet<Row> = terms
        .all()
        .filter_map(|(_, term)| match term {
            Term::Column { row, .. } => Some(*row),
            _ => None,
        })
        .collect();
    found.rows.keys().copied().filter(move |row| !mentioned.contains(row))
}

/// Returns values of the other columns of a row that its CHECK constraints allow, as far as these
/// can be read, and of those that have any value.
pub fn completed(
    catalog: &dyn Catalog,
    relation: Oid,
    known: &BTreeMap<i16, Cell>,
) -> BTreeMap<i16, Cell> {
    let mut terms = Terms::default();
    let mut conditions: Vec<_> = {
        let mut reader = Reader::new(catalog, &mut terms, relation);
        catalog.checks(relation).iter().map(|check| reader.condition(check)).collect()
    };
    if conditions.is_empty() {
        return BTreeMap::new();
    }
    let checks = conditions.len();
    for (number, cell) in known {
        let Some(column) = catalog.column(relation, *number) else { continue };
        let (row, nullable) = (Row::CHECKED, column.nullable);
        let column = terms.add(Term::Column { row, number: *number, nullable });
        if let Cell::Except { not, .. } = cell {
            for constant in not {
                let constant = terms.constant(constant.clone());
                let equal = Formula::Compare(Comparison::NotEqual, column, constant);
                conditions.push(equal.into());
            }
        }
        conditions.push(
            match cell {
                Cell::Null => Formula::IsNull(column),
                Cell::Constant(constant) => {
                    let constant = terms.constant(constant.clone());
                    Formula::Compare(Comparison::Equal, column, constant)
                }
                _ => Formula::Not(Formula::IsNull(column).into()),
            }
            .into(),
        );
    }
    let want = |at| if at < checks { Want::NotFalse } else { Want::True };
    let goals: Vec<_> = conditions.iter().enumerate().map(|(at, of)| (&**of, want(at))).collect();
    let (session, mut columns) = (Session::default(), BTreeMap::new());
    let identities = super::identity::Identities::default();
    let inspector =
        Inspector { terms: &terms, catalog, identities: &identities, checked: Row::CHECKED };
    let mut each = |literals: &[Literal]| {
        let solved = solve(inspector, &session, literals, (&[], 0));
        columns = solved.columns.into_iter().map(|((_, number), cell)| (number, cell)).collect();
        if solved.unmet.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let budget = Budget { ways: 100, ..Budget::default() };
    // Where there are too many ways, the values of the last one may do.
    let _ = ways(&terms, &session, Nulls::WhereTested, budget, &goals, &mut each);
    let is_open = |cell: &Cell| matches!(cell, Cell::Any(_) | Cell::Except { .. });
    columns.retain(|number, _| known.get(number).is_none_or(is_open));
    columns
}

/// Values that make literals true.
struct Solved {
    columns: BTreeMap<(Row, i16), Cell>,
    session: BTreeMap<String, Cell>,
    unmet: BTreeSet<String>,
    /// The rows that are the same as another one.
    twins: BTreeMap<Row, Row>,
}

/// Returns values that make the literals of a way true: rows of one table that agree in a unique
/// key are one row.
fn solve_all(
    asked: &Asked<'_>,
    Choice { is_new, element }: Choice,
    session: &Session,
    literals: &[Literal],
) -> Solved {
    let is_null = |row: Row| literals.contains(&Literal::NullRow(row));
    // A new row is not there yet: what is looked up is another one.
    let is_there = |row: Row| row != asked.replaced && (row != Row::CHECKED || !is_new);
    let all = asked.found.rows.iter().filter(|(row, _)| is_there(**row) && !is_null(**row));
    let mut rows: Vec<(Row, Oid)> = all.map(|(row, relation)| (*row, *relation)).collect();
    rows.sort_unstable();
    solve(asked.inspector(), session, literals, (&rows, element))
}

fn solve(
    inspector: Inspector<'_>,
    session: &Session,
    literals: &[Literal],
    (rows, element): (&[(Row, Oid)], usize),
) -> Solved {
    let mut solver = Solver {
        inspector,
        element,
        twins: BTreeMap::new(),
        merged: HashMap::new(),
        classes: Classes::default(),
        values: HashMap::new(),
        numbers: HashMap::new(),
        nulls: BTreeSet::new(),
        computed: BTreeSet::new(),
        unmet: BTreeSet::new(),
    };
    for (term, is_null) in &session.nulls {
        if *is_null {
            solver.nulls.insert(*term);
        }
    }
    let mut mentioned = BTreeSet::new();
    for term in literals.iter().flat_map(|literal| operands(*literal)) {
        solver.mention(term, &mut mentioned);
    }
    loop {
        solver.classes = Classes::default();
        for (term, constant) in &session.constants {
            solver.join(*term, *constant);
        }
        solver.join_equal(literals);
        // What is equal once two rows are one may make other ones equal.
        if !solver.merge_twins(&mentioned, rows) {
            break;
        }
    }
    for term in &mentioned {
        solver.note_constant(*term);
    }
    solver.join_ordered(literals);
    for literal in literals {
        solver.satisfy(*literal);
    }
    for term in &mentioned {
        if matches!(inspector.terms.get(*term), Term::Unknown(_) | Term::Count(_)) {
            solver.note_unmet(*term);
        }
    }
    for term in &mentioned {
        solver.invert(*term);
    }
    for literal in literals {
        solver.fill(*literal);
    }
    let (mut columns, mut of_session) = (BTreeMap::new(), BTreeMap::new());
    for term in mentioned {
        match inspector.terms.get(term) {
            Term::Column { row, number, .. } if *number > 0 => {
                columns.insert((*row, *number), solver.cell(term));
            }
            Term::Identity(identity) => {
                of_session.insert(identity.name.clone(), solver.cell(term));
            }
            Term::IsEmpty(identity) if solver.values.contains_key(&term) => {
                let empty = Cell::Constant(Constant::Text(String::new()));
                of_session.entry(identity.name.clone()).or_insert(empty);
            }
            _ => {}
        }
    }
    Solved { columns, session: of_session, unmet: solver.unmet, twins: solver.twins }
}

struct Solver<'a> {
    inspector: Inspector<'a>,
    /// Which element of a list of constants a value is, from 0.
    element: usize,
    /// The rows that are the same as another one.
    twins: BTreeMap<Row, Row>,
    /// Their columns, and those of the other ones.
    merged: HashMap<TermId, TermId>,
    classes: Classes,
    /// The values of classes.
    values: HashMap<TermId, Cell>,
    /// The numbers of classes with any value.
    numbers: HashMap<TermId, u32>,
    nulls: BTreeSet<TermId>,
    /// The operations whose results are known.
    computed: BTreeSet<TermId>,
    unmet: BTreeSet<String>,
}

/// The keywords of the time, by the number of `SQLValueFunctionOp`.
const TIMES: [&str; 9] = [
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_TIMESTAMP",
    "LOCALTIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "LOCALTIMESTAMP",
];

/// The calls that return the time of the transaction or statement.
const NOW: [&str; 3] =
    ["pg_catalog.now()", "pg_catalog.transaction_timestamp()", "pg_catalog.statement_timestamp()"];

/// The functions of the server that compute a time of others, or an integer.
const COMPUTING: [&str; 26] = [
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "date_pli",
    "date_mii",
    "integer_pl_date",
    "date_pl_interval",
    "date_mi_interval",
    "timestamp_pl_interval",
    "timestamp_mi_interval",
    "timestamptz_pl_interval",
    "timestamptz_mi_interval",
    "interval_pl",
    "interval_mi",
    "interval_mul",
    "interval_div",
    "interval_um",
    "mul_d_interval",
    "make_interval",
    "date_trunc",
    "timezone",
    "date",
    "timestamp",
    "timestamptz",
    "int4pl",
    "int4mi",
];

impl Solver<'_> {
    /// Notes a term and those in it.
    fn mention(&self, term: TermId, mentioned: &mut BTreeSet<TermId>) {
        if !mentioned.insert(term) {
            return;
        }
        match self.inspector.terms.get(term) {
            Term::Applied { arguments: parts, .. } | Term::Array(parts) => {
                for part in parts {
                    self.mention(*part, mentioned);
                }
            }
            _ => {}
        }
    }

    /// Returns the term of which a term is only another spelling.
    fn base(&self, term: TermId) -> TermId {
        if let Some(same) = self.merged.get(&term) {
            return *same;
        }
        let Term::Applied { operation, arguments, .. } = self.inspector.terms.get(term) else {
            return term;
        };
        let keeps = match operation {
            Operation::Conversion(_) => true,
            Operation::Function(oid, _) if WIDENING.contains(oid) => true,
            Operation::Function(oid, _) => {
                let function = self.inspector.catalog.function(*oid);
                function.is_some_and(|of| of.is_built_in && KEEPING.contains(&of.name.as_str()))
            }
            _ => false,
        };
        match arguments[..] {
            [only] if keeps => self.base(only),
            _ => term,
        }
    }

    /// Makes rows of one table one row where they agree in a unique key; returns whether there was
    /// such a pair that was not known.
    fn merge_twins(&mut self, mentioned: &BTreeSet<TermId>, rows: &[(Row, Oid)]) -> bool {
        let mut columns: BTreeMap<(Row, i16), TermId> = BTreeMap::new();
        for term in mentioned {
            if let Term::Column { row, number, .. } = self.inspector.terms.get(*term) {
                columns.insert((*row, *number), *term);
            }
        }
        for (at, (one, relation)) in rows.iter().enumerate() {
            for (other, _) in rows[at + 1..].iter().filter(|(_, of)| of == relation) {
                if self.twins.contains_key(one) || self.twins.contains_key(other) {
                    continue;
                }
                let keys = self.inspector.catalog.unique_keys(*relation);
                let mut agree = |number: &i16| {
                    let of = |row: &Row| columns.get(&(*row, *number)).copied();
                    let both = of(one).zip(of(other));
                    both.is_some_and(|(a, b)| self.class(a) == self.class(b))
                };
                if keys.iter().any(|key| !key.is_empty() && key.iter().all(&mut agree)) {
                    self.twins.insert(*other, *one);
                    self.note_merged(&columns, *other, *one);
                    return true;
                }
            }
        }
        false
    }

    /// Notes that the columns of a row are those of another one.
    fn note_merged(&mut self, columns: &BTreeMap<(Row, i16), TermId>, row: Row, into: Row) {
        for twin in self.twins.values_mut().filter(|of| **of == row) {
            *twin = into;
        }
        let group: BTreeSet<Row> =
            self.twins.iter().filter(|(_, of)| **of == into).map(|(row, _)| *row).collect();
        let of_group = columns.iter().filter(|((of, _), _)| *of == into || group.contains(of));
        let mut first: BTreeMap<i16, TermId> = BTreeMap::new();
        for ((_, number), term) in of_group {
            let same = *first.entry(*number).or_insert(*term);
            if same != *term {
                self.merged.insert(*term, same);
            }
        }
    }

    fn class(&mut self, term: TermId) -> TermId {
        let base = self.base(term);
        self.classes.of(base)
    }

    fn join(&mut self, a: TermId, b: TermId) {
        let (a, b) = (self.base(a), self.base(b));
        self.classes.join(a, b);
    }

    fn join_equal(&mut self, literals: &[Literal]) {
        for literal in literals {
            match *literal {
                Literal::Compare(Comparison::Equal, a, b) => self.join(a, b),
                Literal::Member(by, a, b, Some(true)) => match self.inspector.terms.get(b) {
                    Term::Array(elements) if by.shape == Shape::Element => {
                        let possible = elements
                            .iter()
                            .filter(|element| !self.are_different(literals, a, **element));
                        let possible: Vec<TermId> = possible.copied().collect();
                        let at = self.element.checked_rem(possible.len()).unwrap_or(0);
                        let found = possible.get(at).or(elements.first()).copied();
                        if let Some(element) = found {
                            self.join(a, element);
                        }
                    }
                    _ if by.operator == 0 => self.join(a, b),
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// Whether it is asked that two terms are different.
    fn are_different(&self, literals: &[Literal], a: TermId, b: TermId) -> bool {
        let pair = BTreeSet::from([self.base(a), self.base(b)]);
        literals.iter().any(|literal| match literal {
            Literal::Compare(Comparison::NotEqual, a, b) => {
                BTreeSet::from([self.base(*a), self.base(*b)]) == pair
            }
            _ => false,
        })
    }

    /// Makes terms equal that only must not be less or greater.
    fn join_ordered(&mut self, literals: &[Literal]) {
        for literal in literals {
            if let Literal::Compare(Comparison::LessOrEqual | Comparison::GreaterOrEqual, a, b) =
                *literal
            {
                let (one, other) = (self.class(a), self.class(b));
                let value = match (self.values.get(&one), self.values.get(&other)) {
                    (Some(_), Some(_)) => continue,
                    (Some(value), None) | (None, Some(value)) => Some(value.clone()),
                    (None, None) => None,
                };
                self.join(a, b);
                let class = self.class(a);
                self.values.extend(value.map(|value| (class, value)));
            }
        }
    }

    fn note_constant(&mut self, term: TermId) {
        let value = match self.inspector.terms.get(term) {
            Term::Constant(constant) => Cell::Constant(constant.clone()),
            Term::Session(SqlValue::CurrentUser | SqlValue::SessionUser) => Cell::Role,
            Term::Session(SqlValue::Time { .. }) => Cell::Now,
            Term::Applied { .. } => {
                let Some(sql) = self.computed(term) else { return };
                self.computed.insert(term);
                if NOW.contains(&sql.as_str()) { Cell::Now } else { Cell::Computed(sql) }
            }
            _ => return,
        };
        let class = self.class(term);
        self.values.insert(class, value);
    }

    /// Returns a term that is computed of constants and the time alone, in SQL.
    fn computed(&self, term: TermId) -> Option<String> {
        let catalog = self.inspector.catalog;
        match self.inspector.terms.get(term) {
            Term::Constant(Constant::Integer(number)) => Some(format!("({number})")),
            Term::Constant(Constant::Text(text)) => Some(quote_literal(text)),
            Term::Constant(Constant::Other(data_type, bytes)) => {
                catalog.constant(*data_type, bytes).map(|text| quote_literal(&text))
            }
            Term::Session(SqlValue::Time { op, .. }) => {
                TIMES.get(usize::from(*op)).map(|keyword| (*keyword).to_owned())
            }
            Term::Applied { operation: Operation::Function(oid, _), arguments, .. } => {
                let function = catalog.function(*oid).filter(|of| of.is_built_in)?;
                let is_known = COMPUTING.contains(&function.name.as_str());
                let arguments: Option<Vec<String>> =
                    arguments.iter().map(|of| self.computed(*of)).collect();
                let arguments = arguments.filter(|_| is_known)?.join(", ");
                Some(format!("pg_catalog.{}({arguments})", function.name))
            }
            _ => None,
        }
    }

    /// Returns the value of a term; a new one where it has none.
    fn cell(&mut self, term: TermId) -> Cell {
        if self.nulls.contains(&term) {
            return Cell::Null;
        }
        let class = self.class(term);
        if let Some(value) = self.values.get(&class) {
            return value.clone();
        }
        let next = self.numbers.len() as u32;
        Cell::Any(*self.numbers.entry(class).or_insert(next))
    }

    /// Gives a term a value; false where it has another one.
    fn set(&mut self, term: TermId, value: Cell) -> bool {
        let class = self.class(term);
        let known = self.values.entry(class).or_insert_with(|| value.clone());
        if let (Cell::Object(known), Cell::Object(more)) = (&mut *known, &value) {
            known.extend(more.clone());
            return true;
        }
        *known == value
    }

    /// Whether a term can be given a value.
    fn is_free(&self, term: TermId) -> bool {
        let base = self.base(term);
        matches!(self.inspector.terms.get(base), Term::Column { .. } | Term::Identity(_))
    }

    fn satisfy(&mut self, literal: Literal) {
        match literal {
            Literal::Null(term) => {
                let base = self.base(term);
                self.nulls.insert(base);
                if !self.is_free(term) {
                    self.note_unmet(term);
                }
            }
            Literal::Holds(term, value) => {
                let base = self.base(term);
                let is_met = match self.inspector.terms.get(base) {
                    Term::IsEmpty(_) if !value => true,
                    Term::Column { .. } | Term::Identity(_) | Term::IsEmpty(_) => {
                        self.set(base, Cell::Constant(Constant::Boolean(value)))
                    }
                    Term::Applied { operation: Operation::Function(oid, _), arguments, .. } => {
                        value && self.matches(*oid, &arguments.clone())
                    }
                    _ => false,
                };
                if !is_met {
                    self.note_unmet(base);
                }
            }
            Literal::Compare(comparison, a, b) => self.order(comparison, a, b),
            _ => {}
        }
    }

    /// Makes a text match a pattern; false where that is not known.
    fn matches(&mut self, function: Oid, arguments: &[TermId]) -> bool {
        let of = self.inspector.catalog.function(function);
        let name = of.filter(|of| of.is_built_in).map(|of| of.name.clone());
        let patterns = ["textlike", "texticlike", "bpcharlike", "bpchariclike", "starts_with"];
        let ([text, pattern], true) =
            (arguments, name.is_some_and(|name| patterns.contains(&name.as_str())))
        else {
            return false;
        };
        let constant = match self.inspector.terms.as_constant(*pattern) {
            Some(Constant::Text(pattern)) => Some(pattern.replace(['%', '_'], "x")),
            _ => None,
        };
        if self.has_value(*text) || !self.is_free(*text) {
            return false;
        }
        let value = match constant {
            Some(constant) => Cell::Constant(Constant::Text(constant)),
            // What is no pattern matches itself.
            None => self.cell(*pattern),
        };
        self.set(*text, value)
    }

    fn order(&mut self, comparison: Comparison, a: TermId, b: TermId) {
        if comparison == Comparison::Equal {
            return;
        }
        let is_strict =
            matches!(comparison, Comparison::NotEqual | Comparison::Less | Comparison::Greater);
        if is_strict && self.class(a) == self.class(b) {
            self.unmet.insert("a part of the condition".to_owned());
            return;
        }
        if self.narrow(comparison, a, b) || self.narrow(comparison.swapped(), b, a) {
            return;
        }
        let (free, fixed, comparison) = match (self.is_free(a), self.is_free(b)) {
            (true, _) if !self.has_value(a) => (a, b, comparison),
            (_, true) if !self.has_value(b) => (b, a, comparison.swapped()),
            (false, false) => {
                self.note_unmet(a);
                return self.note_unmet(b);
            }
            _ => return,
        };
        let value = self.cell(fixed);
        match (comparison, value) {
            (Comparison::NotEqual, Cell::Constant(Constant::Boolean(value))) => {
                self.set(free, Cell::Constant(Constant::Boolean(!value)));
            }
            (Comparison::NotEqual, Cell::Constant(constant)) if self.is_alone(free) => {
                let class = self.class(free);
                let next = self.numbers.len() as u32;
                let number = *self.numbers.entry(class).or_insert(next);
                self.set(free, Cell::Except { number, not: vec![constant] });
            }
            (Comparison::Less | Comparison::Greater, value) => {
                let is_above = comparison == Comparison::Greater;
                self.set(free, Cell::Beside { of: value.into(), is_above });
            }
            _ => {}
        }
    }

    /// Applies a further comparison to a column that has been compared; false where that is not
    /// known.
    fn narrow(&mut self, comparison: Comparison, column: TermId, with: TermId) -> bool {
        let class = self.class(column);
        let known = match self.values.get(&class) {
            Some(known) if self.is_free(column) => known.clone(),
            _ => return false,
        };
        let is_compared =
            matches!(known, Cell::Beside { .. } | Cell::Between { .. } | Cell::Except { .. });
        if !is_compared || self.is_free(with) && !self.has_value(with) {
            return false;
        }
        let by = self.cell(with);
        if let Some(narrowed) = known.narrowed(comparison, &by) {
            self.values.insert(class, narrowed);
        }
        true
    }

    /// Whether a term is a column that is equal to nothing else.
    fn is_alone(&self, term: TermId) -> bool {
        let base = self.base(term);
        let is_column = matches!(self.inspector.terms.get(base), Term::Column { .. });
        is_column && !self.classes.is_joined(base)
    }

    fn has_value(&mut self, term: TermId) -> bool {
        let class = self.class(term);
        self.values.contains_key(&class)
    }

    /// Gives what an operation is applied to a value of which it makes the one that is wanted.
    fn invert(&mut self, term: TermId) {
        let (inspector, base) = (self.inspector, self.base(term));
        let Term::Applied { operation, arguments, .. } = inspector.terms.get(base) else { return };
        let is_asked = self.has_value(base) || self.classes.is_joined(base);
        if base != term || !is_asked || self.computed.contains(&base) {
            return;
        }
        let value = self.cell(base);
        let text = |term: TermId| match inspector.terms.as_constant(term) {
            Some(Constant::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let number = |term: TermId| match inspector.terms.as_constant(term) {
            Some(Constant::Integer(number)) => usize::try_from(*number).ok(),
            _ => None,
        };
        let name_of = |oid: Oid| {
            let function = inspector.catalog.function(oid);
            function.map(|of| if of.is_built_in { of.name.clone() } else { of.signature.clone() })
        };
        let part = |position: usize, separator: String| {
            let of = Box::new(value.clone());
            (position > 0).then_some(Cell::Part { of, position, separator })
        };
        let of = match (operation, &arguments[..]) {
            (Operation::Function(oid, _), [of, rest @ ..]) => {
                match (name_of(*oid).as_deref(), rest) {
                    (
                        Some(
                            "jsonb_object_field"
                            | "jsonb_object_field_text"
                            | "json_object_field"
                            | "json_object_field_text",
                        ),
                        [key],
                    ) => text(*key).map(|key| (*of, Cell::Object([(key, value.clone())].into()))),
                    (Some("split_part"), [separator, position]) => {
                        let at = text(*separator).zip(number(*position));
                        at.and_then(|(separator, at)| Some((*of, part(at, separator)?)))
                    }
                    _ => None,
                }
            }
            (Operation::Subscript(false), [list, position]) => {
                let folders = match inspector.terms.get(*list) {
                    Term::Applied { operation: Operation::Function(oid, _), arguments, .. } => {
                        match (name_of(*oid).as_deref(), &arguments[..]) {
                            (Some("storage.foldername(text)"), [of]) => Some((*of, "/".to_owned())),
                            (Some("string_to_array"), [of, separator]) => {
                                text(*separator).map(|separator| (*of, separator))
                            }
                            _ => None,
                        }
                    }
                    _ => None,
                };
                folders
                    .zip(number(*position))
                    .and_then(|((of, separator), at)| Some((of, part(at, separator)?)))
            }
            _ => None,
        };
        let is_set = of.is_some_and(|(of, cell)| self.is_free(of) && self.set(of, cell));
        if !is_set {
            self.note_unmet(base);
        }
    }

    /// Gives a list the element that it must have.
    fn fill(&mut self, literal: Literal) {
        let Literal::Member(by, a, b, Some(true)) = literal else { return };
        let (list, element) = match by.shape {
            Shape::Element if by.operator == 0 => return,
            Shape::Element | Shape::Contained => (b, a),
            Shape::Contains | Shape::Key | Shape::Overlap => (a, b),
        };
        // An element that an array of terms has was made equal to it.
        let is_array = |term| matches!(self.inspector.terms.get(term), Term::Array(_));
        if by.shape == Shape::Element && is_array(list) {
            return;
        }
        let value = self.as_element(element);
        if self.is_free(list) {
            if self.set(list, value.clone()) {
                return;
            }
        } else if self.is_free(element) {
            // A constant list: the element is its own list.
            let list = self.as_element(list);
            if self.set(element, list) {
                return;
            }
        }
        self.note_unmet(list);
    }

    /// Returns a list with a term as its element; the term, where it is a list already.
    fn as_element(&mut self, term: TermId) -> Cell {
        let base = self.base(term);
        match self.inspector.terms.get(base) {
            Term::Array(elements) => match elements.first().copied() {
                Some(first) => Cell::List(self.cell(first).into()),
                None => Cell::Null,
            },
            Term::Constant(constant @ Constant::Other(..)) => Cell::Constant(constant.clone()),
            _ => Cell::List(self.cell(term).into()),
        }
    }

    fn note_unmet(&mut self, term: TermId) {
        let what = match self.inspector.terms.get(self.base(term)) {
            Term::Applied { operation: Operation::Function(oid, _), .. } => {
                let function = self.inspector.catalog.function(*oid);
                function.map(|of| format!("the result of {}()", of.name))
            }
            Term::Column { .. } | Term::Constant(_) | Term::Identity(_) => return,
            Term::Count(_) => Some("a number of rows".to_owned()),
            _ => None,
        };
        self.unmet.insert(what.unwrap_or_else(|| "a part of the condition".to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_comparison_narrows_a_value() {
        use Comparison::{Greater, Less, NotEqual};
        let number = |n| Cell::Constant(Constant::Integer(n));
        let beside = |n, is_above| Cell::Beside { of: number(n).into(), is_above };
        let between = |a, b| Cell::Between { low: number(a).into(), high: number(b).into() };
        let except = |all: &[i64]| Cell::Except {
            number: 1,
            not: all.iter().map(|n| Constant::Integer(*n)).collect(),
        };
        for (known, comparison, by, expected) in [
            (beside(1, true), Less, 5, Some(between(1, 5))),
            (beside(5, false), Greater, 1, Some(between(1, 5))),
            (beside(1, true), Greater, 5, Some(beside(5, true))),
            (beside(1, false), Less, 5, Some(beside(1, false))),
            (except(&[1]), NotEqual, 2, Some(except(&[1, 2]))),
            (except(&[1]), Greater, 2, Some(beside(2, true))),
            (between(1, 5), Less, 3, None),
        ] {
            let narrowed = known.narrowed(comparison, &number(by));
            assert_eq!(narrowed, expected, "{known:?} {comparison:?} {by}");
        }
    }
}
