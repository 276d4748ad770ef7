//! What the guard makes of a command: is it worse than before, and how to say so.

mod change;
mod exposed;
mod ratchet;
mod refusal;

pub use change::{Change, Worse};
pub use exposed::{Exposed, exposed, is_excused};
pub use ratchet::is_worse;
pub use refusal::Refusal;
