//! A memory context that is reset after each use, for work on thousands of objects in one call.

use pgrx::PgMemoryContexts;
use std::cell::RefCell;
use std::mem::ManuallyDrop;

/// The memory context. After an error it is freed with the memory of the calling function.
pub struct Scratch(RefCell<ManuallyDrop<PgMemoryContexts>>);

impl Scratch {
    pub fn new() -> Self {
        Self(RefCell::new(ManuallyDrop::new(PgMemoryContexts::new("dragonfly_guard scratch"))))
    }

    /// Calls `work` in the memory context and resets it. Calls must not be nested, and the result
    /// of `work` must not point into the memory context.
    pub fn with<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut memory = self.0.borrow_mut();
        // SAFETY: nothing that was allocated in it is used afterwards.
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
