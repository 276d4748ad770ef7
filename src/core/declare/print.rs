//! Declarations as SQL.

use super::statements::Section;
use super::{
    Declaration, FunctionName, Grant, Granted, Name, On, PolicyHeader, Renamed, RowSecurity, Target,
};
use crate::catalog::{Command, Privileges};
use crate::contract::PolicyCommand;
use crate::sql::{bare_query, canonical_types, quote_literal, safe_ident, safe_qualified};
use std::fmt::{self, Display, Formatter};

/// Returns the sections as one text: a heading in a comment, then the statements, one per line.
#[must_use]
pub fn headed(sections: &[Section]) -> String {
    let text = |section: &Section| {
        let lines: Vec<String> =
            section.declarations.iter().map(|declaration| format!("{declaration};\n")).collect();
        format!("-- {}\n{}", section.heading, lines.concat())
    };
    sections.iter().map(text).collect::<Vec<_>>().join("\n")
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&safe_qualified(&self.schema, &self.name))
    }
}

impl Display for FunctionName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        let Some(arguments) = &self.arguments else { return Ok(()) };
        // A contract may spell a type as no statement does: any, without quotes.
        write!(f, "({})", canonical_types(arguments).join(", "))
    }
}

impl Target {
    /// Returns the words before its name.
    fn kind(&self) -> &'static str {
        match self {
            Self::Role(_) => "ROLE",
            Self::Schema(_) => "SCHEMA",
            Self::Table(_) => "TABLE",
            Self::View(_) => "VIEW",
            Self::MaterializedView(_) => "MATERIALIZED VIEW",
            Self::Sequence(_) => "SEQUENCE",
            Self::Function(_) => "FUNCTION",
        }
    }

    /// Returns its name as SQL.
    fn identity(&self) -> String {
        match self {
            Self::Role(name) | Self::Schema(name) => safe_ident(name).into_owned(),
            Self::Function(function) => function.to_string(),
            Self::Table(name)
            | Self::View(name)
            | Self::MaterializedView(name)
            | Self::Sequence(name) => name.to_string(),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.identity())
    }
}

impl Display for RowSecurity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let action = match self {
            Self::Enable => "ENABLE",
            Self::Disable => "DISABLE",
            Self::Force => "FORCE",
            Self::NoForce => "NO FORCE",
        };
        write!(f, "{action} ROW LEVEL SECURITY")
    }
}

impl Display for On {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schemas(names) => write!(f, "SCHEMA {}", idents(names)),
            Self::Tables(names) => write!(f, "TABLE {}", joined(names)),
            Self::Sequences(names) => write!(f, "SEQUENCE {}", joined(names)),
            Self::Functions(functions) => write!(f, "ROUTINE {}", joined(functions)),
            Self::AllTables(schemas) => write!(f, "ALL TABLES IN SCHEMA {}", idents(schemas)),
            Self::AllSequences(schemas) => {
                write!(f, "ALL SEQUENCES IN SCHEMA {}", idents(schemas))
            }
            Self::AllFunctions(schemas) => {
                write!(f, "ALL ROUTINES IN SCHEMA {}", idents(schemas))
            }
        }
    }
}

impl Display for Granted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let words = self.privilege.map_or_else(|| "ALL".to_owned(), privilege_words);
        match self.columns.as_slice() {
            [] => f.write_str(&words),
            columns => write!(f, "{words} ({})", idents(columns)),
        }
    }
}

fn privilege_words(privilege: Privileges) -> String {
    privilege.words().join(", ")
}

impl Display for Grant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (verb, to) = if self.is_revoke { ("REVOKE", "FROM") } else { ("GRANT", "TO") };
        let mut grantees: Vec<String> =
            self.roles.iter().map(|role| safe_ident(role).into_owned()).collect();
        grantees.extend(self.to_public.then(|| "PUBLIC".to_owned()));
        write!(f, "{verb} {} ON {} {to} {}", joined(&self.privileges), self.on, grantees.join(", "))
    }
}

impl PolicyHeader {
    /// The word after FOR; empty where there is none, which means ALL.
    fn command(&self) -> &'static str {
        match PolicyCommand::names_of(&self.commands).as_slice() {
            [PolicyCommand::Select] => "SELECT",
            [PolicyCommand::Insert] => "INSERT",
            [PolicyCommand::Update] => "UPDATE",
            [PolicyCommand::Delete] => "DELETE",
            _ => "ALL",
        }
    }

    fn condition(&self) -> &'static str {
        if self.all_rows.is_empty() {
            ""
        } else if self.commands == [Command::Insert] {
            " WITH CHECK (true)"
        } else {
            " USING (true)"
        }
    }
}

