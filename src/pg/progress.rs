//! The progress of long calls: a NOTICE every two seconds that says what a call is doing.

use super::caches::Bounded;
use super::report::Report;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How long a call takes before it reports, and how long between two reports.
const INTERVAL: Duration = Duration::from_secs(2);

/// The number of calls of [`check`] of which one looks at the clock.
const CHECKS: u32 = 16;

/// What a call is doing.
struct Work {
    /// The whole, as a noun or a participle: `inferring the contract`.
    title: &'static str,
    /// What is being done, as `title`.
    step: &'static str,
    number: usize,
    steps: usize,
    /// How much of the step is done; nothing where it has no parts.
    done: usize,
    parts: usize,
    reported_at: Instant,
}

thread_local! {
    static WORK: RefCell<Option<Work>> = const { RefCell::new(None) };
    /// The calls of [`check`] until the next look; `None` while no call reports progress.
    static CHECKS_LEFT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// A call that reports its progress, and whose traces in the caches of the server are bounded,
/// until this is dropped.
#[must_use]
pub struct Progress {
    is_outer: bool,
    _caches: Bounded,
}

impl Progress {
    /// Begins a call of some steps. Within another call that reports its progress, that one goes
    /// on.
    pub fn begin(title: &'static str, steps: usize) -> Self {
        let is_outer = WORK.with_borrow_mut(|work| {
            let is_outer = work.is_none();
            work.get_or_insert_with(|| Work {
                title,
                step: "",
                number: 0,
                steps,
                done: 0,
                parts: 0,
                reported_at: Instant::now(),
            });
            is_outer
        });
        CHECKS_LEFT.set(Some(CHECKS));
        Self { is_outer, _caches: Bounded::begin() }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_outer {
            CHECKS_LEFT.set(None);
            WORK.take();
        }
    }
}

/// Begins the next step of the call, if it reports its progress.
pub fn step(step: &'static str) {
    WORK.with_borrow_mut(|work| {
        if let Some(work) = work {
            (work.step, work.number) = (step, work.number + 1);
            (work.done, work.parts) = (0, 0);
        }
    });
}

/// Divides the step of the call into parts.
pub fn parts(parts: usize) {
    WORK.with_borrow_mut(|work| {
        if let Some(work) = work {
            (work.done, work.parts) = (0, parts);
        }
    });
}

/// Records that a part is done, and reports the progress of the call, if it is time.
pub fn part_done() {
    if CHECKS_LEFT.get().is_some() {
        WORK.with_borrow_mut(|work| {
            if let Some(work) = work {
                work.done += 1;
            }
        });
        report();
    }
}

/// Reports the progress of the call, if it is time. Called in every loop over user objects.
pub fn check() {
    match CHECKS_LEFT.get() {
        None => {}
        Some(0) => {
            CHECKS_LEFT.set(Some(CHECKS));
            report();
        }
        Some(left) => CHECKS_LEFT.set(Some(left - 1)),
    }
}

fn report() {
    let message = WORK.with_borrow_mut(|work| {
        let work = work.as_mut().filter(|work| work.reported_at.elapsed() >= INTERVAL)?;
        work.reported_at = Instant::now();
        Some(work.message())
    });
    if let Some(message) = message {
        Report { message, ..Report::default() }.notice();
    }
}

impl Work {
    fn message(&self) -> String {
        let Self { title, step, number, steps, done, parts, .. } = self;
        let steps = steps.max(number);
        match parts {
            0 => format!("{title}: step {number} of {steps}, {step}"),
            parts => {
                format!("{title}: step {number} of {steps}, {step}: {done} of {parts}")
            }
        }
    }
}
