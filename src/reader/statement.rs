//! What a statement needs, as far as the catalogs tell: the tables behind views, the conditions of
//! policies, defaults and CHECK constraints, and parsed bodies. A server that rewrites the statement
//! knows more: rules, triggers, indexes, partitions, and what the planner removes.

use crate::rights::Rights;
use crate::source::{State, of_row};
use crate::stored_policies::stored_policies;
use crate::{objects, oids, routines, updatable};
use dragonfly_core::catalog::{Command, FIRST_UNPINNED, Oid, Privileges, RelationKind, Rows};
use dragonfly_core::explain::{Form, Moment, Need, never_truncated};
use dragonfly_core::sql::printable;
use dragonfly_core::stored::{OfView, Requires, requires, requires_of_view};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What a statement needs.
#[derive(Debug, Default)]
#[allow(clippy::struct_field_names, reason = "the core calls them needs, too")]
pub struct Needs {
    /// The privileges on relations, those on the relation that the statement names first.
    pub needs: Vec<Need>,
    /// The functions that it calls, with when EXECUTE is checked.
    pub calls: Vec<(Oid, Moment)>,
    /// The parsed bodies of the routines that it calls.
    pub bodies: Vec<Body>,
    /// The routines that it calls, each with the role that runs it, where that is not the role that
    /// runs the statement.
    pub entered: Vec<(Oid, Option<Oid>)>,
    /// Why no role can execute it.
    pub impossible: Option<String>,
}

impl Needs {
    /// Returns the relations that are checked as the role that runs the statement.
    pub fn of_caller(&self) -> impl Iterator<Item = Oid> {
        let bodies = self.bodies.iter().filter(|body| body.runs_as.is_none());
        let needs = self.needs.iter().chain(bodies.flat_map(|body| &body.needs.needs));
        needs.filter(|need| need.check_as.is_none()).map(|need| need.relation)
    }
}

/// A parsed body (BEGIN ATOMIC), all statements of it together.
#[derive(Debug)]
pub struct Body {
    /// The routine.
    pub routine: Oid,
    /// The role that runs it, where that is not the role that runs the statement.
    pub runs_as: Option<Oid>,
    /// What it needs.
    pub needs: Needs,
}

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
        walk.enter(routine);
        walk.found
    }
}

/// The state of a search.
struct Walk<'f, 'a> {
    finder: &'f Finder<'a>,
    /// The role that runs the statement.
    role: Oid,
    found: Needs,
    /// The relations that have been read, with the role that is checked and the command.
    seen: HashSet<(Oid, Option<Oid>, Command)>,
    entered: BTreeSet<Oid>,
}

