//! Idle connections: opened, used for one byte, kept.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Client, Service};

pub(crate) fn run(client: &Client) -> Result<Value> {
    raise_files()?;
    let mut kept = Vec::with_capacity(client.count);
    for number in 0..client.count {
        let open = || -> Result<TcpStream> {
            let mut stream = TcpStream::connect(client.target(Service::Keep)).context("connect")?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).context("limit the wait")?;
            let mut byte = [1];
            stream.write_all(&byte).context("send")?;
            stream.read_exact(&mut byte).context("receive")?;
            Ok(stream)
        };
        kept.push(open().with_context(|| format!("connection {number}"))?);
    }
    println!("open");
    loop {
        std::thread::park();
    }
}

/// Lets this process have as many open files as the system permits.
pub(crate) fn raise_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, all).context("raise the limit of open files")
}
