//! Services, as enrolled pods reach them: the kernel chooses an endpoint when they connect.

use crate::SocketAddress;

/// Value of SERVICES, whose key is a `Destination` with the service's address and port: a run of keys of BACKENDS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ServiceEntry {
    /// Key of the first endpoint.
    pub first: u32,
    /// How many there are; 0: none is ready.
    pub count: u32,
}

/// Value of BACKENDS.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Backend {
    /// The endpoint's address.
    pub address: SocketAddress,
}

const _: () = assert!(size_of::<ServiceEntry>() == 8 && size_of::<Backend>() == 20);
