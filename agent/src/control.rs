//! Where the agent's picture of the mesh comes from.
//!
//! The only place that writes state: Kubernetes objects of any source become a `core::Model`, checked as a whole and
//! published as an immutable snapshot. No type of the Kubernetes API leaves this module.

pub mod finding;

pub mod node;

pub mod objects;

pub(crate) mod fields;

pub(crate) mod access_policy;
pub mod convert;
mod lint;

pub mod file;
