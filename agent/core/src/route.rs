//! Where a connection goes: through a tunnel, directly, or nowhere.
//!
//! Resolves a dialled address against a snapshot. Never opens a connection, and never decides whether it is allowed:
//! that is the destination's side, with `policy`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Endpoint, Service, ServicePort, Workload};
use crate::state::Snapshot;

/// What becomes of a connection that a pod opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// It goes to an enrolled pod, through the tunnel to that pod.
    Tunnel {
        /// The application's address: the pod's address, and the port it listens on.
        address: SocketAddr,
        /// The pod.
        destination: Arc<Workload>,
        /// The service that was dialled, if one was.
        service: Option<Arc<Service>>,
    },
    /// It goes to something outside the mesh, untouched.
    Direct {
        /// Where to connect.
        address: SocketAddr,
        /// The service that was dialled, if one was.
        service: Option<Arc<Service>>,
    },
    /// It goes nowhere.
    Refuse {
        /// Why.
        reason: RouteRefusal,
    },
}

/// Why a connection has nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRefusal {
    /// Nothing behind the service is ready.
    NoReadyEndpoint {
        /// The service that was dialled.
        service: Arc<Service>,
    },
}

impl RouteRefusal {
    /// Returns the stable code of the refusal, for logs, metrics and JSON.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoReadyEndpoint { .. } => "no-ready-endpoint",
        }
    }
}

impl fmt::Display for RouteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReadyEndpoint { service } => {
                write!(f, "service {}/{} has no ready endpoint", service.namespace, service.name)
            }
        }
    }
}

/// Finds the way to a dialled address; `random` picks among the ready endpoints of a service.
pub fn route(snapshot: &Snapshot, destination: SocketAddr, random: u64) -> Route {
    let dialled = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let Some((service, port)) = snapshot.service(dialled.ip(), dialled.port()) else {
        return towards(snapshot, dialled, None);
    };
    let service = Arc::clone(service);
    match pick(port, dialled.is_ipv4(), random) {
        Some(endpoint) => {
            let address = SocketAddr::new(endpoint.address.to_canonical(), endpoint.port);
            towards(snapshot, address, Some(service))
        }
        None => Route::Refuse { reason: RouteRefusal::NoReadyEndpoint { service } },
    }
}

/// Returns the way to a resolved address.
fn towards(snapshot: &Snapshot, address: SocketAddr, service: Option<Arc<Service>>) -> Route {
    match snapshot.workload(address.ip()) {
        Some(pod) if pod.mode.is_enrolled() => {
            Route::Tunnel { address, destination: Arc::clone(pod), service }
        }
        _ => Route::Direct { address, service },
    }
}

/// Picks one of the ready endpoints, of the family that was dialled if there is any.
fn pick(port: &ServicePort, is_ipv4: bool, random: u64) -> Option<&Endpoint> {
    let ready = || port.endpoints.iter().filter(|endpoint| endpoint.ready);
    let same_family = || ready().filter(|endpoint| endpoint.address.to_canonical().is_ipv4() == is_ipv4);
    let index = |count: usize| {
        let count = u64::try_from(count).ok().filter(|count| *count > 0)?;
        usize::try_from(random % count).ok()
    };
    match index(same_family().count()) {
        Some(index) => same_family().nth(index),
        None => ready().nth(index(ready().count())?),
    }
}

#[cfg(test)]
mod tests;
