//! Visiting the nodes of a query or of an expression, one method for each kind of node.

use super::permissions::relations;
use super::reader::Reader;
use super::written::{Written, virtual_columns};
use super::{constant, unused};
use crate::catalog;
use crate::pg::heap::{interrupts, text_of};
use crate::pg::list::nodes;
use crate::pg::text::to_server;
use dragonfly_core::catalog::{Oid, Privileges};
use dragonfly_core::explain::{Moment, Need, parse};
use dragonfly_core::stored::Requires;
use pgrx::{pg_guard, pg_sys};
use std::ffi::{CString, c_void};

/// The callback of the server's tree walkers, whose errors are not Rust's: no Rust code calls it.
#[pg_guard]
unsafe extern "C-unwind" fn walk(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the server passes its own nodes, and the context that `Reader::context` returned.
    unsafe { (*context.cast::<Reader>()).visit(node) }
}

impl Reader {
    /// Returns the context that a tree walker passes to [`walk`]. There are only shared references
    /// to the reader, so that one made from the pointer is valid beside `self`.
    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Reads an expression or a query.
    ///
    /// # Safety
    /// A valid tree, or null.
    pub(super) unsafe fn expression(&self, node: *mut pg_sys::Node) {
        // SAFETY: as the caller promises.
        unsafe { self.visit(node) };
    }

    /// Visits a node and everything below it. Returns false to continue, as all tree walkers do.
    ///
    /// # Safety
    /// A valid tree, or null.
    unsafe fn visit(&self, node: *mut pg_sys::Node) -> bool {
        if node.is_null() {
            return false;
        }
        interrupts();
        // SAFETY: as the caller promises; a node is what its tag says. It raises an error where the
        // stack is too deep.
        unsafe {
            pg_sys::check_stack_depth();
            match (*node).type_ {
                pg_sys::NodeTag::T_Query => return self.query(node.cast()),
                pg_sys::NodeTag::T_BoolExpr if constant::truth(node).is_some() => {
                    return self.constant_condition(node.cast());
                }
                pg_sys::NodeTag::T_CaseExpr | pg_sys::NodeTag::T_CoalesceExpr => {
                    if let Some(parts) = constant::reachable(node) {
                        return parts.into_iter().any(|part| self.visit(part));
                    }
                }
                pg_sys::NodeTag::T_SubLink => remove_columns_of_exists(node.cast()),
                pg_sys::NodeTag::T_SetOperationStmt => {
                    self.grouping((*node.cast::<pg_sys::SetOperationStmt>()).groupClauses);
                }
                pg_sys::NodeTag::T_FuncExpr => self.function_call(node.cast()),
                pg_sys::NodeTag::T_Aggref => self.aggregate_call(node.cast()),
                pg_sys::NodeTag::T_WindowFunc => {
                    self.aggregate((*node.cast::<pg_sys::WindowFunc>()).winfnoid);
                }
                // The three are one struct.
                pg_sys::NodeTag::T_OpExpr
                | pg_sys::NodeTag::T_DistinctExpr
                | pg_sys::NodeTag::T_NullIfExpr => {
                    self.operator((*node.cast::<pg_sys::OpExpr>()).opno);
                }
                pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                    self.operator((*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno);
                }
                pg_sys::NodeTag::T_CoerceViaIO => {
                    // The input function of an array reads its elements.
                    let result = (*node.cast::<pg_sys::CoerceViaIO>()).resulttype;
                    self.domain(pg_sys::get_base_element_type(result).to_u32());
                }
                pg_sys::NodeTag::T_CoerceToDomain => {
                    self.domain((*node.cast::<pg_sys::CoerceToDomain>()).resulttype.to_u32());
                }
                _ => {}
            }
            self.below(node)
        }
    }

    /// Visits everything below a node, and returns what [`Reader::visit`] returns.
    ///
    /// # Safety
    /// A valid node.
    unsafe fn below(&self, node: *mut pg_sys::Node) -> bool {
        // SAFETY: as the caller promises; the context is this reader, which outlives the walk.
        unsafe { pg_sys::expression_tree_walker(node, Some(walk), self.context()) }
    }

