//! Lookups that their reader can write: a row that such a lookup ties to the caller is one that the
//! caller can take.

use super::asked::{Asked, Question, Written};
use super::asks::{Ask, Operand, always, any};
use super::facts::{Policies, Writable};
use super::literals::Literal;
use super::opening::Way;
use super::search::TooLarge;
use super::taken::{OfCaller, Replacing};
use super::term::{Row, TermId};
use super::ties::{Tie, Ties};
use crate::catalog::{Command, Forgeable, Free, Oid};
use crate::stored::Expression;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

/// How deeply the policies of lookups are followed for what their own lookups allow.
const DEEPEST: usize = 3;

/// How many ways are noted in which a row of a lookup ties rows to the caller.
const MOST_SUFFICIENT: usize = 100;

/// The checked row, where what is asked of a row of a lookup is noted as of [`Row::CHECKED`].
const READ: Row = Row(1);

/// Finds what a role can write.
pub struct Writers<'a> {
    question: Question<'a>,
    known: RefCell<HashMap<Asking, Option<Given>>>,
    sufficient: OnceCell<Vec<Sufficient>>,
    /// What writes lookups in a way that is not known.
    unknown: RefCell<BTreeSet<String>>,
}

/// What is asked for: rows of a table by a command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asking {
    table: Oid,
    command: Command,
    /// The columns that lead to other rows.
    joined: BTreeSet<i16>,
    /// The columns that are to have certain values.
    constants: BTreeSet<i16>,
    /// What else than leading to other rows is asked of a row.
    asks: Vec<Ask>,
    /// The columns that say whose row it is.
    of_caller: OfCaller,
    /// What is asked of a row that does the same for the caller, in one of several ways.
    sufficient: Vec<Vec<Ask>>,
}

/// A way in which a row of a lookup lets the caller pass.
struct Sufficient {
    lookup: Oid,
    /// What is asked of that row alone.
    asks: Vec<Ask>,
    /// What else is asked, with the checked row as [`READ`].
    others: HashSet<Ask>,
    /// The relations of the other rows that are looked up, in their order.
    relations: Vec<Oid>,
}

/// Columns that a role can give the value that it wants.
#[derive(Debug, Clone)]
struct Given {
    through: Option<String>,
    columns: BTreeSet<i16>,
    why: Free,
}

/// What is asked of the rows of a question, as literals about its terms.
struct Wanted {
    /// Of the row that is written.
    new: Vec<Literal>,
    /// That the columns that are taken have a value.
    taken: Vec<Literal>,
    /// Those of the first that are about constants.
    bound: Vec<Literal>,
    /// For each row that the writer has already, in each of the sufficient ways.
    own: Vec<(Row, Vec<Vec<Literal>>)>,
    /// As those, of the row that UPDATE replaces, where that leads to the same rows.
    replaced: Vec<Vec<Literal>>,
    /// The elements of arrays of constants.
    lists: HashMap<TermId, Vec<TermId>>,
}

impl Wanted {
    fn of(
        asked: &mut Asked<'_>,
        asking: &Asking,
        (written, taken): (&BTreeSet<i16>, &BTreeSet<i16>),
    ) -> Self {
        let taken = taken.iter().map(|of| Ask::NotNull(Operand::Column(Row::CHECKED, *of)));
        let taken = asked.literals(&taken.collect::<Vec<_>>(), &|_| Row::CHECKED);
        let rows = asked.found.rows.iter();
        let own = rows.filter(|(row, of)| **row != Row::CHECKED && **of == asking.table);
        let own: Vec<Row> = own.map(|(row, _)| *row).collect();
        let mut in_each = |row: &dyn Fn(i16) -> Row| -> Vec<Vec<Literal>> {
            asking.sufficient.iter().map(|asks| asked.literals(asks, row)).collect()
        };
        let own = own.into_iter().map(|of| (of, in_each(&|_| of))).collect();
        let is_update = asking.command == Command::Update;
        let replaced = if is_update && asking.joined.is_disjoint(written) {
            let row = asked.replaced;
            let of_column =
                |number: i16| if written.contains(&number) { row } else { Row::CHECKED };
            asking.sufficient.iter().map(|asks| asked.literals(asks, &of_column)).collect()
        } else {
            Vec::new()
        };
        let new = asked.literals(&asking.asks, &|_| Row::CHECKED);
        let bound = asking.asks.iter().zip(&new).filter(|(ask, _)| !ask.bound().is_empty());
        let bound = bound.map(|(_, literal)| *literal).collect();
        Self { new, taken, bound, own, replaced, lists: asked.lists() }
    }

