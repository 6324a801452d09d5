//! `scan`: every port of an address, and what its listeners give to someone who just connects.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

const WORKERS: usize = 4;

/// Connects to each port and prints those that accepted, with how many bytes each gave.
#[derive(clap::Args)]
pub(crate) struct Scan {
    address: IpAddr,
    #[arg(long, default_value_t = 1)]
    first: u16,
    #[arg(long, default_value_t = 65535)]
    last: u16,
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Scan {
    pub(crate) fn run(&self) -> Result<Value> {
        let (next, open) = (AtomicU32::new(self.first.into()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Ok(port) = u16::try_from(next.fetch_add(1, Ordering::Relaxed))
                        && port <= self.last
                    {
                        if let Some(bytes) = self.dial(SocketAddr::new(self.address, port))
                            && let Ok(mut open) = open.lock()
                        {
                            open.push(json!({ "port": port, "bytes": bytes }));
                        }
                    }
                });
            }
        });
        let open = open.into_inner().unwrap_or_default();
        Ok(json!({ "open": open }))
    }

    /// Returns how many bytes came; `None` where nobody accepts.
    fn dial(&self, to: SocketAddr) -> Option<usize> {
        let mut stream = match TcpStream::connect_timeout(&to, self.timeout) {
            Ok(stream) => stream,
            // It was accepted, and reset before this could look.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(0),
            Err(_) => return None,
        };
        // A port of one's own that connects to itself is no listener.
        if stream.local_addr().ok()? == to {
            return None;
        }
        stream.set_read_timeout(Some(self.timeout)).ok()?;
        let mut got = Vec::new();
        let _ = stream.write_all(b"CONNECT 10.1.0.11:8080 HTTP/1.1\r\n\r\n");
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.take(4096).read_to_end(&mut got);
        Some(got.len())
    }
}
