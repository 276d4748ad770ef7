//! What a session knows of routines that no index and no dependency leads to: those that name a
//! schema in their search_path, those whose callers may choose types, and those with an argument of
//! a type outside of `pg_catalog`. A session determines it in one pass over the routines; later, it
//! looks at the routines for which the server has reported a change.

use super::caller_typed::may_choose_types;
use super::oids;
use crate::pg::VERSION;
use crate::pg::heap::{Row, State, Table, of_row};
use crate::pg::text::is_utf8;
use dragonfly_core::catalog::{FIRST_UNPINNED, Oid, OidMap, OidSet, Snapshot};
use dragonfly_core::search_path::settings;
use dragonfly_reader::Column;
use dragonfly_reader::quoted_path::with_quoted_path;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

/// The routines, as far as they are known.
#[derive(Default)]
struct Known {
    /// Those that a question may be about.
    routines: OidMap<Routine>,
    paths: Paths,
    /// The routines that have changed since.
    changed: OidSet,
}

/// What is known of a routine.
struct Routine {
    owner: Oid,
    is_definer: bool,
    /// Its search_paths, by their position in [`Paths`].
    paths: Option<usize>,
    /// Whether its callers may choose types or pass cursors.
    may_choose_types: bool,
    /// The types of its arguments outside of `pg_catalog`: the server pins those in it.
    arguments: Box<[Oid]>,
}

impl Routine {
    /// Whether a question may be about it.
    fn counts(&self) -> bool {
        self.is_definer && (self.paths.is_some() || self.may_choose_types)
            || !self.arguments.is_empty()
    }
}

/// The distinct search_paths: thousands of routines share a few.
#[derive(Default)]
struct Paths {
    /// The names in each.
    names: Vec<HashSet<String>>,
    /// The positions by the stored settings.
    by_settings: HashMap<Vec<u8>, Option<usize>>,
}

impl Paths {
    /// Returns the position of the search_paths in the settings of a routine; `None` where it has
    /// none.
    fn position(&mut self, row: &Row<'_>, config: Column) -> Option<usize> {
        if row.is_null(config) {
            return None;
        }
        row.with_bytes(config, |stored| {
            if let Some(known) = self.by_settings.get(stored) {
                return *known;
            }
            let config = with_quoted_path(&State::now(), row.texts(config));
            let paths = settings(&config);
            let position = (!paths.is_empty()).then_some(self.names.len());
            if position.is_some() {
                // Of a snapshot, splitting needs only what is the same as long as a session runs.
                let session =
                    Snapshot { version: VERSION, cuts_names: is_utf8(), ..Snapshot::default() };
                let split = paths.into_iter().filter_map(|path| session.split_path(path).ok());
                self.names.push(split.flatten().collect());
            }
            self.by_settings.insert(stored.to_vec(), position);
            position
        })
    }
}

/// The number of changed routines from which on all are read again, and so the number of settings
/// that no routine may have any longer.
const MOST_CHANGED: usize = 10_000;

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
    /// How many routines have been looked at since all have been read.
    static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
}

/// Records that a routine may have changed, 0 for any. Called by callbacks of caches: reads no
/// catalog.
pub fn changed(routine: Oid) {
    KNOWN.with_borrow_mut(|known| {
        if let Some(all) = known {
            if routine == 0 || all.changed.len() >= MOST_CHANGED {
                *known = None;
            } else {
                all.changed.insert(routine);
            }
        }
    });
}

/// Returns the SECURITY DEFINER routines whose search_path contains one of some names, with all
/// changes of this transaction. `snapshot` has the roles: "$user" stands for the name of the owner.
pub fn searching(names: &HashSet<String>, snapshot: &Snapshot) -> HashSet<Oid> {
    let users = snapshot.roles.iter().filter(|role| names.contains(&role.name));
    let users: OidSet = users.map(|role| role.oid).collect();
    with_current(|known| {
        let is_named = |of: &HashSet<String>| (!of.is_disjoint(names), of.contains("$user"));
        let named: Vec<(bool, bool)> = known.paths.names.iter().map(is_named).collect();
        let searches = |routine: &Routine| {
            let (directly, by_user) = routine.paths.map_or((false, false), |paths| named[paths]);
            routine.is_definer && (directly || by_user && users.contains(&routine.owner))
        };
        known.those(searches).collect()
    })
}

/// Returns the SECURITY DEFINER routines whose callers may choose types or pass cursors.
pub fn choosing_types() -> HashSet<Oid> {
    with_current(|known| known.those(|r| r.is_definer && r.may_choose_types).collect())
}

