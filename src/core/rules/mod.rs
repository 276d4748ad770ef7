//! The rules: each checks one statement of the contract, in a file of its own with metadata, check
//! and tests.
//!
//! A new rule is a new file, a `mod` line and a line in [`REGISTRY`] (`scripts/new-rule` writes
//! them).

mod context;
mod needs;
mod permitted;
mod reaching;
mod reads;
mod recipients;
pub mod shared;
#[cfg(test)]
#[expect(dead_code, reason = "scripts/new-rule copies it; compiled so that a copy compiles")]
mod template;
#[cfg(test)]
pub(crate) mod testing;

pub mod column_privileges;
pub mod default_privileges;
pub mod definer_body_argument_identity;
pub mod definer_body_dynamic_sql;
pub mod definer_body_unscoped;
pub mod definer_name_captured;
pub mod definer_sets_identity;
pub mod direct_write;
pub mod existence_oracle;
pub mod guard_tampered;
pub mod leakproof_function;
pub mod materialized_view_readable;
pub mod object_ownership;
pub mod policy_bucket_unbound;
pub mod policy_check_wider;
pub mod policy_command_missing;
pub mod policy_dead;
pub mod policy_duplicate;
pub mod policy_foreign_operator;
pub mod policy_helper_argument;
pub mod policy_helper_immutable;
pub mod policy_helper_path;
pub mod policy_helper_per_row;
pub mod policy_identity_inverted;
pub mod policy_identity_not_equal;
pub mod policy_ignores_row;
pub mod policy_lookup_denied;
pub mod policy_lookup_unbound;
pub mod policy_lookup_uncorrelated;
pub mod policy_lookup_writable;
pub mod policy_multiple_permissive;
pub mod policy_name_captured;
pub mod policy_never_true;
pub mod policy_null_row_open;
pub mod policy_opaque;
pub mod policy_open_without_identity;
pub mod policy_pattern_identity;
pub mod policy_per_row;
pub mod policy_raises;
pub mod policy_read_missing;
pub mod policy_recursion;
pub mod policy_restrictive_inert;
pub mod policy_role_name;
pub mod policy_row_open;
pub mod policy_trusts_email;
pub mod policy_trusts_request;
pub mod policy_trusts_settable_parameter;
pub mod policy_trusts_user_claim;
pub mod policy_unindexed;
pub mod policy_volatile;
pub mod policy_without_rls;
pub mod policy_write_unchecked;
pub mod policy_writes_others_rows;
pub mod published_with_row_security;
pub mod required_object_missing;
pub mod rls_disabled;
pub mod rls_not_forced;
pub mod rls_policy_always_true;
pub mod rls_policy_missing;
pub mod rls_policy_undeclared;
pub mod role_attributes;
pub mod role_membership;
pub mod role_missing;
pub mod routine_executable_by_public;
pub mod routine_privileges;
pub mod schema_create;
pub mod schema_usage;
pub mod security_definer_executable_by_clients;
pub mod security_definer_search_path;
pub mod security_definer_settings;
pub mod sequence_privileges;
pub mod server_object_privileges;
pub mod stored_settings;
pub mod table_privileges;
pub mod undeclared_role_privileges;
pub mod undeclared_view_readable;
pub mod ungoverned_schema_access;
pub mod untrusted_code;
pub mod view_privileges;

pub use context::{Context, Tool};
pub use needs::{NeedOnRelation, Needs, Why};
pub use permitted::AccessNeeds;
pub use reads::Reads;
pub(crate) use shared::reached::{of_policy, of_role};

use crate::finding::{Draft, Finding, Problem};
use crate::rule::Rule;

