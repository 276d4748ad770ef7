//! What a statement needs, as far as the catalogs tell: the tables behind views, the conditions of
//! policies, defaults and CHECK constraints, and parsed bodies. A server that rewrites the
//! statement knows more: rules, triggers, indexes, partitions, and what the planner removes.

use crate::needs::{Body, Call, Needs};
use crate::rights::Rights;
use crate::source::{State, of_row};
use crate::stored_policies::{StoredPolicy, stored_policies};
use crate::{objects, oids, routines, updatable};
use dragonfly_core::catalog::{
    CheckOption, Command, FIRST_UNPINNED, Oid, Privileges, RelationKind, Rows,
};
use dragonfly_core::explain::{Form, Moment, Need, never_truncated};
use dragonfly_core::sql::printable;
use dragonfly_core::stored::{
    OfView, Requires, Unreadable, requires, requires_of_list, requires_of_view,
};
use std::collections::{BTreeSet, HashMap};

/// A statement on a relation.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'c> {
    /// The relation.
    pub relation: Oid,
    /// The privilege that it is about.
    pub privilege: Privileges,
    /// The columns that it names; none for the whole relation.
    pub columns: &'c [String],
    /// `None` for the statement that needs the least.
    pub form: Option<Form>,
}

/// The most relations and routines that one statement leads to.
const MOST: usize = 2_000;

/// How many views, policies and bodies are followed that lead to each other.
const DEEPEST: usize = 200;

/// Finds what statements of a role need.
pub struct Finder<'a> {
    /// The catalogs.
    pub state: &'a dyn State,
    /// What roles may do in them.
    pub rights: &'a dyn Rights,
    /// The role that runs the statement.
    pub role: Oid,
}

impl Finder<'_> {
    /// Returns the forms of the statement for a privilege that a relation allows beside the plain
    /// one.
    #[must_use]
    pub fn forms(&self, relation: Oid, privilege: Privileges) -> Vec<Form> {
        let kind = objects::relation_kind(self.state, relation);
        let has_key = || objects::unique_key(self.state, relation).is_some();
        match privilege {
            _ if objects::columns(self.state, relation).is_empty() => vec![],
            Privileges::UPDATE | Privileges::DELETE => vec![Form::Where],
            Privileges::INSERT if kind.is_some_and(RelationKind::is_table) && has_key() => {
                vec![Form::Returning, Form::OnConflict]
            }
            Privileges::INSERT => vec![Form::Returning],
            _ => vec![],
        }
    }

    /// Returns what a statement needs.
    #[must_use]
    pub fn of_statement(&self, statement: &Statement<'_>) -> Needs {
        let mut walk = Walk::new(self, self.role);
        walk.statement(statement);
        walk.found
    }

    /// Returns what a call of a routine needs beside EXECUTE on it.
    #[must_use]
    pub fn of_call(&self, routine: Oid) -> Needs {
        let mut walk = Walk::new(self, self.role);
        for of in routines::argument_type_oids(self.state, routine) {
            walk.domain(of, Checked::Checks);
        }
        walk.enter(routine);
        let mut defaults = Walk::new(self, self.role);
        defaults.arguments(routine, 0, Moment::Start);
        walk.found.is_cut |= defaults.found.is_cut;
        walk.found.defaults = Some(Box::new(defaults.found));
        walk.found
    }
}

/// The state of a search.
struct Walk<'f, 'a> {
    finder: &'f Finder<'a>,
    /// The role that runs the statement.
    role: Oid,
    found: Needs,
    /// The tables whose policies are being read: one that leads to itself is an error.
    active: Vec<Oid>,
    /// The routines that have been called, each with the role that runs it.
    entered: BTreeSet<(Oid, Oid)>,
    /// How many stored queries and expressions lead to the one that is being read.
    depth: usize,
}

/// What is read of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Checked {
    Checks,
    ChecksAndDefault,
}

impl<'f, 'a> Walk<'f, 'a> {
    fn new(finder: &'f Finder<'a>, role: Oid) -> Self {
        let (active, entered) = (Vec::new(), BTreeSet::new());
        Self { finder, role, found: Needs::default(), active, entered, depth: 0 }
    }

