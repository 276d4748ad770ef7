//! From a stored expression to a [`Formula`] over terms.
//!
//! Nothing is executed and nothing fails: what is not known becomes a term of which nothing is
//! known, and [`Reader::unknown`] has its name.

mod body;
mod call;
mod calls;
mod expression;
mod given;
mod lookup;
mod query;
mod session;
mod several;

pub use body::Access;

use super::facts::Catalog;
use super::formula::Formula;
use super::identity::Identities;
use super::term::{Constant, Row, Term, TermId, Terms};
use super::value::{Meaning, Value, choice};
use crate::catalog::{Calls, CapturedArgument, Oid};
use crate::stored::{Expression, Query};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// How deeply views, and functions whose body is a query, are followed.
pub const DEEPEST: usize = 6;

/// How many terms the values and conditions of one expression may have.
const LARGEST: usize = 20_000;

/// The entries of a range table that are the checked row. Policies have one; the conditions of
/// views have, up to version 15, two that stand for no rows before that of their table.
const ENTRIES: usize = 3;

/// Reads the expressions of one policy, whose rows, subqueries and unknown values are told apart.
pub struct Reader<'a> {
    catalog: &'a dyn Catalog,
    /// The terms so far.
    pub terms: &'a mut Terms,
    /// The names of what could not be read.
    pub unknown: BTreeSet<String>,
    /// The columns of the checked row that are mentioned.
    pub columns: BTreeSet<i16>,
    /// What was found where lookups are read.
    pub found: Found,
    /// Where the values of the session are.
    identities: Option<&'a Identities>,
    /// The role that reads lookups, and those as which functions and views are executed, the
    /// innermost last. Where there is none, all rows are read.
    users: Vec<Oid>,
    /// The owner of the view whose tables are read; `None` where the current user reads them.
    reads_as: Option<Oid>,
    /// The row that the checked one replaces, where a condition on it is read, and the columns that
    /// may have other values in it.
    replaced: Option<(Row, BTreeSet<i16>)>,
    /// The tables whose policies are being read.
    policies_of: Vec<Oid>,
    /// Whether lookups find rows that no privilege or policy lets their reader read.
    finds_unreadable: bool,
    /// How many bodies of functions are being read.
    functions: usize,
    /// How many of the subqueries that are being read the server executes once: they are about no
    /// row outside of them.
    once: usize,
    scopes: Vec<Scope>,
    /// The arguments of the functions whose bodies are read, the innermost last.
    arguments: Vec<Vec<Meaning>>,
    /// The names of the arguments of the routine whose body is read as a whole.
    own_arguments: &'a [String],
    /// The rows that the body of a routine reaches, where it is read as a whole.
    accesses: Vec<Access>,
    /// Whether such rows are noted: the ones of a condition are not returned.
    notes_accesses: bool,
    /// Whether a subquery is only asked whether it has rows.
    only_asks: bool,
    /// The columns of the subqueries that a value is compared with.
    compared: Vec<Vec<Meaning>>,
    /// The operands of the surrounding CASE expressions.
    operands: Vec<Meaning>,
    /// Of each count of rows: what is true of those rows, and whether there may be none even so.
    counts: HashMap<TermId, (Rc<Formula>, bool)>,
    /// How often a value of the session, or a row of a table, was asked for.
    asked_session: usize,
    /// The queries whose aggregates are read, the innermost last.
    grouped: Vec<Grouped>,
    /// The collation of the orders of texts that are read: those of another one are unknown.
    order: Option<Oid>,
    depth: usize,
    size: usize,
}

/// What was found where lookups are read.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The relation that each row belongs to.
    pub rows: HashMap<Row, Oid>,
    /// Whether it matters which role asks, by `current_user`.
    pub asks_user: bool,
    /// The functions of operators that are not the server's, with the names of the operators.
    pub operators: HashMap<Oid, String>,
    /// The relations that the reader of a lookup has no privilege on.
    pub denied: BTreeSet<Oid>,
    /// The functions that are declared IMMUTABLE although they ask the session or tables.
    pub immutable: BTreeSet<String>,
    /// The functions whose caller can give names in their texts to other objects, with these
    /// objects.
    pub captured: BTreeMap<String, BTreeSet<String>>,
    /// The functions that their caller has no privilege on.
    pub not_executable: BTreeSet<String>,
    /// The tables of which no policy lets the reader of a lookup read a row.
    pub hidden: BTreeSet<Oid>,
    /// The rows that the condition itself looks up, and that its reader cannot read.
    pub unreadable: BTreeSet<Row>,
    /// The tables whose policies lead to themselves: the server raises an error.
    pub recursive: BTreeSet<Oid>,
    /// What the condition calls.
    pub calls: Calls,
    /// The constants that stand for values of the session that are not set.
    pub fallbacks: BTreeSet<TermId>,
    /// The results of functions that say nothing of a row or caller, with the calls.
    pub facts: BTreeMap<TermId, String>,
    /// The columns that results of which nothing is known may depend on.
    pub depends: BTreeMap<TermId, BTreeSet<(Row, i16)>>,
    /// The rows that the body of a function looks up without asking for an argument that is about
    /// the checked row: a column has its name.
    pub without_argument: BTreeMap<Row, CapturedArgument>,
    /// The constants that the name of the current user is.
    pub role_names: BTreeSet<TermId>,
}

/// What aggregates are about.
#[derive(Clone)]
struct Grouped {
    /// What is true of the rows.
    condition: Rc<Formula>,
    /// Whether there may be none even so.
    reads: bool,
    /// Whether all rows are one group.
    is_one: bool,
    /// Whether the row with the least or greatest value is taken for an aggregate: that of another
    /// aggregate may be another row.
    has_extreme: bool,
}

