//! What a policy lets a role reach, in words.

use crate::catalog::{Caller, Exposure, Open, Opening};
use crate::sql::listed_set;

/// One thing to say about a policy and a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A word for it.
    pub word: &'static str,
    /// A sentence.
    pub detail: String,
    /// What holds in this way: a left operand, an operator and a right operand.
    pub witness: Vec<[String; 3]>,
}

impl Exposure {
    /// Returns what there is to say, what matters most first.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut say = |word, detail: String| {
            answers.push(Answer { word, detail, witness: Vec::new() });
        };
        if !self.recursive.is_empty() {
            say(
                "recursion",
                format!(
                    "Reading fails: the policies of {} lead to themselves.",
                    listed_set(&self.recursive)
                ),
            );
        }
        if !self.denied.is_empty() {
            say(
                "lookup_denied",
                format!("Reading fails: no privilege on {}.", listed_set(&self.denied)),
            );
        }
        if !self.not_executable.is_empty() {
            let detail =
                format!("Reading fails: no privilege on {}.", listed_set(&self.not_executable));
            say("lookup_denied", detail);
        }
        let fails = !(self.recursive.is_empty() && self.denied.is_empty());
        if self.is_never_true && fails {
            // Said above.
        } else if self.is_never_true && !self.hidden.is_empty() {
            let detail =
                format!("No row passes: no policy shows rows of {}.", listed_set(&self.hidden));
            say("lookup_denied", detail);
        } else if self.is_never_true {
            say("never_true", "No row passes.".to_owned());
        } else if self.is_always_true {
            say("always_true", "Every row passes.".to_owned());
        } else if self.ignores_row {
            let (word, detail) = match self.caller {
                Some(Caller::Without) => {
                    ("open_without_identity", "Every row passes, without a user.")
                }
                _ => ("ignores_row", "Every row passes in each session of the role."),
            };
            say(word, detail.to_owned());
        } else {
            self.ways(&mut answers);
            if !self.hidden.is_empty() && !fails {
                let detail = format!(
                    "A lookup finds no row: no policy shows rows of {}.",
                    listed_set(&self.hidden)
                );
                answers.push(Answer { word: "lookup_denied", detail, witness: Vec::new() });
            }
        }
        for open in self.latent.iter().filter(|open| open.opening == Opening::NameCaptured) {
            let detail = match &open.captured {
                Some(captured) => {
                    format!("As soon as a lookup can be read, {}.", captured.describe())
                }
                None => "As soon as a lookup can be read, a column of it is equal to itself: its \
                         name was meant to be the table's."
                    .to_owned(),
            };
            answers.push(Answer {
                word: open.opening.as_str(),
                detail,
                witness: open.witness.clone(),
            });
        }
        for (function, objects) in &self.captured {
            let detail = format!(
                "Its caller decides what {} {} in {function}: by the search_path, or by \
                 temporary tables.",
                listed_set(objects),
                if objects.len() == 1 { "means" } else { "mean" }
            );
            answers.push(Answer { word: "helper_path", detail, witness: Vec::new() });
        }
        for function in &self.immutable {
            let detail = format!(
                "{function} is declared IMMUTABLE: a plan that is kept has the result for an \
                 earlier user."
            );
            answers.push(Answer { word: "helper_immutable", detail, witness: Vec::new() });
        }
        if self.forgeable.is_empty() && !self.lookup_writers.is_empty() {
            let by = listed_set(&self.lookup_writers);
            let detail = format!("Not decided: what {by} writes into lookups.");
            answers.push(Answer { word: "lookup_writers", detail, witness: Vec::new() });
        }
        if !self.unknown.is_empty() {
            let detail = format!("Not decided: {}.", listed_set(&self.unknown));
            answers.push(Answer { word: "unknown", detail, witness: Vec::new() });
        }
        answers
    }

    fn ways(&self, answers: &mut Vec<Answer>) {
        for open in &self.open {
            answers.push(Answer {
                word: self.opening(open.opening).as_str(),
                detail: self.detail(open),
                witness: open.witness.clone(),
            });
        }
        let mut say = |word, detail: String| {
            answers.push(Answer { word, detail, witness: Vec::new() });
        };
        for forgeable in &self.forgeable {
            say("lookup_writable", forgeable.describe());
        }
        for columns in &self.ties {
            say("tied", format!("A row passes if it is the caller's by {}.", listed_set(columns)));
        }
        if self.has_privileged {
            say("privileged", "Callers with a right reach rows of others.".to_owned());
        }
    }

    fn detail(&self, open: &Open) -> String {
        let columns = listed_set(&open.columns);
        let lookups = listed_set(&self.lookups);
        match open.opening {
            Opening::UserClaim => "It depends on what users can change about themselves.".into(),
            Opening::Request => "It depends on what the request contains.".into(),
            Opening::SettableParameter => "It depends on a parameter that can be set.".into(),
            Opening::Email => "It depends on an address that may not be verified.".into(),
            Opening::ForeignOperator => "It depends on an operator of the application.".into(),
            Opening::Opaque => "It depends on what is not known.".into(),
            Opening::Pattern => format!("{columns} matches a pattern with a value of the caller."),
            Opening::Inverted => format!("{columns} differs from a value of the caller."),
            Opening::NotEqual => format!("{columns} is less or greater than a value."),
            Opening::NameCaptured if let Some(captured) = &open.captured => {
                format!("For rows of {lookups}, {}.", captured.describe())
            }
            Opening::NameCaptured => format!(
                "A column of {lookups} is equal to itself: its name was meant to be the table's."
            ),
            Opening::RowOpenByParent => format!("A row of {lookups} opens it."),
            Opening::LookupUnbound => {
                format!("The lookup in {lookups} says nothing of the caller.")
            }
            Opening::LookupUncorrelated => {
                format!("The lookup in {lookups} says nothing of the row.")
            }
            Opening::RoleName => format!("{columns} is the name of the database role."),
            Opening::RowOpen if open.columns.len() > 1 => {
                format!("{columns} have values that open the row.")
            }
            Opening::RowOpen => format!("{columns} has a value that opens the row."),
            Opening::NullRowOpen if open.columns.len() > 1 => {
                format!("One of {columns} is null.")
            }
            Opening::NullRowOpen => format!("{columns} is null."),
            Opening::WithoutIdentity => "A value of the session is not set.".into(),
            Opening::IgnoresRow => "Nothing is asked of the row.".into(),
        }
    }
}
