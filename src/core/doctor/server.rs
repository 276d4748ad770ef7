//! What the server itself gets wrong about row security: then policies do not hold what their
//! conditions say.

use super::check::Check;
use std::collections::BTreeMap;

/// The server that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// `server_version_num`, such as 150020.
    pub release: u32,
    /// Whether the views of extended statistics show those of a table to its owner only. The minor
    /// releases with this change leave the views of existing clusters as they are.
    pub statistics_are_hidden: bool,
}

/// A flaw of some minor releases by which clients reach rows that policies hide from them.
struct Flaw {
    cve: &'static str,
    /// What it allows, as a clause.
    what: &'static str,
    /// The first minor release without it, by major version. Others do not have it.
    fixed: &'static [(u32, u32)],
}

/// The flaws of the supported major versions.
///
/// CVE-2016-2193 and CVE-2019-10130 are older than these. CVE-2024-4317 needs more than a minor
/// release: see [`statistics`].
const FLAWS: [Flaw; 6] = [
    Flaw {
        cve: "CVE-2023-2455",
        what: "a plan is reused with the policies of another role where a function was inlined",
        fixed: &[(15, 3)],
    },
    Flaw {
        cve: "CVE-2023-39418",
        what: "MERGE stores rows that policies for UPDATE and SELECT forbid",
        fixed: &[(15, 4)],
    },
    Flaw {
        cve: "CVE-2024-10976",
        what: "a plan is reused with the policies of another role where subqueries or views read \
               the table",
        fixed: &[(15, 9), (16, 5), (17, 1)],
    },
    Flaw {
        cve: "CVE-2025-8713",
        what: "operators are given hidden values from the statistics of partitions and children",
        fixed: &[(15, 14), (16, 10), (17, 6)],
    },
    Flaw {
        cve: "CVE-2026-14666",
        what: "a plan is reused with the policies from before a change of roles and memberships",
        fixed: &[(15, 19), (16, 15), (17, 11), (18, 6)],
    },
    Flaw {
        cve: "CVE-2026-120154",
        what: "INSERT ... ON CONFLICT DO UPDATE reads rows that policies hide",
        fixed: &[(15, 20), (16, 16), (17, 12), (18, 7)],
    },
];

/// Checks whether the server does what policies say.
pub(super) fn checks(server: Server) -> Vec<Check> {
    std::iter::once(minor_release(server)).chain(statistics(server)).collect()
}

fn minor_release(server: Server) -> Check {
    let (major, minor) = (server.release / 10_000, server.release % 10_000);
    let fixed_in = |flaw: &Flaw| {
        let fixed = flaw.fixed.iter().find(|(of, _)| *of == major).map(|(_, minor)| *minor);
        fixed.filter(|fixed| minor < *fixed)
    };
    let mut found = BTreeMap::<u32, Vec<String>>::new();
    for flaw in &FLAWS {
        if let Some(fixed) = fixed_in(flaw) {
            found.entry(fixed).or_default().push(format!("{} ({})", flaw.cve, flaw.what));
        }
    }
    let object = format!("PostgreSQL {major}.{minor}");
    let Some(last) = found.last_key_value().map(|(fixed, _)| *fixed) else {
        let detail = "No flaw is known in it by which clients reach rows that policies hide.";
        return Check { area: "server", object, ok: true, detail: detail.into(), fix: None };
    };
    let fixes =
        found.iter().map(|(fixed, flaws)| format!("{major}.{fixed} fixes {}", flaws.join(", ")));
    Check {
        area: "server",
        object,
        ok: false,
        detail: format!(
            "Clients can reach rows that policies hide, whatever the policies say: {}. Install \
             PostgreSQL {major}.{last} or a later minor release, and restart the server.",
            fixes.collect::<Vec<_>>().join("; ")
        ),
        fix: None,
    }
}

/// The major versions whose clusters were created with views of extended statistics that show too
/// much, with the minor release that has the script for existing clusters.
const WITH_SCRIPT: [(u32, u32); 2] = [(15, 7), (16, 3)];

/// Checks the views of extended statistics; nothing where they hide what they should.
fn statistics(server: Server) -> Option<Check> {
    let major = server.release / 10_000;
    let (_, minor) = WITH_SCRIPT.into_iter().find(|(of, _)| *of == major)?;
    (!server.statistics_are_hidden).then(|| Check {
        area: "server",
        object: "pg_stats_ext".into(),
        ok: false,
        detail: format!(
            "It shows values from the extended statistics of tables to roles that may not read \
             these (CVE-2024-4317). PostgreSQL {major}.{minor} and later have a script that \
             changes the views of a cluster that an earlier one created: run \
             fix-CVE-2024-4317.sql, which is in the directory that pg_config --sharedir prints, \
             in each database as a superuser."
        ),
        fix: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(release: u32) -> Check {
        minor_release(Server { release, statistics_are_hidden: true })
    }

    #[test]
    fn each_flaw_is_reported_up_to_the_release_that_fixes_it() {
        for flaw in &FLAWS {
            for (major, fixed) in flaw.fixed {
                let before = of(major * 10_000 + fixed - 1);
                assert!(!before.ok && before.detail.contains(flaw.cve), "{before:?}");
                let after = of(major * 10_000 + fixed);
                assert!(!after.detail.contains(flaw.cve), "{after:?}");
            }
        }
        // A major version without the flaw.
        assert!(!of(160_000).detail.contains("CVE-2023-2455"));
        assert!(!of(180_000).detail.contains("CVE-2025-8713"));
    }

    #[test]
    fn releases_with_all_fixes_pass() {
        for release in [150_020, 160_016, 170_012, 180_007, 150_021, 190_000] {
            let check = of(release);
            assert!(check.ok && check.fix.is_none(), "{check:?}");
        }
    }

    #[test]
    fn the_release_that_fixes_all_is_named() {
        let check = of(170_005);
        assert_eq!(check.object, "PostgreSQL 17.5");
        assert_eq!(
            check.detail,
            "Clients can reach rows that policies hide, whatever the policies say: 17.6 fixes \
             CVE-2025-8713 (operators are given hidden values from the statistics of partitions \
             and children); 17.11 fixes CVE-2026-14666 (a plan is reused with the policies from \
             before a change of roles and memberships); 17.12 fixes CVE-2026-120154 (INSERT ... ON \
             CONFLICT DO UPDATE reads rows that policies hide). Install PostgreSQL 17.12 or a \
             later minor release, and restart the server."
        );
    }

    #[test]
    fn views_of_statistics_are_reported_where_a_script_changes_them() {
        let of = |release, statistics_are_hidden| {
            statistics(Server { release, statistics_are_hidden }).map(|check| check.detail)
        };
        assert_eq!(of(150_020, true), None);
        assert!(of(150_020, false).is_some_and(|detail| detail.contains("15.7 and later")));
        assert!(of(160_002, false).is_some_and(|detail| detail.contains("16.3 and later")));
        assert_eq!(of(170_000, false), None, "its views were never like that");
    }
}
