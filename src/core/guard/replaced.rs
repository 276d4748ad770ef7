//! Declared views that another view has replaced under the same name: none of the columns is left
//! that clients read.

use super::opened::earlier;
use crate::catalog::{Relation, RelationKind};
use crate::contract::Severity;
use crate::finding::{Draft, Finding};
use crate::rules::{Context, required_object_missing};

/// A declared view, and the view that had its name before.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are named like what they contain")]
pub struct Replaced<'a> {
    pub view: &'a Relation,
    pub earlier: &'a Relation,
}

/// The number of columns that a view must have had. The only column of a view may have been given a
/// better name.
const FEWEST: usize = 2;

/// Returns the declared views that have been dropped and created again, or replaced by renaming,
/// with none of the columns that they had.
#[must_use]
pub fn replaced<'a>(before: &Context<'a>, after: &Context<'a>) -> Vec<Replaced<'a>> {
    let is_view =
        |r: &Relation| matches!(r.kind, RelationKind::View | RelationKind::MaterializedView);
    let mut found = Vec::new();
    for (view, schema) in after.relations().filter(|(relation, _)| is_view(relation)) {
        if after.contract.view(&schema.name, &view.name).is_none() {
            continue;
        }
        let earlier = earlier(before, after, view).filter(|r| r.oid != view.oid && is_view(r));
        let Some(earlier) = earlier.filter(|r| r.column_names.len() >= FEWEST) else { continue };
        if !earlier.column_names.iter().any(|column| view.column_names.contains(column)) {
            found.push(Replaced { view, earlier });
        }
    }
    found
}

impl Replaced<'_> {
    /// Returns the finding about it, for exemptions.
    #[must_use]
    pub fn finding(&self, cx: &Context<'_>) -> Finding {
        let rule = &required_object_missing::RULE;
        Draft::new(cx.relation_object(self.view), Severity::Error, String::new())
            .key("replaced")
            .finish(rule, cx.severity(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::World;

    fn found(before: &World, after: &World) -> Vec<String> {
        before.compared_with(after, |old, new| {
            replaced(old, new).iter().map(|one| new.snapshot.relation_identity(one.view)).collect()
        })
    }

    /// Returns a world in which a declared view has an OID and columns.
    fn world(oid: u32, columns: &[&str]) -> World {
        let mut world = World::conforming();
        let view = world.relation("public.v_judgment_pipeline");
        view.oid = oid;
        view.column_names = columns.iter().map(|column| (*column).to_owned()).collect();
        world
    }

    #[test]
    fn view_without_any_of_its_columns_is_another_one() {
        let before = world(9001, &["id", "amount"]);
        let other = ["public.v_judgment_pipeline"];
        assert_eq!(found(&before, &world(9002, &["nothing"])), other);
        assert_eq!(found(&before, &world(9002, &["id", "more"])), [""; 0]);
        assert_eq!(found(&before, &world(9001, &["nothing"])), [""; 0], "columns were renamed");
        assert_eq!(found(&world(9001, &["count"]), &world(9002, &["total"])), [""; 0]);
    }
}
