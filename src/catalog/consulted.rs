//! The objects that the policies of some tables consult: functions and what their bodies mention,
//! views, the tables in subqueries and their policies. They are determined without reading what the
//! policies mean, so that they may be more than a judgement of the policies asks for, and never
//! fewer.
//!
//! `pg_depend` leads from policies, views, defaults and parsed bodies to objects. A body that is
//! text has no dependencies: the relations and routines that have a name in it count, in whatever
//! schema.

use super::caller_typed::language_of;
use super::moved_names::mentioned;
use super::oids;
use super::text_body::default_path;
use crate::pg::heap::{Committed, State, Table, interrupts, of_row};
use dragonfly_core::catalog::{FIRST_NORMAL, Oid};
use dragonfly_core::contract::{Contract, TableDecl};
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::returned_expression;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// A catalog and the OID of a row of it.
type Address = (Oid, Oid);

/// What the policies of tables consult.
#[derive(Debug)]
pub struct Consulted {
    /// The contract that says which tables.
    contract: Rc<Contract>,
    /// The transactions that were committed in the state.
    of: Committed,
    /// The tables by what their policies consult.
    objects: HashMap<Address, Vec<Oid>>,
    /// The tables by the names in the texts that their policies consult. The names of the tables
    /// themselves are there, too.
    names: HashMap<String, Vec<Oid>>,
}

thread_local! {
    /// The last result of [`Consulted::in_state`], as long as it is valid.
    static LAST: RefCell<Option<Rc<Consulted>>> = const { RefCell::new(None) };
    /// Whether one of its objects has changed since.
    static IS_STALE: Cell<bool> = const { Cell::new(false) };
    /// Other objects that have changed since: they may have one of the names now.
    static OTHERS: RefCell<Vec<Address>> = const { RefCell::new(Vec::new()) };
}

/// How many changed objects are remembered before everything is read again.
const MOST_OTHERS: usize = 1_000;

/// Records a change of a relation or routine, or of all of them for OID 0. Called by callbacks of
/// caches: reads no catalog.
pub fn object_changed(class: Oid, oid: Oid) {
    if IS_STALE.get() {
        return;
    }
    let is_stale = LAST.with_borrow(|last| {
        let Some(last) = last else { return true };
        if oid == 0 || last.objects.contains_key(&(class, oid)) {
            return true;
        }
        OTHERS.with_borrow_mut(|others| {
            others.push((class, oid));
            others.len() > MOST_OTHERS
        })
    });
    if is_stale {
        IS_STALE.set(true);
    }
}

impl Consulted {
    /// Forgets what is known: the transaction has changed it.
    pub fn forget() {
        LAST.set(None);
        OTHERS.with_borrow_mut(Vec::clear);
    }

    /// Returns what the policies consult of the tables of which the contract says by which columns
    /// a row is its caller's. What was read last is valid until one of the objects has changed, or
    /// another object has one of the names. `now` has the changes of this transaction, `then` has
    /// not.
    pub fn in_state(then: &State, now: &State, contract: &Rc<Contract>) -> Rc<Self> {
        // SAFETY: processes the invalidations of other sessions.
        unsafe { pgrx::pg_sys::AcceptInvalidationMessages() };
        let last = LAST.with_borrow(Option::clone);
        let last = last.filter(|last| Rc::ptr_eq(&last.contract, contract));
        // This transaction asks more than once, of the same state without its own changes.
        let is_of_state = |last: &Rc<Self>| last.of == then.committed();
        let is_valid = |last: &Rc<Self>| !IS_STALE.get() && !last.has_name_of_others(now);
        if let Some(last) = last.filter(|last| is_of_state(last) || is_valid(last)) {
            return last;
        }
        IS_STALE.set(false);
        OTHERS.with_borrow_mut(Vec::clear);
        let read = Rc::new(Self::read(then, contract));
        LAST.set((!IS_STALE.get()).then(|| Rc::clone(&read)));
        read
    }

    /// Whether an object that has changed since has one of the names now.
    fn has_name_of_others(&self, now: &State) -> bool {
        let mut others = OTHERS.take();
        others.sort_unstable();
        others.dedup();
        others.iter().any(|other| self.names_of(now, *other).is_some())
    }

    fn names_of(&self, state: &State, object: Address) -> Option<&Vec<Oid>> {
        if self.names.is_empty() {
            return None;
        }
        self.names.get(&name(state, object)?)
    }

    /// Returns the tables whose policies consult one of some objects or a table that is written
    /// through one of them, or a text with one of some names. What is known is no longer valid
    /// then: the transaction has changed the objects.
    pub fn tables<'n>(
        &self,
        now: &State,
        objects: impl Iterator<Item = Address>,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<Oid> {
        let (mut found, mut is_changed) = (BTreeSet::new(), false);
        let mut add = |tables: Option<&Vec<Oid>>| {
            is_changed |= tables.is_some();
            found.extend(tables.into_iter().flatten());
        };
        for object in objects {
            interrupts();
            add(self.objects.get(&object));
            add(self.names_of(now, object));
            if object.0 == oids::PG_CLASS && !self.objects.is_empty() {
                for table in Reader::in_state(now).written_through(object.1) {
                    add(self.objects.get(&(oids::PG_CLASS, table)));
                }
            }
        }
        names.for_each(|name| add(self.names.get(name)));
        if is_changed {
            IS_STALE.set(true);
        }
        found.into_iter().collect()
    }

