//! What a platform brings along: the usual roles with their kinds, and the schemas, extensions and
//! roles that the platform manages. Each preset is a file in `presets/`.

use super::types::{Contract, ManagedDecl, RoleDecl};
use crate::catalog::Snapshot;
use serde::{Deserialize, Serialize};

/// A platform with a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are named like what they stand for")]
pub enum Platform {
    Supabase,
    Postgrest,
    Rds,
    CloudSql,
    Azure,
    Neon,
}

/// The part of a contract that a platform determines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The roles of the platform that are clients, workers, login roles and owners.
    pub roles: Vec<RoleDecl>,
    /// What the platform manages.
    pub managed: ManagedDecl,
}

impl Platform {
    /// Every platform.
    pub const ALL: [Self; 6] =
        [Self::Supabase, Self::Postgrest, Self::Rds, Self::CloudSql, Self::Azure, Self::Neon];

    /// Returns the name of the preset in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supabase => "supabase",
            Self::Postgrest => "postgrest",
            Self::Rds => "rds",
            Self::CloudSql => "cloudsql",
            Self::Azure => "azure",
            Self::Neon => "neon",
        }
    }

    /// Returns the platform with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == name)
    }

    /// Returns the platforms to which a database belongs: the provider that runs the server, and
    /// the API that logs in to it. A provider has a superuser of its own, which no customer can
    /// create; PostgREST usually logs in as `authenticator`. Supabase contains PostgREST.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Vec<Self> {
        let has = |name: &str, fits: fn(&crate::catalog::Role) -> bool| {
            snapshot.roles.iter().any(|role| role.name == name && fits(role))
        };
        let is_provider = |of: &Self| of.superuser().is_some_and(|name| has(name, |r| r.superuser));
        let mut found: Vec<Self> = Self::ALL.into_iter().filter(is_provider).collect();
        let has_login = has("authenticator", |role| role.can_login && !role.superuser);
        if has_login && !found.contains(&Self::Supabase) {
            found.push(Self::Postgrest);
        }
        found
    }

    /// Returns the superuser that only this platform has; `None` where it has none.
    fn superuser(self) -> Option<&'static str> {
        match self {
            Self::Supabase => Some("supabase_admin"),
            Self::Postgrest => None,
            Self::Rds => Some("rdsadmin"),
            Self::CloudSql => Some("cloudsqladmin"),
            Self::Azure => Some("azuresu"),
            Self::Neon => Some("cloud_admin"),
        }
    }

    /// Returns the preset.
    ///
    /// # Panics
    /// Never: the files are part of the library, and the tests read them.
    #[must_use]
    pub fn preset(self) -> Preset {
        let text = match self {
            Self::Supabase => include_str!("presets/supabase.json"),
            Self::Postgrest => include_str!("presets/postgrest.json"),
            Self::Rds => include_str!("presets/rds.json"),
            Self::CloudSql => include_str!("presets/cloudsql.json"),
            Self::Azure => include_str!("presets/azure.json"),
            Self::Neon => include_str!("presets/neon.json"),
        };
        serde_json::from_str(text).expect("a preset is a part of a contract")
    }
}

impl Preset {
    /// Adds the preset to a contract: the roles that exist and that the contract does not declare,
    /// and everything that the platform manages.
    pub fn add_to(self, contract: &mut Contract, snapshot: &Snapshot) {
        let is_wanted = |role: &RoleDecl| {
            snapshot.roles.iter().any(|existing| existing.name == role.name)
                && contract.role(&role.name).is_none()
        };
        let roles: Vec<RoleDecl> = self.roles.into_iter().filter(is_wanted).collect();
        contract.roles.extend(roles);
        let managed = &mut contract.managed;
        for (list, more) in [
            (&mut managed.schemas, self.managed.schemas),
            (&mut managed.extensions, self.managed.extensions),
            (&mut managed.roles, self.managed.roles),
        ] {
            for name in more {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examine::examine;
    use super::super::types::RoleKind;
    use super::*;
    use crate::catalog::Role;
    use serde_json::json;

    fn snapshot(roles: &[(&str, bool, bool)]) -> Snapshot {
        let role = |(name, superuser, can_login): &(&str, bool, bool)| Role {
            name: (*name).into(),
            superuser: *superuser,
            can_login: *can_login,
            ..Role::default()
        };
        Snapshot { roles: roles.iter().map(role).collect(), ..Snapshot::default() }
    }

    #[test]
    fn preset_is_a_valid_part_of_a_contract_without_warnings() {
        for platform in Platform::ALL {
            let mut document = serde_json::to_value(platform.preset()).unwrap();
            document["name"] = json!("app");
            document["version"] = json!("1.0.0");
            document["schemas"] = json!([]);
            document["security_definer"] = json!({"search_path": ["pg_temp"]});
            assert_eq!(examine(&document.to_string()).problems, [], "{}", platform.as_str());
        }
    }

    #[test]
    fn platforms_are_recognised_by_their_roles() {
        let supabase = [("supabase_admin", true, true), ("authenticator", false, true)];
        assert_eq!(Platform::of(&snapshot(&supabase)), [Platform::Supabase]);
        assert_eq!(Platform::of(&snapshot(&supabase[1..])), [Platform::Postgrest]);
        let neon = [("cloud_admin", true, true), ("authenticator", false, true)];
        assert_eq!(Platform::of(&snapshot(&neon)), [Platform::Neon, Platform::Postgrest]);
        for platform in Platform::ALL {
            assert_eq!(Platform::named(platform.as_str()), Some(platform));
            // Any role with CREATEROLE can choose the name.
            let impostor = platform.superuser().map(|name| (name, false, true));
            assert_eq!(Platform::of(&snapshot(impostor.as_slice())), []);
        }
        assert_eq!(Platform::named("other"), None);
    }

    #[test]
    fn preset_adds_existing_roles_and_keeps_declared_kinds() {
        let mut contract = Contract::from_json(super::super::shipped::DEFAULT).unwrap();
        contract.roles.retain(|role| role.name == "anon");
        contract.roles[0].kind = RoleKind::Worker;
        let existing = snapshot(&[("anon", false, false), ("authenticator", false, true)]);
        let managed = contract.managed.schemas.len();
        Platform::Supabase.preset().add_to(&mut contract, &existing);
        assert_eq!(contract.kind_of("anon"), Some(RoleKind::Worker));
        assert_eq!(contract.kind_of("authenticator"), Some(RoleKind::Login));
        assert_eq!(contract.kind_of("service_role"), None, "it does not exist");
        assert!(contract.manages_role("supabase_auth_admin", false));
        assert!(contract.managed.schemas.len() > managed);
        let again = contract.clone();
        Platform::Supabase.preset().add_to(&mut contract, &existing);
        assert_eq!(contract, again);
    }
}
