//! What is wrong with a document, and where.

use super::types::Severity;
use crate::sql::printable;
use std::fmt;

/// A place in a JSON document, as `jsonpath` writes it: `$.tables[3].grants."my role"[0]`. Lives on
/// the stack of whoever walks the document, and costs nothing until somebody wants to read it.
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
                    false => write!(f, "{of}.{}", quoted(name)),
                }
            }
        }
    }
}

/// A name in quotes, as `jsonpath` takes it. What no terminal should see is written by its number.
fn quoted(name: &str) -> String {
    let escaped = |c: char| match printable(c.encode_utf8(&mut [0; 4])) {
        std::borrow::Cow::Borrowed(same) => same.to_owned(),
        std::borrow::Cow::Owned(_) if u32::from(c) > 0xffff => format!("\\u{{{:X}}}", u32::from(c)),
        std::borrow::Cow::Owned(other) => other,
    };
    serde_json::Value::from(name).to_string().chars().map(escaped).collect()
}

/// One thing that is wrong with a document, or (a warning) that contradicts something else in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// [`Severity::Error`]: this is no contract. [`Severity::Warning`]: it is one, and contradicts
    /// itself.
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

/// What has been found so far. A document that is no contract at all could be wrong in a million
/// places: of those only the first are kept, and never a warning in place of an error.
pub struct Problems<'i> {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Whether there were errors and warnings that were not kept.
    more: [bool; 2],
    interrupts: &'i dyn Fn(),
}

impl fmt::Debug for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.errors.iter().chain(&self.warnings)).finish()
    }
}

impl<'i> Problems<'i> {
    /// So many of each kind are enough for anybody.
    const MOST: usize = 1000;

    /// None so far. `interrupts` is called again and again while a document is looked at, and may
    /// unwind.
    #[must_use]
    pub fn new(interrupts: &'i dyn Fn()) -> Self {
        Self { errors: vec![], warnings: vec![], more: [false; 2], interrupts }
    }

    /// As many again, for another look at the same document.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self::new(self.interrupts)
    }

    /// Lets the user cancel.
    pub fn check_interrupts(&self) {
        (self.interrupts)();
    }

    /// Whether nobody wants to hear of more errors.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors.len() >= Self::MOST
    }

    /// Whether something makes it no contract.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether a list of declarations lacks a name: it is no list, or something in it is no
    /// declaration, or has no name.
    #[must_use]
    pub fn lacks_names(&self, list: &str) -> bool {
        let of_names = |path: &str| match path.strip_prefix(list) {
            Some("") => true,
            Some(rest) => {
                rest.starts_with('[')
                    && (rest.ends_with("].name") || rest.ends_with(']') && !rest.contains('.'))
            }
            None => false,
        };
        self.errors.iter().any(|p| of_names(&p.path))
    }

    /// Something that makes it no contract.
    pub fn error(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
    ) {
        self.check_interrupts();
        if self.is_full() {
            self.more[0] = true;
        } else {
            let (severity, path) = (Severity::Error, path.to_string());
            self.errors.push(Problem {
                severity,
                path,
                problem: problem.into(),
                allowed: allowed.into(),
            });
        }
    }

    /// Something that contradicts something else.
    pub fn warning(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
    ) {
        self.check_interrupts();
        if self.warnings.len() >= Self::MOST {
            self.more[1] = true;
        } else {
            let (severity, path) = (Severity::Warning, path.to_string());
            self.warnings.push(Problem {
                severity,
                path,
                problem: problem.into(),
                allowed: allowed.into(),
            });
        }
    }

    /// Adds what others have found.
    pub fn append(&mut self, others: Self) {
        self.errors.extend(others.errors);
        self.warnings.extend(others.warnings);
        self.more = [self.more[0] || others.more[0], self.more[1] || others.more[1]];
    }

    /// Leaves away what is in a place that `wrong` says is wrong: it was put there to be able to go
    /// on.
    pub fn forget_places_of(&mut self, wrong: &Self) {
        let known: std::collections::HashSet<&str> =
            wrong.errors.iter().map(|p| p.path.as_str()).collect();
        let in_wrong_place = |path: &str| {
            known.contains(path)
                || path.match_indices(['.', '[']).any(|(end, _)| known.contains(&path[..end]))
        };
        self.errors.retain(|p| !in_wrong_place(&p.path));
        self.warnings.retain(|p| !in_wrong_place(&p.path));
    }

    /// All of them, errors first; where there were more than are kept, that is the last of its
    /// kind.
    #[must_use]
    pub fn into_vec(self) -> Vec<Problem> {
        let mut all = Vec::new();
        let kinds = [
            (Severity::Error, self.errors, self.more[0]),
            (Severity::Warning, self.warnings, self.more[1]),
        ];
        for (severity, mut problems, more) in kinds {
            // Where there are so many, whoever looked may have stopped looking.
            let more = more || problems.len() >= Self::MOST;
            problems.truncate(Self::MOST);
            all.extend(problems);
            if more {
                let problem = "and perhaps more, which are not listed".to_owned();
                all.push(Problem {
                    severity,
                    path: Path::Root.to_string(),
                    problem,
                    allowed: None,
                });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_jsonpath() {
        let (tables, role) = (Path::Root.field("tables"), "my \"role\"\n");
        assert_eq!(
            tables.item(3).field("grants").field(role).item(0).to_string(),
            r#"$.tables[3].grants."my \"role\"\n"[0]"#
        );
        assert_eq!(Path::Root.field("$schema").to_string(), r#"$."$schema""#);
        assert_eq!(Path::Root.field("a\u{202e}\u{e0001}").to_string(), r#"$."a\u202E\u{E0001}""#);
    }
    #[test]
    fn warnings_never_take_the_place_of_errors() {
        let mut problems = Problems::new(&|| {});
        for _ in 0..1500 {
            problems.warning(&Path::Root, "odd", None);
        }
        problems.error(&Path::Root.field("x"), "wrong", None);
        let all = problems.into_vec();
        assert_eq!((all.len(), all[0].path.as_str()), (1002, "$.x"));
        assert_eq!(all[1001].problem, "and perhaps more, which are not listed");
    }
}
