//! Enrolled pods in the kernel's maps.

use crate::{
    Kernel, KernelError,
    tables::{Raw, from_abi, to_abi},
};
use ambit_abi::{Address, Endpoint, ListenerKey, Pod, SocketAddress};
use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

/// An enrolled pod of this node, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEntry {
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Number of this instance.
    pub slot: u32,
    /// At most one address of each family.
    pub addresses: Vec<IpAddr>,
    /// `ambit_abi::endpoint_flag` bits: how it is reached.
    pub flags: u32,
    /// `ambit_abi::pod_flag` bits: what it may do.
    pub pod_flags: u32,
}

impl PodEntry {
    fn address(&self, v4: bool) -> Address {
        self.addresses.iter().find(|ip| ip.is_ipv4() == v4).map_or(Address::UNSPECIFIED, |ip| to_abi(*ip))
    }
}

impl PodEntry {
    pub(crate) fn as_source(&self) -> Pod {
        Pod { ipv4: self.address(true), ipv6: self.address(false), slot: self.slot, flags: self.pod_flags }
    }
}

impl Kernel {
    /// Returns the pods that the maps hold, also those of an agent that ran before.
    ///
    /// # Errors
    /// `Map`.
    pub fn pods(&self) -> Result<Vec<PodEntry>, KernelError> {
        let mut pods = Vec::new();
        for (netns_cookie, Raw(pod)) in self.pods.entries()? {
            let addresses: Vec<IpAddr> = [pod.ipv4, pod.ipv6]
                .into_iter()
                .filter(|ip| !ip.is_unspecified())
                .map(|ip| from_abi(SocketAddress { ip, ..SocketAddress::default() }).ip())
                .collect();
            let mut flags = 0;
            for ip in &addresses {
                flags |= self.endpoints.get(&to_abi(*ip).into())?.map_or(0, |endpoint| endpoint.0.flags);
            }
            pods.push(PodEntry { netns_cookie, slot: pod.slot, addresses, flags, pod_flags: pod.flags });
        }
        Ok(pods)
    }

    /// Enrols `pod`, whose network namespace is `netns`: attaches the inbound hook, then takes its connections.
    ///
    /// # Errors
    /// `Attach`, `Link` or `Map`; what was done so far stands, and refuses rather than lets through.
    pub fn enrol(&self, pod: &PodEntry, netns: impl AsFd) -> Result<(), KernelError> {
        self.update(pod)?;
        self.attach_lookup(pod.netns_cookie, netns.as_fd())?;
        self.update_source(pod)
    }

    /// Writes what `pod` may do as a caller.
    ///
    /// # Errors
    /// `Map`.
    pub fn update_source(&self, pod: &PodEntry) -> Result<(), KernelError> {
        self.pods.insert(&pod.netns_cookie, &pod.as_source().into())
    }

    /// Writes the addresses and flags under which `pod` is reached.
    ///
    /// # Errors
    /// `Map`.
    pub fn update(&self, pod: &PodEntry) -> Result<(), KernelError> {
        let endpoint = Endpoint { netns_cookie: pod.netns_cookie, slot: pod.slot, flags: pod.flags };
        pod.addresses.iter().try_for_each(|ip| self.endpoints.insert(&to_abi(*ip).into(), &endpoint.into()))
    }

    /// Lets go of `pod`: its connections are no longer taken, in either direction.
    ///
    /// # Errors
    /// `Link` or `Map`.
    pub fn release(&self, pod: &PodEntry) -> Result<(), KernelError> {
        self.pods.remove(&pod.netns_cookie)?;
        self.detach_lookup(pod.netns_cookie)?;
        self.unguard(pod.netns_cookie, &[])?;
        self.forget_addresses(pod)
    }

    /// Removes the addresses of `pod`, where they are still its own.
    ///
    /// # Errors
    /// `Map`.
    pub fn forget_addresses(&self, pod: &PodEntry) -> Result<(), KernelError> {
        for ip in &pod.addresses {
            let key = to_abi(*ip).into();
            // The address may belong to another instance by now.
            if self.endpoints.get(&key)?.is_some_and(|endpoint| endpoint.0.slot == pod.slot) {
                self.endpoints.remove(&key)?;
            }
        }
        Ok(())
    }

    /// Offers `socket`, a listener in the pod's network namespace, for connections of `kind` and of both `families`.
    ///
    /// # Errors
    /// `Map`.
    pub fn listen(
        &self,
        slot: u32,
        kind: u32,
        families: &[u32],
        socket: impl AsFd,
    ) -> Result<(), KernelError> {
        for family in families {
            let key = ListenerKey { slot, kind, family: *family };
            self.insert_listener(key, socket.as_fd().as_raw_fd())?;
        }
        Ok(())
    }
}
