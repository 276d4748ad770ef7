//! Experiments: whether the server lets a client reach what the analysis of policies says.
//!
//! An experiment runs in a subtransaction that is always rolled back. It puts the rows of a
//! scenario into tables as the owners of these, and then tries to reach one as the client, with the
//! client's claims. Both run as a security-restricted operation: code of theirs has their
//! privileges, and cannot become the caller.

mod attempt;
mod experiment;
mod forge;
mod isolation;
mod seed;
mod session;
mod table;
mod value;

pub use experiment::{Pair, Proof, Subject, policy};
pub use isolation::isolation;
pub use seed::Caller;
