//! Search for the ways in which a condition can have a wanted value.
//!
//! Goals are divided by the tables of three-valued logic until literals remain; literals that
//! contradict each other end a way. What is not known of a value is left open, so the search finds
//! every way that there is, and may find some that there are not: "there is no way" is proven,
//! "there is a way" may be wrong where functions are involved that the search does not know.

use super::formula::{Comparison, Formula};
use super::literals::{Literal, Session, contradict};
use super::term::Terms;
use std::ops::ControlFlow;
use std::rc::Rc;

/// What a condition is wanted to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Want {
    True,
    False,
    Null,
    NotTrue,
    NotFalse,
}

impl Want {
    /// Returns what the negation of the condition is wanted to be.
    fn negated(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::False => Self::True,
            Self::Null => Self::Null,
            Self::NotTrue => Self::NotFalse,
            Self::NotFalse => Self::NotTrue,
        }
    }

    fn allows(self, value: Option<bool>) -> bool {
        match self {
            Self::True => value == Some(true),
            Self::False => value == Some(false),
            Self::Null => value.is_none(),
            Self::NotTrue => value != Some(true),
            Self::NotFalse => value != Some(false),
        }
    }

    /// Whether a condition that is never null is wanted to be true; `None`: it is wanted to be
    /// null.
    fn of_two_values(self) -> Option<bool> {
        match self {
            Self::True | Self::NotFalse => Some(true),
            Self::False | Self::NotTrue => Some(false),
            Self::Null => None,
        }
    }
}

/// The search took more steps than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the condition is too large")]
pub struct TooLarge;

/// What a search may cost.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Budget {
    /// Goals, literals and choices that are looked at.
    pub steps: usize,
    /// Ways that are found.
    pub ways: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { steps: 200_000, ways: 2_000 }
    }
}

/// Where nulls are considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// Wherever there can be one.
    Everywhere,
    /// Only where the condition asks for them, as with IS NULL: a comparison has a result.
    WhereTested,
}

/// Whether all goals can be reached at once.
///
/// # Errors
/// [`TooLarge`] where the budget does not suffice.
pub fn is_possible(
    terms: &Terms,
    session: &Session,
    nulls: Nulls,
    goals: &[(&Formula, Want)],
) -> Result<bool, TooLarge> {
    let mut found = false;
    ways(terms, session, nulls, Budget::default(), goals, &mut |_| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Calls `each` with the literals of every way to reach all goals at once, until it breaks.
///
/// # Errors
/// [`TooLarge`] where the budget does not suffice.
pub fn ways(
    terms: &Terms,
    session: &Session,
    nulls: Nulls,
    budget: Budget,
    goals: &[(&Formula, Want)],
    each: &mut dyn FnMut(&[Literal]) -> ControlFlow<()>,
) -> Result<(), TooLarge> {
    let mut search = Search { terms, session, nulls, left: budget, each };
    let mut open = vec![Way { goals: goals.to_vec(), choices: Vec::new(), literals: Vec::new() }];
    // The ways that are not followed yet are kept in a list: a recursion could go too deep.
    while let Some(way) = open.pop() {
        if search.follow(way, &mut open)?.is_break() {
            break;
        }
    }
    Ok(())
}

type Goal<'f> = (&'f Formula, Want);

/// What is still to be reached, and what must hold for what is reached.
#[derive(Clone)]
struct Way<'f> {
    goals: Vec<Goal<'f>>,
    /// Goals that can be reached in several ways, each with those ways.
    choices: Vec<Rc<Vec<Alternative<'f>>>>,
    literals: Vec<Literal>,
}

/// One way to reach a goal.
#[derive(Debug, Clone, Default)]
struct Alternative<'f> {
    goals: Vec<Goal<'f>>,
    literals: Vec<Literal>,
}

struct Search<'a> {
    terms: &'a Terms,
    session: &'a Session,
    nulls: Nulls,
    left: Budget,
    each: &'a mut dyn FnMut(&[Literal]) -> ControlFlow<()>,
}

