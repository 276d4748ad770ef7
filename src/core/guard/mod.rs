//! The decisions of the guard: whether a statement is a regression, and the text of its rejection.

mod accepting;
mod by_policy;
mod calls;
mod change;
mod completion;
mod declared;
mod exposed;
mod follow;
mod held;
mod inherited;
mod loosened;
mod merged;
mod names;
mod opened;
mod path_hint;
mod reach;
mod redirected;
mod regression;
mod rejection;
mod rename_order;
mod renamed;
mod replaced;
mod through;
mod widened;

/// Where a message about the guard leads that its HINT cannot resolve alone.
pub const RUNBOOK: &str = "See docs/how-to/runbook.md.";

pub use accepting::{intended, is_by_default};
pub(crate) use by_policy::narrowed;
pub use calls::{accept_instead, accept_with_left};
pub use change::{Change, Regression, Remaining};
pub use completion::{Cause, CauseKind, Completion, causes};
pub use declared::{Declared, States};
pub use exposed::{Exposed, exposed, is_excused};
pub use inherited::{Inherited, inherited};
pub use loosened::{Loosened, Lost, loosened};
pub use merged::merged;
pub use names::renames_roles;
pub use opened::{Opened, Opening, opened};
pub use redirected::{Redirected, Written, redirected};
pub use regression::path_at_most;
pub use rejection::{RUN_ANYWAY, RejectedAt, Rejection, is_role_missing};
pub use replaced::{Replaced, replaced};
pub use through::{Changed, Through, Way, concerned, owners_differ, through};
pub use widened::{Reading, Shown, Widened, shown};
