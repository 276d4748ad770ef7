//! Reads what the bodies of routines look up along the search_path, from their text. Nothing is
//! parsed by the server and nothing is executed.

use crate::source::{Column, Repeated, Row, State, Table};
use crate::{oids, roles};
use dragonfly_core::access::Access;
use dragonfly_core::catalog::{
    Body, BodyName, NameKind, Named, Oid, OidMap, OidSet, PG_CATALOG, Routine, Snapshot,
};
use dragonfly_core::contract::Contract;
use dragonfly_core::rules::Context;
use dragonfly_core::rules::shared::definer_path;
use dragonfly_core::search_path::settings as path_settings;
use dragonfly_core::sql::body::{Language, Mentions};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// Adds to a complete snapshot the bodies of the routines in some schemas whose search_path a fix
/// may change, and the search_paths of sessions, if there are such routines.
pub fn read(
    state: &dyn State,
    contract: &Contract,
    is_wanted: &dyn Fn(&str) -> bool,
    snapshot: &mut Snapshot,
) {
    let interrupts = || state.interrupts();
    let wanted = {
        let access = Access::new(snapshot);
        let cx = Context::new(contract, snapshot, &access, &interrupts);
        let routines =
            snapshot.routines.iter().filter(|r| is_wanted(snapshot.schema_name(r.schema)));
        routines.filter(|r| definer_path::may_change(&cx, r)).map(|r| r.oid).collect()
    };
    of(state, &wanted, snapshot);
}

/// As [`read`], without the routines that an earlier state shows with the same properties and the
/// same verdict, because the guard has nothing to say about them.
pub fn read_changed(
    state: &dyn State,
    contract: &Contract,
    before: &Snapshot,
    after: &mut Snapshot,
) {
    if !after.routines.iter().any(|routine| routine.security_definer) {
        return;
    }
    let interrupts = || state.interrupts();
    let wanted = {
        let (old, new) = (Access::new(before), Access::new(after));
        let old = Context::new(contract, before, &old, &interrupts);
        let new = Context::new(contract, after, &new, &interrupts);
        let earlier: OidMap<&Routine> = before.routines.iter().map(|r| (r.oid, r)).collect();
        let assess = |cx: &Context<'_>, r: &Routine| cx.paths.config(&r.config, r.owner);
        let is_same = |routine: &Routine| {
            earlier.get(&routine.oid).is_some_and(|earlier| {
                *earlier == routine
                    && before.schema_name(earlier.schema) == after.schema_name(routine.schema)
                    && assess(&old, earlier) == assess(&new, routine)
            })
        };
        let may_change = after.routines.iter().filter(|r| definer_path::may_change(&new, r));
        may_change.filter(|r| !is_same(r)).map(|r| r.oid).collect()
    };
    of(state, &wanted, after);
}

/// Adds to a snapshot the bodies of some routines, and the search_paths of sessions.
pub fn of(state: &dyn State, wanted: &OidSet, snapshot: &mut Snapshot) {
    if wanted.is_empty() {
        return;
    }
    let texts = Texts::reachable(state, wanted);
    let objects = Objects::read(state, texts.mentions(), snapshot);
    let mut bodies = Bodies { state, texts: &texts, objects: &objects, own: OidMap::default() };
    snapshot.bodies = Rc::new(wanted.iter().map(|oid| (*oid, bodies.with_called(*oid))).collect());
    let reset = state.default_of("search_path");
    let quoted_path = |path: &String| state.quoted_path(path);
    let (of_database, of_roles) = roles::search_paths(state, &snapshot.database.name);
    snapshot.default_path = of_database.or(reset).map(|path| quoted_path(&path));
    snapshot.role_paths = of_roles.iter().map(quoted_path).collect();
}

/// The texts of routines, with what they call.
struct Texts {
    by_routine: OidMap<Text>,
}

/// The text of a routine.
struct Text {
    /// Thousands of texts mention nothing.
    mentions: Rc<Mentions>,
    /// Whether it was parsed when the routine was created (BEGIN ATOMIC).
    is_parsed: bool,
    /// The routines without a search_path that it may call.
    calls: Vec<Oid>,
}