/// Returns the routines that have a type of one of some schemas, or an array of it, as an argument,
/// with all changes of this transaction.
pub fn with_argument_in(state: &State, schemas: &HashSet<Oid>) -> Vec<Oid> {
    let mut known: OidMap<bool> = OidMap::default();
    let mut is_inside = |one: &Oid| {
        *known.entry(*one).or_insert_with(|| {
            of_row(state, oids::TYPE_BY_OID, *one, "typnamespace", |row, of| row.oid(of))
                .is_some_and(|schema| schemas.contains(&schema))
        })
    };
    let mut routines = with_own_types();
    routines.retain(|(_, types)| types.iter().any(&mut is_inside));
    routines.into_iter().map(|(oid, _)| oid).collect()
}

/// Returns the routines with an argument of a type outside of `pg_catalog`, with these types.
fn with_own_types() -> Vec<(Oid, Box<[Oid]>)> {
    with_current(|known| {
        let found = known.routines.iter().filter(|(_, routine)| !routine.arguments.is_empty());
        found.map(|(oid, routine)| (*oid, routine.arguments.clone())).collect()
    })
}

impl Known {
    fn those(&self, is_wanted: impl Fn(&Routine) -> bool) -> impl Iterator<Item = Oid> {
        self.routines.iter().filter(move |(_, routine)| is_wanted(routine)).map(|(oid, _)| *oid)
    }
}

/// Calls `ask` with what is known of the current routines.
fn with_current<T>(ask: impl Fn(&Known) -> T) -> T {
    // SAFETY: processes the invalidations of other sessions.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    let reader = Reader::open();
    if KNOWN.with_borrow(Option::is_none) {
        // What changes from now on is looked at afterwards.
        KNOWN.set(Some(Known::default()));
        let Known { routines, paths, .. } = reader.all();
        with_known(|known| (known.routines, known.paths) = (routines, paths));
        LOOKED_AT.set(0);
    }
    // A look at a routine may report changes of others.
    while let Some(changed) = next_changed() {
        reader.look_at(changed);
    }
    let answer = KNOWN.with_borrow(|known| known.as_ref().map(&ask));
    // So many have changed meanwhile that nothing is known any longer.
    answer.unwrap_or_else(|| ask(&reader.all()))
}

fn next_changed() -> Option<Oid> {
    if LOOKED_AT.get() > MOST_CHANGED {
        KNOWN.set(None);
    }
    with_known(|known| {
        let next = known.changed.iter().next().copied()?;
        known.changed.take(&next)
    })
    .flatten()
}

/// Reads `pg_proc`.
struct Reader {
    table: Table,
    oid: Column,
    owner: Column,
    security_definer: Column,
    config: Column,
    arguments: Column,
    result: Column,
}

impl Reader {
    fn open() -> Self {
        let table = Table::open(oids::PG_PROC);
        Self {
            oid: table.column("oid"),
            owner: table.column("proowner"),
            security_definer: table.column("prosecdef"),
            config: table.column("proconfig"),
            arguments: table.column("proargtypes"),
            result: table.column("prorettype"),
            table,
        }
    }

    /// Reads all routines that users have created. The state is taken now: it shows what was
    /// reported as changed before.
    fn all(&self) -> Known {
        let mut known = Known::default();
        self.table.scan(&State::now(), |row| {
            let routine = self.routine(&row, &mut known.paths);
            if routine.counts() {
                known.routines.insert(row.oid(self.oid), routine);
            }
        });
        known
    }

    fn routine(&self, row: &Row<'_>, paths: &mut Paths) -> Routine {
        let is_definer = row.bool(self.security_definer);
        let mut arguments = row.oids(self.arguments);
        let may_choose_types = is_definer && may_choose_types(row.oid(self.result), &arguments);
        arguments.retain(|of| *of >= FIRST_UNPINNED);
        Routine {
            owner: row.oid(self.owner),
            is_definer,
            paths: if is_definer { paths.position(row, self.config) } else { None },
            may_choose_types,
            arguments: arguments.into(),
        }
    }

    /// Looks up a routine in the system cache, and caches what it is now.
    fn look_at(&self, oid: Oid) {
        LOOKED_AT.set(LOOKED_AT.get() + 1);
        // Reading a row may report changes.
        let Some(mut paths) = with_known(|known| std::mem::take(&mut known.paths)) else { return };
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        // SAFETY: the tuple is of the catalog, used while it is held, and released.
        let routine = unsafe {
            let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(oid));
            (!tuple.is_null()).then(|| {
                let routine = self.routine(&Row::from_tuple(tuple, &self.table), &mut paths);
                pg_sys::ReleaseSysCache(tuple);
                routine
            })
        };
        with_known(|known| {
            known.paths = paths;
            match routine.filter(Routine::counts) {
                Some(routine) => _ = known.routines.insert(oid, routine),
                None => _ = known.routines.remove(&oid),
            }
        });
    }
}

/// Calls `change` with what is known, where anything is.
fn with_known<T>(change: impl FnOnce(&mut Known) -> T) -> Option<T> {
    KNOWN.with_borrow_mut(|known| known.as_mut().map(change))
}
