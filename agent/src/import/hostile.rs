//! Input that nobody meant: it is refused with its place, and never brings the program down.

use std::collections::BTreeMap;

use super::testing::{imported, policies, try_import};
use super::{LineKind, Options};

const OBJECTS: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  namespace: shop
  name: peer
spec:
  selector:
    matchLabels:
      app: web
  mtls:
    mode: STRICT
  portLevelMtls:
    80:
      mode: STRICT
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  namespace: shop
  name: web
  annotations:
    istio.io/dry-run: no
spec:
  selector:
    matchLabels:
      app: web
  action: DENY
  rules:
  - from:
    - source:
        notPrincipals: [cluster.local/ns/shop/sa/a]
        ipBlocks: [10.0.0.0/8]
    to:
    - operation:
        ports: ['80']
        methods: [GET]
    when:
    - key: source.ip
      notValues: [10.1.0.0/16]
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  namespace: mesh
  name: web
  creationTimestamp: '2024-01-01T00:00:00Z'
spec:
  podSelector:
    matchExpressions:
    - key: app
      operator: In
      values: [web]
  port: http
  accessPolicy: deny
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata:
  namespace: mesh
  name: web
spec:
  server:
    name: web
  client:
    networks:
    - cidr: 10.0.0.0/8
      except: [10.1.0.0/16]
    meshTLS:
      identities: ['*']
      serviceAccounts:
      - name: a
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata:
  namespace: mesh
  name: web
spec:
  targetRef:
    group: policy.linkerd.io
    kind: Server
    name: web
  requiredAuthenticationRefs:
  - group: policy.linkerd.io
    kind: MeshTLSAuthentication
    name: all
---
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata:
  namespace: mesh
  name: all
spec:
  identityRefs:
  - kind: ServiceAccount
    name: a
---
apiVersion: v1
kind: Pod
metadata:
  namespace: mesh
  name: web
  labels:
    app: web
  annotations:
    config.linkerd.io/default-inbound-policy: deny
spec:
  containers:
  - name: web
    ports:
    - name: http
      containerPort: 8080
---
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  namespace: dapr
  name: web
spec:
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
    - appId: a
      defaultAction: allow
      trustDomain: public
      namespace: dapr
      operations:
      - name: /x
        httpVerb: ['*']
        action: allow
";

const VALUES: [&str; 13] = [
    "",
    "~",
    "[]",
    "{}",
    "[[]]",
    "{a: b}",
    "true",
    "-1",
    "1.5",
    "99999999999999999999",
    "''",
    "'*'",
    "\"\\n\\0\\u2028#\"",
];

fn options() -> Options {
    let target = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    Options { target, deny_requests_by_port: true, ..Options::default() }
}

/// The first line of the document that a line stands in, and the line after its last one.
fn document(lines: &[&str], number: usize) -> (usize, usize) {
    let first = lines[..number].iter().rposition(|line| *line == "---").map_or(0, |at| at + 1);
    let last = lines[number..].iter().position(|line| *line == "---").map_or(lines.len(), |at| number + at);
    (first, last)
}

#[test]
fn whatever_stands_in_a_field_it_is_read_or_refused_at_its_place() {
    let lines: Vec<&str> = OBJECTS.lines().collect();
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(':')) {
        let (head, _) = line.split_once(':').unwrap();
        for value in VALUES {
            let changed = format!("{head}: {value}");
            let mut text: Vec<&str> = lines.clone();
            text[number] = &changed;
            // What stood below the field makes no sense beside another value of it.
            let depth = line.len() - line.trim_start_matches([' ', '-']).len();
            let below = lines[number + 1..].iter().take_while(|line| {
                **line != "---" && line.len() - line.trim_start_matches([' ', '-']).len() > depth
            });
            let below = below.count();
            text.drain(number + 1..number + 1 + below);
            let (first, last) = document(&lines, number);
            match try_import(&text.join("\n"), &options()) {
                Err(errors) => {
                    let at = errors[0].line as usize;
                    assert!(at > first && at <= last + 1, "{changed}: {errors:?}");
                }
                Ok(outcome) => assert!(outcome.report.iter().all(|line| !line.to_string().contains('\n'))),
            }
        }
    }
}

#[test]
fn whatever_is_left_out_it_is_read_or_refused() {
    let lines: Vec<&str> = OBJECTS.lines().collect();
    for from in 0..lines.len() {
        for count in 1..4 {
            let kept = lines.iter().enumerate().filter(|(at, _)| *at < from || *at >= from + count);
            let text: Vec<&str> = kept.map(|(_, line)| *line).collect();
            if let Ok(outcome) = try_import(&text.join("\n"), &options()) {
                outcome.yaml();
            }
        }
    }
}

#[test]
fn many_objects_are_bounded() {
    let policy = |number: usize, labels: &str| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{namespace: shop, name: p{number}}}\nspec: {{selector: {{matchLabels: {{{labels}}}}}, rules: []}}\n"
        )
    };
    let many: String = (0..2_000).map(|number| policy(number, &format!("a{number}: b"))).collect();
    assert_eq!(policies(&imported(&many)), 2_000);
    // One gap, into which all of them fall.
    let refused = policy(2_000, "app: web").replace("rules: []", "action: CUSTOM");
    let outcome = imported(&(many + &refused));
    assert_eq!((policies(&outcome), outcome.refused), (0, 2_001));
    assert!(outcome.report.iter().all(|line| line.kind != LineKind::Differs));
    let too_many: String = (0..5_001).map(|number| policy(number, "")).collect();
    let errors = try_import(&too_many, &Options::default()).unwrap_err();
    assert!(errors[0].message.contains("at most 5000"), "{errors:?}");
    let server = |number: usize| {
        format!(
            "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{namespace: shop, name: s{number}}}\n\
             spec: {{podSelector: {{matchLabels: {{a{number}: b}}}}, port: {}}}\n",
            number + 1
        )
    };
    let servers: String = (0..40).map(server).collect();
    assert_eq!(policies(&imported(&servers)), 40 * 40);
    let servers: String = (0..101).map(server).collect();
    assert!(try_import(&servers, &Options::default()).unwrap_err()[0].message.contains("at most 100"));
}
