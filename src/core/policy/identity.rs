//! Values of a session: who the caller is, and what the caller has sent.

use std::collections::{BTreeMap, BTreeSet};

/// What a value of a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The number of the user: a row can belong to it.
    User,
    /// The role of the request: the same for all callers of a role.
    Role,
    /// All claims of the token, as a document.
    Claims,
    /// What the application says about the user, such as a tenant.
    Trusted,
    /// The address of the user, which may not have been verified.
    Email,
    /// What users can change about themselves.
    UserEditable,
    /// What the request contains, such as a header.
    Request,
    /// A parameter that a session can set.
    Settable,
}

/// A value of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Which one of this kind it is, as people write it: `claims.app_metadata.tenant`. All values
    /// of the kinds [`Kind::User`], [`Kind::Role`] and [`Kind::Claims`] are the same.
    pub name: String,
}

/// Where a database finds the values of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// By function, such as `auth.uid()`.
    pub functions: BTreeMap<String, Kind>,
    /// By parameter, such as `request.jwt.claims`.
    pub settings: BTreeMap<String, Kind>,
    /// By the outermost key of the claims; `*` for all others.
    pub claims: BTreeMap<String, Kind>,
    /// By column, such as `auth.users.raw_user_meta_data`: what the columns of a lookup contain.
    pub columns: BTreeMap<String, Kind>,
    /// The parameters that contain what the request contains.
    pub request: BTreeSet<String>,
    /// Functions that return a part of their argument, such as `storage.foldername(text)`.
    pub parts: BTreeSet<String>,
    /// Whether an address belongs to the user who has it.
    pub is_email_verified: bool,
    /// Whether each database role stands for one user or tenant.
    pub roles_are_tenants: bool,
    /// Whether sessions of a role have a user.
    pub sessions: BTreeMap<String, Caller>,
}

/// Whether the sessions of a role have a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// They have one.
    With,
    /// They have none.
    Without,
}

impl Identities {
    /// Returns those of Supabase and PostgREST.
    #[must_use]
    pub fn of_platforms() -> Self {
        let kinds = |pairs: &[(&str, Kind)]| {
            pairs.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect()
        };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            functions: kinds(&[
                ("auth.uid()", Kind::User),
                ("auth.jwt()", Kind::Claims),
                ("auth.role()", Kind::Role),
                ("auth.email()", Kind::Email),
            ]),
            settings: kinds(&[("request.jwt.claims", Kind::Claims)]),
            claims: kinds(&[
                ("sub", Kind::User),
                ("role", Kind::Role),
                ("app_metadata", Kind::Trusted),
                ("user_metadata", Kind::UserEditable),
                ("email", Kind::Email),
                ("phone", Kind::Email),
                ("*", Kind::Trusted),
            ]),
            columns: kinds(&[("auth.users.raw_user_meta_data", Kind::UserEditable)]),
            request: names(&[
                "request.headers",
                "request.cookies",
                "request.path",
                "request.method",
                "application_name",
            ]),
            parts: names(&[
                "storage.foldername(text)",
                "storage.filename(text)",
                "storage.extension(text)",
            ]),
            is_email_verified: false,
            roles_are_tenants: false,
            sessions: [
                ("anon".to_owned(), Caller::Without),
                ("authenticated".to_owned(), Caller::With),
            ]
            .into(),
        }
    }

    /// Returns the value that a function returns, by its name with the types of its arguments.
    #[must_use]
    pub fn function(&self, signature: &str) -> Option<Identity> {
        self.functions.get(signature).map(|kind| Identity::of(*kind, signature))
    }

    /// Returns the value that a parameter has. A parameter that is not declared can be set.
    #[must_use]
    pub fn setting(&self, name: &str) -> Identity {
        let name = name.to_ascii_lowercase();
        if let Some(kind) = self.settings.get(&name) {
            return Identity::of(*kind, &name);
        }
        if self.request.contains(&name) {
            return Identity::of(Kind::Request, &name);
        }
        // As PostgREST sets the claims of a token up to version 8.
        match name.strip_prefix("request.jwt.claim.") {
            Some(claim) if self.settings.get("request.jwt.claims") == Some(&Kind::Claims) => {
                self.claim(claim)
            }
            _ => Identity::of(Kind::Settable, &name),
        }
    }

    /// Returns the value that a claim has.
    #[must_use]
    pub fn claim(&self, key: &str) -> Identity {
        let kind = self.claims.get(key).or_else(|| self.claims.get("*"));
        Identity::of(kind.copied().unwrap_or(Kind::UserEditable), &format!("claims.{key}"))
    }

    /// Returns the value that a key of a document has; `None` where the value is no document.
    #[must_use]
    pub fn key(&self, of: &Identity, key: &str) -> Option<Identity> {
        match of.kind {
            Kind::Claims => Some(self.claim(key)),
            Kind::User | Kind::Role => None,
            kind => Some(Identity::of(kind, &format!("{}.{key}", of.name))),
        }
    }

    /// Whether a row can belong to the caller because it has this value.
    #[must_use]
    pub fn ties(&self, kind: Kind) -> bool {
        match kind {
            Kind::User | Kind::Trusted => true,
            Kind::Email => self.is_email_verified,
            _ => false,
        }
    }
}

impl Identity {
    fn of(kind: Kind, name: &str) -> Self {
        let name = match kind {
            Kind::User => "user",
            Kind::Role => "role",
            Kind::Claims => "claims",
            _ => name,
        };
        Self { kind, name: name.to_owned() }
    }

    /// Returns the value that a database role is, where each stands for one user or tenant.
    #[must_use]
    pub fn database_role() -> Self {
        Self { kind: Kind::Trusted, name: "current_user".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_the_same_wherever_it_is_found() {
        let of = Identities::of_platforms();
        let claims = of.setting("request.jwt.claims");
        let user = of.function("auth.uid()").unwrap();
        assert_eq!(of.key(&claims, "sub"), Some(user.clone()));
        assert_eq!(of.setting("request.jwt.claim.sub"), user);
        assert_eq!(of.key(&of.function("auth.jwt()").unwrap(), "sub"), Some(user));
    }

    #[test]
    fn keys_of_a_claim_have_the_kind_of_the_claim() {
        let of = Identities::of_platforms();
        let key = |first: &str, second: &str| of.key(&of.claim(first), second).unwrap();
        assert_eq!(key("app_metadata", "tenant").kind, Kind::Trusted);
        assert_eq!(key("user_metadata", "tenant").kind, Kind::UserEditable);
        assert_eq!(key("user_metadata", "tenant").name, "claims.user_metadata.tenant");
        assert_eq!(of.claim("org_id").kind, Kind::Trusted);
    }

    #[test]
    fn parameter_that_is_not_declared_can_be_set() {
        let of = Identities::of_platforms();
        assert_eq!(of.setting("app.tenant").kind, Kind::Settable);
        assert_eq!(of.setting("Request.Headers").kind, Kind::Request);
    }
}
