//! A setting that is stored for a role or a database, as the object of a finding.

use crate::catalog::{RoleSetting, Snapshot};
use crate::sql::{quote_ident, quote_literal, safe_ident};

/// Where a setting is stored.
pub(crate) struct StoredSetting {
    /// `role` or `database`.
    pub object_type: &'static str,
    /// The name of the role or database; `ALL` for every role.
    pub identity: String,
    /// The statement that removes it.
    pub reset: String,
}

impl StoredSetting {
    /// Returns where a setting is stored.
    pub(crate) fn of(snapshot: &Snapshot, setting: &RoleSetting) -> Self {
        let role = setting.role.map(|role| snapshot.role_name(role));
        let (object_type, identity) = match (&role, &setting.database) {
            (Some(role), _) => ("role", quote_ident(role).into_owned()),
            (None, Some(database)) => ("database", quote_ident(database).into_owned()),
            (None, None) => ("role", "ALL".to_owned()),
        };
        let reset = format!("{} RESET {};", alter(role.as_deref(), setting), setting.name);
        Self { object_type, identity, reset }
    }
}

/// Returns the statement that stores a setting as it is.
pub(crate) fn set(snapshot: &Snapshot, setting: &RoleSetting) -> String {
    let role = setting.role.map(|role| snapshot.role_name(role));
    let value = if is_list(&setting.name) {
        let items: Vec<String> = items(&setting.value).map(|item| quote_literal(&item)).collect();
        if items.is_empty() { "''".to_owned() } else { items.join(", ") }
    } else {
        quote_literal(&setting.value)
    };
    format!("{} SET {} = {value};", alter(role.as_deref(), setting), setting.name)
}

/// Returns the first words of the statement that changes a setting.
fn alter(role: Option<&str>, setting: &RoleSetting) -> String {
    match (role, &setting.database) {
        (None, Some(database)) => format!("ALTER DATABASE {}", safe_ident(database)),
        (None, None) => "ALTER ROLE ALL".to_owned(),
        (Some(role), None) => format!("ALTER ROLE {}", safe_ident(role)),
        (Some(role), Some(database)) => {
            format!("ALTER ROLE {} IN DATABASE {}", safe_ident(role), safe_ident(database))
        }
    }
}

/// Whether the value of a parameter is a list, whose items the server has quoted.
fn is_list(parameter: &str) -> bool {
    matches!(parameter, "session_preload_libraries" | "local_preload_libraries")
}

/// Returns the items of a list of libraries or folders: between commas, without the blanks around
/// them and without quotation marks.
pub(crate) fn items(value: &str) -> impl Iterator<Item = String> {
    let mut items = vec![String::new()];
    let mut is_quoted = false;
    for c in value.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => items.push(String::new()),
            _ => items.last_mut().expect("one item at least").push(c),
        }
    }
    items.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    #[test]
    fn setting_is_reset_and_set_where_it_is_stored() {
        let mut world = World::conforming();
        let anon = world.role("anon").oid;
        let snapshot = world.snapshot.complete();
        let statements = |role: Option<u32>, database: Option<&str>, name: &str, value: &str| {
            let (database, name, value) =
                (database.map(str::to_owned), name.to_owned(), value.to_owned());
            let setting = RoleSetting { role, database, name, value };
            let stored = StoredSetting::of(&snapshot, &setting);
            [stored.reset, set(&snapshot, &setting)]
        };
        assert_eq!(
            statements(Some(anon), Some("App"), "row_security", "off"),
            [
                "ALTER ROLE anon IN DATABASE \"App\" RESET row_security;",
                "ALTER ROLE anon IN DATABASE \"App\" SET row_security = 'off';"
            ]
        );
        assert_eq!(
            statements(None, Some("App"), "lo_compat_privileges", "on"),
            [
                "ALTER DATABASE \"App\" RESET lo_compat_privileges;",
                "ALTER DATABASE \"App\" SET lo_compat_privileges = 'on';"
            ]
        );
        let libraries = "\"/tmp/a, b\", auto_explain";
        assert_eq!(
            statements(None, None, "session_preload_libraries", libraries)[1],
            "ALTER ROLE ALL SET session_preload_libraries = '/tmp/a, b', 'auto_explain';"
        );
    }
}
