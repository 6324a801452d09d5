//! `ambit policy import`: other meshes' policies in, ambit's out, and a line for whatever differs.
//!
//! Objects go to standard output or a file, the report to standard error. Never talks to an agent or to a cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use ambit_core::ServiceAccount;
use anyhow::{Context, bail};
use serde_json::json;

use crate::cli::check::OutputFormat;
use crate::cli::input::{UNANSWERED, files};
use crate::cli::output::print;
use crate::control::fields::check_name;
use crate::control::file::for_each_text;
use crate::control::finding::{Finding, Findings};
use crate::control::objects::Objects;
use crate::import::{Access, LineKind, Options, Outcome, Sources, import};

/// Arguments of `ambit policy import`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 when everything is expressed, 1 when something is refused, 2 when the input cannot be read.\n\
                  Lines of the report: `refused` is not written, `differs` is written and means something else, `note` means the same."
)]
pub struct ImportArgs {
    /// Policies of Istio, Linkerd and Dapr, and the Namespaces, Pods and Services around them: files or directories
    #[arg(required = true, value_name = "FILE-OR-DIR")]
    paths: Vec<PathBuf>,
    /// What to do with a rule that refuses only some requests: `port` refuses the whole port to its callers
    #[arg(long, value_enum, value_name = "HOW")]
    deny_l7: Option<DenyL7>,
    /// The service account of a Dapr application, as APP-ID=NAMESPACE/SERVICE-ACCOUNT; may be given more than once
    /// [default: the one of the same name]
    #[arg(long, value_name = "IDENTITY", value_parser = app_identity)]
    app_identity: Vec<(String, ServiceAccount)>,
    /// A label of the pods that have the Dapr Configuration, as LABEL=VALUE; may be given more than once
    #[arg(long, value_name = "LABEL=VALUE", value_parser = label)]
    target: Vec<(String, String)>,
    /// The root namespace of Istio, whose policies are for every namespace
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// The namespace of Linkerd's control plane
    #[arg(long, value_name = "NAMESPACE", default_value = "linkerd")]
    linkerd_namespace: String,
    /// The default inbound policy of Linkerd's cluster
    #[arg(long, value_name = "POLICY", default_value = "all-unauthenticated", value_parser = Access::parse)]
    default_inbound_policy: Access,
    /// The trust domain of the mesh
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// A further trust domain that agents trust; may be given more than once
    #[arg(long, value_name = "NAME")]
    trust_domain_alias: Vec<String>,
    /// Write the objects to this file instead of standard output
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    out: Option<PathBuf>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What to do with a rule that refuses only some requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DenyL7 {
    /// Refuse the whole port to its callers.
    Port,
}

/// Imports, and prints what came of it.
///
/// # Errors
/// Never: what keeps it from being done is printed, and the exit code tells it.
pub(super) fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    match try_import(args) {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("ambit: {error:#}");
            Ok(ExitCode::from(UNANSWERED))
        }
    }
}

fn try_import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let options = options(args)?;
    let mut findings = Findings::default();
    let mut sources = Sources::default();
    let files = files(&args.paths, &mut findings);
    for_each_text(&files, &mut findings, |file, text, findings| sources.read_file(file, text, findings));
    sources.finish(&mut findings);
    if !findings.errors.is_empty() {
        findings.arrange();
        return unreadable(&findings.errors);
    }
    let outcome = match import(&sources, &options) {
        Ok(outcome) => outcome,
        Err(errors) => return unreadable(&errors),
    };
    let yaml = outcome.yaml();
    check_own(&yaml)?;
    match args.output {
        OutputFormat::Json => print(&json_of(&outcome)?)?,
        OutputFormat::Text => {
            match &args.out {
                Some(file) => {
                    std::fs::write(file, &yaml).with_context(|| format!("write {}", file.display()))?;
                }
                None => print(&yaml)?,
            }
            eprint!("{}", report(&outcome, &sources));
        }
    }
    Ok(ExitCode::from(u8::from(outcome.refused > 0)))
}

