//! Reads from `pg_depend` which routines and relations the parts of objects use: policies, views,
//! constraints, defaults, indexes, triggers, and routines with a parsed body. All of it in one pass
//! for the audit; for the guard, what leads to some objects, by index.

use crate::place::{Place, place};
use crate::source::{ByOid, Column, Row, State, Table, of_row};
use crate::{objects, oids, policies, routines};
use dragonfly_core::catalog::{
    Command, Dependencies, FIRST_NORMAL, Holder, ObjectId, Oid, Part, PartKind, RelationKind,
    Snapshot, TypeOwner, Use,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// The maximum number of objects that are visited for the objects of one statement.
const MOST: usize = 20_000;

/// A row of `pg_depend`: a part uses an object or a column of it. The three numbers are the
/// catalog, the OID and the column, or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Edge {
    from: (Oid, Oid, i32),
    to: (Oid, Oid, i32),
    kind: u8,
}

impl Edge {
    /// Returns the catalog and the OID of the part.
    fn user(&self) -> (Oid, Oid) {
        (self.from.0, self.from.1)
    }

    /// Whether the row says what an expression calls or reads, or how objects are made up.
    fn matters(&self) -> bool {
        let calls = matches!(self.to.0, oids::PG_PROC | oids::PG_OPERATOR);
        match self.from.0 {
            oids::PG_POLICY
            | oids::PG_REWRITE
            | oids::PG_CONSTRAINT
            | oids::PG_ATTRDEF
            | oids::PG_PROC
            | oids::PG_STATISTIC_EXT
            | oids::PG_TRIGGER
            | oids::PG_EVENT_TRIGGER => true,
            // An index, a partition key; a column of a type; a partition of a table.
            oids::PG_CLASS => match self.to.0 {
                oids::PG_TYPE => true,
                oids::PG_CLASS => self.from.2 == 0 && self.to.2 == 0 && self.kind != b'i',
                _ => calls,
            },
            // The columns of a type, and the default of a domain.
            oids::PG_TYPE => calls || matches!(self.to.0, oids::PG_TYPE | oids::PG_CLASS),
            oids::PG_OPERATOR | oids::PG_CAST => calls || self.to.0 == oids::PG_TYPE,
            _ => false,
        }
    }
}

/// The columns of `pg_depend`.
struct Reader<'s> {
    table: Table<'s>,
    from: [Column; 3],
    to: [Column; 3],
    kind: Column,
}

impl<'s> Reader<'s> {
    fn open(state: &'s dyn State) -> Self {
        let table = state.table(oids::PG_DEPEND);
        let of = |names: [&str; 3]| names.map(|name| table.column(name));
        let (from, to) =
            (of(["classid", "objid", "objsubid"]), of(["refclassid", "refobjid", "refobjsubid"]));
        let kind = table.column("deptype");
        Self { table, from, to, kind }
    }

    fn edge(&self, row: &Row<'_>) -> Option<Edge> {
        let to_class = row.oid(self.to[0]);
        if !matches!(to_class, oids::PG_PROC | oids::PG_OPERATOR | oids::PG_CLASS | oids::PG_TYPE) {
            return None;
        }
        let edge = Edge {
            from: (row.oid(self.from[0]), row.oid(self.from[1]), row.int(self.from[2])),
            to: (to_class, row.oid(self.to[1]), row.int(self.to[2])),
            kind: row.char(self.kind),
        };
        // No part of an object that initdb created uses an object that users created.
        (edge.from.1 >= FIRST_NORMAL && edge.matters()).then_some(edge)
    }

    /// Returns what all parts depend on, without those that use their own relation only.
    fn all(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        self.table.scan(|row| edges.extend(self.edge(&row)));
        edges.sort_by_key(Edge::user);
        by_user(&edges).filter(|group| !is_about_own_relation(group)).flatten().copied().collect()
    }

    /// Returns what depends on an object.
    fn to(&self, (class, object): (Oid, Oid)) -> Vec<Edge> {
        let keys = [(self.to[0], class), (self.to[1], object)];
        let mut edges = Vec::new();
        self.table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            edges.extend(self.edge(&row));
        });
        edges
    }

    /// Returns what an object depends on.
    fn from(&self, (class, object): (Oid, Oid)) -> Vec<Edge> {
        let keys = [(self.from[0], class), (self.from[1], object)];
        let mut edges = Vec::new();
        self.table.lookup(oids::PG_DEPEND_DEPENDER_INDEX, &keys, |row| {
            edges.extend(self.edge(&row));
        });
        edges
    }
}

/// Returns the rows of each part, from rows in the order of the parts.
fn by_user(edges: &[Edge]) -> impl Iterator<Item = &[Edge]> {
    edges.chunk_by(|a, b| a.user() == b.user())
}

/// Whether a part, of which these are all rows, uses nothing but the relation that it belongs to:
/// most policies, constraints and defaults.
fn is_about_own_relation(edges: &[Edge]) -> bool {
    let of_relation =
        [oids::PG_POLICY, oids::PG_CONSTRAINT, oids::PG_ATTRDEF, oids::PG_STATISTIC_EXT];
    let relation = |edge: &Edge| (edge.to.0, edge.to.1);
    edges.iter().all(|edge| {
        of_relation.contains(&edge.from.0)
            && edge.to.0 == oids::PG_CLASS
            && relation(edge) == relation(&edges[0])
    })
}

/// What a row of a catalog says about a part.
#[derive(Debug, Clone, Default)]
struct Info {
    /// The relation, or the type of a constraint of a domain.
    on: Oid,
    /// Whether `on` is a type.
    is_of_type: bool,
    /// The name; empty for a default.
    name: String,
    /// The event of a rule, the type of a constraint, the column of a default or the events of a
    /// trigger.
    code: i32,
    /// The function of a trigger.
    function: Oid,
    /// Whether a trigger has a condition.
    has_condition: bool,
    /// Whether a constraint is NOT ENFORCED (from PostgreSQL 18 on), so that it is not evaluated.
    is_not_enforced: bool,
}

impl Info {
    /// Whether the constraint evaluates an expression when a row is written.
    fn is_evaluated_check(&self) -> bool {
        self.code == CHECK && !self.is_not_enforced
    }
}

