//! The exemptions with which a database passes the audit under a contract that was inferred from
//! it: one for each finding, with a reason, the most dangerous first.

use crate::catalog::{Command, ObjectId, ObjectKind, Privileges, Relation, Role};
use crate::contract::Severity;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::shared::reached::{is_for_all_rows, lets_through};
use crate::rules::{
    Context, column_privileges, default_privileges, direct_write, guard_tampered, object_ownership,
    required_object_missing, rls_disabled, rls_policy_always_true, rls_policy_missing,
    rls_policy_undeclared, role_attributes, role_membership, role_missing, schema_create,
    security_definer_executable_by_clients, security_definer_search_path,
    security_definer_settings, table_privileges,
};
use std::cmp::Reverse;

/// A finding that remains, and why it would be accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Remaining {
    /// The finding.
    pub finding: Finding,
    /// The reason of an exemption.
    pub reason: String,
    /// Whether the finding should be exempted at all. Otherwise it has to be fixed: something that
    /// the contract declares does not exist, or the guard is not intact.
    pub can_be_exempt: bool,
}

/// Rules in the order of what their findings make possible, the worst first. Others follow.
const WORST_FIRST: [&Rule; 14] = [
    &schema_create::RULE,
    &role_attributes::RULE,
    &role_membership::RULE,
    &object_ownership::RULE,
    &security_definer_search_path::RULE,
    &security_definer_settings::RULE,
    &security_definer_executable_by_clients::RULE,
    &rls_policy_always_true::RULE,
    &rls_policy_undeclared::RULE,
    &direct_write::RULE,
    &rls_disabled::RULE,
    &table_privileges::RULE,
    &column_privileges::RULE,
    &default_privileges::RULE,
];

/// Rules whose findings an exemption would only hide.
const TO_BE_FIXED: [&Rule; 4] = [
    &guard_tampered::RULE,
    &required_object_missing::RULE,
    &role_missing::RULE,
    &rls_policy_missing::RULE,
];

/// Returns the findings with the reasons of their exemptions: findings of `schema_create`, which
/// other findings depend on, then those of the highest severity; of these, first what has an effect
/// now. Information is omitted.
#[must_use]
pub fn remaining(cx: &Context<'_>, findings: Vec<Finding>) -> Vec<Remaining> {
    let mut all: Vec<(_, Remaining)> = findings
        .into_iter()
        .filter(|finding| finding.severity > Severity::Info)
        .map(|finding| {
            cx.check_interrupts();
            let effect = Effect::of(cx, &finding);
            let key = (
                *finding.rule != schema_create::RULE,
                Reverse(finding.severity),
                effect,
                rank(finding.rule),
                finding.object.identity.clone(),
                finding.roles.clone(),
            );
            let reason = format!(
                "Found when contract {} was introduced. {}",
                cx.contract.version,
                effect.sentence(&finding)
            );
            let can_be_exempt =
                !TO_BE_FIXED.contains(&finding.rule) && finding.evidence["problem"] != "missing";
            (key, Remaining { finding, reason, can_be_exempt })
        })
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().map(|(_, remaining)| remaining).collect()
}

fn rank(rule: &Rule) -> usize {
    WORST_FIRST.iter().position(|known| *known == rule).unwrap_or(WORST_FIRST.len())
}

/// What privileges on a relation allow a role now, from the worst to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// The table has no row security.
    NoRowSecurity,
    /// A policy that is always true applies.
    EveryRow,
    /// TRUNCATE bypasses row security.
    Truncate,
    /// Something else than privileges of a role on a table.
    Other,
    /// No policy allows it.
    NoRows,
    /// The role has no USAGE on the schema.
    NoUsage,
}

impl Effect {
    fn of(cx: &Context<'_>, finding: &Finding) -> Self {
        let ObjectId::Relation(oid) = finding.object.id else { return Self::Other };
        let relation = cx.snapshot.relation(oid).filter(|relation| relation.kind.is_table());
        let Some(relation) = relation else { return Self::Other };
        if *finding.rule == rls_disabled::RULE {
            return Self::NoRowSecurity;
        }
        let words: Vec<&str> = finding.evidence["privileges"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|word| word.as_str())
            .collect();
        let roles = finding.roles.iter().map(|name| cx.snapshot.role_named(name));
        let of_role = |role: Option<&Role>| match role {
            Some(role) if !words.is_empty() => Self::of_privileges(cx, relation, role, &words),
            _ => Self::Other,
        };
        roles.map(of_role).min().unwrap_or(Self::Other)
    }

    fn of_privileges(cx: &Context<'_>, relation: &Relation, role: &Role, words: &[&str]) -> Self {
        if !has_usage(cx, relation, role) {
            return Self::NoUsage;
        }
        if !relation.row_security {
            return Self::NoRowSecurity;
        }
        let mut commands =
            Command::ALL.into_iter().filter(|command| words.contains(&command.as_str()));
        let policies = cx.snapshot.policies_of(relation.oid);
        let opens = |command: &Command| {
            policies.iter().any(|policy| {
                policy.permissive
                    && is_for_all_rows(cx, policy, role, *command)
                    && cx.policy_admits(policy, relation, role, *command)
            })
        };
        let admits = |command: Command| {
            policies.iter().any(|policy| {
                policy.permissive && lets_through(cx, policy, relation, role, command)
            })
        };
        if commands.clone().any(|command| opens(&command)) {
            Self::EveryRow
        } else if words.contains(&"TRUNCATE") {
            Self::Truncate
        } else if role.bypass_rls || role.superuser || commands.any(admits) {
            Self::Other
        } else {
            Self::NoRows
        }
    }

    /// Returns why the finding matters, or why it does not now.
    fn sentence(self, finding: &Finding) -> String {
        match self {
            Self::NoRowSecurity => "The table has no row security: every row is accessible.",
            Self::EveryRow => "A policy that is always true allows it for every row.",
            Self::Truncate => "TRUNCATE removes all rows, whatever the policies are.",
            Self::Other => finding.rule.why,
            Self::NoRows => "Without effect as long as no policy allows the role any row.",
            Self::NoUsage => "Without effect as long as the role has no USAGE on the schema.",
        }
        .to_owned()
    }
}

fn has_usage(cx: &Context<'_>, relation: &Relation, role: &Role) -> bool {
    cx.snapshot.schema(relation.schema).is_some_and(|schema| {
        cx.access
            .privileges(role.oid, schema.owner, schema.acl.as_ref(), ObjectKind::Schema)
            .contains(Privileges::USAGE)
    })
}