impl<'f, 'a> Walk<'f, 'a> {
    fn new(finder: &'f Finder<'a>, role: Oid) -> Self {
        let (seen, entered) = (HashSet::new(), BTreeSet::new());
        Self { finder, role, found: Needs::default(), seen, entered }
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
            return self.need(Need { or, ..need });
        };
        let all = objects::columns(self.state(), relation);
        let settable = || if is_partial { columns.to_vec() } else { self.settable(relation) };
        let need = match (command, form) {
            (Command::Select, _) => {
                let any_column = all.first().cloned().filter(|_| all.is_empty());
                let selected = if is_partial { columns.to_vec() } else { all };
                Need { selected, any_column, ..need }
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

    fn need(&mut self, need: Need) {
        if !self.found.needs.contains(&need) {
            self.found.needs.push(need);
        }
    }

    /// Records a need, and what it leads to.
    fn relation(&mut self, need: Need, command: Command, columns: &[String]) {
        self.state().interrupts();
        let (relation, check_as) = (need.relation, need.check_as);
        let (privileges, selected) = (need.privileges, need.selected.clone());
        self.need(need);
        let is_new = self.seen.len() < MOST && self.seen.insert((relation, check_as, command));
        if !is_new {
            return;
        }
        match objects::relation_kind(self.state(), relation) {
            Some(RelationKind::View) if command == Command::Select => {
                self.view(relation, &selected);
            }
            Some(RelationKind::View) => self.behind_view(relation, command, columns),
            Some(kind) if kind.is_table() => {
                let all = Command::ALL.into_iter();
                for command in all.filter(|command| privileges.contains(command.privilege())) {
                    self.policies(relation, check_as, command);
                }
                if command == Command::Insert {
                    self.domains(relation);
                    self.defaults(relation, columns);
                }
                if matches!(command, Command::Insert | Command::Update) {
                    let by = ("conrelid", oids::PG_CONSTRAINT_RELID_INDEX);
                    self.checks(by, relation, Moment::Kept);
                }
            }
            _ => {}
        }
    }

    /// Reads the query of a view, of which some columns are read.
    fn view(&mut self, view: Oid, selected: &[String]) {
        let facts = updatable::facts(self.state(), view);
        let Some(Ok(OfView { always, columns })) = facts.query().map(requires_of_view) else {
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
    fn behind_view(&mut self, view: Oid, command: Command, columns: &[String]) {
        let facts = updatable::facts(self.state(), view);
        if facts.replaces(command) {
            // A trigger or a rule does something else.
            return;
        }
        let Some(base) = facts.changes(command) else {
            if self.found.impossible.is_none() {
                let name = self.state().name(oids::PG_CLASS, view).map(|(_, name)| name);
                let name = printable(&name.unwrap_or_default()).into_owned();
                let verb = match command {
                    Command::Insert => "insert into",
                    Command::Delete => "delete from",
                    Command::Select | Command::Update => "update",
                };
                self.found.impossible = Some(format!("cannot {verb} view \"{name}\""));
            }
            return;
        };
        let shown = facts.shown_columns(self.state(), view, base).into_iter();
        let is_all = columns.is_empty() && command == Command::Update;
        let computed = objects::computed_columns(self.state(), base);
        let is_set = |of: &(String, String)| {
            if is_all { !computed.contains(&of.1) } else { columns.contains(&of.0) }
        };
        let columns: Vec<String> = shown.filter(is_set).map(|(_, column)| column).collect();
        let mut need = Need {
            relation: base,
            check_as: objects::view_owner(self.state(), view),
            privileges: command.privilege(),
            is_target: true,
            is_partial: true,
            ..Need::default()
        };
        match command {
            Command::Insert => need.inserted.clone_from(&columns),
            Command::Update => need.updated.clone_from(&columns),
            Command::Select | Command::Delete => {}
        }
        self.relation(need, command, &columns);
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
        for policy in stored_policies(self.state(), table) {
            if !policy.is_for(command, acting, rights) {
                continue;
            }
            for text in rows.iter().filter_map(|rows| policy.text(*rows)) {
                if let Ok(found) = requires(text) {
                    self.requires(&found, check_as, Moment::Start);
                }
            }
        }
    }

    /// Reads the defaults of the columns that an INSERT does not name.
    fn defaults(&mut self, table: Oid, given: &[String]) {
        let columns: HashMap<i16, String> =
            objects::numbered_columns(self.state(), table).into_iter().collect();
        let rows = self.state().table(oids::PG_ATTRDEF);
        let (of, number, text) =
            (rows.column("adrelid"), rows.column("adnum"), rows.column("adbin"));
        let mut texts = Vec::new();
        rows.lookup(oids::PG_ATTRDEF_RELID_INDEX, &[(of, table)], |row| {
            let number = row.int(number) as i16;
            if columns.get(&number).is_some_and(|name| !given.contains(name)) {
                texts.push((number, row.text(text)));
            }
        });
        texts.sort();
        for (_, text) in texts {
            if let Some(Ok(found)) = text.map(|text| requires(&text)) {
                self.requires(&found, None, Moment::Row);
            }
        }
    }

    /// Reads the CHECK constraints of the domains of which columns are, and of those below them.
    fn domains(&mut self, table: Oid) {
        let rows = self.state().table(oids::PG_ATTRIBUTE);
        let column = |name| rows.column(name);
        let (on, number, of) = (column("attrelid"), column("attnum"), column("atttypid"));
        let dropped = column("attisdropped");
        let mut types = Vec::new();
        rows.lookup(oids::PG_ATTRIBUTE_RELID_INDEX, &[(on, table)], |row| {
            if row.int(number) as i16 > 0 && !row.bool(dropped) {
                types.push(row.oid(of));
            }
        });
        types.retain(|of| *of >= FIRST_UNPINNED);
        while let Some(of) = types.pop() {
            self.state().interrupts();
            let by = oids::TYPE_BY_OID;
            let base = of_row(self.state(), by, of, "typbasetype", |row, base| row.oid(base));
            if let Some(base) = base.filter(|base| *base != 0) {
                let by = ("contypid", oids::PG_CONSTRAINT_TYPE_INDEX);
                self.checks(by, of, Moment::Start);
                types.push(base);
            }
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
        for (_, text) in found {
            if let Some(Ok(found)) = text.map(|text| requires(&text)) {
                self.requires(&found, None, moment);
            }
        }
    }

    /// Records what a stored query or expression requires. Relations are checked as a role; what is
    /// called is called by the role that runs the statement.
    fn requires(&mut self, found: &Requires, check_as: Option<Oid>, moment: Moment) {
        for sequence in &found.sequences {
            self.need(Need {
                relation: *sequence,
                privileges: Privileges::USAGE,
                or: Privileges::UPDATE,
                moment,
                is_partial: true,
                ..Need::default()
            });
        }
        let operators: Vec<Oid> =
            found.operators.iter().filter_map(|operator| self.function_of(*operator)).collect();
        for function in found.functions.iter().copied().chain(operators) {
            if !self.found.calls.contains(&(function, moment)) {
                self.found.calls.push((function, moment));
            }
            self.enter(function);
        }
        for of in &found.relations {
            let names: HashMap<i16, String> =
                objects::numbered_columns(self.state(), of.relation).into_iter().collect();
            let named = |columns: &BTreeSet<i16>| -> Vec<String> {
                if columns.contains(&0) {
                    return objects::columns(self.state(), of.relation);
                }
                columns.iter().filter_map(|one| names.get(one).cloned()).collect()
            };
            let (selected, inserted) = (named(&of.selected), named(&of.inserted));
            let reads_no_column = of.privileges.contains(Privileges::SELECT) && selected.is_empty();
            let any = || objects::columns(self.state(), of.relation).into_iter().next();
            let need = Need {
                relation: of.relation,
                check_as,
                privileges: of.privileges,
                any_column: if reads_no_column { any() } else { None },
                selected,
                inserted: inserted.clone(),
                updated: named(&of.updated),
                moment,
                is_partial: true,
                ..Need::default()
            };
            let writes = [Command::Insert, Command::Update, Command::Delete].into_iter();
            let mut writes = writes.filter(|command| of.privileges.contains(command.privilege()));
            let command = writes.next().unwrap_or(Command::Select);
            self.relation(need, command, &inserted);
        }
    }

    /// Records a routine that is called, and reads its body where that is parsed.
    fn enter(&mut self, routine: Oid) {
        self.state().interrupts();
        let is_new =
            routine >= FIRST_UNPINNED && self.entered.len() < MOST && self.entered.insert(routine);
        if !is_new {
            return;
        }
        let owner = routines::owner(self.state(), routine);
        let runs_as = owner.filter(|_| routines::is_definer(self.state(), routine));
        self.found.entered.push((routine, runs_as));
        let by = oids::PROC_BY_OID;
        let body = of_row(self.state(), by, routine, "prosqlbody", |row, body| row.text(body));
        let Some(Ok(found)) = body.flatten().map(|body| requires(&body)) else { return };
        let mut inner = Walk::new(self.finder, runs_as.unwrap_or(self.role));
        inner.entered = std::mem::take(&mut self.entered);
        inner.requires(&found, None, Moment::Start);
        self.entered = std::mem::take(&mut inner.entered);
        let mut needs = inner.found;
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
