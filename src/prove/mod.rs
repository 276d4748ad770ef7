//! Experiments: whether the server lets a client reach what the analysis of policies says.
//!
//! An experiment runs in a subtransaction that is always rolled back. It puts the rows of a
//! scenario into tables as the owners of these, and then tries to reach one as the client, with the
//! client's claims. Both run as a security-restricted operation: code of theirs has their
//! privileges, and cannot become the caller.

mod attempt;
mod callers;
mod experiment;
mod failure;
mod forge;
mod isolation;
mod locks;
mod outcome;
mod partition;
mod plan;
mod proof;
mod seed;
mod session;
mod subject;
mod table;
mod value;

pub use experiment::{Pair, policy};
pub use isolation::isolation;
pub use locks::released;
pub use proof::Proof;
pub use seed::Caller;
pub use subject::Subject;
