//! The lists of the server (`List`).

use pgrx::pg_sys;

/// Returns an iterator over the nodes of a list.
///
/// # Safety
/// `list` is null or a list of nodes, and outlives the iterator.
pub unsafe fn nodes(list: *mut pg_sys::List) -> impl Iterator<Item = *mut pg_sys::Node> {
    // SAFETY: as the caller promises.
    let length = if list.is_null() { 0 } else { unsafe { (*list).length } };
    (0..length as usize).map(move |i| {
        // SAFETY: as the caller promises; the cell is within the length.
        unsafe { (*(*list).elements.add(i)).ptr_value.cast() }
    })
}
