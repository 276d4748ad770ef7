//! What a stored expression mentions, for the core: operators, functions, columns, views.

use crate::caller_typed::{argument_names, language_of};
use crate::detours::{DefinerTrigger, Finder, definer_triggers};
use crate::rights::Rights;
use crate::source::{Row, State, Table, of_row};
use crate::stored_policies::stored_policies;
use crate::text_body::{Text, Texts};
use crate::{name, objects, oids};
use dragonfly_core::catalog::{Command, FIRST_NORMAL, ObjectId, Oid, Privileges, Rows};
use dragonfly_core::policy::Comparison;
use dragonfly_core::policy::facts::{
    Body, Catalog, Column, Detour, Function, Operator, Policies, Reads, Reference, View, Writable,
};
use dragonfly_core::policy::types::BOOL;
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::body::{Language, Mentions};
use dragonfly_core::sql::{constant_body, quote_ident};
use dragonfly_core::stored;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

/// The access method btree (pg_am.dat).
const BTREE: Oid = 403;

/// The languages internal, C and sql (pg_language.dat): of the latter, functions can become a part
/// of the query, and calls of the others cost no more than an operator.
const NOT_CALLED: [Oid; 3] = [12, 13, 14];

/// The families of operators that compare texts and rows byte by byte (pg_opfamily.dat): their
/// order is another one than that of `<`.
const BY_BYTES: [Oid; 3] = [2095, 2097, 3194];

thread_local! {
    /// The operators of servers, by major version: they are the same in every state.
    static BUILT_IN: RefCell<HashMap<(u32, Oid), Operator>> = RefCell::default();
    /// The symbols of those with two operands, by their functions.
    static SYMBOLS: RefCell<HashMap<u32, Rc<Symbols>>> = RefCell::default();
}

/// Symbols of operators, by their functions.
type Symbols = HashMap<Oid, Rc<str>>;

/// Reads the symbols of the server's operators with two operands.
fn symbols(state: &dyn State) -> Symbols {
    let table = state.table(oids::PG_OPERATOR);
    let (oid, name) = (table.column("oid"), table.column("oprname"));
    let (kind, function) = (table.column("oprkind"), table.column("oprcode"));
    let mut found: HashMap<Oid, Rc<str>> = HashMap::new();
    table.scan(|row| {
        if row.oid(oid) < FIRST_NORMAL && row.char(kind) == b'b' {
            let symbol = match row.name(name).as_str() {
                "~~" => "LIKE".into(),
                "~~*" => "ILIKE".into(),
                "!~~" => "NOT LIKE".into(),
                "!~~*" => "NOT ILIKE".into(),
                symbol => symbol.into(),
            };
            found.insert(row.oid(function), symbol);
        }
    });
    found
}

/// The catalog in a state, as far as expressions have asked for it.
pub struct Mentioned<'a> {
    state: &'a dyn State,
    rights: Box<dyn Rights + 'a>,
    functions: Known<Oid, Option<Rc<Function>>>,
    views: Known<Oid, Option<Rc<View>>>,
    columns: Known<Oid, Rc<HashMap<i16, Column>>>,
    /// The columns with a default or an expression that generates them, once all were read.
    defaults: Option<HashSet<(Oid, i16)>>,
    /// Reads the texts of functions, where they matter.
    texts: Option<Box<dyn Texts + 'a>>,
    reads: Known<(Oid, Oid), Reads>,
    names: Known<Oid, Option<String>>,
    column_names: Known<Oid, Rc<HashMap<i16, String>>>,
    checks: Known<Oid, Rc<Vec<stored::Expression>>>,
    writes: Known<(Oid, Oid, Command), Option<Rc<Writable>>>,
    references: Known<Oid, Rc<Vec<Reference>>>,
    unique_keys: Known<Oid, Rc<Vec<BTreeSet<i16>>>>,
    column_defaults: Known<Oid, Rc<Vec<(i16, stored::Expression)>>>,
    indexed: Known<Oid, Option<Rc<HashSet<i16>>>>,
    detours: Known<(Oid, Oid, Command), Rc<Vec<Detour>>>,
    definer_triggers: Known<(), Rc<Vec<DefinerTrigger>>>,
    /// What may tell who the caller is, once a text of which nothing else is known was read.
    asking: OnceCell<Asking>,
    /// The roles that can create functions in a schema.
    creators: Known<Oid, bool>,
}

type Known<K, V> = RefCell<HashMap<K, V>>;

