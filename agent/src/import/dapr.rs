//! Dapr's access control: a list on the callee, of calling applications.
//!
//! Applications become service accounts, of the same name unless `--app-identity` says another. Never looks at operations: a
//! list that needs them is refused.

mod list;

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::{Action, Peer, Policy, PolicyId, Rule, Selector, ServiceAccount};

use super::Options;
use super::ledger::{Draft, Ledger, Mesh};
use super::report::refusal;
use super::selection::{Selection, exactly};
use super::source::{Kind, Object, Sources};
use crate::control::access_policy::fields::check_name;
use crate::control::finding::{Finding, Findings};
use list::{Application, List};

/// The annotation of pods by which a Configuration is theirs.
const CONFIG: &str = "dapr.io/config";
/// The labels that tell applications apart, the likeliest first.
const TELLING: [&str; 4] = ["app", "app.kubernetes.io/name", "app.kubernetes.io/instance", "k8s-app"];

/// Translates every Configuration with access control.
pub(crate) fn translate<'a>(
    sources: &'a Sources,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) {
    let lists: Vec<List<'a>> =
        sources.of(Kind::Configuration).filter_map(|object| list::read(object, ledger, findings)).collect();
    let mut used = BTreeSet::new();
    for list in &lists {
        used.extend(list.applications.iter().map(|application| application.id));
        let only = lists.len() == 1;
        match target(list.object, only, sources, options, ledger) {
            Ok(selector) => translate_list(list, selector, options, ledger),
            Err(finding) => {
                let selection = Selection {
                    namespace: Some(list.object.namespace.clone()),
                    selector: Selector::default(),
                };
                ledger.refuse_protection(list.object, finding, selection);
            }
        }
    }
    for unused in options.app_identities.keys().filter(|id| !used.contains(id.as_str())) {
        if let Some(list) = lists.first() {
            let message = format!("--app-identity {unused}=…: no list of the input names this application");
            ledger.report.differs(list.object, &list.at, message, "correct the application's id");
        }
    }
}

fn translate_list<'a>(list: &List<'a>, selector: Selector, options: &Options, ledger: &mut Ledger<'a>) {
    let object = list.object;
    let named = match accounts(list, options, ledger) {
        Ok(named) => named,
        Err(refusals) => {
            let selection = Selection { namespace: Some(object.namespace.clone()), selector };
            for finding in refusals {
                ledger.refuse_protection(object, finding, selection.clone());
            }
            return;
        }
    };
    let listed = |allowed: bool| -> Vec<ServiceAccount> {
        named.iter().filter(|(_, of)| **of == allowed).map(|(account, _)| account.clone()).collect()
    };
    let (action, service_accounts) =
        if list.allows_others { (Action::Deny, listed(false)) } else { (Action::Allow, listed(true)) };
    let rules = if service_accounts.is_empty() {
        Vec::new()
    } else {
        vec![Rule { from: Some(vec![Peer { service_accounts, ..Peer::default() }]), to: None }]
    };
    if action == Action::Deny && rules.is_empty() {
        ledger.report.note(object, &list.at, "it allows every caller: nothing is written");
        return;
    }
    let message = "Dapr asks the list for calls through its sidecar only; ambit asks the policy for every connection to the pods, \
                   UDP included";
    let hint = "admit who calls the pods in other ways in a policy of its own";
    ledger.report.differs(object, &list.at, message, hint);
    let policy = Policy {
        id: PolicyId { namespace: Some(object.namespace.clone()), name: object.name.clone() },
        action,
        dry_run: false,
        namespace_selector: None,
        selector,
        rules,
        egress_only: false,
        egress: Vec::new(),
    };
    ledger.draft(Draft { policy, mesh: Mesh::Dapr, from: vec![object] });
}

