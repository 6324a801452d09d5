//! The rules of a trunk, on real handshakes and sockets; where a peer must misbehave, it is written by hand.

use super::{
    frame::{Frame, Frames},
    *,
};
use crate::{
    dataplane::live::{Caller, Facts, Live, Path},
    identity::testing,
};
use ambit_core::policy::Protocol;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Returns an application's end of a connection, and the agent's.
pub(super) async fn application(direction: Direction) -> (TcpStream, Carried) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, client) = listener.accept().await.unwrap();
    (near, carried(far, client, direction))
}

fn carried(stream: TcpStream, client: SocketAddr, direction: Direction) -> Carried {
    let facts = Facts {
        direction,
        caller: Caller::Unverified,
        client,
        server: client,
        destination: None,
        service: None,
        path: Path::Tunnel,
        protocol: Protocol::Tcp,
    };
    let permit = Arc::new(Live::default()).enter(facts);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    Carried::new(Socket::of_pod(stream), permit, direction, ())
}

/// Waits for the frames of the next record.
async fn hear(peer: &mut Secured<DuplexStream>, frames: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while Frames::of(&heard).filter(Result::is_ok).count() < frames {
        assert_ne!(timeout(PATIENCE, peer.read_buf(&mut heard)).await.unwrap().unwrap(), 0);
    }
    heard
}