impl Texts {
    /// Reads some routines and the routines without a search_path that they call.
    fn reachable(state: &dyn State, wanted: &OidSet) -> Self {
        let (reader, mut by_routine) = Reader::open(state, wanted);
        let mut next: Vec<Oid> = by_routine.keys().copied().collect();
        while let Some(oid) = next.pop() {
            state.interrupts();
            let Some(text) = by_routine.get(&oid) else { continue };
            let calls = reader.called(oid, text);
            for called in &calls {
                if let Entry::Vacant(place) = by_routine.entry(*called)
                    && let Some(text) = reader.looked_up(*called)
                {
                    place.insert(text);
                    next.push(*called);
                }
            }
            if let Some(text) = by_routine.get_mut(&oid) {
                text.calls = calls;
            }
        }
        Self { by_routine }
    }

    fn mentions(&self) -> impl Iterator<Item = &Mentions> + Clone {
        self.by_routine.values().map(|text| &*text.mentions)
    }
}

/// The bodies of routines.
struct Bodies<'t> {
    state: &'t dyn State,
    texts: &'t Texts,
    objects: &'t Objects,
    /// Without what they call, as far as they have been determined.
    own: OidMap<Rc<Body>>,
}

impl Bodies<'_> {
    fn own(&mut self, routine: Oid) -> Rc<Body> {
        let body = self.own.entry(routine).or_insert_with(|| {
            let text = self.texts.by_routine.get(&routine);
            text.map(|text| self.objects.body(&text.mentions)).unwrap_or_default().into()
        });
        Rc::clone(body)
    }

    /// Returns the body of a routine together with those of the routines that it calls.
    fn with_called(&mut self, routine: Oid) -> Rc<Body> {
        let texts = &self.texts.by_routine;
        let calls = |oid: &Oid| texts.get(oid).map_or(&[][..], |text| &text.calls);
        if calls(&routine).is_empty() {
            return self.own(routine);
        }
        let (mut seen, mut next) = (OidSet::from_iter([routine]), vec![routine]);
        let mut names: BTreeMap<(NameKind, String), BodyName> = BTreeMap::new();
        let mut all = Body::default();
        while let Some(oid) = next.pop() {
            self.state.interrupts();
            next.extend(calls(&oid).iter().copied().filter(|oid| seen.insert(*oid)));
            let body = self.own(oid);
            names.extend(body.names.iter().map(|n| ((n.kind, n.name.clone()), n.clone())));
            all.temporary.extend(body.temporary.iter().cloned());
            all.creates |= body.creates;
            all.runs_text |= body.runs_text;
        }
        all.names = names.into_values().collect();
        all.into()
    }
}

/// The columns of `pg_proc` that are read.
struct Columns {
    oid: Column,
    name: Column,
    schema: Column,
    language: Column,
    config: Column,
    text: Column,
    parsed: Column,
}

impl Columns {
    fn of(table: &Table) -> Self {
        Self {
            oid: table.column("oid"),
            name: table.column("proname"),
            schema: table.column("pronamespace"),
            language: table.column("prolang"),
            config: table.column("proconfig"),
            text: table.column("prosrc"),
            parsed: table.column("prosqlbody"),
        }
    }

    /// Returns the text of a routine, without what it calls. `nothing` is what a text without names
    /// mentions.
    fn text(&self, row: &Row<'_>, languages: &OidMap<Language>, nothing: &Rc<Mentions>) -> Text {
        let text = |mentions, is_parsed| Text { mentions, is_parsed, calls: vec![] };
        if !row.is_null(self.parsed) {
            return text(Rc::clone(nothing), true);
        }
        let language = languages.get(&row.oid(self.language)).copied().unwrap_or(Language::Other);
        let mentions = Mentions::of(&row.text(self.text).unwrap_or_default(), language);
        text(if mentions == **nothing { Rc::clone(nothing) } else { mentions.into() }, false)
    }
}

/// Routines by name.
#[derive(Default)]
struct ByName {
    /// All names, one after another: one allocation instead of one for each.
    names: String,
    /// The start and the end of a name, and the routine; in order of name.
    entries: Vec<(usize, usize, Oid)>,
}