/// The columns of a catalog of parts.
struct InfoReader<'s> {
    table: Table<'s>,
    by: ByOid,
    oid: Column,
    on: Column,
    of_type: Option<Column>,
    name: Option<Column>,
    code: Option<Column>,
    function: Option<Column>,
    condition: Option<Column>,
    enforced: Option<Column>,
}

impl<'s> InfoReader<'s> {
    /// Opens one of the catalogs of parts.
    fn open(state: &'s dyn State, class: Oid) -> Self {
        let (by, on, name, code) = match class {
            oids::PG_POLICY => (oids::POLICY_BY_OID, "polrelid", Some("polname"), None),
            oids::PG_REWRITE => {
                (oids::REWRITE_BY_OID, "ev_class", Some("rulename"), Some("ev_type"))
            }
            oids::PG_CONSTRAINT => {
                (oids::CONSTRAINT_BY_OID, "conrelid", Some("conname"), Some("contype"))
            }
            oids::PG_ATTRDEF => (oids::ATTRDEF_BY_OID, "adrelid", None, Some("adnum")),
            oids::PG_STATISTIC_EXT => (oids::STATISTICS_BY_OID, "stxrelid", Some("stxname"), None),
            _ => (oids::TRIGGER_BY_OID, "tgrelid", Some("tgname"), Some("tgtype")),
        };
        let table = state.table(by.catalog);
        let only = |of: Oid, name: &str| (class == of).then(|| table.column(name));
        Self {
            by,
            oid: table.column("oid"),
            on: table.column(on),
            of_type: only(oids::PG_CONSTRAINT, "contypid"),
            name: name.map(|name| table.column(name)),
            code: code.map(|code| table.column(code)),
            function: only(oids::PG_TRIGGER, "tgfoid"),
            condition: only(oids::PG_TRIGGER, "tgqual"),
            enforced: table.find("conenforced"),
            table,
        }
    }

    fn read(&self, row: &Row<'_>) -> Info {
        let of_type = self.of_type.map(|column| row.oid(column)).filter(|oid| *oid != 0);
        // Of these columns one is a smallint, the others are characters.
        let code = |column| match self.by.catalog {
            oids::PG_ATTRDEF | oids::PG_TRIGGER => i32::from(row.int(column) as i16),
            _ => i32::from(row.char(column)),
        };
        Info {
            on: of_type.unwrap_or_else(|| row.oid(self.on)),
            is_of_type: of_type.is_some(),
            name: self.name.map(|column| row.name(column)).unwrap_or_default(),
            code: self.code.map(code).unwrap_or_default(),
            function: self.function.map(|column| row.oid(column)).unwrap_or_default(),
            has_condition: self.condition.is_some_and(|column| !row.is_null(column)),
            is_not_enforced: self.enforced.is_some_and(|column| !row.bool(column)),
        }
    }

    /// Reads the rows of some parts in one pass.
    fn some(&self, wanted: &HashSet<Oid>) -> HashMap<Oid, Info> {
        let mut found = HashMap::new();
        if !wanted.is_empty() {
            self.table.scan(|row| {
                let oid = row.oid(self.oid);
                if wanted.contains(&oid) {
                    found.insert(oid, self.read(&row));
                }
            });
        }
        found
    }

    fn one(&self, oid: Oid) -> Option<Info> {
        let mut found = None;
        self.table.lookup(self.by.index, &[(self.oid, oid)], |row| {
            found = Some(self.read(&row));
        });
        found
    }
}

/// The catalogs of parts.
const CATALOGS: [Oid; 6] = [
    oids::PG_POLICY,
    oids::PG_REWRITE,
    oids::PG_CONSTRAINT,
    oids::PG_ATTRDEF,
    oids::PG_STATISTIC_EXT,
    oids::PG_TRIGGER,
];

/// Whether a row of a catalog is a part of an object, or an object itself, that may use others: its
/// body, its query or its conditions.
#[must_use]
pub fn may_use_others(catalog: Oid) -> bool {
    CATALOGS.contains(&catalog)
        || [
            oids::PG_PROC,
            oids::PG_CLASS,
            oids::PG_TYPE,
            oids::PG_OPERATOR,
            oids::PG_CAST,
            oids::PG_EVENT_TRIGGER,
        ]
        .contains(&catalog)
}

/// Returns the domain that has a constraint; `None` for a constraint of a table.
pub fn domain_of_constraint(state: &dyn State, constraint: Oid) -> Option<Oid> {
    of_row(state, oids::CONSTRAINT_BY_OID, constraint, "contypid", |row, domain| row.oid(domain))
        .filter(|domain| *domain != 0)
}

/// The rows of the catalogs of parts: those that have been read, or those that are looked up.
enum Infos<'s> {
    Read(HashMap<Oid, HashMap<Oid, Info>>),
    LookedUp(HashMap<Oid, InfoReader<'s>>),
}

impl<'s> Infos<'s> {
    /// Reads the rows of the parts in some rows of `pg_depend`.
    fn of(state: &'s dyn State, edges: &[Edge]) -> Self {
        let read = |class: Oid| {
            let parts = edges.iter().filter(|edge| edge.from.0 == class).map(|edge| edge.from.1);
            (class, InfoReader::open(state, class).some(&parts.collect()))
        };
        Self::Read(CATALOGS.into_iter().map(read).collect())
    }

    fn looked_up(state: &'s dyn State) -> Self {
        let open = |class| (class, InfoReader::open(state, class));
        Self::LookedUp(CATALOGS.into_iter().map(open).collect())
    }

    fn get(&self, class: Oid, oid: Oid) -> Option<Info> {
        match self {
            Self::Read(infos) => infos.get(&class)?.get(&oid).cloned(),
            Self::LookedUp(readers) => readers.get(&class)?.one(oid),
        }
    }
}

/// Adds to a snapshot the dependencies of everything that can be reached from its objects.
pub fn add_all(state: &dyn State, snapshot: &mut Snapshot) {
    let edges = Reader::open(state).all();
    let found = Assembled::of(state, snapshot, &edges, &Infos::of(state, &edges));
    let (mut extra, mut seen) = (Extra::default(), HashSet::new());
    loop {
        let missing = found.missing(snapshot, &extra, &mut seen);
        if missing.relations.is_empty() && missing.routines.is_empty() {
            break;
        }
        extra.read(state, &missing);
    }
    found.add_to(snapshot, extra);
}