impl<'a> Mentioned<'a> {
    /// Returns the catalog in a state, with what roles may do in it, and with a reader of the texts
    /// of functions, where they matter. To read them locks the tables in them.
    pub fn new(
        state: &'a dyn State,
        rights: Box<dyn Rights + 'a>,
        texts: Option<Box<dyn Texts + 'a>>,
    ) -> Self {
        let (functions, views, columns, reads) = Default::default();
        let (names, column_names, checks, defaults) = Default::default();
        let (writes, references, unique_keys, column_defaults, indexed) = Default::default();
        let (detours, definer_triggers) = Default::default();
        Self {
            state,
            rights,
            functions,
            views,
            columns,
            defaults,
            texts,
            reads,
            names,
            column_names,
            checks,
            writes,
            references,
            unique_keys,
            column_defaults,
            indexed,
            detours,
            definer_triggers,
            asking: OnceCell::new(),
            creators: RefCell::default(),
        }
    }

    /// Returns the state.
    pub fn state(&self) -> &'a dyn State {
        self.state
    }

    /// Whether a text could not be read because of a lock of another session.
    pub fn is_locked(&self) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.is_locked())
    }

    /// Returns what roles may do in the state.
    pub fn rights(&self) -> &dyn Rights {
        &*self.rights
    }

    /// Reads in one pass which columns have a default or are generated, for questions about
    /// thousands of tables.
    #[must_use]
    pub fn with_all_defaults(mut self) -> Self {
        let table = self.state.table(oids::PG_ATTRDEF);
        let (relation, number) = (table.column("adrelid"), table.column("adnum"));
        let mut all = HashSet::new();
        table.scan(|row| {
            all.insert((row.oid(relation), row.int(number) as i16));
        });
        self.defaults = Some(all);
        self
    }

    /// Whether one of some columns of a table is generated.
    pub fn generates(&self, relation: Oid, columns: &[i16]) -> bool {
        let is_generated =
            |number: &i16| self.column(relation, *number).is_some_and(|c| c.generated.is_some());
        self.has_default(relation, columns) && columns.iter().any(is_generated)
    }

    /// Whether one of some columns of a table has a default or is generated.
    fn has_default(&self, relation: Oid, columns: &[i16]) -> bool {
        if let Some(defaults) = &self.defaults {
            return columns.iter().any(|number| defaults.contains(&(relation, *number)));
        }
        let table = self.state.table(oids::PG_ATTRDEF);
        let number = table.column("adnum");
        let (mut has_default, keys) = (false, [(table.column("adrelid"), relation)]);
        table.lookup(oids::PG_ATTRDEF_RELID_INDEX, &keys, |row| {
            has_default |= columns.contains(&(row.int(number) as i16));
        });
        has_default
    }

    fn read_operator(&self, oid: Oid) -> Option<Operator> {
        let table = self.state.table(oids::PG_OPERATOR);
        let column = |name| table.column(name);
        let (name, code, negator) = (column("oprname"), column("oprcode"), column("oprnegate"));
        let owner = column("oprowner");
        let mut found = None;
        let keys = [(column("oid"), oid)];
        table.lookup(oids::PG_OPERATOR_OID_INDEX, &keys, |row| {
            found = Some((row.name(name), row.oid(code), row.oid(negator), row.oid(owner)));
        });
        let (name, function, negator, owner) = found?;
        let is_built_in = oid < FIRST_NORMAL;
        let comparison = || {
            self.strategy(oid).or_else(|| {
                let is_inequality = self.strategy(negator) == Some(Comparison::Equal);
                is_inequality.then_some(Comparison::NotEqual)
            })
        };
        let facts = self.function(function);
        Some(Operator {
            name,
            is_built_in,
            is_of_extension: !is_built_in
                && is_of_trusted_extension(self.state, oids::PG_OPERATOR, oid, owner),
            is_equality: self.is_equality(oid),
            function,
            is_strict: facts.as_ref().is_some_and(|facts| facts.is_strict),
            is_volatile: facts.is_none_or(|facts| facts.is_volatile),
            comparison: if is_built_in { comparison() } else { None },
        })
    }

    /// Whether an operator is the equality of a btree operator family.
    fn is_equality(&self, operator: Oid) -> bool {
        let table = self.state.table(oids::PG_AMOP);
        let column = |name| table.column(name);
        let (method, strategy) = (column("amopmethod"), column("amopstrategy"));
        let (keys, mut found) = ([(column("amopopr"), operator)], false);
        table.lookup(oids::PG_AMOP_OPERATOR_INDEX, &keys, |row| {
            found |= row.oid(method) == BTREE && row.int(strategy) as i16 == 3;
        });
        found
    }

    /// Returns the comparison that an operator is in a btree operator family of the server.
    fn strategy(&self, operator: Oid) -> Option<Comparison> {
        let table = self.state.table(oids::PG_AMOP);
        let column = |name| table.column(name);
        let (family, method, strategy) =
            (column("amopfamily"), column("amopmethod"), column("amopstrategy"));
        let (keys, mut found) = ([(column("amopopr"), operator)], None);
        table.lookup(oids::PG_AMOP_OPERATOR_INDEX, &keys, |row| {
            let family = row.oid(family);
            if row.oid(method) == BTREE && family < FIRST_NORMAL && !BY_BYTES.contains(&family) {
                found = match row.int(strategy) as i16 {
                    1 => Some(Comparison::Less),
                    2 => Some(Comparison::LessOrEqual),
                    3 => Some(Comparison::Equal),
                    4 => Some(Comparison::GreaterOrEqual),
                    5 => Some(Comparison::Greater),
                    _ => None,
                };
            }
        });
        found
    }

    fn read_function(&self, oid: Oid) -> Option<Rc<Function>> {
        let table = self.state.table(oids::PG_PROC);
        let (mut found, keys) = (None, [(table.column("oid"), oid)]);
        table.lookup(oids::PG_PROC_OID_INDEX, &keys, |row| {
            let column = |name| table.column(name);
            let is_built_in = oid < FIRST_NORMAL;
            let defaults = row.text(column("proargdefaults"));
            let is_definer = row.bool(column("prosecdef"));
            let signature = || {
                let signature = name::identity(self.state, ObjectId::Routine(oid))?;
                Some(signature.replace("pg_catalog.", ""))
            };
            found = Some(Rc::new(Function {
                name: row.name(column("proname")),
                signature: if is_built_in { None } else { signature() }.unwrap_or_default(),
                is_built_in,
                owner: is_definer.then(|| row.oid(column("proowner"))),
                is_strict: row.bool(column("proisstrict")),
                is_volatile: row.char(column("provolatile")) == b'v',
                is_immutable: row.char(column("provolatile")) == b'i',
                is_called: is_definer
                    || !row.is_null(column("proconfig"))
                    || !NOT_CALLED.contains(&row.oid(column("prolang"))),
                argument_count: row.int(column("pronargs")) as i16 as usize,
                argument_names: if is_built_in {
                    Vec::new()
                } else {
                    argument_names(&row, column("proargnames"), column("proargmodes"))
                },
                asks_caller: is_built_in || self.asks_caller(&table, row),
                defaults: defaults
                    .and_then(|text| stored::expressions(&text).ok())
                    .unwrap_or_default(),
                body: if is_built_in { Body::Opaque } else { self.body(&table, row) },
            }));
        });
        found
    }

    /// Whether the text of a function mentions what tells who calls it: a value of the session, a
    /// routine of the application, or a table of which its caller reads some rows.
    fn asks_caller(&self, table: &Table, row: Row<'_>) -> bool {
        let column = |name| table.column(name);
        let language = language_of(self.state, row.oid(column("prolang")));
        if language == Language::Other {
            return true;
        }
        let (own, is_definer) = (row.name(column("proname")), row.bool(column("prosecdef")));
        let source = row.text(column("prosrc")).unwrap_or_default();
        let mentions = Mentions::of(&source, language);
        let names = self.asking.get_or_init(|| Asking::read(self.state));
        let mut words = mentions.words.iter().chain(&mentions.qualified);
        words.any(|(word, may_be_call)| {
            OF_SESSION.contains(&word.as_str())
                || (*may_be_call && *word != own && names.routines.contains(word))
                || (!is_definer && names.relations.contains(word))
        })
    }

    fn body(&self, table: &Table, row: Row<'_>) -> Body {
        let column = |name| table.column(name);
        let config = row.texts(column("proconfig"));
        if config.iter().any(|item| !item.to_ascii_lowercase().starts_with("search_path=")) {
            // It can set the role, or what says who the caller is.
            return Body::Opaque;
        }
        if let Some(parsed) = row.text(column("prosqlbody")) {
            let query = stored::query(&parsed).ok().flatten();
            return query.map_or(Body::Opaque, |query| Body::Query(Box::new(query)));
        }
        let source = row.text(column("prosrc")).unwrap_or_default();
        let language = language_of(self.state, row.oid(column("prolang")));
        if row.oid(column("prorettype")) == BOOL
            && let Some(value) = constant_body::value(&source, language)
        {
            return Body::Constant(value);
        }
        let Some(texts) = &self.texts else { return Body::Opaque };
        let path = settings(&config).last().map(|path| (*path).to_owned());
        let (owner, is_definer) = (row.oid(column("proowner")), row.bool(column("prosecdef")));
        let source = &source;
        let routine = row.oid(column("oid"));
        let text = Text { routine, language, source, path, owner, is_definer };
        let read = || {
            let text = texts.query(&text)?;
            Some(Body::Text(Box::new(text.query), text.captured))
        };
        read().unwrap_or(Body::Opaque)
    }

    fn read_columns(&self, relation: Oid) -> HashMap<i16, Column> {
        let mut columns = HashMap::new();
        let mut names = HashMap::new();
        self.attributes(relation, &mut |number, name, is_not_null, is_generated| {
            let generated = is_generated.then(|| self.expression(relation, number)).flatten();
            columns.insert(number, Column { nullable: !is_not_null, generated });
            names.insert(name.to_owned(), number);
        });
        let children = self.children(relation);
        // The server does not check the rows of foreign tables, and computes nothing in them.
        if children.iter().chain([&relation]).any(|of| self.is_foreign(*of)) {
            let unchecked = Column { nullable: true, generated: None };
            columns.values_mut().for_each(|column| *column = unchecked.clone());
        }
        for child in children {
            self.attributes(child, &mut |_, name, is_not_null, _| {
                let column = names.get(name).and_then(|number| columns.get_mut(number));
                if let Some(column) = column {
                    column.nullable |= !is_not_null;
                }
            });
        }
        columns
    }

    /// Calls `each` with number, name, NOT NULL and whether it is generated, of each column.
    fn attributes(&self, relation: Oid, each: &mut dyn FnMut(i16, &str, bool, bool)) {
        let table = self.state.table(oids::PG_ATTRIBUTE);
        let column = |name| table.column(name);
        let (number, name) = (column("attnum"), column("attname"));
        let (not_null, generated) = (column("attnotnull"), column("attgenerated"));
        let keys = [(column("attrelid"), relation)];
        table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
            let (number, is_generated) = (row.int(number) as i16, row.char(generated) != 0);
            if number > 0 {
                let name = row.borrowed_name(name);
                each(number, &name, row.bool(not_null), is_generated);
            }
        });
        // Every table has the same ones, so that a snapshot does not.
        objects::system_columns().for_each(|(number, name)| each(number, name, true, false));
    }

    /// Returns the expression of a generated column.
    fn expression(&self, relation: Oid, number: i16) -> Option<Rc<stored::Expression>> {
        let table = self.state.table(oids::PG_ATTRDEF);
        let column = |name| table.column(name);
        let (of, expression) = (column("adnum"), column("adbin"));
        let (mut found, keys) = (None, [(column("adrelid"), relation)]);
        table.lookup(oids::PG_ATTRDEF_RELID_INDEX, &keys, |row| {
            if row.int(of) as i16 == number {
                found = row.text(expression);
            }
        });
        // The value was computed when the row was written: by a function that may be another now.
        let found = found.filter(|text| !calls_code_of_an_application(text))?;
        stored::expression(&found).ok().map(Rc::new)
    }

    /// Returns the defaults of columns, with the expressions of generated ones.
    fn read_defaults(&self, relation: Oid) -> Vec<(i16, stored::Expression)> {
        let table = self.state.table(oids::PG_ATTRDEF);
        let column = |name| table.column(name);
        let (of, expression) = (column("adnum"), column("adbin"));
        let (mut found, keys) = (Vec::new(), [(column("adrelid"), relation)]);
        table.lookup(oids::PG_ATTRDEF_RELID_INDEX, &keys, |row| {
            found.push((row.int(of) as i16, default(row.text(expression))));
        });
        self.add_implicit_defaults(relation, &mut found);
        // A generated column is computed of others.
        found.retain(|(number, _)| {
            self.column(relation, *number).is_some_and(|column| column.generated.is_none())
        });
        found
    }

    /// Adds the defaults of columns that have none of their own: the next number of identity
    /// columns, of which nothing more is known, and the defaults of domains.
    fn add_implicit_defaults(&self, relation: Oid, found: &mut Vec<(i16, stored::Expression)>) {
        let table = self.state.table(oids::PG_ATTRIBUTE);
        let column = |name| table.column(name);
        let (number, identity) = (column("attnum"), column("attidentity"));
        let (data_type, dropped) = (column("atttypid"), column("attisdropped"));
        let own: HashSet<i16> = found.iter().map(|(number, _)| *number).collect();
        let keys = [(column("attrelid"), relation)];
        let mut others = Vec::new();
        table.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &keys, |row| {
            let number = row.int(number) as i16;
            if number > 0 && !row.bool(dropped) && !own.contains(&number) {
                others.push((number, row.char(identity) != 0, row.oid(data_type)));
            }
        });
        for (number, is_identity, data_type) in others {
            let of_domain = || {
                let default = "typdefaultbin";
                of_row(self.state, oids::TYPE_BY_OID, data_type, default, |row, of| row.text(of))
            };
            if is_identity {
                found.push((number, default(None)));
            } else if let Some(text) = of_domain().flatten() {
                found.push((number, default(Some(text))));
            }
        }
    }

    /// Returns the triggers whose functions are executed as their owners.
    fn definer_triggers(&self) -> Rc<Vec<DefinerTrigger>> {
        once(&self.definer_triggers, (), || Rc::new(definer_triggers(self.state)))
    }

    /// Returns the reader of the texts of functions, where they matter.
    pub fn texts(&self) -> Option<&dyn Texts> {
        self.texts.as_deref()
    }

    fn is_foreign(&self, relation: Oid) -> bool {
        let kind =
            of_row(self.state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind));
        kind == Some(b'f')
    }

    /// Returns the tables that inherit from a table, also through others.
    fn children(&self, relation: Oid) -> Vec<Oid> {
        let has_children = of_row(self.state, oids::CLASS_BY_OID, relation, "relhassubclass", {
            |row, column| row.bool(column)
        });
        let (mut known, mut all) = (HashSet::from([relation]), Vec::new());
        let mut parents = if has_children == Some(true) { vec![relation] } else { Vec::new() };
        let table = self.state.table(oids::PG_INHERITS);
        let (child, parent) = (table.column("inhrelid"), table.column("inhparent"));
        while let Some(next) = parents.pop() {
            self.state.interrupts();
            let keys = [(parent, next)];
            table.lookup(oids::PG_INHERITS_PARENT_INDEX, &keys, |row| {
                let child = row.oid(child);
                if known.insert(child) {
                    parents.push(child);
                    all.push(child);
                }
            });
        }
        all
    }

    fn read_view(&self, relation: Oid) -> Option<Rc<View>> {
        let kind = of_row(self.state, oids::CLASS_BY_OID, relation, "relkind", |row, column| {
            row.char(column)
        });
        if kind != Some(b'v') {
            return None;
        }
        let table = self.state.table(oids::PG_REWRITE);
        let column = |name| table.column(name);
        let (event, action) = (column("ev_type"), column("ev_action"));
        let (mut found, keys) = (None, [(column("ev_class"), relation)]);
        table.lookup(oids::PG_REWRITE_RELATION_INDEX, &keys, |row| {
            if row.char(event) == b'1' {
                found = row.text(action);
            }
        });
        let query = stored::query(&found?).ok().flatten()?;
        let owner = objects::view_owner(self.state, relation);
        Some(Rc::new(View { query, owner }))
    }

    /// Returns the CHECK constraints of a table that its rows satisfy, and those of the tables that
    /// inherit from it.
    fn read_checks(&self, relation: Oid) -> Vec<stored::Expression> {
        let table = self.state.table(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (kind, is_valid, expression) =
            (column("contype"), column("convalidated"), column("conbin"));
        let (is_not_inherited, enforced) = (column("connoinherit"), table.find("conenforced"));
        let (mut found, keys) = (Vec::new(), [(column("conrelid"), relation)]);
        table.lookup(oids::PG_CONSTRAINT_RELID_INDEX, &keys, |row| {
            let is_enforced = enforced.is_none_or(|enforced| row.bool(enforced));
            if row.char(kind) == b'c'
                && row.bool(is_valid)
                && is_enforced
                && !row.bool(is_not_inherited)
            {
                let text = row.text(expression).filter(|text| !calls_code_of_an_application(text));
                found.extend(text.and_then(|text| stored::expression(&text).ok()));
            }
        });
        if self.children(relation).iter().chain([&relation]).any(|of| self.is_foreign(*of)) {
            found.clear();
        }
        found
    }

    fn read_reads(&self, role: Oid, relation: Oid) -> Reads {
        if !self.rights.on_part(role, relation, Privileges::SELECT) {
            return Reads::Denied;
        }
        if !self.rights.is_limited(role, relation) {
            return Reads::All;
        }
        Reads::Policies(Rc::new(self.policies(role, relation, Command::Select)))
    }

    fn read_writes(&self, role: Oid, relation: Oid, command: Command) -> Option<Rc<Writable>> {
        if !matches!(command, Command::Insert | Command::Update) {
            return None;
        }
        let (rights, privilege) = (&self.rights, command.privilege());
        let has_all = rights.on_relation(role, relation, privilege);
        let is_written = |(number, name): &(i16, String)| {
            has_all || rights.on_column(role, relation, (*number, name), privilege)
        };
        let columns: BTreeSet<i16> = objects::written_columns(self.state, relation, command)
            .into_iter()
            .filter(is_written)
            .map(|(number, _)| number)
            .collect();
        if columns.is_empty() {
            return None;
        }
        let is_limited = rights.is_limited(role, relation);
        let policies = is_limited.then(|| self.policies(role, relation, command));
        let existing = match command {
            Command::Update if is_limited => self.existing(role, relation, command),
            _ => Policies::default(),
        };
        Some(Rc::new(Writable { columns, policies, existing }))
    }

    fn all_column_names(&self, relation: Oid) -> Rc<HashMap<i16, String>> {
        let read = || objects::numbered_columns(self.state, relation).into_iter().collect();
        once(&self.column_names, relation, || Rc::new(read()))
    }

    fn read_references(&self, relation: Oid) -> Vec<Reference> {
        let table = self.state.table(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (kind, target) = (column("contype"), column("confrelid"));
        let (is_valid, enforced) = (column("convalidated"), table.find("conenforced"));
        let (own, theirs) = (column("conkey"), column("confkey"));
        let (mut found, keys) = (Vec::new(), [(column("conrelid"), relation)]);
        table.lookup(oids::PG_CONSTRAINT_RELID_INDEX, &keys, |row| {
            // Another one may have rows that refer to nothing.
            let is_enforced = enforced.is_none_or(|enforced| row.bool(enforced));
            if row.char(kind) == b'f' && row.bool(is_valid) && is_enforced {
                found.push(Reference {
                    columns: row.numbers(own).into_iter().collect(),
                    target: row.oid(target),
                    target_columns: row.numbers(theirs).into_iter().collect(),
                });
            }
        });
        found
    }

    /// Returns the columns that indexes of a table begin with; `None` for what is no table.
    fn read_indexed(&self, relation: Oid) -> Option<Rc<HashSet<i16>>> {
        let kind =
            of_row(self.state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind));
        if !matches!(kind, Some(b'r' | b'p')) {
            return None;
        }
        let table = self.state.table(oids::PG_INDEX);
        let column = |name| table.column(name);
        let (key, is_valid, predicate) =
            (column("indkey"), column("indisvalid"), column("indpred"));
        let (mut found, of_table) = (HashSet::new(), [(column("indrelid"), relation)]);
        table.lookup(oids::PG_INDEX_RELID_INDEX, &of_table, |row| {
            if row.bool(is_valid) && row.is_null(predicate) {
                found.extend(row.numbers(key).first().copied());
            }
        });
        Some(Rc::new(found))
    }

    /// Returns the conditions of the policies for the rows that a role reads, or writes.
    fn policies(&self, role: Oid, relation: Oid, command: Command) -> Policies {
        let rows = match command {
            Command::Insert | Command::Update => Rows::New,
            Command::Select | Command::Delete => Rows::Existing,
        };
        let mut found = Policies::default();
        for policy in stored_policies(self.state, relation) {
            if !policy.is_for(command, role, &*self.rights) {
                continue;
            }
            let unknown = || stored::Expression::Unknown("a policy".to_owned());
            let condition = policy.condition(rows).cloned().unwrap_or_else(unknown);
            let of = &mut found;
            let list = if policy.is_permissive { &mut of.permissive } else { &mut of.restrictive };
            list.push(condition);
            of.checks_have_subquery |= policy.check_has_subquery();
        }
        found
    }

    /// Returns the conditions of the policies for the rows that a role changes.
    fn existing(&self, role: Oid, relation: Oid, command: Command) -> Policies {
        let mut found = Policies::default();
        let policies = stored_policies(self.state, relation);
        for policy in policies.iter().filter(|of| of.is_for(command, role, &*self.rights)) {
            let of = &mut found;
            let list = if policy.is_permissive { &mut of.permissive } else { &mut of.restrictive };
            list.extend(policy.condition(Rows::Existing).cloned());
        }
        found
    }
}

