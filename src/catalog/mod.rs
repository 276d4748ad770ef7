//! Reads `pg_catalog` into a [`dragonfly_core::catalog::Snapshot`], in a few passes over the
//! catalogs.

mod consulted;
mod content_owners;
mod definition;
pub mod deparse;
pub mod drift;
mod guard;
mod in_pg_catalog;
mod known_routines;
mod moved_names;
mod name;
mod object_hash;
mod own;
mod policy_texts;
pub mod renamed;
mod rights;
mod scenarios;
mod snapshot;
mod source;
mod statistics;
pub mod temporary;
mod text_body;
mod type_name;
mod types;
mod unaffected;

use dragonfly_reader::{caller_typed, code, objects, place, roles, routines, toast};

pub use dragonfly_reader::oids;
pub use dragonfly_reader::snapshot::{
    Needed, add_reach, around, base, for_paths, part, with_parts, with_schemas, with_users,
};

pub use crate::pg::{VERSION, release};
pub use consulted::{Consulted, object_changed as consulted_object_changed};
pub use content_owners::contents;
pub use definition::policy as policy_definition;
pub use dragonfly_reader::bodies::{of as bodies_of, read_changed as changed_bodies};
pub use dragonfly_reader::caller_typed::{row_type_of_another_owner, row_type_with_new_types};
pub use dragonfly_reader::code::ancestors;
pub use dragonfly_reader::definer_bodies::definer_body;
pub use dragonfly_reader::dependencies::{
    Users, domain_of_constraint, executed_by, may_use_others, uses_of,
};
pub use dragonfly_reader::exposures::exposures;
pub use dragonfly_reader::expressions::Mentioned;
pub use dragonfly_reader::extension::Own;
pub use dragonfly_reader::guard::read as guard;
pub use dragonfly_reader::name::{identity, qualified_name};
pub use dragonfly_reader::objects::{
    behind_view, columns, computed_columns, has_row_security, has_rules, is_populated, is_view,
    is_written, members, members_of_extensions, owner as relation_owner, relation_acl,
    relation_kind, renamed_schemas, unique_key, views_among, views_over,
};
pub use dragonfly_reader::place::{Place, place};
pub use dragonfly_reader::policies::relations_with_call as relations_with_policy_that_calls;
pub use dragonfly_reader::question::QUESTIONS;
pub use dragonfly_reader::roles::{owns_objects, stored_setting};
pub use dragonfly_reader::routines::Concerning;
pub use dragonfly_reader::routines::{
    acl as routine_acl, argument_type_oids, argument_types_of, definer, has_expressions, has_text,
    named as routines_named, owner as routine_owner, validator,
    with_argument as routines_with_argument,
};
pub use dragonfly_reader::server_objects::{
    forget_new_large_objects, may_be_owned as may_be_owned_by_requests, read as server_objects,
};
pub use dragonfly_reader::stored_policies::{StoredPolicy, stored_policies};
pub use dragonfly_reader::texts::code;
pub use dragonfly_reader::toast::is_granted_toast;
pub use dragonfly_reader::types::types_containing;
pub use dragonfly_reader::updatable::{Target, WRITES, facts, may_write, target};
pub use guard::{disables_guard, impostor, in_own_script, weakens};
pub use in_pg_catalog::changed as contents_of_pg_catalog_changed;
pub use known_routines::{
    changed as known_routine_changed, choosing_types as routines_choosing_types,
    with_argument_in as routines_with_argument_in,
};
pub use moved_names::MovedNames;
pub use name::{description, name, relation_named, schema_named, signature};
pub use object_hash::{
    Freshness, cache as cache_hashes, earlier_hash, hash_differs, is_redefined, object_hash,
    products, relations_of_body,
};
pub use own::find_own;
pub use policy_texts::{PolicyTexts, policy_texts};
pub use rights::has_active_policies;
pub use scenarios::scenarios;
pub use snapshot::{
    Exposures, add_definer_bodies, add_exposures, concerning, current_base, for_audit, forget_base,
    forget_schemas, full, mentioned, objects_of, routine, with_exposures,
};
pub use source::quoted_path;
pub use statistics::statistics_are_hidden;
pub use type_name::{argument_types, current as current_type_name, is_renamed as type_is_renamed};
pub use types::type_running_code;
pub use unaffected::{is_relation_unaffected, is_row_unaffected, is_type_unaffected};

/// The OIDs of catalogs.
pub use dragonfly_reader::oids::{
    PG_CAST, PG_CLASS, PG_CONSTRAINT, PG_EVENT_TRIGGER, PG_EXTENSION, PG_LARGEOBJECT, PG_NAMESPACE,
    PG_OPERATOR, PG_POLICY, PG_PROC, PG_TYPE,
};
