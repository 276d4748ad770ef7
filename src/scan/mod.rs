//! `pg_catalog` into a [`Snapshot`]: a few passes over the catalogs, each read once.

mod guard;
mod objects;
pub mod own;
mod planted;
mod policies;
mod roles;
mod routines;

use crate::pg::heap::Latest;
use dragonfly_core::catalog::{Oid, Routine, Snapshot};
use dragonfly_core::contract::Contract;
use own::Own;
use std::collections::HashSet;

/// OIDs of catalogs and their indexes, which are the same in every release (the headers in `src/include/catalog`).
mod oids {
    use dragonfly_core::catalog::Oid;

    pub const PG_ATTRIBUTE: Oid = 1249;
    pub const PG_ATTRIBUTE_RELID_INDEX: Oid = 2659;
    pub const PG_AUTHID: Oid = 1260;
    pub const PG_AUTH_MEMBERS: Oid = 1261;
    pub const PG_CLASS: Oid = 1259;
    pub const PG_CONSTRAINT: Oid = 2606;
    pub const PG_CONSTRAINT_RELID_INDEX: Oid = 2665;
    pub const PG_CLASS_OID_INDEX: Oid = 2662;
    pub const PG_DATABASE: Oid = 1262;
    pub const PG_DB_ROLE_SETTING: Oid = 2964;
    pub const PG_DEFAULT_ACL: Oid = 826;
    pub const PG_DEPEND: Oid = 2608;
    pub const PG_DEPEND_DEPENDER_INDEX: Oid = 2673;
    pub const PG_DEPEND_REFERENCE_INDEX: Oid = 2674;
    pub const PG_EVENT_TRIGGER: Oid = 3466;
    pub const PG_EXTENSION: Oid = 3079;
    pub const PG_NAMESPACE: Oid = 2615;
    pub const PG_OPERATOR: Oid = 2617;
    pub const PG_PARAMETER_ACL: Oid = 6243;
    pub const PG_POLICY: Oid = 3256;
    pub const PG_PROC: Oid = 1255;
    pub const PG_PROC_OID_INDEX: Oid = 2690;
    pub const PG_SHDEPEND: Oid = 1214;
    pub const PG_SHDEPEND_REFERENCE_INDEX: Oid = 1233;
    pub const PG_TRIGGER: Oid = 2620;
    pub const PG_TRIGGER_RELID_INDEX: Oid = 2701;
    pub const PG_TYPE: Oid = 1247;
}

/// The server's major version.
pub const VERSION: u32 = pgrx::pg_sys::PG_VERSION_NUM / 10_000;

/// Everything that the rules look at.
pub fn whole(latest: &Latest, contract: &Contract, own: &Own) -> Snapshot {
    let mut snapshot = base(latest);
    let governed = governed(&snapshot, contract);
    objects::relations(latest, &governed, &mut snapshot);
    objects::extensions(latest, &mut snapshot);
    objects::default_acls(latest, &mut snapshot);
    policies::read(latest, &mut snapshot);
    routines::all(latest, &governed, &mut snapshot);
    guard::read(latest, own, &mut snapshot);
    snapshot.complete()
}

/// What judging search paths takes, with everything that schemas hold.
pub fn for_paths(latest: &Latest) -> Snapshot {
    let mut snapshot = base(latest);
    objects::relations(latest, &HashSet::new(), &mut snapshot);
    objects::extensions(latest, &mut snapshot);
    routines::all(latest, &HashSet::new(), &mut snapshot);
    snapshot.complete()
}

/// What judging a few routines takes, at a cost that does not grow with the number of routines or tables there are: `oids` are
/// the routines; the contents of schemas are left to [`planted`].
pub fn for_routines(latest: &Latest, oids: &[Oid]) -> Snapshot {
    let mut snapshot = base(latest);
    objects::extension_names(latest, &mut snapshot);
    routines::some(latest, oids, &mut snapshot);
    snapshot.complete()
}

/// One routine as it is; `None` where it is not there, or in a temporary schema.
pub fn routine(latest: &Latest, oid: Oid) -> Option<Routine> {
    let mut snapshot = Snapshot::default();
    routines::some(latest, &[oid], &mut snapshot);
    snapshot.routines.pop()
}

pub use guard::impostor;
pub use planted::{Found, find as planted};
pub use routines::{Before, of_extension as routines_of_extension, of_schema as routines_of_schema, quoted_path};

/// Roles, memberships, the database, schemas.
fn base(latest: &Latest) -> Snapshot {
    let cuts_names = crate::pg::text::is_utf8();
    let mut snapshot = Snapshot { version: VERSION, cuts_names, ..Snapshot::default() };
    roles::read(latest, &mut snapshot);
    objects::schemas(latest, &mut snapshot);
    snapshot
}

/// The governed schemas that exist.
fn governed(snapshot: &Snapshot, contract: &Contract) -> HashSet<Oid> {
    snapshot.schemas.iter().filter(|s| contract.schema(&s.name).is_some()).map(|s| s.oid).collect()
}
