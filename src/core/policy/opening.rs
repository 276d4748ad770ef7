//! Why a row that is not tied to the caller passes: what kind of opening a way is.

use super::asks::AskReader;
use super::formula::{Comparison, Shape};
use super::identity::{Identity, Kind};
use super::literals::Literal;
use super::parts::{Inspector, Parts};
use super::reader::Found;
use super::term::{Constant, Operation, Row, Term, TermId};
use super::ties::Ties;
use crate::catalog::{CapturedArgument, Oid, Opening};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The functions of the server that match a text with a pattern.
const PATTERNS: [&str; 17] = [
    "textlike",
    "textnlike",
    "texticlike",
    "texticnlike",
    "textregexeq",
    "textregexne",
    "texticregexeq",
    "texticregexne",
    "bpcharlike",
    "bpcharnlike",
    "bpchariclike",
    "bpcharicnlike",
    "bpcharregexeq",
    "namelike",
    "nameregexeq",
    "starts_with",
    "like",
];

/// What the columns of a row are equal to.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// By other row: the columns that are equal to columns of it, and these.
    pub others: BTreeMap<Row, (BTreeSet<i16>, BTreeSet<i16>)>,
    /// The columns that are equal to constants.
    pub constants: BTreeSet<i16>,
}

/// What a subquery is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subquery {
    /// Whether there is a value of the session in it.
    pub has_identity: bool,
    /// Whether it is about columns of the checked row.
    pub is_of_checked: bool,
}

/// One way in which a row passes.
pub struct Way<'a> {
    inspector: Inspector<'a>,
    found: &'a Found,
    subqueries: &'a HashMap<u32, Subquery>,
    literals: &'a [Literal],
    parts: Vec<(Literal, Vec<Parts>)>,
    /// The columns that contain what is not trusted, and what is equal to them.
    untrusted: BTreeMap<(Row, i16), Kind>,
}

impl<'a> Way<'a> {
    /// Returns the way that literals are.
    pub fn new(
        inspector: Inspector<'a>,
        found: &'a Found,
        subqueries: &'a HashMap<u32, Subquery>,
        literals: &'a [Literal],
    ) -> Self {
        let parts = literals.iter().map(|literal| {
            (*literal, operands(*literal).into_iter().map(|term| inspector.parts(term)).collect())
        });
        let mut way = Self {
            inspector,
            found,
            subqueries,
            literals,
            parts: parts.collect(),
            untrusted: BTreeMap::new(),
        };
        way.find_untrusted();
        way
    }

