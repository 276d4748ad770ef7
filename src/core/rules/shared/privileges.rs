//! Privileges that differ from the declared ones, and the GRANT and REVOKE that fix the difference,
//! for all rules about privileges.

use super::target::{Target, named_columns};
use crate::access::Access;
use crate::catalog::{
    Acl, AclItem, ObjectId, ObjectKind, Oid, OidSet, PUBLIC, Privileges, Relation, RelationKind,
    Role,
};
use crate::contract::{GuardAction, Severity};
use crate::finding::Verb::{Has, Lacks};
use crate::finding::{CALLED_BY, Draft, Measure, Predicate};
use crate::fix::{AclStatement, Change, Fix, Grantee, Securable, Statement, Verb};
use crate::rules::context::Context;
use crate::sql::{listed, printable, safe_ident};
use serde_json::json;

/// The privileges that roles may have.
#[derive(Clone, Copy)]
pub(crate) struct Allowed<'f> {
    /// Those that the contract declares.
    pub declared: &'f dyn Fn(&Role) -> Privileges,
    /// Those, and the ones that something declared needs.
    pub permitted: &'f dyn Fn(&Role) -> Privileges,
}

/// Which privileges beyond the permitted ones a rule reports.
#[derive(Clone, Copy)]
pub(crate) enum Mask {
    /// These.
    Of(Privileges),
    /// The privileges to write. For a grantee with TRUNCATE also the [`LEFT_OVER`] ones.
    Writes,
    /// These, which do not write. For a grantee with TRUNCATE, [`Self::Writes`] reports the
    /// [`LEFT_OVER`] ones.
    BesideWrites(Privileges),
}

/// The privileges that are usually left over, with TRUNCATE, from GRANT ALL or default privileges.
const LEFT_OVER: Privileges =
    Privileges(Privileges::REFERENCES.0 | Privileges::TRIGGER.0 | Privileges::MAINTAIN.0);

impl Mask {
    /// All privileges.
    pub(crate) const ALL: Self = Self::Of(Privileges(u32::MAX));

    /// Returns the privileges that the rule reports by itself.
    fn own(self) -> Privileges {
        match self {
            Self::Of(own) | Self::BesideWrites(own) => own,
            Self::Writes => Privileges::WRITES,
        }
    }

    /// Returns the part of `excess` that the rule reports, and the part, not empty only if it is
    /// another, that it would report if the rule about writes did not.
    fn parts(self, excess: Privileges) -> (Privileges, Privileges) {
        let own = excess & self.own();
        let left_over = if excess.contains(Privileges::TRUNCATE) {
            excess & LEFT_OVER
        } else {
            Privileges::NONE
        };
        match self {
            Self::Of(_) => (own, Privileges::NONE),
            Self::Writes => (own | left_over, Privileges::NONE),
            Self::BesideWrites(_) if !own.intersects(left_over) => (own, Privileges::NONE),
            Self::BesideWrites(_) => (own & !left_over, own),
        }
    }
}

/// A draft about privileges that are not permitted.
struct Excess {
    draft: Draft,
    privileges: Privileges,
}

/// A difference between the privileges of a role and those declared for it.
pub(crate) struct Difference {
    /// [`PUBLIC`] or a role.
    pub role: Oid,
    pub privileges: Privileges,
}