fn options(args: &ImportArgs) -> anyhow::Result<Options> {
    let mut app_identities = BTreeMap::new();
    for (id, account) in &args.app_identity {
        if app_identities.insert(id.clone(), account.clone()).is_some() {
            bail!("--app-identity names {id} twice");
        }
    }
    let mut target = BTreeMap::new();
    for (label, value) in &args.target {
        if target.insert(label.clone(), value.clone()).is_some() {
            bail!("--target names the label {label} twice");
        }
    }
    for domain in std::iter::once(&args.trust_domain).chain(&args.trust_domain_alias) {
        ambit_core::SpiffeId::new(domain, "any", "any")
            .with_context(|| format!("the trust domain {domain:?}"))?;
    }
    Ok(Options {
        trust_domain: args.trust_domain.clone(),
        trust_aliases: args.trust_domain_alias.clone(),
        root_namespace: args.root_namespace.clone(),
        linkerd_namespace: args.linkerd_namespace.clone(),
        default_inbound_policy: args.default_inbound_policy,
        deny_requests_by_port: args.deny_l7.is_some(),
        app_identities,
        target,
    })
}

fn app_identity(text: &str) -> Result<(String, ServiceAccount), String> {
    let parts = text.split_once('=').and_then(|(id, account)| Some((id, account.split_once('/')?)));
    match parts {
        Some((id, (namespace, name)))
            if !id.is_empty() && check_name(namespace).is_ok() && check_name(name).is_ok() =>
        {
            let account = ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() };
            Ok((id.to_owned(), account))
        }
        _ => Err("write APP-ID=NAMESPACE/SERVICE-ACCOUNT".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((label, value)) if !label.is_empty() => Ok((label.to_owned(), value.to_owned())),
        _ => Err("write LABEL=VALUE".to_owned()),
    }
}

/// Says why nothing can be imported.
fn unreadable(errors: &[Finding]) -> anyhow::Result<ExitCode> {
    for error in errors {
        eprintln!("error: {error}");
    }
    Ok(ExitCode::from(UNANSWERED))
}

/// Reads what is to be printed as an agent would. Nothing is printed that it does not take.
fn check_own(yaml: &str) -> anyhow::Result<()> {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    // A mode of a pod has no spec; its policies and namespaces are whole.
    objects.read_file("(imported)".as_ref(), yaml.as_bytes(), &mut findings);
    match findings.errors.first() {
        Some(error) => bail!("what was imported is not valid, which is a mistake of ambit's: {error}"),
        None => Ok(()),
    }
}

fn json_of(outcome: &Outcome) -> anyhow::Result<String> {
    let objects: Vec<_> = outcome.objects.iter().map(|imported| &imported.object).collect();
    let value = json!({"objects": objects, "report": outcome.report, "refused": outcome.refused});
    Ok(format!("{}\n", serde_json::to_string_pretty(&value).context("print the result")?))
}

fn report(outcome: &Outcome, sources: &Sources) -> String {
    let mut text = String::new();
    for line in &outcome.report {
        text.push_str(&format!("{line}\n"));
    }
    let differing = outcome.report.iter().filter(|line| line.kind == LineKind::Differs).count();
    let passed_over: usize = sources.passed_over().map(|(_, count)| count).sum();
    let plural = if differing == 1 { "" } else { "s" };
    text.push_str(&format!("{} written, {differing} difference{plural}", count(outcome.objects.len())));
    if passed_over > 0 {
        let kinds: Vec<&str> = sources.passed_over().map(|(kind, _)| kind).collect();
        text.push_str(&format!(", {} of no concern passed over ({})", count(passed_over), kinds.join(", ")));
    }
    text.push('\n');
    if outcome.refused > 0 {
        let refused = count(outcome.refused);
        text.push_str(&format!(
            "REFUSED: {refused}. Nothing of them is written; do not rely on the rest alone\n"
        ));
    }
    text
}

fn count(number: usize) -> String {
    format!("{number} object{}", if number == 1 { "" } else { "s" })
}