impl Display for Declaration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetAll => f.write_str("RESET ALL"),
            Self::Set(path, values) if values.is_empty() => {
                write!(f, "RESET contract.{}", idents_of_path(path))
            }
            Self::Set(path, values) => {
                let values: Vec<String> = values.iter().map(|value| setting_value(value)).collect();
                write!(f, "SET contract.{} = {}", idents_of_path(path), values.join(", "))
            }
            Self::Create(Target::Table(name)) => write!(f, "CREATE TABLE {name} ()"),
            Self::Create(Target::View(name)) => write!(f, "CREATE VIEW {name} AS SELECT"),
            Self::Create(Target::MaterializedView(name)) => {
                write!(f, "CREATE MATERIALIZED VIEW {name} AS SELECT")
            }
            Self::Create(target) => write!(f, "CREATE {target}"),
            Self::SequenceOfColumn(name) => write!(f, "CREATE SEQUENCE {name}"),
            Self::CreateView { name, is_materialized, security_invoker, definition } => {
                let kind = if *is_materialized { "MATERIALIZED VIEW" } else { "VIEW" };
                let option = if *security_invoker { " WITH (security_invoker = true)" } else { "" };
                let query = definition.as_deref().map_or("SELECT", bare_query);
                // A comment at its end must not contain what follows.
                let end = if query.contains("--") { "\n" } else { "" };
                write!(f, "CREATE {kind} {name}{option} AS {query}{end}")
            }
            Self::CreateFunction { function, security_definer } => {
                write!(f, "CREATE FUNCTION {function}{}", security(*security_definer))
            }
            Self::AnyArguments(name) => {
                write!(f, "ALTER ROUTINE {name} SET contract.arguments = 'any'")
            }
            Self::Drop(target) => write!(f, "DROP {target}"),
            Self::DropIfDeclared(target) => {
                write!(f, "DROP {} IF EXISTS {}", target.kind(), target.identity())
            }
            Self::Rename(renamed) => renamed.fmt(f),
            Self::Attributes(role, attributes) => {
                write!(f, "ALTER ROLE {}", safe_ident(role))?;
                for (attribute, on) in attributes {
                    write!(f, " {}{}", if *on { "" } else { "NO" }, attribute.as_str())?;
                }
                Ok(())
            }
            Self::Kind(role, kind) => {
                write!(f, "ALTER ROLE {} SET contract.kind = {}", safe_ident(role), kind.as_str())
            }
            Self::RowSecurity(table, change) => write!(f, "ALTER TABLE {table} {change}"),
            Self::AllRows(table, true) => {
                write!(f, "ALTER TABLE {table} SET (contract.all_rows = declared)")
            }
            Self::AllRows(table, false) => {
                write!(f, "ALTER TABLE {table} RESET (contract.all_rows)")
            }
            Self::AllRowsOf(table, all_rows) => {
                let json = serde_json::to_string(all_rows).expect("names and words are JSON");
                let json = quote_literal(&json);
                write!(f, "ALTER TABLE {table} SET (contract.all_rows = {json})")
            }
            Self::Rows(table, rows) => rows.write(table, f),
            Self::SecurityInvoker(view, on) => {
                write!(f, "ALTER VIEW {view} SET (security_invoker = {on})")
            }
            Self::AllRowsOfRoutine(function, is_meant) => {
                write!(f, "ALTER ROUTINE {function} SET contract.all_rows = {is_meant}")
            }
            Self::SecurityDefiner(function, is_definer) => {
                write!(f, "ALTER FUNCTION {function}{}", security(Some(*is_definer)))
            }
            Self::Grant(grant) => grant.fmt(f),
            Self::Membership { role, member, is_revoke } => {
                let (verb, to) = if *is_revoke { ("REVOKE", "FROM") } else { ("GRANT", "TO") };
                write!(f, "{verb} {} {to} {}", safe_ident(role), safe_ident(member))
            }
            Self::CreatePolicy(policy) => write!(
                f,
                "CREATE POLICY {} ON {} FOR {} TO {}{}",
                safe_ident(&policy.name),
                policy.table,
                policy.command(),
                idents(&policy.roles),
                policy.condition()
            ),
            Self::DropPolicy(policy) => {
                write!(f, "DROP POLICY {} ON {}", safe_ident(&policy.name), policy.table)
            }
            Self::DropPolicyNamed { table, name, if_exists } => {
                let option = if *if_exists { "IF EXISTS " } else { "" };
                write!(f, "DROP POLICY {option}{} ON {table}", safe_ident(name))
            }
            Self::Comment(target, text) => {
                write!(f, "COMMENT ON {target} IS {}", quote_literal(text))
            }
        }
    }
}

impl Display for Renamed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(relation, from, to) => write!(
                f,
                "ALTER TABLE {relation} RENAME COLUMN {} TO {}",
                safe_ident(from),
                safe_ident(to)
            ),
            Self::Object(target, to) => {
                match target {
                    // It may be a procedure.
                    Target::Function(function) => write!(f, "ALTER ROUTINE {function}")?,
                    target => write!(f, "ALTER {target}")?,
                }
                match target.schema() {
                    Some(schema) if schema != to.schema => {
                        write!(f, " SET SCHEMA {}", safe_ident(&to.schema))
                    }
                    _ => write!(f, " RENAME TO {}", safe_ident(&to.name)),
                }
            }
        }
    }
}

fn security(security_definer: Option<bool>) -> &'static str {
    match security_definer {
        Some(true) => " SECURITY DEFINER",
        Some(false) => " SECURITY INVOKER",
        None => "",
    }
}

/// A value of SET: a word without quotes where that reads as the same value.
fn setting_value(value: &str) -> String {
    let is_word = !value.is_empty() && value.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_plain = matches!(value, "true" | "false") || safe_ident(value) == value;
    if is_word && is_plain && !matches!(value, "default" | "local" | "session") {
        value.to_owned()
    } else {
        quote_literal(value)
    }
}

fn idents(names: &[String]) -> String {
    names.iter().map(|name| safe_ident(name)).collect::<Vec<_>>().join(", ")
}

fn idents_of_path(path: &[String]) -> String {
    path.iter().map(|name| safe_ident(name)).collect::<Vec<_>>().join(".")
}

fn joined<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
