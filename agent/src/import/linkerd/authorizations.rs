//! Authorizations: who may call which Servers.
//!
//! Both generations of them. One that Linkerd rejects, or that names what is not there, admits nobody; it only ever
//! narrows what is written.

use ambit_core::{Peer, Selector};

use super::access::cluster_networks;
use super::authentications::{
    Network, Stop, account, callers, everywhere, identities, is_written, items, networks,
};
use super::servers::Server;
use crate::control::access_policy::selector;
use crate::control::fields::{self, Fields};
use crate::control::finding::Findings;
use crate::control::node::{Cursor, Value};
use crate::import::Options;
use crate::import::callers::Pattern;
use crate::import::ledger::Ledger;
use crate::import::report::{Report, refusal};
use crate::import::source::{Kind, Object, Sources};

/// Who may call some Servers.
pub(super) struct Grant<'a> {
    pub(super) object: &'a Object,
    target: Target,
    pub(super) target_at: Cursor<'a>,
    /// The callers, OR-ed. None: nobody.
    pub(super) peers: Vec<Peer>,
}

enum Target {
    Server(String),
    Servers(Selector),
    Namespace,
}

impl Grant<'_> {
    /// Tells whether it is for a Server of its namespace.
    pub(super) fn is_for(&self, server: &Server<'_>) -> bool {
        match &self.target {
            Target::Server(name) => *name == server.object.name,
            Target::Servers(selector) => selector.matches(&server.object.labels),
            Target::Namespace => true,
        }
    }
}

/// What authorizations are read with.
struct Reader<'r, 'a> {
    sources: &'a Sources,
    options: &'r Options,
    report: &'r mut Report,
    findings: &'r mut Findings,
}

/// Reads the authorizations of a namespace.
pub(super) fn read<'a>(
    sources: &'a Sources,
    namespace: &str,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Vec<Grant<'a>> {
    let mut grants = Vec::new();
    for object in sources.objects.iter().filter(|object| object.namespace == namespace) {
        let mut reader = Reader { sources, options, report: &mut ledger.report, findings };
        let read = match object.kind {
            Kind::ServerAuthorization => reader.server_authorization(object),
            Kind::LinkerdAuthorization => reader.authorization_policy(object),
            _ => continue,
        };
        match read {
            Ok(grant) => grants.push(grant),
            Err(Stop::Invalid) => {}
            Err(Stop::Refused(finding)) => ledger.refuse(object, finding),
            Err(Stop::Void(finding)) => {
                let message = format!("{}: it admits nobody, in Linkerd as here", finding.message);
                let kind = crate::import::report::Kind::Differs;
                ledger.report.add(kind, object, crate::control::finding::Finding { message, ..finding });
            }
        }
    }
    grants
}