impl Search<'_> {
    /// Follows a way as long as there is one way to reach each goal; at a choice, its ways are
    /// added to those that are open. Breaks where the caller has seen enough.
    fn follow<'f>(
        &mut self,
        mut way: Way<'f>,
        open: &mut Vec<Way<'f>>,
    ) -> Result<ControlFlow<()>, TooLarge> {
        while let Some((formula, want)) = way.goals.pop() {
            let mut alternatives = alternatives(formula, want, self.nulls);
            self.spend(1 + alternatives.len())?;
            match alternatives.len() {
                0 => return Ok(ControlFlow::Continue(())),
                1 => {
                    let only = alternatives.remove(0);
                    way.goals.extend(only.goals);
                    way.literals.extend(only.literals);
                }
                _ => way.choices.push(Rc::new(alternatives)),
            }
        }
        self.spend(way.literals.len())?;
        if contradict(self.terms, self.session, &way.literals) {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(choice) = way.choices.pop() else { return self.end(&way.literals) };
        for alternative in choice.iter().rev() {
            self.spend(way.literals.len() + way.choices.len())?;
            let mut next = way.clone();
            next.goals.extend(&alternative.goals);
            next.literals.extend(&alternative.literals);
            open.push(next);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooLarge> {
        self.left.steps = self.left.steps.checked_sub(steps).ok_or(TooLarge)?;
        Ok(())
    }

    fn end(&mut self, literals: &[Literal]) -> Result<ControlFlow<()>, TooLarge> {
        self.left.ways = self.left.ways.checked_sub(1).ok_or(TooLarge)?;
        Ok((self.each)(literals))
    }
}

impl<'f> Alternative<'f> {
    fn goals(goals: impl IntoIterator<Item = Goal<'f>>) -> Self {
        Self { goals: goals.into_iter().collect(), literals: Vec::new() }
    }

    fn literals(literals: impl IntoIterator<Item = Literal>) -> Self {
        Self { goals: Vec::new(), literals: literals.into_iter().collect() }
    }
}

/// Returns the ways in which a formula has the wanted value.
fn alternatives(formula: &Formula, want: Want, nulls: Nulls) -> Vec<Alternative<'_>> {
    let three_valued = |true_, false_, null| {
        let is_tested = nulls == Nulls::Everywhere || want == Want::Null;
        three_valued(want, true_, false_, if is_tested { null } else { Vec::new() })
    };
    let if_allowed = |allowed| if allowed { vec![Alternative::default()] } else { Vec::new() };
    match formula {
        Formula::Constant(value) => if_allowed(want.allows(*value)),
        Formula::Not(part) => vec![Alternative::goals([(&**part, want.negated())])],
        Formula::All(parts) => joined(parts, want, Want::False),
        Formula::Any(parts) => joined(parts, want, Want::True),
        Formula::Holds(term) => {
            let is = |value| Alternative::literals([Literal::Holds(*term, value)]);
            let null = || Alternative::literals([Literal::Null(*term)]);
            three_valued(vec![is(true)], vec![is(false)], vec![null()])
        }
        Formula::Compare(comparison, a, b) => {
            let (a, b) = (*a, *b);
            let is = |comparison| Alternative::literals([Literal::Compare(comparison, a, b)]);
            let null = |term| Alternative::literals([Literal::Null(term)]);
            let mut nulls = vec![null(a)];
            nulls.extend((a != b).then(|| null(b)));
            three_valued(vec![is(*comparison)], vec![is(comparison.negated())], nulls)
        }
        Formula::Member(by, a, b) => {
            let (by, a, b) = (*by, *a, *b);
            let is = |value| Alternative::literals([Literal::Member(by, a, b, value)]);
            let null = |term| Alternative::literals([Literal::Null(term)]);
            // An array can be empty, or have an element that is null.
            let empty = Alternative::literals([Literal::Null(a), Literal::NotNull(b)]);
            let nulls = vec![null(a), null(b), is(None)];
            three_valued(vec![is(Some(true))], vec![is(Some(false)), empty], nulls)
        }
        Formula::Distinct(a, b) => {
            use Literal::{Compare, NotNull, Null};
            let (a, b) = (*a, *b);
            match want.of_two_values() {
                None => Vec::new(),
                Some(true) => vec![
                    Alternative::literals([Compare(Comparison::NotEqual, a, b)]),
                    Alternative::literals([Null(a), NotNull(b)]),
                    Alternative::literals([NotNull(a), Null(b)]),
                ],
                Some(false) => vec![
                    Alternative::literals([Compare(Comparison::Equal, a, b)]),
                    Alternative::literals([Null(a), Null(b)]),
                ],
            }
        }
        Formula::IsNull(term) => match want.of_two_values() {
            None => Vec::new(),
            Some(true) => vec![Alternative::literals([Literal::Null(*term)])],
            Some(false) => vec![Alternative::literals([Literal::NotNull(*term)])],
        },
        Formula::IsUnknown(part) => {
            let goal = |want| Alternative::goals([(&**part, want)]);
            match want.of_two_values() {
                None => Vec::new(),
                Some(true) => vec![goal(Want::Null)],
                Some(false) => vec![goal(Want::True), goal(Want::False)],
            }
        }
        Formula::If(condition, then, otherwise) => vec![
            Alternative::goals([(&**then, want), (&**condition, Want::True)]),
            Alternative::goals([(&**otherwise, want), (&**condition, Want::NotTrue)]),
        ],
        Formula::Exists(subquery) => {
            let found = subquery.queries.iter().map(|(body, _)| Alternative {
                goals: vec![(&**body, Want::True)],
                literals: vec![Literal::Found(subquery.number, true)],
            });
            match want.of_two_values() {
                None => Vec::new(),
                Some(true) => found.collect(),
                Some(false) => {
                    // What reads something may find it empty; what does not has one row or none.
                    let rows = subquery.queries.iter().filter(|(_, reads)| !reads);
                    vec![Alternative {
                        goals: rows.map(|(body, _)| (&**body, Want::NotTrue)).collect(),
                        literals: vec![Literal::Found(subquery.number, false)],
                    }]
                }
            }
        }
        Formula::AllNull(rows) => match want.of_two_values() {
            None => Vec::new(),
            Some(true) => {
                vec![Alternative::literals(rows.iter().map(|row| Literal::NullRow(*row)))]
            }
            Some(false) => if_allowed(true),
        },
    }
}

/// Returns the ways of a condition that is true, false or null in the given ways.
fn three_valued<'f>(
    want: Want,
    true_: Vec<Alternative<'f>>,
    false_: Vec<Alternative<'f>>,
    null: Vec<Alternative<'f>>,
) -> Vec<Alternative<'f>> {
    let mut ways = Vec::new();
    for (value, those) in [(Some(true), true_), (Some(false), false_), (None, null)] {
        ways.extend(want.allows(value).then_some(those).into_iter().flatten());
    }
    ways
}