    /// Whether UPDATE makes a row the caller's that was not the caller's before.
    fn takes(
        &self,
        (asked, asking): (&Asked<'_>, &Asking),
        all: &[Literal],
        of: Replacing<'_>,
    ) -> bool {
        // What is asked of something unknown may be whose row it is.
        let is_known = of.way.asked_of_unknown().is_some_and(|columns| columns.is_empty());
        let wanted = [all, &self.new].concat();
        let constants = of.way.joined(Row::CHECKED).constants;
        is_known
            && of.taken.is_disjoint(&constants)
            && asked.allows(&wanted, &self.taken)
            && match asking.of_caller.before(of) {
                None => !of.way.is_privileged(of.ties),
                Some(Tie::Shared) if !asking.constants.is_empty() => {
                    let own = self.own(asking.of_caller.leads(), (of.way, of.ties));
                    !self.is_one_of(asked, &wanted, &own.collect::<Vec<_>>())
                }
                Some(_) => false,
            }
    }

    /// Whether the writer has a row already that leads to the same rows and does the same,
    /// whichever of several constants its values are; `ties` are those of the way.
    fn has_one(
        &self,
        (asked, asking): (&Asked<'_>, &Asking),
        all: &[Literal],
        (way, ties): (&Way<'_>, &Ties),
    ) -> bool {
        let own = self.own(&asking.joined, (way, ties));
        self.is_one_of(asked, all, &self.replaced.iter().chain(own).collect::<Vec<_>>())
    }

    /// Returns what is asked of each row that the writer has already, in each of the sufficient
    /// ways, where these columns of it lead to the same rows.
    fn own(
        &self,
        leads: &BTreeSet<i16>,
        (way, ties): (&Way<'_>, &Ties),
    ) -> impl Iterator<Item = &Vec<Literal>> {
        let leads_there = move |row: Row| {
            let mut leads = leads.iter();
            ties.lookups.contains(&row)
                && leads.all(|number| way.are_equal((row, *number), (Row::CHECKED, *number)))
        };
        self.own.iter().filter(move |(row, _)| leads_there(*row)).flat_map(|(_, of)| of)
    }

    /// Whether what is asked of one of some rows holds, whichever of several constants the values
    /// of a way are.
    fn is_one_of(&self, asked: &Asked<'_>, way: &[Literal], rows: &[&Vec<Literal>]) -> bool {
        let has_one = |case: &Vec<Literal>| rows.iter().any(|of| asked.implies(case, of));
        !rows.is_empty() && asked.cases(way, &self.lists).iter().all(has_one)
    }
}

impl<'a> Writers<'a> {
    /// Returns what finds the columns that the role of a question can write.
    pub fn new(question: Question<'a>) -> Self {
        let (known, unknown) = Default::default();
        Self { question, known, sufficient: OnceCell::new(), unknown }
    }

    /// Returns what may write lookups in a way that is not known.
    pub fn unknown(self) -> BTreeSet<String> {
        self.unknown.into_inner()
    }

    /// Returns the columns of lookups by which the caller can meet a way: those of each lookup
    /// without which the row is not tied.
    pub fn forgeable(&self, way: &Way<'_>, ties: &Ties) -> Vec<Forgeable> {
        let mut found = Vec::new();
        for (row, relation) in way.lookups() {
            let without = way.ties(&BTreeSet::from([row]));
            let is_needed = without.columns.is_empty() && !way.is_privileged(&without);
            if is_needed {
                let is_of_caller = ties.lookups.contains(&row);
                found.extend(self.of_lookup(way, (row, relation), is_of_caller, ties));
            }
        }
        found
    }

    fn of_lookup(
        &self,
        way: &Way<'_>,
        (row, relation): (Row, Oid),
        is_of_caller: bool,
        ties: &Ties,
    ) -> Vec<Forgeable> {
        let catalog = self.question.catalog;
        let joined = way.joined(row);
        let is_key = |(other, (own, theirs)): (&Row, &(BTreeSet<i16>, BTreeSet<i16>))| {
            let other = way.relation_of(*other);
            other.is_some_and(|other| {
                catalog.references(other).iter().any(|reference| {
                    reference.target == relation
                        && reference.columns.is_subset(theirs)
                        && reference.target_columns.is_subset(own)
                })
            })
        };
        // A row with a key that another row refers to exists already: no other one has it.
        let is_keyed = joined.others.iter().any(is_key);
        // What belongs to the caller's own row is the caller's, whatever that row contains.
        let is_parent = joined.others.iter().any(|of| *of.0 == Row::CHECKED && is_key(of));
        let asks = asks(way, row);
        let mut asking = Asking {
            table: relation,
            command: Command::Update,
            joined: BTreeSet::new(),
            constants: BTreeSet::new(),
            of_caller: OfCaller::new(ties, way, row),
            sufficient: self.sufficient(way, (row, relation), &asks),
            asks,
        };
        if !is_keyed {
            asking.joined.extend(joined.others.values().flat_map(|(own, _)| own));
        }
        if is_of_caller && !is_parent {
            asking.constants.extend(&joined.constants);
            asking.constants.extend(asking.asks.iter().flat_map(Ask::bound));
        }
        let commands =
            if is_keyed { &[Command::Update][..] } else { &[Command::Insert, Command::Update][..] };
        let written = commands.iter().filter_map(|command| {
            let given = self.given(Asking { command: *command, ..asking.clone() }, 0)?;
            let names = given.columns.iter();
            Some(Forgeable {
                command: *command,
                table: catalog.relation_name(relation)?,
                through: given.through,
                columns: names.filter_map(|n| catalog.column_name(relation, *n)).collect(),
                why: given.why,
            })
        });
        written.collect()
    }

    /// Returns what is asked of a row that lets the caller pass as the row of a lookup does in a
    /// way: the same, or what another way asks of it where that asks for nothing else.
    fn sufficient(&self, way: &Way<'_>, (row, lookup): (Row, Oid), asks: &[Ask]) -> Vec<Vec<Ask>> {
        let all = self.sufficient.get_or_init(|| self.read_sufficient());
        let reader = way.ask_reader();
        let (named, relations) = named(way, row);
        let known = way.literals().iter().filter_map(|literal| reader.ask(*literal, &named));
        let known: HashSet<Ask> = known.collect();
        let others = all.iter().filter(|of| {
            of.lookup == lookup
                && relations.starts_with(&of.relations)
                && of.others.is_subset(&known)
        });
        let mut found = Vec::new();
        for asks in [asks].into_iter().chain(others.map(|of| &of.asks[..])) {
            for asks in self.alternatives(asks) {
                if !found.contains(&asks) {
                    found.push(asks);
                }
            }
        }
        found
    }

    /// Returns what is asked of a row, and the same with each constant that one of its values can
    /// be.
    fn alternatives(&self, asks: &[Ask]) -> Vec<Vec<Ask>> {
        let mut each = vec![Vec::new()];
        for ask in asks {
            let alternatives = ask.alternatives(self.question.catalog);
            let few = alternatives.filter(|of| of.len() * each.len() <= MOST_SUFFICIENT);
            let with = few.unwrap_or_else(|| vec![ask.clone()]).into_iter().map(|ask| {
                each.iter()
                    .map(move |asks: &Vec<Ask>| [&asks[..], std::slice::from_ref(&ask)].concat())
            });
            each = with.flatten().collect();
        }
        if each.iter().all(|of| of != asks) {
            each.insert(0, asks.to_vec());
        }
        each
    }

    fn read_sufficient(&self) -> Vec<Sufficient> {
        let mut found: Vec<Sufficient> = Vec::new();
        // Of what is too large, those that were found are sufficient, too.
        let _ = Asked::read(self.question).each_way(&mut |literals, way| {
            let reader = way.ask_reader();
            for (row, lookup) in way.lookups() {
                let (named, relations) = named(way, row);
                let asked = literals.iter().filter(|of| !matches!(of, Literal::Found(_, true)));
                let all = asked.map(|literal| reader.ask(*literal, &named));
                if let Some(all) = all.collect::<Option<Vec<Ask>>>() {
                    let (asks, others): (Vec<_>, Vec<_>) =
                        all.into_iter().partition(|ask| ask.is_only_of(Row::CHECKED));
                    let others = others.into_iter().collect();
                    found.push(Sufficient { lookup, asks, others, relations });
                }
            }
            let is_enough = found.len() >= MOST_SUFFICIENT;
            if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Returns which of some columns of a table the role can give the value that it wants; `None`
    /// where it can none.
    fn given(&self, asking: Asking, depth: usize) -> Option<Given> {
        if let Some(known) = self.known.borrow().get(&asking) {
            return known.clone();
        }
        // What leads to itself is not given by that.
        self.known.borrow_mut().insert(asking.clone(), None);
        let given = self.given_directly(&asking, depth).or_else(|| self.by_detour(&asking, depth));
        self.known.borrow_mut().insert(asking, given.clone());
        given
    }

    fn given_directly(&self, asking: &Asking, depth: usize) -> Option<Given> {
        let Question { catalog, role, .. } = self.question;
        let writable = catalog.writes(role, asking.table, asking.command)?;
        self.by(asking, &writable, depth)
    }

    /// Returns what the role can write of a table by way of other relations.
    fn by_detour(&self, asking: &Asking, depth: usize) -> Option<Given> {
        let Question { catalog, role, .. } = self.question;
        let detours = catalog.detours(role, asking.table, asking.command);
        detours.iter().find_map(|detour| {
            let Some(writable) = &detour.writable else {
                self.unknown.borrow_mut().insert(detour.through.clone());
                return None;
            };
            let theirs = |number: &i16| detour.columns.get(number).copied();
            let mapped = |numbers: &BTreeSet<i16>| numbers.iter().filter_map(theirs).collect();
            let asks = |of: &Vec<Ask>| -> Vec<Ask> {
                of.iter().filter_map(|ask| ask.renumbered(&detour.columns)).collect()
            };
            let of_table = Asking {
                table: detour.table,
                command: asking.command,
                joined: mapped(&asking.joined),
                constants: mapped(&asking.constants),
                of_caller: asking.of_caller.renumbered(&detour.columns),
                asks: asks(&asking.asks),
                sufficient: asking.sufficient.iter().map(asks).collect(),
            };
            let given = self.by(&of_table, writable, depth)?;
            if !detour.is_chosen {
                self.unknown.borrow_mut().insert(detour.through.clone());
                return None;
            }
            let own = |number: &i16| {
                detour.columns.iter().find(|(_, of)| *of == number).map(|(own, _)| *own)
            };
            Some(Given {
                through: Some(detour.through.clone()),
                columns: given.columns.iter().filter_map(own).collect(),
                why: given.why,
            })
        })
    }

    fn by(&self, asking: &Asking, writable: &Writable, depth: usize) -> Option<Given> {
        let Asking { table, command, joined, constants, .. } = asking;
        let (table, command) = (*table, *command);
        let columns: BTreeSet<i16> = &(joined | constants) & &writable.columns;
        // Where the row is only asked to be the caller's, and to have constants, each row that the
        // caller may insert with them will do.
        let bound: BTreeSet<i16> = asking.asks.iter().flat_map(Ask::bound).collect();
        let is_right = command == Command::Insert
            && joined.is_empty()
            && !constants.is_empty()
            && constants.is_subset(&bound);
        let taken = match command {
            Command::Update => asking.of_caller.written(&writable.columns),
            _ => BTreeSet::new(),
        };
        if (columns.is_empty() && taken.is_empty() && !is_right)
            || self.lacks_value(asking, writable)
        {
            return None;
        }
        let none = Policies { permissive: vec![always()], ..Policies::default() };
        let policies = writable.policies.as_ref().unwrap_or(&none);
        let restrictive: Vec<&Expression> = policies.restrictive.iter().collect();
        let existing = &writable.existing;
        let is_limited = writable.policies.is_some();
        let using = if is_limited { any(existing.permissive.clone()) } else { Some(always()) };
        let of_existing: Vec<&Expression> = existing.restrictive.iter().collect();
        let written = match command {
            Command::Insert => Written::Inserted { columns: Some(&writable.columns) },
            // Without USING, no row can be updated.
            _ => Written::Updated {
                columns: Some(&writable.columns),
                using: Some(using.as_ref()?),
                restrictive: &of_existing,
                needs_before: !taken.is_empty(),
            },
        };
        let question = Question { relation: table, restrictive: &restrictive, ..self.question };
        policies.permissive.iter().find_map(|condition| {
            let of = Question { condition: Some(condition), written: Some(written), ..question };
            let by = |of| self.by_policy(asking, (&columns, &taken, is_right), of, depth);
            // What is too large with what is true of each row may be small enough without.
            let given = by(of).or_else(|TooLarge| by(Question { written: None, ..of }));
            let given = given.ok().flatten()?;
            let is_free = matches!(given.why, Free::AnyValue | Free::AnyRow);
            let is_unrestricted = is_free && writable.policies.is_none();
            Some(if is_unrestricted { Given { why: Free::Unrestricted, ..given } } else { given })
        })
    }

    /// Whether a column of a row that is inserted is null that is asked for a value: nothing can be
    /// written to it, and it has no default.
    fn lacks_value(&self, asking: &Asking, writable: &Writable) -> bool {
        let catalog = self.question.catalog;
        let defaults = catalog.defaults(asking.table);
        let is_null = |number: i16| {
            let column = catalog.column(asking.table, number);
            !writable.columns.contains(&number)
                && column.is_some_and(|of| of.generated.is_none())
                && !defaults.iter().any(|(of, _)| *of == number)
        };
        let mut needed = asking.asks.iter().flat_map(Ask::needed);
        asking.command == Command::Insert && needed.any(is_null)
    }

    /// Returns what the role can write in the ways in which a new row passes a policy.
    fn by_policy(
        &self,
        asking: &Asking,
        (columns, taken, is_right): (&BTreeSet<i16>, &BTreeSet<i16>, bool),
        question: Question<'_>,
        depth: usize,
    ) -> Result<Option<Given>, TooLarge> {
        let mut asked = Asked::read(question);
        let written = match question.written {
            Some(Written::Inserted { columns } | Written::Updated { columns, .. }) => columns,
            None => None,
        };
        let written = written.unwrap_or(columns);
        let wanted = Wanted::of(&mut asked, asking, (written, taken));
        let (mut free, mut has_way, mut is_taken) = (BTreeSet::new(), false, false);
        asked.each_update(&mut |all, way| {
            if !asked.allows(all, &wanted.new) {
                return ControlFlow::Continue(());
            }
            let forged = self.forged(asking.table, way, depth);
            // The row before is only known where what is true of each row has been read.
            if question.written.is_some() && !taken.is_empty() && !is_taken {
                let whole = way.of(all);
                let ties = &whole.strict_ties(&forged);
                let replaced = asked.replaced;
                let of = Replacing { way: &whole, ties, replaced, written, taken };
                is_taken = wanted.takes((&asked, asking), all, of);
            }
            let ties = way.strict_ties(&forged);
            let has_right = ties.columns.is_empty() && way.is_privileged(&ties);
            if has_right || wanted.has_one((&asked, asking), all, (way, &ties)) {
                return ControlFlow::Continue(());
            }
            let Some(unknown) = way.asked_of_unknown() else {
                return ControlFlow::Continue(());
            };
            has_way |= is_right && asked.implies(all, &wanted.bound);
            let mut held = way.joined(Row::CHECKED).constants;
            held.extend(unknown);
            free = columns.iter().copied().collect();
            free.retain(|c| !ties.columns.contains(c) && !held.contains(c));
            if free.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(if !free.is_empty() {
            Some(Given { through: None, columns: free, why: Free::AnyValue })
        } else if is_taken {
            Some(Given { through: None, columns: taken.clone(), why: Free::AnyRow })
        } else if has_way {
            let columns = asking.constants.clone();
            Some(Given { through: None, columns, why: Free::EachRow })
        } else {
            None
        })
    }

    /// Returns the rows of lookups in a way that the role can write itself.
    fn forged(&self, table: Oid, way: &Way<'_>, depth: usize) -> BTreeSet<Row> {
        if depth >= DEEPEST {
            return BTreeSet::new();
        }
        let ties = way.ties(&BTreeSet::new());
        let is_forged = |(row, relation): &(Row, Oid)| {
            let joined = way.joined(*row);
            let others = joined.others.values().flat_map(|(own, _)| own);
            let asks = asks(way, *row);
            let asking = Asking {
                table: *relation,
                command: Command::Insert,
                joined: others.copied().collect(),
                constants: joined.constants,
                of_caller: OfCaller::new(&ties, way, *row),
                sufficient: vec![asks.clone()],
                asks,
            };
            *relation != table
                && [Command::Insert, Command::Update].into_iter().any(|command| {
                    let asking = Asking { command, ..asking.clone() };
                    self.given(asking, depth + 1).is_some()
                })
        };
        way.lookups().into_iter().filter(is_forged).map(|(row, _)| row).collect()
    }
}

/// Returns what a way asks of a row alone.
fn asks(way: &Way<'_>, row: Row) -> Vec<Ask> {
    let reader = way.ask_reader();
    let named = |of: Row| (of == row).then_some(Row::CHECKED);
    let asks = way.literals().iter().filter_map(|literal| reader.ask(*literal, &named));
    asks.filter(|ask| ask.is_only_of(Row::CHECKED)).collect()
}

/// Returns how rows are named where what is asked of the row of a lookup is noted, and the
/// relations of the rows that are looked up beside it. Those have the names of their order, so that
/// what two ways ask of them can be compared.
fn named(way: &Way<'_>, lookup: Row) -> (impl Fn(Row) -> Option<Row>, Vec<Oid>) {
    let beside = way.lookups().into_iter().filter(|(row, _)| *row != lookup);
    let (rows, relations): (Vec<Row>, Vec<Oid>) = beside.unzip();
    let named = move |of| match of {
        of if of == lookup => Some(Row::CHECKED),
        Row::CHECKED => Some(READ),
        of => {
            let number = rows.iter().position(|row| *row == of)?;
            Some(Row(READ.0 + 1 + u32::try_from(number).ok()?))
        }
    };
    (named, relations)
}
