//! What to fix first: by who is concerned.

use crate::catalog::Caller;
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::{
    Context, default_privileges, definer_body_dynamic_sql, definer_sets_identity,
    required_object_missing, rls_policy_missing, role_attributes, role_membership, role_missing,
    schema_create, security_definer_search_path, server_object_privileges, stored_settings,
    untrusted_code,
};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashSet;

/// Who is concerned by a finding, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exposure {
    /// Everyone who can send a request.
    Anyone,
    /// Users of the application.
    Clients,
    /// Other roles, or none in particular.
    Others,
    /// No role has too much: something that is declared does not work.
    Missing,
}

/// What a finding leads to, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// A role can execute code as another one, or become it.
    TakesOver,
    /// A role can reach objects or rows.
    Reaches,
    /// Something later would have to happen, such as a new table.
    Later,
}

/// The rules about ways to execute code as another role, or to become one.
static TAKING_OVER: [&Rule; 8] = [
    &definer_body_dynamic_sql::RULE,
    &definer_sets_identity::RULE,
    &security_definer_search_path::RULE,
    &server_object_privileges::RULE,
    &role_attributes::RULE,
    &role_membership::RULE,
    &schema_create::RULE,
    &untrusted_code::RULE,
];

/// The rules about what matters only to objects that are created later, or to some sessions.
static LATER: [&Rule; 2] = [&default_privileges::RULE, &stored_settings::RULE];

impl Harm {
    fn of(finding: &Finding) -> Self {
        let is_of = |rules: &[&Rule]| rules.iter().any(|rule| rule.id == finding.rule.id);
        if is_of(&TAKING_OVER) {
            Self::TakesOver
        } else if is_of(&LATER) {
            Self::Later
        } else {
            Self::Reaches
        }
    }
}

/// The rules about something that is declared and does not exist.
static MISSING: [&Rule; 3] =
    [&required_object_missing::RULE, &rls_policy_missing::RULE, &role_missing::RULE];

/// The roles by who can become them.
pub(super) struct Concerned<'a> {
    anyone: HashSet<&'a str>,
    clients: HashSet<&'a str>,
}

impl<'a> Concerned<'a> {
    pub(super) fn of(cx: &Context<'a>) -> Self {
        let sessions = cx.contract.identities().sessions;
        let clients = || cx.clients.iter().map(|client| client.name.as_str());
        let without = clients().filter(|role| sessions.get(*role) == Some(&Caller::Without));
        let anonymous = cx.snapshot.anonymous.iter().map(String::as_str);
        Self {
            anyone: anonymous.chain(without).chain(["PUBLIC"]).collect(),
            clients: clients().collect(),
        }
    }

    /// Returns who is concerned by a finding.
    pub(super) fn by(&self, finding: &Finding) -> Exposure {
        let is_missing = finding.evidence["problem"] == "missing"
            || MISSING.iter().any(|rule| rule.id == finding.rule.id);
        let is_about =
            |roles: &HashSet<&str>| finding.roles.iter().any(|role| roles.contains(role.as_str()));
        if is_missing {
            Exposure::Missing
        } else if is_about(&self.anyone) {
            Exposure::Anyone
        } else if is_about(&self.clients) {
            Exposure::Clients
        } else {
            Exposure::Others
        }
    }

    /// Returns the errors and warnings among findings, those to fix first at the beginning: what
    /// roles have too much, by severity, by who is concerned and by the harm, before what is
    /// missing.
    pub(super) fn to_fix<'f>(&self, findings: &[&'f Finding]) -> Vec<&'f Finding> {
        let is_to_fix = |finding: &&Finding| finding.severity > Severity::Info;
        let mut first: Vec<&Finding> = findings.iter().copied().filter(is_to_fix).collect();
        first.sort_by_cached_key(|finding| {
            let exposure = self.by(finding);
            let is_missing = exposure == Exposure::Missing;
            (is_missing, Reverse(finding.severity), exposure, Harm::of(finding))
        });
        first
    }
}
