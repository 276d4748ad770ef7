//! The text of a rejection: what violates the contract, why it matters, and what to do next.

use super::accepting::{
    Allowing, Read, accept_hint, intended, is_about_guard, is_by_default, is_by_default_privileges,
    joined,
};
use super::calls::{exempt_calls, or_exempt};
use super::change::{Regression, Remaining};
use super::completion::Cause;
use super::declared::Declared;
use super::exposed::Exposed;
use super::inherited::Inherited;
use super::loosened::{Loosened, Lost};
use super::opened::{Opened, Opening};
use super::path_hint::{executed_path_hint, exposed_hint, search_path_hint};
use super::redirected::Redirected;
use super::replaced::Replaced;
use super::through::{Changed, Through, Way};
use super::widened::{Reading, Shown};
use crate::catalog::{Privileges, RelationKind, Role, Routine, Snapshot};
use crate::contract::{Contract, GuardAction};
use crate::declare::{Declaration, Name, PolicyHeader, Target, declare_call};
use crate::exemptions::{Exemption, renewal};
use crate::finding::Finding;
use crate::rule::Rule;
use crate::rules::shared::definer_path::cause_in_schema;
use crate::rules::{
    Context, guard_tampered, policy_without_rls, required_object_missing, role_missing,
    security_definer_search_path, security_definer_settings, table_privileges,
    undeclared_view_readable, view_privileges,
};
use crate::search_path::{Assessment, Verdict, set_clause};
use crate::sql::{capitalized, listed, printable, safe_ident};

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
    /// The HINT of a warning, where it differs: the statement has been executed.
    pub executed: Option<String>,
    /// The regression, where the rejection is about one.
    pub regression: Option<Regression>,
    /// Where the rejection is about an exemption of one finding that ends: its number, and the
    /// fingerprint of the finding that is left.
    pub renews: Option<(i32, String)>,
}

/// How many routines a message names.
const MOST_ROUTINES: usize = 3;

