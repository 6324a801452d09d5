//! `hear` and `ask`: UDP on ordinary sockets, one side that answers and tells, one that asks.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Answers every datagram with itself, and prints one line of JSON for each, until it is ended.
#[derive(clap::Args)]
pub(crate) struct Hear {
    /// Where it listens, ADDRESS:PORT.
    at: SocketAddr,
}

impl Hear {
    pub(crate) fn run(&self) -> Result<Value> {
        let socket = UdpSocket::bind(self.at).with_context(|| format!("bind {}", self.at))?;
        println!("hearing");
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).context("receive")?;
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            println!("{}", json!({ "from": from, "said": String::from_utf8_lossy(&buffer[..length]) }));
            // Whether the answer may leave is the asker's to find out.
            let _ = socket.send_to(&buffer[..length], from_family(from, self.at));
        }
    }
}

/// A socket of both families sends to IPv4 by mapped addresses.
fn from_family(to: SocketAddr, own: SocketAddr) -> SocketAddr {
    match (to, own) {
        (SocketAddr::V4(to), SocketAddr::V6(_)) => {
            SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port())
        }
        _ => to,
    }
}

/// Sends a datagram and prints whether it came back in time.
#[derive(clap::Args)]
pub(crate) struct Ask {
    /// The one who is asked, ADDRESS:PORT.
    to: SocketAddr,
    /// The local address; absent: any.
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// What is said.
    #[arg(long, default_value = "ambit-ask")]
    say: String,
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Ask {
    pub(crate) fn run(&self) -> Result<Value> {
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let own = self.bind.map_or_else(|| any.to_owned(), |bind| bind.to_string());
        let socket = UdpSocket::bind(&own).with_context(|| format!("bind {own}"))?;
        socket.set_read_timeout(Some(self.timeout)).context("set a time-out")?;
        let mut buffer = [0; 2048];
        // A socket that is connected is told of ICMP errors too.
        socket.connect(self.to).with_context(|| format!("connect to {}", self.to))?;
        let heard = socket.send(self.say.as_bytes()).and_then(|_| socket.recv(&mut buffer));
        let local = socket.local_addr().context("read the local address")?;
        Ok(match heard {
            Ok(_) => json!({ "answered": true, "local": local }),
            Err(error) => json!({ "answered": false, "error": error.to_string(), "local": local }),
        })
    }
}