/// Adds to a snapshot the dependencies that lead to some objects, also through other objects: the
/// policies and views that use them, the views and policies that use their tables, and so on.
pub fn add_leading_to(state: &dyn State, snapshot: &mut Snapshot, objects: &[ObjectId]) {
    let (reader, infos) = (Reader::open(state), Infos::looked_up(state));
    let mut waiting: Vec<(Oid, Oid)> = objects
        .iter()
        .filter_map(|object| match object {
            ObjectId::Routine(oid) => Some((oids::PG_PROC, *oid)),
            ObjectId::Relation(oid) => Some((oids::PG_CLASS, *oid)),
            ObjectId::Type(oid) => Some((oids::PG_TYPE, *oid)),
            _ => None,
        })
        .collect();
    let mut seen: HashSet<(Oid, Oid)> = waiting.iter().copied().collect();
    let mut list: Vec<Edge> = Vec::new();
    let mut known: HashSet<Edge> = HashSet::new();
    while let Some(object) = waiting.pop() {
        state.interrupts();
        for edge in next_to(state, &reader, object) {
            if known.insert(edge) {
                list.push(edge);
            }
            for next in containers(state, &infos, edge, object) {
                if seen.len() < MOST && seen.insert(next) {
                    waiting.push(next);
                }
            }
        }
    }
    list.sort_by_key(Edge::user);
    let found = Assembled::of(state, snapshot, &list, &infos);
    let mut extra = Extra::default();
    extra.read(state, &found.anchors(snapshot));
    found.add_to(snapshot, extra);
}

/// The users of something: the parts of an object, such as the policies of a table, or an object
/// itself, such as a routine with its body. The two numbers are the catalog and the OID.
#[derive(Debug, Clone, Copy)]
pub enum Users {
    Of(Oid, Oid),
    Itself(Oid, Oid),
}

/// Returns the routines and relations that some parts use.
pub fn uses_of(state: &dyn State, parts: &[Users]) -> HashSet<ObjectId> {
    let reader = Reader::open(state);
    let operator =
        |oid| of_row(state, oids::OPERATOR_BY_OID, oid, "oprcode", |row, column| row.oid(column));
    let mut found = HashSet::new();
    for part in parts {
        state.interrupts();
        let users: HashSet<(Oid, Oid)> = match *part {
            Users::Itself(class, oid) => HashSet::from([(class, oid)]),
            Users::Of(class, oid) => parts_of(&reader, (class, oid)),
        };
        let own = match *part {
            Users::Of(_, oid) | Users::Itself(_, oid) => oid,
        };
        for edge in users.into_iter().flat_map(|user| reader.from(user)) {
            let (class, oid, _) = edge.to;
            found.extend(match class {
                oids::PG_PROC => Some(ObjectId::Routine(oid)),
                oids::PG_OPERATOR => operator(oid).map(ObjectId::Routine),
                oids::PG_CLASS if oid != own => Some(ObjectId::Relation(oid)),
                _ => None,
            });
        }
    }
    found.retain(|object| match object {
        ObjectId::Routine(oid) | ObjectId::Relation(oid) => *oid >= FIRST_NORMAL,
        _ => false,
    });
    found
}

/// The maximum number of parts and objects that [`executed_by`] follows.
const MOST_FOLLOWED: usize = 500;

/// Returns the routines that users created and that some parts execute, and the types that users
/// created and that they use; also by way of views, domains, operators and the parsed bodies of
/// routines.
pub fn executed_by(state: &dyn State, parts: &[Users]) -> BTreeSet<ObjectId> {
    let reader = Reader::open(state);
    let mut waiting: Vec<(Oid, Oid)> = Vec::new();
    for part in parts {
        let (Users::Of(class, oid) | Users::Itself(class, oid)) = *part;
        waiting.push((class, oid));
        if let Users::Of(..) = part {
            waiting.extend(parts_of(&reader, (class, oid)));
        }
    }
    let mut seen: HashSet<(Oid, Oid)> = waiting.iter().copied().collect();
    let mut found = BTreeSet::new();
    while let Some(user) = waiting.pop() {
        state.interrupts();
        for edge in reader.from(user) {
            let (class, oid) = (edge.to.0, edge.to.1);
            let reads = user.0 == oids::PG_REWRITE;
            if oid < FIRST_NORMAL || class == oids::PG_CLASS && !reads {
                continue;
            }
            match class {
                oids::PG_PROC => found.insert(ObjectId::Routine(oid)),
                oids::PG_TYPE => found.insert(ObjectId::Type(oid)),
                _ => false,
            };
            if seen.len() < MOST_FOLLOWED && seen.insert((class, oid)) {
                waiting.push((class, oid));
                if matches!(class, oids::PG_CLASS | oids::PG_TYPE) {
                    let parts = parts_of(&reader, (class, oid));
                    waiting.extend(parts.into_iter().filter(|part| seen.insert(*part)));
                }
            }
        }
    }
    found
}

/// Returns the rows of the catalogs of parts that depend on an object, its indexes, and the
/// relation with the attributes of a composite type.
fn parts_of(reader: &Reader<'_>, object: (Oid, Oid)) -> HashSet<(Oid, Oid)> {
    let is_part = |edge: &Edge| {
        CATALOGS.contains(&edge.from.0) || edge.from.0 == oids::PG_CLASS && edge.from.2 == 0
    };
    reader.to(object).iter().filter(|edge| is_part(edge)).map(Edge::user).collect()
}

/// Returns the rows of `pg_depend` about the users of an object, about the tables of which it is a
/// partition, and about the types of an operator or a cast.
fn next_to(state: &dyn State, reader: &Reader, object: (Oid, Oid)) -> Vec<Edge> {
    let mut edges = reader.to(object);
    if object.0 == oids::PG_CLASS {
        // Only a type with a domain in it matters, which `containers` finds from the domain; and
        // the default of a domain that uses a sequence.
        let is_sequence = relkind(state, object.1) == b'S';
        edges.retain(|edge| edge.from.0 != oids::PG_TYPE || is_sequence);
        let mut parents = reader.from(object);
        parents.retain(|edge| edge.to.0 == oids::PG_CLASS);
        edges.extend(parents);
    }
    if matches!(object.0, oids::PG_OPERATOR | oids::PG_CAST) {
        let mut types = reader.from(object);
        types.retain(|edge| edge.to.0 == oids::PG_TYPE);
        edges.extend(types);
    }
    edges
}

