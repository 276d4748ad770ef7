//! The text of a rejection: what violates the contract, why it matters, and what to do next.

use super::calls::{exempt_call, exempt_statement, or_exempt};
use super::change::Regression;
use super::completion::{Cause, CauseKind, Completion};
use super::declared::Declared;
use super::exposed::Exposed;
use super::inherited::Inherited;
use super::loosened::{Loosened, Lost};
use super::opened::{Opened, Opening};
use super::redirected::Redirected;
use super::renamed::missing;
use super::replaced::Replaced;
use super::through::{Changed, Through, Way};
use super::widened::{Reading, Shown};
use crate::catalog::{ObjectId, RelationKind, Role, Routine};
use crate::contract::{Contract, GuardAction, RoleKind};
use crate::declare::{Declaration, Name, PolicyHeader, Target, declare_call, declare_statements};
use crate::finding::Finding;
use crate::fix::{Statement, Verb};
use crate::rule::Rule;
use crate::rules::shared::definer_path::{fix, remedy, required, schema_cause};
use crate::rules::{
    Context, guard_tampered, required_object_missing, schema_create, security_definer_search_path,
    security_definer_settings, stored_settings, table_privileges, undeclared_view_readable,
    view_privileges,
};
use crate::search_path::{Assessment, Exploiter, ReasonCode, Verdict, set_clause};
use crate::sql::{capitalized, listed, printable, quote_literal, safe_ident};
use std::collections::{BTreeSet, HashSet};

/// A violation of the contract by a statement, as an error in PostgreSQL's message style.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The rule that is violated.
    pub rule: &'static Rule,
    /// The identity of the object, as findings name it.
    pub object: String,
    /// Identifies the problem independently of the command: a transaction reports it once.
    pub key: String,
    /// The verdict, where the rejection is about a search_path.
    pub verdict: Option<Verdict>,
    /// The primary message: short, no period.
    pub message: String,
    /// One sentence that states the problem by itself, for lists of several.
    pub problem: String,
    /// DETAIL: what is wrong and why it matters, in full sentences.
    pub detail: String,
    /// HINT: the next command or action.
    pub hint: String,
    /// What to change in the statement itself, where its HINT says that beside something else.
    pub remedy: Option<String>,
    /// The regression, where the rejection is about one.
    pub regression: Option<Regression>,
}

/// How many routines a message names.
const MOST_ROUTINES: usize = 3;

/// How many columns a message names.
const MOST_COLUMNS: usize = 6;

/// How many calls that exempt an object a HINT has.
const MOST_CALLS: usize = 40;

/// How many problems a DETAIL lists.
const MOST_PROBLEMS: usize = 200;

/// How many texts about what to change in the statements themselves a HINT has.
const MOST_TEXTS: usize = 5;

/// How many statements, and how many bytes of them, a HINT has.
const MOST_STATEMENTS: usize = 40;
const LONGEST_STATEMENTS: usize = 6_000;

/// When a transaction is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectedAt {
    /// At the end of a statement.
    Statement,
    /// At commit.
    Commit,
    /// At commit of a statement outside of a transaction block.
    Alone,
}

