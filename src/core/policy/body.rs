//! Which rows the body of a SECURITY DEFINER routine lets its callers reach, apart from those that
//! are tied to the caller.

use super::asked::subqueries;
use super::facts::Catalog;
use super::formula::Comparison;
use super::identity::{Identities, Kind};
use super::literals::Literal;
use super::opening::{Way, operands};
use super::parts::Inspector;
use super::reader::{Access, Found, Reader};
use super::search::{Budget, Nulls, TooLarge, Want, ways};
use super::sessions::sessions;
use super::term::{Row, Term, Terms};
use super::witness::Names;
use crate::catalog::{BodyAccess, BodyWay, Oid, Opening};
use crate::stored::Query;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// The body of a routine, for a client that calls it.
#[derive(Clone, Copy)]
pub struct CalledBody<'a> {
    /// What the statements mention.
    pub catalog: &'a dyn Catalog,
    /// Where the values of sessions are.
    pub identities: &'a Identities,
    /// The client.
    pub client: Oid,
    /// The role as which the routine is executed.
    pub owner: Oid,
    /// The names of the arguments.
    pub arguments: &'a [String],
    /// The statements.
    pub statements: &'a [Query],
}

/// Returns the accesses of a body to tables whose row security does not apply to its owner, with
/// the ways in which they reach rows that are not tied to the caller, and the names of what is not
/// known in it.
#[must_use]
pub fn body_accesses(body: &CalledBody<'_>) -> (Vec<BodyAccess>, BTreeSet<String>) {
    let CalledBody { catalog, identities, client, owner, arguments, statements } = *body;
    let mut terms = Terms::default();
    let mut reader = Reader::of_body(catalog, &mut terms, (client, owner), identities, arguments);
    let mut accesses = Vec::new();
    for statement in statements {
        // What is not known may raise an error, so that nothing after it is executed.
        if !reader.unknown.is_empty() {
            break;
        }
        accesses.extend(reader.statement(statement));
    }
    let (found, unknown) = (reader.found, reader.unknown);
    let name = catalog.role_name(client).unwrap_or_default();
    let caller = identities.sessions.get(&name).copied();
    let sessions = sessions(identities, &mut terms, caller, &name);
    let mut all = Vec::new();
    for access in accesses {
        let mut found = found.clone();
        found.rows.remove(&access.row);
        found.rows.insert(Row::CHECKED, access.relation);
        let inspector = Inspector { terms: &terms, catalog, identities, checked: access.row };
        let asked = AskedAccess { inspector, found: &found, arguments, access: &access };
        let mut open = Opened::default();
        let subqueries = subqueries(inspector, std::slice::from_ref(&access.condition));
        let searched = sessions.iter().try_for_each(|session| {
            let goals = [(&*access.condition, Want::True)];
            ways(&terms, session, Nulls::Everywhere, Budget::default(), &goals, &mut |literals| {
                catalog.interrupts();
                asked.add(&Way::new(inspector, &found, &subqueries, literals), literals, &mut open);
                ControlFlow::Continue(())
            })
        });
        // Of what is too large, nothing is known.
        let ways = if searched == Err(TooLarge) { Vec::new() } else { asked.ways(open) };
        all.push(BodyAccess {
            relation: access.relation,
            command: access.command,
            is_asked_only: access.is_asked_only,
            ways,
        });
    }
    (all, unknown)
}

/// By kind of opening, columns that are equal to arguments, whether there is an argument, and the
/// name that was captured: the shortest way.
type Opened = BTreeMap<(Opening, BTreeSet<i16>, bool, Option<String>), Vec<Literal>>;

/// An access that is asked about.
struct AskedAccess<'a> {
    inspector: Inspector<'a>,
    found: &'a Found,
    arguments: &'a [String],
    access: &'a Access,
}

impl AskedAccess<'_> {
    /// Adds a way, unless the row is tied to the caller in it, or the caller has a right.
    fn add(&self, way: &Way<'_>, literals: &[Literal], open: &mut Opened) {
        let ties = way.ties(&BTreeSet::new());
        if !ties.columns.is_empty() || way.is_privileged(&ties) {
            return;
        }
        let has_argument = literals.iter().any(|literal| {
            operands(*literal).into_iter().any(|term| {
                let parts = self.inspector.parts(term);
                parts.identities.iter().any(|of| of.kind == Kind::Argument)
            })
        });
        let captured = literals.iter().find_map(|literal| self.captured(*literal));
        let key = (way.opening(), self.by_argument(literals), has_argument, captured);
        let shortest = open.entry(key).or_insert_with(|| literals.to_vec());
        if literals.len() < shortest.len() {
            *shortest = literals.to_vec();
        }
    }

    /// Returns the columns by which arguments tie the row, as values of the session would.
    fn by_argument(&self, literals: &[Literal]) -> BTreeSet<i16> {
        let is_argument = |kind: Kind| kind == Kind::Argument;
        let (without, untrusted) = Default::default();
        super::ties::ties(self.inspector, literals, &is_argument, &without, &untrusted).columns
    }

    /// Returns the name of the argument, or of the column of another row, that a column of the same
    /// name is taken for: the column is compared with itself.
    fn captured(&self, literal: Literal) -> Option<String> {
        let Literal::Compare(Comparison::Equal, a, b) = literal else { return None };
        let Term::Column { row, number, .. } = self.inspector.terms.get(a) else { return None };
        if a != b {
            return None;
        }
        let is_checked = *row == self.access.row;
        let row = if is_checked { Row::CHECKED } else { *row };
        let catalog = self.inspector.catalog;
        let name = catalog.column_name(*self.found.rows.get(&row)?, *number)?;
        let is_of_row = !is_checked && catalog.has_column(self.access.relation, &name);
        (self.arguments.contains(&name) || is_of_row).then_some(name)
    }

    fn ways(&self, open: Opened) -> Vec<BodyWay> {
        let catalog = self.inspector.catalog;
        let names = |columns: BTreeSet<i16>| {
            let relation = self.access.relation;
            columns.into_iter().filter_map(|n| catalog.column_name(relation, n)).collect()
        };
        let of_one = |((opening, by_argument, has_argument, captured), literals): (_, Vec<_>)| {
            let subqueries = HashMap::new();
            let way = Way::new(self.inspector, self.found, &subqueries, &literals);
            let relations = way.lookups().into_iter();
            let lookups = relations.filter_map(|(_, oid)| catalog.relation_name(oid)).collect();
            let names_of_rows = Names::of(self.inspector, self.found, &literals);
            BodyWay {
                opening,
                columns: names(way.conditions_on_row()),
                lookups,
                by_argument: names(by_argument),
                has_argument,
                captured,
                witness: names_of_rows.witness(&literals),
            }
        };
        open.into_iter().map(of_one).collect()
    }
}
