//! The session of a client: claims and other parameters that tell who the caller is.

use super::value::{Chosen, Type};
use crate::pg::statement;
use dragonfly_core::policy::identity::{Identities, Kind};
use dragonfly_core::policy::{Cell, Claims, Scenario};
use dragonfly_core::sql::quote_literal;
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// What a session tells of its caller.
#[derive(Debug, Clone, Default)]
pub struct Session {
    claims: Option<Map<String, Json>>,
    parameters: BTreeMap<String, String>,
    /// The functions that return the address of the caller.
    addresses: BTreeSet<String>,
}

/// The parameter of the claims.
const CLAIMS: &str = "request.jwt.claims";

/// The claims that have a parameter of their own, as earlier versions of PostgREST set them.
const OF_THEIR_OWN: [&str; 3] = ["sub", "role", "email"];

/// The claims that are documents.
const DOCUMENTS: [&str; 2] = ["app_metadata", "user_metadata"];

impl Session {
    fn new(identities: &Identities) -> Self {
        let is_address = |(_, kind): &(&String, &Kind)| **kind == Kind::Email;
        let of = identities.functions.iter().filter(is_address);
        Self { addresses: of.map(|(name, _)| name.clone()).collect(), ..Self::default() }
    }

    /// Returns the session of claims as they are given.
    pub fn of_claims(mut claims: Map<String, Json>, role: &str, identities: &Identities) -> Self {
        claims.entry("role").or_insert_with(|| Json::String(role.to_owned()));
        let mut session = Self { claims: Some(claims), ..Self::new(identities) };
        if let Some(Json::String(user)) = session.claim("sub").cloned() {
            session.set_user(&user, identities);
        }
        session
    }

    /// Returns a session of a role with values by their names, and what cannot be set.
    pub fn of_values(
        claims: Claims,
        values: &BTreeMap<String, Cell>,
        (identities, role): (&Identities, &str),
        chosen: &mut Chosen,
    ) -> (Self, Vec<String>) {
        let (mut session, mut unset) = (Self::new(identities), Vec::new());
        if claims != Claims::Missing {
            let of_role = [("role".to_owned(), Json::String(role.to_owned()))];
            session.claims = Some(of_role.into_iter().collect());
        }
        if claims == Claims::User && !values.contains_key("user") {
            let number = chosen.next();
            session.set_user(&Type::of_session(true).any(number).unwrap_or_default(), identities);
        }
        for (name, cell) in values {
            if !session.set_value(name, cell, (identities, role), chosen) {
                unset.push(name.clone());
            }
        }
        (session, unset)
    }

    /// Sets a value; false where it is not known how.
    fn set_value(
        &mut self,
        name: &str,
        cell: &Cell,
        (identities, role): (&Identities, &str),
        chosen: &mut Chosen,
    ) -> bool {
        if *cell == Cell::Null {
            return is_missing(name);
        }
        if name == "role" {
            if let Cell::Any(number) = cell {
                chosen.set(*number, role.to_owned());
            }
            return true;
        }
        if name == "claims" {
            return true;
        }
        if identities.functions.get(name) == Some(&Kind::Email) {
            return self.set_value("claims.email", cell, (identities, role), chosen);
        }
        if name == "user" {
            let user = chosen.text(cell, &Type::of_session(true), role).ok().flatten();
            return user.map(|user| self.set_user(&user, identities)).is_some();
        }
        if let Some(path) = name.strip_prefix("claims.") {
            let (Some(claims), Ok(mut value)) = (&mut self.claims, chosen.json(cell, role)) else {
                return false;
            };
            // A document that all claims together must contain.
            if let Some(inner) = value.get(path) {
                value = inner.clone();
            }
            if DOCUMENTS.contains(&path) && !value.is_object() {
                return false;
            }
            let keys: Vec<&str> = path.split('.').collect();
            return set_path(claims, &keys, value);
        }
        let mut names = identities.request.iter().chain(identities.settings.keys());
        let document =
            names.find_map(|of| Some((of, name.strip_prefix(of.as_str())?.strip_prefix('.')?)));
        if let Some((parameter, key)) = document {
            let text = self.parameters.get(parameter).map_or("{}", String::as_str);
            let mut object: Map<String, Json> = serde_json::from_str(text).unwrap_or_default();
            let Ok(value) = chosen.json(cell, role) else { return false };
            let is_set = set_path(&mut object, &key.split('.').collect::<Vec<_>>(), value);
            self.parameters.insert(parameter.clone(), Json::Object(object).to_string());
            return is_set;
        }
        let value = chosen.text(cell, &Type::of_session(false), role).ok().flatten();
        let is_parameter = !name.contains('(');
        value
            .filter(|_| is_parameter)
            .map(|value| self.parameters.insert(name.to_owned(), value))
            .is_some()
    }

