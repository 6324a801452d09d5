//! The servers of the benchmark, all in one process.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{Service, hold, requests};

/// Bytes per read of the sink.
const PIECE: usize = 256 * 1024;
/// Threads that accept one-byte connections, and serve them themselves.
const ACCEPTORS: usize = 8;

pub(crate) fn run(first: u16) -> Result<Value> {
    hold::raise_files()?;
    let listen = |service: Service| {
        let port = service.port(first);
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("listen on port {port}"))
    };
    each(listen(Service::Sink)?, sink);
    each(listen(Service::Echo)?, echo);
    let once = listen(Service::Once)?;
    for _ in 0..ACCEPTORS {
        let once = once.try_clone().context("share a listener")?;
        thread::spawn(move || once.incoming().flatten().for_each(serve_once));
    }
    let keep = listen(Service::Keep)?;
    thread::spawn(move || keep_all(&keep));
    requests::serve(listen(Service::Http1)?, requests::Version::Http1);
    requests::serve(listen(Service::Http2)?, requests::Version::Http2);
    println!("listening");
    loop {
        thread::park();
    }
}

/// Serves every connection with a thread of its own.
fn each(listener: TcpListener, serve: fn(TcpStream) -> std::io::Result<()>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // How a connection ended is the client's to tell.
            thread::spawn(move || serve(stream));
        }
    });
}

fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut total = 0_u64;
    loop {
        match stream.read(&mut piece)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            bytes => total += bytes as u64,
        }
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            bytes => stream.write_all(&piece[..bytes])?,
        }
    }
}

fn serve_once(mut stream: TcpStream) {
    let mut byte = [0];
    // A client that went away is the client's to tell.
    let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
}

fn keep_all(listener: &TcpListener) {
    let mut kept = Vec::new();
    for mut stream in listener.incoming().flatten() {
        let mut byte = [0];
        if stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).is_ok() {
            kept.push(stream);
        }
    }
}
