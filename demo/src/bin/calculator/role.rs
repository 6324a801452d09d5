//! What each service does with a request. Percentage and mathfanboy call others by the URLs that they were given.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{get_ok, kind};
use crate::operation::{Answer, Operands, compute};

/// How long a service waits for another.
const CALL: Duration = Duration::from_secs(5);
/// What mathfanboy likes to call.
const FAVOURITES: [&str; 5] = ["addition", "substraction", "multiplication", "division", "percentage"];

/// A service: its name, its pod, the services it may call, and what it remembers.
#[derive(Clone)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    pod: Arc<str>,
    services: Arc<BTreeMap<String, String>>,
    history: Arc<Mutex<History>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The request itself is at fault.
    Request(anyhow::Error),
    /// A service that it needs is.
    Service(anyhow::Error),
}

/// What mathfanboy's calls came to.
#[derive(Clone, Debug, Default, Serialize)]
struct History {
    calls: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    last: Value,
}

impl Role {
    /// Makes a service; fails when it lacks the address of one that it calls.
    pub(crate) fn new(name: &'static str, pod: String, services: BTreeMap<String, String>) -> Result<Self> {
        let needed: &[&str] = match name {
            "percentage" => &["multiplication", "division"],
            "mathfanboy" => &FAVOURITES,
            _ => &[],
        };
        if let Some(missing) = needed.iter().find(|needed| !services.contains_key(**needed)) {
            bail!("{name} calls {missing}: give --service {missing}=http://ADDRESS:PORT");
        }
        Ok(Self { name, pod: pod.into(), services: services.into(), history: Arc::default() })
    }

    /// Answers a request; None when the service has no such path.
    pub(crate) async fn answer(&self, path: &str, query: &str) -> Option<Result<Value, Fault>> {
        match path.strip_prefix('/')? {
            "healthz" => Some(Ok(json!({"pod": &*self.pod, "healthy": true}))),
            "last" if self.name == "mathfanboy" => Some(self.remembered().map_err(Fault::Service)),
            op if op == self.name && op != "mathfanboy" => Some(self.compute(query).await),
            _ => None,
        }
    }

    async fn compute(&self, query: &str) -> Result<Value, Fault> {
        let Operands { a, b, marker } = Operands::from_query(query).map_err(Fault::Request)?;
        let result = match self.name {
            "percentage" => self.percentage(a, b).await.map_err(Fault::Service)?,
            op => compute(op, a, b).map_err(Fault::Request)?,
        };
        let answer = Answer { op: self.name, a, b, result, pod: self.pod.to_string(), marker };
        serde_json::to_value(answer).context("write the answer").map_err(Fault::Service)
    }

    async fn percentage(&self, a: f64, b: f64) -> Result<f64> {
        let product = self.call("multiplication", a, b).await?;
        self.call("division", product, 100.0).await
    }

    /// Calls another service and returns its result.
    async fn call(&self, op: &str, a: f64, b: f64) -> Result<f64> {
        let url = self.services.get(op).with_context(|| format!("no address of {op}"))?;
        let body = get_ok(&format!("{url}/{op}?a={a}&b={b}"), CALL).await?;
        body["result"].as_f64().with_context(|| format!("{op} answered without a result: {body}"))
    }

    fn remembered(&self) -> Result<Value> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut body = serde_json::to_value(history).context("write the history")?;
        body["pod"] = json!(&*self.pod);
        Ok(body)
    }

    /// Calls a favourite at random, again and again; failures are counted and never end it.
    pub(crate) async fn enjoy_maths(&self, every: Duration) {
        for number in 0_u64.. {
            // A hasher with random keys is all the chance that this needs.
            let chance = RandomState::new().hash_one(number);
            let op = FAVOURITES[(chance % FAVOURITES.len() as u64) as usize];
            let (a, b) = ((chance >> 8 & 0xff) as f64, 1.0 + (chance >> 16 & 0xff) as f64);
            let outcome = self.call(op, a, b).await;
            {
                let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                history.calls += 1;
                match outcome {
                    Ok(result) => history.last = json!({"op": op, "a": a, "b": b, "result": result}),
                    Err(error) => {
                        history.failed += 1;
                        // Words of a failure differ without end; its kind does not.
                        let kind = kind(&error).chars().take(120).collect::<String>();
                        *history.errors.entry(format!("{op}: {kind}")).or_default() += 1;
                    }
                }
            }
            tokio::time::sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_answers_its_own_operation_only() {
        let role = Role::new("addition", "addition-1".into(), BTreeMap::new()).unwrap();
        let answer = role.answer("/addition", "a=1&b=2&marker=m").await.unwrap().unwrap();
        assert_eq!(answer["result"], 3.0);
        assert_eq!((&answer["pod"], &answer["marker"]), (&json!("addition-1"), &json!("m")));
        assert!(role.answer("/division", "a=1&b=2").await.is_none());
        assert!(matches!(role.answer("/addition", "a=1").await, Some(Err(Fault::Request(_)))));
    }

    #[test]
    fn a_service_without_the_addresses_it_needs_does_not_start() {
        let error = Role::new("percentage", "p".into(), BTreeMap::new()).err().unwrap().to_string();
        assert!(error.contains("--service multiplication="), "{error}");
    }
}
