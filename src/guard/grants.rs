//! What a GRANT says about routines. Which routines it has changed is read from the catalog, and
//! not from its names: another session, or a trigger, may have renamed them or changed the
//! search_path since they were looked up.

use crate::pg::list::nodes;
use pgrx::pg_sys;

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

/// Whether a statement grants privileges on routines to PUBLIC, by itself or as an element of
/// CREATE SCHEMA.
pub fn is_to_public(statement: *mut pg_sys::Node) -> bool {
    use pg_sys::ObjectType::{OBJECT_FUNCTION, OBJECT_PROCEDURE, OBJECT_ROUTINE};
    // SAFETY: the parse tree of the command that has just ended; each cast follows the node's tag,
    // and grantees are role specifications.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_GrantStmt => {
                let grant = statement.cast::<pg_sys::GrantStmt>();
                (*grant).is_grant
                    && matches!(
                        (*grant).objtype,
                        OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE
                    )
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

/// Returns the C string of a String node.
///
/// # Safety
/// `node` is a String node.
pub unsafe fn string(node: *mut pg_sys::Node) -> *const std::ffi::c_char {
    // SAFETY: as the caller promises.
    unsafe { (*node.cast::<pg_sys::String>()).sval }
}
