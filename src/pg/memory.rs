//! What happens when memory runs out: the statement ends with an error, at worst the session, and
//! never the server. (Rust ends the process by a signal when an allocation fails, and the server
//! restarts all sessions when a process ends by a signal.)
//!
//! - Loops check from time to time whether there is memory left ([`check`]) and raise an error
//!   while there is still enough to report it.
//! - A reserve is given back to the system when an allocation of this library or of the server
//!   fails, so that the error can be reported.
//! - An allocation that fails nevertheless ends the session. It cannot raise an error: an allocator
//!   must not unwind.

use super::report::{Report, errfinish, errstart};
use pgrx::{PgSqlErrorCode, pg_sys};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// The length of the reserve, in bytes.
const RESERVE: usize = 1 << 20;

/// How much memory [`check`] wants to be left, in bytes: enough for the vectors and maps that grow
/// between two checks, which double their length.
const HEADROOM: usize = 16 << 20;

/// The number of calls of [`check`] of which one looks. Between two, a loop over rows of a catalog
/// uses a small part of the headroom.
const CHECKS: usize = 1024;

/// How much memory of this library in one call makes the memory be returned to the system
/// afterwards, in bytes.
const LARGE: usize = 16 << 20;

/// The allocator of this library: that of the system, with a reserve.
pub struct Allocator;

/// The reserve; null where there is none.
static RESERVED: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Whether an allocation has needed the reserve.
static IS_LOW: AtomicBool = AtomicBool::new(false);

/// How much this library has allocated, and the maximum since the current call began, in bytes.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// How often [`check`] was called.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts memory. A backend has one thread, so that no atomic addition is needed.
fn count(added: usize, removed: usize) {
    let now = ALLOCATED.load(Relaxed).wrapping_add(added).wrapping_sub(removed);
    ALLOCATED.store(now, Relaxed);
    if now > MOST.load(Relaxed) {
        MOST.store(now, Relaxed);
    }
}

// SAFETY: calls the allocator of the system, a second time where it fails; does not unwind.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promises.
        or_after_release(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as the caller promises.
        or_after_release(|| unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as the caller promises; where it fails, the old memory is unchanged.
        or_after_release(|| unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(old, layout) }
    }
}

fn or_after_release(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let memory = allocate();
    if memory.is_null() { after_release(allocate) } else { memory }
}

#[cold]
fn after_release(allocate: impl Fn() -> *mut u8) -> *mut u8 {
    if release() {
        IS_LOW.store(true, Relaxed);
        let memory = allocate();
        if !memory.is_null() {
            return memory;
        }
    }
    // The postmaster has no session to end.
    // SAFETY: reads a variable of the process.
    if unsafe { pg_sys::IsUnderPostmaster } {
        end_session();
    }
    null_mut()
}

/// Ends the session as `ereport(FATAL)` does, which neither returns nor jumps.
fn end_session() -> ! {
    unsafe extern "C-unwind" {
        fn errcode(code: c_int) -> c_int;
        fn errmsg(format: *const c_char, ...) -> c_int;
        fn errdetail(format: *const c_char, ...) -> c_int;
    }
    // SAFETY: the calls that `ereport(FATAL, ...)` expands to (elog.h), with C strings. The server
    // keeps memory for the report of this error.
    unsafe {
        errstart(pg_sys::FATAL as c_int, std::ptr::null());
        errcode(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
        errmsg(c"out of memory".as_ptr());
        errdetail(c"An allocation of dragonfly_guard failed.".as_ptr());
        errfinish(c"memory.rs".as_ptr(), 0, c"dragonfly_guard".as_ptr());
    }
    unreachable!("the session has ended")
}

/// Maps memory that is used for nothing else; null where there is none.
fn map(length: usize) -> *mut c_void {
    // SAFETY: asks for new memory.
    let memory = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(null_mut(), length, access, kind, -1, 0)
    };
    if memory == libc::MAP_FAILED { null_mut() } else { memory }
}

/// Returns the reserve to the system. Returns whether there was one.
fn release() -> bool {
    let reserve = RESERVED.swap(null_mut(), Relaxed);
    // SAFETY: mapped with this length, and not used.
    !reserve.is_null() && unsafe { libc::munmap(reserve, RESERVE) } == 0
}

thread_local! {
    /// How many calls of [`guarded`] are running.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether a call of this transaction has used much.
    static WAS_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Raises an error where hardly any memory is left. Called in every loop over user objects.
pub fn check() {
    let calls = CALLS.load(Relaxed).wrapping_add(1);
    CALLS.store(calls, Relaxed);
    let is_low = IS_LOW.load(Relaxed) || calls.is_multiple_of(CHECKS) && !has_headroom();
    if is_low {
        raise();
    }
}

#[cold]
fn raise() -> ! {
    release();
    IS_LOW.store(false, Relaxed);
    Report {
        message: "out of memory".into(),
        detail: "dragonfly_guard ended the statement while there was memory left to say so.".into(),
        ..Report::default()
    }
    .error(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY)
}

fn has_headroom() -> bool {
    let memory = map(HEADROOM);
    // SAFETY: mapped above.
    !memory.is_null() && unsafe { libc::munmap(memory, HEADROOM) } == 0
}

/// Calls `work` with a reserve of memory, and returns memory to the system afterwards where `work`
/// has used much.
pub fn guarded<T>(work: impl FnOnce() -> T) -> T {
    let _reserved = Reserved::begin();
    // SAFETY: reads and writes variables of the backend. The callback stays on the stack of this
    // function, and `Pushed` removes it however `work` ends.
    unsafe {
        let mut callback = pg_sys::ErrorContextCallback {
            previous: pg_sys::error_context_stack,
            callback: Some(server_raises),
            arg: null_mut(),
        };
        let _pushed = Pushed(callback.previous);
        pg_sys::error_context_stack = &mut callback;
        work()
    }
}

/// Removes a callback.
struct Pushed(*mut pg_sys::ErrorContextCallback);

impl Drop for Pushed {
    fn drop(&mut self) {
        // SAFETY: restores the variable of the backend.
        unsafe { pg_sys::error_context_stack = self.0 }
    }
}

/// A call that has a reserve. Calls can nest.
struct Reserved;

impl Reserved {
    fn begin() -> Self {
        if DEPTH.replace(DEPTH.get() + 1) == 0 {
            IS_LOW.store(false, Relaxed);
            MOST.store(ALLOCATED.load(Relaxed), Relaxed);
        }
        if RESERVED.load(Relaxed).is_null() {
            RESERVED.store(map(RESERVE), Relaxed);
        }
        Self
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 && MOST.load(Relaxed).saturating_sub(ALLOCATED.load(Relaxed)) > LARGE {
            WAS_LARGE.set(true);
            return_to_system();
        }
    }
}

/// Returns memory to the system after a transaction with a call that has used much: the arguments
/// and the result of the call are in memory of the server, which is free now.
pub fn transaction_ended() {
    if WAS_LARGE.replace(false) {
        return_to_system();
    }
}

/// Says that a call of this transaction has used much memory of the server.
pub fn was_large() {
    WAS_LARGE.set(true);
}

fn return_to_system() {
    // SAFETY: returns memory that is free.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Called by the server while it raises an error. The error is copied afterwards, and in the server
/// too that needs memory.
unsafe extern "C-unwind" fn server_raises(_argument: *mut c_void) {
    unsafe extern "C-unwind" {
        fn geterrcode() -> c_int;
    }
    // SAFETY: the server calls this while it reports an error, whose code it returns.
    if unsafe { geterrcode() } == PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int {
        release();
    }
}
