//! A whole cluster as objects, of any size: for commands that read many at once.
//!
//! Who may reach whom in it follows from numbers, so that a test can say it without asking ambit. Nothing of it runs.

use std::fmt::Write;

/// How large a cluster is.
#[derive(Clone, Copy, Debug)]
pub struct ClusterSize {
    /// Namespaces, 254 at most.
    pub namespaces: usize,
    /// Applications in each namespace, 50 at most; each has a service and two policies.
    pub applications: usize,
    /// Pods of each application, 5 at most.
    pub replicas: usize,
}

impl ClusterSize {
    /// 2,000 pods, 500 services and 1,000 policies.
    pub const LARGE: Self = Self { namespaces: 50, applications: 10, replicas: 4 };

    /// Returns all objects, as a stream of YAML.
    pub fn objects(&self) -> String {
        let mut text = String::new();
        for namespace in 0..self.namespaces {
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{namespace}, labels: {{ambit.dev/mode: strict}}}}\n---\n"
            );
            for application in 0..self.applications {
                self.application(&mut text, namespace, application);
            }
        }
        text
    }

    /// Tells whether the policies let one application call another one, both as (namespace, application), on a port.
    ///
    /// Application k takes the next one of its namespace on port 8080, and the namespace after its own on port 9090, all
    /// but application 0 of that.
    pub fn may_call(&self, caller: (usize, usize), called: (usize, usize), port: u16) -> bool {
        let next = |number: usize, count: usize| (number + 1) % count;
        match port {
            8080 => caller == (called.0, next(called.1, self.applications)),
            9090 => caller.0 == next(called.0, self.namespaces) && caller.1 != 0,
            _ => false,
        }
    }

    /// Adds an application: its service, its pods and its policies.
    fn application(&self, text: &mut String, namespace: usize, application: usize) {
        let next_application = (application + 1) % self.applications;
        let next_namespace = (namespace + 1) % self.namespaces;
        let selector = format!("{{matchLabels: {{app: a{application}}}}}");
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: n{namespace}, name: a{application}}}\n\
             spec: {{clusterIP: 10.96.{namespace}.{application}, selector: {{app: a{application}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\n\
             apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: n{namespace}, name: a{application}}}\n\
             spec:\n  selector: {selector}\n  rules:\n  - from: [{{serviceAccounts: [a{next_application}]}}]\n    to: [{{ports: [8080]}}]\n  \
             - from: [{{namespaces: [n{next_namespace}]}}]\n    to: [{{ports: [9090]}}]\n---\n\
             apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: n{namespace}, name: a{application}-not}}\n\
             spec:\n  selector: {selector}\n  action: Deny\n  rules:\n  - from: [{{serviceAccounts: [n{next_namespace}/a0]}}]\n    to: [{{ports: [9090]}}]\n---\n"
        );
        for replica in 0..self.replicas {
            let (node, host) = ((application + replica) % 20, 1 + application * self.replicas + replica);
            let _ = write!(
                text,
                "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: n{namespace}, name: a{application}-{replica}, labels: {{app: a{application}, pod-template-hash: x{replica}}}}}\n\
                 spec: {{nodeName: node-{node}, serviceAccountName: a{application}, containers: []}}\n\
                 status: {{phase: Running, podIP: 10.1.{namespace}.{host}}}\n---\n"
            );
        }
    }
}
