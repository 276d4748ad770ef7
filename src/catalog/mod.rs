//! Reads `pg_catalog` into a [`dragonfly_core::catalog::Snapshot`], in a few passes over the
//! catalogs.

mod bodies;
mod caller;
mod caller_typed;
mod code;
mod consulted;
mod content_owners;
mod definer_bodies;
mod definition;
pub mod deparse;
mod dependencies;
mod detours;
pub mod drift;
mod exposures;
mod expressions;
mod extension;
mod guard;
mod in_pg_catalog;
mod known_routines;
mod moved_names;
mod name;
mod object_hash;
mod objects;
pub mod oids;
mod policies;
mod policy_texts;
mod publications;
mod question;
mod quoted_path;
pub mod renamed;
mod rights;
mod roles;
mod routines;
mod row_triggers;
mod scenarios;
mod server_objects;
mod snapshot;
mod statistics;
mod stored_policies;
pub mod temporary;
mod text_body;
mod texts;
mod toast;
mod type_name;
mod types;
mod unaffected;
mod unique_keys;
mod updatable;

pub use crate::pg::{VERSION, release};
pub use bodies::{of as bodies_of, read_changed as changed_bodies};
pub use caller_typed::{row_type_of_another_owner, row_type_with_new_types};
pub use code::ancestors;
pub use consulted::{Consulted, object_changed as consulted_object_changed};
pub use content_owners::{Place, contents, place};
pub use definer_bodies::definer_body;
pub use definition::policy as policy_definition;
pub use dependencies::{Users, domain_of_constraint, executed_by, may_use_others, uses_of};
pub use exposures::exposures;
pub use expressions::Mentioned;
pub use extension::Own;
pub use guard::{disables_guard, impostor, in_own_script, read as guard, weakens};
pub use in_pg_catalog::changed as contents_of_pg_catalog_changed;
pub use known_routines::{
    changed as known_routine_changed, choosing_types as routines_choosing_types,
};
pub use moved_names::MovedNames;
pub use name::{description, identity, name, qualified_name, signature};
pub use object_hash::{
    Freshness, behind_view, cache as cache_hashes, earlier_hash, hash_differs, is_redefined,
    object_hash, products, relations_of_body,
};
pub use objects::{
    columns, computed_columns, has_row_security, has_rules, is_populated, is_view, is_written,
    members, members_of_extensions, names_in, owner as relation_owner, relation_acl, relation_kind,
    relation_named, renamed_schemas, schema_named, unique_key, views_among, views_over,
};
pub use policies::relations_with_call as relations_with_policy_that_calls;
pub use policy_texts::{PolicyTexts, policy_texts};
pub use question::QUESTIONS;
pub use quoted_path::quoted_path;
pub use rights::has_active_policies;
pub use roles::{owns_objects, stored_setting};
pub use routines::Concerning;
pub use routines::{
    acl as routine_acl, argument_type_oids, argument_types, argument_types_of, bare_type_name,
    definer, has_expressions, has_text, named as routines_named, owner as routine_owner, validator,
    with_argument as routines_with_argument, with_argument_in as routines_with_argument_in,
};
pub use scenarios::scenarios;
pub use server_objects::{
    forget_new_large_objects, may_be_owned as may_be_owned_by_requests, read as server_objects,
};
pub use snapshot::{
    Exposures, Needed, add_definer_bodies, add_exposures, add_reach, around, base, concerning,
    current_base, for_audit, for_paths, forget_base, forget_schemas, full, objects_of, part,
    routine, with_exposures, with_parts, with_schemas, with_users,
};
pub use statistics::statistics_are_hidden;
pub use stored_policies::{StoredPolicy, stored_policies};
pub use texts::{code, named as objects_named, of as texts_of};
pub use toast::is_granted_toast;
pub use type_name::{current as current_type_name, is_renamed as type_is_renamed};
pub use types::{type_running_code, types_containing};
pub use unaffected::{is_relation_unaffected, is_row_unaffected, is_type_unaffected};
pub use updatable::{Target, WRITES, facts, may_write, target};

/// The OIDs of catalogs.
pub use oids::{
    PG_CAST, PG_CLASS, PG_CONSTRAINT, PG_EVENT_TRIGGER, PG_EXTENSION, PG_LARGEOBJECT, PG_NAMESPACE,
    PG_OPERATOR, PG_POLICY, PG_PROC, PG_TYPE,
};
