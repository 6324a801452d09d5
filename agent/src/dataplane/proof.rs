//! The test that a pod is captured: does as a process in the pod would, and sees what becomes of it.
//!
//! A connection from the pod to an address that is nobody's must reach the agent; frames from and to the pod that no
//! socket announced must be counted by the guard. Nothing is inferred from what was once attached.

use super::{Dataplane, LocalPod};
use ambit_abi::{CANARY_V4, CANARY_V6, SocketAddress};
use ambit_bpf::{Device, from_abi, send_frame};
use socket2::{Domain, Socket, Type};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpSocket, sync::oneshot};

/// How long the kernel may take; it takes microseconds.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The port that is dialled and sent to; no listener is behind it.
const PORT: u16 = 15;

/// Why a pod is not captured.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The test itself could not be made.
    #[error("test whether the pod is captured")]
    Test(#[from] io::Error),
    /// The kernel's counts cannot be read.
    #[error(transparent)]
    Kernel(#[from] ambit_bpf::KernelError),
    /// The pod has no address.
    #[error("the pod has no address: its connections cannot be told from others")]
    NoAddress,
    /// A connection of the pod did not come to the agent.
    #[error("a connection that the pod opened did not come to the agent: it is not captured")]
    NotTaken,
    /// A frame passed.
    #[error(
        "a packet that no socket announced passed {device} {direction} the pod: the guard does not stand there"
    )]
    NotGuarded {
        /// The device on the node's side.
        device: String,
        /// `from` or `to`.
        direction: &'static str,
    },
}

/// The tests that wait for their connection.
#[derive(Default)]
pub(crate) struct Proofs {
    waiting: Mutex<HashMap<(u32, SocketAddr), oneshot::Sender<()>>>,
}

impl Proofs {
    fn waiting(&self) -> MutexGuard<'_, HashMap<(u32, SocketAddr), oneshot::Sender<()>>> {
        // Entries are inserted and removed whole: a panic elsewhere leaves the map usable.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection to the address of the tests, whoever opened it; `false` for any other address.
    pub(crate) fn take(&self, slot: u32, client: SocketAddr, target: SocketAddr) -> bool {
        if !canaries().contains(&target.ip()) {
            return false;
        }
        if let Some(waiting) = self.waiting().remove(&(slot, client)) {
            // Whoever waited may have given up.
            let _ = waiting.send(());
        }
        true
    }
}

/// Returns the addresses with which pods are tested, of both families.
pub fn canaries() -> [IpAddr; 2] {
    [CANARY_V4, CANARY_V6].map(|ip| from_abi(SocketAddress { ip, ..SocketAddress::default() }).ip())
}

/// Tests that `pod`, whose links end in `devices`, is captured.
///
/// # Errors
/// What was seen instead.
pub(crate) async fn prove(
    plane: &Dataplane,
    pod: &Arc<LocalPod>,
    devices: &[Device],
) -> Result<(), ProofError> {
    let address = *pod.addresses.first().ok_or(ProofError::NoAddress)?;
    let [v4, v6] = canaries();
    let canary = if address.is_ipv4() { v4 } else { v6 };
    taken(plane, pod, address, canary).await?;
    for device in devices {
        let frame = frame(address, canary, device.link_header);
        let inside = pod.netns.socket(Domain::PACKET, Type::RAW, None)?;
        counted(plane, pod, device, "from", || {
            send_frame(&inside, device.inside, ethertype(address), &frame)
        })?;
        let frame = self::frame(canary, address, device.link_header);
        let outside = Socket::new(Domain::PACKET, Type::RAW, None)?;
        counted(plane, pod, device, "to", || send_frame(&outside, device.index, ethertype(address), &frame))?;
    }
    Ok(())
}

/// Connects as a process in the pod would, unannounced, and waits until the agent is handed the connection.
async fn taken(plane: &Dataplane, pod: &LocalPod, address: IpAddr, canary: IpAddr) -> Result<(), ProofError> {
    let socket = TcpSocket::from_std_stream(pod.netns.connecting(SocketAddr::new(canary, PORT))?.into());
    socket.bind(SocketAddr::new(address, 0))?;
    let client = socket.local_addr()?;
    let (send, receive) = oneshot::channel();
    plane.proofs.waiting().insert((pod.slot, client), send);
    let attempt = async {
        let stream = socket.connect(SocketAddr::new(canary, PORT)).await;
        // The agent resets it as soon as it has it, which this side may see first.
        let taken = receive.await.is_ok();
        drop(stream);
        taken
    };
    let taken = tokio::time::timeout(TIMEOUT, attempt).await;
    plane.proofs.waiting().remove(&(pod.slot, client));
    if taken == Ok(true) { Ok(()) } else { Err(ProofError::NotTaken) }
}

/// Sends a frame, and checks that the guard has counted it. Sending runs the guard before it returns.
fn counted(
    plane: &Dataplane,
    pod: &LocalPod,
    device: &Device,
    direction: &'static str,
    send: impl FnOnce() -> io::Result<()>,
) -> Result<(), ProofError> {
    let before = plane.kernel.tested(pod.slot)?;
    match send() {
        Ok(()) => {}
        // That is how a dropped packet shows, in one of the two directions.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
        Err(error) => return Err(error.into()),
    }
    if plane.kernel.tested(pod.slot)? == before {
        return Err(ProofError::NotGuarded { device: device.name.clone(), direction });
    }
    Ok(())
}

fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { 0x0800 } else { 0x86dd }
}

/// Returns a TCP SYN from `source` to `destination` whose checksums are wrong: were it to pass, nobody would take it.
fn frame(source: IpAddr, destination: IpAddr, link_header: u32) -> Vec<u8> {
    const TCP_LENGTH: u8 = 20;
    let mut frame = Vec::with_capacity(80);
    if link_header > 0 {
        frame.extend([0xff; 6]);
        frame.extend([0x02, 0, 0, 0, 0, PORT as u8]);
        frame.extend(ethertype(source).to_be_bytes());
    }
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x45, 0, 0, 20 + TCP_LENGTH, 0, 0, 0x40, 0, 1, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            frame.extend([0x60, 0, 0, 0, 0, TCP_LENGTH, 6, 1]);
            frame.extend(octets(source));
            frame.extend(octets(destination));
        }
    }
    frame.extend(PORT.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    // Sequence and acknowledgement, then the length of the header and the flag SYN.
    frame.extend([0; 8]);
    frame.extend([0x50, 0x02, 0, 0, 0, 0, 0, 0]);
    frame
}