impl Target<'_> {
    /// Does the same as [`Self::report_beyond`] where nothing but the declared privileges is
    /// permitted.
    pub(crate) fn report_undeclared(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let allowed = Allowed { declared, permitted: declared };
        self.report_beyond(cx, roles, allowed, Mask::Of(mask), severity, out);
    }

    /// Adds a finding for each of `roles` that has privileges in `mask` which are not permitted,
    /// and for PUBLIC. A privilege of PUBLIC is one finding, about PUBLIC, unless it is declared
    /// for all of the roles, of which one is a client, and on a relation for all workers. Where
    /// only a worker has what is not declared for it, the guard warns.
    pub(crate) fn report_beyond(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        allowed: Allowed<'_>,
        mask: Mask,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let public = Access::public(&self.acl_or_default());
        if !public.is_empty() {
            self.report_public_beyond(cx, roles, (allowed, public), mask, severity, out);
        }
        self.report_roles(cx, roles, allowed.permitted, mask, severity, out);
    }

    /// Adds the findings about privileges of PUBLIC of [`Self::report_beyond`].
    fn report_public_beyond(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        (allowed, public): (Allowed<'_>, Privileges),
        mask: Mask,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let all = Privileges(u32::MAX);
        let for_all = if cx.counts_public_without_clients(self.object.id) {
            Privileges::NONE
        } else {
            cx.declared_for_all(roles, allowed.declared, all)
        };
        // What a worker may do with routines is not restricted.
        let for_workers = match self.object.id {
            ObjectId::Relation(_) => cx.declared_for_all(&cx.workers, allowed.declared, all),
            _ => all,
        };
        let excess = public & !(for_all & for_workers);
        for excess in self.excess_drafts(cx, PUBLIC, excess, mask, severity) {
            let is_of_workers = !excess.privileges.intersects(!for_all);
            let mut draft = self.keeping(cx, allowed.permitted, excess);
            if is_of_workers {
                draft.measure.at_most = GuardAction::Warn;
            }
            out.push(draft);
        }
    }

    /// Adds a finding for the privileges in `mask` that PUBLIC has. The roles for which they are
    /// permitted keep them.
    pub(crate) fn report_public(
        &self,
        cx: &Context<'_>,
        permitted: &dyn Fn(&Role) -> Privileges,
        mask: Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let excess = Access::public(&self.acl_or_default());
        for excess in self.excess_drafts(cx, PUBLIC, excess, Mask::Of(mask), severity) {
            out.push(self.keeping(cx, permitted, excess));
        }
    }

    /// Returns a draft about PUBLIC whose fix begins with the grants that keep what is permitted.
    fn keeping(
        &self,
        cx: &Context<'_>,
        permitted: &dyn Fn(&Role) -> Privileges,
        excess: Excess,
    ) -> Draft {
        let Excess { mut draft, privileges } = excess;
        if let Fix::Statements(revoke) = draft.fix {
            draft.fix = Fix::Statements(
                [self.keeping_permitted(cx, permitted, privileges), revoke].concat(),
            );
        }
        draft
    }

    /// Returns the drafts about `excess` privileges of PUBLIC or a role, as far as a rule with this
    /// mask has any.
    fn excess_drafts(
        &self,
        cx: &Context<'_>,
        role: Oid,
        excess: Privileges,
        mask: Mask,
        severity: Severity,
    ) -> impl Iterator<Item = Excess> {
        let (reported, covered) = mask.parts(excess);
        let draft = move |privileges: Privileges, is_covered| {
            (!privileges.is_empty()).then(|| {
                let difference = Difference { role, privileges };
                let draft = self.undeclared_draft(cx, &difference, severity);
                Excess { draft: Draft { is_covered, ..draft }, privileges }
            })
        };
        draft(reported, false).into_iter().chain(draft(covered, true))
    }

    /// Does the same as [`Self::report_beyond`], without PUBLIC.
    pub(crate) fn report_roles(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        permitted: &dyn Fn(&Role) -> Privileges,
        mask: Mask,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        let acl = self.acl_or_default();
        for role in cx.holders(roles, &acl) {
            // What is permitted takes longer to find.
            let held = cx.granted(role, &acl);
            if held.is_empty() {
                continue;
            }
            let excess = held & !permitted(role);
            let drafts = self.excess_drafts(cx, role.oid, excess, mask, severity);
            out.extend(drafts.map(|excess| excess.draft));
            let grantable =
                acl.iter().filter(|item| item.grantee == role.oid && role.oid != self.owner);
            let grantable = grantable.fold(Privileges::NONE, |all, item| all | item.grantable)
                & mask.own()
                & permitted(role);
            if !grantable.is_empty() {
                out.push(
                    self.grant_option_draft(
                        cx,
                        &Difference { role: role.oid, privileges: grantable },
                    ),
                );
            }
        }
    }

    /// Adds information about each of `roles` that has EXECUTE on this routine only because
    /// something declared calls it: the role can call the routine directly as well.
    pub(crate) fn report_needed_execute(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        out: &mut Vec<Draft>,
    ) {
        let ObjectId::Routine(oid) = self.object.id else { return };
        let acl = self.acl_or_default();
        for role in cx.holders(roles, &acl) {
            let held = cx.granted(role, &acl) & Privileges::EXECUTE;
            if held.is_empty() || (held & !declared(role)).is_empty() {
                continue;
            }
            let Some(why) = cx.why_execute(oid, role.oid) else { continue };
            let user = cx.user(why);
            let rest = format!(
                "EXECUTE on {}, which the contract does not declare. It is permitted because \
                 {user} calls the routine, which also lets the role call it directly.",
                self.name
            );
            let draft = self
                .draft(Severity::Info, (role.oid, &role.name), Predicate { verb: Has, rest })
                .key("needed EXECUTE")
                .evidence(json!({
                    "problem": "needed",
                    "privileges": Privileges::EXECUTE.words(),
                    CALLED_BY: self.used_by(cx),
                }))
                .measure(
                    Measure::excess("needed", Privileges::EXECUTE.words())
                        .limited_to(GuardAction::Audit),
                );
            out.push(draft);
        }
    }

    /// Returns the finding about the grant option for a declared privilege.
    fn grant_option_draft(&self, cx: &Context<'_>, difference: &Difference) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let rest = format!(
            "the grant option for {privileges} on {}, which the contract does not declare.",
            self.name
        );
        let revoke = self.revoke_options(cx, role, privileges);
        self.draft(Severity::Error, (role, &name), Predicate { verb: Has, rest })
            .key(format!("grant option {privileges}"))
            .evidence(json!({"problem": "grant option", "privileges": privileges.words()}))
            .fix(Fix::or_proposal(revoke, || self.no_chain(cx, difference)))
            .measure(Measure::excess(self.problem("grant option"), privileges.words()))
    }

    /// Returns the grants that keep permitted privileges of roles when PUBLIC loses them: those of
    /// the declared roles, and of other roles that need them, such as the owner of a view.
    pub(crate) fn keeping_permitted(
        &self,
        cx: &Context<'_>,
        permitted: &dyn Fn(&Role) -> Privileges,
        from_public: Privileges,
    ) -> Vec<Statement> {
        let acl = self.acl_or_default();
        let needing = self.needing_roles(cx);
        let others = needing
            .iter()
            .filter(|role| !cx.is_subject(**role) && **role != self.owner)
            .filter_map(|role| cx.snapshot.role(*role))
            .filter(|role| !role.superuser);
        let mut kept = Vec::new();
        let subjects = self.permitted_subjects(cx, &needing).into_iter();
        for role in subjects.chain(others) {
            let remaining = cx.access.granted(role.oid, &acl) | self.on_table(cx, role);
            let lost = from_public & !remaining;
            let on_object = (permitted(role) | self.needed(cx, role.oid, &needing)) & lost;
            if !on_object.is_empty() {
                kept.push(self.statement(cx, Verb::Keep, on_object, role.oid, false));
            }
            let on_columns = lost & !on_object;
            let columns =
                self.column_grants(cx, (role, Verb::Keep), on_columns, |privilege, column| {
                    self.is_granted_on_column(cx, role, privilege, column)
                });
            kept.extend(columns.into_iter().map(Statement::Acl));
        }
        kept
    }

    /// Returns the subjects for which something may be permitted on the object, in their order:
    /// declared ones, and those among `needing`. Of a thousand, they are few.
    fn permitted_subjects<'c>(&self, cx: &Context<'c>, needing: &[Oid]) -> Vec<&'c Role> {
        let declared = match self.object.id {
            ObjectId::Routine(oid) => cx.snapshot.routine(oid).and_then(|routine| {
                Some(cx.declared_callers(routine, cx.governed(routine.schema)?))
            }),
            // The declarations of a table count for its sequences.
            ObjectId::Relation(_) => self
                .relation(cx)
                .filter(|relation| relation.kind != RelationKind::Sequence)
                .and_then(|of| Some(cx.declared_subjects(of, cx.governed(of.schema)?))),
            _ => None,
        };
        let Some(mut subjects) = declared else { return cx.subjects.clone() };
        let needing: Vec<&Role> =
            cx.subjects.iter().copied().filter(|role| needing.contains(&role.oid)).collect();
        if !needing.is_empty() {
            let wanted: OidSet = subjects.iter().chain(&needing).map(|role| role.oid).collect();
            subjects = cx.subjects.iter().copied().filter(|r| wanted.contains(&r.oid)).collect();
        }
        subjects
    }

    /// Returns the roles that need a privilege on the object, each once.
    fn needing_roles(&self, cx: &Context<'_>) -> Vec<Oid> {
        let mut roles: Vec<Oid> = match self.object.id {
            ObjectId::Routine(oid) => {
                cx.needs().execute(oid).iter().map(|(role, _)| *role).collect()
            }
            ObjectId::Relation(oid) => {
                cx.needs().on_relation(oid).iter().map(|(role, _)| *role).collect()
            }
            ObjectId::Schema(_) => cx.owners_of_code(),
            _ => vec![],
        };
        roles.sort_unstable();
        roles.dedup();
        roles
    }

    /// Returns the privileges that a role needs on the object, or on the column; `needing` are the
    /// roles that need any.
    fn needed(&self, cx: &Context<'_>, role: Oid, needing: &[Oid]) -> Privileges {
        match self.object.id {
            ObjectId::Routine(oid) if cx.why_execute(oid, role).is_some() => Privileges::EXECUTE,
            ObjectId::Relation(oid) => {
                cx.needed_on(oid, role, |column| column == self.columns.first().copied())
            }
            // Their views and SECURITY DEFINER routines may look up names in the schema.
            ObjectId::Schema(_) if needing.contains(&role) => Privileges::USAGE,
            _ => Privileges::NONE,
        }
    }

    /// Whether a role was granted a privilege on a column of this relation, directly or by
    /// inheritance.
    fn is_granted_on_column(
        &self,
        cx: &Context<'_>,
        role: &Role,
        privilege: Privileges,
        column: &str,
    ) -> bool {
        let columns = self.relation(cx).into_iter().flat_map(|relation| &relation.columns);
        let acl = columns.filter(|(name, _)| name == column).map(|(_, acl)| acl).next();
        acl.is_some_and(|acl| cx.access.granted(role.oid, acl).contains(privilege))
    }

    /// Adds a finding for each of `roles` that does not have a declared privilege, neither by
    /// itself nor through PUBLIC or a membership.
    pub(crate) fn report_missing(
        &self,
        cx: &Context<'_>,
        roles: &[&Role],
        declared: &dyn Fn(&Role) -> Privileges,
        severity: Severity,
        out: &mut Vec<Draft>,
    ) {
        for role in roles {
            let declared = declared(role);
            if declared.is_empty() {
                continue;
            }
            let held = cx.access.privileges(role.oid, self.owner, self.acl, self.kind);
            let privileges = declared & !held;
            let is_partial = |one: &Privileges| {
                privileges.contains(*one) && !self.columns_held(cx, role, *one).is_empty()
            };
            let partial: Vec<_> =
                Privileges::EACH_ON_COLUMN.into_iter().filter(is_partial).collect();
            let privileges = partial.iter().fold(privileges, |left, one| left & !*one);
            if !privileges.is_empty() {
                out.push(self.missing_draft(
                    cx,
                    &Difference { role: role.oid, privileges },
                    severity,
                ));
            }
            let on_columns = |one: &Privileges| self.on_columns_draft(cx, role, *one);
            out.extend(partial.iter().map(on_columns));
        }
    }

    /// Returns the finding about a privilege that is declared for the relation, while the role has
    /// it on some columns. That exposes less than the contract declares, and the GRANT on the
    /// relation would open the other columns: a person decides.
    fn on_columns_draft(&self, cx: &Context<'_>, role: &Role, privilege: Privileges) -> Draft {
        let columns = self.columns_held(cx, role, privilege);
        let detail = format!(
            "{} has {privilege} on {} of {} only, while the contract declares it for all columns.",
            role_subject(role.oid, &role.name),
            named_columns(&columns),
            self.name
        );
        let words = privilege.words();
        let grant = self.statement(cx, Verb::Grant, privilege, role.oid, false);
        let declare = self.declare_columns(cx, role, privilege, &columns).map_or_else(
            || format!("Grant {privilege} on all columns"),
            |call| {
                let kind = self.object.object_type;
                format!(
                    "Declare these columns instead of the {kind}:\n{call}\n\
                     Or grant {privilege} on all columns"
                )
            },
        );
        let proposal = format!("{declare}, which opens the other columns to the role:\n{grant}");
        Draft::new(self.object.clone(), Severity::Warning, detail)
            .grantee(role.oid, &role.name)
            .key(format!("on columns {privilege}"))
            .evidence(json!({"problem": "on columns", "privileges": words, "columns": columns}))
            .fix(Fix::Proposal(proposal))
            .measure(Measure::missing("on columns", words).limited_to(GuardAction::Warn))
    }

    /// Returns the call that declares a privilege for columns instead of the relation. `None` where
    /// the role has all privileges on every object of the schema: the statements revoke no part of
    /// them.
    fn declare_columns(
        &self,
        cx: &Context<'_>,
        role: &Role,
        privilege: Privileges,
        columns: &[&str],
    ) -> Option<String> {
        let schema = self.object.schema.as_ref().and_then(|name| cx.contract.schema(name));
        if schema.is_some_and(|schema| schema.all_on_objects.contains(&role.name)) {
            return None;
        }
        let columns: Vec<_> = columns.iter().map(|column| safe_ident(column)).collect();
        let (name, table) = (safe_ident(&role.name), &self.sql);
        Some(cx.tool.declaring(&format!(
            "REVOKE {privilege} ON TABLE {table} FROM {name}; GRANT {privilege} ({}) ON TABLE \
             {table} TO {name}",
            columns.join(", ")
        )))
    }

    /// Adds the finding about a declared privilege on columns that a role does not have.
    pub(crate) fn report_missing_on_columns(
        &self,
        cx: &Context<'_>,
        role: &Role,
        privileges: Privileges,
        out: &mut Vec<Draft>,
    ) {
        let difference = Difference { role: role.oid, privileges };
        out.push(self.missing_draft(cx, &difference, Severity::Error));
    }

    /// Returns the finding about privileges that are not declared.
    pub(crate) fn undeclared_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let (how, through) = self.how_held(cx, difference);
        let used = self.used_by(cx);
        let rest = format!(
            "{privileges} on {}{how}{}.{}",
            self.name,
            self.not_declared(cx, difference),
            called_by(&used)
        );
        // There may be a role whose name is "PUBLIC".
        let to_all = if role == PUBLIC { " to all" } else { "" };
        let column = self.in_parentheses();
        let fix = Fix::or_proposal(self.revoke(cx, difference), || {
            if role == self.owner {
                format!("Change the owner of {}.", self.name)
            } else {
                self.no_chain(cx, difference)
            }
        });
        // CREATE FUNCTION cannot omit the privilege that the server grants to PUBLIC by default.
        let at_most = if role == PUBLIC && self.is_built_in(cx) {
            GuardAction::Warn
        } else {
            GuardAction::Block
        };
        let mut evidence = json!({
            "problem": "undeclared",
            "privileges": privileges.words(),
            "through": through,
            "column": self.columns.first(),
        });
        if !used.is_empty() {
            evidence[CALLED_BY] = used.into();
        }
        self.draft(severity, (role, &name), Predicate { verb: Has, rest })
            .key(format!("undeclared {privileges}{to_all}{column}"))
            .evidence(evidence)
            .fix(fix)
            .measure(
                Measure::excess(self.problem("undeclared"), privileges.words()).limited_to(at_most),
            )
    }

    /// Returns a draft about a grantee. Grantees of which the same is true are one finding about a
    /// routine or relation; other rules refer to the role of a finding about a schema.
    fn draft(&self, severity: Severity, grantee: (Oid, &str), predicate: Predicate) -> Draft {
        let draft = Draft::of_grantee(self.object.clone(), severity, grantee, predicate);
        match self.object.id {
            ObjectId::Routine(_) | ObjectId::Relation(_) => draft,
            _ => Draft { predicate: None, ..draft },
        }
    }

    /// Returns what calls the routine when roles do what the contract declares for them: `policy p
    /// on public.docs as authenticated`.
    fn used_by(&self, cx: &Context<'_>) -> Vec<String> {
        let ObjectId::Routine(oid) = self.object.id else { return vec![] };
        let users = cx.users_of(oid).into_iter();
        users
            .map(|(user, roles)| {
                let roles: Vec<String> =
                    roles.iter().map(|role| format!("\"{}\"", printable(role))).collect();
                format!("{user} as {}", crate::sql::listed(&roles))
            })
            .collect()
    }

    /// Whether the privileges of PUBLIC are those that the server gives to PUBLIC on every new
    /// object of this kind. The first GRANT, or default privileges of the owner, write them into
    /// the ACL. An ACL that contains nothing else is the result of a GRANT to PUBLIC: the server
    /// does not store it for a new object (aclchk.c, `get_user_default_acl`).
    fn is_built_in(&self, cx: &Context<'_>) -> bool {
        let Some(acl) = self.acl else { return true };
        let of_owner = |item: &AclItem| item.grantee == PUBLIC && item.grantor == self.owner;
        let gives_to_public = cx
            .snapshot
            .default_acls
            .iter()
            .find(|d| (d.role, d.schema, d.object_type) == (self.owner, 0, b'f'));
        let built_in = self.kind.default_acl(self.owner);
        self.kind == ObjectKind::Routine
            && acl.iter().any(of_owner)
            && gives_to_public.is_none_or(|d| Access::public(&d.acl).contains(Privileges::EXECUTE))
            && !(acl.len() == built_in.len() && built_in.iter().all(|item| acl.contains(item)))
    }

    /// Returns the clause that says that privileges are not declared, and for which columns they
    /// are.
    fn not_declared(&self, cx: &Context<'_>, difference: &Difference) -> String {
        let role = cx.snapshot.role(difference.role);
        let declared = |one: Privileges| {
            let columns = self.declared_columns(cx, role?, one);
            (!columns.is_empty()).then(|| format!("{one} on {}", named_columns(&columns)))
        };
        let each = Privileges::EACH_ON_COLUMN.into_iter();
        let declared: Vec<String> =
            each.filter(|one| difference.privileges.contains(*one)).filter_map(declared).collect();
        match declared.as_slice() {
            [] => ", which the contract does not declare".to_owned(),
            declared => format!("; the contract declares only {}", listed(declared)),
        }
    }

    /// Returns the privileges of a role on the table, where these are columns.
    fn on_table(&self, cx: &Context<'_>, role: &Role) -> Privileges {
        let table = self.relation(cx).filter(|_| !self.columns.is_empty());
        let acl = table.and_then(|table| table.acl.as_ref());
        acl.map_or(Privileges::NONE, |acl| cx.access.granted(role.oid, acl))
    }

    /// Returns the relation, where this is one or columns of one.
    fn relation<'c>(&self, cx: &Context<'c>) -> Option<&'c Relation> {
        let ObjectId::Relation(oid) = self.object.id else { return None };
        cx.snapshot.relation(oid)
    }

    /// Returns the columns of this relation on which a role may have a privilege that it may not
    /// have on the relation: declared ones, and for SELECT those that something declared reads.
    /// Where this is a column, and any column is sufficient for what is declared: the one that is
    /// permitted for that.
    fn permitted_columns<'c>(
        &self,
        cx: &'c Context<'_>,
        role: &Role,
        privilege: Privileges,
    ) -> Vec<&'c str> {
        let mut columns = self.declared_columns(cx, role, privilege);
        let (Privileges::SELECT, ObjectId::Relation(oid)) = (privilege, self.object.id) else {
            return columns;
        };
        if self.columns.is_empty() {
            for column in cx.needed_columns(oid, role.oid) {
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
        } else {
            let any = cx.needed_any_column(oid, role.oid);
            columns.extend(any.filter(|column| !self.columns.contains(column)));
        }
        columns
    }

    /// Returns the columns of this relation for which the contract declares a privilege for a role,
    /// as far as they exist. None where this is not a whole relation.
    fn declared_columns<'c>(
        &self,
        cx: &Context<'c>,
        role: &Role,
        privilege: Privileges,
    ) -> Vec<&'c str> {
        let relation = self.relation(cx).filter(|_| self.columns.is_empty());
        let declared = relation.and_then(|relation| {
            let grants = cx.column_grants(relation, cx.governed(relation.schema)?, role)?;
            Some((relation, grants.columns(privilege)))
        });
        let Some((relation, declared)) = declared else { return vec![] };
        declared
            .iter()
            .filter(|column| relation.column_names.contains(column))
            .map(String::as_str)
            .collect()
    }

    /// Returns the columns of this relation on which a role has a privilege that it does not have
    /// on the relation.
    fn columns_held<'c>(
        &self,
        cx: &Context<'c>,
        role: &Role,
        privilege: Privileges,
    ) -> Vec<&'c str> {
        let relation = self.relation(cx).filter(|_| self.columns.is_empty());
        let columns = relation.into_iter().flat_map(|relation| &relation.columns);
        let holds =
            |acl: &Acl| cx.access.privileges(role.oid, self.owner, Some(acl), ObjectKind::Column);
        columns
            .filter(|(_, acl)| holds(acl).contains(privilege))
            .map(|(name, _)| name.as_str())
            .collect()
    }

    /// Returns the grants on columns that keep what is permitted for a role on columns of this
    /// relation, when the role loses `privileges` on the relation and, with them, on all of
    /// its columns. `is_kept` returns whether the role keeps a privilege on a column anyway.
    fn column_grants(
        &self,
        cx: &Context<'_>,
        (role, verb): (&Role, Verb),
        privileges: Privileges,
        is_kept: impl Fn(Privileges, &str) -> bool,
    ) -> Vec<AclStatement> {
        let Some(relation) = self.relation(cx) else { return vec![] };
        let lost = Privileges::EACH_ON_COLUMN.into_iter().filter(|one| privileges.contains(*one));
        let grant = |privilege: Privileges| {
            let mut columns = self.permitted_columns(cx, role, privilege);
            columns.retain(|column| !is_kept(privilege, column));
            let of_columns = || Target::of_columns(cx, relation, columns.clone());
            (!columns.is_empty())
                .then(|| of_columns().acl_statement(cx, verb, privilege, role.oid, false))
        };
        lost.filter_map(grant).collect()
    }

    /// Returns the finding about declared privileges that are missing.
    fn missing_draft(
        &self,
        cx: &Context<'_>,
        difference: &Difference,
        severity: Severity,
    ) -> Draft {
        let Difference { role, privileges } = *difference;
        let name = cx.snapshot.role_name(role);
        let rest = format!("{privileges} on {}, which the contract declares.", self.name);
        // A missing privilege can be an outage, but exposes nothing.
        let at_most = GuardAction::Warn;
        let mut evidence = json!({"problem": "missing", "privileges": privileges.words()});
        if !self.columns.is_empty() {
            evidence["columns"] = json!(self.columns);
        }
        let granted = privileges.with_maintain(self.version);
        self.draft(severity, (role, &name), Predicate { verb: Lacks, rest })
            .key(format!("missing {privileges}{}", self.in_parentheses()))
            .evidence(evidence)
            .fix(Fix::by(self.statement(cx, Verb::Grant, granted, role, false)))
            .measure(
                Measure::missing(self.problem("missing"), privileges.words()).limited_to(at_most),
            )
    }

    /// Returns the columns in parentheses, with a space before; nothing where this is the object
    /// itself.
    fn in_parentheses(&self) -> String {
        match self.columns.as_slice() {
            [] => String::new(),
            columns => format!(" ({})", columns.join(", ")),
        }
    }

    /// Returns the kind of problem, with the columns where there are any.
    fn problem(&self, what: &str) -> String {
        format!("{what}{}", self.in_parentheses())
    }

    /// Returns a GRANT or REVOKE by the owner.
    fn statement(
        &self,
        cx: &Context<'_>,
        verb: Verb,
        privileges: Privileges,
        role: Oid,
        cascade: bool,
    ) -> Statement {
        Statement::Acl(self.acl_statement(cx, verb, privileges, role, cascade))
    }

    fn acl_statement(
        &self,
        cx: &Context<'_>,
        verb: Verb,
        privileges: Privileges,
        role: Oid,
        cascade: bool,
    ) -> AclStatement {
        let grantee = Grantee { oid: role, sql: cx.snapshot.grantee(role) };
        AclStatement {
            verb,
            privileges,
            on: self.securable(),
            grantees: vec![grantee],
            cascade,
            then: vec![],
        }
    }

    fn securable(&self) -> Securable {
        let all = match self.kind {
            ObjectKind::Relation => Privileges::all_on_table(self.version),
            ObjectKind::Sequence => Privileges::ALL_ON_SEQUENCE,
            _ => Privileges::NONE,
        };
        Securable {
            id: self.object.id,
            kind: self.kind,
            sql: format!("{} {}", self.keyword, self.sql),
            columns: self.columns.iter().map(|column| (*column).to_owned()).collect(),
            all,
        }
    }

    /// Returns how the role has the privileges, as a clause, and the roles through which it has
    /// them.
    fn how_held(&self, cx: &Context<'_>, difference: &Difference) -> (String, Vec<String>) {
        if difference.role == PUBLIC {
            let how = if self.acl.is_none() { " by default" } else { "" };
            return (how.to_owned(), vec![]);
        }
        if difference.role == self.owner {
            return (" as its owner".to_owned(), vec![]);
        }
        let mut through: Vec<String> = self
            .items(cx, difference)
            .iter()
            .filter(|i| i.grantee != difference.role)
            .map(|i| cx.snapshot.role_name(i.grantee))
            .collect();
        through.sort();
        through.dedup();
        let how = if through.is_empty() {
            String::new()
        } else {
            let mut names: Vec<String> =
                through.iter().take(5).map(|n| format!("\"{}\"", printable(n))).collect();
            if through.len() > names.len() {
                names.push(format!("{} others", through.len() - names.len()));
            }
            format!(" through membership in {}", crate::sql::listed(&names))
        };
        (how, through)
    }

    /// Returns the ACL entries that give the role these privileges.
    fn items(&self, cx: &Context<'_>, difference: &Difference) -> Acl {
        let closure = cx.own_grantees(difference.role);
        let mut items = self.acl_or_default();
        items.retain(|item| {
            // Privileges of PUBLIC are another difference: only PUBLIC's own closure contains it.
            closure.contains(&item.grantee) && item.privileges.intersects(difference.privileges)
        });
        items
    }

    /// Returns the statements that revoke the privileges, or the membership through which the role
    /// has them. `None` where the role owns the object: the next owner is a person's decision.
    fn revoke(&self, cx: &Context<'_>, difference: &Difference) -> Option<Vec<Statement>> {
        if difference.role == self.owner {
            return None;
        }
        let mut statements: Vec<Statement> = Vec::new();
        for item in &self.items(cx, difference) {
            let more = if item.grantee == difference.role {
                vec![self.revoke_item(cx, item, difference.privileges)?]
            } else {
                end_membership(
                    cx,
                    difference.role,
                    cx.access.first_step(difference.role, item.grantee)?,
                )?
            };
            for statement in more {
                if !statements.contains(&statement) {
                    statements.push(statement);
                }
            }
        }
        Some(statements)
    }

    /// Returns the REVOKE of one ACL entry. REVOKE acts for the owner of the object; an entry of
    /// another grantor is revoked together with the grant option of that grantor, which comes from
    /// the owner in one or more steps. `None` where no chain of grants leads to the owner.
    fn revoke_item(
        &self,
        cx: &Context<'_>,
        item: &AclItem,
        privileges: Privileges,
    ) -> Option<Statement> {
        let held = item.privileges & privileges;
        if item.grantor == self.owner {
            let cascade = item.grantable.intersects(privileges);
            let mut revoke = self.acl_statement(cx, Verb::Revoke, held, item.grantee, cascade);
            if let Some(role) = cx.snapshot.role(item.grantee) {
                // REVOKE on the relation revokes the privileges on its columns as well.
                let is_kept = |privilege, column: &str| {
                    !self.columns.is_empty()
                        && self.is_granted_on_column(cx, role, privilege, column)
                };
                revoke.then = self.column_grants(cx, (role, Verb::Grant), held, is_kept);
            }
            return Some(Statement::Acl(revoke));
        }
        let root = self.root_of(cx, item.grantor, held)?;
        Some(self.statement(cx, Verb::RevokeGrantOption, held, root, true))
    }

    /// Returns the statements that revoke the grant options of `role` itself.
    fn revoke_options(
        &self,
        cx: &Context<'_>,
        role: Oid,
        privileges: Privileges,
    ) -> Option<Vec<Statement>> {
        let mut statements: Vec<Statement> = Vec::new();
        for item in self
            .acl_or_default()
            .iter()
            .filter(|item| item.grantee == role && item.grantable.intersects(privileges))
        {
            let options = item.grantable & privileges;
            let from = if item.grantor == self.owner {
                role
            } else {
                self.root_of(cx, item.grantor, options)?
            };
            let statement = self.statement(cx, Verb::RevokeGrantOption, options, from, true);
            if !statements.contains(&statement) {
                statements.push(statement);
            }
        }
        Some(statements)
    }

    /// Returns the role that received the grant option from the owner, at the beginning of the
    /// chain of grants to `grantor`: if it loses the option, all dependent grants are revoked.
    /// `None` where no chain leads to the owner, or where a role in it has the privileges of the
    /// owner anyway (acl.c, `recursive_revoke`).
    fn root_of(&self, cx: &Context<'_>, mut grantor: Oid, privileges: Privileges) -> Option<Oid> {
        let acl = self.acl_or_default();
        for _ in 0..acl.len() {
            if cx.access.has_privileges_of(grantor, self.owner) {
                return None;
            }
            let option =
                acl.iter().find(|i| i.grantee == grantor && i.grantable.intersects(privileges))?;
            if option.grantor == self.owner {
                return Some(grantor);
            }
            grantor = option.grantor;
        }
        None
    }

    /// Returns the proposal for a grant that only its grantor can revoke.
    fn no_chain(&self, cx: &Context<'_>, difference: &Difference) -> String {
        let holds = |i: &&AclItem| {
            i.privileges.intersects(difference.privileges) && i.grantor != self.owner
        };
        let of_role = |i: &AclItem| i.grantee == difference.role;
        let items = self.items(cx, difference);
        let item = items.iter().filter(holds).find(|i| of_role(i)).or(items.iter().find(holds));
        match item {
            Some(item) => format!(
                "Only the grantor, {grantor}, can revoke it: SET ROLE {grantor}; {} RESET ROLE;",
                self.statement(
                    cx,
                    Verb::Revoke,
                    item.privileges & difference.privileges,
                    item.grantee,
                    true
                ),
                grantor = cx.snapshot.grantee(item.grantor)
            ),
            None => format!(
                "Find out through which grant or membership the role has the privilege on {}.",
                self.name
            ),
        }
    }
}

