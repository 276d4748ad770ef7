//! The permissions that the server checks before it executes a query, as the range table lists
//! them.

use crate::catalog;
use crate::pg::heap::State;
use crate::pg::list::nodes;
use crate::pg::text::from_server;
use dragonfly_core::catalog::{Oid, Privileges};
use dragonfly_core::explain::Need;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Returns the permissions that one level of a query needs on relations.
///
/// # Safety
/// `query` is a query.
#[cfg(feature = "pg15")]
pub(super) unsafe fn relations(query: *mut pg_sys::Query, depth: u32) -> Vec<Permissions> {
    let mut found = Vec::new();
    // SAFETY: as the caller promises; a range table holds entries.
    unsafe {
        for (entry, number) in nodes((*query).rtable).zip(1..) {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                found.push(Permissions {
                    relation: (*entry).relid,
                    is_target: is_target(query, depth, number),
                    required: (*entry).requiredPerms,
                    check_as: (*entry).checkAsUser,
                    selected: (*entry).selectedCols,
                    inserted: (*entry).insertedCols,
                    updated: (*entry).updatedCols,
                });
            }
        }
    }
    found
}

/// Returns the permissions that one level of a query needs on relations.
///
/// # Safety
/// `query` is a query.
#[cfg(not(feature = "pg15"))]
pub(super) unsafe fn relations(query: *mut pg_sys::Query, depth: u32) -> Vec<Permissions> {
    let mut found = Vec::new();
    // SAFETY: as the caller promises; the lists hold what their names say.
    unsafe {
        for (info, place) in nodes((*query).rteperminfos).zip(1..) {
            let info = info.cast::<pg_sys::RTEPermissionInfo>();
            let entry = |entry: *mut pg_sys::Node| {
                (*entry.cast::<pg_sys::RangeTblEntry>()).perminfoindex == place
            };
            let number = nodes((*query).rtable).position(entry).map_or(0, |at| at as i32 + 1);
            found.push(Permissions {
                relation: (*info).relid,
                is_target: is_target(query, depth, number),
                required: (*info).requiredPerms,
                check_as: (*info).checkAsUser,
                selected: (*info).selectedCols,
                inserted: (*info).insertedCols,
                updated: (*info).updatedCols,
            });
        }
    }
    found
}

/// Returns the columns that a query changes.
///
/// # Safety
/// `query` is a query, and the entry is of its range table.
pub(super) unsafe fn changed_columns(
    _query: *mut pg_sys::Query,
    entry: *mut pg_sys::RangeTblEntry,
) -> Vec<String> {
    // SAFETY: as the caller promises.
    unsafe {
        #[cfg(feature = "pg15")]
        let columns = (*entry).updatedCols;
        #[cfg(not(feature = "pg15"))]
        let columns = match nodes((*_query).rteperminfos)
            .nth((*entry).perminfoindex.wrapping_sub(1) as usize)
        {
            Some(info) => (*info.cast::<pg_sys::RTEPermissionInfo>()).updatedCols,
            None => std::ptr::null_mut(),
        };
        names((*entry).relid, columns)
    }
}

/// Whether the result of the statement comes from this entry of the range table: it is the relation
/// that the statement itself reads or changes.
///
/// # Safety
/// `query` is a query.
unsafe fn is_target(query: *mut pg_sys::Query, depth: u32, number: i32) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        let (counts, changed) = ((*query).canSetTag, (*query).resultRelation);
        // A row of constant values is inserted in any case.
        let inserts = (*query).commandType == pg_sys::CmdType::CMD_INSERT
            && !(*query).jointree.is_null()
            && (*(*query).jointree).fromlist.is_null()
            && (*(*query).jointree).quals.is_null();
        depth == 0 && (counts || inserts) && (changed == 0 || changed == number)
    }
}

/// The permissions that a query needs on one relation, as the server lists them.
pub(super) struct Permissions {
    relation: pg_sys::Oid,
    is_target: bool,
    required: pg_sys::AclMode,
    check_as: pg_sys::Oid,
    selected: *mut pg_sys::Bitmapset,
    inserted: *mut pg_sys::Bitmapset,
    updated: *mut pg_sys::Bitmapset,
}

impl Permissions {
    /// Returns the need; `None` where no permission is required.
    ///
    /// # Safety
    /// The columns are sets of the relation's columns, as the server makes them.
    pub(super) unsafe fn need(&self) -> Option<Need> {
        if self.required == 0 {
            return None;
        }
        // SAFETY: as the caller promises.
        let columns = |set| unsafe { names(self.relation, set) };
        #[allow(clippy::unnecessary_cast, reason = "the type has 32 bits in PostgreSQL 15")]
        let privileges = Privileges(self.required as u32);
        let selected = columns(self.selected);
        let reads_no_column = privileges.contains(Privileges::SELECT) && selected.is_empty();
        let any_column =
            reads_no_column.then(|| all_columns(self.relation.to_u32()).into_iter().next());
        Some(Need {
            relation: self.relation.to_u32(),
            check_as: Some(self.check_as.to_u32()).filter(|oid| *oid != 0),
            privileges,
            selected,
            any_column: any_column.flatten(),
            inserted: columns(self.inserted),
            updated: columns(self.updated),
            is_target: self.is_target,
            is_partial: true,
            ..Need::default()
        })
    }
}

/// The names of the columns in a set, in which they are numbered from the first system column. The
/// whole row is all of them.
///
/// # Safety
/// A set of the relation's columns, or null.
pub(super) unsafe fn names(relation: pg_sys::Oid, set: *mut pg_sys::Bitmapset) -> Vec<String> {
    let mut names = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: as the caller promises; a negative number is the end.
        member = unsafe { pg_sys::bms_next_member(set, member) };
        if member < 0 {
            return names;
        }
        let number = member + pg_sys::FirstLowInvalidHeapAttributeNumber;
        if number == 0 {
            return all_columns(relation.to_u32());
        }
        names.extend(column_name(relation, number as pg_sys::AttrNumber));
    }
}

/// Returns the name of a column; `None` where there is no such column.
pub(super) fn column_name(relation: pg_sys::Oid, number: pg_sys::AttrNumber) -> Option<String> {
    // SAFETY: a look-up in the system cache; null or a C string.
    unsafe {
        let name = pg_sys::get_attname(relation, number, true);
        (!name.is_null()).then(|| from_server(CStr::from_ptr(name).to_bytes()))
    }
}

/// Returns the columns of a relation in their order.
pub fn all_columns(relation: Oid) -> Vec<String> {
    catalog::columns(&State::now(), relation)
}

/// Whether a column can be updated by its name: of a view, one that is no expression.
pub fn is_updatable_column(relation: Oid, column: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(crate::pg::text::to_server(column)) else { return false };
    // SAFETY: look-ups by the server's own functions; it raises no error for a relation that does
    // not exist. The set and the list are null or allocated in the current memory context.
    unsafe {
        let number = pg_sys::get_attnum(relation.into(), name.as_ptr());
        let place = i32::from(number) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        let columns = pg_sys::bms_make_singleton(place);
        let events =
            pg_sys::relation_is_updatable(relation.into(), std::ptr::null_mut(), true, columns);
        number > 0 && events & (1 << pg_sys::CmdType::CMD_UPDATE) != 0
    }
}
