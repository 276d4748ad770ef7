//! The columns of a view that a statement does not read: the planner removes them, and the
//! functions in them are never called (allpaths.c, `remove_unused_subquery_outputs`;
//! prepjointree.c).

use crate::pg::heap::interrupts;
use crate::pg::list::nodes;
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::c_void;

/// Replaces each column of the subqueries in FROM that nothing reads by NULL, and removes WITH
/// queries that nothing reads. Where rows are changed or locked (`marks_rows`), columns stay: the
/// server keeps the whole row of each other relation (planner.c, `preprocess_rowmarks`), and passes
/// it to a view's triggers. Nested subqueries are handled when they are visited.
///
/// # Safety
/// A query that is the caller's to change.
pub(super) unsafe fn remove(query: *mut pg_sys::Query, marks_rows: bool) {
    // SAFETY: as the caller promises; the lists hold what their names say, and a target list target
    // entries.
    unsafe {
        for with in
            nodes((*query).cteList).map(<*mut pgrx::pg_sys::Node>::cast::<pg_sys::CommonTableExpr>)
        {
            let is_read_only = (*(*with).ctequery.cast::<pg_sys::Query>()).commandType
                == pg_sys::CmdType::CMD_SELECT;
            if (*with).cterefcount == 0 && is_read_only {
                (*with).ctequery = std::ptr::null_mut();
            }
        }
        // The query of a UNION names the columns of its first part only.
        if marks_rows || !(*query).setOperations.is_null() {
            return;
        }
        // In reverse order, because LATERAL reads entries before it.
        let entries: Vec<_> = nodes((*query).rtable).zip(1..).collect();
        for (entry, number) in entries.into_iter().rev() {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            let subquery = (*entry).subquery;
            if (*entry).rtekind != pg_sys::RTEKind::RTE_SUBQUERY || subquery.is_null() {
                continue;
            }
            let is_distinct = !(*subquery).distinctClause.is_null() && !(*subquery).hasDistinctOn;
            let is_kept_whole =
                !(*subquery).setOperations.is_null() || is_distinct || (*subquery).hasTargetSRFs;
            if is_kept_whole {
                continue;
            }
            let read = Read::of(query, number);
            for column in nodes((*subquery).targetList) {
                let column = column.cast::<pg_sys::TargetEntry>();
                let is_for_order = (*column).resjunk || (*column).ressortgroupref != 0;
                let expression = (*column).expr.cast::<pg_sys::Node>();
                if !is_for_order
                    && !read.has((*column).resno)
                    && !pg_sys::contain_volatile_functions(expression)
                {
                    let (kind, modifier) =
                        (pg_sys::exprType(expression), pg_sys::exprTypmod(expression));
                    (*column).expr =
                        pg_sys::makeNullConst(kind, modifier, pg_sys::exprCollation(expression))
                            .cast();
                }
            }
        }
    }
}

/// Removes the columns of a query that is only tested for having a row (subselect.c,
/// `simplify_EXISTS_query`).
///
/// # Safety
/// The query of an EXISTS, which is the caller's to change.
pub(super) unsafe fn remove_all(query: *mut pg_sys::Query) {
    // SAFETY: as the caller promises.
    unsafe {
        let is_kept = (*query).commandType != pg_sys::CmdType::CMD_SELECT
            || !(*query).setOperations.is_null()
            || (*query).hasAggs
            || !(*query).groupingSets.is_null()
            || (*query).hasWindowFuncs
            || (*query).hasTargetSRFs
            || (*query).hasModifyingCTE
            || !(*query).havingQual.is_null()
            || !(*query).limitOffset.is_null()
            || !(*query).limitCount.is_null()
            || !(*query).rowMarks.is_null();
        if !is_kept {
            let nothing = std::ptr::null_mut();
            ((*query).targetList, (*query).groupClause, (*query).distinctClause) =
                (nothing, nothing, nothing);
            (*query).sortClause = nothing;
        }
    }
}

/// Which columns of one entry of a range table a query reads.
///
/// The server's tree walkers call back with an untyped pointer to it while the function that
/// started the walk still uses it. As with [`super::reader::Reader`], there are only shared
/// references to it, and what changes is in cells.
pub(super) struct Read {
    query: *mut pg_sys::Query,
    entry: i32,
    /// How many queries there are between `query` and the node that is being visited.
    depth: Cell<u32>,
    /// The numbers of the columns; 0 is the whole row.
    columns: RefCell<HashSet<i16>>,
}

impl Read {
    /// # Safety
    /// A query, and the number of an entry.
    pub(super) unsafe fn of(query: *mut pg_sys::Query, entry: i32) -> Self {
        let read = Self { query, entry, depth: Cell::new(0), columns: RefCell::default() };
        // SAFETY: as the caller promises. The name of a join's column is looked up where the column
        // is read.
        unsafe { pg_sys::query_tree_walker(query, Some(look), read.context(), FLAGS) };
        read
    }

    /// Whether the query reads a column of this number, or the whole row.
    pub(super) fn has(&self, column: i16) -> bool {
        let columns = self.columns.borrow();
        columns.contains(&0) || columns.contains(&column)
    }

    /// Returns the context that a tree walker passes to [`look`].
    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Visits a node and everything below it.
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
                pg_sys::NodeTag::T_Query => {
                    self.depth.set(self.depth.get() + 1);
                    let stop =
                        pg_sys::query_tree_walker(node.cast(), Some(look), self.context(), FLAGS);
                    self.depth.set(self.depth.get() - 1);
                    stop
                }
                pg_sys::NodeTag::T_Var => self.var(node.cast()),
                _ => pg_sys::expression_tree_walker(node, Some(look), self.context()),
            }
        }
    }

    /// Records a column of the entry itself, or of a join that may take it from the entry.
    ///
    /// # Safety
    /// A valid node.
    unsafe fn var(&self, var: *mut pg_sys::Var) -> bool {
        // SAFETY: as the caller promises; the range table holds entries.
        unsafe {
            if (*var).varlevelsup != self.depth.get() {
                return false;
            }
            if (*var).varno == self.entry {
                self.columns.borrow_mut().insert((*var).varattno);
                return false;
            }
            let place = ((*var).varno as usize).wrapping_sub(1);
            let entry = nodes((*self.query).rtable)
                .nth(place)
                .map(<*mut pgrx::pg_sys::Node>::cast::<pg_sys::RangeTblEntry>);
            if let Some(join) = entry.filter(|entry| (**entry).rtekind == pg_sys::RTEKind::RTE_JOIN)
            {
                self.column_of_join((*join).joinaliasvars, (*var).varattno);
            }
            false
        }
    }

    /// Visits a column of a join: a column of one of its sides, or an expression over both.
    ///
    /// # Safety
    /// The alias variables of that join, and the number of one of them, or 0 for all.
    unsafe fn column_of_join(&self, names: *mut pg_sys::List, column: i16) {
        let depth = self.depth.replace(0);
        // SAFETY: as the caller promises.
        unsafe {
            for (name, number) in nodes(names).zip(1..) {
                if column == 0 || column == number {
                    self.visit(name);
                }
            }
        }
        self.depth.set(depth);
    }
}

const FLAGS: i32 = pg_sys::QTW_IGNORE_JOINALIASES as i32;

/// The callback of the server's tree walkers, whose errors are not Rust's: no Rust code calls it.
#[pg_guard]
unsafe extern "C-unwind" fn look(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the server passes its own nodes, and the context that `Read::context` returned.
    unsafe { (*context.cast::<Read>()).visit(node) }
}
