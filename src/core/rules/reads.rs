//! What rules look at beyond roles, schemas, objects and their privileges, so that an audit of some
//! rules reads no more.

use super::{required_object_missing, security_definer_search_path};
use crate::rule::{Area, Rule};

/// What some rules look at beyond roles, schemas, objects and their privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    /// The bodies of routines whose search_path a fix may change.
    pub bodies: bool,
    /// What the parts of objects use: policies, views, constraints, defaults and the like.
    pub parts: bool,
    /// What policies and the bodies of routines let clients reach.
    pub reach: bool,
}

impl Reads {
    /// Everything.
    pub const ALL: Self = Self { bodies: true, parts: true, reach: true };

    /// Returns what some rules look at, at most.
    #[must_use]
    pub fn of(rules: &[&Rule]) -> Self {
        let fixes_paths = [&security_definer_search_path::RULE, &required_object_missing::RULE];
        let is_any = |areas: &[Area]| rules.iter().any(|rule| areas.contains(&rule.area));
        let by_policies = [Area::Objects, Area::Functions, Area::Rls, Area::Policies];
        Self {
            bodies: fixes_paths.iter().any(|rule| rules.contains(rule)),
            parts: is_any(&by_policies) || is_any(&[Area::Grants, Area::Views]),
            reach: is_any(&by_policies),
        }
    }
}