    fn set_user(&mut self, user: &str, identities: &Identities) {
        if let Some(claims) = &mut self.claims {
            claims.insert("sub".to_owned(), Json::String(user.to_owned()));
        }
        let of_user = identities.settings.iter().filter(|(_, kind)| **kind == Kind::User);
        for (name, _) in of_user {
            self.parameters.insert(name.clone(), user.to_owned());
        }
    }

    /// Returns a claim by its outermost key.
    fn claim(&self, key: &str) -> Option<&Json> {
        self.claims.as_ref()?.get(key)
    }

    /// Returns a value of the session by its name, as a text.
    pub fn value(&self, name: &str) -> Option<String> {
        let path = match name {
            "user" => "sub",
            name => match name.strip_prefix("claims.") {
                Some(path) => path,
                None if self.addresses.contains(name) => "email",
                None => return self.parameters.get(name).cloned(),
            },
        };
        let mut keys = path.split('.');
        let mut value = self.claim(keys.next()?)?;
        for key in keys {
            value = value.get(key)?;
        }
        // Of a list, an element is what a row has.
        let value = value.as_array().map_or(Some(value), |list| list.first())?;
        match value {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Gives the values of a scenario those of this session, which is the one of `user`.
    ///
    /// # Errors
    /// The session lacks one, or has another one than the scenario needs.
    pub fn choose(
        &self,
        scenario: &Scenario,
        (user, role): (&str, &str),
        chosen: &mut Chosen,
    ) -> Result<(), String> {
        for (name, cell) in &scenario.session {
            let claim = if name == "user" { "sub" } else { name.trim_start_matches("claims.") };
            let missing =
                || format!("The claims of user {user} have no {claim}: add it to argument {user}.");
            match cell {
                Cell::Role => {}
                Cell::Any(number) if name == "role" => chosen.set(*number, role.to_owned()),
                Cell::Any(number) => chosen.set(*number, self.value(name).ok_or_else(missing)?),
                Cell::List(of) if let Cell::Any(number) = **of => {
                    chosen.set(number, self.value(name).ok_or_else(missing)?);
                }
                cell => {
                    let wanted = chosen.text(cell, &Type::of_session(false), role).ok().flatten();
                    let known =
                        if name == "role" { Some(role.to_owned()) } else { self.value(name) };
                    if known != wanted {
                        return Err(match wanted {
                            Some(wanted) => format!(
                                "In the claims of user {user}, {claim} is not {wanted}: the row \
                                 passes only where argument {user} says so."
                            ),
                            None => format!(
                                "The claims of user {user} have {claim}: the row passes only where \
                                 argument {user} has none."
                            ),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether another session has the same values.
    pub fn is_same(&self, other: &Self, names: &BTreeMap<String, Cell>) -> bool {
        names.keys().all(|name| self.value(name) == other.value(name))
    }

    /// Sets the parameters until the end of the subtransaction.
    pub fn set(&self) {
        let mut all = self.parameters.clone();
        let claims = self.claims.as_ref();
        let text = claims.map(|claims| Json::Object(claims.clone()).to_string());
        all.insert(CLAIMS.to_owned(), text.unwrap_or_default());
        for claim in OF_THEIR_OWN {
            let value = self.claim(claim).and_then(Json::as_str).unwrap_or_default();
            all.entry(format!("request.jwt.claim.{claim}")).or_insert_with(|| value.to_owned());
        }
        for (name, value) in all {
            let (name, value) = (quote_literal(&name), quote_literal(&value));
            // A parameter that has never been set is null, and not empty.
            statement::count(&format!(
                "SELECT pg_catalog.set_config({name}, {value}, true)
                  WHERE {value} OPERATOR(pg_catalog.<>) ''
                     OR pg_catalog.current_setting({name}, true) OPERATOR(pg_catalog.<>) ''"
            ));
        }
    }
}

/// Whether a value of the session is null as long as nothing sets it: a parameter that has been set
/// before, even in a transaction that was rolled back, is empty.
fn is_missing(name: &str) -> bool {
    let is_parameter = name.contains('.') && !name.contains('(') && !name.starts_with("claims.");
    let name = quote_literal(name);
    !is_parameter
        || statement::count(&format!(
            "SELECT WHERE pg_catalog.current_setting({name}, true) IS NOT NULL"
        )) == 0
}

/// Sets a value in a document, at the end of a path of keys; false where there is another value on
/// the way.
fn set_path(object: &mut Map<String, Json>, keys: &[&str], value: Json) -> bool {
    match keys {
        [] => false,
        [key] => {
            object.insert((*key).to_owned(), value);
            true
        }
        [key, rest @ ..] => {
            let inner = object.entry(*key).or_insert_with(|| Json::Object(Map::new()));
            inner.as_object_mut().is_some_and(|inner| set_path(inner, rest, value))
        }
    }
}