    /// Returns the tables whose policies consult a text.
    pub fn tables_with_text(&self) -> Vec<Oid> {
        Self::forget();
        self.names.values().flatten().copied().collect()
    }

    fn read(state: &State, contract: &Rc<Contract>) -> Self {
        let mut reader = Reader::in_state(state);
        let (contract, of) = (Rc::clone(contract), state.committed());
        let mut consulted = Self { contract, of, objects: HashMap::new(), names: HashMap::new() };
        let has_keys = |table: &&TableDecl| !table.keys.is_empty();
        for table in Rc::clone(&consulted.contract).tables.iter().filter(has_keys) {
            // Another table may get the name.
            consulted.names.entry(table.name.clone()).or_default();
            if let Some(oid) = reader.relation_named(&table.schema, &table.name) {
                consulted.add(&mut reader, oid);
            }
        }
        consulted
    }

    /// Adds what the policies of a table consult: the table, too.
    fn add(&mut self, reader: &mut Reader<'_>, table: Oid) {
        let first = (oids::PG_CLASS, table);
        let (mut seen, mut waiting) = (HashSet::from([first]), vec![first]);
        let mut names = HashSet::new();
        while let Some(object) = waiting.pop() {
            let uses = reader.uses(object);
            waiting.extend(uses.objects.iter().copied().filter(|used| seen.insert(*used)));
            names.extend(uses.names.iter().cloned());
        }
        for object in seen {
            self.objects.entry(object).or_default().push(table);
        }
        for name in names {
            self.names.entry(name).or_default().push(table);
        }
    }
}

/// What an object uses itself.
#[derive(Debug, Default)]
struct Uses {
    objects: Vec<Address>,
    /// The names in its text.
    names: Vec<String>,
}

/// Reads what objects use in a state.
struct Reader<'a> {
    state: &'a State,
    known: HashMap<Address, Rc<Uses>>,
    default_path: Option<String>,
}

impl<'a> Reader<'a> {
    fn in_state(state: &'a State) -> Self {
        Self { state, known: HashMap::new(), default_path: None }
    }

    fn uses(&mut self, object: Address) -> Rc<Uses> {
        if let Some(known) = self.known.get(&object) {
            return Rc::clone(known);
        }
        interrupts();
        let uses = Rc::new(match object {
            (oids::PG_CLASS, oid) => self.of_relation(oid),
            (oids::PG_PROC, oid) => self.of_routine(oid),
            _ => Uses { objects: self.dependencies(object), names: Vec::new() },
        });
        self.known.insert(object, Rc::clone(&uses));
        uses
    }

    /// Returns what a table asks when it is read or written, or the query of a view.
    fn of_relation(&self, oid: Oid) -> Uses {
        let mut parts: Vec<Address> = Vec::new();
        let mut add = |catalog, index, of: &str| {
            let table = Table::open(catalog);
            let (part, keys) = (table.column("oid"), [(table.column(of), oid)]);
            table.lookup(self.state, index, &keys, |row| parts.push((catalog, row.oid(part))));
        };
        let of_row =
            |column| of_row(self.state, oids::CLASS_BY_OID, oid, column, |row, of| row.char(of));
        match of_row("relkind") {
            Some(b'v') => add(oids::PG_REWRITE, oids::PG_REWRITE_RELATION_INDEX, "ev_class"),
            Some(b'r' | b'p' | b'f' | b'm') => {
                add(oids::PG_POLICY, oids::PG_POLICY_RELID_INDEX, "polrelid");
                add(oids::PG_ATTRDEF, oids::PG_ATTRDEF_RELID_INDEX, "adrelid");
            }
            _ => return Uses::default(),
        }
        let mut objects: Vec<Address> =
            parts.into_iter().flat_map(|part| self.dependencies(part)).collect();
        objects.extend(self.children(oid).into_iter().map(|child| (oids::PG_CLASS, child)));
        Uses { objects, names: Vec::new() }
    }

    fn of_routine(&mut self, oid: Oid) -> Uses {
        let mut objects = self.dependencies((oids::PG_PROC, oid));
        let text = self.text(oid);
        let Some((language, source, path)) = text else { return Uses { objects, names: vec![] } };
        let path = path.unwrap_or_else(|| self.default_path());
        let mut names = Vec::new();
        for (name, may_be_routine) in mentioned(&source, language, &path) {
            objects.extend(self.named(oids::PG_CLASS, &name));
            if may_be_routine {
                objects.extend(self.named(oids::PG_PROC, &name));
            }
            names.push(name);
        }
        Uses { objects, names }
    }

