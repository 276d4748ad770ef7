//! The search_path corpus: tests/fixtures/search_path_cases.csv.

use crate::{SUPERUSER, major_version, project};
use postgres::Client;

/// The roles of the cases.
pub const ROLES: &str = "
    CREATE ROLE postgres; CREATE ROLE app_owner; CREATE ROLE anon; CREATE ROLE authenticated;
    CREATE ROLE service_role BYPASSRLS; CREATE ROLE mallory; CREATE ROLE tenant;
    CREATE ROLE trusted_dba; CREATE ROLE nogrp; CREATE ROLE other_owner;";

/// The reasons that an assessment can give.
const REASONS: [&str; 9] = [
    "NO_PATH",
    "USER_VAR",
    "MISSING_SCHEMA",
    "WRITABLE",
    "FOREIGN_OBJECTS",
    "TEMP_NOT_LISTED",
    "TEMP_NOT_LAST",
    "TEMP_BY_NUMBER",
    "CATALOG_NOT_FIRST",
];

/// A routine with SECURITY DEFINER, and what its search_path is worth.
#[derive(Debug)]
pub struct Case {
    /// The name of the case, which is that of its database.
    pub id: String,
    /// The owner of the routine.
    pub owner: String,
    /// The path as it is stored, or a word in angle brackets for what is stored in place of one.
    pub path: String,
    setup: String,
    /// The roles that the contract trusts.
    pub trusted: Vec<String>,
    /// The verdict.
    pub verdict: String,
    /// Some of the reasons, as their codes.
    pub reasons: Vec<String>,
    /// Whether the path is the one that the contract demands.
    pub is_canonical: bool,
}

/// Returns the cases for the server under test.
#[must_use]
pub fn all() -> Vec<Case> {
    let file = project().join("tests/fixtures/search_path_cases.csv");
    let mut reader = csv::Reader::from_path(file).expect("the corpus");
    let of = |record: csv::StringRecord| {
        let [id, since, owner, path, setup, trusted, verdict, reasons, canonical] =
            std::array::from_fn(|i| record[i].to_owned());
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let code = |reason: String| {
            let code = reason.split(':').next().unwrap_or_default().to_owned();
            REASONS.contains(&code.as_str()).then_some(code)
        };
        let case = Case {
            id: id.to_ascii_lowercase(),
            owner: if owner == "root_su" { SUPERUSER.to_owned() } else { owner },
            path,
            setup,
            trusted: words(&trusted),
            verdict,
            reasons: words(&reasons).into_iter().filter_map(code).collect(),
            is_canonical: canonical == "yes",
        };
        // No case for 15 needs what 13 does not have, but one that needs the owner of the database
        // to own schema public.
        let of_owner = case.setup.contains("ALTER DATABASE") && major_version() < 15;
        let since: u32 = since.parse().expect("a major version");
        (since <= major_version().max(15) && !of_owner).then_some(case)
    };
    reader.records().filter_map(|record| of(record.expect("a case"))).collect()
}

impl Case {
    /// Creates the state of the case and its routine, `subject.f()`, in a database of its name that
    /// belongs to app_owner and has nothing but what an extension has created. Expects a session in
    /// which no guard checks.
    ///
    /// # Panics
    /// If a statement fails.
    pub fn create(&self, client: &mut Client) {
        let Self { id, owner, .. } = self;
        client
            .batch_execute(&format!(
                "CREATE SCHEMA IF NOT EXISTS ops;
                 DROP SCHEMA IF EXISTS api, intake, enforcement;
                 CREATE SCHEMA api AUTHORIZATION app_owner;
                 CREATE SCHEMA intake AUTHORIZATION app_owner;
                 CREATE SCHEMA enforcement AUTHORIZATION app_owner;
                 ALTER SCHEMA ops OWNER TO app_owner;
                 REVOKE CREATE ON SCHEMA public FROM PUBLIC;
                 CREATE SCHEMA subject;
                 CREATE FUNCTION subject.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
                 ALTER FUNCTION subject.f() OWNER TO {owner}"
            ))
            .unwrap_or_else(|error| panic!("{id}: {error:?}"));
        let setup = self.setup.replace("@DB@", id);
        client.batch_execute(&setup).unwrap_or_else(|error| panic!("{id}: {error:?}"));
        let update = "UPDATE pg_proc SET prosecdef = true, proconfig = $1
                       WHERE oid = 'subject.f()'::regprocedure";
        client.execute(update, &[&self.settings()]).unwrap();
    }

    /// Returns what is stored as settings of the routine.
    fn settings(&self) -> Option<Vec<String>> {
        let settings = |all: &[&str]| Some(all.iter().map(|&item| item.to_owned()).collect());
        match self.path.as_str() {
            "<NULL>" => None,
            "<OTHER_GUC>" => settings(&["work_mem=1MB"]),
            "<DUP>" => settings(&["search_path=public, pg_temp", "search_path=pg_temp, public"]),
            "<UPPERKEY>" => settings(&["SEARCH_PATH=public, pg_temp"]),
            path => settings(&[&format!("search_path={path}")]),
        }
    }

    /// Returns the path, where there is nothing else stored in place of it.
    #[must_use]
    pub fn plain_path(&self) -> Option<&str> {
        (!self.path.starts_with('<')).then_some(&self.path)
    }

    /// Whether it changes roles, which all databases of the server share.
    #[must_use]
    pub fn changes_roles(&self) -> bool {
        self.setup.contains("ROLE") || self.setup.contains(" TO mallory")
    }
}
