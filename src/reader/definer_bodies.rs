//! What the bodies of SECURITY DEFINER routines let clients do. Nothing is executed.

use crate::caller_typed::{argument_names, language_of};
use crate::expressions::Mentioned;
use crate::oids;
use crate::rights::Rights;
use crate::source::{Row, State, Table, of_row};
use crate::text_body::Text;
use crate::types;
use dragonfly_core::catalog::{
    Command, DefinerBody, ExecutedText, FIRST_NORMAL, Oid, Relation, Routine, SetParameter,
};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{CalledBody, body_accesses};
use dragonfly_core::rules::Context;
use dragonfly_core::rules::shared::definer_bodies::callers;
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::body::Language;
use dragonfly_core::sql::chosen_text::{Argument, uses};
use dragonfly_core::sql::listed_set;
use dragonfly_core::sql::written::{Write, written};
use dragonfly_core::stored::{self, Expression, Query};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

/// Built-in types with values of any text.
const TEXTS: [Oid; 18] = [
    types::TEXT,
    types::VARCHAR,
    types::BPCHAR,
    types::NAME,
    types::JSON,
    types::JSONB,
    types::XML,
    types::UNKNOWN,
    types::TEXT_ARRAY,
    types::VARCHAR_ARRAY,
    types::BPCHAR_ARRAY,
    types::NAME_ARRAY,
    types::JSON_ARRAY,
    types::JSONB_ARRAY,
    types::ANYELEMENT,
    types::ANYNONARRAY,
    types::ANYARRAY,
    types::RECORD,
];

/// Returns what the bodies of SECURITY DEFINER routines of governed schemas let the clients do that
/// may execute them, in the order of the routines' OIDs.
pub fn definer_bodies(
    state: &dyn State,
    cx: &Context<'_>,
    (catalog, identities): (&Mentioned<'_>, &Identities),
) -> Rc<Vec<DefinerBody>> {
    let reader = Reader { state, catalog, identities };
    let mut found = Vec::new();
    for (routine, _) in cx.routines() {
        let clients: Vec<Oid> = callers(cx, routine).iter().map(|role| role.oid).collect();
        if !clients.is_empty() {
            state.interrupts();
            found.extend(reader.read(cx, routine, &clients));
        }
    }
    found.sort_by_key(|body| body.routine);
    Rc::new(found)
}

/// Returns the body of a SECURITY DEFINER routine, as it is stored: text and parsed body.
pub fn definer_body(state: &dyn State, routine: Oid) -> Option<(Vec<u8>, Vec<u8>)> {
    let table = state.table(oids::PG_PROC);
    let column = |name| table.column(name);
    let (mut found, keys) = (None, [(column("oid"), routine)]);
    table.lookup(oids::PG_PROC_OID_INDEX, &keys, |row| {
        let bytes = |name| row.bytes(column(name)).unwrap_or_default();
        found = row.bool(column("prosecdef")).then(|| (bytes("prosrc"), bytes("prosqlbody")));
    });
    found
}

/// Reads the bodies of routines.
struct Reader<'a> {
    state: &'a dyn State,
    catalog: &'a Mentioned<'a>,
    identities: &'a Identities,
}

