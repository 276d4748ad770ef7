//! Code that several rules, or rules and the guard, share.

pub(crate) mod creators;
pub mod definer_bodies;
pub mod definer_path;
pub(crate) mod exposed;
pub mod guard_settings;
pub(crate) mod holdings;
pub(crate) mod owners;
pub(crate) mod policies;
pub(crate) mod privileges;
pub(crate) mod reached;
pub(crate) mod routines;
pub(crate) mod row_security;
pub(crate) mod stored_setting;
pub(crate) mod target;
