//! From nodes to typed expressions and queries.

use super::text::{Node, Unreadable, Value, parse, parse_to};
use super::tree::{
    BooleanTest, Branch, Column, Command, Constant, Expression, FromItem, JoinKind, Link, Logic,
    OnConflict, Parameter, Query, Range, RangeEntry, SetOperation, SetOperator, SqlValue, Target,
};
use crate::catalog::{Oid, RelationKind};

/// Reads one stored expression.
///
/// # Errors
/// [`Unreadable`] where the text is no tree, or one that is nested too deeply.
pub fn expression(text: &str) -> Result<Expression, Unreadable> {
    Ok(of_value(&parse(text)?))
}

/// Reads a list of stored expressions, such as the defaults of arguments.
///
/// # Errors
/// As of [`expression`].
pub fn expressions(text: &str) -> Result<Vec<Expression>, Unreadable> {
    match parse(text)? {
        Value::List(elements) => Ok(elements.iter().map(of_value).collect()),
        Value::Absent => Ok(Vec::new()),
        one => Ok(vec![of_value(&one)]),
    }
}

/// Reads the stored queries of a view or of an SQL body: one query, or lists of them.
///
/// # Errors
/// As of [`expression`].
pub fn queries(text: &str) -> Result<Vec<Query>, Unreadable> {
    let mut found = Vec::new();
    collect(&parse(text)?, &mut found);
    Ok(found)
}

/// Reads the only stored query of a view or of an SQL body; `None` where there is another number.
///
/// # Errors
/// As of [`expression`].
pub fn query(text: &str) -> Result<Option<Query>, Unreadable> {
    Ok(only(queries(text)?))
}

/// As [`query`], without what is in its expressions and in the queries within it: these may be
/// nested as deeply as the server can write them.
pub(super) fn outline(text: &str) -> Result<Option<Query>, Unreadable> {
    // A list, the query, its list of entries, an entry, what is in it.
    const LEVELS: usize = 5;
    let mut found = Vec::new();
    collect(&parse_to(text, LEVELS)?, &mut found);
    Ok(only(found))
}

fn only(mut found: Vec<Query>) -> Option<Query> {
    found.pop().filter(|_| found.is_empty())
}

fn collect(value: &Value<'_>, found: &mut Vec<Query>) {
    match value {
        Value::List(elements) => elements.iter().for_each(|element| collect(element, found)),
        Value::Node(node) if node.tag == "QUERY" => found.push(of_query(node)),
        _ => {}
    }
}

fn of_value(value: &Value<'_>) -> Expression {
    match value {
        Value::Node(node) => {
            of_node(node).unwrap_or_else(|| Expression::Unknown(node.tag.to_owned()))
        }
        _ => Expression::Unknown("no node".to_owned()),
    }
}

