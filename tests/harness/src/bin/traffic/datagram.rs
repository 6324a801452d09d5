//! UDP: a server that sends each datagram back, and a client that sends one and waits for it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::exchange::kind;
use crate::{Target, signals};

/// How often the server looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(100);

/// Sends back every datagram until SIGTERM, then prints how many came.
#[derive(clap::Args)]
pub(crate) struct Reflect {
    /// The address to receive on; [::]:PORT takes both families.
    #[arg(long)]
    listen: SocketAddr,
}

impl Reflect {
    pub(crate) fn run(&self) -> Result<Value> {
        signals::on_stop(|| ())?;
        let socket = UdpSocket::bind(self.listen).with_context(|| format!("bind to {}", self.listen))?;
        socket.set_read_timeout(Some(LOOK)).context("set the time-out")?;
        eprintln!("listening");
        let (mut received, mut refused) = (0_u64, 0_u64);
        let mut buffer = [0; 2048];
        while !signals::stopped() {
            match socket.recv_from(&mut buffer) {
                Ok((length, peer)) => {
                    received += 1;
                    let answer = buffer.get(..length).unwrap_or_default();
                    refused += u64::from(socket.send_to(answer, peer).is_err());
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error).context("receive"),
            }
        }
        Ok(json!({"received": received, "answers_refused": refused}))
    }
}

/// Sends one datagram and waits for it to come back.
#[derive(clap::Args)]
pub(crate) struct Datagram {
    #[command(flatten)]
    target: Target,
    /// Connects the socket first, instead of naming the destination as it sends.
    #[arg(long)]
    connected: bool,
}

impl Datagram {
    pub(crate) fn run(&self) -> Result<Value> {
        let outcome = match self.exchange() {
            Ok(()) => "answered".to_owned(),
            Err(error) if is_pause(&error) => "silence".to_owned(),
            Err(error) => kind(&error),
        };
        Ok(json!({"outcome": outcome}))
    }

    fn exchange(&self) -> io::Result<()> {
        let to = self.target.to;
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(self.target.timeout))?;
        if self.connected {
            socket.connect(to)?;
            socket.send(b"datagram")?;
        } else {
            socket.send_to(b"datagram", to)?;
        }
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer)?;
        if buffer.get(..length) == Some(b"datagram") { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