/// Returns the sentence that names the first user of a routine; empty where there is none.
fn called_by(used: &[String]) -> String {
    match used {
        [] => String::new(),
        [one] => format!(" It is called by {one}."),
        [one, others @ ..] => format!(" It is called by {one} and {} more.", others.len()),
    }
}

/// Adds findings for the clients that can read undeclared views of one kind. A view that runs with
/// the privileges of its caller (security_invoker) shows nothing that the caller cannot read
/// directly, and is only information.
pub(crate) fn report_undeclared_readers(
    cx: &Context<'_>,
    kind: RelationKind,
    out: &mut Vec<Draft>,
) {
    for (view, schema) in cx.relations().filter(|(r, _)| r.kind == kind) {
        if cx.contract.view(&schema.name, &view.name).is_some() {
            continue;
        }
        let declared = |role: &Role| cx.declared_on_relation(view, schema, role);
        let severity = if view.security_invoker { Severity::Info } else { Severity::Error };
        let permitted = |role: &Role| cx.permitted_on_relation(view, schema, role);
        Target::of_relation(cx, view).report_beyond(
            cx,
            &cx.clients,
            Allowed { declared: &declared, permitted: &permitted },
            Mask::Of(Privileges::SELECT),
            severity,
            out,
        );
    }
}

