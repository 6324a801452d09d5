//! The rules of the store: issued at once, renewed at half life, never offered expired.

use std::future;
use std::path::Path;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::identity::testing::{HOUR, Leaf, TRUST_DOMAIN, authority, handshake, id, offered, trust};

const NO_ALIAS: [&str; 0] = [];
/// Far longer than anything here takes; a condition that is not met by then never is.
const PATIENCE: Duration = Duration::from_secs(20);

fn wanted(names: &[&str]) -> BTreeSet<SpiffeId> {
    names.iter().map(|name| id(name)).collect()
}

fn store(lifetime: Duration) -> Arc<IdentityStore> {
    // The authority signs from memory: its directory may go.
    IdentityStore::new(authority().ca, lifetime, NO_ALIAS).unwrap()
}

/// Returns a store whose root lives for `root_life` only.
fn store_under_a_short_root(dir: &Path, root_life: Duration, lifetime: Duration) -> Arc<IdentityStore> {
    let ca = CertificateAuthority::open_at(dir, TRUST_DOMAIN, root_life, SystemTime::now()).unwrap();
    IdentityStore::new(Arc::new(ca), lifetime, NO_ALIAS).unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let met = timeout(PATIENCE, async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    met.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[test]
fn what_is_wanted_is_issued_at_once_and_what_is_not_is_dropped() {
    let store = store(HOUR);
    assert!(store.get(&id("web")).is_none());
    assert_eq!(store.reconcile(&wanted(&["web", "cart"])), []);
    let web = store.get(&id("web")).unwrap();
    assert_eq!(web.id, id("web"));
    assert_ne!(web.serial, store.get(&id("cart")).unwrap().serial);
    store.reconcile(&wanted(&["web", "bank"]));
    assert!(store.get(&id("cart")).is_none());
    assert!(store.get(&id("bank")).is_some());
    assert_eq!(store.get(&id("web")).unwrap().serial, web.serial, "a certificate in use was replaced");
    store.reconcile(&BTreeSet::new());
    assert!(store.get(&id("web")).is_none() && store.status().is_empty());
}

#[test]
fn one_identity_that_cannot_be_issued_does_not_hold_up_the_others() {
    let store = store(HOUR);
    let foreign = SpiffeId::new("prod.example", "shop", "web").unwrap();
    let mut all = wanted(&["web", "cart"]);
    all.insert(foreign.clone());
    assert_eq!(store.reconcile(&all), std::slice::from_ref(&foreign));
    assert!(store.get(&id("web")).is_some() && store.get(&id("cart")).is_some());
    assert!(store.get(&foreign).is_none());
    let status = store.status();
    let failed = status.iter().find(|status| status.id == foreign.to_string()).unwrap();
    assert!(failed.last_error.as_ref().unwrap().contains("trust domain"), "{failed:?}");
    assert_eq!((&failed.serial, &failed.not_after), (&None, &None));
    assert!(status.iter().filter(|status| status.id != failed.id).all(|status| status.last_error.is_none()));
}

#[test]
fn a_setting_that_cannot_work_is_refused() {
    let ca = authority().ca;
    for lifetime in [Duration::ZERO, Duration::from_secs(1), Duration::MAX] {
        let refused = IdentityStore::new(Arc::clone(&ca), lifetime, NO_ALIAS);
        assert!(matches!(refused, Err(StoreError::Authority(CaError::Lifetime { .. }))), "{lifetime:?}");
    }
    let refused = IdentityStore::new(ca, HOUR, ["good.example", "Bad/Domain"]);
    assert!(matches!(refused, Err(StoreError::Authority(CaError::TrustDomain { .. }))));
}

#[test]
fn renewal_is_due_at_half_of_the_asked_life_from_the_issue() {
    for seconds in [2, 60, 24 * 3600, 10 * 365 * 24 * 3600] {
        let lifetime = Duration::from_secs(seconds);
        let store = store(lifetime);
        let before = SystemTime::now();
        store.reconcile(&wanted(&["web"]));
        let after = SystemTime::now();
        let due = store.next_due(after).unwrap().1;
        assert!(due >= before + lifetime.mul_f64(0.399), "{seconds} s: due {due:?}");
        assert!(due <= after + lifetime.mul_f64(0.601), "{seconds} s: due {due:?}");
    }
}

#[test]
fn jitter_spreads_over_its_whole_range() {
    let draws: Vec<f64> = (0..1000).map(|_| jitter()).collect();
    assert!(draws.iter().all(|draw| (-1.01..=1.01).contains(draw)));
    assert!(draws.iter().any(|draw| *draw < -0.9) && draws.iter().any(|draw| *draw > 0.9));
}

#[test]
fn a_clock_that_went_back_makes_a_certificate_due() {
    let store = store(HOUR);
    store.reconcile(&wanted(&["web"]));
    let past = SystemTime::now() - 2 * HOUR;
    assert_eq!(store.next_due(past), Some((id("web"), past)));
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_life_while_connections_go_on() {
    // Certificates count whole seconds: a tenth before half of it is still a second later.
    let lifetime = Duration::from_secs(3);
    let store = store(lifetime);
    let started = SystemTime::now();
    store.reconcile(&wanted(&["web", "cart"]));
    let (old_web, old_cart) = (store.get(&id("web")).unwrap(), store.get(&id("cart")).unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(Arc::clone(&store).run_renewal(async {
        let _ = stopped.await;
    }));

    let mut live =
        handshake(old_web.client_config(&id("cart")), old_cart.server_config()).await.ok().unwrap();
    live.echo().await;
    until("renewal", || {
        let current = |name| store.get(&id(name)).map(|current| current.serial.clone());
        current("web").is_some_and(|serial| serial != old_web.serial)
            && current("cart").is_some_and(|serial| serial != old_cart.serial)
    })
    .await;
    let took = started.elapsed().unwrap();
    assert!(took >= lifetime.mul_f64(0.4), "renewed after {took:?}");
    assert!(SystemTime::now() < old_web.not_after, "renewed after {took:?}, too late");

    // New handshakes show the new certificate; the live connection does not notice.
    let (web, cart) = (store.get(&id("web")).unwrap(), store.get(&id("cart")).unwrap());
    let new = handshake(web.client_config(&id("cart")), cart.server_config()).await.ok().unwrap();
    assert_eq!(new.seen_by_server.not_after, web.not_after);
    assert!(web.not_after > old_web.not_after);
    live.echo().await;

    // Even after the certificate that it was made with has expired, and then the old one is of no use.
    until("expiry of the old certificate", || SystemTime::now() > old_web.not_after).await;
    live.echo().await;
    assert!(handshake(old_web.client_config(&id("cart")), cart.server_config()).await.is_err());
    assert!(store.get(&id("web")).is_some());

    stop.send(()).unwrap();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failing_renewal_is_retried_and_an_expired_certificate_is_never_offered() {
    let holder = tempfile::tempdir().unwrap();
    let root_life = Duration::from_secs(3);
    let store = store_under_a_short_root(&holder.path().join("ca"), root_life, Duration::from_secs(2));
    store.reconcile(&wanted(&["web"]));
    let task = tokio::spawn(Arc::clone(&store).run_renewal(future::pending()));
    until("a failed renewal", || {
        store
            .status()
            .iter()
            .any(|status| status.last_error.as_ref().is_some_and(|error| error.contains("the root expired")))
    })
    .await;
    until("expiry", || store.get(&id("web")).is_none()).await;
    let failures = || store.entries.read().unwrap()[&id("web")].failures;
    let seen = failures();
    until("another attempt", || failures() > seen + 1).await;
    assert!(store.get(&id("web")).is_none());
    assert_eq!(store.reconcile(&wanted(&["web"])), [id("web")]);
    task.abort();
}

#[tokio::test]
async fn an_identity_that_was_dropped_during_its_renewal_stays_dropped() {
    let store = store(HOUR);
    store.reconcile(&wanted(&["web"]));
    store.reconcile(&BTreeSet::new());
    assert!(!store.renew(&id("web"), renewal::Missing::Forget));
    assert!(store.get(&id("web")).is_none() && store.status().is_empty());
}

#[tokio::test]
async fn the_renewal_task_notices_what_becomes_wanted_and_ends_when_told() {
    let store = store(Duration::from_secs(2));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(Arc::clone(&store).run_renewal(async {
        let _ = stopped.await;
    }));
    // It has nothing to do now and sleeps for long.
    tokio::task::yield_now().await;
    store.reconcile(&wanted(&["web"]));
    let first = store.get(&id("web")).unwrap();
    until("renewal", || store.get(&id("web")).is_some_and(|current| current.serial != first.serial)).await;
    drop(stop);
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_alias_of_the_trust_domain_is_served() {
    let authority = authority();
    let strict = IdentityStore::new(Arc::clone(&authority.ca), HOUR, NO_ALIAS).unwrap();
    let aliased = IdentityStore::new(Arc::clone(&authority.ca), HOUR, ["old.example"]).unwrap();
    for store in [&strict, &aliased] {
        store.reconcile(&wanted(&["cart"]));
    }
    let leaf = Leaf { uris: vec!["spiffe://old.example/ns/shop/sa/web"], ..Default::default() };
    let trust = trust(&authority, &[]);
    let old = offered(&trust, leaf.signed_by(&authority.dir));
    let server = |store: &IdentityStore| store.get(&id("cart")).unwrap().server_config();
    assert!(handshake(old.client(&[id("cart")]), server(&strict)).await.is_err());
    assert!(handshake(old.client(&[id("cart")]), server(&aliased)).await.is_ok());
}

#[test]
fn status_is_json_with_rfc3339_times() {
    let store = store(HOUR);
    store.reconcile(&wanted(&["web"]));
    let web = store.get(&id("web")).unwrap();
    let json = serde_json::to_value(store.status()).unwrap();
    assert_eq!(json[0]["id"], "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(json[0]["serial"], web.serial);
    assert_eq!(json[0]["last_error"], serde_json::Value::Null);
    for (field, at) in [("not_before", web.not_before), ("not_after", web.not_after)] {
        let shown = json[0][field].as_str().unwrap();
        assert_eq!(humantime::parse_rfc3339(shown).unwrap(), at, "{field}");
    }
    assert!(humantime::parse_rfc3339(json[0]["renew_at"].as_str().unwrap()).unwrap() < web.not_after);
    let back: Vec<IdentityStatus> = serde_json::from_value(json).unwrap();
    assert_eq!(back, store.status());
}
