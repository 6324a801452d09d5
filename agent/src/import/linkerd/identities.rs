//! Linkerd's identities, which are DNS names, as ambit's.
//!
//! `<account>.<namespace>.serviceaccount.identity.<control plane>.<trust domain>`, `*`, and `*.` before the end of one. Reads
//! one at a time.

use ambit_core::{IdentityPattern, ServiceAccount, SpiffeId};

use crate::control::fields::check_name;
use crate::control::finding::Finding;
use crate::control::node::Cursor;
use crate::import::Options;
use crate::import::callers::Pattern;
use crate::import::report::{Report, refusal};
use crate::import::source::Object;

const MIDDLE: &str = "serviceaccount.identity";

/// Reads an identity.
///
/// # Errors
/// When it is nobody's, or when no policy of ambit names it.
pub(super) fn read(
    text: &str,
    at: &Cursor<'_>,
    object: &Object,
    options: &Options,
    report: &mut Report,
) -> Result<Pattern, Finding> {
    if text == "*" {
        return Ok(Pattern::anybody());
    }
    if let Some(suffix) = text.strip_prefix("*.") {
        return read_suffix(suffix, at, options);
    }
    if !text.contains('.') && check_name(text).is_ok() {
        let message = format!(
            "a bare name matches nobody in Linkerd: {text:?} is read as the service account {}/{text}",
            object.namespace
        );
        let hint = format!(
            "if another one is meant, write {text}.NAMESPACE.{MIDDLE}.{}.TRUST-DOMAIN",
            options.linkerd_namespace
        );
        report.differs(object, at, message, &hint);
        return Ok(account(&object.namespace, text));
    }
    let nobody = || {
        let hint = format!(
            "write ACCOUNT.NAMESPACE.{MIDDLE}.{}.{}",
            options.linkerd_namespace, options.trust_domain
        );
        refusal(at, format!("{text:?} is no identity of Linkerd's"), &hint)
    };
    let (left, right) = text.split_once(&format!(".{MIDDLE}.")).ok_or_else(nobody)?;
    let (name, namespace) = left.rsplit_once('.').ok_or_else(nobody)?;
    let (control_plane, trust_domain) = right.split_once('.').ok_or_else(nobody)?;
    if check_name(name).is_err() || check_name(namespace).is_err() {
        return Err(nobody());
    }
    if control_plane != options.linkerd_namespace {
        let message = format!(
            "the identity is of a control plane in {control_plane}, not in {}",
            options.linkerd_namespace
        );
        return Err(refusal(at, message, &format!("import with --linkerd-namespace={control_plane}")));
    }
    if trust_domain == options.trust_domain {
        return Ok(account(namespace, name));
    }
    let id = SpiffeId::new(trust_domain, namespace, name).map_err(|_| nobody())?;
    let message =
        format!("the trust domain {trust_domain} is not ambit's, which is {}", options.trust_domain);
    report.differs(
        object,
        at,
        message,
        "callers of another one are known only if agents trust it; or say --trust-domain",
    );
    Ok(Pattern::Identity(IdentityPattern::Exact(id)))
}

/// Reads what stands after `*.`: whole labels at the end of identities.
fn read_suffix(suffix: &str, at: &Cursor<'_>, options: &Options) -> Result<Pattern, Finding> {
    let own = &options.trust_domain;
    let tail = format!("{MIDDLE}.{}.{own}", options.linkerd_namespace);
    let wildcard =
        |prefix: String, suffix: String| Pattern::Identity(IdentityPattern::Wildcard { prefix, suffix });
    if !suffix.is_empty() && (tail == suffix || tail.ends_with(&format!(".{suffix}"))) {
        return Ok(wildcard(format!("spiffe://{own}/"), String::new()));
    }
    let whose = suffix.strip_suffix(&format!(".{tail}"));
    let (account, namespace) =
        match whose.map(|whose| whose.rsplit_once('.').map_or(("", whose), |pair| pair)) {
            Some(pair) => pair,
            None => {
                let message = format!(
                    "\"*.{suffix}\" ends no identity of a control plane in {} and the trust domain {own}",
                    options.linkerd_namespace
                );
                return Err(refusal(
                    at,
                    message,
                    "import with --linkerd-namespace and --trust-domain as Linkerd has them",
                ));
            }
        };
    if check_name(namespace).is_err() || (!account.is_empty() && check_name(account).is_err()) {
        return Err(refusal(at, format!("\"*.{suffix}\" ends nobody's identity"), "correct it"));
    }
    if account.is_empty() {
        return Ok(Pattern::Namespace(namespace.to_owned()));
    }
    Ok(wildcard(format!("spiffe://{own}/ns/{namespace}/sa/"), format!(".{account}")))
}

fn account(namespace: &str, name: &str) -> Pattern {
    Pattern::Account(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
}
