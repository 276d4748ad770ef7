//! The extension's own objects, for what cannot work without them.

use crate::pg::report::Report;
use dragonfly_core::guard::RUNBOOK;
use dragonfly_reader::State;
use dragonfly_reader::extension::Own;
use pgrx::PgSqlErrorCode;

/// Finds the extension. Raises an error where it is not installed in this database, or its table of
/// contracts does not exist.
pub fn find_own(state: &dyn State) -> Own {
    let missing = |message: &str| -> ! {
        Report {
            message: message.into(),
            detail: String::new(),
            hint: format!(
                "As a superuser, run SET dragonfly_guard.mode = off; and then create extension \
                 dragonfly_guard again. {RUNBOOK}"
            ),
        }
        .error(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
    };
    if !Own::is_there(state) {
        missing("extension dragonfly_guard does not exist")
    }
    Own::complete(state).unwrap_or_else(|| {
        missing("table \"contract\" of extension dragonfly_guard does not exist")
    })
}
