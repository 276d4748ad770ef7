//! What is wrong with a document, and where.

use super::Severity;
use crate::sql::printable;
use std::fmt;

/// A place in a JSON document, as `jsonpath` writes it: `$.tables[3].grants."my role"[0]`. Lives on the stack of whoever walks the document,
/// and costs nothing until somebody wants to read it.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The document.
    Root,
    /// A field of an object.
    Field(&'p Path<'p>, &'p str),
    /// An element of an array.
    Item(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// A field of what is here.
    #[must_use]
    pub fn field(&'p self, name: &'p str) -> Self {
        Self::Field(self, name)
    }

    /// An element of what is here.
    #[must_use]
    pub fn item(&'p self, i: usize) -> Self {
        Self::Item(self, i)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("$"),
            Self::Item(of, i) => write!(f, "{of}[{i}]"),
            Self::Field(of, name) => {
                let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                match plain {
                    true => write!(f, "{of}.{name}"),
                    // What JSON leaves as it is and no terminal should see is written as JSON would escape it.
                    false => write!(f, "{of}.{}", printable(&serde_json::Value::from(*name).to_string())),
                }
            }
        }
    }
}

/// One thing that is wrong with a document, or (a warning) that contradicts something else in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// [`Severity::Error`]: this is no contract. [`Severity::Warning`]: it is one, and contradicts itself.
    pub severity: Severity,
    /// The place, as `jsonpath`.
    pub path: String,
    /// What is wrong; holds nothing unprintable.
    pub problem: String,
    /// What would be right there.
    pub allowed: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        self.allowed.as_ref().map_or(Ok(()), |allowed| write!(f, "; allowed: {allowed}"))
    }
}

/// What has been found so far; a document that is no contract at all could be wrong in a million places.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// So many are enough for anybody.
    const MOST: usize = 1000;

    /// Whether nobody wants to hear of more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= Self::MOST
    }

    /// Something that makes it no contract.
    pub fn error(&mut self, path: &Path<'_>, problem: impl Into<String>, allowed: impl Into<Option<String>>) {
        self.add(Severity::Error, path, problem.into(), allowed.into());
    }

    /// Something that contradicts something else.
    pub fn warning(&mut self, path: &Path<'_>, problem: impl Into<String>, allowed: impl Into<Option<String>>) {
        self.add(Severity::Warning, path, problem.into(), allowed.into());
    }

    fn add(&mut self, severity: Severity, path: &Path<'_>, problem: String, allowed: Option<String>) {
        if !self.is_full() {
            self.0.push(Problem { severity, path: path.to_string(), problem, allowed });
        }
    }

    /// Adds what others have found, but for places that are known to be wrong already, and what is in them.
    pub fn extend(&mut self, others: Self) {
        let known: std::collections::HashSet<String> = self.0.iter().map(|p| p.path.clone()).collect();
        // What is in a place that is wrong was put there to be able to go on.
        let places = |path: &str| path.match_indices(['.', '[']).map(|(end, _)| path[..end].to_owned()).collect::<Vec<_>>();
        let is_new = |p: &Problem| !known.contains(&p.path) && !places(&p.path).iter().any(|place| known.contains(place));
        self.0.extend(others.0.into_iter().filter(is_new));
        self.0.truncate(Self::MOST);
    }

    /// All of them, errors first.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|p| std::cmp::Reverse(p.severity));
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_jsonpath() {
        let (tables, role) = (Path::Root.field("tables"), "my \"role\"\n");
        assert_eq!(tables.item(3).field("grants").field(role).item(0).to_string(), r#"$.tables[3].grants."my \"role\"\n"[0]"#);
        assert_eq!(Path::Root.field("$schema").to_string(), r#"$."$schema""#);
    }
}
