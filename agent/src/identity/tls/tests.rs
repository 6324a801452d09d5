//! The rules of the handshake, each shown by a real one.

use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS12;
use rustls::{AlertDescription, CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};
use tokio::io::AsyncWriteExt;

use super::*;
use crate::identity::testing::*;

#[tokio::test]
async fn each_side_learns_who_the_other_is() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let mut connected = handshake(web.client(&[id("cart")]), cart.server()).await.ok().unwrap();
    assert_eq!(connected.seen_by_client.id, id("cart"));
    assert_eq!(connected.seen_by_server.id, id("web"));
    let left = connected.seen_by_server.not_after.duration_since(SystemTime::now()).unwrap();
    assert!(left > HOUR - Duration::from_secs(30) && left <= HOUR + Duration::from_secs(1), "{left:?}");
    connected.echo().await;
}

#[tokio::test]
async fn the_parameters_are_the_strongest_on_offer() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let connected = handshake(web.client(&[id("cart")]), cart.server()).await.ok().unwrap();
    let negotiated = &connected.server.negotiated;
    assert_eq!(negotiated.group, Some(NamedGroup::X25519MLKEM768));
    assert_eq!(negotiated.version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(negotiated.suite, Some(CipherSuite::TLS13_AES_256_GCM_SHA384));
    let protocols = (connected.client.protocol(), connected.server.protocol());
    assert_eq!(protocols, (Protocol::Trunk, Protocol::Trunk));
}

#[test]
fn only_aes_gcm_of_tls13_is_offered() {
    let suites: Vec<_> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
    assert_eq!(suites, [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_AES_128_GCM_SHA256]);
    let groups: Vec<_> = provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [NamedGroup::X25519MLKEM768, NamedGroup::X25519, NamedGroup::secp256r1]);
}

#[tokio::test]
async fn a_peer_without_post_quantum_key_exchange_is_served() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    for (group, name) in [
        (aws_lc_rs::kx_group::X25519, NamedGroup::X25519),
        (aws_lc_rs::kx_group::SECP256R1, NamedGroup::secp256r1),
    ] {
        let classic = CryptoProvider { kx_groups: vec![group], ..provider().as_ref().clone() };
        let ours = web.client(&[id("cart")]);
        let mut client = ClientConfig::builder_with_provider(Arc::new(classic))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(expecting(&authority, "cart"))
            .with_client_cert_resolver(Arc::clone(&ours.client_auth_cert_resolver));
        client.alpn_protocols = vec![ALPN_H2.to_vec()];
        client.enable_secret_extraction = true;
        let connected = handshake(Arc::new(client), cart.server()).await.ok().unwrap();
        assert_eq!(connected.server.negotiated.group, Some(name));
        assert_eq!(connected.server.protocol(), Protocol::Http2);
    }
}

#[tokio::test]
async fn no_session_is_resumed() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let client = web.client(&[id("cart")]);
    for _ in 0..3 {
        let mut connected = handshake(Arc::clone(&client), cart.server()).await.ok().unwrap();
        // Whatever tickets there were would have arrived with the answer.
        connected.echo().await;
        assert_eq!(connected.server.negotiated.kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_server_of_another_identity_is_refused() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    for expected in [vec![id("bank")], vec![id("bank"), id("vault")], vec![]] {
        let refused = refusal(web.client(&expected), cart.server()).await;
        assert!(
            matches!(&refused.client, Err(TlsError::Peer { source: PeerError::Unexpected { id: found, .. } })
                if *found == id("cart")),
            "{}",
            refused.client_error()
        );
        assert_eq!(refused.alert(), Some(AlertDescription::CertificateUnknown));
    }
    let connected = handshake(web.client(&[id("bank"), id("cart")]), cart.server()).await.ok().unwrap();
    assert_eq!(connected.seen_by_client.id, id("cart"));
}

#[tokio::test]
async fn a_foreign_authority_is_refused_on_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let trust = trust(&ours, &[]);
    let (web, cart) = (issued(&ours, &trust, &id("web")), issued(&ours, &trust, &id("cart")));
    // The stranger trusts us, has the right name, and another root.
    let stranger = |name: &str| {
        let issued = theirs.ca.issue(&id(name), HOUR, SystemTime::now()).unwrap();
        offered(&trust, CertifiedKey::new(issued.chain, issued.key))
    };
    let refused = refusal(web.client(&[id("cart")]), stranger("cart").server()).await;
    assert!(refused.client_error().contains("UnknownIssuer"), "{}", refused.client_error());
    assert_eq!(refused.alert(), Some(AlertDescription::UnknownCA));
    let refused = refusal(stranger("web").client(&[id("cart")]), cart.server()).await;
    assert!(refused.server_error().contains("UnknownIssuer"), "{}", refused.server_error());
    assert_eq!(refused.alert(), Some(AlertDescription::UnknownCA));
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_on_both_sides() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let now = SystemTime::now();
    for (validity, reason) in
        [((now - 2 * HOUR, now - HOUR), "expired"), ((now + HOUR, now + 2 * HOUR), "not valid yet")]
    {
        let odd = Leaf { validity, ..Leaf::default() }.signed_by(&authority.dir);
        let odd = offered(&trust, odd);
        let refused = refusal(web.client(&[id("odd")]), odd.server()).await;
        assert!(refused.client_error().contains(reason), "{}", refused.client_error());
        assert_eq!(refused.alert(), Some(AlertDescription::CertificateExpired));
        let refused = refusal(odd.client(&[id("cart")]), cart.server()).await;
        assert!(refused.server_error().contains(reason), "{}", refused.server_error());
        assert_eq!(refused.alert(), Some(AlertDescription::CertificateExpired));
    }
}

