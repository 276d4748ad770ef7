//! Reports: the contract compared with the database, and the documentation of the rules.

pub mod formats;
mod narrow;
pub mod overview;
pub mod page;
mod policies;
mod priority;
mod rule_page;
pub mod shared_causes;
mod summary;

pub use narrow::{NarrowFinding, narrow_changes};
pub use policies::{PolicyRow, Reach, rls_policies};
pub use rule_page::{rule_index, rule_page};
pub use summary::{SummaryLine, summary};