/// Words for values of a session that tell who the caller is, and functions that return them.
const OF_SESSION: [&str; 10] = [
    "current_user",
    "session_user",
    "current_role",
    "user",
    "current_setting",
    "pg_has_role",
    "has_table_privilege",
    "row_security_active",
    "current_schemas",
    "current_schema",
];

/// The names of what may return something else to each caller.
struct Asking {
    /// The routines of the application.
    routines: HashSet<String>,
    /// The tables with a policy that is no constant.
    relations: HashSet<String>,
}

impl Asking {
    fn read(state: &dyn State) -> Self {
        let table = state.table(oids::PG_PROC);
        let (oid, name) = (table.column("oid"), table.column("proname"));
        let mut routines = HashSet::new();
        table.scan(|row| {
            if row.oid(oid) >= FIRST_NORMAL {
                routines.insert(row.name(name));
            }
        });
        let table = state.table(oids::PG_POLICY);
        let (relation, condition) = (table.column("polrelid"), table.column("polqual"));
        let mut limited = HashSet::new();
        table.scan(|row| {
            let is_constant = |text: String| text.starts_with("{CONST ");
            if !row.text(condition).is_none_or(is_constant) {
                limited.insert(row.oid(relation));
            }
        });
        let names = limited.into_iter().filter_map(|of| state.name(oids::PG_CLASS, of));
        Self { routines, relations: names.map(|(_, name)| name).collect() }
    }
}

