//! `watch`: what reaches a pod over its link, whatever its sockets make of it. The defender's eye; sends nothing.

use std::io::Read;
use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::{ICMP, ICMPV6};
use crate::read;

/// All protocols, in network byte order (`ETH_P_ALL`).
const EVERY_PROTOCOL: i32 = 0x0003_u16.to_be() as i32;

/// Prints one line of JSON for each IP packet that comes to one of these addresses, until it is ended. ICMP is left out.
#[derive(clap::Args)]
pub(crate) struct Watch {
    /// The pod's addresses.
    #[arg(required = true)]
    addresses: Vec<IpAddr>,
    /// Prints ICMP too: not for where neighbours are looked for.
    #[arg(long)]
    icmp: bool,
}

impl Watch {
    pub(crate) fn run(&self) -> Result<Value> {
        let link = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY_PROTOCOL)))
            .context("open a packet socket")?;
        println!("watching");
        let mut frame = vec![0; 1 << 17];
        loop {
            let length = (&link).read(&mut frame).context("read the link")?;
            let Some(seen) = frame.get(14..length).and_then(read::packet) else { continue };
            if self.addresses.contains(&seen.to.ip())
                && (self.icmp || !matches!(seen.protocol, ICMP | ICMPV6))
            {
                let line = json!({
                    "from": seen.from, "to": seen.to, "protocol": seen.protocol, "flags": seen.flags,
                    "fragment": seen.fragment, "sequence": seen.sequence,
                    "acknowledged": seen.acknowledged,
                });
                println!("{line}");
            }
        }
    }
}