impl Reader<'_> {
    fn read(&self, cx: &Context<'_>, routine: &Routine, clients: &[Oid]) -> Option<DefinerBody> {
        let table = self.state.table(oids::PG_PROC);
        let (mut found, keys) = (None, [(table.column("oid"), routine.oid)]);
        table.lookup(oids::PG_PROC_OID_INDEX, &keys, |row| {
            let mut body = self.body(&table, row, routine, clients);
            if body.unread.is_some() {
                let column = |name| table.column(name);
                let source = row.text(column("prosrc")).unwrap_or_default();
                let parsed = row.text(column("prosqlbody")).unwrap_or_default();
                body.named = named(cx, self.catalog.rights(), routine, &source, &parsed);
                body.written = written_of(cx, &body, &source);
            }
            found = Some(body);
        });
        found
    }

    fn body(&self, table: &Table, row: Row<'_>, routine: &Routine, clients: &[Oid]) -> DefinerBody {
        let column = |name| table.column(name);
        let mut names = argument_names(&row, column("proargnames"), column("proargmodes"));
        names.resize(routine.arguments.len(), String::new());
        let language = language_of(self.state, row.oid(column("prolang")));
        let source = row.text(column("prosrc")).unwrap_or_default();
        let arguments: Vec<Argument> = names
            .iter()
            .zip(&routine.arguments)
            .map(|(name, of)| Argument { name: name.clone(), is_text: self.is_text(*of) })
            .collect();
        let uses = uses(&source, language, &routine.name, &arguments);
        let is_parsed = !row.is_null(column("prosqlbody"));
        let statements = if let Some(parsed) = row.text(column("prosqlbody")) {
            stored::queries(&parsed).ok()
        } else {
            let path = settings(&routine.config).last().map(|path| (*path).to_owned());
            let (owner, source, is_definer) = (routine.owner, &source, true);
            let routine = routine.oid;
            self.of_text(&Text { routine, language, source, path, owner, is_definer })
        };
        // It can set the role, or what says who the caller is.
        let sets_more = !routine.config.iter().all(|item| is_harmless(item));
        let mut unread = match (&statements, language) {
            (None, Language::Sql | Language::PlPgSql) => {
                let fault = self.catalog.texts().map(|texts| texts.fault(language));
                Some(fault.unwrap_or("its text cannot be read").to_owned())
            }
            (None, Language::Other) => Some("its language is neither SQL nor PL/pgSQL".to_owned()),
            _ if sets_more => Some("it sets parameters".to_owned()),
            _ => None,
        };
        let statements = statements.filter(|_| !sets_more);
        let mut unknown = BTreeSet::new();
        let mut accesses = |client: &Oid| {
            let body = CalledBody {
                catalog: self.catalog,
                identities: self.identities,
                client: *client,
                owner: routine.owner,
                arguments: &names,
                statements: statements.as_deref().unwrap_or_default(),
            };
            let (accesses, not_known) = body_accesses(&body);
            unknown.extend(not_known);
            (*client, accesses)
        };
        // Thousands of routines can have thousands of callers, and most access nothing.
        let accesses = clients.iter().map(&mut accesses).filter(|(_, of)| !of.is_empty()).collect();
        if !unknown.is_empty() {
            unread.get_or_insert_with(|| format!("it has {}", listed_set(&unknown)));
        }
        let mut parameters: BTreeSet<SetParameter> = uses
            .settings
            .into_iter()
            .map(|set| SetParameter {
                name: set.name,
                argument: set.chosen.argument,
                is_tested: set.chosen.is_tested,
            })
            .collect();
        if is_parsed {
            let statements = statements.as_deref().unwrap_or_default();
            parameters.extend(statements.iter().flat_map(|of| set_by(of, &names)));
        }
        DefinerBody {
            routine: routine.oid,
            accesses,
            executed: uses
                .executed
                .map(|of| ExecutedText { argument: of.argument, is_tested: of.is_tested }),
            parameters,
            unread,
            named: Vec::new(),
            written: Vec::new(),
        }
    }

    fn of_text(&self, text: &Text<'_>) -> Option<Vec<Query>> {
        self.catalog.texts()?.statements(text)
    }

    /// Whether a value of a type can contain any text: of the types of applications, those that are
    /// no enumerations.
    fn is_text(&self, of: Oid) -> bool {
        let kind =
            || of_row(self.state, oids::TYPE_BY_OID, of, "typtype", |row, kind| row.char(kind));
        TEXTS.contains(&of) || (of >= FIRST_NORMAL && kind() != Some(b'e'))
    }
}