/// The catalog with an assumption about columns: that all can be null, or none can.
pub struct Assumed<'a> {
    /// The catalog.
    pub of: &'a Mentioned<'a>,
    /// Whether columns can be null.
    pub nullable: bool,
}

impl Catalog for Assumed<'_> {
    fn operator(&self, oid: Oid) -> Option<Operator> {
        self.of.operator(oid)
    }

    fn function(&self, oid: Oid) -> Option<Rc<Function>> {
        self.of.function(oid)
    }

    fn column(&self, _relation: Oid, _number: i16) -> Option<Column> {
        Some(Column { nullable: self.nullable, generated: None })
    }

    fn view(&self, relation: Oid) -> Option<Rc<View>> {
        self.of.view(relation)
    }

    fn is_deterministic(&self, collation: Oid) -> bool {
        self.of.is_deterministic(collation)
    }

    fn interrupts(&self) {
        self.of.state.interrupts();
    }
}

impl Catalog for Mentioned<'_> {
    fn operator(&self, oid: Oid) -> Option<Operator> {
        if oid >= FIRST_NORMAL {
            return self.read_operator(oid);
        }
        let key = (self.state.version(), oid);
        if let Some(known) = BUILT_IN.with_borrow(|known| known.get(&key).cloned()) {
            return Some(known);
        }
        let operator = self.read_operator(oid)?;
        BUILT_IN.with_borrow_mut(|known| known.insert(key, operator.clone()));
        Some(operator)
    }

    fn function(&self, oid: Oid) -> Option<Rc<Function>> {
        once(&self.functions, oid, || self.read_function(oid))
    }

    fn column(&self, relation: Oid, number: i16) -> Option<Column> {
        let columns = once(&self.columns, relation, || Rc::new(self.read_columns(relation)));
        columns.get(&number).cloned()
    }

    fn view(&self, relation: Oid) -> Option<Rc<View>> {
        once(&self.views, relation, || self.read_view(relation))
    }

    fn reads(&self, role: Oid, relation: Oid) -> Reads {
        once(&self.reads, (role, relation), || self.read_reads(role, relation))
    }

    fn writes(&self, role: Oid, relation: Oid, command: Command) -> Option<Rc<Writable>> {
        let read = || self.read_writes(role, relation, command);
        once(&self.writes, (role, relation, command), read)
    }

    fn detours(&self, role: Oid, table: Oid, command: Command) -> Rc<Vec<Detour>> {
        let read = || {
            let (children, triggers) = (self.children(table), self.definer_triggers());
            let finder = Finder {
                state: self.state,
                of: self,
                rights: &*self.rights,
                role,
                table,
                command,
                children,
                triggers,
            };
            Rc::new(finder.detours())
        };
        once(&self.detours, (role, table, command), read)
    }

    fn has_row_security(&self, relation: Oid) -> bool {
        objects::has_row_security(self.state, relation)
    }

    fn defaults(&self, relation: Oid) -> Rc<Vec<(i16, stored::Expression)>> {
        once(&self.column_defaults, relation, || Rc::new(self.read_defaults(relation)))
    }

    fn references(&self, relation: Oid) -> Rc<Vec<Reference>> {
        once(&self.references, relation, || Rc::new(self.read_references(relation)))
    }

    fn symbol(&self, function: Oid) -> Option<Rc<str>> {
        let version = self.state.version();
        let known = SYMBOLS.with_borrow(|all| all.get(&version).cloned());
        let symbols = known.unwrap_or_else(|| {
            let symbols = Rc::new(symbols(self.state));
            SYMBOLS.with_borrow_mut(|all| all.insert(version, Rc::clone(&symbols)));
            symbols
        });
        symbols.get(&function).cloned()
    }

    fn constant(&self, data_type: Oid, bytes: &[u8]) -> Option<String> {
        self.state.constant(data_type, bytes)
    }

    fn may_create_functions(&self, role: Oid) -> bool {
        once(&self.creators, role, || {
            let table = self.state.table(oids::PG_NAMESPACE);
            let (oid, name) = (table.column("oid"), table.column("nspname"));
            let mut schemas = Vec::new();
            table.scan(|row| {
                // Temporary functions are found only by their schema.
                if !row.name(name).starts_with("pg_") {
                    schemas.push(row.oid(oid));
                }
            });
            self.rights.creates_schemas(role)
                || schemas.into_iter().any(|schema| self.rights.creates_in(role, schema))
        })
    }

    fn may_execute(&self, role: Oid, function: Oid) -> bool {
        self.rights.on_routine(role, function)
    }

    fn may_call(&self, role: Oid, function: Oid) -> bool {
        let schema =
            of_row(self.state, oids::PROC_BY_OID, function, "pronamespace", |row, of| row.oid(of));
        schema.is_some_and(|schema| self.rights.on_schema(role, schema))
            && self.may_execute(role, function)
    }

    fn begins_index(&self, relation: Oid, number: i16) -> bool {
        let indexed = once(&self.indexed, relation, || self.read_indexed(relation));
        indexed.is_none_or(|columns| columns.contains(&number))
    }

    fn has_parameter(&self, name: &str) -> bool {
        // Any name with a dot can be set.
        name.contains('.') || self.state.has_setting(name)
    }

    fn checks(&self, relation: Oid) -> Rc<Vec<stored::Expression>> {
        once(&self.checks, relation, || Rc::new(self.read_checks(relation)))
    }

    fn relation_name(&self, relation: Oid) -> Option<String> {
        // A relation that has been renamed since is the same one.
        let current = || self.state.name(oids::PG_CLASS, relation);
        let quoted = |(schema, name): (String, String)| {
            format!("{}.{}", quote_ident(&schema), quote_ident(&name))
        };
        let read = || {
            let then = || name::qualified_name(self.state, oids::PG_CLASS, relation);
            current().map(quoted).or_else(then)
        };
        once(&self.names, relation, read)
    }

    fn column_name(&self, relation: Oid, number: i16) -> Option<String> {
        self.all_column_names(relation).get(&number).cloned()
    }

    fn has_column(&self, relation: Oid, name: &str) -> bool {
        self.all_column_names(relation).values().any(|known| known == name)
    }

    fn key_of_constraint(&self, constraint: Oid) -> Option<BTreeSet<i16>> {
        let table = self.state.table(oids::PG_CONSTRAINT);
        let column = |name| table.column(name);
        let (kind, key) = (column("contype"), column("conkey"));
        let (mut found, keys) = (None, [(column("oid"), constraint)]);
        table.lookup(oids::PG_CONSTRAINT_OID_INDEX, &keys, |row| {
            let is_key = matches!(row.char(kind), b'p' | b'u');
            found = is_key.then(|| row.numbers(key).into_iter().collect());
        });
        found
    }

    fn unique_keys(&self, relation: Oid) -> Rc<Vec<BTreeSet<i16>>> {
        once(&self.unique_keys, relation, || Rc::new(objects::unique_keys(self.state, relation)))
    }

    fn role_name(&self, role: Oid) -> Option<String> {
        self.rights.role_name(role)
    }

    fn interrupts(&self) {
        self.state.interrupts();
    }

    fn is_text_of_extension(&self, of: Oid) -> bool {
        if of < FIRST_NORMAL {
            return false;
        }
        let by = oids::TYPE_BY_OID;
        let category = of_row(self.state, by, of, "typcategory", |row, of| row.char(of));
        let owner = of_row(self.state, by, of, "typowner", |row, owner| row.oid(owner));
        category == Some(b'S')
            && owner
                .is_some_and(|owner| is_of_trusted_extension(self.state, oids::PG_TYPE, of, owner))
    }

    fn is_deterministic(&self, collation: Oid) -> bool {
        if collation < FIRST_NORMAL {
            return true;
        }
        let table = self.state.table(oids::PG_COLLATION);
        let deterministic = table.column("collisdeterministic");
        let (mut is_known, keys) = (false, [(table.column("oid"), collation)]);
        table.lookup(oids::PG_COLLATION_OID_INDEX, &keys, |row| {
            is_known = row.bool(deterministic);
        });
        is_known
    }
}

