//! The problems of a document and their paths.

use super::types::Severity;
use crate::sql::printable;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// A path in a JSON document, displayed as `jsonpath`: `$.tables[3].grants."my role"[0]`. A walk
/// through the document keeps it on the stack, so it costs nothing until it is displayed.
#[derive(Debug, Clone, Copy)]
pub enum Path<'p> {
    /// The document itself.
    Root,
    /// A field of an object.
    Field(&'p Path<'p>, &'p str),
    /// An element of an array.
    Item(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// Returns the path of a field of this object.
    #[must_use]
    pub fn field(&'p self, name: &'p str) -> Self {
        Self::Field(self, name)
    }

    /// Returns the path of an element of this array.
    #[must_use]
    pub fn item(&'p self, i: usize) -> Self {
        Self::Item(self, i)
    }

    /// Returns the steps from the document to this place.
    fn steps(&self) -> Vec<Step> {
        let (mut steps, mut at) = (Vec::new(), self);
        loop {
            at = match at {
                Self::Root => break,
                Self::Field(of, name) => {
                    steps.push(Step::field(name));
                    of
                }
                Self::Item(of, i) => {
                    steps.push(Step::Item(*i));
                    of
                }
            };
        }
        steps.reverse();
        steps
    }
}

/// A step of a path that outlives the walk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A field of an object. Only the beginning of a long name is kept.
    Field(String),
    /// An element of an array.
    Item(usize),
}

impl Step {
    /// Returns the step to a field.
    pub fn field(name: &str) -> Self {
        Self::Field(shown(name).into_owned())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("$"),
            Self::Item(of, i) => write!(f, "{of}[{i}]"),
            Self::Field(of, name) => {
                let name = shown(name);
                let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if is_plain {
                    write!(f, "{of}.{name}")
                } else {
                    write!(f, "{of}.{}", quoted(&name))
                }
            }
        }
    }
}

/// The longest name that a path shows in full, in bytes. A document may have a name of megabytes,
/// and a thousand errors below it.
const LONGEST_NAME: usize = 300;

/// Returns the name, or the beginning of one that is too long to be shown.
pub(super) fn shown(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{}...", &name[..name.floor_char_boundary(LONGEST_NAME)]))
}

/// Returns a name in the quotes of `jsonpath`, with unprintable characters as escapes.
fn quoted(name: &str) -> String {
    let escaped = |c: char| match printable(c.encode_utf8(&mut [0; 4])) {
        Cow::Borrowed(same) => same.to_owned(),
        Cow::Owned(_) if u32::from(c) > 0xffff => format!("\\u{{{:X}}}", u32::from(c)),
        Cow::Owned(other) => other,
    };
    serde_json::Value::from(name).to_string().chars().map(escaped).collect()
}

/// A problem of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// [`Severity::Error`]: the document is not a contract. [`Severity::Warning`]: the contract
    /// contradicts itself, or is probably not what is meant. [`Severity::Info`]: a declaration has
    /// no effect now, and opens nothing, or could be written in a better way.
    pub severity: Severity,
    /// The path of the problem, as `jsonpath`.
    pub path: String,
    /// The declaration at or above the path, by its name: `app.plans`, `api.f(bigint)`, `anon`.
    pub object: Option<String>,
    /// The line of the path, from 1, where the document is a text that has lines.
    pub line: Option<usize>,
    /// What is wrong, in printable characters.
    pub problem: String,
    /// What is allowed at the path.
    pub allowed: Option<String>,
    /// What was probably meant, or what to write or do instead.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(object) = &self.object {
            write!(f, " ({object})")?;
        }
        if let Some(line) = self.line
            && self.path != "$"
        {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)?;
        // Who is told what to write does not need everything that is allowed.
        match (&self.hint, &self.allowed) {
            (Some(hint), _) => write!(f, "; {hint}"),
            (None, Some(allowed)) => write!(f, "; allowed: {allowed}"),
            (None, None) => Ok(()),
        }
    }
}

/// A problem that was found, with its place.
#[derive(Debug)]
pub(super) struct Found {
    pub problem: Problem,
    /// The steps of the path.
    pub steps: Vec<Step>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem.fmt(f)
    }
}

impl Found {
    fn new(
        severity: Severity,
        path: &Path<'_>,
        problem: String,
        allowed: Option<String>,
        hint: Option<String>,
    ) -> Self {
        Self {
            problem: Problem {
                severity,
                path: path.to_string(),
                object: None,
                line: None,
                problem,
                allowed,
                hint,
            },
            steps: path.steps(),
        }
    }
}

/// The problems found so far. A document can have millions of them: only the first errors and the
/// first warnings are kept, each up to a limit of its own. Information counts as a warning.
pub(super) struct Problems<'i> {
    errors: Vec<Found>,
    warnings: Vec<Found>,
    omitted_errors: bool,
    omitted_warnings: bool,
    interrupts: &'i dyn Fn(),
}

impl fmt::Debug for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.errors.iter().chain(&self.warnings)).finish()
    }
}

impl<'i> Problems<'i> {
    /// The maximum number of errors, and of warnings.
    const LIMIT: usize = 1000;

    /// Returns an empty list. `interrupts` is called repeatedly while a document is checked, and
    /// may unwind.
    #[must_use]
    pub fn new(interrupts: &'i dyn Fn()) -> Self {
        Self {
            errors: vec![],
            warnings: vec![],
            omitted_errors: false,
            omitted_warnings: false,
            interrupts,
        }
    }

