//! The links of a pod to its node: which devices on the node's side the guard belongs on, as rtnetlink tells
//! (`man 7 rtnetlink`).

use super::{
    netlink,
    netns::{Home, Netns},
};
use ambit_bpf::{Device, index_to_name};
use std::{
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
};

const NETLINK_ROUTE: i32 = 0;
const RTM_GETLINK: u16 = 18;
const RTM_GETNSID: u16 = 90;
/// Length of `struct ifinfomsg` and of `struct rtgenmsg`, padded.
const LINK_MESSAGE: usize = 16;
const NSID_MESSAGE: usize = 4;

const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const ETHERNET_HEADER: u32 = 14;

/// The links of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// Devices on the node's side.
    pub devices: Vec<Device>,
    /// Names, in the pod, of devices that lead out of it and have no other end on the node that could be guarded.
    pub unguarded: Vec<String>,
}

/// A device in the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodDevice {
    index: u32,
    name: String,
    kind: Option<String>,
    hardware: u16,
    peer: Option<u32>,
    peer_netns: Option<u32>,
}

/// Returns the links of the pod with this network namespace.
///
/// # Errors
/// What the kernel says.
pub fn links(home: &Home, netns: &Netns) -> io::Result<Links> {
    let mut route = netlink::open(Some(netns), NETLINK_ROUTE)?;
    let node = node_id(&mut route, home)?;
    route.write_all(&netlink::request(RTM_GETLINK, netlink::DUMP, &[0; LINK_MESSAGE]))?;
    let mut links = Links::default();
    let mut found = Vec::new();
    netlink::receive(&mut route, |body| found.extend(parse(body)))?;
    for device in found {
        match place(&device, node) {
            Place::Node(index) => {
                let link_header = if device.hardware == ARPHRD_ETHER { ETHERNET_HEADER } else { 0 };
                links.devices.push(Device {
                    index,
                    name: index_to_name(index)?,
                    inside: device.index,
                    link_header,
                    netns_id: pod_id(index)?,
                });
            }
            Place::Elsewhere => links.unguarded.push(device.name),
            Place::Inside => {}
        }
    }
    links.devices.sort_unstable();
    Ok(links)
}

/// Returns the number under which the pod's network namespace knows the node's; `None` when it does not.
fn node_id(route: &mut socket2::Socket, home: &Home) -> io::Result<Option<u32>> {
    let mut body = vec![0; NSID_MESSAGE];
    body.extend(8_u16.to_ne_bytes());
    body.extend(NETNSA_FD.to_ne_bytes());
    body.extend(home.as_fd().as_raw_fd().to_ne_bytes());
    route.write_all(&netlink::request(RTM_GETNSID, netlink::ACK, &body))?;
    let mut id = None;
    netlink::receive(route, |body| {
        id = body.get(NSID_MESSAGE..).and_then(|attributes| netlink::number(attributes, NETNSA_NSID));
    })?;
    // -1: it has none.
    Ok(id.filter(|id| *id != u32::MAX))
}

/// Returns the number under which the node's network namespace knows that of the other end of its device `index`; the
/// kernel chooses one when it is asked.
fn pod_id(index: u32) -> io::Result<u32> {
    let mut route = netlink::open(None, NETLINK_ROUTE)?;
    let mut body = [0; LINK_MESSAGE];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    route.write_all(&netlink::request(RTM_GETLINK, netlink::ACK, &body))?;
    let mut id = None;
    netlink::receive(&mut route, |body| {
        id = body
            .get(LINK_MESSAGE..)
            .and_then(|attributes| netlink::number(attributes, IFLA_LINK_NETNSID))
            .filter(|id| i32::try_from(*id).is_ok());
    })?;
    id.ok_or_else(|| {
        let what =
            format!("the kernel gives the pod's network namespace no number (device {index} of the node)");
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}

enum Place {
    /// Its other end is the node's device with this index.
    Node(u32),
    /// It leads out of the pod, and not to a device of the node.
    Elsewhere,
    /// It leads nowhere by itself.
    Inside,
}

fn place(device: &PodDevice, node: Option<u32>) -> Place {
    let pair = matches!(device.kind.as_deref(), Some("veth" | "netkit"));
    match (device.peer, device.peer_netns) {
        (Some(index), Some(netns)) if pair && Some(netns) == node => Place::Node(index),
        // A pair whose other end is in a namespace that the pod made: what comes from there leaves by another link.
        _ if pair => Place::Inside,
        // Upon a device of another network namespace (macvlan, ipvlan), or hardware.
        (_, Some(_)) => Place::Elsewhere,
        _ if device.kind.is_none() && device.hardware != ARPHRD_LOOPBACK => Place::Elsewhere,
        _ => Place::Inside,
    }
}

fn parse(body: &[u8]) -> Option<PodDevice> {
    let hardware = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
    let attributes = body.get(LINK_MESSAGE..)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned();
    Some(PodDevice {
        index: u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?),
        name: netlink::attribute(attributes, IFLA_IFNAME).map(text)?,
        kind: netlink::attribute(attributes, IFLA_LINKINFO)
            .and_then(|info| netlink::attribute(info, IFLA_INFO_KIND))
            .map(text),
        hardware,
        peer: netlink::number(attributes, IFLA_LINK),
        peer_netns: netlink::number(attributes, IFLA_LINK_NETNSID),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: Option<&str>, peer: Option<u32>, peer_netns: Option<u32>) -> PodDevice {
        let (name, kind) = ("eth0".to_owned(), kind.map(ToOwned::to_owned));
        PodDevice { index: 2, name, kind, hardware: ARPHRD_ETHER, peer, peer_netns }
    }

    #[test]
    fn only_a_pair_with_its_other_end_on_the_node_is_guarded() {
        let node = Some(0);
        let on_node = |device: PodDevice| matches!(place(&device, node), Place::Node(7));
        assert!(on_node(device(Some("veth"), Some(7), Some(0))));
        assert!(on_node(device(Some("netkit"), Some(7), Some(0))));
        for other in [
            device(Some("veth"), Some(7), Some(1)),
            device(Some("veth"), Some(7), None),
            device(Some("macvlan"), Some(7), Some(0)),
            device(None, Some(7), Some(0)),
        ] {
            assert!(!on_node(other.clone()), "{other:?}");
        }
        assert!(!matches!(place(&device(Some("veth"), Some(7), Some(0)), None), Place::Node(_)));
    }

    #[test]
    fn what_leads_out_unguarded_is_named() {
        let node = Some(0);
        for (device, out) in [
            (device(None, None, None), true),
            (device(Some("macvlan"), Some(7), Some(0)), true),
            (device(Some("ipvlan"), Some(7), Some(3)), true),
            (device(Some("vxlan"), None, None), false),
            (device(Some("bridge"), None, None), false),
            (device(Some("veth"), Some(3), None), false),
            (PodDevice { hardware: ARPHRD_LOOPBACK, ..device(None, None, None) }, false),
        ] {
            assert_eq!(matches!(place(&device, node), Place::Elsewhere), out, "{device:?}");
        }
    }
}
