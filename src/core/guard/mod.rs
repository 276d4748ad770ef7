//! What the guard makes of a command: is it worse than before, and how to say so.

mod change;
mod exposed;
mod regression;
mod rejection;

pub use change::{Change, Regression};
pub use exposed::{Exposed, exposed, is_excused};
pub use regression::is_regression;
pub use rejection::Rejection;
