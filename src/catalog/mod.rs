//! `pg_catalog` into a [`Snapshot`]: a few passes over the catalogs, each read once.

mod content_owners;
mod definition;
pub mod deparse;
pub mod drift;
mod extension;
mod guard;
mod object_hash;
mod objects;
pub mod oids;
mod policies;
mod roles;
mod routines;
pub mod temporary;
mod types;

use crate::pg::heap::State;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::Contract;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// The server's major version.
pub const VERSION: u32 = pgrx::pg_sys::PG_VERSION_NUM / 10_000;

/// Everything that the rules look at.
pub fn whole(state: &State, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = base(state);
    let governed = governed(&snapshot, contract);
    objects::relations(state, &governed, &mut snapshot);
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::all(state, &governed, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.complete()
}

/// What judging search paths takes, with everything that schemas hold.
pub fn for_paths(state: &State) -> Snapshot {
    let mut snapshot = base(state);
    objects::relations(state, &HashSet::new(), &mut snapshot);
    objects::extensions(state, &mut snapshot);
    routines::all(state, &HashSet::new(), &mut snapshot);
    snapshot.complete()
}

/// A few relations and routines, with their policies and extensions, at a cost that does not grow
/// with the number of routines or tables there are. Nothing else: [`around`] adds that.
pub fn part(state: &State, relations: &[Oid], routines: &[Oid]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    objects::some_relations(state, relations, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::some(state, routines, &mut snapshot);
    snapshot
}

/// What judging a part takes, added to it: roles and schemas, which `base` has read, extensions and
/// default privileges. The contents of schemas are left to [`planted`].
pub fn around(part: Snapshot, base: Snapshot, state: &State) -> Snapshot {
    let Snapshot {
        relations,
        policies,
        mut routines,
        routine_extension,
        relation_extension,
        types,
        ..
    } = part;
    // Only the session itself can call what is in its temporary schema, for nothing that lasts may
    // refer to it. (A schema that was temporary may be renamed.)
    let temporary: HashSet<Oid> =
        base.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    routines.retain(|r| !temporary.contains(&r.schema));
    let mut snapshot = Snapshot {
        relations,
        policies,
        routines,
        routine_extension,
        relation_extension,
        types,
        ..base
    };
    objects::extension_names(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    snapshot.complete()
}

/// What has to do with some schemas, which `base` has read with all others: what is in them as far
/// as the contract governs them, what is SECURITY DEFINER in them or searches them, by OID or by
/// name; and the relations and routines of `also`. The contents of schemas are left to [`planted`].
pub fn concerning(
    state: &State,
    base: Snapshot,
    contract: &Contract,
    own: &Own,
    schemas: (&HashSet<Oid>, &HashSet<String>),
    also: (&HashSet<Oid>, &HashSet<Oid>),
) -> Snapshot {
    let mut snapshot = base;
    let (oids, names) = schemas;
    let governed: HashSet<Oid> =
        governed(&snapshot, contract).intersection(oids).copied().collect();
    objects::relations_in(state, &governed, also.0, &mut snapshot);
    policies::read(state, &mut snapshot);
    routines::searching(state, names, oids, also.1, &mut snapshot);
    let temporary: HashSet<Oid> =
        snapshot.schemas.iter().filter(|s| s.is_temporary()).map(|s| s.oid).collect();
    snapshot.routines.retain(|r| !temporary.contains(&r.schema));
    objects::extensions(state, &mut snapshot);
    objects::default_acls(state, &mut snapshot);
    guard::read(state, own, &mut snapshot);
    snapshot.complete()
}

/// One routine as it is; `None` where it is not there, or in a temporary schema.
pub fn routine(state: &State, oid: Oid) -> Option<Routine> {
    let mut snapshot = Snapshot::default();
    objects::schemas(state, &mut snapshot);
    around(part(state, &[], &[oid]), snapshot, state).routines.pop()
}

pub use content_owners::{find as planted, place};
pub use definition::policy as policy_definition;
pub use extension::Own;
pub use guard::{impostor, in_own_script, read as guard};
pub use object_hash::{Freshness, behind_view, cache as cache_hashes, object_hash, products};
pub use objects::{
    columns, has_rules, is_populated, members, members_of_extensions, owner as relation_owner,
    relation_kind, relation_named, schema_named,
};
pub use roles::setting_of;
pub use routines::{
    acl as routine_acl, argument_type_oids, argument_types, argument_types_of,
    named as routines_named, of_schema as routines_of_schema, owner as routine_owner, quoted_path,
    validator,
};
pub use types::live_type;

/// The catalog of an object, by OID.
pub use oids::{
    PG_CAST, PG_CLASS, PG_CONSTRAINT, PG_EVENT_TRIGGER, PG_EXTENSION, PG_NAMESPACE, PG_OPERATOR,
    PG_POLICY, PG_PROC, PG_TYPE,
};

thread_local! {
    /// What [`current_base`] has read last, until something of it changes.
    static BASE: RefCell<Option<Rc<Snapshot>>> = const { RefCell::new(None) };
    static BASE_CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// Roles, memberships, the database, schemas.
pub fn base(state: &State) -> Snapshot {
    let cuts_names = crate::pg::text::is_utf8();
    let mut snapshot = Snapshot { version: VERSION, cuts_names, ..Snapshot::default() };
    roles::read(state, &mut snapshot);
    objects::schemas(state, &mut snapshot);
    snapshot
}

/// The same as it is now, read again only where something of it has changed since: a server can
/// have thousands of roles.
///
/// Whoever commits a change tells the others before it lets go of its locks. So nothing that has
/// been committed in an earlier turn of the guard's is missing here.
pub fn current_base() -> Snapshot {
    // SAFETY: takes in what others have told since.
    unsafe { pgrx::pg_sys::AcceptInvalidationMessages() };
    let known = BASE.with_borrow(Option::clone).unwrap_or_else(|| {
        // What others told us of was committed before we look: the state must be no older than what
        // we know. What they tell us while we read may be in it or not, and so it is not kept.
        BASE_CHANGED.set(false);
        let base = Rc::new(base(&State::now()));
        if !BASE_CHANGED.get() {
            BASE.set(Some(Rc::clone(&base)));
        }
        base
    });
    (*known).clone()
}

/// Something has changed of what [`current_base`] reads.
pub fn forget_base() {
    BASE.set(None);
    BASE_CHANGED.set(true);
}

/// Schema and name of a relation or a routine, as the system cache shows it; `None` for anything
/// else.
pub fn name(class: Oid, object: Oid) -> Option<(String, String)> {
    use pgrx::pg_sys;
    // SAFETY: look-ups in the system cache; null or C strings.
    unsafe {
        let (schema, name) = match class {
            oids::PG_CLASS => {
                (pg_sys::get_rel_namespace(object.into()), pg_sys::get_rel_name(object.into()))
            }
            oids::PG_PROC => {
                (pg_sys::get_func_namespace(object.into()), pg_sys::get_func_name(object.into()))
            }
            _ => return None,
        };
        let schema = pg_sys::get_namespace_name(schema);
        let text = |name: *mut std::ffi::c_char| {
            (!name.is_null())
                .then(|| crate::pg::text::from_server(std::ffi::CStr::from_ptr(name).to_bytes()))
        };
        Some((text(schema)?, text(name)?))
    }
}

/// An object as the server describes it: `view public.v`.
pub fn description(class: pgrx::pg_sys::Oid, object: pgrx::pg_sys::Oid) -> String {
    let address = pgrx::pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 };
    // SAFETY: gives null for what is not there, or a C string.
    unsafe {
        let text = pgrx::pg_sys::getObjectDescription(&address, true);
        match text.is_null() {
            true => "an object".to_owned(),
            false => crate::pg::text::from_server(std::ffi::CStr::from_ptr(text).to_bytes()),
        }
    }
}

/// The governed schemas that exist.
fn governed(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    snapshot.schemas.iter().filter(|s| contract.schema(&s.name).is_some()).map(|s| s.oid).collect()
}