impl<'a> Reader<'_, 'a> {
    fn server_authorization(&mut self, object: &'a Object) -> Result<Grant<'a>, Stop> {
        let spec = self.open(&object.at(&["spec"]), &["server", "client"])?;
        let server = self.required(&spec, "server")?;
        let known = self.open(&server, &["name", "selector"])?;
        let target = match (known.get("name").filter(is_written), known.get("selector").filter(is_written)) {
            (Some(name), None) => Target::Server(self.text(&name)?.to_owned()),
            (None, Some(field)) => {
                Target::Servers(selector::read(&field, self.findings).ok_or(Stop::Invalid)?)
            }
            _ => {
                return Err(Stop::Void(refusal(
                    &server,
                    "it needs either a `name` or a `selector`",
                    "write one",
                )));
            }
        };
        let client_at = self.required(&spec, "client")?;
        let client = self.open(&client_at, &["networks", "unauthenticated", "meshTLS"])?;
        let listed = match client.get("networks").filter(is_written) {
            Some(field) => networks(&field, self.findings)?,
            None => Vec::new(),
        };
        let networks = if listed.is_empty() {
            let message = "without networks it admits from the cluster's, which are written as Linkerd has them by default";
            self.report.note(object, &client_at, message);
            let cluster = cluster_networks().into_iter();
            cluster.map(|cidr| Network { cidr, except: Vec::new() }).collect()
        } else {
            listed
        };
        let unauthenticated = match client.get("unauthenticated").filter(is_written) {
            Some(field) => fields::boolean(&field, self.findings).ok_or(Stop::Invalid)?,
            None => false,
        };
        let peers = if unauthenticated {
            callers(None, &networks)
        } else {
            let Some(field) = client.get("meshTLS").filter(is_written) else {
                return Err(Stop::Void(refusal(
                    &client_at,
                    "it names no client",
                    "write `meshTLS` or `unauthenticated`",
                )));
            };
            callers(Some(&self.mesh_tls(object, &field)?), &networks)
        };
        Ok(Grant { object, target, target_at: server, peers })
    }

    /// Reads the identities of a ServerAuthorization.
    fn mesh_tls(&mut self, object: &'a Object, field: &Cursor<'a>) -> Result<Vec<Pattern>, Stop> {
        let known = self.open(field, &["unauthenticatedTLS", "identities", "serviceAccounts"])?;
        if let Some(flag) = known.get("unauthenticatedTLS").filter(is_written)
            && fields::boolean(&flag, self.findings).ok_or(Stop::Invalid)?
        {
            let message =
                "TLS without an identity does not exist in ambit: only callers with one are admitted";
            self.report.differs(object, &flag, message, "");
            return Ok(vec![Pattern::anybody()]);
        }
        let mut who = identities(known.get("identities"), object, self.options, self.report, self.findings)?;
        if let Some(list) = known.get("serviceAccounts").filter(is_written) {
            for item in items(&list, self.findings)? {
                self.open(&item, &["name", "namespace"])?;
                who.push(account(&item, object, self.findings)?);
            }
        }
        if who.is_empty() {
            return Err(Stop::Void(refusal(
                field,
                "it names no client",
                "name identities or serviceAccounts",
            )));
        }
        Ok(who)
    }

    fn authorization_policy(&mut self, object: &'a Object) -> Result<Grant<'a>, Stop> {
        let spec = self.open(&object.at(&["spec"]), &["targetRef", "requiredAuthenticationRefs"])?;
        let target_at = self.required(&spec, "targetRef")?;
        let target = self.target(object, &target_at)?;
        let refs_at = self.required(&spec, "requiredAuthenticationRefs")?;
        let (mut who, mut places): (Option<Vec<Pattern>>, Option<Vec<Network>>) = (None, None);
        for at in items(&refs_at, self.findings)? {
            self.open(&at, &["group", "kind", "name", "namespace"])?;
            let group = self.optional_text(&at, "group")?.unwrap_or_default();
            let kind = self.optional_text(&at, "kind")?.unwrap_or_default();
            let twice = || {
                let message =
                    "two lists of one kind must hold at once: Linkerd rejects that, and no rule says it";
                Stop::Refused(refusal(&at, message, "put what is on both into one object"))
            };
            match (group, kind) {
                ("policy.linkerd.io", "MeshTLSAuthentication") => {
                    let list = self.mesh_tls_authentication(object, &at)?;
                    who.replace(list).map_or(Ok(()), |_| Err(twice()))?;
                }
                ("" | "core", "ServiceAccount") => {
                    let list = vec![account(&at, object, self.findings)?];
                    who.replace(list).map_or(Ok(()), |_| Err(twice()))?;
                }
                ("policy.linkerd.io", "NetworkAuthentication") => {
                    let list = self.network_authentication(object, &at)?;
                    places.replace(list).map_or(Ok(()), |_| Err(twice()))?;
                }
                _ => {
                    let message = format!("{kind:?} of group {group:?} authenticates nobody in Linkerd");
                    return Err(Stop::Refused(refusal(
                        &at,
                        message,
                        "refer to MeshTLSAuthentication, NetworkAuthentication or ServiceAccount",
                    )));
                }
            }
        }
        if who.is_none() && places.is_none() {
            let message = "no authentication is required: everyone is admitted, without an identity too";
            self.report.note(object, &refs_at, message);
        }
        let peers = callers(who.as_deref(), &places.unwrap_or_else(everywhere));
        Ok(Grant { object, target, target_at, peers })
    }

    fn target(&mut self, object: &Object, at: &Cursor<'a>) -> Result<Target, Stop> {
        self.open(at, &["group", "kind", "name", "namespace"])?;
        let name = self.optional_text(at, "name")?.unwrap_or_default().to_owned();
        let group = self.optional_text(at, "group")?.unwrap_or_default();
        match (group, self.optional_text(at, "kind")?.unwrap_or_default()) {
            ("policy.linkerd.io", "Server") => Ok(Target::Server(name)),
            ("" | "core", "Namespace") if name == object.namespace => {
                let message =
                    "it admits to the namespace's Servers only; a port without one keeps its default";
                self.report.note(object, at, message);
                Ok(Target::Namespace)
            }
            ("" | "core", "Namespace") => {
                let message = format!("it is for the namespace {name}, and stands in {}", object.namespace);
                Err(Stop::Refused(refusal(at, message, "a policy is for its own namespace")))
            }
            (_, kind) => {
                let message = format!("{kind:?} is about requests, and ambit decides about connections");
                Err(Stop::Refused(refusal(at, message, "aim it at the Server")))
            }
        }
    }

    /// Reads the MeshTLSAuthentication that is referred to.
    fn mesh_tls_authentication(&mut self, policy: &'a Object, at: &Cursor<'a>) -> Result<Vec<Pattern>, Stop> {
        let object = self.referred(Kind::MeshTls, policy, at)?;
        let spec = self.open(&object.at(&["spec"]), &["identities", "identityRefs"])?;
        let mut who = identities(spec.get("identities"), object, self.options, self.report, self.findings)?;
        if let Some(list) = spec.get("identityRefs").filter(is_written) {
            for item in items(&list, self.findings)? {
                self.open(&item, &["group", "kind", "name", "namespace"])?;
                let group = self.optional_text(&item, "group")?.unwrap_or_default();
                let kind = self.optional_text(&item, "kind")?.unwrap_or_default();
                let is_core = matches!(group, "" | "core");
                match Some(kind).filter(|_| is_core).unwrap_or(group) {
                    "ServiceAccount" => who.push(account(&item, object, self.findings)?),
                    "Namespace" => {
                        let Some(name) = item.field("name") else {
                            return Err(Stop::Refused(refusal(
                                &item,
                                "a namespace needs a `name`",
                                "name it",
                            )));
                        };
                        let name = fields::name(&name, self.findings).ok_or(Stop::Invalid)?;
                        who.push(Pattern::Namespace(name));
                    }
                    kind => {
                        let message = format!("{kind:?} is no identity in Linkerd");
                        return Err(Stop::Refused(refusal(
                            &item,
                            message,
                            "refer to a ServiceAccount or a Namespace",
                        )));
                    }
                }
            }
        }
        if who.is_empty() {
            return Err(Stop::Void(refusal(
                at,
                format!("{} names nobody", object.title()),
                "name identities in it",
            )));
        }
        Ok(who)
    }

    /// Reads the NetworkAuthentication that is referred to.
    fn network_authentication(&mut self, policy: &'a Object, at: &Cursor<'a>) -> Result<Vec<Network>, Stop> {
        let object = self.referred(Kind::NetworkAuthentication, policy, at)?;
        let spec = self.open(&object.at(&["spec"]), &["networks"])?;
        let field = self.required(&spec, "networks")?;
        let found = networks(&field, self.findings)?;
        if found.is_empty() {
            return Err(Stop::Void(refusal(
                at,
                format!("{} names no network", object.title()),
                "name some in it",
            )));
        }
        Ok(found)
    }

    /// Finds what a reference means; what is not there voids the policy.
    fn referred(&mut self, kind: Kind, policy: &'a Object, at: &Cursor<'a>) -> Result<&'a Object, Stop> {
        let namespace = self.optional_text(at, "namespace")?.unwrap_or(&policy.namespace);
        let name = self.optional_text(at, "name")?.unwrap_or_default();
        self.sources.find(kind, namespace, name).ok_or_else(|| {
            let message = format!("{namespace}/{name} is not in the input");
            Stop::Void(refusal(at, message, "import it too"))
        })
    }

    fn open(&mut self, at: &Cursor<'a>, known: &[&str]) -> Result<Fields<'a>, Stop> {
        Fields::of(at, known, self.findings).filter(|known| !known.has_unknown).ok_or(Stop::Invalid)
    }

    fn required(&mut self, known: &Fields<'a>, key: &str) -> Result<Cursor<'a>, Stop> {
        let field = known.get(key);
        if field.is_none() {
            self.findings
                .error(known.cursor.follow(&[key]).finding(format!("the field `{key}` is required")));
        }
        field.ok_or(Stop::Invalid)
    }

    fn text(&mut self, at: &Cursor<'a>) -> Result<&'a str, Stop> {
        fields::text(at, self.findings).ok_or(Stop::Invalid)
    }

    fn optional_text(&mut self, at: &Cursor<'a>, key: &str) -> Result<Option<&'a str>, Stop> {
        match at.field(key).filter(|field| field.node.value != Value::Null) {
            Some(field) => self.text(&field).map(Some),
            None => Ok(None),
        }
    }
}
