//! Laws of declarations, and what single statements do.

use super::*;
use crate::contract::{Contract, DEFAULT, changes};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

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
fn new_objects_are_declared_in_declared_schemas_only() {
    let plans = Name::new("app", "plans");
    assert_eq!(
        refused(Declaration::Create(Target::Table(plans.clone()))),
        "schema \"app\" is not declared. Put CREATE SCHEMA app; before the statement."
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
            .starts_with("invalid value for contract.rules.rls_disabled.guard. ")
    );
    assert!(
        set(&["security_definer", "accept_empty"], "x")
            .contains("requires a Boolean value. Use on")
    );
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
    assert!(refused(taken).starts_with("public.plaintiffs is declared as a table. "));
    let taken = rename(Target::Role("anon".to_owned()), to("authenticated"));
    assert!(refused(taken).starts_with("role \"authenticated\" is already declared. "));
}

/// Names with signs that need quotes.
const NAMES: [&str; 6] = ["a", "B c", "d\"e", "f.g", "select", "ü"];

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
            amend(&contract, &[step], None, &|| {}).unwrap_or(contract)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn statements_of_any_contract_describe_it(contract in made()) {
        let again = amended(&shipped(), &flat(&contract));
        prop_assert_eq!(changes(&contract, &again), Vec::<String>::new());
        // The second time, nothing but the order could differ, and it is stable.
        prop_assert_eq!(statements(&again), statements(&contract));
    }

    #[test]
    fn declaring_what_is_declared_changes_nothing(contract in made()) {
        let mut described = flat(&contract);
        described.remove(0);
        let again = amended(&contract, &described);
        prop_assert_eq!(changes(&contract, &again), Vec::<String>::new());
    }
}
