//! What a stored query or expression requires where it is executed: the privileges on relations
//! that the parser has listed in it, and the functions that it calls. This is read from the nodes
//! themselves, so that nothing depends on which of them the typed trees know.

use super::text::{Node, Unreadable, Value, parse};
use crate::catalog::{Oid, Privileges};
use std::collections::BTreeSet;

/// What a stored query or expression requires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requires {
    /// The privileges on relations, in the order in which the server checks them.
    pub relations: Vec<OnRelation>,
    /// The functions and aggregates that it calls.
    pub functions: BTreeSet<Oid>,
    /// The functions with the numbers of arguments that calls give: defaults replace the others.
    pub given: BTreeSet<(Oid, usize)>,
    /// The operators that it calls.
    pub operators: BTreeSet<Oid>,
    /// The functions for sequences that it calls, each with a sequence that is a constant.
    pub sequences: BTreeSet<(Oid, Oid)>,
    /// The numbers of the columns that it reads, of whatever relation.
    pub columns: BTreeSet<i16>,
}

/// The privileges that a query requires on a relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnRelation {
    /// The relation.
    pub relation: Oid,
    /// All of these are required.
    pub privileges: Privileges,
    /// The numbers of the columns that are read; 0 for the whole row. Where there are none, SELECT
    /// on any column is sufficient.
    pub selected: BTreeSet<i16>,
    /// The numbers of the columns to which INSERT gives values.
    pub inserted: BTreeSet<i16>,
    /// The numbers of the columns that UPDATE sets.
    pub updated: BTreeSet<i16>,
}

/// `FirstLowInvalidHeapAttributeNumber` (sysattr.h): sets of columns begin above it.
const BELOW_COLUMNS: i16 = -7;
/// `RTE_RELATION` (parsenodes.h).
const OF_RELATION: u32 = 0;
/// The type `regclass` (pg_type.dat).
const REGCLASS: Oid = 2205;

impl Requires {
    /// Returns the privileges that a function for sequences requires, and those of which one is
    /// sufficient instead; `None` for all other functions (pg_proc.dat, sequence.c).
    #[must_use]
    pub fn of_sequence(function: Oid) -> Option<(Privileges, Privileges)> {
        match function {
            // nextval
            1574 => Some((Privileges::USAGE, Privileges::UPDATE)),
            // currval
            1575 => Some((Privileges::USAGE, Privileges::SELECT)),
            // setval, with two arguments and with three
            1576 | 1765 => Some((Privileges::UPDATE, Privileges::NONE)),
            _ => None,
        }
    }
}

/// Reads what a stored query or expression requires.
///
/// # Errors
/// As of [`super::expression`].
pub fn requires(text: &str) -> Result<Requires, Unreadable> {
    let mut found = Requires::default();
    match parse(text) {
        Ok(value) => found.add(&value),
        Err(Unreadable::TooDeep) => found.add_words(text),
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Reads what each element of a list requires, such as the defaults of arguments.
///
/// # Errors
/// As of [`super::expression`].
pub fn requires_of_list(text: &str) -> Result<Vec<Requires>, Unreadable> {
    let of = |value: &Value<'_>| {
        let mut found = Requires::default();
        found.add(value);
        found
    };
    match parse(text)? {
        Value::List(elements) => Ok(elements.iter().map(of).collect()),
        one => Ok(vec![of(&one)]),
    }
}

/// What the query of a view requires, by its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfView {
    /// What every statement on the view requires.
    pub always: Requires,
    /// What only a statement requires that reads the column of this number: the planner removes the
    /// others, unless they call volatile functions (allpaths.c, `remove_unused_subquery_outputs`).
    pub columns: Vec<(i16, Requires)>,
}

/// Reads what the query of a view requires.
///
/// # Errors
/// As of [`super::expression`].
pub fn requires_of_view(text: &str) -> Result<OfView, Unreadable> {
    let mut found = OfView::default();
    match parse(text) {
        // One rule, one query.
        Ok(Value::List(queries)) => queries.iter().for_each(|query| found.add(query)),
        Ok(query) => found.add(&query),
        Err(Unreadable::TooDeep) => found.always.add_words(text),
        Err(error) => return Err(error),
    }
    Ok(found)
}

impl OfView {
    fn add(&mut self, query: &Value<'_>) {
        let Some(node) = query.as_node().filter(|node| node.tag == "QUERY") else {
            return self.always.add(query);
        };
        let is_distinct = !node.list("distinctClause").is_empty() && !node.flag("hasDistinctOn");
        let is_kept_whole = is_distinct
            || node.flag("hasTargetSRFs")
            || node.field("setOperations") != &Value::Absent;
        if is_kept_whole {
            return self.always.add(query);
        }
        for target in node.list("targetList") {
            let number = target.as_node().filter(|target| {
                !target.flag("resjunk") && target.number("ressortgroupref") == Some(0)
            });
            let mut of_column = Requires::default();
            match number.and_then(|target| target.number::<i16>("resno")) {
                Some(number) => {
                    of_column.add(target);
                    self.columns.push((number, of_column));
                }
                None => self.always.add(target),
            }
        }
        for (name, value) in node.fields() {
            if name != "targetList" {
                self.always.add(value);
            }
        }
    }
}

