//! What the bodies of SECURITY DEFINER routines let clients do. Nothing is executed.

use super::caller_typed::{argument_names, language_of};
use super::expressions::Mentioned;
use super::oids;
use super::text_body::Text;
use crate::pg::heap::{Row, State, Table, interrupts, of_row};
use dragonfly_core::catalog::{
    DefinerBody, ExecutedText, FIRST_NORMAL, Oid, Routine, SetParameter,
};
use dragonfly_core::policy::identity::Identities;
use dragonfly_core::policy::{CalledBody, body_accesses};
use dragonfly_core::rules::Context;
use dragonfly_core::rules::shared::definer_bodies::callers;
use dragonfly_core::search_path::settings;
use dragonfly_core::sql::chosen_text::{Argument, uses};
use dragonfly_core::stored::{self, Query};
use pgrx::pg_sys;
use std::rc::Rc;

/// Built-in types with values of any text.
const TEXTS: [Oid; 18] = [
    pg_sys::TEXTOID.to_u32(),
    pg_sys::VARCHAROID.to_u32(),
    pg_sys::BPCHAROID.to_u32(),
    pg_sys::NAMEOID.to_u32(),
    pg_sys::JSONOID.to_u32(),
    pg_sys::JSONBOID.to_u32(),
    pg_sys::XMLOID.to_u32(),
    pg_sys::UNKNOWNOID.to_u32(),
    pg_sys::TEXTARRAYOID.to_u32(),
    pg_sys::VARCHARARRAYOID.to_u32(),
    pg_sys::BPCHARARRAYOID.to_u32(),
    pg_sys::NAMEARRAYOID.to_u32(),
    pg_sys::JSONARRAYOID.to_u32(),
    pg_sys::JSONBARRAYOID.to_u32(),
    pg_sys::ANYELEMENTOID.to_u32(),
    pg_sys::ANYNONARRAYOID.to_u32(),
    pg_sys::ANYARRAYOID.to_u32(),
    pg_sys::RECORDOID.to_u32(),
];

/// Returns what the bodies of SECURITY DEFINER routines of governed schemas let the clients do that
/// may execute them, in the order of the routines' OIDs.
pub fn definer_bodies(
    state: &State,
    cx: &Context<'_>,
    (catalog, identities): (&Mentioned<'_>, &Identities),
) -> Rc<Vec<DefinerBody>> {
    let reader = Reader { state, catalog, identities };
    let mut found = Vec::new();
    for (routine, _) in cx.routines() {
        let clients: Vec<Oid> = callers(cx, routine).iter().map(|role| role.oid).collect();
        if !clients.is_empty() {
            interrupts();
            found.extend(reader.read(routine, &clients));
        }
    }
    found.sort_by_key(|body| body.routine);
    Rc::new(found)
}

/// Reads the bodies of routines.
struct Reader<'a> {
    state: &'a State,
    catalog: &'a Mentioned<'a>,
    identities: &'a Identities,
}

impl Reader<'_> {
    fn read(&self, routine: &Routine, clients: &[Oid]) -> Option<DefinerBody> {
        let table = Table::open(oids::PG_PROC);
        let (mut found, keys) = (None, [(table.column("oid"), routine.oid)]);
        table.lookup(self.state, oids::PG_PROC_OID_INDEX, &keys, |row| {
            found = Some(self.body(&table, row, routine, clients));
        });
        found
    }

    fn body(&self, table: &Table, row: Row<'_>, routine: &Routine, clients: &[Oid]) -> DefinerBody {
        let column = |name| table.column(name);
        let (names, modes) = (row.raw(column("proargnames")), row.raw(column("proargmodes")));
        let mut names = argument_names(names, modes);
        names.resize(routine.arguments.len(), String::new());
        let language = language_of(self.state, row.oid(column("prolang")));
        let source = row.text(column("prosrc")).unwrap_or_default();
        let arguments: Vec<Argument> = names
            .iter()
            .zip(&routine.arguments)
            .map(|(name, of)| Argument { name: name.clone(), is_text: self.is_text(*of) })
            .collect();
        let uses = uses(&source, language, &routine.name, &arguments);
        let statements = if let Some(parsed) = row.text(column("prosqlbody")) {
            stored::queries(&parsed).ok()
        } else {
            let path = settings(&routine.config).last().map(|path| (*path).to_owned());
            let (function, owner) = (routine.oid, routine.owner);
            let is_definer = true;
            self.of_text(&Text { function, language, source: &source, path, owner, is_definer })
        };
        // It can set the role, or what says who the caller is.
        let statements = statements.filter(|_| routine.config.iter().all(|item| is_harmless(item)));
        let accesses = |client: &Oid| {
            let body = CalledBody {
                catalog: self.catalog,
                identities: self.identities,
                client: *client,
                owner: routine.owner,
                arguments: &names,
                statements: statements.as_deref().unwrap_or_default(),
            };
            (*client, body_accesses(&body))
        };
        DefinerBody {
            routine: routine.oid,
            accesses: clients.iter().map(accesses).collect(),
            executed: uses
                .executed
                .map(|of| ExecutedText { argument: of.argument, is_tested: of.is_tested }),
            parameters: uses
                .settings
                .into_iter()
                .map(|set| SetParameter {
                    name: set.name,
                    argument: set.chosen.argument,
                    is_tested: set.chosen.is_tested,
                })
                .collect(),
            is_opaque: statements.is_none(),
        }
    }

    fn of_text(&self, text: &Text<'_>) -> Option<Vec<Query>> {
        let texts = self.catalog.texts()?.statements(text)?;
        texts.iter().map(|text| stored::query(text).ok().flatten()).collect()
    }

    /// Whether a value of a type can contain any text: of the types of applications, those that are
    /// no enumerations.
    fn is_text(&self, of: Oid) -> bool {
        let kind =
            || of_row(self.state, oids::TYPE_BY_OID, of, "typtype", |row, kind| row.char(kind));
        TEXTS.contains(&of) || (of >= FIRST_NORMAL && kind() != Some(b'e'))
    }
}

/// Whether a setting of a routine has nothing to do with who the caller is.
fn is_harmless(item: &str) -> bool {
    let name = item.split('=').next().unwrap_or_default().to_ascii_lowercase();
    !name.contains('.')
        && !matches!(name.as_str(), "role" | "session_authorization" | "row_security")
}