impl ByName {
    fn add(&mut self, name: &str, routine: Oid) {
        let start = self.names.len();
        self.names.push_str(name);
        self.entries.push((start, self.names.len(), routine));
    }

    /// Puts the entries in order, after all have been added.
    fn sorted(mut self) -> Self {
        let Self { names, entries } = &mut self;
        entries.sort_unstable_by_key(|(start, end, _)| &names[*start..*end]);
        self
    }

    fn named<'n>(&'n self, name: &'n str) -> impl Iterator<Item = Oid> + 'n {
        let of = |&(start, end, _): &(usize, usize, Oid)| &self.names[start..end];
        let first = self.entries.partition_point(|entry| of(entry) < name);
        let rest = self.entries[first..].iter();
        rest.take_while(move |entry| of(entry) == name).map(|(_, _, routine)| *routine)
    }
}

/// Reads the texts of routines.
struct Reader<'s> {
    state: &'s dyn State,
    table: Table<'s>,
    columns: Columns,
    languages: OidMap<Language>,
    /// What a text without names mentions.
    nothing: Rc<Mentions>,
    /// The routines without a search_path: they use that of their caller.
    inheriting: OidSet,
    /// The same, by name.
    by_name: ByName,
    /// The trigger functions without a search_path, by the relation.
    triggers: OidMap<Vec<Oid>>,
    /// The relations with such triggers, by name.
    with_triggers: HashMap<String, Vec<Oid>>,
}

impl<'s> Reader<'s> {
    /// Returns the reader, and the texts of the wanted routines.
    fn open(state: &'s dyn State, wanted: &OidSet) -> (Self, OidMap<Text>) {
        let table = state.table(oids::PG_PROC);
        let mut reader = Self {
            state,
            columns: Columns::of(&table),
            table,
            languages: languages(state),
            nothing: Rc::default(),
            inheriting: OidSet::default(),
            by_name: ByName::default(),
            triggers: OidMap::default(),
            with_triggers: HashMap::new(),
        };
        let texts = reader.read_routines(wanted);
        reader.read_triggers();
        (reader, texts)
    }

    /// Reads the texts of the wanted routines, and which routines have no search_path.
    fn read_routines(&mut self, wanted: &OidSet) -> OidMap<Text> {
        let Self { table, columns, languages, nothing, inheriting, .. } = self;
        let mut texts = OidMap::default();
        let mut by_name = ByName::default();
        let have_path = Repeated::default();
        table.scan(|row| {
            let oid = row.oid(columns.oid);
            if wanted.contains(&oid) {
                texts.insert(oid, columns.text(&row, languages, nothing));
            }
            let has_path = || {
                have_path.get(&row, columns.config, |row, config| {
                    !path_settings(&row.texts(config)).is_empty()
                })
            };
            if row.oid(columns.schema) != PG_CATALOG
                && languages.contains_key(&row.oid(columns.language))
                && !has_path().is_some_and(|has_path| *has_path)
            {
                inheriting.insert(oid);
                by_name.add(&row.borrowed_name(columns.name), oid);
            }
        });
        self.by_name = by_name.sorted();
        texts
    }

    fn read_triggers(&mut self) {
        let state = self.state;
        let table = state.table(oids::PG_TRIGGER);
        let (relation, routine) = (table.column("tgrelid"), table.column("tgfoid"));
        table.scan(|row| {
            if self.inheriting.contains(&row.oid(routine)) {
                self.triggers.entry(row.oid(relation)).or_default().push(row.oid(routine));
            }
        });
        for relation in self.triggers.keys() {
            if let Some((_, name)) = state.name(oids::PG_CLASS, *relation) {
                self.with_triggers.entry(name).or_default().push(*relation);
            }
        }
    }

    /// Returns the text of a routine, without what it calls; `None` where it does not exist.
    fn looked_up(&self, routine: Oid) -> Option<Text> {
        let Self { table, columns, languages, nothing, .. } = self;
        let mut found = None;
        table.lookup(oids::PG_PROC_OID_INDEX, &[(columns.oid, routine)], |row| {
            found = Some(columns.text(&row, languages, nothing));
        });
        found
    }

