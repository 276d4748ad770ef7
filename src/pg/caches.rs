//! The server's caches of relations and of rows of catalogs. They keep everything that a session
//! has looked up: after a call that looks at every object of a large database, hundreds of
//! megabytes that the session never needs again.

use super::memory;
use pgrx::pg_sys;
use std::cell::Cell;
use std::time::Instant;

/// How much a call adds to the caches before they are emptied, in bytes.
const MOST: usize = 32 << 20;

/// The number of calls of [`check`] of which one may look.
const CHECKS: u32 = 1024;

/// How many times longer than a look nothing is looked at after it: a look goes through what is
/// free.
const REST: u32 = 50;

thread_local! {
    /// How much was in the caches when the call began; `None` outside of such a call.
    static BEFORE: Cell<Option<usize>> = const { Cell::new(None) };
    /// The calls of [`check`] until the next look, and when that is at the earliest.
    static CHECKS_LEFT: Cell<u32> = const { Cell::new(0) };
    static NEXT_LOOK: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A call during which the caches are emptied before they become large, and afterwards where they
/// did. Within another such call, that one goes on.
#[must_use]
pub struct Bounded {
    is_outer: bool,
}

impl Bounded {
    pub fn begin() -> Self {
        let is_outer = BEFORE.get().is_none();
        if is_outer {
            BEFORE.set(Some(in_use()));
            CHECKS_LEFT.set(CHECKS);
            NEXT_LOOK.set(None);
        }
        Self { is_outer }
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        if self.is_outer {
            // After an error, the next call does it.
            if !std::thread::panicking() {
                empty_if_more_than(MOST / 4);
            }
            BEFORE.set(None);
        }
    }
}

/// Empties the caches where a call has added much. Called in every loop over user objects.
pub fn check() {
    if BEFORE.get().is_none() {
        return;
    }
    match CHECKS_LEFT.get() {
        0 => {
            CHECKS_LEFT.set(CHECKS);
            if NEXT_LOOK.get().is_none_or(|next| next <= Instant::now()) {
                empty_if_more_than(MOST);
            }
        }
        left => CHECKS_LEFT.set(left - 1),
    }
}

fn empty_if_more_than(most: usize) {
    let (before, start) = (BEFORE.get().unwrap_or_default(), Instant::now());
    let added = in_use().saturating_sub(before);
    NEXT_LOOK.set(Some(Instant::now() + start.elapsed() * REST));
    if added > most {
        // SAFETY: does what the server does in any session that has missed an invalidation. What is
        // in use remains, and everything is looked up again when it is needed.
        unsafe { pg_sys::InvalidateSystemCaches() };
        memory::was_large();
    }
}

/// Returns how much of the memory of the caches is in use, in bytes. What has been freed in it is
/// used again.
fn in_use() -> usize {
    // SAFETY: the memory context exists as long as the backend; its methods are those of the
    // server.
    unsafe {
        let caches = pg_sys::CacheMemoryContext;
        let all = pg_sys::MemoryContextMemAllocated(caches, true);
        let mut own = pg_sys::MemoryContextCounters::default();
        if let Some(stats) = (*(*caches).methods).stats {
            stats(caches, None, std::ptr::null_mut(), &mut own, false);
        }
        all.saturating_sub(own.freespace)
    }
}
