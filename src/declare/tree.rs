//! The parse tree of statements as the server's grammar returns it, before any name is looked up.

use crate::pg::list::nodes;
use crate::pg::text::{from_server, to_server};
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

/// A node of a parse tree, which lives as long as the call of the SQL function.
pub struct Tree<T = pg_sys::Node> {
    node: NonNull<T>,
    of: PhantomData<T>,
}

impl<T> Clone for Tree<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Tree<T> {}

impl<T> Deref for Tree<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a node of a parse tree, which nothing changes and whose memory context lives as
        // long as the call.
        unsafe { self.node.as_ref() }
    }
}

/// The tag of a kind of nodes.
pub trait Kind {
    const TAG: pg_sys::NodeTag;
}

macro_rules! kinds {
    ($($kind:ident $tag:ident),* $(,)?) => {
        $(impl Kind for pg_sys::$kind {
            const TAG: pg_sys::NodeTag = pg_sys::NodeTag::$tag;
        })*
    };
}

kinds! {
    A_Const T_A_Const,
    AccessPriv T_AccessPriv,
    AlterFunctionStmt T_AlterFunctionStmt,
    AlterObjectSchemaStmt T_AlterObjectSchemaStmt,
    AlterRoleSetStmt T_AlterRoleSetStmt,
    AlterRoleStmt T_AlterRoleStmt,
    AlterTableCmd T_AlterTableCmd,
    AlterTableStmt T_AlterTableStmt,
    ColumnDef T_ColumnDef,
    CommentStmt T_CommentStmt,
    Constraint T_Constraint,
    CreateFunctionStmt T_CreateFunctionStmt,
    CreatePolicyStmt T_CreatePolicyStmt,
    CreateRoleStmt T_CreateRoleStmt,
    CreateSchemaStmt T_CreateSchemaStmt,
    CreateSeqStmt T_CreateSeqStmt,
    CreateStmt T_CreateStmt,
    CreateTableAsStmt T_CreateTableAsStmt,
    DefElem T_DefElem,
    DropRoleStmt T_DropRoleStmt,
    DropStmt T_DropStmt,
    FunctionParameter T_FunctionParameter,
    GrantRoleStmt T_GrantRoleStmt,
    GrantStmt T_GrantStmt,
    ObjectWithArgs T_ObjectWithArgs,
    RangeVar T_RangeVar,
    RawStmt T_RawStmt,
    RenameStmt T_RenameStmt,
    RoleSpec T_RoleSpec,
    SelectStmt T_SelectStmt,
    TypeCast T_TypeCast,
    TypeName T_TypeName,
    VariableSetStmt T_VariableSetStmt,
    ViewStmt T_ViewStmt,
}

/// Whether two parts of parse trees are the same, wherever they are in their texts.
pub fn are_equal(one: Tree, other: Tree) -> bool {
    // SAFETY: two nodes of parse trees; the server compares them without side effects.
    unsafe { pg_sys::equal(one.pointer().cast(), other.pointer().cast()) }
}

/// Returns the statements in a text, each with its part of the text. Raises the server's error
/// where the text cannot be parsed.
pub fn statements(sql: &str) -> Vec<(String, Tree)> {
    let bytes = to_server(sql);
    let Ok(text) = CString::new(bytes) else { return vec![] };
    // SAFETY: a C string; the parser copies what it keeps of it.
    let list =
        unsafe { pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT) };
    let all = text.as_bytes();
    list_of(list)
        .into_iter()
        .filter_map(Tree::cast::<pg_sys::RawStmt>)
        .filter_map(|raw| {
            let begin = (raw.stmt_location.max(0) as usize).min(all.len());
            let length = raw.stmt_len as usize;
            let end = if length == 0 { all.len() } else { (begin + length).min(all.len()) };
            Some((from_server(&all[begin..end]).trim().to_owned(), raw.below(|raw| raw.stmt)?))
        })
        .collect()
}

fn list_of(list: *mut pg_sys::List) -> Vec<Tree> {
    // SAFETY: a list of a parse tree contains nodes.
    unsafe { nodes(list) }
        .filter_map(NonNull::new)
        .map(|node| Tree { node, of: PhantomData })
        .collect()
}

impl<T> Tree<T> {
    /// The tag of the node.
    pub fn tag(self) -> pg_sys::NodeTag {
        // SAFETY: every node begins with its tag.
        unsafe { self.node.cast::<pg_sys::Node>().as_ref().type_ }
    }

    /// Returns the node without its kind.
    pub fn untyped(self) -> Tree {
        Tree { node: self.node.cast(), of: PhantomData }
    }

    /// Returns the node as one of this kind; `None` where it is of another kind.
    pub fn cast<U: Kind>(self) -> Option<Tree<U>> {
        (self.tag() == U::TAG).then(|| Tree { node: self.node.cast(), of: PhantomData })
    }

    /// Returns the node in one of its fields; `None` for a null pointer.
    pub fn below<U>(self, field: impl Fn(&T) -> *mut U) -> Option<Tree<U>> {
        NonNull::new(field(&self)).map(|node| Tree { node, of: PhantomData })
    }

    /// Returns the nodes of the list in one of its fields.
    pub fn list(self, field: impl Fn(&T) -> *mut pg_sys::List) -> Vec<Tree> {
        list_of(field(&self))
    }

    /// Returns the text in one of its fields; `None` for a null pointer.
    pub fn text(self, field: impl Fn(&T) -> *mut c_char) -> Option<String> {
        text_at(field(&self))
    }
}

impl Tree {
    /// Returns the node for a function of the server.
    pub fn pointer(self) -> *mut pg_sys::Node {
        self.node.as_ptr()
    }

    /// Returns the nodes of a node that is a list; the node itself where it is none.
    pub fn elements(self) -> Vec<Tree> {
        match self.tag() {
            pg_sys::NodeTag::T_List => list_of(self.node.as_ptr().cast()),
            _ => vec![self],
        }
    }

    /// Returns the value of a node that is a string, number or boolean, or a constant; `None` for
    /// any other node, and for NULL.
    pub fn value(self) -> Option<String> {
        // SAFETY: a node is what its tag says; the value of a constant begins with a tag, too, and
        // is none of the parser's pointers.
        unsafe {
            let node = self.node.as_ptr();
            match self.tag() {
                pg_sys::NodeTag::T_String => text_at((*node.cast::<pg_sys::String>()).sval),
                pg_sys::NodeTag::T_Float => text_at((*node.cast::<pg_sys::Float>()).fval),
                pg_sys::NodeTag::T_Integer => {
                    Some((*node.cast::<pg_sys::Integer>()).ival.to_string())
                }
                pg_sys::NodeTag::T_Boolean => {
                    Some((*node.cast::<pg_sys::Boolean>()).boolval.to_string())
                }
                pg_sys::NodeTag::T_A_Const => {
                    let constant = node.cast::<pg_sys::A_Const>();
                    if (*constant).isnull {
                        return None;
                    }
                    let value = NonNull::from(&mut (*constant).val).cast::<pg_sys::Node>();
                    Tree { node: value, of: PhantomData }.value()
                }
                pg_sys::NodeTag::T_TypeName => {
                    // A word after SET (option = ...) is read as the name of a type.
                    let names = self.cast::<pg_sys::TypeName>()?.list(|name| name.names);
                    names.last().copied().and_then(Tree::value)
                }
                _ => None,
            }
        }
    }
}

fn text_at(text: *mut c_char) -> Option<String> {
    // SAFETY: the texts of a parse tree are C strings.
    (!text.is_null()).then(|| from_server(unsafe { CStr::from_ptr(text) }.to_bytes()))
}