    /// Returns the routines without a search_path that a routine may call.
    fn called(&self, routine: Oid, text: &Text) -> Vec<Oid> {
        // A body that was parsed when the routine was created looks up nothing, but what it calls
        // may.
        let mut calls = if text.is_parsed {
            self.called_by_parsed(routine)
        } else {
            self.called_by(&text.mentions)
        };
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    fn called_by(&self, mentions: &Mentions) -> Vec<Oid> {
        let mut called = Vec::new();
        for (word, is_call) in mentions.words.iter().chain(&mentions.qualified) {
            if *is_call {
                called.extend(self.by_name.named(word));
            }
            let relations = self.with_triggers.get(word).into_iter().flatten();
            called.extend(relations.filter_map(|oid| self.triggers.get(oid)).flatten());
        }
        called
    }

    fn called_by_parsed(&self, routine: Oid) -> Vec<Oid> {
        let table = self.state.table(oids::PG_DEPEND);
        let (to_class, to_object) = (table.column("refclassid"), table.column("refobjid"));
        let keys = [(table.column("classid"), oids::PG_PROC), (table.column("objid"), routine)];
        let mut called = Vec::new();
        table.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            let object = row.oid(to_object);
            match row.oid(to_class) {
                oids::PG_CLASS => called.extend(self.triggers.get(&object).into_iter().flatten()),
                oids::PG_PROC if self.inheriting.contains(&object) => called.push(object),
                _ => {}
            }
        });
        called
    }
}

/// Returns the languages whose routines have a text. A routine in C has none, and calls what it
/// calls by OID or with qualified names.
pub fn languages(state: &dyn State) -> OidMap<Language> {
    let table = state.table(oids::PG_LANGUAGE);
    let (oid, name) = (table.column("oid"), table.column("lanname"));
    let mut languages = OidMap::default();
    table.scan(|row| {
        let language = match row.name(name).as_str() {
            "c" | "internal" => return,
            "sql" => Language::Sql,
            "plpgsql" => Language::PlPgSql,
            _ => Language::Other,
        };
        languages.insert(row.oid(oid), language);
    });
    languages
}

/// The objects of the database that have one of the mentioned names.
struct Objects {
    by_name: HashMap<String, HashMap<NameKind, Rc<[Named]>>>,
}

impl Objects {
    /// Reads the catalogs of objects that are found along the search_path, one pass for each.
    fn read<'m>(
        state: &dyn State,
        mentions: impl Iterator<Item = &'m Mentions> + Clone,
        snapshot: &Snapshot,
    ) -> Self {
        let words: HashSet<&str> =
            mentions.clone().flat_map(|m| m.words.keys().map(String::as_str)).collect();
        let operators: HashSet<&str> =
            mentions.flat_map(|m| m.operators.iter().map(String::as_str)).collect();
        let mut found: HashMap<String, HashMap<NameKind, Vec<Named>>> = HashMap::new();
        for source in Source::all(state) {
            let names = if source.is_operators() { &operators } else { &words };
            source.scan(names, |name, kind, object| {
                if snapshot.schema(object.schema).is_some_and(|schema| !schema.is_temporary()) {
                    let kinds = found.entry(name).or_default();
                    kinds.entry(kind).or_default().push(object);
                }
            });
        }
        let shared = |kinds: HashMap<NameKind, Vec<Named>>| {
            kinds.into_iter().map(|(kind, objects)| (kind, Rc::from(objects))).collect()
        };
        Self { by_name: found.into_iter().map(|(name, kinds)| (name, shared(kinds))).collect() }
    }

    /// Returns what a body looks up. Names that only `pg_catalog` contains are found along every
    /// search_path and are omitted.
    fn body(&self, mentions: &Mentions) -> Body {
        let mut names = Vec::new();
        let operators = mentions.operators.iter().map(|operator| (operator, false));
        for (name, is_call) in mentions.words.iter().map(|(w, call)| (w, *call)).chain(operators) {
            for (kind, objects) in self.by_name.get(name).into_iter().flatten() {
                let is_routine = matches!(kind, NameKind::Function | NameKind::Procedure);
                if (is_call || !is_routine) && objects.iter().any(|o| o.schema != PG_CATALOG) {
                    names.push(BodyName {
                        kind: *kind,
                        name: name.clone(),
                        objects: Rc::clone(objects),
                    });
                }
            }
        }
        names.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Body {
            names,
            temporary: mentions.temporary.clone(),
            creates: mentions.creates,
            runs_text: mentions.runs_text,
        }
    }
}