    /// Returns language, text and search_path of a function whose text says what it returns.
    fn text(&self, routine: Oid) -> Option<(Language, String, Option<String>)> {
        let table = Table::open(oids::PG_PROC);
        let column = |name| table.column(name);
        let (mut found, keys) = (None, [(column("oid"), routine)]);
        table.lookup(self.state, oids::PG_PROC_OID_INDEX, &keys, |row| {
            if !row.is_null(column("prosqlbody")) {
                return;
            }
            let config = row.texts(column("proconfig"));
            let path = settings(&config).last().map(|path| (*path).to_owned());
            let language = language_of(self.state, row.oid(column("prolang")));
            let source = row.text(column("prosrc")).unwrap_or_default();
            found = Some((language, source, path));
        });
        found.filter(|(language, source, _)| match language {
            Language::Sql => true,
            // Nothing is known of any other one.
            Language::PlPgSql => returned_expression(source).is_some(),
            Language::Other => false,
        })
    }

    fn default_path(&mut self) -> String {
        let state = self.state;
        self.default_path.get_or_insert_with(|| default_path(state)).clone()
    }

    /// Returns the relations, routines and operators of applications that an object depends on.
    fn dependencies(&self, (class, oid): Address) -> Vec<Address> {
        let table = Table::open(oids::PG_DEPEND);
        let column = |name| table.column(name);
        let (to_class, to) = (column("refclassid"), column("refobjid"));
        let keys = [(column("classid"), class), (column("objid"), oid)];
        let mut found = Vec::new();
        table.lookup(self.state, oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            let used = (row.oid(to_class), row.oid(to));
            let is_followed = matches!(used.0, oids::PG_CLASS | oids::PG_PROC | oids::PG_OPERATOR);
            if is_followed && used.1 >= FIRST_NORMAL {
                found.push(used);
            }
        });
        found
    }

    /// Returns the relations that may be written through another one: by rules, such as those of a
    /// view, and as its children or partitions.
    fn written_through(&self, relation: Oid) -> BTreeSet<Oid> {
        let (mut found, mut waiting) = (BTreeSet::new(), vec![relation]);
        while let Some(next) = waiting.pop() {
            interrupts();
            let table = Table::open(oids::PG_REWRITE);
            let (rule, keys) = (table.column("oid"), [(table.column("ev_class"), next)]);
            let mut rules = Vec::new();
            table.lookup(self.state, oids::PG_REWRITE_RELATION_INDEX, &keys, |row| {
                rules.push((oids::PG_REWRITE, row.oid(rule)));
            });
            let mentioned = rules.into_iter().flat_map(|rule| self.dependencies(rule));
            let relations = mentioned.filter(|(class, _)| *class == oids::PG_CLASS);
            let all = relations.map(|(_, oid)| oid).chain(self.children(next));
            waiting.extend(all.filter(|of| *of != relation && found.insert(*of)));
        }
        found
    }

    /// Returns the tables that inherit from a table: their rows are its rows.
    fn children(&self, relation: Oid) -> Vec<Oid> {
        let table = Table::open(oids::PG_INHERITS);
        let (child, keys) = (table.column("inhrelid"), [(table.column("inhparent"), relation)]);
        let mut found = Vec::new();
        table.lookup(self.state, oids::PG_INHERITS_PARENT_INDEX, &keys, |row| {
            found.push(row.oid(child));
        });
        found
    }

    /// Returns the relations, or the routines, of applications with a name.
    fn named(&self, class: Oid, name: &str) -> Vec<Address> {
        let (index, of) = match class {
            oids::PG_CLASS => (oids::PG_CLASS_NAME_INDEX, "relname"),
            _ => (oids::PG_PROC_NAME_INDEX, "proname"),
        };
        let table = Table::open(class);
        let (oid, mut found) = (table.column("oid"), Vec::new());
        table.lookup_name(self.state, index, table.column(of), name, |row| {
            if row.oid(oid) >= FIRST_NORMAL {
                found.push((class, row.oid(oid)));
            }
        });
        found
    }

    fn relation_named(&self, schema: &str, name: &str) -> Option<Oid> {
        let is_in_schema = |(_, oid): &Address| {
            let of =
                of_row(self.state, oids::CLASS_BY_OID, *oid, "relnamespace", |row, of| row.oid(of));
            let name = of.and_then(|of| {
                of_row(self.state, oids::NAMESPACE_BY_OID, of, "nspname", |row, of| row.name(of))
            });
            name.is_some_and(|name| name == schema)
        };
        self.named(oids::PG_CLASS, name).into_iter().find(is_in_schema).map(|(_, oid)| oid)
    }
}

/// Returns the name of a relation or routine, without its schema.
fn name(state: &State, (class, oid): Address) -> Option<String> {
    let (by_oid, name) = match class {
        oids::PG_CLASS => (oids::CLASS_BY_OID, "relname"),
        oids::PG_PROC => (oids::PROC_BY_OID, "proname"),
        _ => return None,
    };
    of_row(state, by_oid, oid, name, |row, of| row.name(of))
}
