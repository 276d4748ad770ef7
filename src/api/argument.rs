//! Arguments of the SQL functions. An argument that cannot be answered is an error that names it:
//! NULL where a value is required, an empty text, an empty array, or a null or empty element. An
//! empty result, or NULL, would look as if there were nothing to report.

use crate::pg::call::Call;
use crate::pg::report::Report;
use dragonfly_core::exemptions::is_gap;
use dragonfly_core::sql::printable;
use pgrx::PgSqlErrorCode;

/// Returns the value of an argument that must not be NULL.
pub fn required<T>(value: Option<T>, name: &str) -> T {
    value.unwrap_or_else(|| null(name, &format!("Specify {name}.")))
}

/// Returns a text that must be neither NULL nor blank.
pub fn text(call: Call, i: usize, name: &str) -> String {
    let text = required(call.text(i), name);
    if text.trim().is_empty() {
        empty(name, &format!("Specify {name}."));
    }
    text
}

/// Returns a text that must not be blank; `None` for NULL, which has a meaning of its own.
pub fn optional_text(call: Call, i: usize, name: &str) -> Option<String> {
    not_blank(call.text(i), name)
}

/// Returns the text that says why something is approved: neither NULL nor blank, nor a gap that a
/// HINT leaves for it.
pub fn reason(call: Call, i: usize, name: &str) -> String {
    no_gap(text(call, i, name), name)
}

/// Returns the text that says why something is approved, as [`reason`] does; `None` for NULL.
pub fn optional_reason(call: Call, i: usize, name: &str) -> Option<String> {
    optional_text(call, i, name).map(|text| no_gap(text, name))
}

/// Returns the text. Raises an error where it is only a gap that a HINT leaves for a reason.
pub fn no_gap(text: String, name: &str) -> String {
    if is_gap(&text) {
        Report {
            message: format!("{name} says nothing: '{}'", printable(&text)),
            detail: String::new(),
            hint: format!(
                "State who decided it and why: {name} => 'ticket 4711: needed until the export is \
                 replaced'."
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
    }
    text
}

/// Returns a name that must be neither NULL nor empty.
pub fn name(call: Call, i: usize, name: &str) -> String {
    let value = required(call.name(i), name);
    if value.is_empty() {
        empty(name, &format!("Specify {name}."));
    }
    value
}

/// Returns a name that must not be empty; `None` for NULL, which has a meaning of its own.
pub fn optional_name(call: Call, i: usize, name: &str) -> Option<String> {
    not_blank(call.name(i), name)
}

/// Returns a boolean that must not be NULL.
pub fn flag(call: Call, i: usize, name: &str) -> bool {
    call.bool(i).unwrap_or_else(|| null(name, &format!("Use {name} => true or {name} => false.")))
}

/// Returns the texts of an array that must have elements, none of them null or empty; `None` for
/// NULL, which means all.
pub fn texts(call: Call, i: usize, name: &str) -> Option<Vec<String>> {
    reject_null_elements(call, i, name);
    not_empty(call.texts(i), name)
}

/// Reads the names in an argument: [`names`] or [`names_in_text`].
pub type Names = fn(Call, usize, &str) -> Option<Vec<String>>;

/// Returns the names of an array, as [`texts`] does.
pub fn names(call: Call, i: usize, name: &str) -> Option<Vec<String>> {
    reject_null_elements(call, i, name);
    not_empty(call.names(i), name)
}

/// Returns the names of a text that is one name, such as `public`, or an array, such as `{public}`,
/// as [`names`] does.
pub fn names_in_text(call: Call, i: usize, name: &str) -> Option<Vec<String>> {
    let text = optional_text(call, i, name)?;
    if !text.trim_start().starts_with('{') {
        return Some(vec![text]);
    }
    let elements = Call::names_in(&text);
    if elements.is_none() {
        null_elements(name);
    }
    not_empty(elements, name)
}

/// Returns the numbers of an array that must have elements, none of them null; `None` for NULL,
/// which means all.
pub fn integers(call: Call, i: usize, name: &str) -> Option<Vec<i32>> {
    reject_null_elements(call, i, name);
    let numbers = call.ints(i);
    if numbers.as_ref().is_some_and(Vec::is_empty) {
        empty(name, &format!("Omit {name}, or use NULL, for all."));
    }
    numbers
}

fn not_blank(text: Option<String>, name: &str) -> Option<String> {
    if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
        empty(name, &format!("Omit {name}, or use a text that is not empty."));
    }
    text
}

fn not_empty(elements: Option<Vec<String>>, name: &str) -> Option<Vec<String>> {
    if elements.as_ref().is_some_and(|all| all.is_empty() || all.iter().any(String::is_empty)) {
        empty(name, &format!("Omit {name}, or use NULL, for all."));
    }
    elements
}

fn reject_null_elements(call: Call, i: usize, name: &str) {
    if call.has_null_elements(i) {
        null_elements(name);
    }
}

fn null_elements(name: &str) -> ! {
    Report {
        message: format!("{name} must not contain nulls"),
        detail: String::new(),
        hint: format!("Omit {name}, or use NULL instead of the array, for all."),
    }
    .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
}

fn null(name: &str, hint: &str) -> ! {
    Report {
        message: format!("{name} must not be null"),
        detail: String::new(),
        hint: hint.to_owned(),
    }
    .error(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED)
}

fn empty(name: &str, hint: &str) -> ! {
    Report {
        message: format!("{name} must not be empty"),
        detail: String::new(),
        hint: hint.to_owned(),
    }
    .error(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE)
}
