//! Workload identity: the certificate authority, mutual TLS, and the store that keeps certificates fresh.
//!
//! It owns every private key of the agent and every TLS configuration. It never decides who may talk to
//! whom: it says who a peer is, and `ambit_core::policy` says what that peer may do.

pub mod ca;
pub mod tls;

pub mod store;

#[cfg(test)]
pub(crate) mod testing;
