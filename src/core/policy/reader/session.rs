//! Values of the session, wherever a condition finds them.

use super::Reader;
use crate::catalog::Oid;
use crate::policy::constants::{elements, types};
use crate::policy::facts::Function;
use crate::policy::formula::{Formula, Membership, Shape};
use crate::policy::identity::{Form, Identity, Kind};
use crate::policy::term::{Constant, Operation, Term, TermId};
use crate::policy::value::{Meaning, Value, pairs};
use crate::stored::SqlValue;
use std::rc::Rc;

/// The functions that return a value of a document by its key, and operators for them.
const BY_KEY: [&str; 4] = [
    "jsonb_object_field",
    "jsonb_object_field_text",
    "json_object_field",
    "json_object_field_text",
];

/// The functions that return a value of a document by a list of keys, and operators for them.
const BY_PATH: [&str; 4] = [
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "json_extract_path",
    "json_extract_path_text",
];

/// The functions of `||` for texts.
const JOINS: [&str; 3] = ["textcat", "anytextcat", "textanycat"];

impl Reader<'_> {
    /// Returns the value of the session that a call returns.
    pub(super) fn of_session(
        &mut self,
        function: &Function,
        arguments: &[Meaning],
        is_boolean: bool,
    ) -> Option<Meaning> {
        let identities = self.identities?;
        let identity = match (function.is_built_in, arguments) {
            (false, []) => identities.function(&function.signature)?,
            (true, [Meaning::Value(Value::Term(name)), ..])
                if function.name == "current_setting" =>
            {
                match self.terms.as_constant(*name)? {
                    Constant::Text(name) if !self.catalog.has_parameter(name) => {
                        return Some(Meaning::Value(Value::Null));
                    }
                    Constant::Text(name) => {
                        let (name, identity) = (name.clone(), identities.setting(name));
                        self.note_setting(&name, arguments);
                        return Some(self.setting(identity, is_boolean));
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(self.identity(identity, is_boolean))
    }

    /// Returns the value of a parameter. One that an earlier transaction of the connection has set
    /// is empty afterwards, not null.
    fn setting(&mut self, identity: Identity, is_boolean: bool) -> Meaning {
        if identity.kind == Kind::Claims {
            // An empty text is no document.
            return self.identity(identity, is_boolean);
        }
        let is_empty = self.terms.add(Term::IsEmpty(identity.clone()));
        let empty = Value::Term(self.terms.constant(Constant::Text(String::new())));
        let value = self.identity(identity, false);
        let value = self.as_value(value);
        Meaning::Value(Value::when(&Rc::new(Formula::Holds(is_empty)), empty, value))
    }

    fn identity(&mut self, identity: Identity, is_boolean: bool) -> Meaning {
        self.asked_session += 1;
        let term = self.terms.add(Term::Identity(identity));
        Self::of_term(term, is_boolean)
    }

    /// Returns the value of the session that an operation returns for values of the session: a
    /// conversion, or a part of a document.
    pub(super) fn part_of_session(
        &mut self,
        operation: Operation,
        arguments: &[TermId],
    ) -> Option<TermId> {
        let identities = self.identities?;
        let (first, others) = arguments.split_first()?;
        let Term::Identity(of) = self.terms.get(*first).clone() else { return None };
        let (keys, form) = match operation {
            Operation::Conversion(result) => {
                let to_text = matches!(result, types::TEXT | types::VARCHAR);
                let to_document = matches!(result, types::JSON | types::JSONB);
                let converted = of.converted(to_text, result == types::UUID, to_document)?;
                return Some(self.terms.add(Term::Identity(converted)));
            }
            Operation::Subscript(false) => (self.keys(others)?, Form::Document),
            Operation::Function(function, _) => {
                let function = self.catalog.function(function)?;
                let name = function.name.as_str();
                let is_part = BY_KEY.contains(&name) || BY_PATH.contains(&name);
                if !function.is_built_in {
                    return None;
                }
                if !is_part {
                    return self.claim_in(*first, others);
                }
                let form = if name.ends_with("_text") { Form::Text } else { Form::Document };
                (self.keys(others)?, form)
            }
            _ => return None,
        };
        let mut value = of;
        for key in keys {
            value = identities.key(&value, &key, Form::Document)?;
        }
        if value.kind != Kind::Claims {
            value.form = form;
        }
        Some(self.terms.add(Term::Identity(value)))
    }

    /// Returns the claim that a condition asks for by containment or by a key; the document, if
    /// that is not known.
    pub(super) fn asked_claim(&mut self, shape: Shape, document: TermId, asked: TermId) -> TermId {
        let Term::Identity(of) = self.terms.get(document).clone() else { return document };
        let claim = match (shape, of.kind, self.identities) {
            (Shape::Contains, Kind::Claims, _) => self.claim_in(document, &[asked]),
            (Shape::Key, kind, Some(identities)) if kind != Kind::Claims => {
                match self.terms.as_constant(asked) {
                    Some(Constant::Text(key)) => identities
                        .key(&of, key, Form::Document)
                        .map(|claim| self.terms.add(Term::Identity(claim))),
                    _ => None,
                }
            }
            _ => None,
        };
        claim.unwrap_or(document)
    }

    /// Returns the claim that users can change which constants mention: a pattern of a document, or
    /// a path in it. Of others, it is not known what they ask for.
    pub(super) fn claim_in(&mut self, claims: TermId, constants: &[TermId]) -> Option<TermId> {
        let identities = self.identities?;
        match self.terms.get(claims) {
            Term::Identity(of) if of.kind == Kind::Claims => {}
            _ => return None,
        }
        let mentions = |constant: &TermId, key: &str| match self.terms.as_constant(*constant) {
            Some(Constant::Other(_, bytes)) => {
                bytes.windows(key.len()).any(|part| part == key.as_bytes())
            }
            Some(Constant::Text(text)) => text.contains(key),
            _ => false,
        };
        let keys = identities.claims.keys().filter(|key| *key != "*");
        let mentioned = keys.filter(|key| constants.iter().any(|of| mentions(of, key)));
        let claim = mentioned
            .map(|key| identities.claim(key, Form::Document))
            .find(|claim| claim.kind == Kind::UserEditable)?;
        Some(self.terms.add(Term::Identity(claim)))
    }

    /// Returns constant keys of a document.
    fn keys(&self, terms: &[TermId]) -> Option<Vec<String>> {
        let mut keys = Vec::new();
        for term in terms {
            match self.terms.get(*term) {
                Term::Constant(Constant::Text(key)) => keys.push(key.clone()),
                Term::Constant(Constant::Integer(key)) => keys.push(key.to_string()),
                Term::Constant(Constant::Other(data_type, bytes)) => {
                    for element in elements(*data_type, bytes)? {
                        match element? {
                            Constant::Text(key) => keys.push(key),
                            _ => return None,
                        }
                    }
                }
                Term::Array(elements) => keys.extend(self.keys(elements)?),
                _ => return None,
            }
        }
        Some(keys)
    }

    /// Returns the value of the session that is null where it is empty: there, it is null anyway.
    pub(super) fn unless_empty(&self, first: &Value, second: &Value) -> Option<Value> {
        let is_empty = |value: &Value| match value {
            Value::Term(term) => {
                self.terms.as_constant(*term) == Some(&Constant::Text(String::new()))
            }
            _ => false,
        };
        let set = match first {
            Value::If(_, then, otherwise, _) if is_empty(then) => &**otherwise,
            value => value,
        };
        let Value::Term(term) = set else { return None };
        // Others can be empty and not null.
        let is_identity = matches!(
            self.terms.get(*term),
            Term::Identity(of) if matches!(of.kind, Kind::User | Kind::Role | Kind::Claims)
        );
        (is_empty(second) && is_identity).then_some(Value::Term(*term))
    }

    /// Returns what a value of the session is that SQL has a keyword for.
    pub(super) fn sql_value(&mut self, value: SqlValue) -> Value {
        let known = match (value, self.identities) {
            (SqlValue::CurrentUser, Some(identities)) => match &self.users[..] {
                [_] if identities.roles_are_tenants => {
                    Some(Term::Identity(Identity::database_role()))
                }
                [others @ .., user] => {
                    self.found.asks_user = true;
                    let is_caller = others.is_empty();
                    let name = self.catalog.role_name(*user).map(Constant::Text);
                    let name = name.map(|name| self.terms.constant(name));
                    self.found.role_names.extend(name.filter(|_| is_caller));
                    name.map(|name| self.terms.get(name).clone())
                }
                [] => None,
            },
            _ => None,
        };
        Value::Term(self.terms.add(known.unwrap_or(Term::Session(value))))
    }

    /// Returns the condition that a text begins with the user's number: numbers have no characters
    /// that mean something in a pattern.
    pub(super) fn begins_with_user(
        &mut self,
        (name, operator): (&str, Oid),
        value: &Value,
        pattern: &Value,
    ) -> Option<Formula> {
        let Value::Term(pattern) = pattern else { return None };
        let mut parts = Vec::new();
        self.joined_texts(*pattern, &mut parts);
        let constant = |part: &TermId| match self.terms.get(*part) {
            Term::Constant(Constant::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let parts = match (name, parts.first().map(|part| self.terms.get(*part))) {
            ("~", Some(Term::Constant(Constant::Text(start)))) if start == "^" => &parts[1..],
            ("~", _) => return None,
            _ => &parts[..],
        };
        let user = *parts.first()?;
        let Term::Identity(of) = self.terms.get(user) else { return None };
        // A text may contain what means something in a pattern, and so may what follows.
        let is_uuid = of.kind == Kind::User && of.form == Form::Value;
        let rest = || parts[1..].iter().map(constant).collect::<Option<String>>();
        let is_safe = name != "~" || rest().is_some_and(|rest| follows_text(&rest));
        if !is_uuid || !is_safe {
            return None;
        }
        let by = Membership { operator, collation: 0, shape: Shape::Element };
        Some(pairs(&Value::Term(user), value, &mut |a, b| match (a, b) {
            (Some(a), Some(b)) => Formula::Member(by, a, b),
            _ => Formula::NULL,
        }))
    }

    /// Adds the texts that a text is joined of.
    fn joined_texts(&self, text: TermId, parts: &mut Vec<TermId>) {
        if let Term::Applied { operation: Operation::Function(function, _), arguments, .. } =
            self.terms.get(text)
            && self
                .catalog
                .function(*function)
                .is_some_and(|f| f.is_built_in && JOINS.contains(&f.name.as_str()))
        {
            arguments.iter().for_each(|argument| self.joined_texts(*argument, parts));
        } else {
            parts.push(text);
        }
    }

    /// Whether a function returns a part of its argument, whatever it is declared as.
    pub(super) fn returns_part(&self, function: &Function) -> bool {
        self.identities.is_some_and(|identities| identities.parts.contains(&function.signature))
    }

    /// Whether a function returns a value of the session, whatever it is declared as.
    pub(super) fn is_identity(&self, function: &Function) -> bool {
        self.identities.is_some_and(|of| of.function(&function.signature).is_some())
    }

    /// Whether conditions are read for a role whose sessions are known.
    pub(super) fn is_of_role(&self) -> bool {
        self.identities.is_some()
    }

    /// Notes the operator that a function belongs to, which is not the server's.
    pub(super) fn note_operator(&mut self, function: Oid, name: &str) {
        self.unknown.insert(format!("operator {name}"));
        self.found.operators.insert(function, name.to_owned());
    }
}

/// Whether what follows a text in a regular expression leaves it what a match begins with: no
/// branch without it, and no quantifier of its last character.
fn follows_text(rest: &str) -> bool {
    let mut depth = 0_usize;
    let mut characters = rest.chars().peekable();
    if characters.peek().is_some_and(|first| "*+?{".contains(*first)) {
        return false;
    }
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '[' => {
                characters.next_if_eq(&'^');
                characters.next_if_eq(&']');
                // What has brackets or escapes of its own is not followed.
                if characters.find(|of| matches!(of, ']' | '[' | '\\')) != Some(']') {
                    return false;
                }
            }
            '(' => depth += 1,
            ')' | '|' if depth == 0 => return false,
            ')' => depth -= 1,
            _ => {}
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::follows_text;

    #[test]
    fn text_begins_each_match_of_a_pattern() {
        for rest in ["", "/", "$", "-.*", "/(a|b)/x", "/[0-9a-f|]{36}\\.(jpg|pdf)$", "/\\|x"] {
            assert!(follows_text(rest), "{rest}");
        }
        for rest in
            ["|x", "/|x", "*", "?/", "{0}", "/(a|b)|c", "/)|(x", "[[:alpha:]]", "[\\]]", "(a"]
        {
            assert!(!follows_text(rest), "{rest}");
        }
    }
}
