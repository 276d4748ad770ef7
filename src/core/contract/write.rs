//! Writes a contract as JSON text that people read, review and compare line by line: in a fixed
//! order, and each declaration on one line where it fits.

use super::schema::schema;
use super::shape::resolve;
use super::types::Contract;
use crate::sql::{RAW_BYTES, is_unprintable};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// The longest line, in characters. A text that is longer by itself is not broken.
const WIDTH: usize = 100;

/// The spaces of each level.
const INDENT: usize = 2;

/// Returns the contract as JSON text: fields in the order of the types, lists in the order of
/// [`Contract::sorted`], and without fields that have their default. Reading the text gives the
/// sorted contract.
#[must_use]
pub fn write(contract: &Contract) -> String {
    let json = serde_json::to_string(&contract.sorted()).expect("a contract is JSON");
    let document: Node = serde_json::from_str(&json).expect("JSON that was just written");
    let mut text = Text::default();
    text.add(&document.without_defaults(schema()), 0, 0);
    text.0
}

/// A JSON value whose fields are in the order of the text.
#[derive(Debug)]
enum Node {
    /// The value as JSON text.
    Plain(String),
    List(Vec<Node>),
    /// Each field with its name as JSON text.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Returns the value without the fields, at any depth, that have the default of their schema.
    fn without_defaults(self, at: &'static Value) -> Self {
        let schema = resolve(at).schema;
        match self {
            Self::Plain(text) => Self::Plain(text),
            Self::List(items) => Self::List(
                items.into_iter().map(|item| item.without_defaults(&schema["items"])).collect(),
            ),
            Self::Object(fields) => Self::Object(
                fields
                    .into_iter()
                    .filter_map(|(name, value)| {
                        let plain = name.trim_matches('"');
                        let field = schema["properties"]
                            .get(plain)
                            .unwrap_or(&schema["additionalProperties"]);
                        let is_default =
                            field.get("default").map(Value::to_string) == Some(value.in_one_line());
                        (!is_default).then(|| (name, value.without_defaults(field)))
                    })
                    .collect(),
            ),
        }
    }

    fn in_one_line(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::in_one_line).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Object(fields) => {
                let field =
                    |(name, value): &(String, Self)| format!("{name}: {}", value.in_one_line());
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn contains_objects(&self) -> bool {
        let is_object = |node: &Self| matches!(node, Self::Object(_));
        match self {
            Self::Plain(_) => false,
            Self::List(items) => items.iter().any(is_object),
            Self::Object(fields) => fields.iter().any(|(_, value)| is_object(value)),
        }
    }
}

/// The text written so far.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// Adds a value `depth` levels below the document, whose line already has `column` characters.
    fn add(&mut self, node: &Node, depth: usize, column: usize) {
        // Each declaration begins a line.
        let is_list_of_declarations = depth == 1 && node.contains_objects();
        if depth > 0 && !is_list_of_declarations {
            let line = node.in_one_line();
            // A comma follows.
            if column + line.chars().count() < WIDTH {
                self.0.push_str(&line);
                return;
            }
        }
        let indent = (depth + 1) * INDENT;
        match node {
            Node::Plain(text) => self.0.push_str(text),
            Node::List(items) => self.block(depth, ['[', ']'], items, |text, item| {
                text.add(item, depth + 1, indent);
            }),
            Node::Object(fields) => self.block(depth, ['{', '}'], fields, |text, (name, value)| {
                text.0.push_str(name);
                text.0.push_str(": ");
                text.add(value, depth + 1, indent + name.chars().count() + 2);
            }),
        }
    }

    /// Adds each of `parts` on a line of its own, between brackets.
    fn block<T>(
        &mut self,
        depth: usize,
        [open, close]: [char; 2],
        parts: &[T],
        mut add: impl FnMut(&mut Self, &T),
    ) {
        self.0.push(open);
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                self.0.push(',');
            }
            self.new_line(depth + 1);
            add(self, part);
        }
        self.new_line(depth);
        self.0.push(close);
    }

    fn new_line(&mut self, depth: usize) {
        self.0.push('\n');
        self.0.extend(std::iter::repeat_n(' ', depth * INDENT));
    }
}

