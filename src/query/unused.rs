//! The columns of a view that a statement does not ask for: the planner leaves them out, and the functions in them are never called (allpaths.c,
//! `remove_unused_subquery_outputs`; prepjointree.c).

use crate::pg::heap::interrupts;
use crate::pg::list::nodes;
use pgrx::{pg_guard, pg_sys};
use std::collections::HashSet;
use std::ffi::c_void;

/// Puts a null in the place of each column of the subqueries in FROM that nothing reads, and takes WITH queries away that nothing reads. Not where rows are
/// changed or locked (`marks_rows`): of everything else that is read then, the whole row is kept (planner.c, `preprocess_rowmarks`), and a view's triggers are
/// given it. What is in the subqueries themselves is looked at when they are visited.
///
/// # Safety
/// A query that is the caller's to change.
pub(super) unsafe fn leave_out(query: *mut pg_sys::Query, marks_rows: bool) {
    // SAFETY: as the caller promises; the lists hold what their names say, and a target list target entries.
    unsafe {
        for with in nodes((*query).cteList).map(|with| with.cast::<pg_sys::CommonTableExpr>()) {
            let is_read_only = (*(*with).ctequery.cast::<pg_sys::Query>()).commandType == pg_sys::CmdType::CMD_SELECT;
            if (*with).cterefcount == 0 && is_read_only {
                (*with).ctequery = std::ptr::null_mut();
            }
        }
        // Of a UNION, the query itself names the columns of the first part alone.
        if marks_rows || !(*query).setOperations.is_null() {
            return;
        }
        // The last first: LATERAL reads what comes before it.
        let entries: Vec<_> = nodes((*query).rtable).zip(1..).collect();
        for (entry, number) in entries.into_iter().rev() {
            let entry = entry.cast::<pg_sys::RangeTblEntry>();
            let subquery = (*entry).subquery;
            if (*entry).rtekind != pg_sys::RTEKind::RTE_SUBQUERY || subquery.is_null() {
                continue;
            }
            let is_distinct = !(*subquery).distinctClause.is_null() && !(*subquery).hasDistinctOn;
            let is_kept_whole = !(*subquery).setOperations.is_null() || is_distinct || (*subquery).hasTargetSRFs;
            if is_kept_whole {
                continue;
            }
            let read = Read::of(query, number);
            for column in nodes((*subquery).targetList) {
                let column = column.cast::<pg_sys::TargetEntry>();
                let is_for_order = (*column).resjunk || (*column).ressortgroupref != 0;
                let expression = (*column).expr.cast::<pg_sys::Node>();
                if !is_for_order && !read.has((*column).resno) && !pg_sys::contain_volatile_functions(expression) {
                    let (kind, modifier) = (pg_sys::exprType(expression), pg_sys::exprTypmod(expression));
                    (*column).expr = pg_sys::makeNullConst(kind, modifier, pg_sys::exprCollation(expression)).cast();
                }
            }
        }
    }
}

/// Takes away what a query selects that is only asked whether it has a row (subselect.c, `simplify_EXISTS_query`).
///
/// # Safety
/// The query of an EXISTS, which is the caller's to change.
pub(super) unsafe fn leave_out_all(query: *mut pg_sys::Query) {
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
            ((*query).targetList, (*query).groupClause, (*query).distinctClause) = (nothing, nothing, nothing);
            (*query).sortClause = nothing;
        }
    }
}

/// Which columns of one entry of a range table a query reads.
struct Read {
    query: *mut pg_sys::Query,
    entry: i32,
    /// How many queries lie between the one and what is being looked at.
    depth: u32,
    /// 0: the whole row.
    columns: HashSet<i16>,
}

impl Read {
    /// # Safety
    /// A query, and the number of an entry.
    unsafe fn of(query: *mut pg_sys::Query, entry: i32) -> Self {
        let mut read = Self { query, entry, depth: 0, columns: HashSet::new() };
        // SAFETY: as the caller promises. What a join calls its columns is looked up where one is read.
        unsafe { pg_sys::query_tree_walker(query, Some(look), (&raw mut read).cast(), FLAGS) };
        read
    }

    fn has(&self, column: i16) -> bool {
        self.columns.contains(&0) || self.columns.contains(&column)
    }
}

const FLAGS: i32 = pg_sys::QTW_IGNORE_JOINALIASES as i32;

/// For the server to call, whose errors are not Rust's: nobody else does.
#[pg_guard]
unsafe extern "C-unwind" fn look(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: the server hands its own nodes, and what it was given as the context.
    unsafe { look_at(node, context) }
}

/// # Safety
/// A valid tree or null, and a [`Read`].
unsafe fn look_at(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    interrupts();
    // SAFETY: as the caller promises; a node is what its tag says. An error where the stack is too deep.
    unsafe {
        pg_sys::check_stack_depth();
        let read = &mut *context.cast::<Read>();
        match (*node).type_ {
            pg_sys::NodeTag::T_Query => {
                read.depth += 1;
                let stop = pg_sys::query_tree_walker(node.cast(), Some(look), context, FLAGS);
                read.depth -= 1;
                stop
            }
            pg_sys::NodeTag::T_Var => {
                let var = node.cast::<pg_sys::Var>();
                if (*var).varlevelsup != read.depth {
                    return false;
                }
                if (*var).varno == read.entry {
                    read.columns.insert((*var).varattno);
                    return false;
                }
                let place = ((*var).varno as usize).wrapping_sub(1);
                let entry = nodes((*read.query).rtable).nth(place).map(|entry| entry.cast::<pg_sys::RangeTblEntry>());
                match entry.filter(|entry| (**entry).rtekind == pg_sys::RTEKind::RTE_JOIN) {
                    Some(join) => of_join(read, (*join).joinaliasvars, (*var).varattno),
                    None => false,
                }
            }
            _ => pg_sys::expression_tree_walker(node, Some(look), context),
        }
    }
}

/// A column of a join is a column of one of its sides, or an expression over both.
///
/// # Safety
/// The names of that join, and the number of one of them or 0.
unsafe fn of_join(read: &mut Read, names: *mut pg_sys::List, column: i16) -> bool {
    let depth = std::mem::replace(&mut read.depth, 0);
    // SAFETY: as the caller promises.
    unsafe {
        for (name, number) in nodes(names).zip(1..) {
            if column == 0 || column == number {
                look_at(name, std::ptr::from_mut(read).cast());
            }
        }
    }
    read.depth = depth;
    false
}