    /// Records what a query needs itself, and visits everything in it.
    ///
    /// # Safety
    /// A valid query, which is the caller's to change.
    unsafe fn query(&self, query: *mut pg_sys::Query) -> bool {
        // SAFETY: as the caller promises; the lists hold what their names say.
        unsafe {
            if (*query).commandType == pg_sys::CmdType::CMD_UTILITY {
                return false;
            }
            let marked = self.marks_rows.get();
            let reads_only =
                (*query).commandType == pg_sys::CmdType::CMD_SELECT && (*query).rowMarks.is_null();
            self.marks_rows.set(marked || !reads_only);
            unused::remove(query, self.marks_rows.get());
            for need in relations(query, self.depth.get())
                .iter()
                .filter_map(|permissions| permissions.need())
            {
                self.need(need);
            }
            self.written.borrow_mut().extend(Written::of(query));
            self.virtual_columns(query);
            self.grouping((*query).groupClause);
            self.grouping((*query).distinctClause);
            for window in nodes((*query).windowClause)
                .map(<*mut pgrx::pg_sys::Node>::cast::<pg_sys::WindowClause>)
            {
                self.grouping((*window).partitionClause);
                self.grouping((*window).orderClause);
            }
            self.depth.set(self.depth.get() + 1);
            let stop = pg_sys::query_tree_walker(query, Some(walk), self.context(), 0);
            self.depth.set(self.depth.get() - 1);
            self.marks_rows.set(marked);
            stop
        }
    }

    /// Visits the expressions of the virtual columns that a query reads (prepjointree.c,
    /// `expand_virtual_generated_columns`).
    ///
    /// # Safety
    /// A valid query.
    unsafe fn virtual_columns(&self, query: *mut pg_sys::Query) {
        // SAFETY: as the caller promises; a range table holds entries.
        unsafe {
            for (entry, number) in nodes((*query).rtable).zip(1..) {
                let entry = entry.cast::<pg_sys::RangeTblEntry>();
                if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION {
                    continue;
                }
                let columns = virtual_columns(&self.state, (*entry).relid.to_u32());
                if columns.is_empty() {
                    continue;
                }
                let read = unused::Read::of(query, number);
                for column in columns.iter().filter(|column| read.has(column.number)) {
                    self.stored(&column.expression);
                }
            }
        }
    }

    /// Visits a condition that is true or false for every row. Subqueries that the server joins to
    /// the query before it removes the condition stay (prepjointree.c, `pull_up_sublinks`): their
    /// tables are needed, their functions are not called.
    ///
    /// # Safety
    /// A valid expression.
    unsafe fn constant_condition(&self, expression: *mut pg_sys::BoolExpr) -> bool {
        // SAFETY: as the caller promises.
        unsafe {
            if (*expression).boolop == pg_sys::BoolExprType::OR_EXPR {
                return false;
            }
            let before = self.ignores_calls.replace(true);
            let stop = self.below(expression.cast());
            self.ignores_calls.set(before);
            stop
        }
    }

    /// Records a call of a function, and the sequence that it uses where it is one of the server's
    /// functions for sequences.
    ///
    /// # Safety
    /// A valid call.
    unsafe fn function_call(&self, call: *mut pg_sys::FuncExpr) {
        // SAFETY: as the caller promises.
        unsafe {
            self.call((*call).funcid, None);
            self.omitted_arguments(call);
            self.sequence((*call).funcid.to_u32(), (*call).args);
        }
    }

    /// Records a call of an aggregate.
    ///
    /// # Safety
    /// A valid call.
    unsafe fn aggregate_call(&self, call: *mut pg_sys::Aggref) {
        // SAFETY: as the caller promises; the list holds what its name says.
        unsafe {
            self.aggregate((*call).aggfnoid);
            // A single argument is compared without a check (nodeAgg.c,
            // `build_pertrans_for_aggref`).
            if nodes((*call).aggdistinct).count() > 1 {
                self.grouping((*call).aggdistinct);
            }
        }
    }

