//! ENABLE and FORCE ROW LEVEL SECURITY as fixes. They are statements only where everything that the
//! contract declares works as before; otherwise they are proposals, together with the policies that
//! they need.

use crate::catalog::{Command, Oid, Policy, Privileges, Relation, RelationKind, Role};
use crate::contract::SchemaDecl;
use crate::fix::{Change, Fix, Statement, create_policy, policy_header};
use crate::rules::context::Context;
use crate::sql::{listed, printable};
use std::cell::OnceCell;
use std::collections::HashSet;

/// Row security of tables under the contract, for the rules that change it.
pub(crate) struct RowSecurity<'c, 'a> {
    cx: &'c Context<'a>,
    code_owners: OnceCell<Vec<&'a Role>>,
}

/// A role that would access fewer rows than before.
struct Loss<'a> {
    role: &'a Role,
    /// The commands that it uses on the table.
    commands: Vec<Command>,
    /// Whether the views and SECURITY DEFINER routines of the role are concerned.
    runs_code: bool,
}

impl<'c, 'a> RowSecurity<'c, 'a> {
    pub fn new(cx: &'c Context<'a>) -> Self {
        Self { cx, code_owners: OnceCell::new() }
    }

    pub fn cx(&self) -> &'c Context<'a> {
        self.cx
    }

    /// Returns the fix that enables row security. It is a statement where the contract requires row
    /// security and policies admit each role that the contract declares privileges for, and where
    /// the contract declares nothing on the table for roles that row security restricts.
    pub fn enable(&self, relation: &Relation, schema: &SchemaDecl) -> Fix {
        let sql = self.cx.snapshot.relation_sql(relation);
        let table = self.cx.contract.table(&schema.name, &relation.name);
        let is_required = table.is_some_and(|table| table.row_security);
        let is_restricted =
            |role: &Role| self.is_subject(role, relation, relation.force_row_security);
        let mut losses = self.losses(relation, schema, &is_restricted);
        if is_required {
            losses.iter_mut().for_each(|loss| self.retain_unadmitted(relation, loss));
            losses.retain(|loss| !loss.commands.is_empty());
        }
        if losses.is_empty() {
            return Fix::row_security(relation.oid, &sql);
        }
        let because = if is_required {
            format!("No policy on table {sql} admits {}.", Self::named(&losses))
        } else {
            format!(
                "The contract declares table {sql} for {} without row security, which would \
                 exclude every row that no policy admits. Where these roles may access every row, \
                 nothing is to be done. Otherwise declare row security and the policies: {}",
                Self::named(&losses),
                self.declare(&sql, &losses)
            )
        };
        let enable = format!("ALTER TABLE {sql} ENABLE ROW LEVEL SECURITY;");
        self.proposal(relation, losses, &because, &enable)
    }

    /// Returns the fix that forces row security on the owner of the table. It is a statement where
    /// the owner bypasses row security or policies admit it.
    pub fn force(&self, relation: &Relation, schema: &SchemaDecl) -> Fix {
        let sql = self.cx.snapshot.relation_sql(relation);
        let force = format!("ALTER TABLE {sql} FORCE ROW LEVEL SECURITY;");
        let is_restricted = |role: &Role| {
            self.is_subject(role, relation, true) && !self.is_subject(role, relation, false)
        };
        let mut losses = self.losses(relation, schema, &is_restricted);
        let owner = self.cx.snapshot.role(relation.owner);
        let is_known = |role: &Role| losses.iter().any(|loss| loss.role.oid == role.oid);
        if let Some(role) = owner.filter(|role| is_restricted(role) && !is_known(role)) {
            losses.push(Loss { role, commands: Command::ALL.to_vec(), runs_code: false });
        }
        losses.iter_mut().for_each(|loss| self.retain_unadmitted(relation, loss));
        losses.retain(|loss| !loss.commands.is_empty());
        if losses.is_empty() {
            return Fix::by(Statement::new(Change::ForceRowSecurity(relation.oid), force));
        }
        let because = format!("No policy on table {sql} admits {}.", Self::named(&losses));
        self.proposal(relation, losses, &because, &force)
    }

