//! New connections: opened, used for one byte, closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::{Client, Service, latency::Latencies};

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn run(client: &Client) -> Result<Value> {
    let (target, time) = (client.target(Service::Once), client.time);
    let end = Instant::now() + time;
    let workers = (0..client.count).map(|_| {
        std::thread::spawn(move || {
            let mut latencies = Latencies::default();
            while Instant::now() < end {
                let start = Instant::now();
                once(target)?;
                latencies.add(start);
            }
            Ok(latencies)
        })
    });
    Ok(Latencies::report(join(workers.collect())?, time))
}

/// Makes one connection and says how many seconds it took.
pub(crate) fn first(client: &Client) -> Result<Value> {
    let start = Instant::now();
    once(client.target(Service::Once))?;
    Ok(json!({"value": start.elapsed().as_secs_f64(), "units": 1}))
}

/// Connects again and again until one is refused; says when that one was begun, in seconds since 1970.
pub(crate) fn until_refused(client: &Client) -> Result<Value> {
    let target = client.target(Service::Once);
    let end = Instant::now() + client.time;
    let mut passed = 0_u64;
    while Instant::now() < end {
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        if let Err(error) = once(target) {
            return Ok(json!({"value": begun.as_secs_f64(), "units": passed, "error": format!("{error:#}")}));
        }
        passed += 1;
        if passed == 1 {
            println!("passed");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(anyhow!("none of {passed} connections was refused"))
}

fn once(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("limit the wait")?;
    let mut byte = [1];
    stream.write_all(&byte).context("send")?;
    stream.read_exact(&mut byte).context("receive")?;
    // The server closes first, so that the client's ports are free again at once.
    match stream.read(&mut byte) {
        Ok(0) => Ok(()),
        Ok(_) => Err(anyhow!("more than one byte came back")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(anyhow!("the server did not close")),
        Err(error) => Err(error).context("wait for the end"),
    }
}

/// Waits for every worker; the first failure counts.
pub(crate) fn join<T>(workers: Vec<JoinHandle<Result<T>>>) -> Result<Vec<T>> {
    // All are waited for, so that none outlives the report.
    let ended: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
    ended.into_iter().map(|worker| worker.map_err(|_| anyhow!("a worker panicked"))?).collect()
}
