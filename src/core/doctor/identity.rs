//! Which values of a session the contract trusts: what policies compare rows with.

use super::check::Check;
use crate::contract::Contract;
use crate::policy::identity::{Caller, Kind};
use crate::sql::{listed, printable};
use std::collections::BTreeMap;

/// Says which functions, parameters and claims tell who the caller is.
pub(super) fn check(contract: &Contract) -> Check {
    let identities = contract.identities();
    let is_trusted = |kind: Kind| match kind {
        Kind::User | Kind::Trusted | Kind::Claims => true,
        Kind::Email => identities.is_email_verified,
        _ => false,
    };
    let trusted = |kinds: &BTreeMap<String, Kind>| -> Vec<String> {
        let names = kinds.iter().filter(|(name, kind)| *name != "*" && is_trusted(**kind));
        names.map(|(name, _)| name.clone()).collect()
    };
    let mut parts = Vec::new();
    let mut add = |what: &str, kinds| {
        let names = trusted(kinds);
        if let [only] = names.as_slice() {
            parts.push(format!("{what} {only}"));
        } else if !names.is_empty() {
            parts.push(format!("{what}s {}", listed(&names)));
        }
    };
    add("function", &identities.functions);
    add("parameter", &identities.settings);
    add("claim", &identities.claims);
    if identities.claims.get("*").is_some_and(|kind| is_trusted(*kind)) {
        parts.push("every claim of which nothing else is known".to_owned());
    }
    if identities.roles_are_tenants {
        parts.push("the name of the database role".to_owned());
    }
    let is_without = |(_, caller): &(&String, &Caller)| **caller == Caller::Without;
    let without: Vec<String> = identities
        .sessions
        .iter()
        .filter(is_without)
        .map(|(role, _)| format!("\"{role}\""))
        .collect();
    let sessions = if without.is_empty() {
        String::new()
    } else {
        format!(" Sessions of {} have no user.", listed(&without))
    };
    let source = if contract.declares_identity() {
        "what the contract declares, and what is known of Supabase and PostgREST"
    } else {
        "what is known of Supabase and PostgREST: the contract declares nothing else"
    };
    Check {
        area: "identity",
        object: "ops.contract()".into(),
        ok: true,
        detail: printable(&format!(
            "A row is its caller's by {}.{sessions} This is {source}.",
            listed(&parts)
        ))
        .into_owned(),
        fix: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;
    use serde_json::json;

    #[test]
    fn what_the_contract_trusts_is_told() {
        let mut contract = World::conforming().contract;
        let found = check(&contract);
        assert!(found.ok);
        assert_eq!(
            found.detail,
            "A row is its caller's by functions auth.jwt() and auth.uid(), parameter \
             request.jwt.claims, claims app_metadata and sub and every claim of which nothing \
             else is known. Sessions of \"anon\" have no user. This is what is known of Supabase \
             and PostgREST: the contract declares nothing else."
        );
        contract.identity = serde_json::from_value(json!({
            "settings": {"app.tenant": "tenant"},
            "claims": {"*": "user_editable", "org": "trusted"},
            "email_verified": true,
            "sessions": {"anon": "with"},
        }))
        .expect("an identity");
        let detail = check(&contract).detail;
        assert!(detail.contains("parameters app.tenant and request.jwt.claims"), "{detail}");
        assert!(detail.contains("claims app_metadata, email, org, phone and sub."), "{detail}");
        assert!(detail.contains("functions auth.email(), auth.jwt() and auth.uid()"), "{detail}");
        assert!(!detail.contains("have no user"), "{detail}");
        assert!(detail.contains("what the contract declares, and"), "{detail}");
    }
}
