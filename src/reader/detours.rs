//! By which other relations a role writes rows of a table: views, rules, triggers, parents and
//! partitions. Nothing is executed.

use crate::rights::Rights;
use crate::row_triggers::RowTriggers;
use crate::source::{State, of_row};
use crate::{name, objects, oids, updatable};
use dragonfly_core::catalog::{CheckOption, Command, Oid};
use dragonfly_core::policy::facts::{Catalog, Detour, Policies, Writable};
use dragonfly_core::policy::types::BOOL;
use dragonfly_core::stored::{self, Expression, FromItem, Query, Range};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// How many views on views are followed.
const DEEPEST: usize = 3;

/// The entries of a view's range table that the core knows for its table.
const ENTRIES: usize = 3;

/// The entry of the new row in the range table of a rule (`PRS2_NEW_VARNO`).
const NEW: usize = 2;

/// A trigger whose function is executed as its owner.
#[derive(Debug)]
pub struct DefinerTrigger {
    relation: Oid,
    name: String,
    commands: Vec<Command>,
    is_instead: bool,
    owner: Oid,
    /// The words of the function's text.
    words: Vec<String>,
}

/// Reads the triggers whose functions are executed as their owners, in ordinary sessions.
pub fn definer_triggers(state: &dyn State) -> Vec<DefinerTrigger> {
    let table = state.table(oids::PG_TRIGGER);
    let column = |name| table.column(name);
    let (relation, name, kind) = (column("tgrelid"), column("tgname"), column("tgtype"));
    let (function, enabled) = (column("tgfoid"), column("tgenabled"));
    let internal = column("tgisinternal");
    let mut found = Vec::new();
    table.scan(|row| {
        if row.bool(internal) || !matches!(row.char(enabled), b'O' | b'A') {
            return;
        }
        let bits = row.int(kind) as i16;
        let commands = [(4, Command::Insert), (8, Command::Delete), (16, Command::Update)];
        if let Some((owner, words)) = definer_words(state, row.oid(function)) {
            found.push(DefinerTrigger {
                relation: row.oid(relation),
                name: row.name(name),
                commands: commands.iter().filter(|of| bits & of.0 != 0).map(|of| of.1).collect(),
                is_instead: bits & 64 != 0,
                owner,
                words,
            });
        }
    });
    found
}

/// Returns the owner of a SECURITY DEFINER function, and the words of its text.
fn definer_words(state: &dyn State, function: Oid) -> Option<(Oid, Vec<String>)> {
    let table = state.table(oids::PG_PROC);
    let column = |name| table.column(name);
    let (definer, owner, text) = (column("prosecdef"), column("proowner"), column("prosrc"));
    let (mut found, keys) = (None, [(column("oid"), function)]);
    table.lookup(oids::PG_PROC_OID_INDEX, &keys, |row| {
        if row.bool(definer) {
            let text = row.text(text).unwrap_or_default().to_lowercase();
            let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            let words = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
            found = Some((row.oid(owner), words));
        }
    });
    found
}

/// Finds by which other relations a role writes rows of a table with a command.
pub struct Finder<'a> {
    pub state: &'a dyn State,
    /// The catalog in this state.
    pub of: &'a dyn Catalog,
    /// What roles may do in this state.
    pub rights: &'a dyn Rights,
    pub role: Oid,
    pub table: Oid,
    pub command: Command,
    /// The tables that inherit from the table.
    pub children: Vec<Oid>,
    /// All triggers whose functions are executed as their owners.
    pub triggers: Rc<Vec<DefinerTrigger>>,
}

/// A view by which columns of a relation are written, and the role as which that relation is.
struct ViewAccess {
    view: Oid,
    user: Oid,
    /// The columns of the relation.
    columns: BTreeSet<i16>,
    /// What the view checks of new rows; `None` where that is not known.
    checks: Option<Vec<Expression>>,
}