async fn say(peer: &mut Secured<DuplexStream>, frames: &[Frame<'_>]) {
    let mut record = Vec::new();
    frames.iter().for_each(|frame| frame.write(&mut record));
    // A trunk that has ended already hears no more.
    let _ = peer.write_all(&record).await;
}

#[tokio::test]
async fn bytes_go_both_ways_and_so_do_the_ends() {
    let (near, far) = testing::secured().await;
    let (mut server, application_of_server) = application(Direction::Inbound).await;
    let mut waiting = Some(application_of_server);
    let (_called, driver) = Trunk::accept(far, move |asked, reply| {
        assert_eq!(asked, Asked { port: 80, client_port: 4000 });
        reply.accept(waiting.take().unwrap());
    });
    let driver = tokio::spawn(driver);
    let trunk = Trunk::connect(near, &Tally::default());
    let (mut client, carried) = application(Direction::Outbound).await;
    let sent: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut reading, mut writing) = client.split();
    let talk = async {
        let upward = async {
            writing.write_all(&sent).await.unwrap();
            writing.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let downward = reading.read_to_end(&mut got);
        tokio::join!(upward, async { downward.await.unwrap() });
        got
    };
    let serve = async {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        server.write_all(&got).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (outcome, got, ()) =
        timeout(PATIENCE, async { tokio::join!(trunk.open(80, 4000, carried), talk, serve) }).await.unwrap();
    assert!(matches!(outcome, Outcome::Carried));
    assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
    drop(trunk);
    timeout(PATIENCE, driver).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_says_with_which_status() {
    let (near, far) = testing::secured().await;
    let (_called, driver) = Trunk::accept(far, |_, reply| reply.refuse(401));
    tokio::spawn(driver);
    let trunk = Trunk::connect(near, &Tally::default());
    let (_client, carried) = application(Direction::Outbound).await;
    let outcome = timeout(PATIENCE, trunk.open(80, 4000, carried)).await.unwrap();
    assert!(matches!(outcome, Outcome::Refused(401)));
}

#[tokio::test]
async fn a_stream_that_was_not_looked_at_comes_back_with_its_bytes() {
    let (near, mut peer) = testing::secured().await;
    let trunk = Trunk::connect(near, &Tally::default());
    let (mut client, carried) = application(Direction::Outbound).await;
    client.write_all(b"hello").await.unwrap();
    let answer = async {
        let heard = hear(&mut peer, 2).await;
        let heard: Vec<_> = Frames::of(&heard).map(Result::unwrap).collect();
        assert_eq!(heard[1], Frame::Data { stream: 1, bytes: b"hello" });
        say(&mut peer, &[Frame::Leave { last: 0 }]).await;
    };
    let (outcome, ()) = tokio::join!(timeout(PATIENCE, trunk.open(80, 4000, carried)), answer);
    let Outcome::NotProcessed(carried, _) = outcome.unwrap() else { panic!("it was looked at") };
    assert_eq!(carried.into_socket().unwrap().into_parts().1, b"hello");
    assert!(!trunk.has_room());
}

#[tokio::test]
async fn bytes_that_may_have_arrived_are_not_sent_twice() {
    for (bytes, again) in [(&b"hello"[..], false), (b"", true)] {
        let (near, mut peer) = testing::secured().await;
        let trunk = Trunk::connect(near, &Tally::default());
        let (mut client, carried) = application(Direction::Outbound).await;
        client.write_all(bytes).await.unwrap();
        let answer = async {
            hear(&mut peer, if again { 1 } else { 2 }).await;
            drop(peer);
        };
        let (outcome, ()) = tokio::join!(timeout(PATIENCE, trunk.open(80, 4000, carried)), answer);
        match outcome.unwrap() {
            Outcome::NotProcessed(..) => assert!(again, "it is sent again"),
            Outcome::Lost(reason) => assert!(!again && reason.contains("without ending it"), "{reason}"),
            _ => panic!("nobody answered"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_loses_the_trunk() {
    let open = |stream| Frame::Open { stream, port: 80, client_port: 4000 };
    let too_much = vec![0; 16_000];
    let flood: Vec<Frame<'_>> =
        [open(1)].into_iter().chain((0..70).map(|_| Frame::Data { stream: 1, bytes: &too_much })).collect();
    let cases: Vec<(&str, Vec<Frame<'_>>)> = vec![
        ("a stream that never was", vec![Frame::Data { stream: 1, bytes: b"x" }]),
        ("a stream that never was ends", vec![Frame::End { stream: 7 }]),
        ("credit for a stream that never was", vec![Frame::Credit { stream: 7, bytes: 1 }]),
        ("the trunk's own stream", vec![open(0)]),
        ("a stream twice", vec![open(1), open(1)]),
        ("a stream out of order", vec![open(2), open(1)]),
        ("two ends", vec![open(1), Frame::End { stream: 1 }, Frame::End { stream: 1 }]),
        (
            "bytes after the end",
            vec![open(1), Frame::End { stream: 1 }, Frame::Data { stream: 1, bytes: b"x" }],
        ),
        ("more credit than there is", vec![open(1), Frame::Credit { stream: 1, bytes: 1 }]),
        ("credit beyond all numbers", vec![open(1), Frame::Credit { stream: 1, bytes: u32::MAX }]),
        ("an answer to nothing", vec![open(1), Frame::Answer { stream: 1, status: 200 }]),
        ("more than a window", flood),
    ];
    for (what, frames) in cases {
        let (mut peer, far) = testing::secured().await;
        // Nothing is answered: the replies are kept.
        let (kept, mut replies) = mpsc::unbounded_channel();
        let (_called, driver) = Trunk::accept(far, move |_, reply| drop(kept.send(reply)));
        let driver = tokio::spawn(driver);
        for frame in frames {
            say(&mut peer, &[frame]).await;
        }
        let ended = timeout(PATIENCE, driver).await.unwrap_or_else(|_| panic!("{what}: it goes on")).unwrap();
        assert!(matches!(ended, Err(TrunkError::Peer(_))), "{what}: {ended:?}");
        replies.close();
    }
}

#[tokio::test]
async fn a_called_side_never_has_more_streams_than_agreed() {
    let (mut peer, far) = testing::secured().await;
    let (kept, mut replies) = mpsc::unbounded_channel();
    let (_called, driver) = Trunk::accept(far, move |_, reply| drop(kept.send(reply)));
    tokio::spawn(driver);
    // Opened and reset at once, again and again: each still costs a decision until that is made.
    let last = u32::try_from(MAX_STREAMS).unwrap() + 1;
    for stream in 1..=last {
        let open = Frame::Open { stream, port: 80, client_port: 4000 };
        say(&mut peer, &[open, Frame::Reset { stream }]).await;
    }
    let heard = hear(&mut peer, 1).await;
    let heard: Vec<_> = Frames::of(&heard).map(Result::unwrap).collect();
    assert_eq!(heard, [Frame::Answer { stream: last, status: frame::NOT_PROCESSED }]);
    let mut asked = 0;
    while replies.try_recv().is_ok() {
        asked += 1;
    }
    assert_eq!(asked, MAX_STREAMS);
}

#[tokio::test]
async fn a_burst_of_streams_is_not_decided_upon_at_once() {
    let (mut peer, far) = testing::secured().await;
    let (told, mut asked) = mpsc::unbounded_channel();
    let (_called, driver) = Trunk::accept(far, move |_, reply| {
        told.send(reply.may_be_at_once()).unwrap();
        // The stream is gone at once, so that their number bounds nothing.
        reply.refuse(401);
    });
    tokio::spawn(driver);
    let opens: Vec<_> = (1..=500).map(|stream| Frame::Open { stream, port: 80, client_port: 4000 }).collect();
    say(&mut peer, &opens).await;
    let mut at_once = 0;
    for _ in &opens {
        at_once += usize::from(timeout(PATIENCE, asked.recv()).await.unwrap().unwrap());
    }
    // They came in one record, and were looked at in one turn.
    assert_eq!(at_once, 64);
}
