//! The order in which a contract follows renames. A name is free only when what had it has another
//! one, and where objects have exchanged their names, one needs a name in between.

use crate::declare::{Declaration, Name, Renamed, Target};

/// Returns the declarations of renames in an order in which each new name is free. `renames` has
/// the declarations about each object: first another schema, then another name, then those about
/// its columns. Columns come last, under the new names of their relations. `is_taken`: whether a
/// relation that is not renamed has a name.
pub(super) fn in_order(
    renames: Vec<Vec<Declaration>>,
    is_taken: &dyn Fn(&Name) -> bool,
) -> Vec<Declaration> {
    let (mut objects, mut columns): (Vec<Vec<Declaration>>, Vec<Vec<Declaration>>) =
        Default::default();
    for one in renames {
        let is_column = |d: &Declaration| matches!(d, Declaration::Rename(Renamed::Column(..)));
        let (of_columns, of_object): (Vec<_>, Vec<_>) = one.into_iter().partition(is_column);
        objects.extend(Some(of_object).filter(|steps| !steps.is_empty()));
        columns.extend(of_columns.into_iter().map(|column| vec![column]));
    }
    let mut ordered = free(objects, is_taken);
    ordered.extend(free(columns, is_taken));
    ordered
}

/// Returns the steps of all renames, each after those that free the names that it gives.
fn free(mut pending: Vec<Vec<Declaration>>, is_taken: &dyn Fn(&Name) -> bool) -> Vec<Declaration> {
    let mut ordered = Vec::new();
    while !pending.is_empty() {
        let needs = |one: usize| {
            let holds =
                |other: &usize| *other != one && gives_name_of(&pending[one], &pending[*other]);
            (0..pending.len()).find(holds)
        };
        if let Some(next) = (0..pending.len()).find(|one| needs(*one).is_none()) {
            ordered.extend(pending.remove(next));
            continue;
        }
        // Each waits for another one: the first makes room under a name in between.
        let used: Vec<(Key, Key)> =
            pending.iter().flatten().chain(&ordered).filter_map(names).collect();
        let by_way = pending[0].first().and_then(|first| by_way(first, &used, is_taken));
        let Some((away, rest)) = by_way else {
            ordered.extend(pending.into_iter().flatten());
            break;
        };
        ordered.push(away);
        pending[0][0] = rest;
    }
    ordered
}

/// Whether a rename gives a name that another object has until it is renamed.
fn gives_name_of(one: &[Declaration], other: &[Declaration]) -> bool {
    let Some(held) = other.first().and_then(names).map(|(from, _)| from) else { return false };
    one.iter().filter_map(names).any(|(_, to)| to == held)
}

/// What a name is unique among, and the name.
type Key = (String, String);

/// Returns the earlier and the new name of what a declaration renames.
fn names(declaration: &Declaration) -> Option<(Key, Key)> {
    let Declaration::Rename(renamed) = declaration else { return None };
    Some(match renamed {
        Renamed::Column(relation, from, to) => {
            let of = format!("column {} {}", relation.schema, relation.name);
            ((of.clone(), from.clone()), (of, to.clone()))
        }
        Renamed::Object(Target::Role(from), to) => {
            (("role".into(), from.clone()), ("role".into(), to.name.clone()))
        }
        Renamed::Object(Target::Schema(from), to) => {
            (("schema".into(), from.clone()), ("schema".into(), to.name.clone()))
        }
        Renamed::Object(Target::Function(from), to) => {
            let among = |name: &Name| format!("function {} {:?}", name.schema, from.arguments);
            ((among(&from.name), from.name.name.clone()), (among(to), to.name.clone()))
        }
        Renamed::Object(
            Target::Table(from)
            | Target::View(from)
            | Target::MaterializedView(from)
            | Target::Sequence(from),
            to,
        ) => {
            let among = |name: &Name| format!("relation {}", name.schema);
            ((among(from), from.name.clone()), (among(to), to.name.clone()))
        }
    })
}

/// How many names in between may be those of other objects.
const MOST_TAKEN: usize = 100;