/// Returns the tables with row security that does not apply to the owner of a routine and that the
/// text of its body names.
fn named(
    cx: &Context<'_>,
    rights: &dyn Rights,
    routine: &Routine,
    source: &str,
    parsed: &str,
) -> Vec<Oid> {
    let source = source.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words: HashSet<&str> = source.split(|c| !is_part(c)).collect();
    let of_tree: HashSet<Oid> = stored::oids_in(parsed, ":relid ").flatten().collect();
    let is_named = |relation: &&Relation| {
        let name = relation.name.to_lowercase();
        // A name that has to be quoted is no word.
        let is_word = name.chars().all(is_part);
        let is_in_text = if is_word { words.contains(&*name) } else { source.contains(&name) };
        is_in_text || of_tree.contains(&relation.oid)
    };
    cx.relations()
        .map(|(relation, _)| relation)
        .filter(|relation| relation.row_security)
        .filter(is_named)
        .filter(|relation| !rights.is_limited(routine.owner, relation.oid))
        .map(|relation| relation.oid)
        .collect()
}

/// Returns what the statements in the text of a body do with rows of the tables that it names,
/// besides reading them, and those of a parsed one that were read.
fn written_of(cx: &Context<'_>, body: &DefinerBody, source: &str) -> Vec<(Oid, Command)> {
    let in_text = written(source);
    let command = |write: &Write| match write {
        Write::Insert => Command::Insert,
        Write::Update => Command::Update,
        Write::Delete => Command::Delete,
    };
    let tables = body.named.iter().filter_map(|oid| cx.snapshot.relation(*oid));
    let of_text = tables.flat_map(|relation| {
        let is_it = |(table, _): &&(String, Write)| *table == relation.name;
        in_text.iter().filter(is_it).map(|(_, write)| (relation.oid, command(write)))
    });
    let read = body.accesses.iter().flat_map(|(_, accesses)| accesses);
    let read = read.filter(|access| access.command != Command::Select);
    let all: BTreeSet<(Oid, Command)> =
        of_text.chain(read.map(|access| (access.relation, access.command))).collect();
    all.into_iter().collect()
}

/// The function set_config (pg_proc.dat).
const SET_CONFIG: Oid = 2078;

/// Returns the parameters that a statement sets to what the caller chooses.
fn set_by(statement: &Query, names: &[String]) -> Vec<SetParameter> {
    let (mut calls, mut all) = (Vec::new(), Vec::new());
    statement.add_calls(SET_CONFIG, &mut calls);
    statement.add_arguments(&mut all);
    let of_call = |arguments: &[Expression]| {
        let [name, value, ..] = arguments else { return None };
        let (mut of_name, mut used) = (Vec::new(), Vec::new());
        name.add_arguments(&mut of_name);
        value.add_arguments(&mut used);
        used.extend(&of_name);
        let number = *used.first()?;
        let count = |of: &[usize]| of.iter().filter(|other| **other == number).count();
        let argument = names.get(number.checked_sub(1)?)?;
        let argument = if argument.is_empty() { format!("${number}") } else { argument.clone() };
        Some(SetParameter { name: text_of(name), argument, is_tested: count(&all) > count(&used) })
    };
    calls.into_iter().filter_map(of_call).collect()
}

/// Returns the text that an expression is.
fn text_of(expression: &Expression) -> Option<String> {
    let Expression::Constant(constant) = expression else { return None };
    // A header of four bytes, or of one, precedes the text.
    let bytes = constant.value.as_ref()?;
    let text = if bytes.first()? & 1 == 1 { bytes.get(1..)? } else { bytes.get(4..)? };
    String::from_utf8(text.to_vec()).ok().map(|name| name.to_lowercase())
}

/// Whether a setting of a routine has nothing to do with who the caller is.
fn is_harmless(item: &str) -> bool {
    let name = item.split('=').next().unwrap_or_default().to_ascii_lowercase();
    !name.contains('.')
        && !matches!(name.as_str(), "role" | "session_authorization" | "row_security")
}
