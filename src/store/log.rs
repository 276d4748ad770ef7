//! The log table, `dragonfly_guard.log`.

use crate::catalog::Own;
use crate::pg::call::{json_datum, json_text};
use crate::pg::heap::{self, Appended, State, Table};
use crate::pg::text::timestamp;
use pgrx::pg_sys;
use serde_json::Value as Json;
use std::collections::{BTreeMap, VecDeque};

/// The number of rows that are kept.
const KEPT: usize = 10_000;

/// How many rows more than that there may be until some are deleted.
const MARGIN: usize = 1_000;

/// How many equal entries of the same session followed, and when the last one happened, in
/// microseconds since 2000.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Repeated {
    pub count: u32,
    pub last_at: i64,
}

/// A row to add. `at` is in microseconds since 2000, `json` is the line of the server log.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Row<'a> {
    pub at: i64,
    pub json: &'a str,
    pub repeated: Repeated,
}

/// Adds a row.
pub fn append(row: &Row<'_>) -> Appended {
    let Some(table) = Own::log_table(&State::now()) else { return Appended::Impossible };
    let Ok(mut entry) = serde_json::from_str::<Json>(row.json) else {
        return Appended::Impossible;
    };
    if let (Json::Object(fields), Repeated { count: 1.., last_at }) = (&mut entry, row.repeated) {
        fields.insert("repeated".into(), row.repeated.count.into());
        fields.insert("last_at".into(), timestamp(last_at).into());
    }
    heap::append(
        table,
        &[
            (pg_sys::TIMESTAMPTZOID, pg_sys::Datum::from(row.at)),
            (pg_sys::JSONBOID, json_datum(&entry)),
        ],
    )
}

/// Whether the table contains the row.
pub fn contains(row: &Row<'_>) -> bool {
    let state = State::now();
    let (Some(table), Ok(wanted)) = (Own::log_table(&state), serde_json::from_str(row.json)) else {
        return false;
    };
    let wanted: Json = wanted;
    let table = Table::open(table);
    let (Some(at), Some(entry)) = (table.find("logged_at"), table.find("entry")) else {
        return false;
    };
    let mut found = false;
    table.scan(&state, |stored| {
        if found || stored.timestamp(at) != Some(row.at) {
            return;
        }
        let stored = stored.raw(entry).map(json_text);
        let mut stored: Json =
            stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        if let Json::Object(fields) = &mut stored {
            fields.retain(|key, _| key != "repeated" && key != "last_at");
        }
        found = stored == wanted;
    });
    found
}

/// Deletes rows where there are too many.
pub fn trim() {
    let state = State::now();
    let Some(table) = Own::log_table(&state) else { return };
    let count = heap::count(table, &state);
    if count > KEPT + MARGIN {
        let rows = heap::rows(table, &state, |row, table| Kept {
            at: table
                .find("logged_at")
                .and_then(|column| row.timestamp(column))
                .unwrap_or_default(),
            about: table
                .find("entry")
                .and_then(|column| row.raw(column))
                .and_then(|entry| serde_json::from_str(&json_text(entry)).ok())
                .unwrap_or_default(),
        });
        let (rows, places): (Vec<Kept>, Vec<heap::Place>) = rows.into_iter().unzip();
        let spare = spare(rows, count - KEPT);
        heap::delete(table, spare.into_iter().map(|index| places[index]));
    }
}

/// What decides whether a row is kept.
struct Kept {
    at: i64,
    about: About,
}

/// What a row is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(default)]
struct About {
    session_user: String,
    dragonfly_guard: String,
    command: String,
    rule: Option<String>,
}

/// Returns the indexes of as many rows that are needed least: always of the role with the most
/// rows, and of these the oldest of the event, command and rule with the most rows, except for the
/// first one. So a role that causes many entries deletes neither those of other roles nor its own
/// about something else.
fn spare(rows: Vec<Kept>, count: usize) -> Vec<usize> {
    let mut rows: Vec<(usize, Kept)> = rows.into_iter().enumerate().collect();
    rows.sort_by_key(|(_, row)| row.at);
    let mut roles: BTreeMap<String, BTreeMap<About, VecDeque<usize>>> = BTreeMap::new();
    for (index, Kept { about, .. }) in rows {
        let role = roles.entry(about.session_user.clone()).or_default();
        role.entry(about).or_default().push_back(index);
    }
    let total = |role: &BTreeMap<About, VecDeque<usize>>| role.values().map(VecDeque::len).sum();
    let mut spare = Vec::new();
    while spare.len() < count {
        let Some(role) = roles.values_mut().max_by_key(|role| -> usize { total(role) }) else {
            break;
        };
        let Some(group) = role.values_mut().max_by_key(|group| group.len()) else { break };
        let Some(index) = group.remove(1).or_else(|| group.pop_front()) else { break };
        spare.push(index);
    }
    spare
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: i64, role: &str, command: &str) -> Kept {
        let about =
            About { session_user: role.into(), command: command.into(), ..About::default() };
        Kept { at, about }
    }

    #[test]
    fn rows_of_the_role_and_kind_with_the_most_are_deleted_except_for_the_first() {
        let mut rows = vec![row(1, "eve", "GRANT"), row(2, "alice", "GRANT")];
        rows.push(row(3, "eve", "ALTER ROLE"));
        rows.extend((4..100).map(|at| row(at, "eve", "GRANT")));
        let left = |count| {
            let copies = rows.iter().map(|r| Kept { at: r.at, about: r.about.clone() });
            let spare = spare(copies.collect(), count);
            assert_eq!(spare.len(), count);
            let mut left: Vec<usize> = (0..rows.len()).filter(|i| !spare.contains(i)).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(94), [0, 1, 2, 97, 98], "the first ones of each kind, and the newest");
        assert_eq!(left(99), [] as [usize; 0]);
    }

    #[test]
    fn no_more_rows_are_deleted_than_there_are() {
        assert_eq!(spare(vec![row(1, "eve", "GRANT")], 5), [0]);
        assert_eq!(spare(vec![], 5), [] as [usize; 0]);
    }
}