/// Returns the two renames by which something gets its new name by way of one that is not among
/// the `used` ones.
fn by_way(
    rename: &Declaration,
    used: &[(Key, Key)],
    is_taken: &dyn Fn(&Name) -> bool,
) -> Option<(Declaration, Declaration)> {
    let Declaration::Rename(renamed) = rename else { return None };
    let ((among, from), _) = names(rename)?;
    let is_free = |name: &String| {
        let key = (among.clone(), name.clone());
        let is_taken = among
            .strip_prefix("relation ")
            .is_some_and(|schema| is_taken(&Name::new(schema, name)));
        !is_taken && used.iter().all(|(from, to)| *from != key && *to != key)
    };
    let between = (1..=used.len() + MOST_TAKEN).map(|n| format!("{from}_{n}")).find(is_free)?;
    let moved = |name: &Name| Name::new(&name.schema, &between);
    let (away, target) = match renamed {
        Renamed::Column(relation, from, to) => {
            let away = Renamed::Column(relation.clone(), from.clone(), between.clone());
            let rest = Renamed::Column(relation.clone(), between, to.clone());
            return Some((Declaration::Rename(away), Declaration::Rename(rest)));
        }
        Renamed::Object(Target::Role(_), _) => (Name::new("", &between), Target::Role(between)),
        Renamed::Object(Target::Schema(_), _) => (Name::new("", &between), Target::Schema(between)),
        Renamed::Object(Target::Function(function), _) => {
            let name = moved(&function.name);
            let mut renamed = function.clone();
            renamed.name = name.clone();
            (name, Target::Function(renamed))
        }
        Renamed::Object(Target::Table(name), _) => (moved(name), Target::Table(moved(name))),
        Renamed::Object(Target::View(name), _) => (moved(name), Target::View(moved(name))),
        Renamed::Object(Target::MaterializedView(name), _) => {
            (moved(name), Target::MaterializedView(moved(name)))
        }
        Renamed::Object(Target::Sequence(name), _) => (moved(name), Target::Sequence(moved(name))),
    };
    let Renamed::Object(was, to) = renamed else { return None };
    let away = Declaration::Rename(Renamed::Object(was.clone(), away));
    Some((away, Declaration::Rename(Renamed::Object(target, to.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(from: &str, to: &str) -> Vec<Declaration> {
        let name = |name: &str| Name::new("app", name);
        vec![Declaration::Rename(Renamed::Object(Target::Table(name(from)), name(to)))]
    }

    fn column(from: &str, to: &str) -> Declaration {
        Declaration::Rename(Renamed::Column(Name::new("app", "t"), from.into(), to.into()))
    }

    fn sql(renames: Vec<Vec<Declaration>>) -> Vec<String> {
        let is_taken = |name: &Name| name.name == "a_2";
        in_order(renames, &is_taken).iter().map(Declaration::to_string).collect()
    }

    #[test]
    fn name_is_given_after_it_is_free() {
        assert_eq!(
            sql(vec![table("a_new", "a"), table("a", "a_old")]),
            ["ALTER TABLE app.a RENAME TO a_old", "ALTER TABLE app.a_new RENAME TO a"]
        );
    }

    #[test]
    fn exchanged_names_need_one_in_between() {
        assert_eq!(
            sql(vec![table("a", "b"), table("b", "a"), table("x", "a_1")]),
            [
                "ALTER TABLE app.x RENAME TO a_1",
                "ALTER TABLE app.a RENAME TO a_3",
                "ALTER TABLE app.b RENAME TO a",
                "ALTER TABLE app.a_3 RENAME TO b"
            ]
        );
        assert_eq!(
            sql(vec![vec![column("a", "b"), column("b", "a")]]),
            [
                "ALTER TABLE app.t RENAME COLUMN a TO a_1",
                "ALTER TABLE app.t RENAME COLUMN b TO a",
                "ALTER TABLE app.t RENAME COLUMN a_1 TO b"
            ]
        );
    }

    #[test]
    fn columns_follow_their_table() {
        let mut moved = table("s", "t");
        moved.push(column("a", "b"));
        assert_eq!(
            sql(vec![vec![column("c", "d")], moved]),
            [
                "ALTER TABLE app.s RENAME TO t",
                "ALTER TABLE app.t RENAME COLUMN c TO d",
                "ALTER TABLE app.t RENAME COLUMN a TO b"
            ]
        );
    }
}
