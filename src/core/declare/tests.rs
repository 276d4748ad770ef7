//! Laws of declarations, and what single statements do.

use super::*;
use crate::contract::{Contract, DEFAULT, IdentityKind, changes};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use std::collections::BTreeMap;

fn shipped() -> Contract {
    Contract::from_json(DEFAULT).unwrap()
}

fn flat(contract: &Contract) -> Vec<Declaration> {
    statements(contract).into_iter().flat_map(|section| section.declarations).collect()
}

fn amended(contract: &Contract, declarations: &[Declaration]) -> Contract {
    amend(contract, declarations, None, &|| {}).unwrap()
}

fn refused(declaration: Declaration) -> String {
    let (place, reason) = amend(&shipped(), &[declaration], None, &|| {}).unwrap_err();
    assert_eq!(place, 0);
    format!("{}. {}", reason.message, reason.hint)
}

fn grant(is_revoke: bool, privilege: Privileges, on: On, role: &str) -> Declaration {
    Declaration::Grant(Grant {
        is_revoke,
        privileges: vec![Granted { privilege: Some(privilege), columns: vec![] }],
        on,
        roles: vec![role.to_owned()],
        to_public: false,
    })
}

fn judgments() -> Name {
    Name::new("public", "judgments")
}

#[test]
fn statements_of_the_shipped_contract_describe_it() {
    let again = amended(&shipped(), &flat(&shipped()));
    assert_eq!(changes(&shipped(), &again), [""; 0]);
    let text = headed(&statements(&shipped()));
    for line in [
        "-- Contract dragonfly_civil 1.0.0\nRESET ALL;\n",
        "SET contract.name = dragonfly_civil;\n",
        "SET contract.security_definer.search_path = ",
        "\n-- Roles\n",
        "CREATE ROLE anon;\nALTER ROLE anon SET contract.kind = client;\n",
        "\n-- Schema public\nCREATE SCHEMA public;\n",
        "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;\n",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO service_role;\n",
        "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA api TO anon, authenticated, service_role;\n",
        "CREATE TABLE public.judgments ();\n",
        "ALTER TABLE public.judgments ENABLE ROW LEVEL SECURITY;\n",
        "GRANT SELECT ON TABLE public.judgments TO authenticated;\n",
        "CREATE POLICY select_rows ON public.judgments FOR SELECT TO authenticated;\n",
        "CREATE POLICY all_rows ON public.judgments FOR ALL TO service_role;\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn granted_privilege_is_declared_and_a_revoked_one_no_longer() {
    let select =
        |is_revoke| grant(is_revoke, Privileges::SELECT, On::Tables(vec![judgments()]), "anon");
    let granted = amended(&shipped(), &[select(false)]);
    assert_eq!(changes(&shipped(), &granted), ["~ tables[public.judgments].grants.anon: +SELECT"]);
    assert_eq!(changes(&shipped(), &amended(&granted, &[select(true)])), [""; 0]);
}

#[test]
fn revoke_on_a_table_removes_the_privileges_on_its_columns() {
    let on_name = Declaration::Grant(Grant {
        is_revoke: false,
        privileges: vec![Granted {
            privilege: Some(Privileges::UPDATE),
            columns: vec!["name".to_owned(), "status".to_owned()],
        }],
        on: On::Tables(vec![judgments()]),
        roles: vec!["authenticated".to_owned()],
        to_public: false,
    });
    let granted = amended(&shipped(), &[on_name]);
    let declared = granted.column_grants("public", "judgments", "authenticated").unwrap();
    assert_eq!(declared.update, ["name", "status"]);
    let revoke = grant(true, Privileges::UPDATE, On::Tables(vec![judgments()]), "authenticated");
    assert_eq!(changes(&shipped(), &amended(&granted, &[revoke])), [""; 0]);
}

#[test]
fn types_of_a_function_are_printed_as_statements_name_them() {
    for (arguments, printed) in [
        ("any", "api.f(\"any\")"),
        ("int8,pg_catalog.date", "api.f(bigint, date)"),
        ("user[], app.user", "api.f(\"user\"[], app.\"user\")"),
        ("\"char\", char", "api.f(\"char\", character)"),
        ("", "api.f()"),
    ] {
        assert_eq!(f(Some(arguments)).to_string(), printed);
    }
    assert_eq!(f(None).to_string(), "api.f");
}

#[test]
fn schemas_of_the_server_and_the_extension_are_not_declared() {
    let create = |name: &str| Declaration::Create(Target::Schema(name.to_owned()));
    for name in ["pg_catalog", "pg_temp", "pg_toast", "information_schema"] {
        let expected = format!("schema \"{name}\" belongs to the server. ");
        assert!(refused(create(name)).starts_with(&expected), "{name}");
    }
    let refused = refused(create("dragonfly_guard"));
    assert!(refused.starts_with("schema \"dragonfly_guard\" belongs to extension"), "{refused}");
    let to = Declaration::Rename(Renamed::Object(
        Target::Schema("public".to_owned()),
        Name::new("", "pg_public"),
    ));
    let (_, reason) = amend(&shipped(), &[to], None, &|| {}).unwrap_err();
    assert_eq!(reason.message, "schema \"pg_public\" belongs to the server");
}

#[test]
fn version_out_of_range_is_refused() {
    let set =
        |version: &str| Declaration::Set(vec!["version".to_owned()], vec![version.to_owned()]);
    for version in ["one", "1.0", "4294967296.0.0", "1.0.99999999999999999999", ""] {
        assert_eq!(
            refused(set(version)),
            format!(
                "invalid value for contract.version: \"{version}\". Use a semantic version such as \
                 1.0.0, with numbers up to 4294967295."
            )
        );
    }
    assert_eq!(amended(&shipped(), &[set("4294967295.0.0")]).version, "4294967295.0.0");
}

#[test]
fn new_objects_are_declared_in_declared_schemas_only() {
    let plans = Name::new("app", "plans");
    assert_eq!(
        refused(Declaration::Create(Target::Table(plans.clone()))),
        "schema \"app\" is not declared. Did you mean \"api\"? Put CREATE SCHEMA app; before the \
         statement."
    );
    let contract = amended(
        &shipped(),
        &[
            Declaration::Create(Target::Schema("app".to_owned())),
            Declaration::Create(Target::Table(plans.clone())),
            Declaration::RowSecurity(plans, RowSecurity::Enable),
        ],
    );
    assert!(contract.table("app", "plans").unwrap().row_security);
}

#[test]
fn existing_table_is_declared_with_its_row_security() {
    let mut world = crate::rules::testing::World::conforming();
    let mut table = world.relation("public.judgments").clone();
    (table.oid, table.name, table.row_security) = (9001, "notes".into(), true);
    world.add_relation(table);
    let snapshot = world.snapshot.clone().complete();
    let select = grant(
        false,
        Privileges::SELECT,
        On::Tables(vec![Name::new("public", "notes")]),
        "authenticated",
    );
    let contract =
        amend(&world.contract, std::slice::from_ref(&select), Some(&snapshot), &|| {}).unwrap();
    assert!(contract.table("public", "notes").unwrap().row_security);
    assert_eq!(
        refused(select),
        "relation public.notes is neither declared nor there. Put CREATE TABLE public.notes (); \
         before the statement, or CREATE VIEW public.notes AS SELECT; or CREATE SEQUENCE \
         public.notes;"
    );
}

#[test]
fn sequence_of_a_column_is_declared_where_a_statement_names_it() {
    let table = Name::new("public", "notes");
    let sequence = Name::new("public", "notes_id_seq");
    let create = Declaration::Create(Target::Table(table));
    let of_column = Declaration::SequenceOfColumn(sequence.clone());
    let created = amended(&shipped(), &[create.clone(), of_column.clone()]);
    assert_eq!(changes(&shipped(), &created).len(), 1, "the table alone");
    for on in [On::Sequences(vec![sequence.clone()]), On::Tables(vec![sequence.clone()])] {
        let usage = grant(false, Privileges::USAGE, on.clone(), "authenticated");
        let granted = amended(&shipped(), &[create.clone(), of_column.clone(), usage.clone()]);
        assert!(granted.sequences.iter().any(|declared| declared.name == "notes_id_seq"));
        let unknown = refused(usage);
        let only_sequence = matches!(on, On::Sequences(_));
        assert_eq!(!unknown.contains("CREATE TABLE"), only_sequence, "{unknown}");
        assert!(unknown.contains("CREATE SEQUENCE public.notes_id_seq;"), "{unknown}");
    }
}

#[test]
fn statements_that_a_contract_cannot_express_are_refused() {
    let to_public = Declaration::Grant(Grant {
        is_revoke: false,
        privileges: vec![Granted { privilege: Some(Privileges::SELECT), columns: vec![] }],
        on: On::Tables(vec![judgments()]),
        roles: vec![],
        to_public: true,
    });
    assert!(refused(to_public).starts_with("a contract does not grant to PUBLIC. "));
    let create = grant(false, Privileges::CREATE, On::Schemas(vec!["public".to_owned()]), "anon");
    assert!(refused(create).starts_with("a contract does not declare CREATE on a schema. "));
    let usage = grant(false, Privileges::USAGE, On::Tables(vec![judgments()]), "anon");
    assert!(refused(usage).starts_with("there is no privilege USAGE on tables and views. "));
    let ghost = grant(false, Privileges::SELECT, On::Tables(vec![judgments()]), "ghost");
    assert!(refused(ghost).starts_with("role \"ghost\" is not declared. Put CREATE ROLE ghost"));
    let part = grant(true, Privileges::SELECT, On::Tables(vec![judgments()]), "service_role");
    assert!(refused(part).starts_with("role \"service_role\" has all privileges on every object"));
    let set = |path: &[&str], value: &str| {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        refused(Declaration::Set(path, vec![value.to_owned()]))
    };
    assert!(
        set(&["tables"], "x").starts_with("unrecognized field contract.tables of the contract")
    );
    assert!(set(&["rules", "colour"], "x").starts_with("unrecognized field contract.rules.colour"));
    assert!(
        set(&["rules", "rls_disabled", "guard"], "x")
            .starts_with("invalid value for contract.rules.rls_disabled.guard: \"x\". Use ")
    );
    assert!(
        set(&["security_definer", "accept_empty"], "x")
            .contains("requires a Boolean value. Use on")
    );
}

#[test]
fn misspelt_fields_and_values_are_refused_with_the_ones_that_were_probably_meant() {
    for (path, value, expected) in [
        (
            "enforcment",
            "warn",
            "unrecognized field contract.enforcment of the contract. Did you mean \
             \"enforcement\"? Use ",
        ),
        (
            "rules.rls_disable.guard",
            "warn",
            "unrecognized field contract.rules.rls_disable of the contract. Did you mean \
             \"rls_disabled\"? Use ",
        ),
        (
            "rules.rls_disabled.gaurd",
            "warn",
            "unrecognized field contract.rules.rls_disabled.gaurd of the contract. Did you mean \
             \"guard\"? Use ",
        ),
        (
            "enforcement",
            "wran",
            "invalid value for contract.enforcement: \"wran\". Did you mean \"warn\"? Use ",
        ),
        (
            "rules.rls_disabled.severity",
            "eror",
            "invalid value for contract.rules.rls_disabled.severity: \"eror\". Did you mean \
             \"error\"? Use ",
        ),
        (
            "security_definer.accept",
            "canonicl",
            "invalid value for contract.security_definer.accept: \"canonicl\". Did you mean \
             \"canonical\"? Use ",
        ),
    ] {
        let steps = path.split('.').map(str::to_owned).collect();
        let message = refused(Declaration::Set(steps, vec![value.to_owned()]));
        assert!(message.starts_with(expected), "{path}: {message}");
    }
}

#[test]
fn policy_that_allows_every_row_keeps_what_is_declared_for_other_policies() {
    let header = |all_rows: &[Command]| PolicyHeader {
        name: "p".to_owned(),
        table: judgments(),
        commands: vec![Command::Select],
        roles: vec!["anon".to_owned()],
        all_rows: all_rows.to_vec(),
    };
    let closed = amended(&shipped(), &[Declaration::CreatePolicy(header(&[]))]);
    assert_eq!(closed.table("public", "judgments").unwrap().all_rows, None);
    let open = amended(&shipped(), &[Declaration::CreatePolicy(header(&[Command::Select]))]);
    let table = open.table("public", "judgments").unwrap();
    assert_eq!(table.all_rows_commands("anon"), Some(vec![Command::Select]));
    // What other policies may do does not grow.
    assert_eq!(table.all_rows_commands("authenticated"), Some(vec![]));
    assert_eq!(table.all_rows_commands("service_role"), Some(vec![]));
    let dropped = amended(&open, &[Declaration::DropPolicy(header(&[]))]);
    assert_eq!(dropped.table("public", "judgments").unwrap().policy_commands("anon"), []);
}

#[test]
fn policy_that_is_open_in_the_catalog_stays_allowed() {
    let mut world = crate::rules::testing::World::conforming();
    let table = world.relation("public.judgments").oid;
    let [anon, authenticated] = ["anon", "authenticated"].map(|name| world.role(name).oid);
    world.snapshot.policies.retain(|policy| policy.relation != table);
    world.snapshot.policies.push(crate::catalog::Policy {
        oid: 9001,
        name: "open".into(),
        relation: table,
        permissive: true,
        roles: vec![anon, authenticated],
        always_true: true,
        ..crate::catalog::Policy::default()
    });
    let snapshot = world.snapshot.clone().complete();
    let header = PolicyHeader {
        name: "p".to_owned(),
        table: judgments(),
        commands: vec![Command::Insert],
        roles: vec!["anon".to_owned()],
        all_rows: vec![Command::Insert],
    };
    let declared = [Declaration::CreatePolicy(header)];
    let contract = amend(&world.contract, &declared, Some(&snapshot), &|| {}).unwrap();
    let table = contract.table("public", "judgments").unwrap();
    assert_eq!(table.all_rows_commands("authenticated"), Some(vec![Command::Select]));
    assert_eq!(table.all_rows_commands("anon"), Some(vec![Command::Insert]));
}

#[test]
fn everything_in_a_schema_is_declared_only_where_all_of_it_is_granted() {
    let all = |is_revoke, on: fn(Vec<String>) -> On| {
        Declaration::Grant(Grant {
            is_revoke,
            privileges: vec![Granted { privilege: None, columns: vec![] }],
            on: on(vec!["enforcement".to_owned()]),
            roles: vec!["anon".to_owned()],
            to_public: false,
        })
    };
    let [tables, sequences, routines] = [On::AllTables, On::AllSequences, On::AllFunctions]
        .map(|on: fn(Vec<String>) -> On| all(false, on));
    let has_all = |declarations: &[Declaration]| {
        let contract = amended(&shipped(), declarations);
        contract.schema("enforcement").unwrap().all_on_objects.contains(&"anon".to_owned())
    };
    let three = [tables.clone(), sequences.clone(), routines.clone()];
    assert!(has_all(&three));
    assert!(!has_all(&three[..2]));
    let taken_back = all(true, On::AllFunctions);
    assert!(!has_all(&[routines, taken_back.clone(), tables, sequences]));
    let dropped = [
        Declaration::Drop(Target::Schema("enforcement".to_owned())),
        Declaration::Create(Target::Schema("enforcement".to_owned())),
    ];
    assert!(!has_all(&[&three[..], &dropped[..]].concat()));
    let part = amend(&shipped(), &[&three[..], &[taken_back]].concat(), None, &|| {});
    let (place, reason) = part.unwrap_err();
    assert_eq!(place, 3);
    assert!(reason.message.starts_with("role \"anon\" has all privileges on every object"));
}

#[test]
fn empty_list_and_security_clause_survive() {
    let mut contract = shipped();
    (contract.readers, contract.deployers) = (Some(vec![]), Some(vec![]));
    let again = amended(&shipped(), &flat(&contract));
    assert_eq!((again.readers, again.deployers), (Some(vec![]), Some(vec![])));
    let function = FunctionName { name: Name::new("api", "f"), arguments: Some(String::new()) };
    let create = |security_definer| Declaration::CreateFunction {
        function: function.clone(),
        security_definer,
    };
    let declared = amended(&shipped(), &[create(Some(false)), create(None)]);
    let function = declared.functions_named("api", "f").next().unwrap();
    assert_eq!(function.security_definer, Some(false));
}

#[test]
fn dropped_role_and_schema_leave_nothing_behind() {
    let dropped = amended(
        &shipped(),
        &[
            Declaration::Drop(Target::Role("anon".to_owned())),
            Declaration::Drop(Target::Schema("intake".to_owned())),
        ],
    );
    let text = serde_json::to_string(&dropped).unwrap();
    assert!(!text.contains("\"anon\"") && !text.contains("\"intake\""), "{text}");
    let mut contract = shipped();
    contract.readers = Some(vec!["anon".to_owned(), "pg_monitor".to_owned()]);
    contract.deployers = Some(vec!["anon".to_owned()]);
    let dropped = amended(&contract, &[Declaration::Drop(Target::Role("anon".to_owned()))]);
    assert_eq!(dropped.readers, Some(vec!["pg_monitor".to_owned()]));
    assert_eq!(dropped.deployers, Some(vec![]));
}

fn f(arguments: Option<&str>) -> FunctionName {
    FunctionName { name: Name::new("api", "f"), arguments: arguments.map(str::to_owned) }
}

/// The shipped contract with a function for any arguments, which anon may execute.
fn with_any() -> Contract {
    let execute = grant(false, Privileges::EXECUTE, On::Functions(vec![f(None)]), "service_role");
    let mut contract = shipped();
    contract.schemas.iter_mut().for_each(|schema| schema.execute_on_routines.clear());
    amended(&contract, &[Declaration::AnyArguments(Name::new("api", "f")), execute])
}

#[test]
fn statement_about_one_routine_does_not_change_the_declaration_for_any_arguments() {
    let on = |types| On::Functions(vec![f(Some(types))]);
    let create = Declaration::CreateFunction { function: f(Some("text")), security_definer: None };
    let select = grant(false, Privileges::EXECUTE, on("text"), "anon");
    let contract = amended(&with_any(), &[create, select]);
    let execute = |arguments: Option<&str>| {
        let mut declared = contract.functions_named("api", "f");
        declared.find(|one| one.arguments.as_deref() == arguments).unwrap().execute.clone()
    };
    let any_execute = execute(None);
    assert!(!any_execute.contains(&"anon".to_owned()), "{any_execute:?}");
    assert_eq!(execute(Some("text")), ["anon"]);
    // Without its declaration, it is neither declared nor there.
    let error = |declaration: Declaration| {
        let (_, reason) = amend(&with_any(), &[declaration], None, &|| {}).unwrap_err();
        (reason.cause, reason.message)
    };
    let (cause, message) = error(grant(false, Privileges::EXECUTE, on("text"), "anon"));
    assert_eq!(cause, Cause::Unknown);
    assert_eq!(message, "function api.f(text) is neither declared nor there");
    let (cause, message) = error(Declaration::Drop(Target::Function(f(Some("text")))));
    assert_eq!(cause, Cause::Unknown);
    assert_eq!(message, "function api.f(text) is not declared");
}

#[test]
fn revoke_from_a_role_that_has_execute_on_more_is_refused() {
    let mut contract = with_any();
    let declared = contract.functions.iter_mut().find(|one| one.name == "f").unwrap();
    declared.execute = vec!["anon".to_owned()];
    let refused = |contract: &Contract, arguments: Option<&str>| {
        let on = On::Functions(vec![f(arguments)]);
        let revoke = grant(true, Privileges::EXECUTE, on, "anon");
        let (_, reason) = amend(contract, &[revoke], None, &|| {}).unwrap_err();
        (reason.cause, reason.message)
    };
    let any = "role \"anon\" has EXECUTE on function api.f with any arguments".to_owned();
    assert_eq!(refused(&contract, Some("text")), (Cause::Inexpressible, any));
    contract.schemas.iter_mut().for_each(|s| s.execute_on_routines = vec!["anon".to_owned()]);
    let every = "role \"anon\" has EXECUTE on every routine in schema \"api\"".to_owned();
    assert_eq!(refused(&contract, None), (Cause::Inexpressible, every));
}

#[test]
fn statement_about_an_unknown_object_declares_nothing_and_asks_what_is_meant() {
    let judgment = || Name::new("public", "judgement");
    let stats = FunctionName { name: Name::new("api", "get_dashboard_stat"), arguments: None };
    let on_stats = || On::Functions(vec![stats.clone()]);
    for (declaration, expected) in [
        (
            grant(true, Privileges::SELECT, On::Tables(vec![judgment()]), "anon"),
            "relation public.judgement is neither declared nor there. Did you mean \"judgments\"? ",
        ),
        (
            Declaration::Comment(Target::Table(judgment()), "x".to_owned()),
            "relation public.judgement is neither declared nor there. Did you mean \"judgments\"? ",
        ),
        (
            grant(false, Privileges::EXECUTE, on_stats(), "authenticated"),
            "function api.get_dashboard_stat is neither declared nor there. Did you mean \
             \"get_dashboard_stats\"? ",
        ),
        (
            Declaration::Comment(Target::Function(stats.clone()), "x".to_owned()),
            "function api.get_dashboard_stat is neither declared nor there. Did you mean \
             \"get_dashboard_stats\"? ",
        ),
        (
            grant(true, Privileges::SELECT, On::Tables(vec![judgments()]), "anom"),
            "role \"anom\" is not declared. Did you mean \"anon\"? ",
        ),
        (
            Declaration::Drop(Target::Table(judgment())),
            "table public.judgement is not declared. Did you mean \"judgments\"? ",
        ),
        (
            Declaration::Membership {
                role: "ghost".to_owned(),
                member: "anon".to_owned(),
                is_revoke: true,
            },
            "role \"ghost\" is not declared. ",
        ),
    ] {
        // EXECUTE on every routine of the schema would cover it.
        let mut contract = shipped();
        contract.schemas.iter_mut().for_each(|schema| schema.execute_on_routines.clear());
        let (_, reason) = amend(&contract, &[declaration], None, &|| {}).unwrap_err();
        let text = format!("{}. {}", reason.message, reason.hint);
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(reason.cause, Cause::Unknown, "{text}");
    }
    let gone = [
        Declaration::DropIfDeclared(Target::Table(judgment())),
        Declaration::DropIfDeclared(Target::Function(stats)),
        Declaration::DropIfDeclared(Target::Role("ghost".to_owned())),
        Declaration::DropIfDeclared(Target::Schema("ghost".to_owned())),
        Declaration::DropPolicyNamed {
            table: judgments(),
            name: "ghost".to_owned(),
            if_exists: true,
        },
    ];
    assert_eq!(changes(&shipped(), &amended(&shipped(), &gone)), [""; 0]);
}

#[test]
fn existing_function_is_declared_with_its_arguments() {
    let mut world = crate::rules::testing::World::conforming();
    let routine = world.snapshot.routines[0].clone();
    let schema = world.snapshot.schemas.iter().find(|s| s.oid == routine.schema).unwrap();
    let name = Name::new(&schema.name, &routine.name);
    world.contract.functions.retain(|one| one.name != routine.name);
    world.contract.schemas.iter_mut().for_each(|s| s.execute_on_routines.clear());
    let snapshot = world.snapshot.clone().complete();
    let on = On::Functions(vec![FunctionName { name: name.clone(), arguments: None }]);
    let execute = grant(false, Privileges::EXECUTE, on, "authenticated");
    let contract = amend(&world.contract, &[execute], Some(&snapshot), &|| {}).unwrap();
    let declared: Vec<_> = contract.functions_named(&name.schema, &name.name).collect();
    assert_eq!(declared.len(), 1);
    assert!(declared[0].arguments.is_some(), "{declared:?}");
}

#[test]
fn columns_of_objects_without_columns_are_refused() {
    for (privilege, on) in [
        (Privileges::EXECUTE, On::Functions(vec![f(None)])),
        (Privileges::USAGE, On::Schemas(vec!["api".to_owned()])),
        (Privileges::SELECT, On::Sequences(vec![judgments()])),
        (Privileges::SELECT, On::AllTables(vec!["public".to_owned()])),
        (Privileges::SELECT, On::AllSequences(vec!["public".to_owned()])),
        (Privileges::EXECUTE, On::AllFunctions(vec!["public".to_owned()])),
    ] {
        let text = refused(Declaration::Grant(Grant {
            is_revoke: false,
            privileges: vec![Granted { privilege: Some(privilege), columns: vec!["a".to_owned()] }],
            on,
            roles: vec!["anon".to_owned()],
            to_public: false,
        }));
        assert!(text.starts_with("columns are named for objects"), "{text}");
    }
}

#[test]
fn replaced_function_that_is_declared_security_definer_needs_the_clause() {
    let create =
        |security_definer| Declaration::CreateFunction { function: f(Some("")), security_definer };
    let contract = amended(&shipped(), &[create(Some(true))]);
    let (_, reason) = amend(&contract, &[create(None)], None, &|| {}).unwrap_err();
    assert_eq!(reason.message, "function api.f() is declared SECURITY DEFINER");
}

#[test]
fn dropped_policies_lose_what_no_other_policy_says() {
    let mut world = crate::rules::testing::World::conforming();
    let table = world.relation("public.judgments").oid;
    let authenticated = world.role("authenticated").oid;
    world.snapshot.policies.retain(|policy| policy.relation != table);
    for (oid, name) in [(9001, "one"), (9002, "other")] {
        world.snapshot.policies.push(crate::catalog::Policy {
            oid,
            name: name.into(),
            relation: table,
            permissive: true,
            roles: vec![authenticated],
            command: Some(Command::Select),
            ..crate::catalog::Policy::default()
        });
    }
    let snapshot = world.snapshot.clone().complete();
    let drop = |name: &str| Declaration::DropPolicyNamed {
        table: judgments(),
        name: name.to_owned(),
        if_exists: false,
    };
    let create = || {
        Declaration::CreatePolicy(PolicyHeader {
            name: "new".to_owned(),
            table: judgments(),
            commands: vec![Command::Select],
            roles: vec!["authenticated".to_owned()],
            all_rows: vec![],
        })
    };
    let left = |declarations: &[Declaration]| {
        let contract = amend(&world.contract, declarations, Some(&snapshot), &|| {}).unwrap();
        contract.table("public", "judgments").unwrap().policy_commands("authenticated")
    };
    assert_eq!(left(&[drop("one")]), [Command::Select]);
    assert_eq!(left(&[drop("one"), drop("other")]), []);
    // The catalog need not have the policy any longer: one for all commands leaves what others say.
    let described = |name: &str| {
        Declaration::DropPolicy(PolicyHeader {
            name: name.to_owned(),
            table: judgments(),
            commands: Command::ALL.to_vec(),
            roles: vec!["authenticated".to_owned()],
            all_rows: vec![],
        })
    };
    assert_eq!(left(&[described("gone")]), [Command::Select]);
    assert_eq!(left(&[described("one"), described("other")]), []);
    assert_eq!(left(&[create(), drop("one"), drop("other")]), [Command::Select]);
    assert_eq!(left(&[create(), drop("one"), drop("other"), drop("new")]), []);
    let twice = amend(&world.contract, &[drop("one"), drop("one")], Some(&snapshot), &|| {});
    let (place, reason) = twice.unwrap_err();
    assert_eq!((place, reason.cause), (1, Cause::Unknown));
    assert_eq!(reason.message, "policy one on table public.judgments does not exist");
}

#[test]
fn objects_keep_their_declarations_while_others_are_dropped_and_renamed() {
    let name = |i: usize| Name::new("public", format!("t{i}"));
    let create = |i| Declaration::Create(Target::Table(name(i)));
    let contract = amended(&shipped(), &(0..100).map(create).collect::<Vec<_>>());
    let drop = |i| Declaration::Drop(Target::Table(name(i)));
    let mut declared: Vec<Declaration> = (0..100).filter(|i| i % 3 > 0).map(drop).collect();
    declared.push(Declaration::Comment(Target::Table(name(99)), "last".to_owned()));
    declared.push(create(1));
    let to = Name::new("public", "renamed");
    declared.push(Declaration::Rename(Renamed::Object(Target::Table(name(3)), to)));
    declared.push(Declaration::Create(Target::Table(name(3))));
    let contract = amended(&contract, &declared);
    let numbered = contract.tables.iter().filter(|table| table.name.starts_with('t')).count();
    assert_eq!(numbered, 35);
    assert!(contract.table("public", "renamed").is_some());
    assert_eq!(contract.table("public", "t99").unwrap().purpose, "last");
    let text = serde_json::to_string(&contract).unwrap();
    assert!(!text.contains("\"name\":\"\""), "{text}");
}

#[test]
fn rows_of_a_caller_are_declared_and_printed() {
    let keys = |keys: &str| Rows::read("keys", Some(keys)).unwrap().unwrap();
    assert_eq!(keys("owner, Tenant, \"The Org\""), {
        Rows::Keys(["owner", "tenant", "The Org"].map(str::to_owned).to_vec())
    });
    let rows = |option: &str, value: Option<&str>| {
        Declaration::Rows(judgments(), Rows::read(option, value).unwrap().unwrap())
    };
    let set = |path: &[&str], value: &str| {
        let path = path.iter().map(|step| (*step).to_owned()).collect();
        Declaration::Set(path, vec![value.to_owned()])
    };
    let declared = [
        rows("keys", Some("owner, \"The Org\"")),
        rows("open_rows", Some(r#"{"anon": ["status"]}"#)),
        rows("append_only_by", Some("anon")),
        rows("privileged", Some("")),
        set(&["identity", "functions", "auth", "uid()"], "user"),
        set(&["identity", "settings", "app", "tenant"], "tenant"),
        set(&["identity", "columns"], r#"{"public.judgments.owner": "email"}"#),
        set(&["identity", "sessions", "anon"], "without"),
        set(&["identity", "email_verified"], "on"),
    ];
    let contract = amended(&shipped(), &declared);
    let text = headed(&statements(&contract));
    for line in [
        "ALTER TABLE public.judgments SET (contract.keys = 'owner, \"The Org\"');",
        r#"ALTER TABLE public.judgments SET (contract.open_rows = '{"anon":["status"]}');"#,
        "ALTER TABLE public.judgments SET (contract.append_only_by = 'anon');",
        "ALTER TABLE public.judgments SET (contract.privileged = true);",
        "SET contract.identity.functions.\"auth.uid()\" = 'user';",
        "SET contract.identity.settings.\"app.tenant\" = tenant;",
        "SET contract.identity.columns.\"public.judgments.owner\" = email;",
        "SET contract.identity.sessions.anon = without;",
        "SET contract.identity.email_verified = true;",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
    assert_eq!(changes(&contract, &amended(&shipped(), &flat(&contract))), [""; 0]);
    // A name that SQL would truncate is in the object.
    let name = format!("app.{}", "x".repeat(70));
    let long = amended(&contract, &[set(&["identity", "settings", &name], "tenant")]);
    let expected = format!(
        r#"SET contract.identity.settings = '{{"app.tenant":"tenant","{name}":"tenant"}}';"#
    );
    let text = headed(&statements(&long));
    assert!(text.contains(&expected), "{text}");

    let renamed = |what| Declaration::Rename(what);
    let to = |name: &str| Name::new("public", name);
    let uid = FunctionName { name: Name::new("auth", "uid"), arguments: Some(String::new()) };
    let auth = [
        Declaration::Create(Target::Schema("auth".to_owned())),
        Declaration::CreateFunction { function: uid.clone(), security_definer: None },
    ];
    let there = [
        renamed(Renamed::Column(judgments(), "owner".to_owned(), "holder".to_owned())),
        renamed(Renamed::Column(judgments(), "status".to_owned(), "State".to_owned())),
        renamed(Renamed::Object(Target::Table(judgments()), to("rulings"))),
        renamed(Renamed::Object(Target::Function(uid), Name::new("auth", "user_id"))),
        renamed(Renamed::Object(Target::Schema("auth".to_owned()), Name::new("", "user"))),
        renamed(Renamed::Object(Target::Role("anon".to_owned()), to("guest"))),
    ];
    let contract = amended(&amended(&contract, &auth), &there);
    let table = contract.table("public", "rulings").unwrap();
    assert_eq!(table.keys, ["holder", "The Org"]);
    assert_eq!(table.open_rows, [("guest".to_owned(), vec!["State".to_owned()])].into());
    assert_eq!(table.append_only_by, ["guest"]);
    let names = |kinds: &BTreeMap<String, IdentityKind>| kinds.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&contract.identity.columns), ["public.rulings.holder"]);
    assert_eq!(names(&contract.identity.functions), ["\"user\".user_id()"]);
    assert!(contract.identity.sessions.contains_key("guest"));
    let dropped = amended(&contract, &[Declaration::Drop(Target::Role("guest".to_owned()))]);
    let table = dropped.table("public", "rulings").unwrap();
    assert!(table.open_rows.is_empty() && table.append_only_by.is_empty());
    assert!(dropped.identity.sessions.is_empty());

    for (option, value) in [
        ("keys", "a,"),
        ("open_rows", "status"),
        ("append_only_by", "\"anon"),
        ("privileged", "perhaps"),
    ] {
        let reason = Rows::read(option, Some(value)).unwrap().unwrap_err();
        assert_eq!(reason.message, format!("invalid value for contract.{option}"));
        let reset = Declaration::Rows(judgments(), Rows::read(option, None).unwrap().unwrap());
        assert_eq!(
            reset.to_string(),
            format!("ALTER TABLE public.judgments RESET (contract.{option})")
        );
    }
    assert!(refused(rows("append_only_by", Some("annon"))).contains("Did you mean \"anon\"?"));
    assert!(refused(rows("keys", Some("a, a"))).starts_with("a column is specified more than"));
    let wrong = set(&["identity", "settings", "app", "tenant"], "tennant");
    assert!(refused(wrong).contains("Did you mean \"tenant\"?"));
    let wrong = set(&["identity", "settings"], "tenant");
    assert!(refused(wrong).starts_with("invalid value for contract.identity.settings. "));
}

#[test]
fn renamed_object_keeps_what_is_declared_for_it() {
    let to = |name: &str| Name::new("public", name);
    let rename = |target, to| Declaration::Rename(Renamed::Object(target, to));
    let there = [
        rename(Target::Table(judgments()), to("rulings")),
        rename(Target::Role("authenticated".to_owned()), to("member")),
        rename(Target::Schema("intake".to_owned()), to("inbox")),
    ];
    let back = [
        rename(Target::Schema("inbox".to_owned()), to("intake")),
        rename(Target::Role("member".to_owned()), to("authenticated")),
        rename(Target::Table(to("rulings")), to("judgments")),
    ];
    let renamed = amended(&shipped(), &there);
    let text = serde_json::to_string(&renamed).unwrap();
    for gone in ["\"judgments\"", "\"authenticated\"", "\"intake\""] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert!(renamed.table("public", "rulings").unwrap().policies.contains_key("member"));
    assert_eq!(changes(&shipped(), &amended(&renamed, &back)), [""; 0]);
    let taken = rename(Target::Table(judgments()), to("plaintiffs"));
    let hint = "table public.plaintiffs is already declared. To keep what is declared for \
                public.judgments, put DROP TABLE public.plaintiffs; before the statement. To keep \
                what is declared for public.plaintiffs, write DROP TABLE public.judgments; in \
                place of the statement.";
    assert_eq!(refused(taken), hint);
    let taken = rename(Target::Role("anon".to_owned()), to("authenticated"));
    assert!(refused(taken).starts_with("role \"authenticated\" is already declared. "));
}

/// Names with signs that need quotes.
const NAMES: [&str; 6] = ["a", "B c", "d\"e", "f.g", "select", "ü"];

/// What a table declares about who its rows belong to.
fn rows() -> impl Strategy<Value = Rows> {
    let names = || {
        let names = subsequence(NAMES.to_vec(), 0..4).prop_shuffle();
        names.prop_map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let role = select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        names().prop_map(Rows::Keys),
        names().prop_map(Rows::AppendOnlyBy),
        proptest::collection::btree_map(role, names(), 0..3).prop_map(Rows::OpenRows),
        any::<bool>().prop_map(Rows::Privileged),
    ]
}

/// A field about who the caller is, with its values. Some names are not valid, and left out.
fn identity() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
    let long = "x".repeat(70);
    let names = ["auth.uid()", "App.\"User\"()", "app.Tenant", "*", "a..b", "app.t.c", "ü \"x"];
    let names = names.map(str::to_owned).into_iter().chain(NAMES.map(str::to_owned));
    let names: Vec<String> = names.chain([long]).collect();
    let path = |of: &str| vec!["identity".to_owned(), of.to_owned()];
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let of_kinds = (
        select(texts(&["functions", "settings", "claims", "columns"])),
        select(names.clone()),
        select(texts(&["user", "role", "tenant", "user_editable", "email"])),
    );
    let session = (select(&NAMES[..]), select(texts(&["with", "without"])));
    prop_oneof![
        of_kinds.prop_map(move |(of, name, kind)| ([path(&of), vec![name]].concat(), vec![kind])),
        session.prop_map(move |(role, session)| {
            ([path("sessions"), vec![role.to_owned()]].concat(), vec![session])
        }),
        subsequence(names, 1..3).prop_map(move |names| (path("request"), names)),
        (select(vec!["email_verified", "database_roles_are_tenants"]), any::<bool>())
            .prop_map(move |(of, on)| (path(of), vec![on.to_string()])),
    ]
}

/// A step that makes a contract another one, as a declaration.
fn step() -> impl Strategy<Value = Declaration> {
    let name = || select(&NAMES[..]).prop_map(str::to_owned);
    let relation = move || (name(), name()).prop_map(|(schema, name)| Name::new(schema, name));
    let roles = || subsequence(NAMES.to_vec(), 1..4);
    let roles = move || roles().prop_map(|r| r.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let commands = || subsequence(Command::ALL.to_vec(), 1..=4);
    let privileges = |of: Vec<Privileges>| {
        subsequence(of.clone(), 1..=of.len()).prop_map(|some| {
            some.into_iter()
                .map(|one| Granted { privilege: Some(one), columns: vec![] })
                .collect::<Vec<_>>()
        })
    };
    let function = move || {
        (relation(), prop::option::of(select(&["", "bigint", "text, app.t[]"][..])))
            .prop_map(|(name, types)| FunctionName { name, arguments: types.map(str::to_owned) })
    };
    let on = prop_oneof![
        relation().prop_map(|name| (On::Tables(vec![name]), Privileges(0x7f).each())),
        relation()
            .prop_map(|name| { (On::Sequences(vec![name]), Privileges::ALL_ON_SEQUENCE.each()) }),
        function().prop_map(|f| (On::Functions(vec![f]), vec![Privileges::EXECUTE])),
        name().prop_map(|schema| (On::Schemas(vec![schema]), vec![Privileges::USAGE])),
        name().prop_map(|schema| (On::AllFunctions(vec![schema]), vec![Privileges::EXECUTE])),
        name().prop_map(|schema| (On::AllTables(vec![schema]), vec![Privileges::SELECT])),
    ];
    let granted = on.prop_flat_map(move |(on, known)| {
        (any::<bool>(), privileges(known), Just(on), roles()).prop_map(
            |(is_revoke, privileges, on, roles)| {
                let to_public = false;
                Declaration::Grant(Grant { is_revoke, privileges, on, roles, to_public })
            },
        )
    });
    prop_oneof![
        name().prop_map(|role| Declaration::Create(Target::Role(role))),
        name().prop_map(|schema| Declaration::Create(Target::Schema(schema))),
        relation().prop_map(|name| Declaration::Create(Target::Table(name))),
        relation().prop_map(|name| Declaration::Create(Target::Sequence(name))),
        relation().prop_map(|name| Declaration::Create(Target::MaterializedView(name))),
        (relation(), any::<bool>()).prop_map(|(name, on)| Declaration::CreateView {
            name,
            is_materialized: false,
            security_invoker: on,
            definition: on.then(|| "SELECT 1".to_owned()),
        }),
        (function(), any::<Option<bool>>()).prop_map(|(function, security_definer)| {
            Declaration::CreateFunction { function, security_definer }
        }),
        relation().prop_map(|name| Declaration::RowSecurity(name, RowSecurity::Enable)),
        relation().prop_map(|name| Declaration::RowSecurity(name, RowSecurity::Force)),
        relation().prop_map(|name| Declaration::AllRows(name, true)),
        (relation(), rows()).prop_map(|(table, rows)| Declaration::Rows(table, rows)),
        identity().prop_map(|(path, values)| Declaration::Set(path, values)),
        relation().prop_map(Declaration::AnyArguments),
        (name(), "[a-z'\\\\ ]{0,8}")
            .prop_map(|(role, text)| Declaration::Comment(Target::Role(role), text)),
        (name(), any::<bool>())
            .prop_map(|(role, on)| Declaration::Attributes(role, vec![(Attribute::BypassRls, on)])),
        (name(), select(vec![RoleKind::Client, RoleKind::Worker, RoleKind::Login]))
            .prop_map(|(role, kind)| Declaration::Kind(role, kind)),
        (relation(), roles(), commands(), any::<bool>()).prop_map(
            |(table, roles, commands, open)| Declaration::CreatePolicy(PolicyHeader {
                name: "p".to_owned(),
                table,
                all_rows: if open { commands.clone() } else { vec![] },
                commands,
                roles,
            })
        ),
        granted,
    ]
}

/// A contract made by declarations; those that do not fit are left out.
fn made() -> impl Strategy<Value = Contract> {
    proptest::collection::vec((step(), any::<Index>()), 0..60).prop_map(|steps| {
        let base: Vec<Declaration> = [Declaration::ResetAll]
            .into_iter()
            .chain(NAMES.iter().take(4).flat_map(|name| {
                [
                    Declaration::Create(Target::Role((*name).to_owned())),
                    Declaration::Create(Target::Schema((*name).to_owned())),
                ]
            }))
            .collect();
        steps.into_iter().fold(amended(&shipped(), &base), |contract, (step, _)| {
            let amended = amend(&contract, &[step], None, &|| {});
            let is_valid = |of: &Contract| {
                let document = serde_json::to_string(of).unwrap();
                of.identity == contract.identity
                    || crate::contract::examine(&document).contract.is_some()
            };
            amended.ok().filter(is_valid).unwrap_or(contract)
        })
    })
}

/// What is valid and no statement of a person declares: privileges that a list of the schema or a
/// privilege on the whole table covers, all_rows of commands without a policy, and so on.
#[derive(Debug, Clone)]
enum Oddity {
    AllRows,
    AllOnObjects,
    ExecuteOnRoutines,
    TableGrants,
    ViewGrants,
    SequenceGrants,
    ColumnGrants,
    Execute,
    Readers,
    Query,
    Types,
}

impl Oddity {
    const ALL: [Self; 11] = [
        Self::AllRows,
        Self::AllOnObjects,
        Self::ExecuteOnRoutines,
        Self::TableGrants,
        Self::ViewGrants,
        Self::SequenceGrants,
        Self::ColumnGrants,
        Self::Execute,
        Self::Readers,
        Self::Query,
        Self::Types,
    ];

    fn put_into(&self, contract: &mut Contract, at: &Index, roles: &[String], of: &[Command]) {
        use crate::contract::{ColumnGrants, PolicyCommand, SequencePrivilege, TablePrivilege};
        fn one<'c, T>(list: &'c mut [T], at: &Index) -> Option<&'c mut T> {
            (!list.is_empty()).then(|| at.get_mut(list))
        }
        let by_role = |names: Vec<TablePrivilege>| -> ByRole<TablePrivilege> {
            roles.iter().map(|role| (role.clone(), names.clone())).collect()
        };
        let commands = PolicyCommand::names_of(of);
        match self {
            Self::AllRows => {
                if let Some(table) = one(&mut contract.tables, at) {
                    let by_role = roles.iter().map(|role| (role.clone(), commands.clone()));
                    table.all_rows = Some(by_role.collect());
                }
            }
            Self::AllOnObjects => {
                if let Some(schema) = one(&mut contract.schemas, at) {
                    schema.all_on_objects = roles.to_vec();
                }
            }
            Self::ExecuteOnRoutines => {
                if let Some(schema) = one(&mut contract.schemas, at) {
                    schema.execute_on_routines = roles.to_vec();
                }
            }
            Self::TableGrants => {
                if let Some(table) = one(&mut contract.tables, at) {
                    table.grants = by_role(vec![TablePrivilege::Select, TablePrivilege::Maintain]);
                }
            }
            Self::ViewGrants => {
                if let Some(view) = one(&mut contract.views, at) {
                    view.grants = by_role(vec![TablePrivilege::All, TablePrivilege::Select]);
                }
            }
            Self::SequenceGrants => {
                if let Some(sequence) = one(&mut contract.sequences, at) {
                    let usage = |role: &String| (role.clone(), vec![SequencePrivilege::Usage]);
                    sequence.grants = roles.iter().map(usage).collect();
                }
            }
            Self::ColumnGrants => {
                if let Some(table) = one(&mut contract.tables, at) {
                    let mut columns = ColumnGrants::default();
                    columns.add(Privileges::SELECT | Privileges::UPDATE, "a b");
                    let columns = |role: &String| (role.clone(), columns.clone());
                    table.column_grants = roles.iter().map(columns).collect();
                }
            }
            Self::Execute => {
                if let Some(function) = one(&mut contract.functions, at) {
                    function.execute = roles.to_vec();
                }
            }
            Self::Readers => contract.readers = Some(roles.to_vec()),
            Self::Query => {
                if let Some(view) = one(&mut contract.views, at) {
                    view.definition = Some(" SELECT 1 -- ;\n ; ".to_owned());
                }
            }
            Self::Types => {
                if let Some(function) = one(&mut contract.functions, at)
                    && function.arguments.is_some()
                {
                    function.arguments = Some("any,INT8,pg_catalog.varchar(5) []".to_owned());
                }
            }
        }
    }
}

/// Any valid contract.
fn valid() -> impl Strategy<Value = Contract> {
    let roles = subsequence(NAMES.to_vec(), 0..=4);
    let commands = subsequence(Command::ALL.to_vec(), 0..=4);
    let oddity = (select(Oddity::ALL.to_vec()), any::<Index>(), roles, commands);
    (made(), proptest::collection::vec(oddity, 0..12)).prop_map(|(contract, oddities)| {
        oddities.into_iter().fold(contract, |contract, (oddity, at, roles, commands)| {
            let roles = roles.into_iter().filter(|role| contract.role(role).is_some());
            let roles: Vec<String> = roles.map(str::to_owned).collect();
            let mut odd = contract.clone();
            oddity.put_into(&mut odd, &at, &roles, &commands);
            let document = serde_json::to_string(&odd).unwrap();
            let is_valid = crate::contract::examine(&document).contract.is_some();
            if is_valid { odd } else { contract }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn statements_of_any_contract_describe_it(contract in valid()) {
        let again = amended(&shipped(), &flat(&contract));
        prop_assert_eq!(changes(&contract, &again), Vec::<String>::new());
        // The second time, nothing but the order could differ, and it is stable.
        prop_assert_eq!(statements(&again), statements(&contract));
        // No statement has a keyword as a type without quotes.
        let text = headed(&statements(&contract));
        prop_assert!(!text.contains("(any") && !text.contains(", any"), "{}", text);
    }

    #[test]
    fn declaring_what_is_declared_changes_nothing(contract in valid()) {
        let mut described = flat(&contract);
        described.remove(0);
        let again = amended(&contract, &described);
        prop_assert_eq!(changes(&contract, &again), Vec::<String>::new());
    }
}
