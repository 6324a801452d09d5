//! The two ways past a pod's own IP stack: raw IP sockets with a header of one's own, and frames on the link.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{self, Header};

/// `IPPROTO_RAW`: the sender brings the IP header.
const RAW: i32 = 255;
/// All protocols, in network byte order (`ETH_P_ALL`).
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;
/// The gateway of every pod of the testbed.
pub(crate) const GATEWAY: [u8; 6] = [0xee; 6];
/// The attacker's own link address; no guard asks for it.
pub(crate) const MAC: [u8; 6] = [0x02, 0xba, 0xd0, 0, 0, 1];
const LINK: &str = "eth0";

/// How packets leave the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// A raw IP socket, header included.
    Raw,
    /// A packet socket on the link.
    Frame,
}

/// Sends packets, and sees everything that passes the pod's links.
pub(crate) struct Wire {
    via: Via,
    raw: [Socket; 2],
    link: Socket,
    index: u32,
}

impl Wire {
    pub(crate) fn open(via: Via) -> Result<Self> {
        let raw = [Domain::IPV4, Domain::IPV6]
            .map(|domain| Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))));
        let [v4, v6] = raw;
        let link = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
            .context("open a packet socket")?;
        link.set_read_timeout(Some(Duration::from_millis(20))).context("set a time-out")?;
        let raw = [v4.context("open a raw socket")?, v6.context("open a raw socket")?];
        let index = name_to_index(&link, LINK).with_context(|| format!("find {LINK}"))?;
        Ok(Self { via, raw, link, index })
    }

    /// Sends an IP packet; what the kernel says of it is no failure of the attacker's, but told.
    pub(crate) fn send(&self, to: IpAddr, packet: &[u8]) -> Result<()> {
        match self.via {
            Via::Raw => {
                let socket = &self.raw[usize::from(to.is_ipv6())];
                socket
                    .send_to(packet, &SocketAddr::new(to, 0).into())
                    .context("send through a raw socket")
                    .map(drop)
            }
            Via::Frame => self.frame(if to.is_ipv4() { 0x0800 } else { 0x86dd }, packet),
        }
    }

    /// Sends a frame to the gateway.
    pub(crate) fn frame(&self, ethertype: u16, body: &[u8]) -> Result<()> {
        let mut frame = [GATEWAY, MAC].concat();
        frame.extend(ethertype.to_be_bytes());
        frame.extend(body);
        ambit_bpf::send_frame(&self.link, self.index, ethertype, &frame).context("send a frame")
    }

    /// Waits until something that passes is what `wanted` makes a value of; `None` when nothing is, for `limit`.
    pub(crate) fn hear<T>(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        let mut frame = vec![0; 1 << 17];
        while Instant::now() < deadline {
            match (&self.link).read(&mut frame) {
                Ok(length) => {
                    if let Some(found) = frame.get(14..length).and_then(&mut wanted) {
                        return Ok(Some(found));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("read the link"),
            }
        }
        Ok(None)
    }

    /// Returns once an echo of the pod's own address `from` came back from `to`: what was sent before has arrived by
    /// then, or never will.
    ///
    /// What passes meanwhile is shown to `meanwhile`.
    ///
    /// # Errors
    /// When no answer comes.
    pub(crate) fn fence(&self, from: IpAddr, to: IpAddr, mut meanwhile: impl FnMut(&[u8])) -> Result<()> {
        let number = std::process::id() as u16;
        let request = packet::ip(from, to, &Header::default(), &packet::echo(from, to, number))?;
        self.send(to, &request)?;
        let (reply, at) = if from.is_ipv4() { (0, 20) } else { (129, 40) };
        let mut wanted = |packet: &[u8]| {
            meanwhile(packet);
            let icmp = packet.get(at..at + 8)?;
            (icmp[0] == reply && icmp[4..6] == number.to_be_bytes()).then_some(())
        };
        match self.hear(Duration::from_secs(5), &mut wanted)? {
            Some(()) => Ok(()),
            None => bail!("{to} did not answer the echo of {from}"),
        }
    }
}
