//! Errors, warnings and notes, in the style of PostgreSQL's programs.

use crate::progress::print_error;
use dragonfly_core::sql::capitalized;

/// Why the program could not do what is asked for. It ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A short statement, without a period.
    pub message: String,
    /// Sentences that say why.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// Returns an error with a primary message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None }
    }

    /// Adds why. The text becomes a sentence.
    pub fn detail(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = Some(sentence(detail.as_ref()));
        self
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was probably meant, as `did_you_mean` returns it.
    pub fn meant(self, question: Option<String>) -> Self {
        match question {
            Some(question) => self.hint(capitalized(&question)),
            None => self,
        }
    }

    /// Prints it as an error.
    pub fn print(&self) {
        self.print_as("error");
    }

    /// Prints it as a warning: the program continues.
    pub fn warn(&self) {
        self.print_as("warning");
    }

    fn print_as(&self, kind: &str) {
        let Self { message, detail, hint } = self;
        print_error(&format!("dragonfly-guard: {kind}: {message}"));
        if let Some(detail) = detail {
            print_error(&format!("DETAIL:  {detail}"));
        }
        if let Some(hint) = hint {
            print_error(&format!("HINT:  {hint}"));
        }
    }
}

/// Prints what is not wrong, but must be known.
pub fn note(text: &str) {
    print_error(&format!("dragonfly-guard: {text}"));
}

/// Returns a text with a capital letter and a period.
fn sentence(text: &str) -> String {
    let text = capitalized(text.trim_end());
    if text.ends_with(['.', '?', '!']) { text } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_a_sentence() {
        let detail = |text: &str| Failure::new("m").detail(text).detail.unwrap();
        assert_eq!(detail("no such file\n"), "No such file.");
        assert_eq!(detail("Did you mean \"a\"?"), "Did you mean \"a\"?");
    }
}