impl Finder<'_> {
    /// Returns the other relations.
    #[must_use]
    pub fn detours(&self) -> Vec<Detour> {
        let mut found = self.relatives();
        found.extend(self.views());
        found.extend(self.rules());
        found.extend(self.by_triggers());
        found.extend(self.by_own_triggers());
        found
    }

    /// Returns the columns of a relation that a role can write.
    fn written(&self, role: Oid, relation: Oid, command: Command) -> BTreeSet<i16> {
        let privilege = command.privilege();
        let has_all = self.rights.on_relation(role, relation, privilege);
        let columns = objects::numbered_columns(self.state, relation).into_iter();
        let may = |(number, name): &(i16, String)| {
            has_all || self.rights.on_column(role, relation, (*number, name), privilege)
        };
        columns.filter(may).map(|(number, _)| number).collect()
    }

    fn named(&self, word: &str, relation: Oid) -> String {
        let name = name::qualified_name(self.state, oids::PG_CLASS, relation);
        format!("{word} {}", name.unwrap_or_else(|| relation.to_string()))
    }

    /// Returns the tables that the table inherits from or is a partition of, and those that inherit
    /// from it: their own privileges and policies are asked for the same rows.
    fn relatives(&self) -> Vec<Detour> {
        let mut found = Vec::new();
        let parents = self.parents();
        let parents = parents.into_iter().filter(|parent| {
            // Only a partitioned table passes new rows on.
            self.command != Command::Insert || self.kind(*parent) == Some(b'p')
        });
        for other in parents.chain(self.children.iter().copied()) {
            let Some(writable) = self.of.writes(self.role, other, self.command) else { continue };
            let own = objects::numbered_columns(self.state, self.table);
            let theirs: BTreeMap<String, i16> = objects::numbered_columns(self.state, other)
                .into_iter()
                .map(|(number, name)| (name, number))
                .collect();
            let same = |(number, name)| Some((number, *theirs.get(&name)?));
            found.push(Detour {
                through: self.named("table", other),
                table: other,
                columns: own.into_iter().filter_map(same).collect(),
                writable: Some(writable),
                is_chosen: true,
            });
        }
        found
    }

    fn kind(&self, relation: Oid) -> Option<u8> {
        of_row(self.state, oids::CLASS_BY_OID, relation, "relkind", |row, kind| row.char(kind))
    }

    fn parents(&self) -> Vec<Oid> {
        let table = self.state.table(oids::PG_INHERITS);
        let (child, parent) = (table.column("inhrelid"), table.column("inhparent"));
        let (mut found, mut waiting) = (BTreeSet::new(), vec![self.table]);
        while let Some(next) = waiting.pop() {
            self.state.interrupts();
            let keys = [(child, next)];
            table.lookup(oids::PG_INHERITS_CHILD_INDEX, &keys, |row| {
                let parent = row.oid(parent);
                if found.insert(parent) {
                    waiting.push(parent);
                }
            });
        }
        found.into_iter().collect()
    }

    /// Returns the views of which the server makes statements on the table.
    fn views(&self) -> Vec<Detour> {
        let mut found = Vec::new();
        for access in self.accesses(self.table, 0) {
            let through = self.named("view", access.view);
            let writable = self.of.writes(access.user, self.table, self.command);
            let Some(writable) = writable else { continue };
            let known = access.checks.map(|checks| {
                let mut known = Writable::clone(&writable);
                known.columns.retain(|number| access.columns.contains(number));
                if !checks.is_empty() {
                    if known.policies.is_none() {
                        known.existing = any_row();
                    }
                    known.policies.get_or_insert_with(any_row).restrictive.extend(checks);
                }
                Rc::new(known)
            });
            let columns = objects::numbered_columns(self.state, self.table);
            found.push(Detour {
                through,
                table: self.table,
                columns: columns.into_iter().map(|(number, _)| (number, number)).collect(),
                writable: known,
                is_chosen: true,
            });
        }
        found
    }

    /// Returns by which views the role writes a relation.
    fn accesses(&self, relation: Oid, depth: usize) -> Vec<ViewAccess> {
        let mut found = Vec::new();
        if depth >= DEEPEST {
            return found;
        }
        let views = self.rewritten(relation).into_iter().filter(|of| of.event == b'1');
        for view in views.map(|rule| rule.relation).collect::<BTreeSet<_>>() {
            self.state.interrupts();
            let target = updatable::target(self.state, view);
            if !target.is_some_and(|target| target.commands.contains(&self.command)) {
                continue;
            }
            let Some(known) = self.of.view(view) else { continue };
            let Some((entry, columns)) = columns_of(&known.query, relation) else { continue };
            let own_check = self.check(view, &known.query, entry);
            let mut issuers = vec![ViewAccess {
                view,
                user: self.role,
                columns: self.written(self.role, view, self.command),
                checks: Some(Vec::new()),
            }];
            issuers.extend(self.accesses(view, depth + 1));
            for issuer in issuers {
                let may = self.written(issuer.user, view, self.command);
                let allowed = issuer.columns.intersection(&may);
                let written: BTreeSet<i16> =
                    allowed.filter_map(|number| columns.get(number).copied()).collect();
                if written.is_empty() {
                    continue;
                }
                // What an outer view checks is about columns of this one.
                let has_outer = issuer.checks.is_none_or(|checks| !checks.is_empty());
                found.push(ViewAccess {
                    view: issuer.view,
                    user: known.owner.unwrap_or(issuer.user),
                    columns: written,
                    checks: own_check.clone().filter(|_| !has_outer),
                });
            }
        }
        found
    }

    /// Returns what a view checks of new rows.
    fn check(&self, view: Oid, query: &Query, entry: usize) -> Option<Vec<Expression>> {
        if objects::check_option_of(self.state, view) == CheckOption::None {
            return Some(Vec::new());
        }
        (entry <= ENTRIES).then(|| query.condition.iter().cloned().collect())
    }

    /// Returns the rules that write rows of the table.
    fn rules(&self) -> Vec<Detour> {
        let events = [(b'2', Command::Update), (b'3', Command::Insert), (b'4', Command::Delete)];
        let mut found = Vec::new();
        for rule in self.rewritten(self.table) {
            let Some((_, event)) = events.iter().find(|(letter, _)| *letter == rule.event) else {
                continue;
            };
            if !self.rights.on_part(self.role, rule.relation, event.privilege()) {
                continue;
            }
            let owner = of_row(self.state, oids::CLASS_BY_OID, rule.relation, "relowner", {
                |row, owner| row.oid(owner)
            });
            let actions = stored::queries(&rule.action).unwrap_or_default();
            for action in actions.iter().filter(|action| self.is_written_by(action)) {
                let Some(writable) =
                    owner.and_then(|of| self.of.writes(of, self.table, self.command))
                else {
                    continue;
                };
                let given = self.written(self.role, rule.relation, *event);
                let is_given = |number: &i16| given.contains(number);
                let columns = given_by_new_row(action, rule.relation, &is_given).map(|columns| {
                    let columns = &columns & &writable.columns;
                    Rc::new(Writable { columns, ..Writable::clone(&writable) })
                });
                let names = objects::numbered_columns(self.state, self.table);
                found.push(Detour {
                    through: self.named(&format!("rule {} on", rule.name), rule.relation),
                    table: self.table,
                    columns: names.into_iter().map(|(number, _)| (number, number)).collect(),
                    writable: columns,
                    is_chosen: true,
                });
            }
        }
        found
    }

    fn is_written_by(&self, action: &Query) -> bool {
        let command = match action.command {
            stored::Command::Insert => Command::Insert,
            stored::Command::Update => Command::Update,
            _ => return false,
        };
        let written = action.written.checked_sub(1).and_then(|index| action.entries.get(index));
        command == self.command
            && written.is_some_and(|entry| match entry.range {
                Range::Relation { oid, .. } => oid == self.table,
                _ => false,
            })
    }

    /// Returns the triggers that may write rows of the table as their owners: what is not known.
    fn by_triggers(&self) -> Vec<Detour> {
        let Some((schema, table)) = self.words() else { return Vec::new() };
        let before = if self.command == Command::Insert { "into" } else { "update" };
        let writes = |trigger: &&DefinerTrigger| {
            let starts = trigger.words.iter().enumerate().filter(|(_, word)| *word == before);
            let mut names = starts.map(|(at, _)| &trigger.words[at + 1..]);
            names.any(|after| {
                let after = after.strip_prefix(&["only".to_owned()][..]).unwrap_or(after);
                after.first() == Some(&table)
                    || (after.first() == Some(&schema) && after.get(1) == Some(&table))
            })
        };
        let views: BTreeSet<Oid> =
            self.rewritten(self.table).iter().map(|of| of.relation).collect();
        let is_fired = |trigger: &&DefinerTrigger| {
            let is_own = self.rights.has_privileges_of(self.role, trigger.owner);
            let may = |command: &Command| {
                self.rights.on_part(self.role, trigger.relation, command.privilege())
            };
            !is_own && trigger.relation != self.table && trigger.commands.iter().any(may)
        };
        let found = self.triggers.iter().filter(|of| {
            let is_instead = of.is_instead && views.contains(&of.relation);
            (is_instead || writes(of)) && is_fired(of)
        });
        found
            .map(|trigger| Detour {
                through: self.named(&format!("trigger {} on", trigger.name), trigger.relation),
                table: self.table,
                columns: BTreeMap::new(),
                writable: None,
                is_chosen: false,
            })
            .collect()
    }

    /// Returns the triggers of the table that write columns for which the role has no privilege,
    /// into rows that it has: what is not known.
    fn by_own_triggers(&self) -> Vec<Detour> {
        let Some(writable) = self.of.writes(self.role, self.table, self.command) else {
            return Vec::new();
        };
        let columns = objects::numbered_columns(self.state, self.table);
        let triggers = RowTriggers::of(self.state, self.table).assigning(self.command);
        let writing = triggers.into_iter().filter_map(|(trigger, names)| {
            let is_written = |name: &String| names.as_ref().is_none_or(|of| of.contains(name));
            let written = columns.iter().filter(|(_, name)| is_written(name)).map(|of| of.0);
            let all: BTreeSet<i16> = written.chain(writable.columns.iter().copied()).collect();
            (all.len() > writable.columns.len()).then(|| Detour {
                through: self.named(&format!("trigger {trigger} on"), self.table),
                table: self.table,
                columns: columns.iter().map(|(number, _)| (*number, *number)).collect(),
                writable: Some(Rc::new(Writable { columns: all, ..(*writable).clone() })),
                is_chosen: false,
            })
        });
        writing.collect()
    }

    /// Returns the names of the schema and of the table, in lower case.
    fn words(&self) -> Option<(String, String)> {
        let (relname, relnamespace) = ("relname", "relnamespace");
        let by = oids::CLASS_BY_OID;
        let table = of_row(self.state, by, self.table, relname, |row, of| row.name(of))?;
        let schema = of_row(self.state, by, self.table, relnamespace, |row, of| row.oid(of))?;
        let schema = of_row(self.state, oids::NAMESPACE_BY_OID, schema, "nspname", {
            |row, of| row.name(of)
        });
        Some((schema?.to_lowercase(), table.to_lowercase()))
    }

    /// Returns the rules, with those of views, that mention a relation.
    fn rewritten(&self, relation: Oid) -> Vec<Rule> {
        let table = self.state.table(oids::PG_DEPEND);
        let column = |name| table.column(name);
        let (class, object) = (column("classid"), column("objid"));
        let keys = [(column("refclassid"), oids::PG_CLASS), (column("refobjid"), relation)];
        let mut mentioning = BTreeSet::new();
        table.lookup(oids::PG_DEPEND_REFERENCE_INDEX, &keys, |row| {
            if row.oid(class) == oids::PG_REWRITE {
                mentioning.insert(row.oid(object));
            }
        });
        let table = self.state.table(oids::PG_REWRITE);
        let column = |name| table.column(name);
        let (oid, name, on) = (column("oid"), column("rulename"), column("ev_class"));
        let (event, action, enabled) =
            (column("ev_type"), column("ev_action"), column("ev_enabled"));
        let mut found = Vec::new();
        for rule in mentioning {
            table.lookup(oids::PG_REWRITE_OID_INDEX, &[(oid, rule)], |row| {
                if !matches!(row.char(enabled), b'D' | b'R') && row.oid(on) != relation {
                    found.push(Rule {
                        relation: row.oid(on),
                        name: row.name(name),
                        event: row.char(event),
                        action: row.text(action).unwrap_or_default(),
                    });
                }
            });
        }
        found
    }
}

