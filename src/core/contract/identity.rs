//! Who the caller is: where the database finds it, as far as a contract says so.

use crate::policy::identity::{Caller, Identities, Kind};
use crate::sql::identifiers::unquote;
use crate::sql::quote_ident;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a value of a session is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// The user: a row can belong to it.
    User,
    /// The role of the request: the same for all callers of a role.
    Role,
    /// All claims of the token, as a JSON document.
    Claims,
    /// What the application says about the user, such as the tenant: a row can belong to it.
    Trusted,
    /// The same as `trusted`.
    Tenant,
    /// The address of the user, which need not have been verified.
    Email,
    /// What users can change about themselves.
    UserEditable,
    /// What the request contains, such as a header.
    Request,
    /// A parameter that a session can set.
    Settable,
    /// What the token says about itself, or about many users alike.
    Token,
}

impl IdentityKind {
    fn kind(self) -> Kind {
        match self {
            Self::User => Kind::User,
            Self::Role => Kind::Role,
            Self::Claims => Kind::Claims,
            Self::Trusted | Self::Tenant => Kind::Trusted,
            Self::Email => Kind::Email,
            Self::UserEditable => Kind::UserEditable,
            Self::Request => Kind::Request,
            Self::Settable => Kind::Settable,
            Self::Token => Kind::Token,
        }
    }
}

/// Whether the sessions of a role have a user.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SessionKind {
    /// They have one.
    With,
    /// They have none, like those of anonymous callers.
    Without,
}

/// Where the database finds who the caller is. What is declared here adds to what is known of
/// Supabase and PostgREST, or replaces it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityDecl {
    /// The functions without arguments that return a value of the session:
    /// `{"app.current_user_id()": "user"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, IdentityKind>,
    /// The parameters that `current_setting` reads: `{"app.tenant": "tenant"}`. One that is not
    /// declared is `settable`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, IdentityKind>,
    /// The claims of the token by their outermost key, or by keys with dots between them; `*` for
    /// all others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, IdentityKind>,
    /// What columns contain: `{"app.users.preferences": "user_editable"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, IdentityKind>,
    /// The parameters that contain a part of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<String>,
    /// Whether an address belongs to the user who has it: a row can belong to the address.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub email_verified: bool,
    /// Whether each database role stands for one user or tenant: a row can belong to
    /// `current_user`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub database_roles_are_tenants: bool,
    /// Whether the sessions of a role have a user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sessions: BTreeMap<String, SessionKind>,
}

impl IdentityDecl {
    /// Whether nothing is declared.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the same with one way of writing each name and kind.
    pub(super) fn normalized(&self) -> Self {
        let named = |declared: &BTreeMap<String, IdentityKind>,
                     meant: &dyn Fn(&str) -> Option<String>| {
            let one = |(name, kind): (&String, &IdentityKind)| {
                let kind = match kind {
                    IdentityKind::Tenant => IdentityKind::Trusted,
                    other => *other,
                };
                (meant(name).unwrap_or_else(|| name.clone()), kind)
            };
            declared.iter().map(one).collect::<BTreeMap<_, _>>()
        };
        let parameter = |name: &str| Some(name.to_ascii_lowercase());
        Self {
            functions: named(&self.functions, &signature),
            settings: named(&self.settings, &parameter),
            claims: named(&self.claims, &|_| None),
            columns: named(&self.columns, &column),
            request: self.request.iter().map(|name| name.to_ascii_lowercase()).collect(),
            ..self.clone()
        }
    }

    /// Renames functions: `rename` gets the schema and the name of each.
    pub fn rename_functions(&mut self, rename: impl Fn(&mut String, &mut String)) {
        self.functions = renamed(&self.functions, |text| {
            let parts = parts(text.trim().strip_suffix("()")?)?;
            let [mut schema, mut name] = <[String; 2]>::try_from(parts).ok()?;
            let before = (schema.clone(), name.clone());
            rename(&mut schema, &mut name);
            let name_of = |(schema, name): &(String, String)| {
                format!("{}.{}()", quote_ident(schema), quote_ident(name))
            };
            let after = (schema, name);
            (before != after).then(|| name_of(&after))
        });
    }

    /// Renames columns: `rename` gets the schema, the table and the name of each.
    pub fn rename_columns(&mut self, rename: impl Fn(&mut String, &mut String, &mut String)) {
        self.columns = renamed(&self.columns, |text| {
            let [mut schema, mut table, mut column] =
                <[String; 3]>::try_from(parts(text.trim())?).ok()?;
            let before = [schema.clone(), table.clone(), column.clone()];
            rename(&mut schema, &mut table, &mut column);
            let after = [schema, table, column];
            let names = after.each_ref().map(|name| quote_ident(name));
            (before != after).then(|| names.join("."))
        });
    }

