//! Who the rows of a table belong to: its options `contract.keys`, `contract.open_rows`,
//! `contract.append_only_by` and `contract.privileged`.

use super::amendment::Amendment;
use super::{Declaration, Name, Rows, Unfit};
use crate::contract::{ByRole, TableDecl};
use crate::sql::identifiers::split_uncut;
use crate::sql::{quote_ident, quote_literal};
use std::fmt::{self, Display, Formatter};

impl Rows {
    /// The names of the options, without `contract.`.
    pub const OPTIONS: [&'static str; 4] = ["keys", "open_rows", "append_only_by", "privileged"];

    /// Reads the value of an option; without one, its default. `None` for another option.
    ///
    /// # Errors
    /// Where the value is not of the option's type.
    #[must_use]
    pub fn read(option: &str, value: Option<&str>) -> Option<Result<Self, Unfit>> {
        let names = |hint: &str| match value.map(|text| split_uncut(text, 15)) {
            None => Ok(vec![]),
            Some(Ok(names)) => Ok(names),
            Some(Err(_)) => Err(invalid(option, hint)),
        };
        Some(match option {
            "keys" => {
                names("Use a list of columns: SET (contract.keys = 'owner');").map(Self::Keys)
            }
            "append_only_by" => {
                names("Use a list of roles: SET (contract.append_only_by = 'anon');")
                    .map(Self::AppendOnlyBy)
            }
            "open_rows" => {
                let hint =
                    r#"Use the field as JSON: SET (contract.open_rows = '{"anon": ["status"]}');"#;
                let read = value.map_or(Ok(ByRole::new()), serde_json::from_str);
                read.map(Self::OpenRows).map_err(|_| invalid(option, hint))
            }
            "privileged" => match value.map(str::to_ascii_lowercase).as_deref() {
                None | Some("false" | "off" | "no" | "0") => Ok(Self::Privileged(false)),
                // An option without a value is on.
                Some("" | "true" | "on" | "yes" | "1") => Ok(Self::Privileged(true)),
                Some(_) => Err(invalid(option, "Use on or off.")),
            },
            _ => return None,
        })
    }

    /// Adds what another declaration says about the same table, where both together say more than
    /// the last one; false where they do not.
    pub(super) fn extend(&mut self, more: &Self) -> bool {
        let union = |known: &mut Vec<String>, more: &[String]| {
            let more: Vec<String> = more.iter().filter(|m| !known.contains(m)).cloned().collect();
            known.extend(more);
        };
        match (self, more) {
            (Self::AppendOnlyBy(known), Self::AppendOnlyBy(more)) => union(known, more),
            (Self::OpenRows(known), Self::OpenRows(more)) => {
                for (role, columns) in more {
                    union(known.entry(role.clone()).or_default(), columns);
                }
            }
            _ => return false,
        }
        true
    }

    fn option(&self) -> &'static str {
        match self {
            Self::Keys(_) => "keys",
            Self::OpenRows(_) => "open_rows",
            Self::AppendOnlyBy(_) => "append_only_by",
            Self::Privileged(_) => "privileged",
        }
    }

    /// Returns the value as SQL; `None` for the default.
    fn value(&self) -> Option<String> {
        let listed = |names: &[String]| {
            let names: Vec<_> = names.iter().map(|name| quote_ident(name)).collect();
            (!names.is_empty()).then(|| quote_literal(&names.join(", ")))
        };
        match self {
            Self::Keys(names) | Self::AppendOnlyBy(names) => listed(names),
            Self::OpenRows(columns) => (!columns.is_empty())
                .then(|| quote_literal(&serde_json::to_string(columns).expect("names are JSON"))),
            Self::Privileged(is_privileged) => is_privileged.then(|| "true".to_owned()),
        }
    }

    /// Writes the statement that declares this of a table.
    pub(super) fn write(&self, table: &Name, f: &mut Formatter<'_>) -> fmt::Result {
        let option = self.option();
        match self.value() {
            Some(value) => write!(f, "ALTER TABLE {table} SET (contract.{option} = {value})"),
            None => write!(f, "ALTER TABLE {table} RESET (contract.{option})"),
        }
    }
}

fn invalid(option: &str, hint: impl Display) -> Unfit {
    Unfit::new(format!("invalid value for contract.{option}"), hint.to_string())
}

/// Returns what a table declares about who its rows belong to.
pub(super) fn of_table(table: &TableDecl) -> Vec<Declaration> {
    let all = [
        Rows::Keys(table.keys.clone()),
        Rows::OpenRows(table.open_rows.clone()),
        Rows::AppendOnlyBy(table.append_only_by.clone()),
        Rows::Privileged(table.privileged),
    ];
    let name = Name::new(&table.schema, &table.name);
    let declared = all.into_iter().filter(|rows| rows.value().is_some());
    declared.map(|rows| Declaration::Rows(name.clone(), rows)).collect()
}

impl Amendment<'_> {
    pub(super) fn rows(&mut self, table: &Name, rows: &Rows) -> Result<(), Unfit> {
        let roles: Vec<&String> = match rows {
            Rows::OpenRows(columns) => columns.keys().collect(),
            Rows::AppendOnlyBy(roles) => roles.iter().collect(),
            Rows::Keys(_) | Rows::Privileged(_) => vec![],
        };
        roles.into_iter().try_for_each(|role| self.require_role(role))?;
        let columns: Vec<&[String]> = match rows {
            Rows::Keys(columns) => vec![columns],
            Rows::OpenRows(columns) => columns.values().map(Vec::as_slice).collect(),
            Rows::AppendOnlyBy(_) | Rows::Privileged(_) => vec![],
        };
        if columns.iter().any(|list| has_duplicate(list)) {
            let message =
                format!("a column is specified more than once in contract.{}", rows.option());
            return Err(Unfit::new(message, "Specify each column once."));
        }
        let table = self.table(table)?;
        match rows.clone() {
            Rows::Keys(columns) => table.keys = columns,
            Rows::OpenRows(columns) => table.open_rows = columns,
            Rows::AppendOnlyBy(roles) => table.append_only_by = roles,
            Rows::Privileged(is_privileged) => table.privileged = is_privileged,
        }
        Ok(())
    }
}

fn has_duplicate(names: &[String]) -> bool {
    names.iter().enumerate().any(|(i, name)| names[..i].contains(name))
}