/// The range table of a query, from entry 1.
struct Scope {
    entries: Vec<Entry>,
    /// The queries of WITH.
    with: Rc<Vec<(String, Query)>>,
}

/// What the columns of a range table entry are.
#[derive(Clone)]
enum Entry {
    /// Those of a row of a table.
    Row { row: Row, relation: Oid, nullable: bool },
    /// Those of a subquery.
    Columns(Vec<Meaning>),
    /// Those of a join or of GROUP BY: expressions in the same query.
    Expressions(Rc<Vec<Expression>>),
    /// Nothing is known of them.
    Unknown,
}

impl<'a> Reader<'a> {
    /// Returns a reader of expressions about rows of a relation.
    pub fn new(catalog: &'a dyn Catalog, terms: &'a mut Terms, relation: Oid) -> Self {
        let checked = Entry::Row { row: Row::CHECKED, relation, nullable: false };
        Self {
            catalog,
            terms,
            unknown: BTreeSet::new(),
            columns: BTreeSet::new(),
            found: Found { rows: [(Row::CHECKED, relation)].into(), ..Found::default() },
            identities: None,
            users: Vec::new(),
            reads_as: None,
            replaced: None,
            policies_of: Vec::new(),
            finds_unreadable: false,
            functions: 0,
            once: 0,
            scopes: vec![Scope { entries: vec![checked; ENTRIES], with: Rc::default() }],
            arguments: Vec::new(),
            own_arguments: &[],
            accesses: Vec::new(),
            notes_accesses: false,
            only_asks: false,
            compared: Vec::new(),
            operands: Vec::new(),
            counts: HashMap::new(),
            asked_session: 0,
            grouped: Vec::new(),
            order: None,
            depth: 0,
            size: 0,
        }
    }

    /// Returns the reader for a role, whose sessions have values in known places. The conditions
    /// are those of policies of the relation.
    pub fn for_role(mut self, role: Oid, relation: Oid, identities: &'a Identities) -> Self {
        self.users = vec![role];
        self.policies_of = vec![relation];
        self.identities = Some(identities);
        self
    }

    /// Returns the reader that takes lookups for readable that are not.
    pub fn finding_unreadable(mut self, finds_unreadable: bool) -> Self {
        self.finds_unreadable = finds_unreadable;
        self
    }

    /// Returns the condition that a stored expression is.
    pub fn condition(&mut self, expression: &Expression) -> Rc<Formula> {
        match self.meaning(expression) {
            Meaning::Condition(condition) => condition,
            Meaning::Value(value) => Rc::new(self.holds(&value)),
        }
    }

    /// Returns the value that a stored expression is.
    fn value(&mut self, expression: &Expression) -> Value {
        let meaning = self.meaning(expression);
        self.as_value(meaning)
    }

    fn as_value(&mut self, meaning: Meaning) -> Value {
        match meaning {
            Meaning::Value(value) => value,
            Meaning::Condition(condition) => {
                let mut constant =
                    |value| Value::Term(self.terms.constant(Constant::Boolean(value)));
                let (yes, no) = (constant(true), constant(false));
                match *condition {
                    Formula::Constant(Some(true)) => yes,
                    Formula::Constant(Some(false)) => no,
                    Formula::Constant(None) => Value::Null,
                    _ => {
                        let is_unknown = Rc::new(Formula::IsUnknown(Rc::clone(&condition)));
                        Value::when(&condition, yes, Value::when(&is_unknown, Value::Null, no))
                    }
                }
            }
        }
    }

    /// Returns the condition that a boolean value is.
    fn holds(&self, value: &Value) -> Formula {
        value.condition(&mut |term| match term {
            None => Formula::NULL,
            Some(term) => match self.terms.as_constant(term) {
                Some(Constant::Boolean(value)) => Formula::Constant(Some(*value)),
                _ => Formula::Holds(term),
            },
        })
    }

    /// Returns what a part of a condition is of which nothing is known.
    fn unknown(&mut self, what: &str, is_boolean: bool) -> Meaning {
        if !what.is_empty() {
            self.unknown.insert(what.to_owned());
        }
        let number = self.terms.fresh();
        let term = self.terms.add(Term::Unknown(number));
        Self::of_term(term, is_boolean)
    }

    fn of_term(term: TermId, is_boolean: bool) -> Meaning {
        if is_boolean {
            Meaning::Condition(Rc::new(Formula::Holds(term)))
        } else {
            Meaning::Value(Value::Term(term))
        }
    }

    /// Whether a value of this size may still be built.
    fn fits(&mut self, size: usize) -> bool {
        self.size = self.size.saturating_add(size);
        self.catalog.interrupts();
        if self.size > LARGEST {
            self.unknown.insert("a condition that is too large".to_owned());
        }
        self.size <= LARGEST
    }

    /// Returns the first meaning where the condition is true, else the second.
    fn when(&mut self, condition: &Rc<Formula>, then: Meaning, otherwise: Meaning) -> Meaning {
        match (then, otherwise) {
            (Meaning::Condition(then), Meaning::Condition(otherwise)) => {
                let both = (Rc::unwrap_or_clone(then), Rc::unwrap_or_clone(otherwise));
                Meaning::Condition(Rc::new(choice(condition, both.0, both.1)))
            }
            (then, otherwise) => {
                let (then, otherwise) = (self.as_value(then), self.as_value(otherwise));
                if then.size().saturating_add(otherwise.size()) > LARGEST {
                    return self.unknown("a condition that is too large", false);
                }
                Meaning::Value(Value::when(condition, then, otherwise))
            }
        }
    }
}

#[cfg(test)]
mod tests;