    /// Returns an empty list for another check of the same document.
    #[must_use]
    pub fn new_list(&self) -> Self {
        Self::new(self.interrupts)
    }

    /// Lets the user cancel.
    pub fn check_interrupts(&self) {
        (self.interrupts)();
    }

    /// Whether further errors would be omitted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errors.len() >= Self::LIMIT
    }

    /// Whether there is an error, so that the document is not a contract.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Whether names are missing from a list of declarations: it is not a list, or an element is
    /// not a declaration or has no name.
    #[must_use]
    pub fn is_incomplete(&self, list: &str) -> bool {
        let is_about_names = |path: &str| match path.strip_prefix(list) {
            Some("") => true,
            Some(rest) => {
                rest.starts_with('[')
                    && (rest.ends_with("].name") || rest.ends_with(']') && !rest.contains('.'))
            }
            None => false,
        };
        self.errors.iter().any(|p| is_about_names(&p.problem.path))
    }

    /// Adds an error.
    pub fn error(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
    ) {
        self.error_with_hint(path, problem, allowed, None);
    }

    /// Adds an error with what was probably meant.
    pub fn error_with_hint(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
        hint: impl Into<Option<String>>,
    ) {
        self.add(Severity::Error, path, problem.into(), allowed.into(), hint.into());
    }

    /// Adds a warning.
    pub fn warning(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
    ) {
        self.add(Severity::Warning, path, problem.into(), allowed.into(), None);
    }

    /// Adds information.
    pub fn info(
        &mut self,
        path: &Path<'_>,
        problem: impl Into<String>,
        allowed: impl Into<Option<String>>,
    ) {
        self.add(Severity::Info, path, problem.into(), allowed.into(), None);
    }

    /// Adds a problem with what was probably meant.
    pub fn add(
        &mut self,
        severity: Severity,
        path: &Path<'_>,
        problem: String,
        allowed: Option<String>,
        hint: Option<String>,
    ) {
        self.check_interrupts();
        let (list, omitted) = match severity {
            Severity::Error => (&mut self.errors, &mut self.omitted_errors),
            Severity::Warning | Severity::Info => (&mut self.warnings, &mut self.omitted_warnings),
        };
        if list.len() >= Self::LIMIT {
            *omitted = true;
        } else {
            list.push(Found::new(severity, path, problem, allowed, hint));
        }
    }

    /// Adds the problems of another list.
    pub fn append(&mut self, others: Self) {
        self.errors.extend(others.errors);
        self.warnings.extend(others.warnings);
        self.omitted_errors |= others.omitted_errors;
        self.omitted_warnings |= others.omitted_warnings;
    }

    /// Removes the problems at the paths of errors in `wrong`, and below them: the values there are
    /// placeholders, which made further checks possible.
    pub fn remove_within(&mut self, wrong: &Self) {
        let wrong: HashSet<&str> = wrong.errors.iter().map(|p| p.problem.path.as_str()).collect();
        let is_within = |path: &str| {
            wrong.contains(path)
                || path.match_indices(['.', '[']).any(|(end, _)| wrong.contains(&path[..end]))
        };
        self.errors.retain(|p| !is_within(&p.problem.path));
        self.warnings.retain(|p| !is_within(&p.problem.path));
    }

    /// Returns all problems, errors first. If problems of a kind were omitted, the last of the kind
    /// says so.
    #[must_use]
    pub fn into_vec(self) -> Vec<Found> {
        let mut all = Vec::new();
        let kinds = [
            (Severity::Error, self.errors, self.omitted_errors),
            (Severity::Warning, self.warnings, self.omitted_warnings),
        ];
        for (severity, mut problems, omitted) in kinds {
            // A check may stop as soon as the list is full.
            let omitted = omitted || problems.len() >= Self::LIMIT;
            problems.truncate(Self::LIMIT);
            all.extend(problems);
            if omitted {
                let more = "there may be more problems, which are not listed".to_owned();
                all.push(Found::new(severity, &Path::Root, more, None, None));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_displayed_as_jsonpath() {
        let (tables, role) = (Path::Root.field("tables"), "my \"role\"\n");
        assert_eq!(
            tables.item(3).field("grants").field(role).item(0).to_string(),
            r#"$.tables[3].grants."my \"role\"\n"[0]"#
        );
        assert_eq!(Path::Root.field("$schema").to_string(), r#"$."$schema""#);
        assert_eq!(Path::Root.field("a\u{202e}\u{e0001}").to_string(), r#"$."a\u202E\u{E0001}""#);
    }

    #[test]
    fn long_name_in_a_path_is_shortened() {
        let name = "é".repeat(1_000_000);
        let path = Path::Root.field(&name).field("x").to_string();
        assert_eq!(path, format!("$.\"{}...\".x", "é".repeat(150)));
    }

    #[test]
    fn warnings_do_not_displace_errors() {
        let mut problems = Problems::new(&|| {});
        for _ in 0..1500 {
            problems.warning(&Path::Root, "odd", None);
        }
        problems.error(&Path::Root.field("x"), "wrong", None);
        let all = problems.into_vec();
        assert_eq!((all.len(), all[0].problem.path.as_str()), (1002, "$.x"));
        assert_eq!(all[1001].problem.problem, "there may be more problems, which are not listed");
    }
}
