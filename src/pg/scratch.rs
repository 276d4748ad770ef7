//! Memory that is emptied after each use, for work on thousands of things in one call.

use pgrx::PgMemoryContexts;
use std::cell::RefCell;
use std::mem::ManuallyDrop;

/// After an error it goes with the memory of the call that made it.
pub struct Scratch(RefCell<ManuallyDrop<PgMemoryContexts>>);

impl Scratch {
    pub fn new() -> Self {
        Self(RefCell::new(ManuallyDrop::new(PgMemoryContexts::new("dragonfly_guard scratch"))))
    }

    /// Calls `work` in it. Not to be nested; what `work` gives is Rust's own.
    pub fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut memory = self.0.borrow_mut();
        // SAFETY: nothing that was made in it is used afterwards.
        unsafe {
            let result = memory.switch_to(|_| work());
            memory.reset();
            result
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(self.0.get_mut()) };
        }
    }
}
