//! What the HINT of a rejection or a WARNING says: the calls to paste.

use super::with_reason;

/// What a HINT says.
#[derive(Debug, Default)]
pub struct Hint {
    /// The calls of `ops.declare()` and `ops.exempt()` that let the statement pass.
    pub calls: Vec<String>,
    /// The statements to run after it.
    pub afterwards: String,
    /// The statements to run in the same transaction, after the statement.
    pub together: String,
    /// The transaction to run in place of the statement, after the calls.
    pub instead: Option<String>,
}

impl Hint {
    /// Reads a HINT, or several. A call after "Or" is an alternative to the one before it.
    ///
    /// # Panics
    /// If a call has no end.
    #[must_use]
    pub fn read(hint: &str) -> Self {
        let alternative = "\nIf everything that is granted is intended, ";
        let hint = hint.split(alternative).next().unwrap_or_default();
        let kept = "\nThen run in the same transaction:\n";
        let (hint, together) = hint.split_once(kept).unwrap_or((hint, ""));
        let together = together.to_owned();
        let (hint, instead) = match hint.split_once("\nThen run in one transaction:\n") {
            Some((hint, sql)) => {
                let end = sql.find("COMMIT;").expect("the end of a transaction") + "COMMIT;".len();
                (hint, Some(sql[..end].to_owned()))
            }
            None => (hint, None),
        };
        let (hint, afterwards) = match hint.split_once("\nAfter the statement, run: ") {
            Some((hint, sql)) => (hint, until_next(sql)),
            None => match hint.split_once("\nAnd run: ") {
                Some((hint, sql)) => (hint, until_next(sql)),
                None => (hint, String::new()),
            },
        };
        let hint = hint.split("\nOr exempt it:").next().unwrap_or_default();
        let mut calls = Vec::new();
        let mut rest = hint;
        while let Some(at) = ["SELECT * FROM ops.declare(", "SELECT ops.exempt("]
            .iter()
            .filter_map(|call| rest.find(call))
            .min()
        {
            rest = &rest[at..];
            // The last one ends the renewal of an exemption.
            let ends = [
                " note => '...');",
                " run => true);",
                "interval '30 days');",
                "+00');",
                "USING (id);",
            ];
            let end = ends
                .iter()
                .filter_map(|end| rest.find(end).map(|at| at + end.len()))
                .min()
                .expect("the end of a call");
            calls.push(with_reason(&rest[..end]));
            rest = &rest[end..];
        }
        let run = hint.strip_prefix("Run: ").filter(|_| calls.is_empty() && afterwards.is_empty());
        let afterwards = run.map_or(afterwards, until_next);
        Self { calls, afterwards, together, instead }
    }

    /// Whether it says nothing to execute.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.afterwards.is_empty()
    }
}

/// Returns the statements in the first line of the rest of a HINT.
fn until_next(sql: &str) -> String {
    sql.lines().next().unwrap_or_default().to_owned()
}