/// Returns the ways of AND, which one false part decides, or of OR, which one true part decides.
fn joined<'f>(parts: &'f [Rc<Formula>], want: Want, decides: Want) -> Vec<Alternative<'f>> {
    let not_decided = match decides {
        Want::False => Want::NotFalse,
        _ => Want::NotTrue,
    };
    let goal = |part: &'f Rc<Formula>, want| (&**part, want);
    let all = |want| vec![Alternative::goals(parts.iter().map(|part| goal(part, want)))];
    let any = |want| parts.iter().map(|part| Alternative::goals([goal(part, want)])).collect();
    if want == Want::Null {
        let of = |null: usize| {
            Alternative::goals(parts.iter().enumerate().map(|(index, part)| {
                goal(part, if index == null { Want::Null } else { not_decided })
            }))
        };
        return (0..parts.len()).map(of).collect();
    }
    // Wanted is the deciding value, or what includes it.
    if want == decides || want.allows(decides.of_two_values()) {
        let needed = if want == decides { decides } else { not_decided.negated() };
        return any(needed);
    }
    all(want)
}

#[cfg(test)]
mod tests {
    use super::super::formula::evaluated;
    use super::super::term::{Constant, Row, Term, TermId};
    use super::*;
    use proptest::prelude::*;

    /// Columns 1 and 2 are integers, of which 2 can be null; 3 is a nullable boolean.
    fn vocabulary() -> (Terms, Vec<TermId>, TermId) {
        let mut terms = Terms::default();
        let mut column =
            |number, nullable| terms.add(Term::Column { row: Row::CHECKED, number, nullable });
        let (a, b, c) = (column(1, false), column(2, true), column(3, true));
        let mut values = vec![a, b];
        values.extend((0..3).map(|n| terms.constant(Constant::Integer(n))));
        (terms, values, c)
    }

    /// Every row whose integers are a little more than the constants, with the halves between them:
    /// the search takes an order for dense.
    fn rows() -> impl Iterator<Item = [Option<i64>; 3]> {
        let numbers = || (-1..4).map(Some);
        let booleans = [None, Some(0), Some(1)];
        numbers().flat_map(move |a| {
            numbers().chain([None]).flat_map(move |b| booleans.map(|c| [a, b, c]))
        })
    }

    fn formula(values: Vec<TermId>, boolean: TermId) -> impl Strategy<Value = Rc<Formula>> {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let comparisons = [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual];
        let term = || prop::sample::select(values.clone());
        let leaf = prop_oneof![
            6 => (prop::sample::select(comparisons.to_vec()), term(), term())
                .prop_map(|(op, a, b)| Formula::Compare(op, a, b)),
            1 => (term(), term()).prop_map(|(a, b)| Formula::Distinct(a, b)),
            1 => term().prop_map(Formula::IsNull),
            2 => Just(Formula::Holds(boolean)),
            1 => prop::sample::select(vec![Some(true), Some(false), None])
                .prop_map(Formula::Constant),
        ];
        leaf.prop_map(Rc::new).prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Formula::All),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Formula::Any),
                inner.clone().prop_map(Formula::Not),
                inner.clone().prop_map(Formula::IsUnknown),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| Formula::If(a, b, c)),
            ]
            .prop_map(Rc::new)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Every row that has the wanted value is on a way, and every row on a way has it.
        #[test]
        fn ways_are_exactly_the_rows_with_the_wanted_value(
            formula in { let (_, values, boolean) = vocabulary(); formula(values, boolean) },
            want in prop::sample::select(vec![
                Want::True, Want::False, Want::Null, Want::NotTrue, Want::NotFalse,
            ]),
        ) {
            let (terms, ..) = vocabulary();
            let mut found = Vec::new();
            let searched = ways(&terms, &Session::default(), Nulls::Everywhere, Budget::default(),
                &[(&formula, want)], &mut |way| {
                    found.push(way.to_vec());
                    ControlFlow::Continue(())
                });
            prop_assume!(searched.is_ok());
            for row in rows() {
                let expected = want.allows(evaluated::formula(&terms, &row, &formula));
                let on_way = found.iter().any(|way| way.iter().all(|l| l.is_met(&terms, &row)));
                prop_assert_eq!(on_way, expected, "{:?} {:?}", row, found);
            }
        }
    }
}
