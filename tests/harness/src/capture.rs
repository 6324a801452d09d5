//! Records what crosses the links between nodes, from inside the fabric. Never looks into a pod or a node.

use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::capture::packet::Packet;
use crate::capture::wire::WireReport;
use crate::{must, netns};

pub(crate) mod packet;
pub(crate) mod wire;

/// All protocols, in network byte order (`ETH_P_ALL`).
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
/// Enough for a burst that the reader has not come to yet.
const KERNEL_BUFFER: usize = 64 << 20;
/// Offloads make frames of up to 64 KiB on a veth, whatever its MTU.
const LONGEST_FRAME: usize = 1 << 17;
/// What a capture keeps at most; a test that moves more must not capture it.
const KEEP: usize = 512 << 20;

/// A running recording; ends with [`Capture::stop`].
pub struct Capture {
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Vec<Packet>>>>,
}

impl Capture {
    pub(crate) fn start(fabric: &str) -> Result<Self> {
        let socket = netns::inside(fabric, open)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let reader = Some(std::thread::spawn(move || record(socket, &told)));
        Ok(Self { over, reader })
    }

    /// Ends the recording and returns every packet that entered the fabric since its start.
    #[track_caller]
    pub fn stop(mut self) -> Captured {
        Captured { packets: must(self.finish()) }
    }

    fn finish(&mut self) -> Result<Vec<Packet>> {
        self.over.store(true, Ordering::Release);
        let reader = self.reader.take().context("the capture is over already")?;
        reader.join().map_err(|_| anyhow!("the capture's thread panicked"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A capture that nobody stopped has nobody who reads it; only its thread must end.
        self.over.store(true, Ordering::Release);
    }
}

/// Packets as they were on the wire, in order.
#[derive(Debug)]
pub struct Captured {
    /// Every packet, with its Ethernet header.
    pub packets: Vec<Packet>,
}

impl Captured {
    /// Returns whether `payload` was readable on the wire, in one packet or across the segments of a connection.
    pub fn contains(&self, payload: impl AsRef<[u8]>) -> bool {
        let payload = payload.as_ref();
        self.packets.iter().any(|packet| holds(packet.bytes(), payload))
            || wire::streams(&self.packets)
                .iter()
                .any(|s| s.runs.iter().any(|run| holds(&run.bytes, payload)))
    }

    /// Returns whether TLS records went to or from TCP port `port`.
    pub fn tls_seen(&self, port: u16) -> bool {
        self.report().streams.iter().any(|s| s.tls && (s.src.port() == port || s.dst.port() == port))
    }

    /// Says of every TCP stream to or from a pod whether it was TLS.
    pub fn report(&self) -> WireReport {
        WireReport::of(&self.packets)
    }
}

fn holds(bytes: &[u8], payload: &[u8]) -> bool {
    !payload.is_empty() && bytes.windows(payload.len()).any(|window| window == payload)
}

/// Opens a packet socket on all links of the namespace that this thread is in.
fn open() -> Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
        .context("open a packet socket")?;
    // A forwarded frame shows up as it comes in at one port and as it leaves at another: keep the first.
    // Load the ancillary word `packet type`; 4 is PACKET_OUTGOING.
    socket
        .attach_filter(&[
            SockFilter::new(0x20, 0, 0, 0xffff_f000 + 4),
            SockFilter::new(0x15, 0, 1, 4),
            SockFilter::new(0x06, 0, 0, 0),
            SockFilter::new(0x06, 0, 0, u32::MAX),
        ])
        .context("filter the packet socket")?;
    set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER)
        .context("enlarge the packet socket's buffer")?;
    socket.set_read_timeout(Some(Duration::from_millis(20))).context("set a time-out")?;
    Ok(socket)
}

fn record(mut socket: Socket, over: &AtomicBool) -> Result<Vec<Packet>> {
    let mut frame = vec![0; LONGEST_FRAME];
    let (mut packets, mut kept) = (Vec::new(), 0);
    loop {
        // Asked before the read: what came in before the end was told is still read after it.
        let last = over.load(Ordering::Acquire);
        match socket.read(&mut frame) {
            Ok(length) => {
                kept += length;
                if kept > KEEP {
                    return Err(anyhow!("the capture grew beyond {KEEP} bytes: capture less"));
                }
                packets.push(Packet::new(frame[..length].to_vec()));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && last => return Ok(packets),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("read a packet"),
        }
    }
}
