//! CREATE POLICY, as a proposal.

use crate::catalog::{Command, Role};
use crate::sql::safe_ident;

/// Returns the CREATE POLICY that would allow a role a command on a table, its condition left open.
/// `table` is the table's name as SQL text.
pub(crate) fn create_policy(table: &str, role: &Role, command: Command) -> String {
    let condition = match command {
        Command::Insert => "WITH CHECK (...)",
        Command::Update => "USING (...) WITH CHECK (...)",
        Command::Select | Command::Delete => "USING (...)",
    };
    format!("{} {condition};", policy_header(table, role, command))
}

/// Returns what that CREATE POLICY says before the conditions, which is what a contract declares.
pub(crate) fn policy_header(table: &str, role: &Role, command: Command) -> String {
    let word = command.as_str();
    let name = format!("{} {}", role.name, word.to_lowercase());
    format!(
        "CREATE POLICY {} ON {table} FOR {word} TO {}",
        safe_ident(&name),
        safe_ident(&role.name)
    )
}