/// Returns the objects of which the user in a row is a part, and of which more users are searched.
fn containers(state: &dyn State, infos: &Infos, edge: Edge, object: (Oid, Oid)) -> Vec<(Oid, Oid)> {
    let (class, oid, _) = edge.from;
    if (class, oid) == object {
        return vec![(edge.to.0, edge.to.1)];
    }
    let column = |by: ByOid, column: &str| {
        of_row(state, by, oid, column, |row, c| row.oid(c)).filter(|oid| *oid != 0)
    };
    match class {
        oids::PG_POLICY
        | oids::PG_REWRITE
        | oids::PG_ATTRDEF
        | oids::PG_STATISTIC_EXT
        | oids::PG_TRIGGER
        | oids::PG_CONSTRAINT => {
            let info = infos.get(class, oid);
            let info = info.filter(|i| class != oids::PG_CONSTRAINT || i.is_evaluated_check());
            let catalog = |i: &Info| if i.is_of_type { oids::PG_TYPE } else { oids::PG_CLASS };
            info.map(|info| (catalog(&info), info.on)).into_iter().collect()
        }
        oids::PG_CLASS => match relkind(state, oid) {
            b'i' | b'I' => table_of_index(state, oid).map(|oid| (class, oid)).into_iter().collect(),
            // A column with a domain: values of the row type contain the domain as well.
            kind if edge.to.0 == oids::PG_TYPE => {
                let row_type = column(oids::CLASS_BY_OID, "reltype");
                let relation = (kind != b'c').then_some((class, oid));
                row_type.map(|oid| (oids::PG_TYPE, oid)).into_iter().chain(relation).collect()
            }
            _ => vec![(class, oid)],
        },
        // The negator of an operator may replace it (prepqual.c, `negate_clause`).
        oids::PG_OPERATOR => {
            let negator = column(oids::OPERATOR_BY_OID, "oprnegate");
            [Some(oid), negator].into_iter().flatten().map(|oid| (class, oid)).collect()
        }
        _ => vec![(class, oid)],
    }
}

/// `pg_constraint.contype` of a CHECK constraint.
const CHECK: i32 = b'c' as i32;

/// Relations and routines that the snapshot does not list.
#[derive(Default)]
struct Missing {
    relations: Vec<Oid>,
    routines: Vec<Oid>,
}

/// What has been read about them.
#[derive(Default)]
struct Extra {
    read: Snapshot,
    known: HashSet<ObjectId>,
}

impl Extra {
    fn read(&mut self, state: &dyn State, missing: &Missing) {
        let mut more = Snapshot::default();
        objects::some_relations(state, &missing.relations, &mut more);
        policies::read(state, &mut more);
        routines::some(state, &missing.routines, &mut more);
        self.known.extend(more.relations.iter().map(|r| ObjectId::Relation(r.oid)));
        self.known.extend(more.routines.iter().map(|r| ObjectId::Routine(r.oid)));
        self.read.relations.append(&mut more.relations);
        self.read.policies.append(&mut more.policies);
        self.read.routines.append(&mut more.routines);
        self.read.types.extend(more.types);
    }
}

/// The parts with the objects that they are reached through.
#[derive(Default)]
struct Assembled {
    /// Each part with its relation, routine or type.
    parts: Vec<(Part, Holder)>,
    children: Vec<(Oid, Oid)>,
    types: BTreeMap<Oid, TypeOwner>,
}

impl Assembled {
    /// Returns the parts in rows of `pg_depend` that are in the order of the parts.
    fn of(state: &dyn State, snapshot: &Snapshot, edges: &[Edge], infos: &Infos) -> Self {
        let mut assembler = Assembler {
            state,
            snapshot,
            infos,
            contained: HashMap::new(),
            checked: HashSet::new(),
            types: BTreeMap::new(),
            defaults: HashMap::new(),
            of_types: HashMap::new(),
            untrusted: HashMap::new(),
            operators: HashMap::new(),
            columns: HashMap::new(),
        };
        assembler.find_types(edges);
        let types = std::mem::take(&mut assembler.types);
        let mut found = Self { types, ..Self::default() };
        for edges in by_user(edges) {
            state.interrupts();
            assembler.part(edges, &mut found);
        }
        assembler.add_operators(&mut found);
        found.parts.retain(|(part, _)| !part.uses.is_empty());
        found
    }

    /// Returns the objects that the parts of known objects lead to, and that are not known.
    fn missing(&self, snapshot: &Snapshot, extra: &Extra, seen: &mut HashSet<ObjectId>) -> Missing {
        let relation = |oid: &Oid| {
            snapshot.relation(*oid).is_some() || extra.known.contains(&ObjectId::Relation(*oid))
        };
        let mut missing = Missing::default();
        for (part, anchor) in &self.parts {
            let is_known = match anchor {
                Holder::Relation(oid) => relation(oid),
                Holder::Routine(oid) => {
                    snapshot.routine(*oid).is_some()
                        || extra.known.contains(&ObjectId::Routine(*oid))
                }
                Holder::Type(_) | Holder::Policy(_) | Holder::EventTrigger(_) => true,
            };
            for used in part.uses.iter().filter(|_| is_known) {
                match used {
                    Use::Relation(oid) | Use::Column(oid, _) | Use::AnyColumn(oid, _) => {
                        if !relation(oid) && seen.insert(ObjectId::Relation(*oid)) {
                            missing.relations.push(*oid);
                        }
                    }
                    Use::Routine(oid) => {
                        if snapshot.routine(*oid).is_none() && seen.insert(ObjectId::Routine(*oid))
                        {
                            missing.routines.push(*oid);
                        }
                    }
                    Use::Type(_) => {}
                }
            }
        }
        for (_, child) in self.children.iter().filter(|(parent, _)| relation(parent)) {
            if !relation(child) && seen.insert(ObjectId::Relation(*child)) {
                missing.relations.push(*child);
            }
        }
        missing
    }