/// Whether an object belongs to an extension, and its owner is a superuser: others could add what
/// they have made to an extension that they own.
fn is_of_trusted_extension(state: &dyn State, class: Oid, object: Oid, owner: Oid) -> bool {
    let is_superuser = of_row(state, oids::ROLE_BY_OID, owner, "rolsuper", |row, is| row.bool(is));
    is_superuser == Some(true) && objects::extension_of(state, class, object).is_some()
}

/// Whether a stored expression calls a function, or an operator, that is not the server's.
fn calls_code_of_an_application(text: &str) -> bool {
    [":funcid ", ":opno ", ":opfuncid "].iter().any(|field| {
        stored::oids_in(text, field).any(|oid| oid.is_none_or(|oid| oid >= FIRST_NORMAL))
    })
}

/// Returns the expression of a default; an unknown one where its text cannot be read.
fn default(text: Option<String>) -> stored::Expression {
    let read = text.and_then(|text| stored::expression(&text).ok());
    read.unwrap_or_else(|| stored::Expression::Unknown("default".to_owned()))
}

/// Returns what is known of a key, and reads it the first time.
fn once<K: Eq + Hash, V: Clone>(known: &Known<K, V>, key: K, read: impl FnOnce() -> V) -> V {
    if let Some(value) = known.borrow().get(&key) {
        return value.clone();
    }
    let value = read();
    known.borrow_mut().insert(key, value.clone());
    value
}