/// Returns the expression that a node is; `None` where it or a field of it is not known.
fn of_node(node: &Node<'_>) -> Option<Expression> {
    let arguments = || all(node.list("args"));
    let argument = || boxed(node, "arg");
    let oid = |name| node.number::<Oid>(name);
    Some(match node.tag {
        "VAR" => Expression::Column(column(node)?),
        "CONST" => Expression::Constant(constant(node)?),
        "PARAM" => {
            Expression::Parameter { parameter: parameter(node)?, data_type: oid("paramtype")? }
        }
        "FUNCEXPR" => Expression::Call {
            function: oid("funcid")?,
            result: oid("funcresulttype")?,
            returns_set: node.flag("funcretset"),
            collation: oid("inputcollid")?,
            arguments: arguments(),
        },
        "OPEXPR" => Expression::Operator {
            operator: oid("opno")?,
            result: oid("opresulttype")?,
            collation: oid("inputcollid")?,
            arguments: arguments(),
        },
        "DISTINCTEXPR" => Expression::IsDistinct {
            operator: oid("opno")?,
            collation: oid("inputcollid")?,
            arguments: arguments(),
        },
        "NULLIFEXPR" => Expression::NullIf {
            operator: oid("opno")?,
            collation: oid("inputcollid")?,
            arguments: arguments(),
        },
        "SCALARARRAYOPEXPR" => Expression::AnyOrAll {
            operator: oid("opno")?,
            collation: oid("inputcollid")?,
            any: node.flag("useOr"),
            arguments: arguments(),
        },
        "BOOLEXPR" => Expression::Logical { logic: logic(node)?, arguments: arguments() },
        "NULLTEST" => Expression::IsNull {
            argument: argument()?,
            negated: node.text("nulltesttype")? == "1",
            of_row: node.flag("argisrow"),
        },
        "BOOLEANTEST" => Expression::IsBoolean { argument: argument()?, test: test(node)? },
        "CASEEXPR" | "CASE" => case(node)?,
        "CASETESTEXPR" => Expression::CaseOperand,
        "COALESCEEXPR" | "COALESCE" => {
            Expression::Coalesce { arguments: arguments(), result: oid("coalescetype")? }
        }
        "MINMAXEXPR" | "MINMAX" => Expression::Extreme {
            is_least: node.number::<u8>("op")? == 1,
            collation: oid("inputcollid")?,
            arguments: arguments(),
        },
        "ARRAYEXPR" | "ARRAY" => Expression::Array {
            elements: all(node.list("elements")),
            element: oid("element_typeid")?,
            has_dimensions: node.flag("multidims"),
        },
        "ROWEXPR" | "ROW" => Expression::Row { columns: arguments() },
        "ROWCOMPAREEXPR" | "ROWCOMPARE" => Expression::RowOrder {
            operators: numbers(node.list("opnos")),
            left: all(node.list("largs")),
            right: all(node.list("rargs")),
        },
        "RELABELTYPE" | "COERCEVIAIO" | "ARRAYCOERCEEXPR" | "COERCETODOMAIN" => conversion(node)?,
        "COLLATEEXPR" | "COLLATE" => {
            Expression::Collate { argument: argument()?, collation: oid("collOid")? }
        }
        "SQLVALUEFUNCTION" => Expression::SqlValue(sql_value(node)?),
        "SUBSCRIPTINGREF" if node.node("refassgnexpr").is_none() => Expression::Subscript {
            container: boxed(node, "refexpr")?,
            subscripts: [node.list("refupperindexpr"), node.list("reflowerindexpr")]
                .into_iter()
                .flat_map(all)
                .collect(),
            is_slice: !node.list("reflowerindexpr").is_empty(),
        },
        "FIELDSELECT" => {
            Expression::Field { argument: argument()?, number: node.number("fieldnum")? }
        }
        "SUBLINK" => Expression::Subquery {
            link: link(node)?,
            test: boxed(node, "testexpr"),
            query: Box::new(of_query(node.node("subselect").filter(|q| q.tag == "QUERY")?)),
        },
        "AGGREF" if node.node("aggfilter").is_none() && node.number::<u32>("agglevelsup")? == 0 => {
            Expression::Aggregate {
                function: oid("aggfnoid")?,
                result: oid("aggtype")?,
                arguments: all_targets(node.list("args")),
            }
        }
        _ => return None,
    })
}

/// Returns the conversion to another type that a node is.
fn conversion(node: &Node<'_>) -> Option<Expression> {
    let (argument, result) = (boxed(node, "arg")?, node.number("resulttype")?);
    Some(match node.tag {
        "RELABELTYPE" => Expression::Relabel { argument, result },
        "COERCEVIAIO" => Expression::ThroughText { argument, result },
        "COERCETODOMAIN" => Expression::ToDomain { argument, result },
        "ARRAYCOERCEEXPR" => {
            let element = node.node("elemexpr").filter(|node| node.tag == "RELABELTYPE");
            // Other conversions of elements may shorten them.
            let element_tag = node.node("elemexpr").map(|element| element.tag);
            if !matches!(element_tag, Some("RELABELTYPE" | "COERCEVIAIO")) {
                return None;
            }
            let operand = element.and_then(|element| element.node("arg"));
            let is_label = operand.is_some_and(|node| node.tag == "CASETESTEXPR");
            Expression::ArrayConversion { argument, result, is_label }
        }
        _ => return None,
    })
}