    /// Returns the objects of all parts, and the relations that these read, that are not in the
    /// snapshot.
    fn anchors(&self, snapshot: &Snapshot) -> Missing {
        let (mut relations, mut routines) = (BTreeSet::new(), BTreeSet::new());
        for (part, anchor) in &self.parts {
            match anchor {
                Holder::Relation(oid) => relations.insert(*oid),
                Holder::Routine(oid) => routines.insert(*oid),
                Holder::Type(_) | Holder::Policy(_) | Holder::EventTrigger(_) => false,
            };
            relations.extend(part.uses.iter().filter_map(|used| match used {
                Use::Relation(oid) | Use::Column(oid, _) | Use::AnyColumn(oid, _) => Some(*oid),
                _ => None,
            }));
        }
        relations.extend(self.children.iter().flat_map(|(parent, child)| [*parent, *child]));
        Missing {
            relations: relations.into_iter().filter(|r| snapshot.relation(*r).is_none()).collect(),
            routines: routines.into_iter().filter(|r| snapshot.routine(*r).is_none()).collect(),
        }
    }

    fn add_to(self, snapshot: &mut Snapshot, extra: Extra) {
        let parts = self.parts.into_iter().map(|(part, _)| part).collect();
        let Snapshot { relations, policies, routines, types, .. } = extra.read;
        snapshot.types.extend(types);
        snapshot.dependencies = Rc::new(
            Dependencies::new(parts, &self.children)
                .with(relations, policies, routines)
                .with_types(self.types),
        );
    }
}

/// Turns rows of `pg_depend` into parts.
struct Assembler<'a> {
    state: &'a dyn State,
    snapshot: &'a Snapshot,
    infos: &'a Infos<'a>,
    /// The types that a type, or the columns of a relation, consist of.
    contained: HashMap<Holder, Vec<Oid>>,
    /// The types with a constraint of a domain, or with operators, in them.
    checked: HashSet<Oid>,
    /// The types that columns use and that do not belong to superusers.
    types: BTreeMap<Oid, TypeOwner>,
    /// What the defaults of domains use.
    defaults: HashMap<Oid, Vec<Use>>,
    /// The functions of the operators and casts of a type.
    of_types: HashMap<Oid, BTreeSet<Oid>>,
    /// Whether the owners of the functions of triggers and types may be untrusted.
    untrusted: HashMap<Oid, bool>,
    /// The functions that an operator stands for.
    operators: HashMap<Oid, Vec<Oid>>,
    /// The names of the columns of relations, by number.
    columns: HashMap<Oid, HashMap<i16, String>>,
}