    /// Returns the call that declares row security of a table, and a policy for each role that the
    /// contract declares and each command.
    fn declare(&self, table: &str, losses: &[Loss<'_>]) -> String {
        let declared =
            losses.iter().filter(|loss| self.cx.contract.role(&loss.role.name).is_some());
        let policies = declared.flat_map(|loss| {
            loss.commands.iter().map(|command| policy_header(table, loss.role, *command))
        });
        let enable = format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY");
        let statements: Vec<String> = std::iter::once(enable).chain(policies).collect();
        self.cx.tool.declaring(&statements.join("; "))
    }

    /// Returns the proposal to create the policies that are missing and to run `statement`.
    fn proposal(
        &self,
        relation: &Relation,
        mut losses: Vec<Loss<'_>>,
        because: &str,
        statement: &str,
    ) -> Fix {
        let sql = self.cx.snapshot.relation_sql(relation);
        losses.iter_mut().for_each(|loss| self.retain_unadmitted(relation, loss));
        let policies = losses.iter().flat_map(|loss| {
            loss.commands.iter().map(|command| create_policy(&sql, loss.role, *command))
        });
        let policies: Vec<String> = policies.collect();
        let statements = [policies, vec![statement.to_owned()]].concat().join("\n");
        Fix::Proposal(format!("{because}\nRun in one transaction:\n{statements}"))
    }

    /// Returns the roles and their commands as a sentence names them.
    fn named(losses: &[Loss<'_>]) -> String {
        let name = |loss: &Loss<'_>| {
            let commands: Vec<&str> = loss.commands.iter().map(|c| c.as_str()).collect();
            let code =
                if loss.runs_code { " in its views and SECURITY DEFINER routines" } else { "" };
            format!("role \"{}\" ({}){code}", printable(&loss.role.name), commands.join(", "))
        };
        listed(&losses.iter().map(name).collect::<Vec<_>>())
    }

    /// Returns what the roles that `is_restricted` selects do with the table: what the contract
    /// declares for clients and workers and what that needs, and what the owners of views and
    /// SECURITY DEFINER routines can do.
    fn losses(
        &self,
        relation: &Relation,
        schema: &SchemaDecl,
        is_restricted: &dyn Fn(&Role) -> bool,
    ) -> Vec<Loss<'a>> {
        let cx = self.cx;
        let loss = |role: &'a Role, privileges: Privileges, runs_code| {
            let uses = |command: &Command| privileges.contains(command.privilege());
            let commands: Vec<Command> = Command::ALL.into_iter().filter(uses).collect();
            (!commands.is_empty() && is_restricted(role)).then_some(Loss {
                role,
                commands,
                runs_code,
            })
        };
        let declared = cx
            .subjects
            .iter()
            .copied()
            .filter_map(|r| loss(r, cx.permitted_on_some_column(relation, schema, r), false));
        let of_code = self
            .code_owners()
            .iter()
            .copied()
            .filter(|owner| !cx.is_subject(owner.oid))
            .filter_map(|r| loss(r, cx.access.relation_privileges(r.oid, relation), true));
        declared.chain(of_code).collect()
    }

    /// Removes the commands that a policy admits.
    fn retain_unadmitted(&self, relation: &Relation, loss: &mut Loss<'_>) {
        let role = loss.role.oid;
        loss.commands.retain(|command| !is_admitted(self.cx, relation, role, *command));
    }

    /// Whether the row security of a table restricts a role, if it is enabled (rls.c,
    /// `check_enable_rls`).
    pub fn is_subject(&self, role: &Role, relation: &Relation, is_forced: bool) -> bool {
        let is_owner = self.cx.access.has_privileges_of(role.oid, relation.owner);
        !role.superuser && !role.bypass_rls && (is_forced || !is_owner)
    }

    /// Returns the owners of views and SECURITY DEFINER routines of governed schemas, in order of
    /// name: these run with the privileges of their owners.
    pub fn code_owners(&self) -> &[&'a Role] {
        self.code_owners.get_or_init(|| {
            let views = self.cx.relations().filter(|(relation, _)| match relation.kind {
                RelationKind::View => !relation.security_invoker,
                kind => kind == RelationKind::MaterializedView,
            });
            let routines = self.cx.routines().filter(|(routine, _)| routine.security_definer);
            let owners: HashSet<Oid> = views
                .map(|(view, _)| view.owner)
                .chain(routines.map(|(routine, _)| routine.owner))
                .collect();
            self.cx.snapshot.roles.iter().filter(|role| owners.contains(&role.oid)).collect()
        })
    }
}

/// Whether a permissive policy admits a role for a command. One whose condition is never true does
/// not.
pub(crate) fn is_admitted(
    cx: &Context<'_>,
    relation: &Relation,
    role: Oid,
    command: Command,
) -> bool {
    let admits = |policy: &Policy| {
        policy.permissive
            && policy.covers(command)
            && !policy.is_for_no_rows(command)
            && cx.access.policy_applies(policy, role)
    };
    cx.snapshot.policies_of(relation.oid).iter().any(admits)
}
