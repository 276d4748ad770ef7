//! What to fix first: by who is concerned.

use crate::catalog::Caller;
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::{Context, required_object_missing, rls_policy_missing, role_missing};
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
    /// roles have too much, by severity and by who is concerned, before what is missing.
    pub(super) fn to_fix<'f>(&self, findings: &[&'f Finding]) -> Vec<&'f Finding> {
        let is_to_fix = |finding: &&Finding| finding.severity > Severity::Info;
        let mut first: Vec<&Finding> = findings.iter().copied().filter(is_to_fix).collect();
        first.sort_by_cached_key(|finding| {
            let exposure = self.by(finding);
            (exposure == Exposure::Missing, Reverse(finding.severity), exposure)
        });
        first
    }
}