/// Returns a text as JSON. Control and direction characters are escaped, so that what is read on a
/// terminal is what the contract says. [`RAW_BYTES`] have no escape.
fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in Value::from(text).to_string().chars() {
        if is_unprintable(c) && !RAW_BYTES.contains(&c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a contract")
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Node, E> {
        Ok(Node::Plain(bool.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Plain(literal(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some((name, value)) = fields.next_entry::<String, Node>()? {
            object.push((literal(&name), value));
        }
        Ok(Node::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::super::changes::changes;
    use super::super::identity::{IdentityDecl, IdentityKind, SessionKind};
    use super::super::shipped::DEFAULT;
    use super::super::types::{
        ByRole, ColumnGrants, FunctionDecl, PolicyCommand, RoleDecl, RoleKind, SchemaDecl,
        TableDecl, TablePrivilege,
    };
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    /// `UPDATE_DOCS=1 cargo test -p dragonfly_core` writes `docs/examples/saas.json` again.
    #[test]
    fn example_of_the_documentation_is_as_it_is_written() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/saas.json");
        let text = std::fs::read_to_string(file).unwrap();
        let written = write(&Contract::from_json(&text).unwrap()) + "\n";
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, &written).unwrap();
            return;
        }
        assert_eq!(text, written, "run it with UPDATE_DOCS=1");
    }

    #[test]
    fn contract_is_written_in_a_fixed_order_with_a_declaration_on_each_line() {
        let contract = Contract::from_json(
            r#"{"version": "1.0.0", "name": "shop", "$schema": "x.json",
            "schemas": [{"usage": ["b", "a"], "name": "shop"}, {"name": "app"}],
            "roles": [{"kind": "worker", "name": "b", "bypass_rls": false},
                      {"kind": "client", "name": "a"}],
            "security_definer": {"search_path": ["shop", "app", "pg_temp"], "accept": "safe"},
            "tables": [
              {"name": "z", "schema": "app", "row_security": false},
              {"name": "goods", "grants": {"b": ["DELETE", "SELECT", "UPDATE", "INSERT", "DELETE"],
               "a": ["SELECT"]}, "schema": "app", "row_security": true, "all_rows": {},
               "policies": {"a": ["UPDATE", "SELECT"]}}],
            "rules": {"rls_disabled": {},
                      "direct_write": {"guard": "audit", "severity": "info"}}}"#,
        )
        .unwrap();
        assert_eq!(
            write(&contract),
            r#"{
  "$schema": "x.json",
  "name": "shop",
  "version": "1.0.0",
  "roles": [
    {"name": "a", "kind": "client"},
    {"name": "b", "kind": "worker", "bypass_rls": false}
  ],
  "schemas": [
    {"name": "app"},
    {"name": "shop", "usage": ["a", "b"]}
  ],
  "tables": [
    {
      "schema": "app",
      "name": "goods",
      "row_security": true,
      "grants": {"a": ["SELECT"], "b": ["SELECT", "INSERT", "UPDATE", "DELETE"]},
      "policies": {"a": ["SELECT", "UPDATE"]},
      "all_rows": {}
    },
    {"schema": "app", "name": "z"}
  ],
  "security_definer": {"search_path": ["shop", "app", "pg_temp"]},
  "rules": {
    "direct_write": {"severity": "info", "guard": "audit"},
    "rls_disabled": {}
  }
}"#
        );
    }

    #[test]
    fn unprintable_characters_are_escaped() {
        let mut contract = Contract::from_json(DEFAULT).unwrap();
        contract.name = "a\u{202e}\u{e0001}\u{7f}\"\n\u{10ff80}".into();
        let text = write(&contract);
        assert!(
            text.contains("\"a\\u202e\\udb40\\udc01\\u007f\\\"\\n\u{10ff80}\""),
            "{}",
            &text[..100]
        );
        assert_eq!(Contract::from_json(&text).unwrap().name, contract.name);
    }

    #[test]
    fn shipped_contract_has_short_lines() {
        let text = write(&Contract::from_json(DEFAULT).unwrap());
        let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > WIDTH).collect();
        assert_eq!(long, [""; 0]);
    }

    const ROLES: [&str; 4] = ["anon", "B \"quoted\"\u{202e}", "été", "worker"];
    const SCHEMAS: [&str; 3] = ["app", "Ünï code", "a.b"];

    fn texts(from: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
        subsequence(from, 0..=from.len())
            .prop_shuffle()
            .prop_map(|names| names.into_iter().map(str::to_owned).collect())
    }

    fn by_role<T: Clone + std::fmt::Debug + 'static>(
        from: &'static [T],
    ) -> impl Strategy<Value = ByRole<T>> {
        let list = subsequence(from, 0..=from.len()).prop_shuffle();
        proptest::collection::btree_map(select(&ROLES[..]).prop_map(str::to_owned), list, 0..3)
    }

    const PRIVILEGES: [TablePrivilege; 4] = [
        TablePrivilege::All,
        TablePrivilege::Maintain,
        TablePrivilege::Select,
        TablePrivilege::Delete,
    ];
    const COMMANDS: [PolicyCommand; 3] =
        [PolicyCommand::Delete, PolicyCommand::All, PolicyCommand::Select];

    const COLUMNS: [&str; 3] = ["id", "name", "Cents"];

    fn open_rows() -> impl Strategy<Value = ByRole<String>> {
        let role = select(&ROLES[..]).prop_map(str::to_owned);
        proptest::collection::btree_map(role, texts(&COLUMNS), 0..3)
    }

    fn identity() -> impl Strategy<Value = IdentityDecl> {
        let kind = || select(vec![IdentityKind::User, IdentityKind::Tenant, IdentityKind::Email]);
        let kinds = move |names: &'static [&'static str]| {
            let name = select(names).prop_map(str::to_owned);
            proptest::collection::btree_map(name, kind(), 0..3)
        };
        let session = select(vec![SessionKind::With, SessionKind::Without]);
        let role = select(&ROLES[..]).prop_map(str::to_owned);
        (
            kinds(&["auth.uid()", "app.\"user\"()"]),
            (kinds(&["app.tenant", "App.Org"]), kinds(&["*", "https://a.b/c d", "a.b"])),
            (kinds(&["app.users.data"]), texts(&["app.z", "app.a"])),
            any::<(bool, bool)>(),
            proptest::collection::btree_map(role, session, 0..3),
        )
            .prop_map(
                |(functions, (settings, claims), (columns, request), flags, sessions)| {
                    IdentityDecl {
                        functions,
                        settings,
                        claims,
                        columns,
                        request,
                        email_verified: flags.0,
                        database_roles_are_tenants: flags.1,
                        sessions,
                    }
                },
            )
    }

    fn table() -> impl Strategy<Value = TableDecl> {
        let columns = (select(&ROLES[..]), texts(&COLUMNS)).prop_map(|(role, list)| {
            let grants = ColumnGrants { select: list, ..ColumnGrants::default() };
            let is_empty = grants.select.is_empty();
            (!is_empty).then(|| (role.to_owned(), grants)).into_iter().collect()
        });
        (
            (select(&SCHEMAS[..]), "[a-z ]{1,9}", "[a-zé\n ]{0,90}"),
            any::<(bool, bool)>(),
            (by_role(&PRIVILEGES), columns, by_role(&COMMANDS)),
            proptest::option::of(by_role(&COMMANDS)),
            (texts(&COLUMNS), open_rows(), texts(&ROLES), any::<bool>()),
        )
            .prop_map(
                |((schema, name, purpose), flags, (grants, column_grants, policies), all, rows)| {
                    TableDecl {
                        schema: schema.into(),
                        name,
                        purpose,
                        row_security: flags.0,
                        force_row_security: flags.1,
                        grants,
                        column_grants,
                        policies,
                        all_rows: all,
                        keys: rows.0,
                        open_rows: rows.1,
                        append_only_by: rows.2,
                        privileged: rows.3,
                    }
                },
            )
    }

    fn contracts() -> impl Strategy<Value = Contract> {
        let role = |name: &str| RoleDecl {
            superuser: Some(false),
            create_db: Some(true),
            ..RoleDecl::new(name, RoleKind::Worker)
        };
        let schemas = Just(SCHEMAS).prop_shuffle().prop_flat_map(|names| {
            names.map(|name| {
                (texts(&ROLES), texts(&ROLES)).prop_map(move |(usage, all_on_objects)| SchemaDecl {
                    name: name.into(),
                    purpose: String::new(),
                    usage,
                    all_on_objects,
                    execute_on_routines: vec![],
                })
            })
        });
        let function = (select(&SCHEMAS[..]), proptest::option::of("bigint|text, app.t"))
            .prop_flat_map(|(schema, arguments)| {
                (any::<Option<bool>>(), texts(&ROLES)).prop_map(
                    move |(security_definer, execute)| FunctionDecl {
                        schema: schema.into(),
                        name: "f".into(),
                        purpose: String::new(),
                        arguments: arguments.clone(),
                        security_definer,
                        execute,
                        all_rows: false,
                    },
                )
            });
        (
            Just(ROLES).prop_shuffle(),
            schemas,
            proptest::collection::vec(table(), 0..5),
            proptest::collection::vec(function, 0..4),
            any::<(bool, bool)>(),
            texts(&["pg_*", "auth"]),
            identity(),
        )
            .prop_map(
                move |(roles, schemas, tables, functions, (ours, empty), managed, identity)| {
                    let mut contract = Contract::from_json(DEFAULT).unwrap();
                    contract.roles = roles.map(role).to_vec();
                    contract.trusted_roles = vec![];
                    contract.schemas = schemas.to_vec();
                    contract.tables = tables;
                    contract.views = vec![];
                    contract.functions = functions;
                    contract.security_definer.accept_empty = empty;
                    contract.managed.schemas = managed;
                    contract.identity = identity;
                    if ours {
                        contract.rules.clear();
                    }
                    contract
                },
            )
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_contract(contract in contracts()) {
            let text = write(&contract);
            // Names may be declared twice here, which is no matter of writing.
            let read: Contract = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &contract.sorted());
            prop_assert_eq!(write(&read), text);
            prop_assert_eq!(changes(&contract, &read), [""; 0]);
        }
    }
}