/// Checks one rule and adds its findings.
type Check = fn(&Context<'_>, &mut Vec<Draft>);

/// Every rule with its check, in the order of the contract's sections: declared objects exist, then
/// roles, schemas, objects, routines, rows, and at the end the guard itself.
const REGISTRY: [(&Rule, Check); 79] = [
    (&role_missing::RULE, role_missing::check),
    (&role_attributes::RULE, role_attributes::check),
    (&role_membership::RULE, role_membership::check),
    (&stored_settings::RULE, stored_settings::check),
    (&required_object_missing::RULE, required_object_missing::check),
    (&object_ownership::RULE, object_ownership::check),
    (&untrusted_code::RULE, untrusted_code::check),
    (&schema_usage::RULE, schema_usage::check),
    (&schema_create::RULE, schema_create::check),
    (&table_privileges::RULE, table_privileges::check),
    (&column_privileges::RULE, column_privileges::check),
    (&sequence_privileges::RULE, sequence_privileges::check),
    (&default_privileges::RULE, default_privileges::check),
    (&view_privileges::RULE, view_privileges::check),
    (&undeclared_view_readable::RULE, undeclared_view_readable::check),
    (&materialized_view_readable::RULE, materialized_view_readable::check),
    (&direct_write::RULE, direct_write::check),
    (&undeclared_role_privileges::RULE, undeclared_role_privileges::check),
    (&ungoverned_schema_access::RULE, ungoverned_schema_access::check),
    (&server_object_privileges::RULE, server_object_privileges::check),
    (&security_definer_search_path::RULE, security_definer_search_path::check),
    (&security_definer_settings::RULE, security_definer_settings::check),
    (&security_definer_executable_by_clients::RULE, security_definer_executable_by_clients::check),
    (&routine_executable_by_public::RULE, routine_executable_by_public::check),
    (&routine_privileges::RULE, routine_privileges::check),
    (&definer_body_unscoped::RULE, definer_body_unscoped::check),
    (&definer_body_argument_identity::RULE, definer_body_argument_identity::check),
    (&definer_name_captured::RULE, definer_name_captured::check),
    (&definer_body_dynamic_sql::RULE, definer_body_dynamic_sql::check),
    (&definer_sets_identity::RULE, definer_sets_identity::check),
    (&leakproof_function::RULE, leakproof_function::check),
    (&rls_disabled::RULE, rls_disabled::check),
    (&rls_not_forced::RULE, rls_not_forced::check),
    (&rls_policy_missing::RULE, rls_policy_missing::check),
    (&rls_policy_undeclared::RULE, rls_policy_undeclared::check),
    (&rls_policy_always_true::RULE, rls_policy_always_true::check),
    (&policy_without_rls::RULE, policy_without_rls::check),
    (&published_with_row_security::RULE, published_with_row_security::check),
    (&existence_oracle::RULE, existence_oracle::check),
    (&policy_open_without_identity::RULE, policy_open_without_identity::check),
    (&policy_identity_inverted::RULE, policy_identity_inverted::check),
    (&policy_name_captured::RULE, policy_name_captured::check),
    (&policy_lookup_unbound::RULE, policy_lookup_unbound::check),
    (&policy_lookup_uncorrelated::RULE, policy_lookup_uncorrelated::check),
    (&policy_lookup_writable::RULE, policy_lookup_writable::check),
    (&policy_write_unchecked::RULE, policy_write_unchecked::check),
    (&policy_writes_others_rows::RULE, policy_writes_others_rows::check),
    (&policy_trusts_user_claim::RULE, policy_trusts_user_claim::check),
    (&policy_trusts_request::RULE, policy_trusts_request::check),
    (&policy_trusts_settable_parameter::RULE, policy_trusts_settable_parameter::check),
    (&policy_trusts_email::RULE, policy_trusts_email::check),
    (&policy_foreign_operator::RULE, policy_foreign_operator::check),
    (&policy_recursion::RULE, policy_recursion::check),
    (&policy_ignores_row::RULE, policy_ignores_row::check),
    (&policy_identity_not_equal::RULE, policy_identity_not_equal::check),
    (&policy_pattern_identity::RULE, policy_pattern_identity::check),
    (&policy_null_row_open::RULE, policy_null_row_open::check),
    (&policy_row_open::RULE, policy_row_open::check),
    (&policy_lookup_denied::RULE, policy_lookup_denied::check),
    (&policy_never_true::RULE, policy_never_true::check),
    (&policy_helper_immutable::RULE, policy_helper_immutable::check),
    (&policy_helper_path::RULE, policy_helper_path::check),
    (&policy_opaque::RULE, policy_opaque::check),
    (&policy_check_wider::RULE, policy_check_wider::check),
    (&policy_restrictive_inert::RULE, policy_restrictive_inert::check),
    (&policy_read_missing::RULE, policy_read_missing::check),
    (&policy_dead::RULE, policy_dead::check),
    (&policy_command_missing::RULE, policy_command_missing::check),
    (&policy_role_name::RULE, policy_role_name::check),
    (&policy_raises::RULE, policy_raises::check),
    (&policy_per_row::RULE, policy_per_row::check),
    (&policy_volatile::RULE, policy_volatile::check),
    (&policy_helper_per_row::RULE, policy_helper_per_row::check),
    (&policy_unindexed::RULE, policy_unindexed::check),
    (&policy_duplicate::RULE, policy_duplicate::check),
    (&policy_helper_argument::RULE, policy_helper_argument::check),
    (&policy_bucket_unbound::RULE, policy_bucket_unbound::check),
    (&policy_multiple_permissive::RULE, policy_multiple_permissive::check),
    (&guard_tampered::RULE, guard_tampered::check),
];

/// Every rule, in the order of [`REGISTRY`].
pub static RULES: [&Rule; REGISTRY.len()] = {
    let mut rules = [REGISTRY[0].0; REGISTRY.len()];
    let mut i = 1;
    while i < REGISTRY.len() {
        rules[i] = REGISTRY[i].0;
        i += 1;
    }
    rules
};

/// Returns the rule with this id.
#[must_use]
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.id == id)
}