    /// Returns where the database finds who the caller is: what is declared, and for all else
    /// what is known of Supabase and PostgREST.
    pub(super) fn identities(&self) -> Identities {
        let declared = self.normalized();
        let named = |kinds: BTreeMap<String, IdentityKind>| {
            kinds.into_iter().map(|(name, kind)| (name, kind.kind()))
        };
        let mut all = Identities::of_platforms();
        all.functions.extend(named(declared.functions));
        all.claims.extend(named(declared.claims));
        all.columns.extend(named(declared.columns));
        // Of a parameter, `settings` says more than `request`.
        for name in declared.request {
            all.settings.remove(&name);
            all.request.insert(name);
        }
        all.settings.extend(named(declared.settings));
        all.is_email_verified |= self.email_verified;
        all.roles_are_tenants |= self.database_roles_are_tenants;
        for (role, session) in &self.sessions {
            let caller = match session {
                SessionKind::With => Caller::With,
                SessionKind::Without => Caller::Without,
            };
            all.sessions.insert(role.clone(), caller);
        }
        all
    }
}

/// Returns the entries under the names that `rename` returns; where it returns none, under their
/// own.
fn renamed(
    declared: &BTreeMap<String, IdentityKind>,
    rename: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, IdentityKind> {
    let one = |(name, kind): (&String, &IdentityKind)| {
        (rename(name).unwrap_or_else(|| name.clone()), *kind)
    };
    declared.iter().map(one).collect()
}

/// Returns a function without arguments as the server identifies it: `app.uid()`; `None` for what
/// is no schema, name and empty parentheses.
pub(super) fn signature(text: &str) -> Option<String> {
    match &parts(text.trim().strip_suffix("()")?)?[..] {
        [schema, name] => Some(format!("{}.{}()", quote_ident(schema), quote_ident(name))),
        _ => None,
    }
}

/// Returns a column as lookups name it, without quotes around the column itself; `None` for what is
/// no schema, table and column.
pub(super) fn column(text: &str) -> Option<String> {
    match &parts(text.trim())?[..] {
        [schema, table, column] => {
            Some(format!("{}.{}.{column}", quote_ident(schema), quote_ident(table)))
        }
        _ => None,
    }
}

/// Returns the names in `a."B".c`; `None` where one of them is empty or a quote is missing.
fn parts(text: &str) -> Option<Vec<String>> {
    let (mut rest, mut found) = (text, Vec::new());
    loop {
        let name;
        (name, rest) = if rest.starts_with('"') {
            unquote(rest)?
        } else {
            let end = rest.find(['.', '"', '(', ')']).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        };
        if name.is_empty() {
            return None;
        }
        found.push(name);
        if rest.is_empty() {
            return Some(found);
        }
        rest = rest.strip_prefix('.')?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::shipped::DEFAULT;
    use super::super::types::Contract;
    use super::*;
    use crate::policy::identity::Form;
    use serde_json::{Value, json};

    fn identities(declared: Value) -> Identities {
        let mut document: Value = serde_json::from_str(DEFAULT).unwrap();
        document["identity"] = declared;
        Contract::from_json(&document.to_string()).unwrap().identities()
    }

    #[test]
    fn contract_that_does_not_say_has_the_identities_of_the_platforms() {
        assert_eq!(Contract::from_json(DEFAULT).unwrap().identities(), Identities::of_platforms());
        assert_eq!(identities(json!({})), Identities::of_platforms());
    }

    #[test]
    fn declared_identities_add_to_those_of_the_platforms_or_replace_them() {
        let all = identities(json!({
            "functions": {"app.user()": "user", "auth.email()": "trusted"},
            "settings": {"App.Tenant": "tenant"},
            "claims": {"*": "user_editable", "org_id": "tenant"},
            "columns": {"app.Users.Notes": "user_editable"},
            "request": ["app.header", "request.jwt.claims"],
            "email_verified": true,
            "database_roles_are_tenants": true,
            "sessions": {"anon": "with", "service_role": "without"}
        }));
        let kind = |signature: &str| all.function(signature).map(|of| of.kind);
        assert_eq!(kind("app.\"user\"()"), Some(Kind::User), "as the server identifies it");
        assert_eq!(kind("auth.email()"), Some(Kind::Trusted));
        assert_eq!(kind("auth.uid()"), Some(Kind::User));
        assert_eq!(all.setting("app.tenant").kind, Kind::Trusted);
        assert_eq!(all.setting("app.header").kind, Kind::Request);
        assert_eq!(all.setting("request.headers").kind, Kind::Request);
        assert_eq!(all.setting("request.jwt.claims").kind, Kind::Request);
        assert_eq!(all.claim("org_id", Form::Text).kind, Kind::Trusted);
        assert_eq!(all.claim("other", Form::Text).kind, Kind::UserEditable);
        assert_eq!(all.columns.get("app.\"Users\".Notes"), Some(&Kind::UserEditable));
        assert!(all.columns.contains_key("auth.users.raw_user_meta_data"));
        assert!(all.ties(Kind::Email) && all.roles_are_tenants);
        assert_eq!(all.sessions.get("anon"), Some(&Caller::With));
        assert_eq!(all.sessions.get("authenticated"), Some(&Caller::With));
        assert_eq!(all.sessions.get("service_role"), Some(&Caller::Without));
    }
}