fn all(values: &[Value<'_>]) -> Vec<Expression> {
    values.iter().map(of_value).collect()
}

/// Returns the expressions of target entries.
fn all_targets(values: &[Value<'_>]) -> Vec<Expression> {
    values.iter().filter_map(Value::as_node).map(|entry| of_value(entry.field("expr"))).collect()
}

fn numbers(values: &[Value<'_>]) -> Vec<Oid> {
    values.iter().filter_map(|value| value.as_text()?.parse().ok()).collect()
}

fn boxed(node: &Node<'_>, name: &str) -> Option<Box<Expression>> {
    node.node(name)?;
    Some(Box::new(of_value(node.field(name))))
}

/// Returns the expression in a field; `None` where the field is a null pointer.
fn optional(node: &Node<'_>, name: &str) -> Option<Expression> {
    match node.field(name) {
        Value::Absent => None,
        // An AND of conditions that is stored as their list.
        Value::List(parts) => {
            Some(Expression::Logical { logic: Logic::And, arguments: all(parts) })
        }
        value => Some(of_value(value)),
    }
}

fn column(node: &Node<'_>) -> Option<Column> {
    Some(Column {
        entry: node.number("varno")?,
        number: node.number("varattno")?,
        level: node.number("varlevelsup")?,
        data_type: node.number("vartype")?,
    })
}

fn constant(node: &Node<'_>) -> Option<Constant> {
    let value = match (node.field("constvalue"), node.flag("constisnull")) {
        (_, true) => None,
        (Value::Datum(bytes), false) => Some(bytes.clone()),
        _ => return None,
    };
    Some(Constant { data_type: node.number("consttype")?, value })
}

fn parameter(node: &Node<'_>) -> Option<Parameter> {
    let number = node.number("paramid")?;
    match node.text("paramkind")? {
        "0" => Some(Parameter::Argument(number)),
        "2" => Some(Parameter::OfSubquery(number)),
        _ => None,
    }
}

fn logic(node: &Node<'_>) -> Option<Logic> {
    match node.text("boolop")? {
        "and" => Some(Logic::And),
        "or" => Some(Logic::Or),
        "not" => Some(Logic::Not),
        _ => None,
    }
}

fn test(node: &Node<'_>) -> Option<BooleanTest> {
    Some(match node.text("booltesttype")? {
        "0" => BooleanTest::IsTrue,
        "1" => BooleanTest::IsNotTrue,
        "2" => BooleanTest::IsFalse,
        "3" => BooleanTest::IsNotFalse,
        "4" => BooleanTest::IsUnknown,
        "5" => BooleanTest::IsNotUnknown,
        _ => return None,
    })
}

fn case(node: &Node<'_>) -> Option<Expression> {
    let branches = node.list("args").iter().map(|branch| {
        let branch = branch.as_node()?;
        Some(Branch {
            condition: of_value(branch.field("expr")),
            result: of_value(branch.field("result")),
        })
    });
    Some(Expression::Case {
        operand: boxed(node, "arg"),
        branches: branches.collect::<Option<_>>()?,
        otherwise: boxed(node, "defresult"),
        result: node.number("casetype")?,
    })
}

/// Numbers of `SQLValueFunctionOp` (primnodes.h).
fn sql_value(node: &Node<'_>) -> Option<SqlValue> {
    Some(match node.number::<u8>("op")? {
        op @ 0..=8 => SqlValue::Time { op, precision: node.number("typmod")? },
        9..=11 => SqlValue::CurrentUser,
        12 => SqlValue::SessionUser,
        13 => SqlValue::Database,
        14 => SqlValue::Schema,
        _ => return None,
    })
}

/// Numbers of `SubLinkType` (primnodes.h).
fn link(node: &Node<'_>) -> Option<Link> {
    Some(match node.text("subLinkType")? {
        "0" => Link::Exists,
        "1" => Link::All,
        "2" => Link::Any,
        "3" => Link::Row,
        "4" => Link::Scalar,
        "6" => Link::Array,
        _ => return None,
    })
}

fn of_query(node: &Node<'_>) -> Query {
    let is_used = |name| !node.list(name).is_empty();
    let joined = node.node("jointree");
    Query {
        command: match node.text("commandType") {
            Some("1") => Command::Select,
            Some("2") => Command::Update,
            Some("3") => Command::Insert,
            Some("4") => Command::Delete,
            _ => Command::Other,
        },
        written: node.number("resultRelation").unwrap_or_default(),
        entries: node.list("rtable").iter().filter_map(Value::as_node).map(entry).collect(),
        from: joined.map_or_else(Vec::new, |joined| {
            joined.list("fromlist").iter().map(from_item).collect()
        }),
        condition: joined.and_then(|joined| optional(joined, "quals")),
        targets: node.list("targetList").iter().filter_map(target).collect(),
        with: node.list("cteList").iter().filter_map(with).collect(),
        is_recursive: node.flag("hasRecursive"),
        has_aggregates: node.flag("hasAggs"),
        has_window_functions: node.flag("hasWindowFuncs"),
        has_set_targets: node.flag("hasTargetSRFs"),
        has_distinct: is_used("distinctClause"),
        group: is_used("groupClause"),
        grouping_sets: is_used("groupingSets"),
        having: optional(node, "havingQual"),
        limit: node.node("limitCount").is_some(),
        offset: node.node("limitOffset").is_some(),
        set_operation: node.node("setOperations").map(set_operation),
        on_conflict: node.node("onConflict").and_then(on_conflict).map(Box::new),
    }
}

/// Returns what ON CONFLICT DO UPDATE does; `None` for DO NOTHING (`OnConflictAction`, nodes.h).
fn on_conflict(node: &Node<'_>) -> Option<OnConflict> {
    let keys = node.list("arbiterElems").iter().filter_map(Value::as_node);
    (node.text("action") == Some("2")).then(|| OnConflict {
        keys: keys.map(|key| of_value(key.field("expr"))).collect(),
        constraint: node.number("constraint").filter(|oid| *oid != 0),
        condition: optional(node, "onConflictWhere"),
        excluded: node.number("exclRelIndex").unwrap_or_default(),
    })
}

fn entry(node: &Node<'_>) -> RangeEntry {
    let name = node.node("eref").and_then(|name| name.text("aliasname")).unwrap_or_default();
    RangeEntry {
        name: name.to_owned(),
        range: range(node).unwrap_or_else(|| {
            Range::Other(node.text("rtekind").unwrap_or("without a kind").to_owned())
        }),
    }
}

/// Numbers of `RTEKind` (parsenodes.h).
fn range(node: &Node<'_>) -> Option<Range> {
    Some(match node.text("rtekind")? {
        "0" => Range::Relation {
            oid: node.number("relid")?,
            with_children: node.flag("inh"),
            kind: node.text("relkind").and_then(|kind| match kind.as_bytes() {
                [kind] => RelationKind::from_relkind(*kind),
                _ => None,
            }),
            is_sample: node.node("tablesample").is_some(),
        },
        "1" => Range::Subquery(Box::new(of_query(node.node("subquery")?))),
        "2" => Range::Join { columns: all(node.list("joinaliasvars")) },
        "3" => {
            let functions = node.list("functions").iter().filter_map(Value::as_node);
            Range::Functions(functions.map(|f| of_value(f.field("funcexpr"))).collect())
        }
        "5" => {
            let rows = node.list("values_lists").iter().map(|row| match row {
                Value::List(row) => all(row),
                _ => Vec::new(),
            });
            Range::Values(rows.collect())
        }
        "6" => Range::With {
            name: node.text("ctename")?.to_owned(),
            level: node.number("ctelevelsup")?,
            is_itself: node.flag("self_reference"),
        },
        "8" => Range::Result,
        "9" => Range::Group(all(node.list("groupexprs"))),
        _ => return None,
    })
}

fn from_item(value: &Value<'_>) -> FromItem {
    let unknown = |tag: &str| FromItem::Unknown(tag.to_owned());
    let Some(node) = value.as_node() else { return unknown("no node") };
    match node.tag {
        "RANGETBLREF" => node.number("rtindex").map_or_else(|| unknown(node.tag), FromItem::Entry),
        "FROMEXPR" => FromItem::List {
            items: node.list("fromlist").iter().map(from_item).collect(),
            condition: optional(node, "quals"),
        },
        "JOINEXPR" => {
            let kind = match node.text("jointype") {
                Some("0") => JoinKind::Inner,
                Some("1") => JoinKind::Left,
                Some("2") => JoinKind::Full,
                Some("3") => JoinKind::Right,
                _ => return unknown(node.tag),
            };
            FromItem::Join {
                kind,
                left: Box::new(from_item(node.field("larg"))),
                right: Box::new(from_item(node.field("rarg"))),
                condition: optional(node, "quals"),
                entry: node.number("rtindex").unwrap_or_default(),
            }
        }
        tag => unknown(tag),
    }
}

fn target(value: &Value<'_>) -> Option<Target> {
    let node = value.as_node()?;
    Some(Target {
        expression: of_value(node.field("expr")),
        number: node.number("resno")?,
        name: node.text("resname").unwrap_or_default().to_owned(),
        is_hidden: node.flag("resjunk"),
    })
}

fn with(value: &Value<'_>) -> Option<(String, Query)> {
    let node = value.as_node()?;
    Some((node.text("ctename")?.to_owned(), of_query(node.node("ctequery")?)))
}

fn set_operation(node: &Node<'_>) -> SetOperation {
    let side = |name| node.node(name).map_or(SetOperation::Unknown, set_operation);
    match node.tag {
        "RANGETBLREF" => node.number("rtindex").map_or(SetOperation::Unknown, SetOperation::Entry),
        "SETOPERATIONSTMT" => {
            let operator = match node.text("op") {
                Some("1") => SetOperator::Union,
                Some("2") => SetOperator::Intersect,
                Some("3") => SetOperator::Except,
                _ => return SetOperation::Unknown,
            };
            SetOperation::Operation {
                operator,
                left: Box::new(side("larg")),
                right: Box::new(side("rarg")),
            }
        }
        _ => SetOperation::Unknown,
    }
}