impl Requires {
    fn add(&mut self, value: &Value<'_>) {
        match value {
            Value::List(elements) => elements.iter().for_each(|element| self.add(element)),
            Value::Node(node) => self.add_node(node),
            Value::Absent | Value::Token(_) | Value::Datum(_) => {}
        }
    }

    fn add_node(&mut self, node: &Node<'_>) {
        match node.tag {
            // Since PostgreSQL 16 the privileges are listed by themselves; the entry of the range
            // table does not have the field.
            "RTEPERMISSIONINFO" | "PERMISSIONINFO" => self.add_relation(node),
            "RTE" | "RANGETBLENTRY" if node.number("rtekind") == Some(OF_RELATION) => {
                self.add_relation(node);
            }
            "FUNCEXPR" => self.add_call(node),
            "VAR" => self.columns.extend(node.number::<i16>("varattno")),
            "AGGREF" => self.functions.extend(node.number::<Oid>("aggfnoid")),
            "WINDOWFUNC" => self.functions.extend(node.number::<Oid>("winfnoid")),
            "OPEXPR" | "DISTINCTEXPR" | "NULLIFEXPR" | "SCALARARRAYOPEXPR" => {
                self.operators.extend(node.number::<Oid>("opno"));
            }
            _ => {}
        }
        node.values().for_each(|value| self.add(value));
    }

    fn add_relation(&mut self, node: &Node<'_>) {
        let (Some(relation), Some(required)) =
            (node.number::<Oid>("relid"), node.number::<u32>("requiredPerms"))
        else {
            return;
        };
        if required == 0 {
            return;
        }
        let number = |of: &Value<'_>| of.as_text()?.parse::<i16>().ok();
        let columns = |field| node.list(field).iter().filter_map(number).map(of_place).collect();
        self.relations.push(OnRelation {
            relation,
            privileges: Privileges(required),
            selected: columns("selectedCols"),
            inserted: columns("insertedCols"),
            updated: columns("updatedCols"),
        });
    }

    fn add_call(&mut self, node: &Node<'_>) {
        let Some(function) = node.number::<Oid>("funcid") else { return };
        let arguments = node.list("args");
        self.functions.insert(function);
        self.given.insert((function, arguments.len()));
        let Some(first) = arguments.first().and_then(Value::as_node) else { return };
        let is_name = first.tag == "CONST" && first.number("consttype") == Some(REGCLASS);
        if let Value::Datum(bytes) = first.field("constvalue")
            && Self::of_sequence(function).is_some()
            && is_name
        {
            // A value that is passed by value: the OID is in its first bytes.
            let oid = bytes.first_chunk().map(|bytes| Oid::from_le_bytes(*bytes));
            self.sequences.extend(oid.map(|oid| (function, oid)));
        }
    }

    /// Adds what the words of a text tell that is nested too deeply for a tree. In names, spaces
    /// are escaped.
    fn add_words(&mut self, text: &str) {
        for field in [":funcid ", ":aggfnoid ", ":winfnoid "] {
            self.functions.extend(text.split(field).skip(1).filter_map(first_number));
        }
        self.operators.extend(text.split(":opno ").skip(1).filter_map(first_number));
        for (place, field) in text.match_indices(":requiredPerms ") {
            let (before, after) = (&text[..place], &text[place + field.len()..]);
            let relation = before.rsplit(":relid ").next().and_then(first_number);
            let required = first_number(after).filter(|required| *required != 0);
            let (Some(relation), Some(required)) = (relation, required) else { continue };
            let columns = |field: &str| -> BTreeSet<i16> {
                let Some((_, list)) = after.split_once(field) else { return BTreeSet::new() };
                let list = list.split(')').next().unwrap_or_default();
                let places = list.split_whitespace().filter_map(|place| place.parse().ok());
                places.map(of_place).collect()
            };
            self.relations.push(OnRelation {
                relation,
                privileges: Privileges(required),
                selected: columns(":selectedCols (b"),
                inserted: columns(":insertedCols (b"),
                updated: columns(":updatedCols (b"),
            });
        }
    }
}