    /// Returns the way that other literals about the same terms are.
    pub fn of<'b>(&self, literals: &'b [Literal]) -> Way<'b>
    where
        'a: 'b,
    {
        Way::new(self.inspector, self.found, self.subqueries, literals)
    }

    /// Returns what is tied to the caller by trusted values, where some rows of lookups do not
    /// count.
    pub fn ties(&self, without: &BTreeSet<Row>) -> Ties {
        let is_trusted = |kind: Kind| self.inspector.identities.ties(kind);
        let untrusted = self.untrusted.keys().copied().collect();
        super::ties::ties(self.inspector, self.literals, &is_trusted, without, &untrusted)
    }

    /// As [`Way::ties`], without columns that are only in functions which may map different values
    /// to one.
    pub fn strict_ties(&self, without: &BTreeSet<Row>) -> Ties {
        let is_trusted = |kind: Kind| self.inspector.identities.ties(kind);
        let untrusted = self.untrusted.keys().copied().collect();
        super::ties::strict_ties(self.inspector, self.literals, &is_trusted, without, &untrusted)
    }

    /// Whether the caller has the right whatever the row is: a trusted value is a constant, or a
    /// row of the caller's in a lookup has one.
    pub fn is_privileged(&self, ties: &Ties) -> bool {
        self.captured_argument().is_none()
            && self.with_constants().any(|(literal, parts)| {
                let is_right = |of: &Identity| of.kind != Kind::User && self.is_trusted(of);
                let is_trusted = |parts: &Parts| match literal {
                    // A part of what the application says, as a boolean or in a list.
                    Literal::Holds(_, true) | Literal::Member(..) => {
                        let of = &parts.identities;
                        let is_alone = parts.columns.is_empty() && parts.opaque.is_empty();
                        is_alone && !of.is_empty() && of.iter().all(is_right)
                    }
                    _ => parts.identity().is_some_and(is_right),
                };
                let is_of_caller = |parts: &Parts| {
                    self.untrusted_column(parts).is_none()
                        && parts.row().is_some_and(|row| {
                            ties.lookups.contains(&row) && !self.is_for_another_row(row)
                        })
                };
                let is_asked = match literal {
                    Literal::Compare(Comparison::Equal, ..) | Literal::Holds(_, true) => true,
                    // A value that may be empty is contained in any.
                    Literal::Member(by, .., Some(true)) => by.shape != Shape::Contained,
                    _ => false,
                };
                is_asked
                    && !self.is_about_no_value(literal)
                    && parts.iter().any(|parts| is_trusted(parts) || is_of_caller(parts))
            })
    }

    /// Whether a row of a lookup says something of other rows than the checked one: a column of its
    /// key has the name of a column of that row, and nothing is asked of it. A member of any tenant
    /// is none of each.
    fn is_for_another_row(&self, row: Row) -> bool {
        let catalog = self.inspector.catalog;
        let (Some(lookup), Some(table)) = (self.relation_of(row), self.relation_of(Row::CHECKED))
        else {
            return false;
        };
        let asked: BTreeSet<i16> = self
            .parts
            .iter()
            .filter(|(literal, _)| !matches!(literal, Literal::NotNull(_)))
            .flat_map(|(_, parts)| parts.iter().flat_map(|of| of.columns_of(row)))
            .collect();
        let is_missing = |number: &i16| {
            let name = catalog.column_name(lookup, *number);
            !asked.contains(number) && name.is_some_and(|name| catalog.has_column(table, &name))
        };
        let keys = catalog.unique_keys(lookup);
        // A key that is asked for as a whole is the one of its row.
        let has_whole_key = keys.iter().any(|key| key.is_subset(&asked));
        let about = keys.iter().filter(|key| !key.is_disjoint(&asked));
        !has_whole_key && about.flatten().any(is_missing)
    }

    /// Whether a literal says that something is the empty text: a parameter that was set for an
    /// earlier transaction of the session.
    fn is_about_no_value(&self, literal: Literal) -> bool {
        let is_empty = |term| match self.inspector.terms.get(term) {
            Term::Constant(Constant::Text(text)) => text.is_empty(),
            _ => false,
        };
        matches!(literal, Literal::Compare(Comparison::Equal, a, b) if is_empty(a) || is_empty(b))
    }

    fn is_trusted(&self, of: &Identity) -> bool {
        self.inspector.identities.ties(of.kind)
    }

    /// Returns the literals that compare something with a constant, or that are boolean values.
    fn with_constants(&self) -> impl Iterator<Item = (Literal, &[Parts])> {
        self.parts.iter().filter_map(|(literal, parts)| {
            let is_boolean = matches!(literal, Literal::Holds(..));
            (is_boolean || parts.iter().any(Parts::is_constant)).then_some((*literal, &parts[..]))
        })
    }

    /// Returns what a column of a lookup contains that is not trusted.
    fn untrusted_column(&self, parts: &Parts) -> Option<Kind> {
        parts.columns.iter().find_map(|column| self.untrusted.get(column)).copied()
    }

    /// Finds the columns that contain what is not trusted.
    fn find_untrusted(&mut self) {
        let declared = &self.inspector.identities.columns;
        let catalog = self.inspector.catalog;
        let columns = self.parts.iter().flat_map(|(_, parts)| parts).flat_map(|p| &p.columns);
        let kind = |(row, number): &(Row, i16)| {
            let table = catalog.relation_name(*self.found.rows.get(row)?)?;
            if *number == 0 {
                // The whole row.
                let is_of_table = |(name, _): &(&String, &Kind)| {
                    name.strip_prefix(&table).is_some_and(|rest| rest.starts_with('.'))
                };
                let kinds = declared.iter().filter(is_of_table).map(|(_, kind)| *kind);
                return kinds.max_by_key(|kind| *kind == Kind::UserEditable);
            }
            let column = catalog.column_name(*self.found.rows.get(row)?, *number)?;
            declared.get(&format!("{table}.{column}")).copied()
        };
        let mut found: BTreeMap<Kind, BTreeSet<(Row, i16)>> = BTreeMap::new();
        for column in columns {
            if let Some(kind) = kind(column) {
                found.entry(kind).or_default().insert(*column);
            }
        }
        found.retain(|kind, _| !self.inspector.identities.ties(*kind));
        for (kind, mut columns) in found {
            super::ties::with_equal(self.inspector, self.literals, &mut columns);
            self.untrusted.extend(columns.into_iter().map(|column| (column, kind)));
        }
    }

    /// Returns what kind of opening the way is, where no row is tied by it.
    pub fn opening(&self) -> Opening {
        self.by_untrusted()
            .or_else(|| self.by_opaque())
            .or_else(|| self.by_comparison())
            .or_else(|| self.by_fallback())
            .or_else(|| self.by_lookup())
            .unwrap_or_else(|| self.by_row())
    }

    fn by_untrusted(&self) -> Option<Opening> {
        let mut kinds: BTreeSet<Kind> = BTreeSet::new();
        for (literal, parts) in &self.parts {
            let is_equality = matches!(
                literal,
                Literal::Compare(Comparison::Equal, ..)
                    | Literal::Member(.., Some(true))
                    | Literal::Holds(_, true)
            );
            if is_equality {
                let identities = parts.iter().filter_map(|parts| parts.identity());
                kinds.extend(identities.map(|identity| identity.kind));
                kinds.extend(parts.iter().filter_map(|parts| self.untrusted_column(parts)));
            }
        }
        let openings = [
            (Kind::UserEditable, Opening::UserClaim),
            (Kind::Request, Opening::Request),
            (Kind::Settable, Opening::SettableParameter),
            (Kind::Email, Opening::Email),
        ];
        let is_one = |kind: &Kind| kinds.contains(kind) && !self.inspector.identities.ties(*kind);
        openings.into_iter().find(|(kind, _)| is_one(kind)).map(|(_, opening)| opening)
    }

    /// A way is opaque where it depends on something of which nothing is known, and where a value
    /// of the session is in a function that may map different values to one.
    fn by_opaque(&self) -> Option<Opening> {
        let mut is_opaque = self.opaque_terms().next().is_some();
        // The function of an operator of the application may be one of the server's.
        let is_of_operator = |function| self.found.operators.contains_key(&function);
        let mut terms = self.literals.iter().flat_map(|literal| operands(*literal));
        let is_foreign = !self.found.operators.is_empty()
            && terms.any(|term| self.inspector.calls(term, &is_of_operator));
        let is_lossy = self.parts.iter().any(|(literal, parts)| {
            matches!(literal, Literal::Compare(Comparison::Equal, ..))
                && parts
                    .iter()
                    .any(|parts| (parts.is_lossy || parts.is_part) && parts.asks_session())
        });
        let is_related =
            self.parts.iter().any(|(literal, parts)| self.is_computed(*literal, parts));
        // Of the claims as a whole, it is not known what is asked for.
        let asks_claims = self.parts.iter().any(|(literal, parts)| {
            matches!(literal, Literal::Member(..))
                && parts.iter().flat_map(|p| &p.identities).any(|of| of.kind == Kind::Claims)
        });
        is_opaque |= is_lossy || is_related || asks_claims;
        match (is_foreign, is_opaque) {
            (true, _) => Some(Opening::ForeignOperator),
            (_, true) => Some(Opening::Opaque),
            _ => None,
        }
    }

    /// Whether a literal relates the row to a value of the session in a way that is not understood:
    /// by the result of a function, or by what a document contains.
    fn is_computed(&self, literal: Literal, parts: &[Parts]) -> bool {
        let asks = match literal {
            Literal::Holds(term, _) => !self.is_pattern(term),
            Literal::Member(by, .., Some(true)) if by.shape == Shape::Key => true,
            Literal::Member(by, a, b, Some(true)) if by.shape == Shape::Contains => {
                parts.iter().any(|of| of.is_computed)
                    || [a, b].into_iter().any(|of| self.inspector.is_root(of))
            }
            Literal::Compare(..) | Literal::Member(.., Some(true)) | Literal::NotNull(_) => {
                parts.iter().any(|of| of.is_computed)
            }
            _ => false,
        };
        asks && parts.iter().any(Parts::asks_session) && parts.iter().any(Parts::is_of_checked)
    }

    /// Whether a term is whether a text matches a pattern.
    fn is_pattern(&self, term: TermId) -> bool {
        self.inspector.called(term, &PATTERNS).is_some()
    }

    /// Returns the terms of which it is not known what they are, with what they are made of. What
    /// says nothing of a row or caller is none of them.
    fn opaque_terms(&self) -> impl Iterator<Item = (TermId, Parts)> {
        let terms = self.literals.iter().flat_map(|literal| operands(*literal));
        let terms = terms.filter(|term| !self.found.facts.contains_key(term));
        terms
            .map(|term| (term, self.inspector.parts(term)))
            .filter(|(_, parts)| !parts.opaque.is_empty())
    }

    /// Returns the columns of the checked row that are asked for something of which nothing is
    /// known; `None` where something is asked of which it is not known that it is about the row: it
    /// may be a right of the caller.
    pub fn asked_of_unknown(&self) -> Option<BTreeSet<i16>> {
        let mut all = BTreeSet::new();
        let is_unknown = |(term, parts): &(TermId, &Parts)| {
            !parts.opaque.is_empty() && !self.found.facts.contains_key(term)
        };
        for (literal, parts) in &self.parts {
            let terms = || operands(*literal).into_iter().zip(parts);
            if !terms().any(|of| is_unknown(&of)) {
                continue;
            }
            let mut of_row = BTreeSet::new();
            for (term, parts) in terms() {
                let further = self.found.depends.get(&term).into_iter().flatten();
                of_row.extend(parts.columns_of(Row::CHECKED));
                of_row.extend(further.filter(|(row, _)| *row == Row::CHECKED).map(|(_, n)| *n));
            }
            if of_row.is_empty() {
                return None;
            }
            all.extend(of_row);
        }
        Some(all)
    }

    fn by_comparison(&self) -> Option<Opening> {
        let mut found = BTreeSet::new();
        for (literal, parts) in &self.parts {
            let has_identity = parts.iter().any(|parts| !parts.identities.is_empty());
            let is_of_checked = parts.iter().any(Parts::is_of_checked);
            match literal {
                Literal::Holds(..) if has_identity && is_of_checked => {
                    found.insert(Opening::Pattern);
                }
                Literal::Compare(comparison, ..) if is_of_checked => {
                    // The time is the same for all callers.
                    let is_other = |parts: &Parts| {
                        let is_of_lookup = parts.is_of_lookup() || !parts.opaque.is_empty();
                        is_of_lookup && !parts.is_of_checked()
                    };
                    match comparison {
                        Comparison::NotEqual if has_identity => {
                            found.insert(Opening::Inverted);
                        }
                        Comparison::Equal | Comparison::NotEqual => {}
                        _ if has_identity || parts.iter().any(is_other) => {
                            found.insert(Opening::NotEqual);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        found.pop_first()
    }

    /// A way is open to sessions without a value where a constant stands for it.
    fn by_fallback(&self) -> Option<Opening> {
        let is_fallback = |(literal, _): &(Literal, Vec<Parts>)| match *literal {
            Literal::Compare(Comparison::Equal, a, b) => self.is_fallback(a) || self.is_fallback(b),
            _ => false,
        };
        let is_missing = |(literal, parts): &(Literal, Vec<Parts>)| {
            matches!(literal, Literal::Null(_)) && parts.iter().any(Parts::asks_session)
        };
        let is_open = self.parts.iter().any(is_fallback) && self.parts.iter().any(is_missing);
        is_open.then_some(Opening::WithoutIdentity)
    }

    /// Whether a term is a constant that stands for a value of the session, or a conversion of it.
    fn is_fallback(&self, term: TermId) -> bool {
        self.found.fallbacks.contains(&term)
            || match self.inspector.terms.get(term) {
                Term::Applied { operation: Operation::Conversion(_), arguments, .. } => {
                    arguments.iter().any(|argument| self.is_fallback(*argument))
                }
                _ => false,
            }
    }

    fn by_lookup(&self) -> Option<Opening> {
        let rows = self.lookup_rows();
        let missing: Vec<Subquery> = self.missing().collect();
        if missing.iter().any(|about| about.has_identity && about.is_of_checked) {
            return Some(Opening::Inverted);
        }
        if rows.is_empty() && missing.is_empty() {
            return None;
        }
        let is_captured = |(literal, parts): &(Literal, Vec<Parts>)| match literal {
            Literal::Compare(Comparison::Equal, a, b) => a == b && parts[0].is_of_lookup(),
            _ => false,
        };
        if self.parts.iter().any(is_captured) || self.without_argument(&rows).is_some() {
            return Some(Opening::NameCaptured);
        }
        let has_identity = self.parts.iter().any(|(_, parts)| {
            parts.iter().any(|parts| parts.identity().is_some_and(|of| self.is_trusted(of)))
        }) || missing.iter().any(|about| about.has_identity);
        Some(match has_identity {
            true => Opening::LookupUncorrelated,
            false if self.is_opened_by_parent(&rows) => Opening::RowOpenByParent,
            false => Opening::LookupUnbound,
        })
    }

    /// Returns the argument of a function that looks up a row, and was to ask for the checked row.
    pub fn captured_argument(&self) -> Option<&'a CapturedArgument> {
        self.without_argument(&self.lookup_rows())
    }

    fn without_argument(&self, rows: &BTreeSet<Row>) -> Option<&'a CapturedArgument> {
        rows.iter().find_map(|row| self.found.without_argument.get(row))
    }

    /// Returns the subqueries that have found no row.
    fn missing(&self) -> impl Iterator<Item = Subquery> {
        self.literals.iter().filter_map(|literal| match literal {
            Literal::Found(number, false) => {
                Some(self.subqueries.get(number).copied().unwrap_or_default())
            }
            _ => None,
        })
    }

    /// Whether columns of the checked row have certain values, and nothing else is asked.
    pub fn is_by_flags(&self) -> bool {
        let constants = self.joined(Row::CHECKED).constants;
        let mut all = self.parts.iter().flat_map(|(_, parts)| parts);
        self.conditions_on_row().is_subset(&constants)
            && all.all(|of| of.identities.is_empty() && of.opaque.is_empty() && !of.is_of_lookup())
    }

    /// Whether it matters that a subquery finds no row.
    pub fn misses_row(&self) -> bool {
        self.missing().next().is_some()
    }

    fn lookup_rows(&self) -> BTreeSet<Row> {
        let columns = self.parts.iter().flat_map(|(_, parts)| parts).flat_map(|p| &p.columns);
        columns.map(|(row, _)| *row).filter(|row| *row != Row::CHECKED).collect()
    }

    /// Whether all rows of lookups are joined to the row, and one of them has a constant.
    fn is_opened_by_parent(&self, rows: &BTreeSet<Row>) -> bool {
        let mut joined: BTreeMap<Row, BTreeSet<Row>> = BTreeMap::new();
        for (literal, parts) in &self.parts {
            let rows: BTreeSet<Row> =
                parts.iter().flat_map(|parts| &parts.columns).map(|(row, _)| *row).collect();
            if matches!(literal, Literal::Compare(Comparison::Equal, ..) | Literal::Member(..)) {
                for row in &rows {
                    joined.entry(*row).or_default().extend(&rows);
                }
            }
        }
        let (mut reached, mut waiting) = (BTreeSet::new(), vec![Row::CHECKED]);
        while let Some(row) = waiting.pop() {
            if reached.insert(row) {
                waiting.extend(joined.get(&row).into_iter().flatten());
            }
        }
        rows.iter().all(|row| reached.contains(row))
            && self.with_constants().any(|(_, parts)| parts.iter().any(Parts::is_of_lookup))
    }

    fn by_row(&self) -> Opening {
        let is_about_row = |(literal, parts): &(Literal, Vec<Parts>)| {
            parts.iter().any(Parts::is_of_checked)
                && match literal {
                    Literal::Compare(Comparison::Equal, a, b) => a != b,
                    Literal::Null(_) | Literal::NotNull(_) | Literal::NullRow(_) => false,
                    _ => true,
                }
        };
        let is_null = |(literal, parts): &(Literal, Vec<Parts>)| {
            matches!(literal, Literal::Null(_)) && parts.iter().any(Parts::is_of_checked)
        };
        let is_not_null = |(literal, parts): &(Literal, Vec<Parts>)| match literal {
            Literal::NotNull(_) => parts.iter().any(Parts::is_of_checked),
            // A column that is equal to itself is not null.
            Literal::Compare(Comparison::Equal, a, b) => {
                a == b && parts.iter().any(Parts::is_of_checked) && self.can_be_null(*a)
            }
            _ => false,
        };
        let is_without_identity = |(literal, parts): &(Literal, Vec<Parts>)| {
            let is_missing =
                matches!(literal, Literal::Null(_)) || self.is_about_no_value(*literal);
            is_missing && parts.iter().any(|parts| parts.identity().is_some())
        };
        let is_role = |(literal, parts): &(Literal, Vec<Parts>)| {
            matches!(literal, Literal::Compare(Comparison::Equal, ..))
                && parts.iter().any(Parts::is_of_checked)
                && (parts.iter().any(|parts| parts.has_role_name)
                    || operands(*literal).into_iter().any(|term| self.is_role_name(term)))
        };
        let are_tenants = self.inspector.identities.roles_are_tenants;
        if !are_tenants && self.parts.iter().any(is_role) {
            Opening::RoleName
        } else if self.parts.iter().any(is_about_row) {
            Opening::RowOpen
        } else if self.parts.iter().any(is_without_identity) {
            Opening::WithoutIdentity
        } else if self.parts.iter().any(is_null) {
            Opening::NullRowOpen
        } else if self.parts.iter().any(is_not_null) {
            Opening::RowOpen
        } else {
            Opening::IgnoresRow
        }
    }

    /// Whether a term is the name of the current user, or a conversion of it.
    fn is_role_name(&self, term: TermId) -> bool {
        self.found.role_names.contains(&term)
            || match self.inspector.terms.get(term) {
                Term::Applied { arguments, .. } => match arguments[..] {
                    [only] => self.is_role_name(only),
                    _ => false,
                },
                _ => false,
            }
    }

    fn can_be_null(&self, term: TermId) -> bool {
        matches!(self.inspector.terms.get(term), Term::Column { nullable: true, .. })
    }

    /// Returns the rows of lookups that the way is about, with their relations.
    pub fn lookups(&self) -> Vec<(Row, Oid)> {
        let rows = self.lookup_rows().into_iter();
        rows.filter_map(|row| Some((row, self.relation_of(row)?))).collect()
    }

    /// Returns the relation that a row belongs to; `None` for the row of a subquery.
    pub fn relation_of(&self, row: Row) -> Option<Oid> {
        self.found.rows.get(&row).copied()
    }

    /// Whether a column must be equal to another one.
    pub fn are_equal(&self, column: (Row, i16), other: (Row, i16)) -> bool {
        let mut equal = BTreeSet::from([column]);
        super::ties::with_equal(self.inspector, self.literals, &mut equal);
        equal.contains(&other)
    }

    /// Returns what reads what the way asks of rows.
    pub fn ask_reader(&self) -> AskReader<'_> {
        AskReader { terms: self.inspector.terms, catalog: self.inspector.catalog }
    }

    /// Returns the literals of the way.
    pub fn literals(&self) -> &[Literal] {
        self.literals
    }

    /// Returns what the columns of a row are equal to.
    pub fn joined(&self, row: Row) -> Joined {
        let mut joined = Joined::default();
        for (literal, parts) in &self.parts {
            if let (Literal::Holds(..), [of]) = (literal, &parts[..]) {
                joined.constants.extend(of.columns_of(row));
            }
            let is_equality = matches!(
                literal,
                Literal::Compare(Comparison::Equal, ..) | Literal::Member(.., Some(true))
            );
            let [a, b] = &parts[..] else { continue };
            for (one, other) in [(a, b), (b, a)].into_iter().filter(|_| is_equality) {
                let own: BTreeSet<i16> = one.columns_of(row).collect();
                if own.is_empty() {
                    continue;
                }
                if other.is_constant() {
                    joined.constants.extend(&own);
                }
                for (of, number) in other.columns.iter().filter(|(of, _)| *of != row) {
                    let (mine, theirs) = joined.others.entry(*of).or_default();
                    mine.extend(&own);
                    theirs.insert(*number);
                }
            }
        }
        joined
    }

    /// Returns the columns of the checked row that are equal to something, or elements of it.
    pub fn equal_columns(&self) -> BTreeSet<i16> {
        let is_equality = |(literal, _): &&(Literal, Vec<Parts>)| match literal {
            Literal::Compare(Comparison::Equal, a, b) => a != b,
            Literal::Member(by, .., Some(true)) => by.shape == Shape::Element,
            _ => false,
        };
        let parts = self.parts.iter().filter(is_equality).flat_map(|(_, parts)| parts);
        let columns = parts.flat_map(|parts| parts.columns_of(Row::CHECKED).collect::<Vec<_>>());
        columns.collect()
    }

    /// Returns the rows that are found by columns of which no index begins with one, with their
    /// tables and these columns. The checked row is found by what is equal to a value of the
    /// session, the rows of lookups also by what is equal to other rows.
    pub fn unindexed(&self) -> BTreeSet<(Row, Oid, BTreeSet<i16>)> {
        let mut found: BTreeMap<Row, BTreeSet<i16>> = BTreeMap::new();
        for literal in self.literals {
            let pairs = match *literal {
                Literal::Compare(Comparison::Equal, a, b) if a != b => vec![(a, b), (b, a)],
                Literal::Member(by, a, b, Some(true)) if by.shape == Shape::Element => {
                    vec![(a, b)]
                }
                _ => vec![],
            };
            for (column, other) in pairs {
                let Term::Column { row, number, .. } = *self.inspector.terms.get(column) else {
                    continue;
                };
                let other = self.inspector.parts(other);
                let is_of_session = !other.identities.is_empty() && other.columns.is_empty();
                let is_of_other = || {
                    let mut rows = other.columns.iter().map(|(row, _)| row);
                    !other.columns.is_empty() && rows.all(|of| *of != row)
                };
                if is_of_session || (row != Row::CHECKED && is_of_other()) {
                    found.entry(row).or_default().insert(number);
                }
            }
        }
        let catalog = self.inspector.catalog;
        let with_table = found.into_iter().filter_map(|(row, columns)| {
            let table = self.relation_of(row)?;
            let has_index = columns.iter().any(|number| catalog.begins_index(table, *number));
            (!has_index).then_some((row, table, columns))
        });
        with_table.collect()
    }

    /// Returns the columns of the checked row that are asked for something, without those of
    /// lookups.
    pub fn conditions_on_row(&self) -> BTreeSet<i16> {
        let columns = self.parts.iter().flat_map(|(_, parts)| parts).flat_map(|p| &p.columns);
        columns.filter(|(row, _)| *row == Row::CHECKED).map(|(_, number)| *number).collect()
    }
}

/// Returns the terms that a literal is about.
pub fn operands(literal: Literal) -> Vec<TermId> {
    match literal {
        Literal::Null(a) | Literal::NotNull(a) | Literal::Holds(a, _) => vec![a],
        Literal::Compare(_, a, b) | Literal::Member(_, a, b, _) => vec![a, b],
        Literal::NullRow(_) | Literal::Found(..) => vec![],
    }
}