/// A rule.
struct Rule {
    relation: Oid,
    name: String,
    event: u8,
    action: String,
}

/// Returns the policies of a relation without row security.
fn any_row() -> Policies {
    let always = stored::Constant { data_type: BOOL, value: Some(vec![1]) };
    Policies { permissive: vec![Expression::Constant(always)], ..Policies::default() }
}

/// Returns the entry of the relation that a view reads, and its columns by those of the view.
fn columns_of(query: &Query, relation: Oid) -> Option<(usize, BTreeMap<i16, i16>)> {
    let [FromItem::List { items, .. }] = &query.from[..] else {
        let [FromItem::Entry(entry)] = &query.from[..] else { return None };
        return columns_of_entry(query, relation, *entry);
    };
    let [FromItem::Entry(entry)] = &items[..] else { return None };
    columns_of_entry(query, relation, *entry)
}

fn columns_of_entry(
    query: &Query,
    relation: Oid,
    entry: usize,
) -> Option<(usize, BTreeMap<i16, i16>)> {
    match &query.entries.get(entry.checked_sub(1)?)?.range {
        Range::Relation { oid, .. } if *oid == relation => {}
        _ => return None,
    }
    let column = |target: &stored::Target| match &target.expression {
        Expression::Column(of) if of.entry == entry && of.level == 0 && !target.is_hidden => {
            Some((target.number, of.number))
        }
        _ => None,
    };
    Some((entry, query.targets.iter().filter_map(column).collect()))
}

/// Returns the columns that the action of a rule takes from the new row, of those columns of it
/// that the role gives; `None` where the action asks for more, so that it is not known.
fn given_by_new_row(
    action: &Query,
    relation: Oid,
    is_given: &dyn Fn(&i16) -> bool,
) -> Option<BTreeSet<i16>> {
    // The rows of INSERT ... SELECT are those of a subquery.
    let is_of_new = match action.entries.get(NEW - 1)?.range {
        Range::Relation { oid, .. } => oid == relation,
        _ => false,
    };
    let is_plain = is_of_new && action.condition.is_none() && action.with.is_empty();
    let columns = action.targets.iter().filter_map(|target| match &target.expression {
        Expression::Column(of) if of.entry == NEW && of.level == 0 && is_given(&of.number) => {
            Some(target.number)
        }
        _ => None,
    });
    is_plain.then(|| columns.collect())
}
