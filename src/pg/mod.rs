//! The thin layer over the server's own interfaces; what `unsafe` there is in the project is here, in the catalog reader and in the guard.

pub mod call;
pub mod heap;
pub mod list;
pub mod report;
pub mod restricted;
pub mod setting;
pub mod statement;
pub mod strangers;
pub mod subtransaction;
pub mod text;
pub mod write;