/// Returns the service accounts of the applications, and whether each is allowed.
fn accounts(
    list: &List<'_>,
    options: &Options,
    ledger: &mut Ledger<'_>,
) -> Result<BTreeMap<ServiceAccount, bool>, Vec<Finding>> {
    let mut refusals = Vec::new();
    let mut named: BTreeMap<ServiceAccount, bool> = BTreeMap::new();
    let domains: BTreeSet<&str> =
        list.applications.iter().map(|application| application.trust_domain).collect();
    if domains.len() > 1 {
        let domains: Vec<&str> = domains.iter().copied().collect();
        let message = format!("the trust domains {} would become one, ambit's", domains.join(" and "));
        refusals.push(refusal(&list.at, message, "write a list for each"));
    } else if let Some(domain) = domains.first().filter(|domain| **domain != options.trust_domain) {
        let message = format!(
            "the trust domain {domain} of Dapr's own authority is read as ambit's, {}",
            options.trust_domain
        );
        ledger.report.differs(list.object, &list.at, message, "nothing to do, if they are the same pods");
    }
    for application in &list.applications {
        let allowed = match application.verdict(options.deny_requests_by_port) {
            Ok(allowed) => allowed,
            Err(finding) => {
                refusals.push(finding);
                continue;
            }
        };
        if allowed && application.has_denied_operation() || !allowed && application.has_allowed_operation() {
            let message = "operations are left out: the application is refused whatever it calls";
            ledger.report.differs(list.object, &application.at, message, "");
        }
        let account = match account(application, options) {
            Ok(account) => account,
            Err(finding) => {
                refusals.push(finding);
                continue;
            }
        };
        if !options.app_identities.contains_key(application.id) {
            let message =
                format!("the application {} is read as the service account {account}", application.id);
            let hint =
                format!("if it runs as another one, say --app-identity={}=NAMESPACE/ACCOUNT", application.id);
            ledger.report.differs(list.object, &application.at, message, &hint);
        }
        if named.insert(account.clone(), allowed).is_some_and(|before| before != allowed) {
            let message = format!("{account} would be both allowed and denied");
            refusals.push(refusal(
                &application.at,
                message,
                "give each application a service account of its own",
            ));
        }
    }
    if refusals.is_empty() { Ok(named) } else { Err(refusals) }
}

fn account(application: &Application<'_>, options: &Options) -> Result<ServiceAccount, Finding> {
    if let Some(account) = options.app_identities.get(application.id) {
        return Ok(account.clone());
    }
    let (namespace, name) = (application.namespace, application.id);
    if check_name(namespace).is_err() || check_name(name).is_err() {
        let message = format!("{namespace}/{name} can be no service account");
        let hint = format!("say --app-identity={name}=NAMESPACE/ACCOUNT");
        return Err(refusal(&application.at, message, &hint));
    }
    Ok(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// Returns the pods that have a Configuration: as the command line says, or as the pods of the input do.
fn target(
    object: &Object,
    only: bool,
    sources: &Sources,
    options: &Options,
    ledger: &mut Ledger<'_>,
) -> Result<Selector, Finding> {
    let at = object.cursor();
    if !options.target.is_empty() {
        let hint = "import them one by one, each with its --target";
        let many =
            || refusal(&at, "--target names the pods of one Configuration, and the input has several", hint);
        return if only { Ok(exactly(&options.target)) } else { Err(many()) };
    }
    let pods: Vec<&Object> = sources.of(Kind::Pod).filter(|pod| pod.namespace == object.namespace).collect();
    let has_it = |pod: &&&Object| pod.annotations.get(CONFIG) == Some(&object.name);
    let with: Vec<&&Object> = pods.iter().filter(has_it).collect();
    let hint = format!("say --target=LABEL=VALUE, for the pods with {CONFIG}: {}", object.name);
    let Some(first) = with.first() else {
        let message =
            "no pod of the input has this Configuration, and the list does not say whom it protects";
        return Err(refusal(&at, message, &hint));
    };
    let telling = TELLING.iter().find_map(|key| {
        let value = first.labels.get(*key)?;
        let has = |pod: &&&Object| pod.labels.get(*key) == Some(value);
        (with.iter().all(&has) && pods.iter().filter(has).count() == with.len())
            .then(|| ((*key).to_owned(), value.clone()))
    });
    let Some((key, value)) = telling else {
        let message =
            "no label tells the pods with this Configuration apart from the others of their namespace";
        return Err(refusal(&at, message, &hint));
    };
    let message = format!(
        "the pods with this Configuration are selected by {key}: {value}, as those of the input have it"
    );
    ledger.report.differs(object, &at, message, "say --target=LABEL=VALUE, if others have it too");
    Ok(exactly(&BTreeMap::from([(key, value)])))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
