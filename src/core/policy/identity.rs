//! Values of a session: who the caller is, and what the caller has sent.

pub use crate::catalog::Caller;
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
    /// What the token says about itself, or about many users alike.
    Token,
    /// An argument of the routine whose body is read: the caller chooses it.
    Argument,
}

/// How a value of a session is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As a value of a type of its own, such as uuid.
    Value,
    /// As a text.
    Text,
    /// As a JSON document, in which null is a value.
    Document,
}

/// A value of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// What it is.
    pub kind: Kind,
    /// Which one of this kind it is, as people write it: `claims.app_metadata.tenant`. All values
    /// of the kinds [`Kind::User`], [`Kind::Role`] and [`Kind::Claims`] are the same.
    pub name: String,
    /// How it is written.
    pub form: Form,
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
                ("name", Kind::UserEditable),
                ("given_name", Kind::UserEditable),
                ("family_name", Kind::UserEditable),
                ("nickname", Kind::UserEditable),
                ("preferred_username", Kind::UserEditable),
                ("username", Kind::UserEditable),
                ("picture", Kind::UserEditable),
                ("aud", Kind::Token),
                ("iss", Kind::Token),
                ("exp", Kind::Token),
                ("iat", Kind::Token),
                ("nbf", Kind::Token),
                ("aal", Kind::Token),
                ("amr", Kind::Token),
                ("session_id", Kind::Token),
                ("is_anonymous", Kind::Token),
                ("jti", Kind::Token),
                ("typ", Kind::Token),
                ("azp", Kind::Token),
                ("scope", Kind::Token),
                ("email_verified", Kind::Token),
                ("phone_verified", Kind::Token),
                ("app_metadata.provider", Kind::Token),
                ("app_metadata.providers", Kind::Token),
                ("*", Kind::Trusted),
            ]),
            columns: kinds(&[
                ("auth.users.raw_user_meta_data", Kind::UserEditable),
                ("auth.users.email", Kind::Email),
                ("auth.users.phone", Kind::Email),
            ]),
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
        let form = |kind| match kind {
            Kind::User | Kind::Trusted => Form::Value,
            _ => Form::Text,
        };
        self.functions.get(signature).map(|kind| Identity::of(*kind, signature, form(*kind)))
    }

    /// Returns the value that a parameter has. A parameter that is not declared can be set.
    #[must_use]
    pub fn setting(&self, name: &str) -> Identity {
        let name = name.to_ascii_lowercase();
        if let Some(kind) = self.settings.get(&name) {
            return Identity::of(*kind, &name, Form::Text);
        }
        if self.request.contains(&name) {
            return Identity::of(Kind::Request, &name, Form::Text);
        }
        // As PostgREST sets the claims of a token up to version 8.
        match name.strip_prefix("request.jwt.claim.") {
            Some(claim) if self.settings.get("request.jwt.claims") == Some(&Kind::Claims) => {
                self.claim(claim, Form::Text)
            }
            _ => Identity::of(Kind::Settable, &name, Form::Text),
        }
    }

    /// Returns the value that a claim has.
    #[must_use]
    pub fn claim(&self, key: &str, form: Form) -> Identity {
        let kind = self.claims.get(key).or_else(|| self.claims.get("*"));
        Identity::of(kind.copied().unwrap_or(Kind::UserEditable), &format!("claims.{key}"), form)
    }

    /// Returns the value that a key of a document has; `None` where the value is no document.
    #[must_use]
    pub fn key(&self, of: &Identity, key: &str, form: Form) -> Option<Identity> {
        let name = format!("{}.{key}", of.name);
        let declared = name.strip_prefix("claims.").and_then(|name| self.claims.get(name));
        match of.kind {
            Kind::Claims => Some(self.claim(key, form)),
            Kind::User | Kind::Role => None,
            kind => Some(Identity::of(declared.copied().unwrap_or(kind), &name, form)),
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
    fn of(kind: Kind, name: &str, form: Form) -> Self {
        let (name, form) = match kind {
            Kind::User => ("user", form),
            Kind::Role => ("role", form),
            Kind::Claims => ("claims", Form::Document),
            _ => (name, form),
        };
        Self { kind, name: name.to_owned(), form }
    }

    /// Returns what the value is as a value of another type, if it is the same for the same caller
    /// only.
    #[must_use]
    pub fn converted(&self, to_text: bool, to_uuid: bool, to_document: bool) -> Option<Self> {
        let of_user = self.kind == Kind::User;
        match self.form {
            _ if self.kind == Kind::Claims => Some(self.clone()),
            Form::Text if to_text => Some(self.clone()),
            Form::Text if to_document => Some(Self { form: Form::Document, ..self.clone() }),
            Form::Document if to_document => Some(self.clone()),
            // The texts of UUIDs are as different as these.
            Form::Value if of_user && (to_text || to_uuid) => Some(self.clone()),
            Form::Text if of_user && to_uuid => Some(Self { form: Form::Value, ..self.clone() }),
            _ => None,
        }
    }

    /// Returns the value that an argument of a routine has.
    #[must_use]
    pub fn argument(name: &str) -> Self {
        Self { kind: Kind::Argument, name: format!("argument {name}"), form: Form::Value }
    }

    /// Returns the value that a database role is, where each stands for one user or tenant.
    #[must_use]
    pub fn database_role() -> Self {
        let name = "current_user".to_owned();
        Self { kind: Kind::Trusted, name, form: Form::Text }
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
        let from_claims = of.key(&claims, "sub", Form::Text).unwrap();
        assert_eq!(from_claims.converted(false, true, false), Some(user));
        assert_eq!(of.setting("request.jwt.claim.sub"), from_claims);
        let from_jwt = of.key(&of.function("auth.jwt()").unwrap(), "sub", Form::Text);
        assert_eq!(from_jwt, Some(from_claims));
    }

    #[test]
    fn keys_of_a_claim_have_the_kind_of_the_claim() {
        let of = Identities::of_platforms();
        let key = |first: &str, second: &str| {
            of.key(&of.claim(first, Form::Document), second, Form::Text).unwrap()
        };
        assert_eq!(key("app_metadata", "tenant").kind, Kind::Trusted);
        assert_eq!(key("user_metadata", "tenant").kind, Kind::UserEditable);
        assert_eq!(key("user_metadata", "tenant").name, "claims.user_metadata.tenant");
        assert_eq!(key("app_metadata", "provider").kind, Kind::Token);
        assert_eq!(of.claim("org_id", Form::Text).kind, Kind::Trusted);
    }

    #[test]
    fn parameter_that_is_not_declared_can_be_set() {
        let of = Identities::of_platforms();
        assert_eq!(of.setting("app.tenant").kind, Kind::Settable);
        assert_eq!(of.setting("Request.Headers").kind, Kind::Request);
    }
}