/// How many columns a message names.
const MOST_COLUMNS: usize = 6;

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
            executed: executed_path_hint(cx, routine, assessment),
            regression: None,
            renews: None,
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
        let exempt = exempt_calls(finding)
            .map(|calls| format!("\nIf this is intended, exempt it: {}", calls.join("\n")))
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
        }
    }

    /// Returns the rejection of a routine that calls of one of the extension's functions could
    /// execute instead; `identity` is the routine's.
    #[must_use]
    pub fn of_impostor(contract: &Contract, identity: &str) -> Self {
        let rule = &guard_tampered::RULE;
        let message = format!(
            "routine {} would conflict with a function of extension dragonfly_guard",
            Snapshot::message_of(identity)
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: cause_in_schema(&first.assessment),
            regression: None,
            renews: None,
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
                    "Give the policy a condition.\nIf this is intended, declare it first: {}{}",
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
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
        } else if shown.is_governed {
            "and the contract does not declare that table"
        } else {
            "which cannot read it themselves, and the contract does not govern its schema"
        };
        let problem = format!(
            "View {view} did not read table {table} before: it now shows its rows to {noun} \
             {clients}, {why}."
        );
        let declare = if shown.is_declared || shown.at_most() != GuardAction::Block {
            String::new()
        } else if !shown.is_governed {
            // Declaring the table would make the contract govern everything in its schema.
            exempt_calls(&shown.finding(cx)).map_or(String::new(), |calls| {
                format!("If this is intended, exempt it first: {}\n", calls.join("\n"))
            })
        } else {
            let name =
                Name::new(cx.snapshot.schema_name(shown.relation.schema), &shown.relation.name);
            format!(
                "If this is intended, declare the table first: {}{}\n",
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
                    "{declare}{}, replace the query of view {view} by one that does not read \
                     table {table}.",
                    if declare.is_empty() { "If this is not intended" } else { "Otherwise" }
                ),
                Reading::Inheritance => format!(
                    "If this is not intended, run ALTER TABLE ... NO INHERIT or DETACH PARTITION \
                     for table {table}."
                ),
            },
            remedy: None,
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
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
            executed: None,
            regression: None,
            renews: None,
        }
    }

    /// Returns the rejection of any other regression.
    #[must_use]
    pub fn of_regression(contract: &Contract, regression: &Regression, tag: &str) -> Self {
        let finding = &regression.finding;
        let (rule, object) = (finding.rule, &finding.object);
        let remedy = match rule.id {
            id if id == policy_without_rls::RULE.id => Some(remedy_for_policies(finding)),
            _ => loses_invoker(regression).then(|| remedy_for_invoker(tag)).flatten(),
        };
        Self {
            rule,
            object: object.identity.clone(),
            key: finding.fingerprint.clone(),
            verdict: None,
            message: format!(
                "{tag} violates the security contract: {} on {} {}",
                rule.id,
                object.type_in_message(),
                object.name_in_message()
            ),
            problem: finding.detail.clone(),
            detail: format!("{} {} {}", finding.detail, rule.why, source(contract, rule)),
            hint: joined(
                &remedy.iter().cloned().chain([regression_hint(regression)]).collect::<Vec<_>>(),
            ),
            remedy,
            executed: None,
            regression: Some(regression.clone()),
            renews: None,
        }
    }

    /// Returns the warning that an exemption of a finding no longer applies to what remains of it.
    #[must_use]
    pub fn of_remaining(
        contract: &Contract,
        exemption: &Exemption,
        remaining: &Remaining,
        tag: &str,
    ) -> Self {
        let Remaining { was, is } = remaining;
        let rule = is.rule;
        let problem = format!(
            "Exemption {} accepts another finding: {} The audit reports what remains: {}",
            exemption.id, was.detail, is.detail
        );
        Self {
            rule,
            object: is.object.identity.clone(),
            key: format!("remaining {}", is.fingerprint),
            verdict: None,
            message: format!(
                "{tag} ends exemption {} of rule {} on {} {}",
                exemption.id,
                rule.id,
                is.object.type_in_message(),
                printable(&is.object.identity)
            ),
            detail: format!("{problem} {}", source(contract, rule)),
            problem,
            hint: format!(
                "If it is still acceptable, run: {}",
                renewal(exemption, &[is]).join(" ")
            ),
            remedy: None,
            executed: None,
            regression: None,
            renews: exemption.fingerprint.as_ref().map(|_| (exemption.id, is.fingerprint.clone())),
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
        self.hint = self.executed_hint(regression, Allowing::Unknown, &[]);
    }

    /// Sets the HINT of a warning, after the statement has been executed: how to declare it, and
    /// how to revert it. `declared`: what a contract would say that allows it. `causes`: of what
    /// the transaction is warned about.
    pub fn executed(&mut self, declared: &[Declared], causes: &[Cause]) {
        if let Some(hint) = self.executed.take() {
            self.hint = hint;
        }
        if let Some(regression) = self.regression.take() {
            if !is_about_guard(&regression) {
                self.hint = self.executed_hint(&regression, Allowing::Known(declared), causes);
            }
            self.regression = Some(regression);
        }
    }

    fn executed_hint(
        &self,
        regression: &Regression,
        declared: Allowing<'_>,
        causes: &[Cause],
    ) -> String {
        if let Allowing::Known(known) = declared
            && is_role_missing(regression)
            && known.iter().any(|one| one.covers(&[regression]))
        {
            // The role is there under another name: creating it again would be another role.
            return accept_hint(&[regression], Read::Executed, declared);
        }
        let mut parts: Vec<String> = self.remedy.iter().cloned().collect();
        let choices = parts.len();
        let intended = intended(std::iter::once(regression), &[]);
        if !intended.is_empty() && !is_by_default(regression) {
            let accept = accept_hint(&intended, Read::Executed, declared);
            parts.extend(Some(accept).filter(|hint| !hint.is_empty()));
        }
        if regression.can_be_completed {
            // No statement has asked for what default privileges grant.
            let is_safest = is_by_default_privileges(&[regression], causes);
            let run = if parts.is_empty() || is_safest { "Run" } else { "Otherwise run" };
            match regression.finding.fix.sql() {
                Some(sql) => {
                    let place = if is_safest { choices } else { parts.len() };
                    parts.insert(place, format!("{run}: {}", sql.replace('\n', " ")));
                }
                // Without a statement, the text could contradict what is declared.
                None if parts.is_empty() => parts.push(regression.finding.rule.fix.to_owned()),
                None => {}
            }
        }
        joined(&parts)
    }

    /// Says that a view reads tables with row security as its owner. `tables` are their names.
    pub fn reads_as_owner(&mut self, tables: &[String]) {
        let has = if tables.len() == 1 { "table" } else { "tables" };
        let addition = format!(
            " It reads {has} {} with the privileges and the row security policies of its owner.",
            listed(tables)
        );
        let end = self.problem.len();
        self.detail.insert_str(end, &addition);
        self.problem += &addition;
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

/// Returns the statement after which a view shows each user what the user may read itself; `None`
/// where a user may read nothing of the relation.
fn as_users(cx: &Context<'_>, through: &Through<'_>) -> Option<String> {
    let Way::View(view) = through.way else { return None };
    let may_read =
        |user: &&Role| cx.has_privilege_on_a_column(user, through.relation, Privileges::SELECT);
    let is_of_use = view.kind == RelationKind::View && through.users.iter().all(may_read);
    is_of_use.then(|| {
        format!("ALTER VIEW {} SET (security_invoker = true);", cx.snapshot.relation_sql(view))
    })
}

/// Returns the statement that reverts what changes about an access through a view or routine.
fn through_hint(cx: &Context<'_>, through: &Through<'_>) -> String {
    let Through { relation, role, earlier, .. } = *through;
    let (table, name) = (cx.snapshot.relation_sql(relation), safe_ident(&role.name));
    let is_of_owner = cx.access.has_privileges_of(role.oid, relation.owner);
    let of_view = match through.way {
        Way::View(view) => {
            let view_sql = cx.snapshot.relation_sql(view);
            let earlier = earlier.filter(|earlier| earlier.oid != role.oid);
            if view.security_invoker && cx.is_subject(role.oid) {
                earlier.map(|_| format!("ALTER VIEW {view_sql} SET (security_invoker = false);"))
            } else {
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
        Changed::Shown => as_users(cx, through).or_else(|| {
            is_of_owner.then(|| format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY;"))
        }),
    };
    match revert {
        Some(sql) => format!("If this is not intended, run: {sql}"),
        None => format!(
            "If this is not intended, create a policy on table {table} for role \"{}\".",
            printable(&role.name)
        ),
    }
}

/// Whether a regression is that a declared role does not exist.
#[must_use]
pub fn is_role_missing(regression: &Regression) -> bool {
    *regression.finding.rule == role_missing::RULE
}

/// Whether a regression is that a view no longer has the option security_invoker.
fn loses_invoker(regression: &Regression) -> bool {
    let finding = &regression.finding;
    // The other findings of the rule are about roles.
    *finding.rule == view_privileges::RULE && finding.roles.is_empty()
        || *finding.rule == undeclared_view_readable::RULE && !regression.can_be_completed
}

/// Returns what gives the policies of a table without row security an effect.
fn remedy_for_policies(finding: &Finding) -> String {
    match finding.fix.sql() {
        Some(sql) => format!("Run: {}", sql.replace('\n', " ")),
        // Roles would see no rows.
        None => finding.rule.fix.to_owned(),
    }
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
pub(super) fn source(contract: &Contract, rule: &Rule) -> String {
    format!("Rule {}, {}.", rule.id, contract.source_of(rule.id))
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

#[cfg(test)]
mod tests {
    use super::super::change::Change;
    use super::super::completion::Completion;
    use super::super::merged::merged;
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
             ops.exempt(rule => 'table_privileges', object => 'public.judgments', role_name => \
             'anon', reason => '...', expires_at => now() + interval '30 days');\n\
             If a later statement of the transaction \
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
                      WITH (security_invoker = true).\nIf this is intended, ";
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
        (table.oid, table.name, table.acl) = (9001, "notes*".into(), Some(vec![].into()));
        after.add_relation(table);
        after.grant("public.notes*", anon, Privileges::SELECT);
        let rule = &crate::rules::table_privileges::RULE;
        let rejection = reject(&before, &after, rule, "GRANT");
        assert!(!rejection.hint.contains("ops.exempt"), "{}", rejection.hint);
    }
}
