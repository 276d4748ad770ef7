//! The routines that a GRANT or REVOKE changes. No hook and no cache callback reports these, so
//! they are taken from the parse tree; their new state is read from the catalog.

use crate::catalog;
use crate::pg::list::nodes;
use dragonfly_core::catalog::Oid;
use pgrx::pg_sys;

/// Returns the routines whose privileges a statement changes: a GRANT or REVOKE, by itself or as an
/// element of CREATE SCHEMA.
pub fn routines_of(statement: *mut pg_sys::Node) -> Vec<Oid> {
    // SAFETY: the parse tree of the command that has just ended; each cast follows the node's tag.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_GrantStmt => of_grant(statement.cast()),
            pg_sys::NodeTag::T_CreateSchemaStmt => {
                let elements = nodes((*statement.cast::<pg_sys::CreateSchemaStmt>()).schemaElts);
                let grants = elements.filter(|node| (**node).type_ == pg_sys::NodeTag::T_GrantStmt);
                grants.flat_map(|node| of_grant(node.cast())).collect()
            }
            _ => vec![],
        }
    }
}

/// Whether a statement changes privileges on objects of the server that belong to no schema, by
/// itself or as an element of CREATE SCHEMA. (Changes of relations and routines are reported with
/// their OIDs.)
pub fn may_concern_server(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::ObjectType::{
        OBJECT_FDW, OBJECT_FOREIGN_SERVER, OBJECT_LANGUAGE, OBJECT_LARGEOBJECT,
        OBJECT_PARAMETER_ACL, OBJECT_TABLESPACE,
    };
    // SAFETY: a parse tree; each cast follows the node's tag.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_GrantStmt => matches!(
                (*statement.cast::<pg_sys::GrantStmt>()).objtype,
                OBJECT_FDW
                    | OBJECT_FOREIGN_SERVER
                    | OBJECT_LANGUAGE
                    | OBJECT_LARGEOBJECT
                    | OBJECT_PARAMETER_ACL
                    | OBJECT_TABLESPACE
            ),
            pg_sys::NodeTag::T_CreateSchemaStmt => {
                nodes((*statement.cast::<pg_sys::CreateSchemaStmt>()).schemaElts)
                    .any(may_concern_server)
            }
            _ => false,
        }
    }
}

/// Whether a statement grants privileges to PUBLIC, by itself or as an element of CREATE SCHEMA.
pub fn is_to_public(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the parse tree of the command that has just ended; each cast follows the node's tag,
    // and grantees are role specifications.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_GrantStmt => {
                let grant = statement.cast::<pg_sys::GrantStmt>();
                (*grant).is_grant
                    && nodes((*grant).grantees).any(|role| {
                        (*role.cast::<pg_sys::RoleSpec>()).roletype
                            == pg_sys::RoleSpecType::ROLESPEC_PUBLIC
                    })
            }
            pg_sys::NodeTag::T_CreateSchemaStmt => {
                let elements = nodes((*statement.cast::<pg_sys::CreateSchemaStmt>()).schemaElts);
                let mut grants =
                    elements.filter(|node| (**node).type_ == pg_sys::NodeTag::T_GrantStmt);
                grants.any(is_to_public)
            }
            _ => false,
        }
    }
}

/// # Safety
/// `grant` is a valid statement that has been executed.
unsafe fn of_grant(grant: *mut pg_sys::GrantStmt) -> Vec<Oid> {
    use pg_sys::ObjectType::{OBJECT_FUNCTION, OBJECT_PROCEDURE, OBJECT_ROUTINE};
    // SAFETY: `objects` holds names of schemas or routines with their arguments, as `targtype`
    // says.
    unsafe {
        let kind = (*grant).objtype;
        if !matches!(kind, OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE) {
            return vec![];
        }
        let objects = nodes((*grant).objects);
        match (*grant).targtype {
            pg_sys::GrantTargetType::ACL_TARGET_OBJECT => objects
                .map(|routine| pg_sys::LookupFuncWithArgs(kind, routine.cast(), true).to_u32())
                .collect(),
            pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA => objects
                .filter_map(|name| catalog::schema_named(std::ffi::CStr::from_ptr(string(name))))
                .flat_map(catalog::routines_of_schema)
                .collect(),
            _ => vec![],
        }
    }
}

/// Returns the C string of a String node.
///
/// # Safety
/// `node` is a String node.
pub unsafe fn string(node: *mut pg_sys::Node) -> *const std::ffi::c_char {
    // SAFETY: as the caller promises.
    unsafe { (*node.cast::<pg_sys::String>()).sval }
}