/// Returns the number at the start of a text.
fn first_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// Returns the number of the column in this place of a set.
fn of_place(place: i16) -> i16 {
    place.saturating_add(BELOW_COLUMNS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries of views as PostgreSQL 15 stores them.
    const VIEWS: &str = include_str!("fixtures/views.txt");

    fn of(view: &str) -> Requires {
        let views = VIEWS.split("\n\n").filter_map(|view| view.split_once('\n'));
        let (_, tree) = views.into_iter().find(|(name, _)| name.ends_with(view)).unwrap();
        requires(tree).unwrap()
    }

    #[test]
    fn view_requires_select_on_the_columns_that_it_reads() {
        let found = of(": SELECT n FROM docs");
        assert_eq!(found.relations.len(), 1, "{found:?}");
        assert_eq!(found.relations[0].relation, 20009);
        assert_eq!(found.relations[0].privileges, Privileges::SELECT);
        assert_eq!(found.relations[0].selected.len(), 1);
        // No column is read, but the table is.
        assert!(of(": SELECT FROM docs").relations[0].selected.is_empty());
    }

    #[test]
    fn privileges_are_found_where_each_release_lists_them() {
        let permission =
            ":relid 20009 :inh true :requiredPerms 2 :checkAsUser 0 :selectedCols (b 8)";
        let select = [OnRelation {
            relation: 20009,
            privileges: Privileges::SELECT,
            selected: [1].into(),
            ..OnRelation::default()
        }];
        for tree in [
            format!("{{QUERY :rtable ({{RTE :rtekind 0 {permission}}})}}"),
            format!("{{QUERY :rtable ({{RANGETBLENTRY :rtekind 0 {permission}}})}}"),
            format!(
                "{{QUERY :rtable ({{RANGETBLENTRY :rtekind 0 :relid 20009 :perminfoindex 1}}) \
                 :rteperminfos ({{RTEPERMISSIONINFO {permission}}})}}"
            ),
        ] {
            assert_eq!(requires(&tree).unwrap().relations, select, "{tree}");
            let nested = format!("{{SUBLINK :subselect {tree}}}");
            assert_eq!(requires(&nested).unwrap().relations, select, "{tree}");
        }
        let write =
            permission.replace("Perms 2", "Perms 5") + " :insertedCols (b 9) :updatedCols (b 10)";
        let written = requires(&format!("{{RTE :rtekind 0 {write}}}")).unwrap().relations;
        assert_eq!(written[0].privileges, Privileges::INSERT | Privileges::UPDATE);
        assert_eq!((&written[0].inserted, &written[0].updated), (&[2].into(), &[3].into()));
        // The entries for OLD and NEW in a rule require nothing.
        let none = "{RTE :rtekind 0 :relid 20009 :requiredPerms 0 :selectedCols (b)}";
        assert_eq!(requires(none), Ok(Requires::default()));
    }

    #[test]
    fn text_that_is_nested_too_deeply_requires_the_same() {
        let views = VIEWS.split("\n\n").filter_map(|view| view.split_once('\n'));
        for (view, tree) in views {
            let mut words = Requires::default();
            words.add_words(tree);
            let nodes = requires(tree).unwrap();
            assert_eq!(words.functions, nodes.functions, "{view}");
            assert_eq!(words.operators, nodes.operators, "{view}");
            assert_eq!(words.relations, nodes.relations, "{view}");
        }
        let not = "{BOOLEXPR :boolop not :args (";
        let inner = "{FUNCEXPR :funcid 7}";
        let deep = format!("{}{inner}{}", not.repeat(1000), ")}".repeat(1000));
        assert_eq!(requires(&deep).unwrap().functions, [7].into());
        assert_eq!(requires_of_view(&deep).unwrap().always.functions, [7].into());
    }

    #[test]
    fn column_of_a_view_requires_what_its_expression_does() {
        let column = |number, sort, function| {
            format!(
                "{{TARGETENTRY :expr {{FUNCEXPR :funcid {function}}} :resno {number} \
                 :ressortgroupref {sort} :resjunk false}}"
            )
        };
        let query = |more: &str| {
            format!(
                "({{QUERY :targetList ({} {}) :jointree {{FROMEXPR :quals {{FUNCEXPR :funcid 3}}}} \
                 :hasTargetSRFs false {more}}})",
                column(1, 0, 1),
                column(2, 7, 2)
            )
        };
        let plain = requires_of_view(&query(":distinctClause <> :setOperations <>")).unwrap();
        // The second column is sorted by.
        assert_eq!(plain.always.functions, [2, 3].into());
        assert_eq!(plain.columns.len(), 1);
        assert_eq!((plain.columns[0].0, &plain.columns[0].1.functions), (1, &[1].into()));
        for more in [
            ":distinctClause ({SORTGROUPCLAUSE}) :hasDistinctOn false :setOperations <>",
            ":distinctClause <> :setOperations {SETOPERATIONSTMT}",
        ] {
            let whole = requires_of_view(&query(more)).unwrap();
            assert_eq!(whole.always.functions, [1, 2, 3].into(), "{more}");
            assert_eq!(whole.columns, []);
        }
    }

    #[test]
    fn default_of_a_serial_column_requires_its_sequence() {
        let default = "{FUNCEXPR :funcid 1574 :args ({CONST :consttype 2205 :constisnull false \
                       :constvalue 4 [ 42 78 0 0 0 0 0 0 ]})}";
        let found = requires(default).unwrap();
        assert_eq!(found.functions, [1574].into());
        assert_eq!((found.sequences, found.given), ([(1574, 20010)].into(), [(1574, 1)].into()));
        let other = default.replace("1574", "1577");
        assert!(requires(&other).unwrap().sequences.is_empty());
    }
}
