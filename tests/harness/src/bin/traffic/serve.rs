//! `serve`: one listener for each address, one thread for each connection, one behaviour for all.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::endings::abort;
use crate::transfer;
use crate::{pattern::Pattern, signals};

const BUFFER: usize = 64 * 1024;

/// Serves connections until SIGTERM.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// An address to listen on; [::]:PORT takes both families.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
    /// What each connection gets.
    #[arg(long, value_enum, default_value_t = Mode::Hello)]
    mode: Mode,
    /// How many bytes `source` sends, and how many `reset` reads first.
    #[arg(long, default_value_t = 0)]
    bytes: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// One line of JSON with the addresses seen, then as echo.
    Hello,
    /// Sends back what comes, and ends after the client.
    Echo,
    /// Reads to the end and answers nothing.
    Discard,
    /// Reads to the end, then answers how much that was and ends: for `half-close`.
    Sum,
    /// The other side of `transfer`.
    Transfer,
    /// Sends `--bytes` of a pattern and ends.
    Source,
    /// Reads `--bytes`, then resets the connection.
    Reset,
    /// Reads `--bytes`, then ends in order.
    Close,
    /// Never reads, and keeps the connection open.
    Stall,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    bytes: AtomicU64,
    aborted: AtomicU64,
}

impl Counters {
    fn report(&self) -> Value {
        json!({
            "connections": self.connections.load(Ordering::Acquire),
            "bytes": self.bytes.load(Ordering::Acquire),
            "aborted": self.aborted.load(Ordering::Acquire),
        })
    }
}

impl Serve {
    pub(crate) fn run(&self) -> Result<Value> {
        let counters = Arc::new(Counters::default());
        let at_end = counters.clone();
        signals::on_stop(move || {
            println!("{}", at_end.report());
            std::process::exit(0);
        })?;
        let mut listeners = Vec::new();
        for address in &self.listen {
            listeners.push(listen(*address).with_context(|| format!("listen on {address}"))?);
        }
        println!("listening");
        std::thread::scope(|scope| {
            for listener in &listeners {
                scope.spawn(|| self.accept(listener, &counters));
            }
        });
        Ok(counters.report())
    }

    fn accept(&self, listener: &TcpListener, counters: &Arc<Counters>) {
        loop {
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("accept: {error}");
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            counters.connections.fetch_add(1, Ordering::AcqRel);
            let (mode, bytes, counters) = (self.mode, self.bytes, counters.clone());
            std::thread::spawn(move || match serve(mode, bytes, &stream, from) {
                Ok(read) => drop(counters.bytes.fetch_add(read, Ordering::AcqRel)),
                Err(error) => {
                    counters.aborted.fetch_add(1, Ordering::AcqRel);
                    eprintln!("connection from {from}: {error}");
                }
            });
        }
    }
}

/// Listens with a queue that hundreds of clients at once do not overflow; the standard library's holds 128.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves one connection; returns how many bytes it read.
fn serve(mode: Mode, bytes: u64, stream: &TcpStream, from: SocketAddr) -> io::Result<u64> {
    // Answers are short: without this each would wait for the peer's delayed acknowledgement.
    stream.set_nodelay(true)?;
    match mode {
        Mode::Hello => {
            let hello = greeting(stream, from)?;
            eprintln!("accepted {hello}");
            (&*stream).write_all(format!("{hello}\n").as_bytes())?;
            echo(stream)
        }
        Mode::Echo => echo(stream),
        Mode::Discard => read_to_end(stream),
        Mode::Sum => {
            let read = read_to_end(stream)?;
            (&*stream).write_all(format!("{}\n", json!({ "bytes": read })).as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            Ok(read)
        }
        Mode::Transfer => transfer::answer(stream),
        Mode::Source => {
            transfer::send(&mut &*stream, &mut Pattern::new(0), bytes)?;
            stream.shutdown(Shutdown::Write)?;
            read_to_end(stream)
        }
        Mode::Reset => {
            let read = io::copy(&mut stream.take(bytes), &mut io::sink())?;
            abort(stream)?;
            Ok(read)
        }
        Mode::Close => io::copy(&mut stream.take(bytes), &mut io::sink()),
        Mode::Stall => loop {
            std::thread::park();
        },
    }
}

fn greeting(stream: &TcpStream, from: SocketAddr) -> io::Result<Value> {
    // A listener of both families sees IPv4 peers as mapped addresses: shown as what they are.
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    Ok(json!({
        "accept": plain(from),
        "getpeername": plain(stream.peer_addr()?),
        "getsockname": plain(stream.local_addr()?),
    }))
}

fn echo(stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER];
    let mut total = 0;
    loop {
        let count = (&*stream).read(&mut buffer)?;
        if count == 0 {
            stream.shutdown(Shutdown::Write)?;
            return Ok(total);
        }
        (&*stream).write_all(&buffer[..count])?;
        total += count as u64;
    }
}

fn read_to_end(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}