    /// Records the sequence that a call uses.
    ///
    /// # Safety
    /// The arguments of a call of that function.
    unsafe fn sequence(&self, function: Oid, arguments: *mut pg_sys::List) {
        let Some(required) = SequencePrivileges::of(function).filter(|_| !self.ignores_calls.get())
        else {
            return;
        };
        // SAFETY: as the caller promises.
        let Some(argument) =
            (unsafe { nodes(arguments).next().map(|argument| named_relation(argument)) })
        else {
            return;
        };
        match argument {
            NamedRelation::Known(oid) => self.need(required.need(oid, false, self.moment.get())),
            NamedRelation::ByText(text) => self.sequence_by_text(&required, text),
            NamedRelation::Unknown => {}
        }
    }

    fn sequence_by_text(&self, required: &SequencePrivileges, text: String) {
        // The name of the database may come before schema and name.
        if let Some([.., schema, name]) = parse(&text).map(|named| named.parts).as_deref() {
            let schema = CString::new(to_server(schema))
                .ok()
                .and_then(|schema| catalog::schema_named(&schema));
            if let Some(oid) = schema.and_then(|schema| catalog::relation_named(schema, name)) {
                self.need(required.need(oid, true, self.moment.get()));
            }
            return;
        }
        let mut needs = self.needs.borrow_mut();
        if !needs.unresolved.contains(&text) {
            needs.unresolved.push(text);
        }
    }
}

/// Removes the columns that the query of an EXISTS selects.
///
/// # Safety
/// A valid sublink, which is the caller's to change.
unsafe fn remove_columns_of_exists(link: *mut pg_sys::SubLink) {
    // SAFETY: as the caller promises.
    unsafe {
        if (*link).subLinkType == pg_sys::SubLinkType::EXISTS_SUBLINK {
            unused::remove_all((*link).subselect.cast());
        }
    }
}

/// The privileges that one of the server's functions for sequences requires.
struct SequencePrivileges {
    /// All of these are needed ...
    privileges: Privileges,
    /// ... or one of these instead.
    or: Privileges,
}

impl SequencePrivileges {
    /// Looks up a function; `None` for all others.
    fn of(function: Oid) -> Option<Self> {
        let (privileges, or) = Requires::of_sequence(function)?;
        Some(Self { privileges, or })
    }

    fn need(&self, sequence: Oid, by_name: bool, moment: Moment) -> Need {
        Need {
            relation: sequence,
            privileges: self.privileges,
            or: self.or,
            by_name,
            moment: moment.max(Moment::Row),
            ..Need::default()
        }
    }
}

/// The relation that an argument of type regclass names.
enum NamedRelation {
    Known(Oid),
    /// A name that is looked up when the function is called.
    ByText(String),
    Unknown,
}

/// Reads an argument of type regclass.
///
/// # Safety
/// A valid expression of that type.
unsafe fn named_relation(argument: *mut pg_sys::Node) -> NamedRelation {
    // SAFETY: a node is what its tag says; a constant of type regclass holds an OID.
    unsafe {
        match (*argument).type_ {
            pg_sys::NodeTag::T_Const if !(*argument.cast::<pg_sys::Const>()).constisnull => {
                NamedRelation::Known((*argument.cast::<pg_sys::Const>()).constvalue.value() as u32)
            }
            pg_sys::NodeTag::T_FuncExpr => text_of_conversion(argument.cast())
                .map_or(NamedRelation::Unknown, NamedRelation::ByText),
            _ => NamedRelation::Unknown,
        }
    }
}

/// The text in a call `regclass(text)`, where it is a constant.
///
/// # Safety
/// A valid call.
unsafe fn text_of_conversion(call: *mut pg_sys::FuncExpr) -> Option<String> {
    // The OID of the function in pg_proc.dat.
    const REGCLASS: u32 = 1079;
    // SAFETY: as the caller promises; a node is what its tag says, and a constant of type text
    // holds a text.
    unsafe {
        if (*call).funcid.to_u32() != REGCLASS {
            return None;
        }
        let mut text = nodes((*call).args).next()?;
        while (*text).type_ == pg_sys::NodeTag::T_RelabelType {
            text = (*text.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        if (*text).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let constant = text.cast::<pg_sys::Const>();
        let is_text = matches!((*constant).consttype, pg_sys::TEXTOID | pg_sys::VARCHAROID);
        (is_text && !(*constant).constisnull).then(|| text_of((*constant).constvalue))
    }
}
