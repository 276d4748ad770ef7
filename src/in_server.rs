//! Tests inside a server: the core returns what the server itself returns.

#[pgrx::pg_schema]
mod tests {
    use crate::catalog::{self, VERSION};
    use crate::pg::heap::State;
    use crate::store::contract;
    use dragonfly_core::access::Access;
    use dragonfly_core::catalog::{ObjectKind, Privileges, Role, Snapshot};
    use dragonfly_core::sql::identifiers::split_identifiers;
    use pgrx::prelude::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};
    use std::cell::Cell;
    use std::ffi::{CStr, CString};

    fn runner(cases: u32) -> TestRunner {
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
    }

    /// Splits by the server's `SplitIdentifierString`; `None` where the server rejects the value.
    fn split_by_server(value: &str) -> Option<Vec<String>> {
        let raw = CString::new(value).expect("no zero byte");
        // SAFETY: the server splits the copy in place, and its list points into it.
        unsafe {
            let copy = pg_sys::pstrdup(raw.as_ptr());
            let mut list = std::ptr::null_mut();
            if !pg_sys::SplitIdentifierString(copy, b',' as _, &mut list) {
                return None;
            }
            let length = if list.is_null() { 0 } else { (*list).length };
            let name = |i| {
                CStr::from_ptr((*(*list).elements.add(i)).ptr_value.cast())
                    .to_str()
                    .expect("UTF-8")
                    .to_owned()
            };
            Some((0..length as usize).map(name).collect())
        }
    }

    #[pg_test]
    fn split_identifiers_agrees_with_server() {
        let piece = prop_oneof![
            4 => "[a-zA-Z_$0-9]{0,12}",
            3 => "[ \t\n\r\x0b\x0c]{1,3}",
            3 => Just("\"".to_owned()),
            2 => Just("\"\"".to_owned()),
            4 => Just(",".to_owned()),
            2 => "[äÄé€😀\u{a0}\u{200b}\u{130}]{1,40}",
            1 => "[a-zA-Z]{55,70}",
            1 => "[\\\\'.;%-]{1,3}",
            2 => Just("pg_temp".to_owned()),
            2 => Just("\"$user\"".to_owned()),
        ];
        let value = proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat());
        let lists = Cell::new(0);
        runner(30_000)
            .run(&value, |value| {
                let ours = split_identifiers(&value, VERSION).ok();
                lists.set(
                    lists.get() + u32::from(ours.as_ref().is_some_and(|names| names.len() > 1)),
                );
                prop_assert_eq!(ours, split_by_server(&value), "{:?}", value);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(lists.get() > 1_000, "only {} of the values were lists", lists.get());
    }

    #[pg_test]
    fn oid_of_hash_inverts_the_hash_of_the_server() {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        for oid in (0..32).map(|bit| 1 << bit).chain([3, 16_384, u32::MAX]) {
            let [key, none] = [oid, 0].map(pg_sys::Datum::from);
            // SAFETY: the cache has one key, an OID.
            let hash = unsafe { pg_sys::GetSysCacheHashValue(cache, key, none, none, none) };
            assert_eq!(crate::pg::syscache::oid_of_hash(hash), oid);
        }
    }

    const ROLES: usize = 7;
    const PREDEFINED: [&str; 4] =
        ["pg_read_all_data", "pg_write_all_data", "pg_monitor", "pg_database_owner"];

    /// A statement about the current database, whose name takes the place of `%I`.
    fn with_database(statement: &str) -> String {
        format!("DO $$ BEGIN EXECUTE format('{statement}', current_database()); END $$")
    }

    fn role() -> impl Strategy<Value = String> {
        (0..ROLES).prop_map(|i| format!("t{i}"))
    }

    fn any_of(words: &[&'static str]) -> impl Strategy<Value = &'static str> {
        prop::sample::select(words.to_vec())
    }

    fn memberships() -> impl Strategy<Value = String> {
        let options = any::<(bool, bool, bool)>();
        (0..ROLES, 0..ROLES + PREDEFINED.len() - 1, options).prop_map(|(member, role, options)| {
            // A role is granted lower roles only, because the server rejects circular
            // memberships.
            let name = if role < ROLES {
                format!("t{}", role.min(member))
            } else {
                PREDEFINED[role - ROLES].to_owned()
            };
            let (inherit, set, admin) = options;
            match VERSION {
                ..16 => format!(
                    "GRANT {name} TO t{member} {}",
                    if admin { "WITH ADMIN OPTION" } else { "" }
                ),
                _ => format!(
                    "GRANT {name} TO t{member} WITH INHERIT {inherit}, SET {set}, ADMIN {admin}"
                ),
            }
        })
    }

    fn grants() -> impl Strategy<Value = String> {
        let grantee = || prop_oneof![5 => role(), 1 => Just("PUBLIC".to_owned())];
        let table = prop::sample::subsequence(
            vec!["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"],
            1..=7,
        );
        let option = prop_oneof![3 => Just(""), 1 => Just(" WITH GRANT OPTION")];
        let on_table = (table, grantee(), option).prop_map(|(p, g, o)| {
            format!("GRANT {} ON t.r TO {g}{}", p.join(", "), if g == "PUBLIC" { "" } else { o })
        });
        let on_column = (any_of(&["SELECT", "INSERT", "UPDATE", "REFERENCES"]), grantee())
            .prop_map(|(p, g)| format!("GRANT {p} (\"Ü c\") ON t.r TO {g}"));
        let on_sequence = (any_of(&["USAGE", "SELECT", "UPDATE", "ALL"]), grantee())
            .prop_map(|(p, g)| format!("GRANT {p} ON SEQUENCE t.s TO {g}"));
        let on_routine = (any_of(&["GRANT", "REVOKE"]), grantee()).prop_map(|(verb, g)| {
            let word = if verb == "GRANT" { "TO" } else { "FROM" };
            format!("{verb} EXECUTE ON FUNCTION t.f() {word} {g}")
        });
        let on_schema = (any_of(&["USAGE", "CREATE", "ALL"]), grantee())
            .prop_map(|(p, g)| format!("GRANT {p} ON SCHEMA t TO {g}"));
        let on_database =
            (any_of(&["CREATE", "TEMP", "CONNECT"]), any_of(&["GRANT", "REVOKE"]), grantee())
                .prop_map(|(p, verb, g)| {
                    let word = if verb == "GRANT" { "TO" } else { "FROM" };
                    with_database(&format!("{verb} {p} ON DATABASE %I {word} {g}"))
                });
        prop_oneof![
            4 => on_table,
            2 => on_column,
            2 => on_sequence,
            2 => on_routine,
            2 => on_schema,
            1 => on_database,
        ]
    }

    /// Changes of owners, of their own privileges, and of role attributes.
    fn changes_of_roles() -> impl Strategy<Value = String> {
        let object = || any_of(&["TABLE t.r", "FUNCTION t.f()", "SEQUENCE t.s", "SCHEMA t"]);
        let owner =
            (object(), role()).prop_map(|(object, role)| format!("ALTER {object} OWNER TO {role}"));
        let revoke = (object(), role())
            .prop_map(|(object, role)| format!("REVOKE ALL ON {object} FROM {role}"));
        let database_owner =
            role().prop_map(|role| with_database(&format!("ALTER DATABASE %I OWNER TO {role}")));
        let attribute = (role(), any_of(&["NOINHERIT", "INHERIT", "SUPERUSER"]))
            .prop_map(|(role, attribute)| format!("ALTER ROLE {role} {attribute}"));
        prop_oneof![owner, revoke, database_owner, attribute]
    }

    /// Random statements that create memberships and grants, and change owners and attributes.
    fn statements() -> impl Strategy<Value = Vec<String>> {
        let statement = prop_oneof![6 => memberships(), 13 => grants(), 4 => changes_of_roles()];
        proptest::collection::vec(statement, 1..24)
    }

    fn snapshot() -> Snapshot {
        let state = State::now();
        let own = catalog::find_own(&state);
        let mut contract = (*contract::in_force(&state, &own)).clone();
        contract.schemas[0].name = "t".into();
        catalog::full(&state, &contract, &own)
    }

    fn ask_server(question: &str) -> bool {
        Spi::get_one::<bool>(&format!("SELECT {question}")).expect("a row").expect("not null")
    }

    /// Compares every privilege and membership of every role. Returns the number of comparisons.
    fn compare() -> Result<u32, TestCaseError> {
        let snapshot = snapshot();
        let access = Access::new(&snapshot);
        let mut comparisons = 0;
        for role in (0..ROLES).map(|i| snapshot.role_named(&format!("t{i}")).expect("a role")) {
            comparisons += compare_privileges(&snapshot, &access, role)?;
            comparisons += compare_memberships(&snapshot, &access, role)?;
        }
        Ok(comparisons)
    }

    fn compare_privileges(
        snapshot: &Snapshot,
        access: &Access<'_>,
        role: &Role,
    ) -> Result<u32, TestCaseError> {
        let schema = snapshot.schema_named("t").expect("schema t");
        let [table, sequence] =
            ["r", "s"].map(|name| snapshot.relation_named(schema.oid, name).expect("a relation"));
        let routine =
            snapshot.routines.iter().find(|r| r.schema == schema.oid).expect("function t.f");
        let database = &snapshot.database;
        let name = &role.name;
        let mut comparisons = 0;
        let mut ask = |held: Privileges, words: &[&str], question: &dyn Fn(&str) -> String| {
            for word in words {
                let question = question(word);
                comparisons += 1;
                let privilege: Privileges = word.parse().expect("a privilege");
                prop_assert_eq!(held.contains(privilege), ask_server(&question), "{}", question);
            }
            Ok(())
        };
        let mut on_table =
            vec!["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"];
        if VERSION >= 17 {
            on_table.push("MAINTAIN");
        }
        ask(access.relation_privileges(role.oid, table), &on_table, &|w| {
            format!("has_table_privilege('{name}', 't.r', '{w}')")
        })?;
        let on_column = ["SELECT", "INSERT", "UPDATE", "REFERENCES"];
        ask(access.column_privileges(role.oid, table, "Ü c"), &on_column, &|w| {
            format!("has_column_privilege('{name}', 't.r', 'Ü c', '{w}')")
        })?;
        let on_sequence = ["USAGE", "SELECT", "UPDATE"];
        ask(access.relation_privileges(role.oid, sequence), &on_sequence, &|w| {
            format!("has_sequence_privilege('{name}', 't.s', '{w}')")
        })?;
        let held = |owner, acl, kind| access.privileges(role.oid, owner, acl, kind);
        let on_routine = held(routine.owner, routine.acl.as_ref(), ObjectKind::Routine);
        ask(on_routine, &["EXECUTE"], &|w| {
            format!("has_function_privilege('{name}', 't.f()', '{w}')")
        })?;
        let on_schema = held(schema.owner, schema.acl.as_ref(), ObjectKind::Schema);
        ask(on_schema, &["USAGE", "CREATE"], &|w| {
            format!("has_schema_privilege('{name}', 't', '{w}')")
        })?;
        let on_database = held(database.owner, database.acl.as_ref(), ObjectKind::Database);
        ask(on_database, &["CREATE", "TEMPORARY", "CONNECT"], &|w| {
            format!("has_database_privilege('{name}', current_database(), '{w}')")
        })?;
        Ok(comparisons)
    }

    fn compare_memberships(
        snapshot: &Snapshot,
        access: &Access<'_>,
        role: &Role,
    ) -> Result<u32, TestCaseError> {
        let mut comparisons = 0;
        let is_compared = |r: &&Role| r.name.starts_with('t') || r.name.starts_with("pg_");
        for other in snapshot.roles.iter().filter(is_compared) {
            comparisons += 3;
            let pair = format!("'{}', '{}'", role.name, other.name);
            let usage = ask_server(&format!("pg_has_role({pair}, 'USAGE')"));
            prop_assert_eq!(access.has_privileges_of(role.oid, other.oid), usage, "USAGE {}", pair);
            let set = if VERSION >= 16 { "SET" } else { "MEMBER" };
            let set = ask_server(&format!("pg_has_role({pair}, '{set}')"));
            prop_assert_eq!(access.can_set_role(role.oid, other.oid), set, "SET {}", pair);
            let admin = ask_server(&format!("pg_has_role({pair}, 'MEMBER WITH ADMIN OPTION')"));
            prop_assert_eq!(access.is_admin_of(role.oid, other.oid), admin, "ADMIN {}", pair);
        }
        Ok(comparisons)
    }

    #[pg_test]
    fn access_agrees_with_server_on_random_grants() {
        Spi::run("SET dragonfly_guard.mode = off; SET client_min_messages = error")
            .expect("settings");
        let owner = Spi::get_one::<String>("SELECT quote_ident(current_user)")
            .expect("a name")
            .expect("not null");
        let comparisons = Cell::new(0);
        runner(80)
            .run(&statements(), |statements| {
                let roles: String = (0..ROLES).map(|i| format!("CREATE ROLE t{i};")).collect();
                let objects =
                    "CREATE SCHEMA t; CREATE TABLE t.r (\"Ü c\" int); CREATE SEQUENCE t.s;
                    CREATE FUNCTION t.f() RETURNS int LANGUAGE sql AS 'SELECT 1';";
                Spi::run(&(roles + objects)).expect("roles and objects");
                for statement in &statements {
                    // Errors, such as that of a role's membership in itself, do not matter here.
                    // The quotes are doubled twice, for two levels of literals.
                    let quoted = statement.replace('\'', "''''");
                    Spi::run(&format!(
                        "DO 'BEGIN EXECUTE ''{quoted}''; EXCEPTION WHEN OTHERS THEN NULL; END'"
                    ))
                    .unwrap_or_else(|e| panic!("{statement}: {e}"));
                }
                let result = compare();
                let roles: Vec<String> = (0..ROLES).map(|i| format!("t{i}")).collect();
                let roles = roles.join(", ");
                Spi::run(&format!(
                    "{}; DROP SCHEMA t CASCADE; DROP OWNED BY {roles} CASCADE; DROP ROLE {roles}",
                    with_database(&format!("ALTER DATABASE %I OWNER TO {owner}"))
                ))
                .expect("cleanup");
                comparisons.set(comparisons.get() + result?);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{e}"));
        assert!(comparisons.get() > 20_000, "only {} comparisons", comparisons.get());
    }

    /// What both readers of texts made of the functions of the database.
    #[derive(Debug, Default)]
    struct Read {
        by_both: usize,
        by_server: usize,
        differences: Vec<String>,
    }

    /// Compares what the server makes of the texts of functions with what is read of a snapshot.
    fn compare_texts() -> Read {
        use dragonfly_reader::analysis::InSnapshot;
        use dragonfly_reader::caller_typed::language_of;
        use dragonfly_reader::data::{Data, Server};
        use dragonfly_reader::text_body::{Text, Texts};
        use dragonfly_reader::{State as _, write};

        let state = State::now();
        let server = Server {
            version_num: VERSION * 10_000,
            encoding: "UTF8".into(),
            database: state.database(),
            role: String::new(),
            time: 0,
            settings: [("search_path".to_owned(), state.default_of("search_path"))].into(),
        };
        let data = Data::parse(&write::snapshot(&state, &server), || {}).expect("a snapshot");
        let (in_server, in_snapshot) = (state.texts().expect("texts"), InSnapshot::new(&data));
        let mut read = Read::default();
        let rows = "SELECT p.oid::int8, p.prosrc, p.prolang::int8, p.proowner::int8, p.prosecdef,
                substr((SELECT c FROM unnest(p.proconfig) AS c WHERE c LIKE 'search_path=%'), 13)
            FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
            WHERE p.oid >= 16384 AND p.prosqlbody IS NULL AND lanname IN ('sql', 'plpgsql')
            ORDER BY p.oid";
        let functions: Vec<(i64, String, i64, i64, bool, Option<String>)> =
            Spi::connect(|client| {
                let rows = client.select(rows, None, &[]).expect("functions");
                rows.map(|row| {
                    (
                        row.get(1).expect("oid").expect("oid"),
                        row.get(2).expect("text").expect("text"),
                        row.get(3).expect("oid").expect("oid"),
                        row.get(4).expect("oid").expect("oid"),
                        row.get(5).expect("bool").expect("bool"),
                        row.get(6).expect("text"),
                    )
                })
                .collect()
            });
        for (oid, source, language, owner, is_definer, path) in functions {
            let language = language_of(&state, language as u32);
            let (routine, owner, source) = (oid as u32, owner as u32, source.as_str());
            let text = Text { routine, language, source, path, owner, is_definer };
            let expected = in_server.query(&text);
            read.by_server += usize::from(expected.is_some());
            let Some(found) = in_snapshot.query(&text) else { continue };
            read.by_both += 1;
            let is_same = expected
                .as_ref()
                .is_some_and(|of| of.query == found.query && of.captured == found.captured);
            if !is_same {
                let expected = expected.map(|of| (of.query, of.captured));
                let found = (found.query, found.captured);
                read.differences.push(format!("{source}\nserver {expected:?}\nsnapshot {found:?}"));
            }
        }
        read
    }

    #[pg_test]
    fn texts_of_functions_mean_the_same_in_a_snapshot() {
        Spi::run(include_str!("../tests/fixtures/texts.sql")).expect("functions");
        let read = compare_texts();
        assert!(read.differences.is_empty(), "{}", read.differences.join("\n\n"));
        assert!(read.by_both > 30, "{} of {}", read.by_both, read.by_server);
    }
}