#[tokio::test]
async fn a_configuration_stops_offering_its_certificate_when_it_expires() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let over = SystemTime::now() - Duration::from_secs(1);
    let late = Configs::new(&trust, Leaf::default().signed_by(&authority.dir), over).unwrap();
    let refused = refusal(web.client(&[id("odd")]), late.server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::AccessDenied));
    let refused = refusal(late.client(&[id("cart")]), cart.server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn a_certificate_without_exactly_one_spiffe_name_is_refused_on_both_sides() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let odd = "spiffe://cluster.local/ns/shop/sa/odd";
    let web_uri = "spiffe://cluster.local/ns/shop/sa/web";
    let table = [
        (vec![], vec![], "names no SPIFFE identity"),
        (vec![], vec!["odd.shop"], "names no SPIFFE identity"),
        (vec![odd, web_uri], vec![], "has 2 URI names"),
        (vec![odd, odd], vec![], "has 2 URI names"),
        (vec![odd, "https://odd.example"], vec![], "has 2 URI names"),
        (vec!["https://odd.example"], vec![], "is no SPIFFE identity"),
        (vec!["spiffe://cluster.local"], vec![], "is no SPIFFE identity"),
        (vec!["spiffe://cluster.local/ns/shop/sa/odd/more"], vec![], "is no SPIFFE identity"),
        (vec!["spiffe://cluster.local/ns/shop/sa/"], vec![], "is no SPIFFE identity"),
        (vec!["SPIFFE://cluster.local/ns/shop/sa/odd"], vec![], "is no SPIFFE identity"),
    ];
    for (uris, dns, reason) in table {
        let leaf = Leaf { uris, dns, ..Leaf::default() };
        let configs = offered(&trust, leaf.signed_by(&authority.dir));
        let refused = refusal(web.client(&[id("odd")]), configs.server()).await;
        assert!(refused.client_error().contains(reason), "{:?}: {}", leaf.uris, refused.client_error());
        assert_eq!(refused.alert(), Some(AlertDescription::CertificateUnknown));
        let refused = refusal(configs.client(&[id("cart")]), cart.server()).await;
        assert!(refused.server_error().contains(reason), "{:?}: {}", leaf.uris, refused.server_error());
        assert_eq!(refused.alert(), Some(AlertDescription::CertificateUnknown));
    }
}

#[tokio::test]
async fn dns_names_are_ignored() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let web = issued(&authority, &trust, &id("web"));
    let leaf = Leaf { dns: vec!["cart.shop.svc", "*.example"], ..Leaf::default() };
    let odd = offered(&trust, leaf.signed_by(&authority.dir));
    let connected = handshake(web.client(&[id("odd")]), odd.server()).await.ok().unwrap();
    assert_eq!(connected.seen_by_client.id, id("odd"));
    let connected = handshake(odd.client(&[id("web")]), web.server()).await.ok().unwrap();
    assert_eq!(connected.seen_by_server.id, id("odd"));
}

#[tokio::test]
async fn a_foreign_trust_domain_is_refused_unless_it_is_an_alias() {
    let authority = authority();
    let strict = trust(&authority, &["another.example"]);
    let aliased = trust(&authority, &["old.example"]);
    let leaf = Leaf { uris: vec!["spiffe://old.example/ns/shop/sa/odd"], ..Leaf::default() };
    let old = offered(&strict, leaf.signed_by(&authority.dir));
    let refused = refusal(old.client(&[id("cart")]), issued(&authority, &strict, &id("cart")).server()).await;
    assert!(refused.server_error().contains("old.example"), "{}", refused.server_error());
    assert!(matches!(
        &refused.server,
        Err(TlsError::Peer { source: PeerError::ForeignTrustDomain { id } }) if id.trust_domain() == "old.example"
    ));
    let cart = issued(&authority, &aliased, &id("cart"));
    let connected = handshake(old.client(&[id("cart")]), cart.server()).await.ok().unwrap();
    assert_eq!(connected.seen_by_server.id.trust_domain(), "old.example");
}