/// A catalog of objects that are found along the search_path.
struct Source<'s> {
    table: Table<'s>,
    name: Column,
    schema: Column,
    details: Details,
}

/// How the rows of a catalog differ.
enum Details {
    Relation { kind: Column },
    Routine { kind: Column, arguments: Column },
    Type { kind: Column, relation: Column },
    Operator { left: Column, right: Column },
    Other(NameKind),
}

impl<'s> Source<'s> {
    fn all(state: &'s dyn State) -> [Self; 7] {
        let open = |catalog, name, schema, details: fn(&Table<'_>) -> Details| {
            let table = state.table(catalog);
            let (name, schema) = (table.column(name), table.column(schema));
            let details = details(&table);
            Self { table, name, schema, details }
        };
        [
            open(oids::PG_CLASS, "relname", "relnamespace", |t| Details::Relation {
                kind: t.column("relkind"),
            }),
            open(oids::PG_PROC, "proname", "pronamespace", |t| Details::Routine {
                kind: t.column("prokind"),
                arguments: t.column("proargtypes"),
            }),
            open(oids::PG_TYPE, "typname", "typnamespace", |t| Details::Type {
                kind: t.column("typtype"),
                relation: t.column("typrelid"),
            }),
            open(oids::PG_OPERATOR, "oprname", "oprnamespace", |t| Details::Operator {
                left: t.column("oprleft"),
                right: t.column("oprright"),
            }),
            open(oids::PG_COLLATION, "collname", "collnamespace", |_| {
                Details::Other(NameKind::Collation)
            }),
            open(oids::PG_TS_CONFIG, "cfgname", "cfgnamespace", |_| {
                Details::Other(NameKind::TextSearchConfiguration)
            }),
            open(oids::PG_TS_DICT, "dictname", "dictnamespace", |_| {
                Details::Other(NameKind::TextSearchDictionary)
            }),
        ]
    }

    fn is_operators(&self) -> bool {
        matches!(self.details, Details::Operator { .. })
    }

    /// Calls `each` with every object that has one of some names.
    fn scan(&self, names: &HashSet<&str>, mut each: impl FnMut(String, NameKind, Named)) {
        if names.is_empty() {
            return;
        }
        self.table.scan(|row| {
            let name = row.borrowed_name(self.name);
            if names.contains(name.as_ref())
                && let Some((kind, arguments)) = self.details.of(row)
            {
                each(name.into_owned(), kind, Named { schema: row.oid(self.schema), arguments });
            }
        });
    }
}

impl Details {
    /// Returns the kind and the arguments of an object; `None` where it is not found by its name.
    fn of(&self, row: Row<'_>) -> Option<(NameKind, Vec<Oid>)> {
        match *self {
            // A composite type has a relation, too.
            Self::Relation { kind } => match row.char(kind) {
                b'r' | b'p' | b'f' | b'v' | b'm' | b'S' => Some((NameKind::Relation, vec![])),
                b'c' => Some((NameKind::Type, vec![])),
                _ => None,
            },
            Self::Routine { kind, arguments } => {
                let kind = match row.char(kind) {
                    b'p' => NameKind::Procedure,
                    _ => NameKind::Function,
                };
                Some((kind, row.oids(arguments)))
            }
            Self::Type { kind, relation } => (row.char(kind) != b'c' && row.oid(relation) == 0)
                .then_some((NameKind::Type, vec![])),
            Self::Operator { left, right } => {
                Some((NameKind::Operator, vec![row.oid(left), row.oid(right)]))
            }
            Self::Other(kind) => Some((kind, vec![])),
        }
    }
}