impl Assembler<'_> {
    /// Finds the types that contain a domain with a constraint that calls a function, or a type
    /// with operators or casts.
    fn find_types(&mut self, edges: &[Edge]) {
        let mut composites: Vec<(Oid, Oid)> = Vec::new();
        for edges in by_user(edges) {
            let (class, oid) = edges[0].user();
            match class {
                oids::PG_TYPE => {
                    for edge in edges {
                        match edge.to.0 {
                            oids::PG_TYPE => self.contain(Holder::Type(oid), edge.to.1),
                            oids::PG_CLASS => composites.push((oid, edge.to.1)),
                            // A function of a range type, or of a base type.
                            _ if self.may_be_untrusted(edge.to.1) => {
                                self.checked.insert(oid);
                            }
                            _ => {}
                        }
                    }
                    self.default_of_domain(oid, edges);
                }
                oids::PG_CLASS => {
                    for edge in edges.iter().filter(|edge| edge.to.0 == oids::PG_TYPE) {
                        if edge.from.2 == 0 {
                            // The type of a composite type's relation.
                            composites.push((edge.to.1, oid));
                        } else {
                            self.contain(Holder::Relation(oid), edge.to.1);
                        }
                    }
                }
                oids::PG_CONSTRAINT if edges.iter().any(|edge| edge.to.0 != oids::PG_CLASS) => {
                    let info = self.infos.get(class, oid);
                    self.checked.extend(info.filter(|info| info.is_of_type).map(|info| info.on));
                }
                oids::PG_OPERATOR | oids::PG_CAST => self.operators_of_types(edges),
                _ => {}
            }
        }
        for (of, relation) in composites {
            let columns = self.contained.get(&Holder::Relation(relation)).cloned();
            columns.into_iter().flatten().for_each(|inner| self.contain(Holder::Type(of), inner));
        }
        self.types = self.types_of_others();
        self.checked.extend(self.types.keys());
        // From the domains upwards.
        let mut above: HashMap<Oid, Vec<Oid>> = HashMap::new();
        for (holder, types) in &self.contained {
            if let Holder::Type(outer) = holder {
                types.iter().for_each(|inner| above.entry(*inner).or_default().push(*outer));
            }
        }
        let mut waiting: Vec<Oid> = self.checked.iter().copied().collect();
        while let Some(inner) = waiting.pop() {
            let outer = above.get(&inner).into_iter().flatten();
            waiting.extend(outer.filter(|outer| self.checked.insert(**outer)));
        }
    }

    /// Returns the types that users created and that columns use, also within other types.
    fn used_types(&self) -> HashSet<Oid> {
        let of_columns = self.contained.iter().filter(|(of, _)| matches!(of, Holder::Relation(_)));
        let mut waiting: Vec<Oid> = of_columns.flat_map(|(_, types)| types).copied().collect();
        let mut found = HashSet::new();
        while let Some(one) = waiting.pop() {
            self.state.interrupts();
            if one >= FIRST_NORMAL && found.insert(one) {
                waiting.extend(self.contained.get(&Holder::Type(one)).into_iter().flatten());
            }
        }
        found
    }

    /// Returns the types that columns use and that do not belong to superusers. The type of an
    /// array, or of the rows of a table, has the owner of the element or of the table.
    fn types_of_others(&self) -> BTreeMap<Oid, TypeOwner> {
        let is_superuser = |role: Oid| self.snapshot.role(role).is_some_and(|role| role.superuser);
        let of = |oid: Oid| {
            let place = place(self.state, oids::PG_TYPE, oid)?;
            let name = || self.state.type_name(oid);
            let Place { schema, owner } = place;
            (!is_superuser(owner)).then(|| (oid, TypeOwner { name: name(), schema, owner }))
        };
        self.used_types().into_iter().filter_map(of).collect()
    }

    /// Finds what the default of a domain uses, whose other functions are those of its base type.
    fn default_of_domain(&mut self, oid: Oid, edges: &[Edge]) {
        // The type of the rows of a table depends on the table, internally.
        let is_plain = |edge: &Edge| edge.to.0 == oids::PG_TYPE || edge.kind == b'i';
        if edges.iter().all(is_plain) || !is_domain(self.state, oid) {
            return;
        }
        let text = self.stored(oids::TYPE_BY_OID, oid, &["typdefaultbin"]);
        let mut own = edges.to_vec();
        own.retain(|edge| match edge.to.0 {
            oids::PG_PROC => text.contains(&format!(":funcid {} ", edge.to.1)),
            class => class != oids::PG_TYPE,
        });
        let uses = self.uses(&own, 0, None);
        if !uses.is_empty() {
            self.defaults.insert(oid, uses);
        }
    }

    /// Adds the defaults of domains that a relation has columns of. A default of the column itself
    /// takes precedence (rewriteHandler.c, `build_column_default`).
    fn defaults_of_domains(&self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        if self.defaults.is_empty() {
            return;
        }
        for edge in edges.iter().filter(|edge| edge.from.2 > 0 && edge.to.0 == oids::PG_TYPE) {
            let Some(uses) = self.defaults.get(&edge.to.1) else { continue };
            let number = edge.from.2 as i16;
            let Some(column) = described(self.state, oid, number) else { continue };
            if !column.has_default {
                let (holder, kind) = (Holder::Relation(oid), PartKind::Default);
                let part = Part { holder, kind, name: column.name, uses: uses.clone() };
                found.parts.push((part, holder));
            }
        }
    }

    /// Finds the types that an operator or a cast is about, of which these are all rows. What an
    /// extension creates is not restricted.
    fn operators_of_types(&mut self, edges: &[Edge]) {
        let (class, oid) = edges[0].user();
        let mut functions = if class == oids::PG_OPERATOR {
            self.functions_of(oid)
        } else {
            let calls = edges.iter().filter(|edge| edge.to.0 == oids::PG_PROC);
            calls.map(|edge| edge.to.1).collect()
        };
        functions.retain(|oid| !self.snapshot.routine_extension.contains_key(oid));
        if functions.is_empty() {
            return;
        }
        for edge in edges.iter().filter(|edge| edge.to.0 == oids::PG_TYPE) {
            self.of_types.entry(edge.to.1).or_default().extend(&functions);
            self.checked.insert(edge.to.1);
        }
    }

    fn contain(&mut self, holder: Holder, inner: Oid) {
        self.contained.entry(holder).or_default().push(inner);
    }

    fn oid_of(&self, by: ByOid, oid: Oid, column: &str) -> Option<Oid> {
        of_row(self.state, by, oid, column, |row, column| row.oid(column))
    }

    fn name_of(&self, by: ByOid, oid: Oid, column: &str) -> String {
        of_row(self.state, by, oid, column, |row, column| row.name(column)).unwrap_or_default()
    }

    /// Adds the parts of one user in `pg_depend`, of which these are all rows.
    fn part(&mut self, edges: &[Edge], found: &mut Assembled) {
        let (class, oid) = edges[0].user();
        match class {
            oids::PG_POLICY => self.policy(oid, edges, found),
            oids::PG_REWRITE => self.rule(oid, edges, found),
            oids::PG_CONSTRAINT => self.constraint(oid, edges, found),
            oids::PG_ATTRDEF => self.default(oid, edges, found),
            oids::PG_STATISTIC_EXT => self.statistics(oid, edges, found),
            oids::PG_TRIGGER => self.trigger(oid, edges, found),
            oids::PG_EVENT_TRIGGER => self.event_trigger(oid, edges, found),
            oids::PG_CLASS => self.relation(oid, edges, found),
            oids::PG_PROC => self.routine(oid, edges, found),
            oids::PG_TYPE => self.type_parts(oid, edges, found),
            _ => {}
        }
    }

    fn policy(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let Some(info) = self.infos.get(oids::PG_POLICY, oid) else { return };
        let stored = || self.stored(oids::POLICY_BY_OID, oid, &["polqual", "polwithcheck"]);
        let text = reads_relation(edges, info.on).then(stored);
        let uses = self.uses(edges, info.on, text.as_deref());
        let (holder, kind, name) = (Holder::Policy(oid), PartKind::Policy, info.name);
        found.parts.push((Part { holder, kind, name, uses }, Holder::Relation(info.on)));
    }

    fn rule(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let Some(info) = self.infos.get(oids::PG_REWRITE, oid) else { return };
        let kind = match info.code as u8 {
            b'1' => PartKind::Query,
            b'2' => PartKind::Rule(Command::Update),
            b'3' => PartKind::Rule(Command::Insert),
            _ => PartKind::Rule(Command::Delete),
        };
        let is_invoker = self.snapshot.relation(info.on).map_or_else(
            || objects::runs_as_invoker(self.state, info.on),
            |view| view.security_invoker,
        );
        // Of other views, the columns that the owner reads are sufficient: it rarely needs a GRANT,
        // and the queries of all views are long.
        let is_read = is_invoker || reads_without_columns(edges, info.on);
        let text = is_read.then(|| self.stored(oids::REWRITE_BY_OID, oid, &["ev_action"]));
        let uses = self.uses(edges, info.on, text.as_deref());
        let (holder, name) = (Holder::Relation(info.on), info.name);
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn constraint(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let info = self.infos.get(oids::PG_CONSTRAINT, oid);
        let Some(info) = info.filter(Info::is_evaluated_check) else { return };
        let (holder, kind, name, own) = if info.is_of_type {
            let name = self.name_of(oids::TYPE_BY_OID, info.on, "typname");
            (Holder::Type(info.on), PartKind::Type, name, 0)
        } else {
            (Holder::Relation(info.on), PartKind::Check, info.name, info.on)
        };
        let uses = self.uses(edges, own, None);
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn default(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let Some(info) = self.infos.get(oids::PG_ATTRDEF, oid) else { return };
        let uses = self.uses(edges, info.on, None);
        if uses.is_empty() {
            return;
        }
        let Some(column) = described(self.state, info.on, info.code as i16) else { return };
        let kind = if column.is_generated { PartKind::Generated } else { PartKind::Default };
        let holder = Holder::Relation(info.on);
        found.parts.push((Part { holder, kind, name: column.name, uses }, holder));
    }

    fn statistics(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let Some(info) = self.infos.get(oids::PG_STATISTIC_EXT, oid) else { return };
        let uses = self.uses(edges, info.on, None);
        let (holder, kind, name) = (Holder::Relation(info.on), PartKind::Statistics, info.name);
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn trigger(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let Some(info) = self.infos.get(oids::PG_TRIGGER, oid) else { return };
        let holder = Holder::Relation(info.on);
        if self.may_be_untrusted(info.function) {
            let (kind, name) = (PartKind::TriggerFunction, info.name.clone());
            let uses = vec![Use::Routine(info.function)];
            found.parts.push((Part { holder, kind, name, uses }, holder));
        }
        if !info.has_condition {
            return;
        }
        let commands = [(4, Command::Insert), (8, Command::Delete), (16, Command::Update)];
        let commands = commands.into_iter().filter(|(bit, _)| info.code & bit != 0);
        let kind = PartKind::TriggerCondition(commands.map(|(_, command)| command).collect());
        let mut uses = self.uses(edges, info.on, None);
        // EXECUTE on the function of a trigger is checked when it is created.
        uses.retain(|used| *used != Use::Routine(info.function));
        let name = info.name;
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn event_trigger(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let calls = edges.iter().filter(|edge| edge.to.0 == oids::PG_PROC).map(|edge| edge.to.1);
        let calls: Vec<Oid> = calls.filter(|function| self.may_be_untrusted(*function)).collect();
        if !calls.is_empty() {
            let name = self.name_of(oids::EVENT_TRIGGER_BY_OID, oid, "evtname");
            let uses = calls.into_iter().map(Use::Routine).collect();
            let holder = Holder::EventTrigger(oid);
            found.parts.push((Part { holder, kind: PartKind::EventTrigger, name, uses }, holder));
        }
    }

    /// Whether the owner of a function that is executed without a check of privileges is no
    /// superuser.
    fn may_be_untrusted(&mut self, function: Oid) -> bool {
        if function < FIRST_NORMAL {
            return false;
        }
        if let Some(known) = self.untrusted.get(&function) {
            return *known;
        }
        let owner = self.oid_of(oids::PROC_BY_OID, function, "proowner").unwrap_or_default();
        let is_superuser = self.snapshot.role(owner).is_some_and(|role| role.superuser);
        self.untrusted.insert(function, !is_superuser);
        !is_superuser
    }

    fn relation(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        // The relation of a composite type depends on the type, which has no rows of its own.
        for edge in edges.iter().filter(|e| e.from.2 == 0 && e.to.0 == oids::PG_TYPE) {
            self.type_parts(edge.to.1, &[], found);
        }
        let types = self.contained.get(&Holder::Relation(oid)).into_iter().flatten();
        let mut types: Vec<Use> =
            types.filter(|t| self.checked.contains(t)).map(|t| Use::Type(*t)).collect();
        types.sort();
        types.dedup();
        if !types.is_empty() {
            let holder = Holder::Relation(oid);
            let part = Part { holder, kind: PartKind::Columns, name: String::new(), uses: types };
            found.parts.push((part, holder));
        }
        self.defaults_of_domains(oid, edges, found);
        let mut own: Vec<Edge> = edges.to_vec();
        own.retain(|e| e.from.2 == 0 && matches!(e.to.0, oids::PG_PROC | oids::PG_OPERATOR));
        let parents = edges
            .iter()
            .filter(|e| e.from.2 == 0 && e.to.0 == oids::PG_CLASS && matches!(e.kind, b'a' | b'n'));
        let is_table = |oid: Oid| matches!(self.relkind(oid), b'r' | b'p' | b'f');
        for parent in parents {
            if is_table(oid) && is_table(parent.to.1) {
                found.children.push((parent.to.1, oid));
            }
        }
        if own.is_empty() {
            return;
        }
        let (table, kind) = match self.relkind(oid) {
            b'i' | b'I' => (table_of_index(self.state, oid).unwrap_or_default(), PartKind::Index),
            b'p' => (oid, PartKind::PartitionKey),
            _ => return,
        };
        let uses = self.uses(&own, table, None);
        let name = self.name_of(oids::CLASS_BY_OID, oid, "relname");
        let holder = Holder::Relation(table);
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn routine(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let by = oids::PROC_BY_OID;
        let text = reads_relation(edges, 0).then(|| self.stored(by, oid, &["prosqlbody"]));
        let mut uses = self.uses(edges, 0, text.as_deref());
        if uses.is_empty() {
            return;
        }
        // The planner calls a support function without a check.
        let support = self.oid_of(by, oid, "prosupport").unwrap_or_default();
        uses.retain(|used| *used != Use::Routine(support));
        let defaults = of_row(self.state, by, oid, "pronargdefaults", |row, c| row.int(c) as i16);
        let kind = PartKind::Routine { has_defaults: defaults.is_some_and(|count| count > 0) };
        let (holder, name) = (Holder::Routine(oid), self.name_of(by, oid, "proname"));
        found.parts.push((Part { holder, kind, name, uses }, holder));
    }

    fn type_parts(&mut self, oid: Oid, edges: &[Edge], found: &mut Assembled) {
        let holder = Holder::Type(oid);
        let mut functions: Vec<Oid> = Vec::new();
        for edge in edges.iter().filter(|edge| edge.to.0 == oids::PG_PROC) {
            if self.may_be_untrusted(edge.to.1) {
                functions.push(edge.to.1);
            }
        }
        if !functions.is_empty() {
            let name = self.name_of(oids::TYPE_BY_OID, oid, "typname");
            let uses = functions.into_iter().map(Use::Routine).collect();
            found.parts.push((Part { holder, kind: PartKind::TypeFunctions, name, uses }, holder));
        }
        let inner = self.contained.get(&holder).into_iter().flatten();
        let mut uses: Vec<Use> =
            inner.filter(|t| self.checked.contains(t)).map(|t| Use::Type(*t)).collect();
        uses.sort();
        uses.dedup();
        if !uses.is_empty() {
            let name = self.name_of(oids::TYPE_BY_OID, oid, "typname");
            found.parts.push((Part { holder, kind: PartKind::Type, name, uses }, holder));
        }
    }

    /// Adds the operators and casts of types.
    fn add_operators(&mut self, found: &mut Assembled) {
        for (oid, functions) in std::mem::take(&mut self.of_types) {
            let holder = Holder::Type(oid);
            let uses = functions.into_iter().map(Use::Routine).collect();
            let name = self.name_of(oids::TYPE_BY_OID, oid, "typname");
            found.parts.push((Part { holder, kind: PartKind::Operators, name, uses }, holder));
        }
    }

    /// Returns what the rows say that an expression uses, apart from its own relation. Where it
    /// reads a whole row, `pg_depend` names the columns that it reads as well, and no more: then,
    /// and where it names no column, the stored expression `text` tells. Without it, the expression
    /// contains no query, and reads no relation but sequences.
    fn uses(&mut self, edges: &[Edge], own: Oid, text: Option<&str>) -> Vec<Use> {
        let mut uses = BTreeSet::new();
        let reads_whole_rows = text.is_some_and(|text| text.contains(":varattno 0 "));
        for edge in edges {
            let (class, oid, column) = edge.to;
            match class {
                oids::PG_PROC => {
                    uses.insert(Use::Routine(oid));
                }
                oids::PG_OPERATOR => {
                    uses.extend(self.functions_of(oid).into_iter().map(Use::Routine));
                }
                oids::PG_TYPE if self.checked.contains(&oid) => {
                    uses.insert(Use::Type(oid));
                }
                oids::PG_CLASS if oid != own && edge.kind != b'i' => {
                    uses.extend(if column > 0 && !reads_whole_rows {
                        Some(Use::Column(oid, self.column_name(oid, column as i16)))
                    } else if column > 0 || self.relkind(oid) == b'S' {
                        Some(Use::Relation(oid))
                    } else {
                        // Otherwise it is a constant of type regclass.
                        text.filter(|text| text.contains(&format!(":relid {oid} "))).and_then(
                            |_| {
                                if reads_whole_rows {
                                    return Some(Use::Relation(oid));
                                }
                                let first = objects::columns(self.state, oid).into_iter().next();
                                first.map(|first| Use::AnyColumn(oid, first))
                            },
                        )
                    });
                }
                _ => {}
            }
        }
        uses.into_iter().collect()
    }

    fn relkind(&self, relation: Oid) -> u8 {
        match self.snapshot.relation(relation).map(|relation| relation.kind) {
            Some(RelationKind::Table) => b'r',
            Some(RelationKind::PartitionedTable) => b'p',
            Some(RelationKind::ForeignTable) => b'f',
            Some(RelationKind::View) => b'v',
            Some(RelationKind::MaterializedView) => b'm',
            Some(RelationKind::Sequence) => b'S',
            None => relkind(self.state, relation),
        }
    }

    /// Returns the name of a column; empty where it does not exist.
    fn column_name(&mut self, relation: Oid, number: i16) -> String {
        let state = self.state;
        let names = self
            .columns
            .entry(relation)
            .or_insert_with(|| objects::numbered_columns(state, relation).into_iter().collect());
        names.get(&number).cloned().unwrap_or_default()
    }

    /// Returns the function of an operator, and that of its negator, which may replace it.
    fn functions_of(&mut self, operator: Oid) -> Vec<Oid> {
        if let Some(known) = self.operators.get(&operator) {
            return known.clone();
        }
        let by = oids::OPERATOR_BY_OID;
        let negator = self.oid_of(by, operator, "oprnegate").filter(|oid| *oid != 0);
        let functions: Vec<Oid> = [Some(operator), negator]
            .into_iter()
            .flatten()
            .filter_map(|operator| self.oid_of(by, operator, "oprcode"))
            .filter(|function| *function >= FIRST_NORMAL)
            .collect();
        self.operators.insert(operator, functions.clone());
        functions
    }

    /// Returns the expressions that a row of a catalog stores, as text.
    fn stored(&self, by: ByOid, oid: Oid, columns: &[&str]) -> String {
        let text = |column: &&str| {
            of_row(self.state, by, oid, column, |row, column| row.text(column)).flatten()
        };
        columns.iter().filter_map(text).collect()
    }
}

/// Whether a part reads another relation than its own, or names one.
fn reads_relation(edges: &[Edge], own: Oid) -> bool {
    edges.iter().any(|edge| edge.to.0 == oids::PG_CLASS && edge.to.1 != own)
}

/// Whether a part reads no column of another relation, or whole rows only.
fn reads_without_columns(edges: &[Edge], own: Oid) -> bool {
    reads_relation(edges, own)
        && edges
            .iter()
            .any(|e| e.to.0 == oids::PG_CLASS && e.to.1 != own && e.to.2 == 0 && e.kind != b'i')
}

/// Returns `pg_class.relkind`; 0 where there is no such relation. Another session may have dropped
/// it since the state, and the system cache remembers each relation that it does not find.
fn relkind(state: &dyn State, relation: Oid) -> u8 {
    of_row(state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind))
        .unwrap_or_default()
}

fn table_of_index(state: &dyn State, index: Oid) -> Option<Oid> {
    let table = state.table(oids::PG_INDEX);
    let (own, of) = (table.column("indexrelid"), table.column("indrelid"));
    let mut found = None;
    table.lookup(oids::PG_INDEX_INDEXRELID_INDEX, &[(own, index)], |row| found = Some(row.oid(of)));
    found
}

/// Whether a type is a domain.
fn is_domain(state: &dyn State, of: Oid) -> bool {
    let kind = of_row(state, oids::TYPE_BY_OID, of, "typtype", |row, kind| row.char(kind));
    kind == Some(b'd')
}

/// What is read about a column with a default, or of a domain with one.
struct ColumnInfo {
    name: String,
    has_default: bool,
    is_generated: bool,
}

/// Returns what a column is. It may have been dropped since the state, so that the system cache
/// does not have it.
fn described(state: &dyn State, relation: Oid, number: i16) -> Option<ColumnInfo> {
    if let Some(name) = objects::system_column(number) {
        let (name, has_default, is_generated) = (name.to_owned(), false, false);
        return Some(ColumnInfo { name, has_default, is_generated });
    }
    let table = state.table(oids::PG_ATTRIBUTE);
    let column = |name| table.column(name);
    let (owner, own_number, name) = (column("attrelid"), column("attnum"), column("attname"));
    let (default, generated) = (column("atthasdef"), column("attgenerated"));
    let mut found = None;
    table.lookup_while(oids::PG_ATTRIBUTE_RELID_INDEX, &[(owner, relation)], |row| {
        if row.int(own_number) as i16 == number {
            found = Some(ColumnInfo {
                name: row.name(name),
                has_default: row.bool(default),
                is_generated: row.char(generated) != 0,
            });
        }
        found.is_none()
    });
    found
}