#[tokio::test]
async fn a_certificate_for_the_other_side_only_is_refused() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let for_clients = Leaf { usages: vec![ClientAuth], ..Leaf::default() }.signed_by(&authority.dir);
    let refused = refusal(web.client(&[id("odd")]), offered(&trust, for_clients).server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::UnsupportedCertificate));
    let for_servers = Leaf { usages: vec![ServerAuth], ..Leaf::default() }.signed_by(&authority.dir);
    let refused = refusal(offered(&trust, for_servers).client(&[id("cart")]), cart.server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::UnsupportedCertificate));
}

#[tokio::test]
async fn a_workload_cannot_sign_for_another() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let forged = offered(&trust, Leaf::default().signed_by_workload(&authority.dir));
    let refused = refusal(forged.client(&[id("cart")]), cart.server()).await;
    assert!(refused.server.is_err() && refused.client.is_err());
    let refused = refusal(web.client(&[id("odd")]), forged.server()).await;
    assert!(refused.server.is_err() && refused.client.is_err());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = authority();
    let cart = issued(&authority, &trust(&authority, &[]), &id("cart"));
    let mut client = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(expecting(&authority, "cart"))
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN_H2.to_vec()];
    client.enable_secret_extraction = true;
    let refused = refusal(Arc::new(client), cart.server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::CertificateRequired));
}

#[tokio::test]
async fn a_client_of_tls12_is_refused() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(expecting(&authority, "cart"))
        .with_client_cert_resolver(Arc::clone(&web.client(&[]).client_auth_cert_resolver));
    client.alpn_protocols = vec![ALPN_H2.to_vec()];
    client.enable_secret_extraction = true;
    let refused = refusal(Arc::new(client), cart.server()).await;
    assert_eq!(refused.alert(), Some(AlertDescription::ProtocolVersion));
}

#[tokio::test]
async fn a_client_that_does_not_offer_h2_is_refused() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let none: &[&[u8]] = &[];
    for (offered, alert) in
        [(none, AlertDescription::AccessDenied), (&[b"http/1.1"], AlertDescription::NoApplicationProtocol)]
    {
        let mut client = web.client(&[id("cart")]).as_ref().clone();
        client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        client.enable_secret_extraction = true;
        let refused = refusal(Arc::new(client), cart.server()).await;
        assert_eq!(refused.alert(), Some(alert), "offered {offered:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_settle_on_h2_is_refused() {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let mut server = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::clone(&trust.clients) as Arc<_>)
        .with_cert_resolver(Arc::clone(&cart.server().cert_resolver));
    server.alpn_protocols = Vec::new();
    server.enable_secret_extraction = true;
    let refused = refusal(web.client(&[id("cart")]), Arc::new(server)).await;
    assert!(matches!(refused.client, Err(TlsError::Peer { source: PeerError::NotH2 })));
}

#[tokio::test]
async fn garbage_ends_the_handshake_at_once() {
    let authority = authority();
    let cart = issued(&authority, &trust(&authority, &[]), &id("cart"));
    for garbage in [&b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 0xff, 0xff, 0xff]] {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        near.write_all(garbage).await.unwrap();
        near.shutdown().await.unwrap();
        let accepted = accept(far, cart.server()).await;
        assert!(matches!(accepted, Err(TlsError::Handshake { .. })), "{garbage:?}");
    }
}

#[test]
fn a_root_that_is_no_certificate_is_not_trusted() {
    let garbage = CertificateDer::from(vec![1, 2, 3]);
    assert!(matches!(Trust::new(&garbage, BTreeSet::new()), Err(TlsError::Config { .. })));
}

#[test]
fn hostile_names_are_shown_escaped_and_cut() {
    let authority = authority();
    let long: &'static str = Box::leak(format!("x\n\u{1b}[31m{}", "y".repeat(5000)).into_boxed_str());
    let leaf = Leaf { uris: vec![long], ..Leaf::default() }.signed_by(&authority.dir);
    let refused = verify::identity_of(&leaf.cert[0]).unwrap_err().to_string();
    assert!(!refused.contains('\n') && !refused.contains('\u{1b}'), "{refused}");
    assert!(refused.len() < 300, "{}", refused.len());
}

/// Returns our own verifier, for clients that are ours in all but one respect.
fn expecting(authority: &Authority, name: &str) -> Arc<TrustedServer> {
    let pem = std::fs::read(authority.dir.join("root-cert.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    Arc::new(TrustedServer::new(Arc::new(roots), &[id(name)]))
}