    fn state(&self) -> &'a dyn State {
        self.finder.state
    }

    /// Reads the statement that a question is about.
    fn statement(&mut self, statement: &Statement<'_>) {
        let Statement { relation, privilege, columns, form } = *statement;
        let kind = objects::relation_kind(self.state(), relation);
        if privilege == Privileges::TRUNCATE {
            self.found.impossible = self.never_truncated(relation, kind);
            if self.found.impossible.is_some() {
                return;
            }
        }
        let command = Command::ALL.into_iter().find(|command| command.privilege() == privilege);
        let command = command.filter(|_| kind != Some(RelationKind::Sequence));
        let is_partial = !columns.is_empty();
        let privileges = privilege | form.map_or(Privileges::NONE, Form::privileges);
        let need = Need { relation, privileges, is_target: true, is_partial, ..Need::default() };
        let Some(command) = command else {
            // nextval requires one of the two (sequence.c).
            let is_usage = kind == Some(RelationKind::Sequence) && privilege == Privileges::USAGE;
            let or = if is_usage { Privileges::UPDATE } else { Privileges::NONE };
            self.need(Need { or, ..need });
            return;
        };
        let settable = || if is_partial { columns.to_vec() } else { self.settable(relation) };
        let need = match (command, form) {
            (Command::Select, _) if is_partial => Need { selected: columns.to_vec(), ..need },
            (Command::Select, _) => {
                Need { selected: objects::columns(self.state(), relation), ..need }
            }
            (Command::Insert, Some(Form::OnConflict)) => {
                let selected = objects::unique_key(self.state(), relation).unwrap_or_default();
                Need { inserted: columns.to_vec(), selected, updated: settable(), ..need }
            }
            (Command::Insert, _) => Need { inserted: columns.to_vec(), ..need },
            (Command::Update, _) => Need { updated: settable(), ..need },
            (Command::Delete, _) => need,
        };
        self.relation(need, command, columns);
        if self.found.impossible.is_some() {
            let impossible = self.found.impossible.take();
            self.found = Needs { impossible, ..Needs::default() };
        }
    }

    /// Returns why no role can execute TRUNCATE.
    fn never_truncated(&self, relation: Oid, kind: Option<RelationKind>) -> Option<String> {
        let name = self.state().name(oids::PG_CLASS, relation).map(|(_, name)| name);
        never_truncated(relation, kind?, &name?)
    }

    /// Returns the columns that an UPDATE of all columns sets.
    fn settable(&self, relation: Oid) -> Vec<String> {
        let computed = objects::computed_columns(self.state(), relation);
        let all = objects::columns(self.state(), relation);
        let settable: Vec<String> =
            all.iter().filter(|column| !computed.contains(*column)).cloned().collect();
        if settable.is_empty() { all } else { settable }
    }

    /// Records a need. Returns whether it is another than those before it.
    fn need(&mut self, need: Need) -> bool {
        let is_new = !self.found.needs.contains(&need);
        if is_new {
            self.found.needs.push(need);
        }
        is_new
    }

    /// Adds what a stored query or expression requires, as far as it can be read.
    fn add(&mut self, found: Result<Requires, Unreadable>, check_as: Option<Oid>, moment: Moment) {
        match found {
            Ok(found) => self.requires(&found, check_as, moment),
            Err(_) => self.found.is_cut = true,
        }
    }

    /// Records a need, and what it leads to. `given` are the columns to which an INSERT gives
    /// values.
    fn relation(&mut self, need: Need, command: Command, given: &[String]) {
        self.state().interrupts();
        let at = self.found.needs.len();
        let relation = need.relation;
        if !self.need(need) {
            return;
        }
        if at >= MOST {
            self.found.is_cut = true;
            return;
        }
        let need = self.found.needs[at].clone();
        match objects::relation_kind(self.state(), relation) {
            Some(RelationKind::View) if command == Command::Select => {
                self.view(relation, &need.selected);
            }
            Some(RelationKind::View) => self.behind_view(&need, command, given),
            Some(kind) if kind.is_table() => self.table(&need, command, given),
            _ => {}
        }
    }

    /// Reads what a statement on a table evaluates.
    fn table(&mut self, need: &Need, command: Command, given: &[String]) {
        let (table, all) = (need.relation, Command::ALL.into_iter());
        for command in all.filter(|command| need.privileges.contains(command.privilege())) {
            self.policies(table, need.check_as, command);
        }
        if command == Command::Insert {
            self.domains(table);
            self.defaults(table, given);
        }
        if command == Command::Update {
            self.generated(table, &need.updated);
        }
        if matches!(command, Command::Insert | Command::Update) {
            self.checks(("conrelid", oids::PG_CONSTRAINT_RELID_INDEX), table, Moment::Kept);
        }
    }

    /// Reads the query of a view, of which some columns are read.
    fn view(&mut self, view: Oid, selected: &[String]) {
        let facts = updatable::facts(self.state(), view);
        let Some(Ok(OfView { always, columns })) = facts.query().map(requires_of_view) else {
            self.found.is_cut = true;
            return;
        };
        let check_as = objects::view_owner(self.state(), view);
        self.requires(&always, check_as, Moment::Start);
        let names: HashMap<i16, String> =
            objects::numbered_columns(self.state(), view).into_iter().collect();
        for (number, found) in columns {
            let is_read = names.get(&number).is_none_or(|name| selected.contains(name));
            if is_read || self.is_volatile(&found) {
                self.requires(&found, check_as, Moment::Start);
            }
        }
    }

    /// Whether something calls a volatile function.
    fn is_volatile(&self, found: &Requires) -> bool {
        let of_operators = found.operators.iter().filter_map(|of| self.function_of(*of));
        found.functions.iter().copied().chain(of_operators).any(|function| {
            let by = oids::PROC_BY_OID;
            let kind = of_row(self.state(), by, function, "provolatile", |row, of| row.char(of));
            kind == Some(b'v')
        })
    }

    /// Returns the function of an operator.
    fn function_of(&self, operator: Oid) -> Option<Oid> {
        let by = oids::OPERATOR_BY_OID;
        of_row(self.state(), by, operator, "oprcode", |row, function| row.oid(function))
    }

    /// Reads the relation that a statement on a view changes.
    fn behind_view(&mut self, need: &Need, command: Command, given: &[String]) {
        let view = need.relation;
        let facts = updatable::facts(self.state(), view);
        if facts.replaces(command) {
            // A trigger or a rule does something else.
            return;
        }
        let Some(base) = facts.changes(command) else {
            let name = self.state().name(oids::PG_CLASS, view).map(|(_, name)| name);
            let verb = match command {
                Command::Insert => "insert into",
                Command::Delete => "delete from",
                Command::Select | Command::Update => "update",
            };
            let name = name.unwrap_or_default();
            self.fails(format!("cannot {verb} view \"{}\"", printable(&name)));
            return;
        };
        let Some(Ok(OfView { mut always, .. })) = facts.query().map(requires_of_view) else {
            self.found.is_cut = true;
            return;
        };
        // The first is the relation itself.
        let own = always.relations.iter().position(|of| of.relation == base);
        let own = own.map(|at| always.relations.remove(at)).unwrap_or_default();
        let check_as = objects::view_owner(self.state(), view);
        // The condition of the view selects the rows; a new row is not asked, unless it is checked.
        let checks = objects::check_option_of(self.state(), view) != CheckOption::None;
        if command != Command::Insert || checks {
            self.requires(&always, check_as, Moment::Start);
        }
        let shown = facts.shown_columns(self.state(), view, base);
        let of_base = |names: &[String]| -> Vec<String> {
            let is_named = |of: &&(String, String)| names.contains(&of.0);
            shown.iter().filter(is_named).map(|(_, column)| column.clone()).collect()
        };
        let computed = objects::computed_columns(self.state(), base);
        let mut updated = of_base(&need.updated);
        if updated.len() > 1 {
            updated.retain(|column| !computed.contains(column));
        }
        let reads = need.privileges.contains(Privileges::SELECT);
        let of_base_need = Need {
            relation: base,
            check_as,
            privileges: need.privileges,
            selected: if reads { self.names(base, &own.selected) } else { vec![] },
            inserted: of_base(&need.inserted),
            updated,
            is_target: true,
            is_partial: true,
            ..Need::default()
        };
        let mut given = given.to_vec();
        if command == Command::Insert {
            // A default of the view takes the place of that of the relation.
            given.extend(self.defaults(view, &given));
        }
        self.relation(of_base_need, command, &of_base(&given));
    }

    /// Records why no role can execute the statement.
    fn fails(&mut self, why: String) {
        self.found.impossible.get_or_insert(why);
    }

    /// Returns the names of columns of a relation; 0 is all of them.
    fn names(&self, relation: Oid, numbers: &BTreeSet<i16>) -> Vec<String> {
        if numbers.contains(&0) {
            return objects::columns(self.state(), relation);
        }
        let names: HashMap<i16, String> =
            objects::numbered_columns(self.state(), relation).into_iter().collect();
        let name = |number: &i16| {
            let of_server = objects::system_column(*number).map(str::to_owned);
            of_server.or_else(|| names.get(number).cloned())
        };
        numbers.iter().filter_map(name).collect()
    }

    /// Reads the conditions of the policies that limit a role on a table.
    fn policies(&mut self, table: Oid, check_as: Option<Oid>, command: Command) {
        let rights = self.finder.rights;
        let acting = check_as.unwrap_or(self.role);
        if !rights.is_limited(acting, table) {
            return;
        }
        let rows: &[Rows] = match command {
            Command::Insert => &[Rows::New],
            Command::Update => &[Rows::Existing, Rows::New],
            Command::Select | Command::Delete => &[Rows::Existing],
        };
        let policies = stored_policies(self.state(), table);
        let applying: Vec<&StoredPolicy> =
            policies.iter().filter(|of| of.is_for(command, acting, rights)).collect();
        for rows in rows {
            // Where one allows every row, the planner removes the others.
            let is_open = |of: &&StoredPolicy| of.is_permissive && of.is_true(*rows);
            let is_any_open = applying.iter().any(is_open);
            let is_asked = |of: &&&StoredPolicy| !of.is_permissive || !is_any_open;
            let texts: Vec<&str> =
                applying.iter().filter(is_asked).filter_map(|of| of.text(*rows)).collect();
            for found in texts.into_iter().map(requires) {
                let reads = found.as_ref().is_ok_and(|found| !found.relations.is_empty());
                if reads && self.active.contains(&table) {
                    let name = self.state().name(oids::PG_CLASS, table).map(|(_, name)| name);
                    self.fails(format!(
                        "infinite recursion detected in policy for relation \"{}\"",
                        printable(&name.unwrap_or_default())
                    ));
                    return;
                }
                self.active.push(table);
                self.add(found, check_as, Moment::Start);
                self.active.pop();
            }
        }
    }

    /// Reads the defaults of the columns that an INSERT does not name, and returns these columns.
    fn defaults(&mut self, relation: Oid, given: &[String]) -> Vec<String> {
        let columns: HashMap<i16, String> =
            objects::numbered_columns(self.state(), relation).into_iter().collect();
        let mut found = Vec::new();
        for (number, text) in self.default_texts(relation) {
            let Some(name) = columns.get(&number).filter(|name| !given.contains(name)) else {
                continue;
            };
            self.add(requires(&text), None, Moment::Row);
            found.push(name.clone());
        }
        found
    }

    /// Returns the stored defaults of a relation, and the expressions of generated columns.
    fn default_texts(&self, relation: Oid) -> Vec<(i16, String)> {
        let rows = self.state().table(oids::PG_ATTRDEF);
        let column = |name| rows.column(name);
        let (of, number, text) = (column("adrelid"), column("adnum"), column("adbin"));
        let mut texts = Vec::new();
        rows.lookup(oids::PG_ATTRDEF_RELID_INDEX, &[(of, relation)], |row| {
            texts.extend(row.text(text).map(|text| (row.int(number) as i16, text)));
        });
        texts.sort();
        texts
    }

    /// Reads the generated columns that an UPDATE of some columns computes again.
    fn generated(&mut self, table: Oid, updated: &[String]) {
        let computed = objects::computed_columns(self.state(), table);
        if computed.is_empty() {
            return;
        }
        let columns: HashMap<i16, String> =
            objects::numbered_columns(self.state(), table).into_iter().collect();
        for (number, text) in self.default_texts(table) {
            let is_generated = columns.get(&number).is_some_and(|name| computed.contains(name));
            let found = requires(&text);
            let is_changed = found.as_ref().map_or(true, |found| {
                let read = |number| columns.get(number).is_some_and(|name| updated.contains(name));
                found.columns.iter().any(read)
            });
            if is_generated && is_changed {
                self.add(found, None, Moment::Start);
            }
        }
    }

    /// Reads the domains of which columns are.
    fn domains(&mut self, table: Oid) {
        let rows = self.state().table(oids::PG_ATTRIBUTE);
        let column = |name| rows.column(name);
        let (on, number, of) = (column("attrelid"), column("attnum"), column("atttypid"));
        let dropped = column("attisdropped");
        let mut types = Vec::new();
        rows.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(on, table)], |row| {
            if row.int(number) as i16 > 0 && !row.bool(dropped) {
                types.push((row.int(number) as i16, row.oid(of)));
            }
        });
        let with_default: BTreeSet<i16> =
            self.default_texts(table).into_iter().map(|(number, _)| number).collect();
        for (number, of) in types {
            let has_own = with_default.contains(&number);
            self.domain(of, if has_own { Checked::Checks } else { Checked::ChecksAndDefault });
        }
    }

    /// Reads the CHECK constraints of a domain and of those below it, and its default.
    fn domain(&mut self, of: Oid, what: Checked) {
        let (mut of, by) = (of, oids::TYPE_BY_OID);
        let mut needs_default = what == Checked::ChecksAndDefault;
        while of >= FIRST_UNPINNED {
            self.state().interrupts();
            let base = of_row(self.state(), by, of, "typbasetype", |row, base| row.oid(base));
            let Some(base) = base.filter(|base| *base != 0) else { return };
            self.checks(("contypid", oids::PG_CONSTRAINT_TYPE_INDEX), of, Moment::Start);
            let default = of_row(self.state(), by, of, "typdefaultbin", |row, text| row.text(text));
            if let Some(text) = default.flatten().filter(|_| needs_default) {
                self.add(requires(&text), None, Moment::Row);
                needs_default = false;
            }
            of = base;
        }
    }

    /// Reads the CHECK constraints of a table or of a domain. Those that are NOT ENFORCED are not
    /// evaluated.
    fn checks(&mut self, (column, index): (&str, Oid), of: Oid, moment: Moment) {
        let rows = self.state().table(oids::PG_CONSTRAINT);
        let (on, name) = (rows.column(column), rows.column("conname"));
        let (kind, text) = (rows.column("contype"), rows.column("conbin"));
        let enforced = rows.find("conenforced");
        let mut found = Vec::new();
        rows.lookup(index, &[(on, of)], |row| {
            if row.char(kind) == b'c' && enforced.is_none_or(|column| row.bool(column)) {
                found.push((row.name(name), row.text(text)));
            }
        });
        // The server evaluates them in the order of their names.
        found.sort();
        for text in found.into_iter().filter_map(|(_, text)| text) {
            self.add(requires(&text), None, moment);
        }
    }

    /// Reads the defaults of the arguments that a call omits.
    fn arguments(&mut self, routine: Oid, given: usize, moment: Moment) {
        let count = routines::argument_type_oids(self.state(), routine).len();
        if routine < FIRST_UNPINNED || given >= count {
            return;
        }
        let by = oids::PROC_BY_OID;
        let text = of_row(self.state(), by, routine, "proargdefaults", |row, text| row.text(text));
        let Some(text) = text.flatten() else { return };
        let Ok(defaults) = requires_of_list(&text) else {
            self.found.is_cut = true;
            return;
        };
        let first = count.saturating_sub(defaults.len());
        for default in defaults.into_iter().skip(given.saturating_sub(first)) {
            self.requires(&default, None, moment);
        }
    }

    /// Records what a stored query or expression requires. Relations are checked as a role; what is
    /// called is called by the role that runs the statement.
    fn requires(&mut self, found: &Requires, check_as: Option<Oid>, moment: Moment) {
        if self.depth == DEEPEST {
            self.found.is_cut = true;
            return;
        }
        self.depth += 1;
        for (function, sequence) in &found.sequences {
            let Some((privileges, or)) = Requires::of_sequence(*function) else { continue };
            let need = Need { relation: *sequence, privileges, or, moment, ..Need::default() };
            self.need(Need { is_partial: true, ..need });
        }
        let operators: Vec<Oid> =
            found.operators.iter().filter_map(|operator| self.function_of(*operator)).collect();
        for function in found.functions.iter().copied().chain(operators) {
            let call = Call { routine: function, check_as: None, moment };
            if !self.found.calls.contains(&call) {
                self.found.calls.push(call);
            }
            self.enter(function);
        }
        for (function, given) in &found.given {
            self.arguments(*function, *given, moment);
        }
        for of in &found.relations {
            let names = |columns| self.names(of.relation, columns);
            let (selected, inserted) = (names(&of.selected), names(&of.inserted));
            let reads_no_column = of.privileges.contains(Privileges::SELECT) && selected.is_empty();
            let any = || objects::columns(self.state(), of.relation).into_iter().next();
            let need = Need {
                relation: of.relation,
                check_as,
                privileges: of.privileges,
                any_column: if reads_no_column { any() } else { None },
                selected,
                inserted: inserted.clone(),
                updated: names(&of.updated),
                moment,
                is_partial: true,
                ..Need::default()
            };
            let writes = [Command::Insert, Command::Update, Command::Delete].into_iter();
            let mut writes = writes.filter(|command| of.privileges.contains(command.privilege()));
            let command = writes.next().unwrap_or(Command::Select);
            self.relation(need, command, &inserted);
        }
        self.depth -= 1;
    }

    /// Records a routine that is called, and reads its body where that is parsed.
    fn enter(&mut self, routine: Oid) {
        self.state().interrupts();
        if routine < FIRST_UNPINNED {
            return;
        }
        let owner = routines::owner(self.state(), routine);
        let runs_as = owner.filter(|_| routines::is_definer(self.state(), routine));
        if !self.entered.insert((routine, runs_as.unwrap_or(self.role))) {
            return;
        }
        if self.entered.len() > MOST {
            self.found.is_cut = true;
            return;
        }
        self.found.entered.push((routine, runs_as));
        let by = oids::PROC_BY_OID;
        let body = of_row(self.state(), by, routine, "prosqlbody", |row, body| row.text(body));
        let Some(body) = body.flatten() else { return };
        let mut inner = Walk::new(self.finder, runs_as.unwrap_or(self.role));
        inner.entered = std::mem::take(&mut self.entered);
        inner.depth = self.depth;
        inner.add(requires(&body), None, Moment::Start);
        self.entered = std::mem::take(&mut inner.entered);
        let mut needs = inner.found;
        self.found.is_cut |= needs.is_cut;
        if let Some(why) = needs.impossible.take() {
            self.fails(why);
        }
        // A new row that no policy allows is an error of the routine; where policies exclude the
        // rows of a statement, it may have a result.
        let inserts = |need: &Need| need.privileges.contains(Privileges::INSERT);
        needs.needs.iter_mut().for_each(|need| need.is_target = inserts(need));
        let of_inner = |(of, role): (Oid, Option<Oid>)| (of, role.or(runs_as));
        self.found.entered.extend(needs.entered.drain(..).map(of_inner));
        let bodies = std::mem::take(&mut needs.bodies);
        self.found.bodies.push(Body { routine, runs_as, needs });
        self.found.bodies.extend(
            bodies.into_iter().map(|body| Body { runs_as: body.runs_as.or(runs_as), ..body }),
        );
    }
}