impl Context<'_> {
    /// Returns the findings of one rule, in order of name.
    #[must_use]
    pub fn run(&self, rule: &'static Rule) -> Vec<Finding> {
        let worst = self.severity(rule);
        Problem::all_of(self.drafts(rule)).into_iter().map(|p| p.finish(rule, worst)).collect()
    }

    /// Returns the findings of one rule before the contract's severity is applied, one for each
    /// role.
    pub(crate) fn drafts(&self, rule: &Rule) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (_, check) in REGISTRY.iter().filter(|(registered, _)| *registered == rule) {
            check(self, &mut drafts);
        }
        drafts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Enforcement, GuardAction};
    use std::collections::HashSet;

    #[test]
    fn rule_has_a_unique_id_and_complete_documentation() {
        let ids: HashSet<_> = RULES.iter().map(|r| r.id).collect();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert!(rule.id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", rule.id);
            for text in [rule.title, rule.checks, rule.why, rule.fix, rule.exempt] {
                assert!(!text.is_empty(), "{}", rule.id);
            }
        }
    }

    #[test]
    fn enforcement_limits_every_action_except_the_protection_of_the_guard() {
        let mut contract = crate::contract::Contract::from_json(crate::contract::DEFAULT).unwrap();
        assert!(RULES.iter().all(|rule| rule.action(&contract) == rule.guard));
        for (enforcement, most) in
            [(Enforcement::Warn, GuardAction::Warn), (Enforcement::Observe, GuardAction::Observe)]
        {
            contract.enforcement = enforcement;
            for rule in RULES {
                let is_guard = rule == &guard_tampered::RULE;
                let expected = if is_guard { rule.guard } else { rule.guard.min(most) };
                assert_eq!(rule.action(&contract), expected, "{}", rule.id);
            }
        }
    }

    #[test]
    fn shipped_contract_declares_the_defaults_of_every_rule() {
        let contract = crate::contract::Contract::from_json(crate::contract::DEFAULT).unwrap();
        for rule in RULES {
            let declared = &contract.rules[rule.id];
            assert_eq!(
                (declared.severity, declared.guard),
                (Some(rule.severity), Some(rule.guard)),
                "{}",
                rule.id
            );
            assert!(contract.section(rule.id).is_some(), "{}", rule.id);
        }
    }
}
