//! Which privileges a statement needs, and whether the role has them.

use super::chain::{Granted, how};
use super::grant::{Grant, On};
use super::question::{Link, Moment, Need, Verdict, checked_as};
use super::schema::usage;
use crate::catalog::{FIRST_UNPINNED, Privileges, Relation, RelationKind, Role};
use crate::rules::Context;
use crate::sql::{listed, printable, safe_ident};

impl Need {
    /// Returns the columns on which the statement needs a privilege.
    pub(super) fn columns(&self, privilege: Privileges) -> &[String] {
        match privilege {
            Privileges::SELECT => &self.selected,
            Privileges::INSERT => &self.inserted,
            _ => &self.updated,
        }
    }
}

/// Returns a link for each privilege that is needed at one moment, in the order in which the server
/// checks them.
pub(super) fn links(
    cx: &Context<'_>,
    role: &Role,
    needs: &[Need],
    moment: Moment,
    verdict: &mut Verdict,
) -> Vec<Link> {
    let mut links = Vec::new();
    for need in needs.iter().filter(|need| need.moment == moment) {
        cx.check_interrupts();
        let (Some(relation), Some(holder)) =
            (cx.snapshot.relation(need.relation), checked_as(cx, role, need.check_as))
        else {
            continue;
        };
        if need.by_name {
            let usage = usage(cx, holder, cx.snapshot.schema(relation.schema), verdict);
            links.extend(Some(usage).filter(|link| link.ok == Some(false)));
        }
        for word in need.privileges.words() {
            let privilege = word.parse().unwrap_or_default();
            links.push(link(cx, holder, relation, need, privilege, verdict));
        }
    }
    links
}

fn link(
    cx: &Context<'_>,
    holder: &Role,
    relation: &Relation,
    need: &Need,
    privilege: Privileges,
    verdict: &mut Verdict,
) -> Link {
    let (kind, sql) = (relation.kind.object_type(), cx.snapshot.relation_sql(relation));
    let as_owner = match need.check_as {
        Some(_) => format!(", as \"{}\", the owner of the view", printable(&holder.name)),
        None => String::new(),
    };
    let step = format!("{privilege} on {kind} {sql}{as_owner}");
    let Some(missing) = missing(cx, holder, relation, need, privilege) else {
        let detail = held_detail(cx, holder, relation, need, privilege);
        return Link { step, ok: Some(true), detail, fix: None };
    };
    verdict.deny(format!(
        "permission denied for {} {}",
        kind_in_error(relation),
        printable(&relation.name)
    ));
    let is_sequence = relation.kind == RelationKind::Sequence;
    // There are no privileges on columns of a sequence.
    let columns = if is_sequence { vec![] } else { missing };
    let on_columns = match need.columns(privilege) {
        _ if columns.is_empty() => String::new(),
        [] => " on any column".to_owned(),
        _ => format!(" on {}", column_list(&columns)),
    };
    // Only superusers can change system catalogs (aclchk.c, `pg_class_aclmask_ext`).
    let is_catalog = relation.oid < FIRST_UNPINNED
        && relation.kind == RelationKind::Table
        && privilege != Privileges::SELECT;
    let name = printable(&holder.name);
    let detail = format!("Role \"{name}\" does not have {privilege}{on_columns}.");
    let link = Link { step, ok: Some(false), detail, fix: None };
    if is_catalog {
        return link;
    }
    Grant { role: holder, privilege, on: On::Relation(relation, &columns) }.fix(cx, link)
}

/// The detail for a privilege that the role has on the whole relation or on the needed columns.
fn held_detail(
    cx: &Context<'_>,
    holder: &Role,
    relation: &Relation,
    need: &Need,
    privilege: Privileges,
) -> String {
    let name = printable(&holder.name);
    let held = cx.access.relation_privileges(holder.oid, relation);
    let sufficient = privilege | need.or;
    if !held.intersects(sufficient) && !holder.superuser {
        let columns = column_list(need.columns(privilege));
        return format!("Role \"{name}\" has {privilege} on {columns}.");
    }
    let found = held & sufficient;
    let words = if found.is_empty() { privilege } else { found };
    let how = how(cx, holder, Granted::on_relation(relation), sufficient);
    format!("Role \"{name}\" has {words}{how}.")
}

/// Returns the columns on which the privilege is missing, where it exists on others or only these
/// are needed, or the one that stands for any; no columns where it is missing on the whole
/// relation; and `None` where the role has it (execMain.c, `ExecCheckOneRelPerms`).
fn missing(
    cx: &Context<'_>,
    holder: &Role,
    relation: &Relation,
    need: &Need,
    privilege: Privileges,
) -> Option<Vec<String>> {
    if cx.access.relation_privileges(holder.oid, relation).intersects(privilege | need.or) {
        return None;
    }
    let by_column = Privileges::SELECT | Privileges::INSERT | Privileges::UPDATE;
    if !by_column.contains(privilege) {
        return Some(vec![]);
    }
    let has = |column: &str| {
        cx.access.column_privileges(holder.oid, relation, column).contains(privilege)
    };
    let columns = need.columns(privilege);
    if columns.is_empty() {
        let has_any = relation.columns.iter().any(|(name, _)| has(name));
        return (!has_any).then(|| need.any_column.iter().cloned().collect());
    }
    let missing: Vec<String> = columns.iter().filter(|c| !has(c)).cloned().collect();
    if missing.is_empty() {
        return None;
    }
    Some(if missing.len() == columns.len() && !need.is_partial { vec![] } else { missing })
}

/// Returns `column a` or `columns a and b`.
fn column_list(columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().take(8).map(|c| safe_ident(c).into_owned()).collect();
    let more = if columns.len() > names.len() {
        format!(" and {} more", columns.len() - names.len())
    } else {
        String::new()
    };
    match names.as_slice() {
        [] => "at least one column".into(),
        [only] => format!("column {only}"),
        names if more.is_empty() => format!("columns {}", listed(names)),
        names => format!("columns {}{more}", names.join(", ")),
    }
}

/// The kind of a relation in the server's error message (aclchk.c, `aclcheck_error`).
fn kind_in_error(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable => "table",
        other => other.object_type(),
    }
}