impl Rejection {
    /// Returns the rejection of a routine's search_path; `tag` is the tag of the command.
    #[must_use]
    pub fn of_routine(
        cx: &Context<'_>,
        routine: &Routine,
        assessment: &Assessment,
        tag: &str,
    ) -> Self {
        let rule = &security_definer_search_path::RULE;
        let kind = routine.object_type();
        let subject = format!("SECURITY DEFINER {kind} {}", cx.snapshot.routine_message(routine));
        let object = cx.snapshot.routine_identity(routine);
        let (message, detail) = if assessment.verdict == Verdict::Safe {
            let canonical = set_clause(&cx.contract.security_definer.search_path);
            (
                format!("{subject} does not have the contract's search_path"),
                format!("Its search_path is safe, but the contract accepts only {canonical}."),
            )
        } else {
            let trap = assessment.trap().map(|trap| format!(" {trap}")).unwrap_or_default();
            (
                format!("{subject} has no safe search_path"),
                format!(
                    "The {kind} would be {}: {}.{trap}",
                    assessment.verdict.as_str(),
                    assessment.describe()
                ),
            )
        };
        Self {
            rule,
            key: object.clone(),
            object,
            verdict: Some(assessment.verdict),
            problem: format!("{message}."),
            message,
            detail: format!("{detail} {}", source(cx.contract, rule)),
            hint: search_path_hint(cx, routine, assessment, tag),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a routine that executes code of types which its callers choose;
    /// `finding` is the audit's, with the severity of the rule.
    #[must_use]
    pub fn of_caller_types(cx: &Context<'_>, routine: &Routine, finding: &Finding) -> Self {
        let rule = finding.rule;
        let message = format!(
            "SECURITY DEFINER {} {} executes {} that its callers choose",
            routine.object_type(),
            cx.snapshot.routine_message(routine),
            if cx.paths.are_cursors_chosen(routine) {
                "the queries of cursors"
            } else {
                "code of types"
            }
        );
        let declare = if cx.paths.are_cursors_chosen(routine) {
            "Open the cursor in the routine before it fetches, or revoke EXECUTE from untrusted \
             roles in the same transaction."
        } else {
            "Declare the argument or the result with a type that the caller does not choose, such \
             as jsonb or text, or revoke EXECUTE from untrusted roles in the same transaction."
        };
        let exempt = exempt_call(finding)
            .map(|call| format!(" If this is intended, exempt it: {call}"))
            .unwrap_or_default();
        Self {
            rule,
            object: finding.object.identity.clone(),
            key: finding.fingerprint.clone(),
            verdict: cx.paths.caller_types(routine).map(|reason| reason.verdict),
            problem: finding.detail.clone(),
            message,
            detail: format!("{} {}", finding.detail, source(cx.contract, rule)),
            hint: format!("{declare}{exempt}"),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a routine's setting that disables a protection.
    #[must_use]
    pub fn of_setting(cx: &Context<'_>, routine: &Routine, name: &str, value: &str) -> Self {
        let rule = &security_definer_settings::RULE;
        let object = cx.snapshot.routine_identity(routine);
        let message = format!(
            "{} sets {name} to \"{}\"",
            security_definer_settings::described(cx, routine),
            printable(value)
        );
        Self {
            rule,
            key: format!("{object} {name}"),
            object,
            verdict: None,
            problem: capitalized(&format!("{message}.")),
            message,
            detail: format!(
                "{} {}",
                security_definer_settings::effect(routine, name),
                source(cx.contract, rule)
            ),
            hint: format!(
                "Omit SET {name}, or run: ALTER ROUTINE {} RESET {name};",
                cx.snapshot.routine_sql(routine)
            ),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a routine that calls of one of the extension's functions could
    /// execute instead; `identity` is the routine's.
    #[must_use]
    pub fn of_impostor(contract: &Contract, identity: &str) -> Self {
        let rule = &guard_tampered::RULE;
        let message = format!(
            "routine {} would conflict with a function of extension dragonfly_guard",
            printable(identity)
        );
        Self {
            rule,
            object: identity.to_owned(),
            key: identity.to_owned(),
            verdict: None,
            problem: format!("{message}."),
            message,
            detail: format!(
                "A call of the extension's function with other argument types could execute this \
                 routine instead, with the privileges of the caller. {}",
                source(contract, rule)
            ),
            hint: "Use another name or another schema.".to_owned(),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a permanent object that depends on a temporary one; `description`
    /// is the permanent object's. `calls_definer`: it calls a temporary SECURITY DEFINER routine.
    #[must_use]
    pub fn of_temporary_dependency(
        contract: &Contract,
        description: &str,
        calls_definer: bool,
    ) -> Self {
        let rule = &required_object_missing::RULE;
        let message = format!("{} depends on a temporary object", printable(description));
        let consequence = if calls_definer {
            "Through it, other sessions would execute a temporary SECURITY DEFINER routine with \
             the privileges of its owner and their own search_path."
        } else {
            "At the end of the session or transaction, the server would drop it, or a policy of \
             it, together with the temporary object, and no event trigger would fire."
        };
        Self {
            rule,
            object: description.to_owned(),
            key: format!("temporary dependency of {description}"),
            verdict: None,
            problem: format!("{message}."),
            message,
            detail: format!("{consequence} {}", source(contract, rule)),
            hint: "Create it without the temporary table, type or function.".to_owned(),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a command that makes unchanged routines unsafe; `None` where
    /// `exposed` is empty.
    #[must_use]
    pub fn of_exposed(cx: &Context<'_>, exposed: &[Exposed<'_>], tag: &str) -> Option<Self> {
        let rule = &security_definer_search_path::RULE;
        let first = exposed.first()?;
        let count = exposed.len();
        let mut names: Vec<String> = exposed
            .iter()
            .take(MOST_ROUTINES)
            .map(|e| cx.snapshot.routine_message(e.routine))
            .collect();
        if count > names.len() {
            names.push(format!("{} others", count - names.len()));
        }
        let names = listed(&names);
        let noun = if count == 1 { "routine" } else { "routines" };
        let message = format!("{tag} would make {count} SECURITY DEFINER {noun} unsafe: {names}");
        Some(Self {
            rule,
            object: cx.snapshot.routine_identity(first.routine),
            key: format!("exposed {names}"),
            verdict: exposed.iter().map(|e| e.assessment.verdict).max(),
            problem: format!("{message}."),
            message,
            detail: format!(
                "{} would be {}: {}. {}",
                cx.snapshot.routine_message(first.routine),
                first.assessment.verdict.as_str(),
                first.assessment.describe(),
                source(cx.contract, rule)
            ),
            hint: exposed_hint(&first.assessment),
            remedy: None,
            regression: None,
        })
    }

    /// Returns the rejection of a policy with which a client can access more rows than before.
    #[must_use]
    pub fn of_opened(cx: &Context<'_>, opened: &Opened<'_>, tag: &str) -> Self {
        let table = cx.snapshot.relation_sql(opened.relation);
        let name = safe_ident(&opened.policy.name);
        let client = printable(&opened.client.name);
        let words: Vec<&str> = opened.commands.iter().map(|c| c.as_str()).collect();
        let words = words.join(", ");
        let rule = opened.rule();
        let (problem, hint) = match opened.how {
            Opening::AlwaysTrue { .. } => (
                format!(
                    "Policy {name} on table {table} allows role \"{client}\" to {words} every \
                     row, because its condition is always true; before, only policies with a \
                     condition allowed it."
                ),
                format!(
                    "Give the policy a condition. If this is intended, declare it first: {}{}",
                    declare_call(&[Declaration::CreatePolicy(header(cx, opened))]),
                    or_exempt(&opened.finding(cx))
                ),
            ),
            Opening::NoLongerRestricted => (
                format!(
                    "Restrictive policy {name} on table {table} no longer restricts role \
                     \"{client}\" in {words}, and no new one does."
                ),
                "If this is not intended, create the policy again AS RESTRICTIVE in the same \
                 transaction."
                    .to_owned(),
            ),
        };
        Self {
            rule,
            object: cx.snapshot.policy_identity(opened.policy, opened.relation),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} opens rows of table {table} to role \"{client}\""),
            detail: format!("{problem} {}", source(cx.contract, rule)),
            problem,
            hint,
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a table that opens its rows to clients through another table.
    #[must_use]
    pub fn of_inherited(cx: &Context<'_>, found: &Inherited<'_>, tag: &str) -> Self {
        let rule = &table_privileges::RULE;
        let [table, parent] =
            [found.child, found.ancestor].map(|relation| cx.snapshot.relation_sql(relation));
        let clients: Vec<String> =
            found.clients.iter().map(|c| format!("\"{}\"", printable(&c.name))).collect();
        let role = if clients.len() == 1 { "role" } else { "roles" };
        let clients = format!("{role} {}", listed(&clients));
        let words: Vec<&str> = found.commands.iter().map(|c| c.as_str()).collect();
        let problem = format!(
            "{} can {} rows of table {table} through table {parent}: privileges and policies of \
             {parent} apply, and not those of {table}.",
            capitalized(&clients),
            listed(&words)
        );
        Self {
            rule,
            object: cx.snapshot.relation_identity(found.child),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} opens rows of table {table} to {clients}"),
            detail: format!("{problem} {}", source(cx.contract, rule)),
            problem,
            hint: "If this is not intended, run ALTER TABLE ... NO INHERIT or DETACH PARTITION in \
                   the same transaction."
                .to_owned(),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a view that shows clients rows of another relation than
    /// before.
    #[must_use]
    pub fn of_shown(cx: &Context<'_>, shown: &Shown<'_>, tag: &str) -> Self {
        let rule = shown.rule();
        let (view, table) =
            (cx.snapshot.relation_sql(shown.view), cx.snapshot.relation_sql(shown.relation));
        let names: Vec<String> =
            shown.clients.iter().map(|role| format!("\"{}\"", printable(&role.name))).collect();
        let noun = if names.len() == 1 { "role" } else { "roles" };
        let clients = listed(&names);
        let why = if shown.is_declared {
            "which the contract does not permit"
        } else {
            "and the contract does not declare that table"
        };
        let problem = format!(
            "View {view} did not read table {table} before: it now shows its rows to {noun} \
             {clients}, {why}."
        );
        let declare = if shown.is_declared || shown.at_most() != GuardAction::Block {
            String::new()
        } else {
            let name =
                Name::new(cx.snapshot.schema_name(shown.relation.schema), &shown.relation.name);
            format!(
                "If this is intended, declare the table first: {}{} ",
                declare_call(&[Declaration::Create(Target::Table(name))]),
                or_exempt(&shown.finding(cx))
            )
        };
        Self {
            rule,
            object: cx.snapshot.relation_identity(shown.view),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} shows rows of table {table} to {noun} {clients}"),
            detail: format!(
                "{problem} The view runs with the privileges of its owner. {}",
                source(cx.contract, rule)
            ),
            problem,
            // With security_invoker, the roles would need SELECT on the table, which they may not
            // have.
            hint: match shown.how {
                Reading::Query => format!(
                    "{declare}{} replace the query of view {view} by one that does not read table \
                     {table}.",
                    if declare.is_empty() { "If this is not intended," } else { "Otherwise" }
                ),
                Reading::Inheritance => format!(
                    "If this is not intended, run ALTER TABLE ... NO INHERIT or DETACH PARTITION \
                     for table {table}."
                ),
            },
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a declared view whose writes change a table by themselves.
    #[must_use]
    pub fn of_redirected(cx: &Context<'_>, redirected: &Redirected<'_>, tag: &str) -> Self {
        let rule = &view_privileges::RULE;
        let [view, table] =
            [redirected.view, redirected.table].map(|relation| cx.snapshot.relation_sql(relation));
        let words: Vec<&str> = redirected.commands.iter().map(|c| c.as_str()).collect();
        let (words, clients) = (listed(&words), named_roles(&redirected.clients));
        let owner = cx.snapshot.role(redirected.view.owner).map_or("", |role| &role.name);
        let problem = format!(
            "{words} of {clients} on view {view} now changes table {table} with the privileges of \
             role \"{}\", which owns the view: no INSTEAD OF trigger and no rule replaces it.",
            printable(owner)
        );
        Self {
            rule,
            object: cx.snapshot.relation_identity(redirected.view),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} lets {clients} change table {table} through view {view}"),
            detail: format!(
                "{problem} Row security of the table applies as to that role. {}",
                source(cx.contract, rule)
            ),
            problem,
            hint: format!(
                "If this is not intended, create the INSTEAD OF trigger or the rule again. \
                 Otherwise revoke {words} on view {view} from {clients}."
            ),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of what changes about an access through a declared view or routine.
    #[must_use]
    pub fn of_through(cx: &Context<'_>, through: &Through<'_>, tag: &str) -> Self {
        let rule = through.rule();
        let Through { relation, role, .. } = *through;
        let (way, object) = match through.way {
            Way::View(view) => {
                (format!("view {}", cx.snapshot.relation_sql(view)), cx.relation_object(view))
            }
            Way::Routine(routine) => (
                format!("{} {}", routine.object_type(), cx.snapshot.routine_message(routine)),
                cx.routine_object(routine),
            ),
        };
        let target =
            format!("{} {}", relation.kind.object_type(), cx.snapshot.relation_sql(relation));
        let role = format!("role \"{}\"", printable(&role.name));
        let users = named_roles(&through.users);
        let (message, problem) = match &through.changed {
            Changed::Denied(missing) => (
                format!("{tag} ends access of {users} through {way}"),
                format!(
                    "{} needs {missing} on {target} as {role}, which does not have it: access \
                     that the contract declares fails.",
                    capitalized(&way)
                ),
            ),
            Changed::Hidden => (
                format!("{tag} hides rows of {target} from {users} in {way}"),
                format!(
                    "{} reads {target} as {role}, for which row security of the table applies now \
                     and no policy allows any row.",
                    capitalized(&way)
                ),
            ),
            Changed::Shown => (
                format!("{tag} shows rows of {target} to {users} through {way}"),
                format!(
                    "{} reads {target} as {role}, which row security of the table does not \
                     restrict. It shows {users} rows that it did not show before.",
                    capitalized(&way)
                ),
            ),
        };
        Self {
            rule,
            object: object.identity,
            key: problem.clone(),
            verdict: None,
            message,
            detail: format!("{problem} {}", source(cx.contract, rule)),
            problem,
            hint: through_hint(cx, through),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a declared view that loses an option that clients depend on.
    #[must_use]
    pub fn of_loosened(cx: &Context<'_>, loosened: &Loosened<'_>, tag: &str) -> Self {
        let rule = &view_privileges::RULE;
        let view = cx.snapshot.relation_sql(loosened.view);
        let clients = named_roles(&loosened.clients);
        let (option, problem) = match loosened.lost {
            Lost::SecurityBarrier => (
                "security_barrier",
                format!(
                    "View {view} no longer has the option security_barrier: functions that \
                     {clients} can use in a query may see rows that the condition of the view \
                     excludes."
                ),
            ),
            Lost::CheckOption(_) => (
                "WITH CHECK OPTION",
                format!(
                    "View {view} no longer has the WITH CHECK OPTION that it had: {clients} can \
                     write rows that the condition of the view excludes."
                ),
            ),
        };
        Self {
            rule,
            object: cx.snapshot.relation_identity(loosened.view),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} removes {option} from view {view}, which {clients} can use"),
            detail: format!("{problem} {}", source(cx.contract, rule)),
            problem,
            hint: format!("If this is not intended, run: {}", loosened.restore(cx)),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of a declared view that another one has replaced.
    #[must_use]
    pub fn of_replaced(cx: &Context<'_>, replaced: &Replaced<'_>, tag: &str) -> Self {
        let rule = &required_object_missing::RULE;
        let view = cx.snapshot.relation_sql(replaced.view);
        let mut columns: Vec<String> = replaced.earlier.column_names.iter().cloned().collect();
        if let Some(more) = columns.len().checked_sub(MOST_COLUMNS).filter(|more| *more > 0) {
            columns.truncate(MOST_COLUMNS);
            columns.push(format!("{more} others"));
        }
        let columns: Vec<String> = columns.iter().map(|name| printable(name).into()).collect();
        let problem = format!(
            "View {view}, which the contract declares, has none of the columns that it had before: \
             {}.",
            listed(&columns)
        );
        Self {
            rule,
            object: cx.snapshot.relation_identity(replaced.view),
            key: problem.clone(),
            verdict: None,
            message: format!("{tag} replaces view {view} by another one"),
            detail: format!(
                "{problem} Clients that read them would get errors. {}",
                source(cx.contract, rule)
            ),
            problem,
            hint: format!(
                "Create the view with the columns that its clients read. If this is intended, \
                 remove the view from the contract first: {}{}",
                declare_call(&[Declaration::Drop(Target::View(Name::new(
                    cx.snapshot.schema_name(replaced.view.schema),
                    &replaced.view.name
                )))]),
                or_exempt(&replaced.finding(cx))
            ),
            remedy: None,
            regression: None,
        }
    }

    /// Returns the rejection of any other regression.
    #[must_use]
    pub fn of_regression(contract: &Contract, regression: &Regression, tag: &str) -> Self {
        let finding = &regression.finding;
        let (rule, object) = (finding.rule, &finding.object);
        let remedy = loses_invoker(regression).then(|| remedy_for_invoker(tag)).flatten();
        Self {
            rule,
            object: object.identity.clone(),
            key: finding.fingerprint.clone(),
            verdict: None,
            message: format!(
                "{tag} violates the security contract: {} on {} {}",
                rule.id,
                object.type_in_message(),
                printable(&object.identity)
            ),
            problem: finding.detail.clone(),
            detail: format!("{} {} {}", finding.detail, rule.why, source(contract, rule)),
            hint: joined(
                &remedy.iter().cloned().chain([regression_hint(regression)]).collect::<Vec<_>>(),
            ),
            remedy,
            regression: Some(regression.clone()),
        }
    }

    /// Says that the privileges of a regression were permitted, because something declared needed
    /// them until now, and how to revoke them.
    pub fn left_behind(&mut self, regression: &Regression) {
        self.message = self.message.replacen(
            "violates the security contract",
            "leaves a privilege that nothing declared needs",
            1,
        );
        let revoke = regression.finding.fix.sql();
        self.remedy = revoke.map(|sql| format!("If it is needed no longer, revoke it: {sql}"));
        self.hint = self.executed_hint(regression, Allowing::Unknown);
    }

    /// Sets the HINT of a warning, after the statement has been executed: how to declare it, and
    /// how to revert it. `declared`: what a contract would say that allows it.
    pub fn executed(&mut self, declared: &[Declared]) {
        if let Some(regression) = self.regression.take() {
            if !is_about_guard(&regression) {
                self.hint = self.executed_hint(&regression, Allowing::Known(declared));
            }
            self.regression = Some(regression);
        }
    }

    fn executed_hint(&self, regression: &Regression, declared: Allowing<'_>) -> String {
        let mut parts: Vec<String> = self.remedy.iter().cloned().collect();
        let intended = intended(std::iter::once(regression), &[]);
        if !intended.is_empty() && !is_by_default(regression) {
            parts.push(accept_hint(&intended, Read::Executed, declared));
        }
        if regression.can_be_completed {
            let run = if parts.is_empty() { "Run" } else { "Otherwise run" };
            parts.push(regression.finding.fix.sql().map_or_else(
                || regression.finding.rule.fix.to_owned(),
                |sql| format!("{run}: {}", sql.replace('\n', " ")),
            ));
        }
        joined(&parts)
    }
}

/// Returns the header of a policy that opens rows to a client.
fn header(cx: &Context<'_>, opened: &Opened<'_>) -> PolicyHeader {
    let relation = opened.relation;
    PolicyHeader {
        name: opened.policy.name.clone(),
        table: Name::new(cx.snapshot.schema_name(relation.schema), &relation.name),
        commands: opened.commands.clone(),
        roles: vec![opened.client.name.clone()],
        all_rows: opened.commands.clone(),
    }
}

/// Returns roles in a sentence: `role "a"`, `roles "a" and "b"`.
fn named_roles(roles: &[&Role]) -> String {
    let names: Vec<String> =
        roles.iter().map(|role| format!("\"{}\"", printable(&role.name))).collect();
    format!("{} {}", if names.len() == 1 { "role" } else { "roles" }, listed(&names))
}

/// Returns the statement that reverts what changes about an access through a view or routine.
fn through_hint(cx: &Context<'_>, through: &Through<'_>) -> String {
    let Through { relation, role, earlier, .. } = *through;
    let (table, name) = (cx.snapshot.relation_sql(relation), safe_ident(&role.name));
    let is_of_owner = cx.access.has_privileges_of(role.oid, relation.owner);
    let of_view = match through.way {
        Way::View(view) => {
            let view_sql = cx.snapshot.relation_sql(view);
            if view.security_invoker && cx.is_subject(role.oid) {
                Some(format!("ALTER VIEW {view_sql} SET (security_invoker = false);"))
            } else {
                let earlier = earlier.filter(|earlier| earlier.oid != role.oid);
                earlier.map(|earlier| {
                    // A view that ran as its users had the option; they never owned it.
                    let ran_as_user = through.users.iter().any(|user| user.oid == earlier.oid);
                    if ran_as_user {
                        format!("ALTER VIEW {view_sql} SET (security_invoker = true);")
                    } else {
                        format!("ALTER VIEW {view_sql} OWNER TO {};", safe_ident(&earlier.name))
                    }
                })
            }
        }
        Way::Routine(_) => None,
    };
    let revert = match &through.changed {
        Changed::Denied(missing) => of_view.or_else(|| {
            let object = if relation.kind == RelationKind::Sequence { "SEQUENCE" } else { "TABLE" };
            Some(format!("GRANT {missing} ON {object} {table} TO {name};"))
        }),
        Changed::Hidden => of_view.or_else(|| {
            let no_force = format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;");
            (relation.force_row_security && is_of_owner).then_some(no_force)
        }),
        Changed::Shown if cx.access.is_superuser(role.oid) => {
            of_view.or_else(|| Some(format!("ALTER ROLE {name} NOSUPERUSER;")))
        }
        Changed::Shown if cx.access.bypasses_row_security(role.oid) => {
            of_view.or_else(|| Some(format!("ALTER ROLE {name} NOBYPASSRLS;")))
        }
        Changed::Shown => {
            is_of_owner.then(|| format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY;"))
        }
    };
    match revert {
        Some(sql) => format!("If this is not intended, run: {sql}"),
        None => format!(
            "If this is not intended, create a policy on table {table} for role \"{}\".",
            printable(&role.name)
        ),
    }
}

/// Merges the rejections of one command or transaction into the first one: `blocked`, and those
/// that would only be `warned` about. Where there are several, its DETAIL lists each of them in a
/// line, after the lines about their causes. Its HINT covers all of them. `None` where nothing is
/// blocked.
#[must_use]
pub fn merged(
    contract: &Contract,
    blocked: Vec<Rejection>,
    warned: Vec<Rejection>,
    completion: &Completion,
    at: RejectedAt,
) -> Option<Rejection> {
    let hint = merged_hint(&blocked, &warned, completion, at);
    let detail = merged_detail(contract, &blocked, &warned, completion);
    let first = blocked.into_iter().next()?;
    Some(Rejection { detail, hint, ..first })
}

fn merged_detail(
    contract: &Contract,
    blocked: &[Rejection],
    warned: &[Rejection],
    completion: &Completion,
) -> String {
    let mut lines: Vec<String> = completion.causes.iter().map(|c| c.problem.clone()).collect();
    let causes = lines.len();
    let mut known: HashSet<&str> = HashSet::new();
    for (place, rejection) in blocked.iter().chain(warned).enumerate() {
        if !known.insert(&rejection.problem) {
            continue;
        }
        if place == 0 {
            lines.push(rejection.detail.clone());
        } else {
            lines.push(format!("{} {}", rejection.problem, source(contract, rejection.rule)));
        }
    }
    let most = causes + MOST_PROBLEMS;
    if lines.len() > most {
        let more = format!("And {} more.", lines.len() - most);
        lines.truncate(most);
        lines.push(more);
    }
    lines.join("\n")
}

/// Returns the HINT for all rejections: what to change in the statements themselves, how to accept
/// what may be intended, and last the statements that complete the transaction.
fn merged_hint(
    blocked: &[Rejection],
    warned: &[Rejection],
    completion: &Completion,
    at: RejectedAt,
) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |part: String| {
        if !parts.contains(&part) {
            parts.push(part);
        }
    };
    let texts = blocked.iter().filter(|r| r.regression.is_none()).map(|r| r.hint.clone());
    texts.take(MOST_TEXTS).for_each(&mut add);
    blocked.iter().filter_map(|r| r.remedy.clone()).for_each(&mut add);
    let all = || blocked.iter().filter_map(|r| r.regression.as_ref());
    if all().any(is_about_guard) {
        add(RUN_ANYWAY.to_owned());
    }
    let regressions = || all().filter(|r| !is_about_guard(r));
    let moved: Vec<&str> = completion.causes.iter().filter_map(new_name).collect();
    let mut intended = intended(regressions(), &completion.causes);
    if blocked.iter().any(is_about_path) {
        // The statement would still be rejected.
        intended.retain(|r| *r.finding.rule != schema_create::RULE);
    }
    if !intended.is_empty() {
        let read = if at == RejectedAt::Statement { Read::AtStatement } else { Read::AtCommit };
        add(accept_hint(&intended, read, Allowing::Known(&completion.declared)));
    }
    if !moved.is_empty() {
        let causes = completion.causes.iter().filter(|cause| new_name(cause).is_some());
        let mut declares: Vec<&str> = causes.map(|cause| cause.declares.as_str()).collect();
        declares.sort_unstable();
        declares.dedup();
        let moved: BTreeSet<&str> = moved.iter().copied().collect();
        add(format!(
            "If {} is meant to keep what is declared, declare the new name first: {}",
            listed(&moved.into_iter().collect::<Vec<_>>()),
            declare_statements(&declares.join("; "))
        ));
    }
    let schemas: Vec<&Cause> =
        completion.causes.iter().filter(|cause| cause.is_renamed_schema()).collect();
    for cause in &schemas {
        if let CauseKind::RenamedSchema(now) = &cause.kind {
            add(format!(
                "If {now} is meant to keep this name, declare that first: {}",
                declare_statements(&cause.declares)
            ));
        }
    }
    let is_covered = |r: &&Regression| {
        is_gone(r) && (!moved.is_empty() || completion.declared.iter().any(|d| d.covers(&[r])))
    };
    let is_left = |r: &&Regression| {
        r.can_be_completed && !completion.fixes.contains(&r.finding.fingerprint) && !is_covered(r)
    };
    regressions().filter(is_left).map(|r| r.finding.rule.fix.to_owned()).for_each(add);
    let is_first = intended.is_empty() && moved.is_empty() && schemas.is_empty();
    if !completion.statements.is_empty() || schemas.iter().any(|c| !c.statements.is_empty()) {
        let run = if is_first { "Run" } else { "Otherwise run" };
        let regressions = || blocked.iter().chain(warned).filter_map(|r| r.regression.as_ref());
        parts.push(run_hint(run, regressions(), completion, at));
    }
    joined(&parts)
}

/// Whether a rejection is about the search_path of routines, which no declaration and no exemption
/// allows before the statement.
fn is_about_path(rejection: &Rejection) -> bool {
    *rejection.rule == security_definer_search_path::RULE && rejection.regression.is_none()
}

/// Returns the regressions that may be intended: what they are about can be declared or exempted.
/// Those that are explained by another name of something are not among them.
#[must_use]
pub fn intended<'r>(
    regressions: impl Iterator<Item = &'r Regression> + Clone,
    causes: &[Cause],
) -> Vec<&'r Regression> {
    let is_moved = |r: &&Regression| {
        let explains = |c: &&Cause| c.findings.contains(&r.finding.fingerprint);
        let moves = |c: &&Cause| new_name(c).is_some() || c.is_renamed_schema();
        causes.iter().filter(moves).any(|c| explains(&c))
    };
    let about_rows = regressions.filter(|r| !is_about_guard(r) && !is_moved(r));
    if !about_rows.clone().any(may_be_intended) {
        return vec![];
    }
    // An exemption of the privileges leaves what is reported with them.
    about_rows.filter(|r| !r.is_missing || r.existed || is_gone(r)).collect()
}

/// Whether the server has granted what a regression is about, as it does on every new routine.
#[must_use]
pub fn is_by_default(regression: &Regression) -> bool {
    let finding = &regression.finding;
    regression.action == GuardAction::Warn
        && !regression.existed
        && matches!(finding.object.id, ObjectId::Routine(_))
        && finding.role() == Some("PUBLIC")
}

/// Whether something that the contract declares no longer exists.
fn is_gone(regression: &Regression) -> bool {
    missing(regression).is_some()
}

/// Joins the parts of a HINT: with a space, or with a newline after a part of several lines.
fn joined(parts: &[String]) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            let is_long = text.lines().nth(1).is_some();
            text.push(if is_long { '\n' } else { ' ' });
        }
        text += part;
    }
    text
}

/// Returns the new identity of a relation that has another name than before, if that is the cause.
fn new_name(cause: &Cause) -> Option<&str> {
    if let CauseKind::Renamed(now) = &cause.kind { Some(now) } else { None }
}

/// Whether someone may want what a regression is about: an existing object allows more, or a
/// privilege on a new object, which a statement or default privileges have granted.
fn may_be_intended(regression: &Regression) -> bool {
    let is_revoke = |statement: &Statement| match statement {
        Statement::Acl(acl) => acl.verb == Verb::Revoke,
        Statement::Ddl(_) => false,
    };
    !regression.can_be_completed
        || is_gone(regression)
        || regression.is_missing && regression.existed
        || !regression.is_missing && regression.finding.fix.statements().iter().any(is_revoke)
}

/// Returns the statements of a completion, or the command that lists them where they are too long
/// for a HINT. The statements that remove a cause come last.
fn run_hint<'r>(
    run: &str,
    regressions: impl Iterator<Item = &'r Regression>,
    completion: &Completion,
    at: RejectedAt,
) -> String {
    let causes = || completion.causes.iter().flat_map(|cause| &cause.statements);
    let statements: Vec<&str> =
        completion.statements.iter().chain(causes()).map(String::as_str).collect();
    let length: usize = statements.iter().map(|sql| sql.len() + 1).sum();
    if statements.len() > MOST_STATEMENTS || length > LONGEST_STATEMENTS {
        return many_statements_hint(run, regressions, completion);
    }
    if at == RejectedAt::Alone {
        let statements = statements.join("\n");
        return format!("{run} BEGIN; before the statement, and after it:\n{statements}\nCOMMIT;");
    }
    let separator = if statements.len() == 1 { " " } else { "\n" };
    format!("{run} in the same transaction:{separator}{}", statements.join("\n"))
}

fn many_statements_hint<'r>(
    run: &str,
    regressions: impl Iterator<Item = &'r Regression>,
    completion: &Completion,
) -> String {
    let schemas: BTreeSet<&str> =
        regressions.filter_map(|r| r.finding.object.schema.as_deref()).collect();
    let schemas: Vec<String> = schemas.into_iter().map(quote_literal).collect();
    let statements = match completion.statements.len() {
        1 => "statement".to_owned(),
        n => format!("{n} statements"),
    };
    let mut hint = format!(
        "{run} in the same transaction the {statements} that this query lists before COMMIT:\n\
         SELECT statement FROM ops.golden_sql(schemas => ARRAY[{}]::name[]);",
        schemas.join(", ")
    );
    let causes: Vec<&str> = completion
        .causes
        .iter()
        .flat_map(|cause| &cause.statements)
        .take(MOST_STATEMENTS)
        .map(String::as_str)
        .collect();
    if !causes.is_empty() {
        hint += &format!("\nTo remove the cause, run:\n{}", causes.join("\n"));
    }
    hint
}

/// Whether a regression is that a view no longer has the option security_invoker.
fn loses_invoker(regression: &Regression) -> bool {
    let finding = &regression.finding;
    // The other findings of the rule are about roles.
    *finding.rule == view_privileges::RULE && finding.roles.is_empty()
        || *finding.rule == undeclared_view_readable::RULE && !regression.can_be_completed
}

/// Returns what to change in a statement that removes security_invoker from a view without naming
/// it.
fn remedy_for_invoker(tag: &str) -> Option<String> {
    (tag == "CREATE VIEW").then(|| {
        "CREATE OR REPLACE VIEW removes the options that it does not repeat: add WITH \
         (security_invoker = true)."
            .to_owned()
    })
}

/// Returns where the rule is declared.
fn source(contract: &Contract, rule: &Rule) -> String {
    format!("Rule {}, {}.", rule.id, contract.source_of(rule.id))
}

/// Whether a regression is about the guard itself, which is neither declared nor exempted.
fn is_about_guard(regression: &Regression) -> bool {
    *regression.finding.rule == guard_tampered::RULE
}

/// The HINT about a statement that would disable the guard or change its objects.
pub const RUN_ANYWAY: &str = "To run the statement anyway, run SET dragonfly_guard.mode = off; \
                              first, as a superuser. The server log records it.";

/// Returns the HINT of a warning, or of a log entry: the statement has been executed.
fn regression_hint(regression: &Regression) -> String {
    let finding = &regression.finding;
    if is_about_guard(regression) {
        return RUN_ANYWAY.to_owned();
    }
    if regression.can_be_completed {
        return finding.fix.sql().map_or_else(
            || finding.rule.fix.to_owned(),
            |sql| format!("Run: {}", sql.replace('\n', " ")),
        );
    }
    accept_hint(&[regression], Read::AtStatement, Allowing::Unknown)
}

/// What is known about declarations under which a contract would allow regressions.
#[derive(Clone, Copy)]
enum Allowing<'d> {
    /// It has not been tried.
    Unknown,
    /// These; or none.
    Known(&'d [Declared]),
}

/// When a HINT is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// The statement has just been rejected, and a later one may still have reverted it.
    AtStatement,
    /// The transaction has been rejected.
    AtCommit,
    /// The statement has been executed.
    Executed,
}

/// Returns how regressions can be declared or exempted. `declared`: what a contract would say that
/// allows them, where it is known.
fn accept_hint(regressions: &[&Regression], read: Read, declared: Allowing<'_>) -> String {
    let first = if read == Read::Executed { "" } else { " first" };
    let (declare, calls) = match declared {
        Allowing::Known(declared) => {
            let declared = declared.iter().find(|declared| declared.covers(regressions));
            (declared.is_some(), declared.and_then(|one| one.calls(read == Read::Executed)))
        }
        // A contract does not declare settings.
        Allowing::Unknown => {
            (regressions.iter().any(|r| r.finding.rule != &stored_settings::RULE), None)
        }
    };
    let are_about_public = || regressions.iter().any(|r| r.finding.role() == Some("PUBLIC"));
    // What is missing or new is declared, or reverted by the rest of the HINT.
    let exempt = if regressions.iter().any(|r| r.is_missing || r.can_be_completed) {
        String::new()
    } else {
        exempt_calls(regressions)
    };
    let mut hint = match calls {
        Some(calls) if exempt.is_empty() => {
            format!("If this is intended, declare it{first}: {calls}")
        }
        Some(calls) => {
            format!("If this is intended, declare it{first}: {calls} Or exempt {exempt}")
        }
        None => {
            let exempt = exempt_calls(regressions);
            let declare = match declare {
                true if are_about_public() => format!(
                    "grant to roles instead of PUBLIC, which a contract does not declare, and \
                     declare these grants with ops.declare(){first}, or "
                ),
                true => format!("declare it with ops.declare(){first}, or "),
                false => String::new(),
            };
            match exempt.as_str() {
                "" => format!("If this is intended, {declare}exempt it with ops.exempt()."),
                calls => format!("If this is intended, {declare}exempt {calls}"),
            }
        }
    };
    if read == Read::AtStatement && regressions.iter().any(|r| r.settled) {
        let later = "If a later statement of the transaction reverts it, run SET LOCAL \
                     dragonfly_guard.check_at = commit first.";
        hint = joined(&[hint, later.to_owned()]);
    }
    hint
}

/// Returns the calls that exempt regressions, after the word "exempt"; the empty text where one of
/// them cannot be exempted by a call.
fn exempt_calls(regressions: &[&Regression]) -> String {
    let calls: Option<BTreeSet<String>> =
        regressions.iter().map(|regression| exempt_statement(regression)).collect();
    let calls: Vec<String> = calls.into_iter().flatten().collect();
    match calls.as_slice() {
        [] => String::new(),
        [call] => format!("it: {call}"),
        some if some.len() <= MOST_CALLS => format!("it:\n{}", calls.join("\n")),
        _ => "each object with ops.exempt().".to_owned(),
    }
}

fn exposed_hint(assessment: &Assessment) -> String {
    let reason = assessment.reasons.first();
    match reason.map(|r| (r.code, r.schema.as_deref(), r.role.as_ref())) {
        Some((ReasonCode::Writable | ReasonCode::ForeignObjects, Some(schema), Some(role))) => {
            let role = match role {
                Exploiter::Public => "PUBLIC".to_owned(),
                Exploiter::Role(name) => format!("role \"{}\"", printable(name)),
            };
            if schema == "pg_catalog" {
                return format!(
                    "Use another schema for {role}: every routine searches schema \"pg_catalog\"."
                );
            }
            format!(
                "Use another schema for {role}, or remove schema \"{}\" from the search_path of \
                 these routines first.",
                printable(schema)
            )
        }
        Some((ReasonCode::MissingSchema, ..)) => {
            "Change the search_path of these routines in the same transaction, or leave the schema \
             unchanged."
                .to_owned()
        }
        _ => "Remove the schema from the search_path of these routines first, or leave the schema \
              unchanged."
            .to_owned(),
    }
}

fn search_path_hint(
    cx: &Context<'_>,
    routine: &Routine,
    assessment: &Assessment,
    tag: &str,
) -> String {
    // REVOKE on the schema fixes this routine and all others that search the schema.
    if let Some(revoke) = schema_cause(cx, assessment) {
        return format!("The cause is the schema, not the routine. Run: {revoke}");
    }
    let extension = cx.snapshot.routine_extension.get(&routine.oid);
    if let Some((name, _)) = extension.and_then(|oid| cx.snapshot.extensions.get(oid)) {
        return format!(
            "The script of extension \"{}\" creates it. If you trust the extension, add it to \
             managed.extensions in the contract.",
            printable(name)
        );
    }
    let kind = routine.object_type();
    let Some(remedy) =
        required(cx, routine, assessment).or_else(|| remedy(cx, routine, assessment))
    else {
        return format!(
            "No search_path is safe while untrusted roles own objects in its schemas. Drop these \
             objects, or change the owner of the {kind}."
        );
    };
    let clause = format!("SET search_path = {}", set_clause(&remedy.path));
    let qualify = if remedy.lost.is_empty() {
        String::new()
    } else {
        format!(
            " Along it, the body or what it calls would not find {}: write these names with their \
             schemas.",
            remedy.describe_lost(cx)
        )
    };
    if let Some((owner, path)) = better_owner(cx, routine) {
        return format!(
            "A superuser's {kind} must not search schemas in which other roles can create \
             objects. Create it as role \"{}\" with SET search_path = {}, or use \
             {clause}.{qualify} \
             To restore a dump, run SET dragonfly_guard.mode = warn; and audit the database \
             afterwards.",
            printable(&owner),
            set_clause(&path)
        );
    }
    if alters_routine(tag) {
        match fix(cx, routine, assessment).sql() {
            Some(statement) => {
                format!("Set a safe search_path in the same statement or before it: {statement}")
            }
            None => format!("Set a safe search_path in the same statement: {clause}.{qualify}"),
        }
    } else {
        format!("Create the {kind} with SECURITY DEFINER {clause}.{qualify}")
    }
}

/// Returns the owner role of the contract under which the routine could have a safe search_path
/// with the schemas that it needs, and this path; `None` unless the routine is a superuser's and
/// the contract's path is not safe for that superuser.
fn better_owner(cx: &Context<'_>, routine: &Routine) -> Option<(String, Vec<String>)> {
    let path = &cx.contract.security_definer.search_path;
    let is_safe = |owner| cx.paths.names(path, owner).verdict == Verdict::Safe;
    if !cx.access.is_superuser(routine.owner) || is_safe(routine.owner) {
        return None;
    }
    let owner = cx
        .contract
        .roles_of(RoleKind::Owner)
        .filter_map(|name| cx.snapshot.role_named(name))
        .find(|owner| !owner.superuser && is_safe(owner.oid))?;
    let assessment = cx.paths.config(&routine.config, owner.oid);
    let moved = Routine { owner: owner.oid, ..routine.clone() };
    let remedy = required(cx, &moved, &assessment).or_else(|| remedy(cx, &moved, &assessment))?;
    Some((owner.name.clone(), remedy.path))
}

/// Whether the command is ALTER FUNCTION, ALTER PROCEDURE or ALTER ROUTINE, which can contain the
/// SET clause.
fn alters_routine(tag: &str) -> bool {
    matches!(tag, "ALTER FUNCTION" | "ALTER PROCEDURE" | "ALTER ROUTINE")
}

#[cfg(test)]
mod tests {
    use super::super::change::Change;
    use super::*;
    use crate::access::Access;
    use crate::catalog::Privileges;
    use crate::rules::testing::World;

    fn reject(before: &World, after: &World, rule: &'static Rule, tag: &str) -> Rejection {
        let (old, new) = (before.snapshot.clone().complete(), after.snapshot.clone().complete());
        let (old_access, new_access) = (Access::new(&old), Access::new(&new));
        let old = Context::new(&before.contract, &old, &old_access, &|| {});
        let new = Context::new(&after.contract, &new, &new_access, &|| {});
        let regressions = Change::new(&old, &new).regressions(rule);
        Rejection::of_regression(&after.contract, &regressions[0], tag)
    }

    #[test]
    fn rejected_grant_names_rule_object_reason_and_next_action() {
        let (before, mut after) = (World::conforming(), World::conforming());
        let anon = after.role("anon").oid;
        after.grant("public.judgments", anon, Privileges::SELECT);
        let rule = &crate::rules::table_privileges::RULE;
        let rejection = reject(&before, &after, rule, "GRANT");
        assert_eq!(
            rejection.message,
            "GRANT violates the security contract: table_privileges on table public.judgments"
        );
        assert_eq!(
            rejection.detail,
            format!(
                "Role \"anon\" has SELECT on table public.judgments, which the contract does not \
                 declare. {} Rule table_privileges, contract dragonfly_civil 1.0.0, section 2.",
                rule.why
            )
        );
        assert_eq!(
            rejection.hint,
            "If this is intended, declare it with ops.declare() first, or exempt it: SELECT \
             ops.exempt(rule => 'table_privileges', object => 'public.judgments', reason => '...', \
             expires_at => now() + interval '30 days'); If a later statement of the transaction \
             reverts it, run SET LOCAL dragonfly_guard.check_at = commit first."
        );
    }

    #[test]
    fn rejected_drop_hints_at_the_statement_that_completes_it() {
        let (before, mut after) = (World::conforming(), World::conforming());
        after.snapshot.relations.retain(|r| r.name != "v_rls_coverage");
        let rejection = reject(&before, &after, &required_object_missing::RULE, "DROP VIEW");
        assert_eq!(
            rejection.hint,
            "Run: CREATE VIEW ops.v_rls_coverage AS SELECT * FROM \
             ops.rls_coverage();"
        );
        let mut after = World::conforming();
        after.snapshot.relations.retain(|r| r.name != "judgments");
        let rejection = reject(&before, &after, &required_object_missing::RULE, "DROP TABLE");
        assert_eq!(rejection.hint, required_object_missing::RULE.fix);
    }

    #[test]
    fn view_that_loses_security_invoker_hints_at_the_clause_to_repeat() {
        let hint = |is_declared: bool, tag| {
            let mut before = World::conforming();
            before.contract.views[0].security_invoker = true;
            let view = format!("public.{}", before.contract.views[0].name);
            if !is_declared {
                before.contract.views.remove(0);
            }
            before.relation(&view).security_invoker = true;
            let mut after = before.clone();
            after.relation(&view).security_invoker = false;
            let rule =
                if is_declared { &view_privileges::RULE } else { &undeclared_view_readable::RULE };
            let rejection = reject(&before, &after, rule, tag);
            let merged = merged(
                &before.contract,
                vec![rejection.clone()],
                vec![],
                &Completion::default(),
                RejectedAt::Commit,
            );
            [rejection.hint, merged.unwrap().hint]
        };
        let repeat = "CREATE OR REPLACE VIEW removes the options that it does not repeat: add \
                      WITH (security_invoker = true). If this is intended, ";
        for is_declared in [true, false] {
            for hint in hint(is_declared, "CREATE VIEW") {
                assert!(hint.starts_with(repeat), "{is_declared}: {hint}");
            }
            for hint in hint(is_declared, "ALTER VIEW") {
                assert!(hint.starts_with("If this is intended, "), "{is_declared}: {hint}");
            }
        }
    }

    #[test]
    fn identity_that_is_a_pattern_is_not_offered_for_exemption() {
        let (before, mut after) = (World::conforming(), World::conforming());
        let anon = after.role("anon").oid;
        let mut table = after.relation("public.judgments").clone();
        (table.oid, table.name, table.acl) = (9001, "notes*".into(), Some(vec![]));
        after.add_relation(table);
        after.grant("public.notes*", anon, Privileges::SELECT);
        let rule = &crate::rules::table_privileges::RULE;
        let rejection = reject(&before, &after, rule, "GRANT");
        assert!(!rejection.hint.contains("ops.exempt"), "{}", rejection.hint);
    }
}