/// Returns the `REVOKE role FROM member` statements, one for each grantor since 16, where the
/// server distinguishes grantors. `None` where there is no such grant: a database owner is an
/// implicit member of `pg_database_owner`.
pub(crate) fn end_membership(cx: &Context<'_>, member: Oid, role: Oid) -> Option<Vec<Statement>> {
    let by_member = cx.snapshot.memberships_by_member();
    let places = by_member.get(&member).into_iter().flatten();
    let statements: Vec<Statement> = places
        .map(|place| &cx.snapshot.memberships[*place])
        .filter(|m| m.role == role)
        .map(|m| {
            let by = match cx.snapshot.version {
                ..16 => String::new(),
                _ => format!(" GRANTED BY {}", cx.snapshot.grantee(m.grantor)),
            };
            let cascade = if m.admin { " CASCADE" } else { "" };
            let (role, member) = (cx.snapshot.grantee(role), cx.snapshot.grantee(member));
            Statement::new(
                Change::RevokeMembership(m.clone()),
                format!("REVOKE {role} FROM {member}{by}{cascade};"),
            )
        })
        .collect();
    (!statements.is_empty()).then_some(statements)
}

/// Returns the role as the subject of a sentence.
pub(crate) fn role_subject(role: Oid, name: &str) -> String {
    if role == PUBLIC {
        "PUBLIC (every role)".to_owned()
    } else {
        format!("Role \"{}\"", printable(name))
    }
}

/// Returns the role within a sentence.
pub(crate) fn role_object(role: Oid, name: &str) -> String {
    if role == PUBLIC {
        "PUBLIC (every role)".to_owned()
    } else {
        format!("role \"{}\"", printable(name))
    }
}
