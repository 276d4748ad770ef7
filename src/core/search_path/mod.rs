//! Whether a `search_path` is safe in a catalog.

mod assess;
mod caller_types;
mod lookup;
mod value;

pub use assess::{Assessment, Exploiter, Reason, ReasonCode, SearchPaths, Verdict, type_creators};
pub use lookup::{Lost, Searched};
pub use value::{Path, set_clause, settings, stored_value};
