//! `send`: one packet that no socket stands behind, then an echo, whose answer tells that it arrived or never will,
//! unless the sender is one who gets no answers.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::packet::{self, ACK, Body, FIN, Header, PSH, RST, SYN, Segment, TCP};
use crate::read;
use crate::wire::{MAC, Via, Wire};

/// What attacks carry.
const PAYLOAD: &[u8] = b"ambit-attack";

/// Sends a packet and prints how the destination answered it.
#[derive(clap::Args)]
pub(crate) struct Send {
    /// Where it goes, ADDRESS:PORT.
    to: SocketAddr,
    /// The source that it claims.
    #[arg(long)]
    from: SocketAddr,
    /// The pod's own address of the same family, for the echo; absent: `--from`.
    #[arg(long)]
    own: Option<IpAddr>,
    #[arg(long, value_enum, default_value_t = Via::Frame)]
    via: Via,
    #[arg(long, value_enum, default_value_t = Kind::Syn)]
    kind: Kind,
    #[arg(long, value_enum, default_value_t = Form::Whole)]
    form: Form,
    /// Sends it inside of VXLAN (network 7, for the link address 02:00:00:00:00:77) to this end of a tunnel, from the
    /// pod's own address.
    #[arg(long)]
    through: Option<SocketAddr>,
    /// TCP's sequence number.
    #[arg(long, default_value_t = 1000)]
    sequence: u32,
    /// What TCP acknowledges.
    #[arg(long, default_value_t = 1000)]
    acknowledged: u32,
    /// Sends no echo: whether it arrived is for others to say.
    #[arg(long)]
    blind: bool,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Syn,
    /// A SYN with data, as with TCP Fast Open.
    SynData,
    Data,
    Rst,
    /// A RST with data.
    RstData,
    /// As the kernel answers a SYN to a closed port.
    RstAck,
    SynAck,
    /// An ACK without data.
    Ack,
    Fin,
    /// An answer to an echo that nobody asked for.
    EchoReply,
    /// The error that a port is closed, about data.
    Unreachable,
    /// A report that a group has a member, with data.
    Membership,
    /// A neighbour solicitation with data instead of its option.
    Solicitation,
    Udp,
    /// An SCTP INIT.
    Sctp,
    /// A SYN inside of IP in IP.
    Ipip,
    /// A SYN inside of GRE.
    Gre,
    /// A gratuitous ARP for the address `--from`.
    Arp,
    /// An unsolicited neighbour advertisement for the address `--from`.
    Advertisement,
}

/// How the packet is wrapped or cut.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Whole,
    /// The first fragment ends before TCP's flags.
    Tiny,
    /// The segment is whole in the first fragment; data follows in the second.
    Split,
    /// The first fragment shows an ACK; the second overlaps it and makes it a SYN.
    Overlap,
    /// The second fragment comes before the first.
    Reversed,
    /// IPv4's loose source route through the destination, IPv6's routing header.
    Route,
    /// IPv4's no-operation option, IPv6's hop-by-hop header.
    Options,
    /// IPv6's destination options, six of them.
    Nested,
}

impl Send {
    pub(crate) fn run(&self) -> Result<Value> {
        let wire = Wire::open(self.via)?;
        let (from, to) = (self.from.ip(), self.to.ip());
        let mut errors = Vec::new();
        if self.kind == Kind::Arp {
            wire.frame(0x0806, &packet::arp(from, MAC)?)?;
        } else {
            for packet in self.packets()? {
                // What the kernel does not let out is a refusal too.
                let (to, packet) = match self.through {
                    Some(end) => (end.ip(), self.tunnelled(end, &packet)?),
                    None => (to, packet),
                };
                if let Err(error) = wire.send(to, &packet) {
                    errors.push(format!("{error:#}"));
                }
            }
        }
        let mut answers = Vec::new();
        if self.blind {
            return Ok(json!({ "answers": answers, "errors": errors }));
        }
        wire.fence(self.own.unwrap_or(from), to, |bytes| {
            if let Some(seen) = read::packet(bytes)
                && (seen.from, seen.to) == (self.to, self.from)
            {
                answers.push(match seen.flags {
                    _ if seen.protocol != TCP => "datagram",
                    flags if flags & RST != 0 => "reset",
                    flags if flags & (SYN | ACK) == SYN | ACK => "accepted",
                    _ => "segment",
                });
            }
        })?;
        Ok(json!({ "answers": answers, "errors": errors }))
    }

    fn body(&self) -> Result<Body> {
        let (from, to) = (self.from, self.to);
        let tcp = |flags, payload: &[u8]| {
            let acknowledged = if flags & ACK != 0 { self.acknowledged } else { 0 };
            let segment = Segment { sequence: self.sequence, acknowledged, flags, payload: payload.to_vec() };
            packet::tcp(from, to, &segment)
        };
        let v4 = from.is_ipv4();
        let icmp = |kind, payload: &[u8]| packet::icmp(from.ip(), to.ip(), kind, [0; 4], payload);
        let inner = || packet::ip(from.ip(), to.ip(), &Header::default(), &tcp(SYN, b""));
        Ok(match self.kind {
            Kind::Syn => tcp(SYN, b""),
            Kind::SynData => tcp(SYN, PAYLOAD),
            Kind::Data => tcp(PSH | ACK, PAYLOAD),
            Kind::Rst => tcp(RST, b""),
            Kind::RstData => tcp(RST, PAYLOAD),
            Kind::RstAck => tcp(RST | ACK, b""),
            Kind::SynAck => tcp(SYN | ACK, b""),
            Kind::Ack => tcp(ACK, b""),
            Kind::Fin => tcp(FIN | ACK, b""),
            Kind::EchoReply => icmp(if v4 { 0 } else { 129 }, PAYLOAD),
            Kind::Unreachable => icmp(if v4 { 3 } else { 1 }, PAYLOAD),
            Kind::Membership => packet::membership(to.ip(), PAYLOAD)?,
            Kind::Solicitation => icmp(135, &[PAYLOAD; 4].concat()),
            Kind::Udp => packet::udp(from, to, PAYLOAD),
            Kind::Sctp => {
                let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
                let init =
                    [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9];
                Body { protocol: 132, bytes: [ports, init.to_vec()].concat() }
            }
            Kind::Ipip => Body { protocol: if v4 { 4 } else { 41 }, bytes: inner()? },
            Kind::Gre => {
                let kind: [u8; 2] = if v4 { [8, 0] } else { [0x86, 0xdd] };
                Body { protocol: 47, bytes: [vec![0, 0], kind.to_vec(), inner()?].concat() }
            }
            Kind::Arp => unreachable!("ARP is no IP packet"),
            Kind::Advertisement => packet::advertisement(from.ip(), to.ip(), MAC)?,
        })
    }

    fn tunnelled(&self, end: SocketAddr, packet: &[u8]) -> Result<Vec<u8>> {
        const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 7, 0];
        const FAR: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
        let kind: [u8; 2] = if self.to.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        let frame = [&HEADER[..], &FAR, &MAC, &kind, packet].concat();
        let own = SocketAddr::new(self.own.unwrap_or(self.from.ip()), 40_000);
        packet::ip(own.ip(), end.ip(), &Header::default(), &packet::udp(own, end, &frame))
    }

    fn packets(&self) -> Result<Vec<Vec<u8>>> {
        let body = self.body()?;
        let (from, to) = (self.from.ip(), self.to.ip());
        let identification = std::process::id() & 0xffff;
        let cut = |offset: u16, more: bool, bytes: &[u8]| {
            let header = Header { identification, fragment: Some((offset, more)), ..Header::default() };
            packet::ip(from, to, &header, &Body { protocol: body.protocol, bytes: bytes.to_vec() })
        };
        let longer = [body.bytes.as_slice(), &[0; 4]].concat();
        let whole = |header: Header, body: &Body| Ok(vec![packet::ip(from, to, &header, body)?]);
        let before = |protocol: u8, extension: Vec<u8>, body: &Body| Body {
            protocol,
            bytes: [vec![body.protocol], extension, body.bytes.clone()].concat(),
        };
        match (self.form, from.is_ipv4()) {
            (Form::Whole, _) => whole(Header::default(), &body),
            (Form::Tiny, _) => Ok(vec![cut(0, true, &longer[..8])?, cut(1, false, &longer[8..])?]),
            (Form::Split, _) => Ok(vec![cut(0, true, &longer[..24])?, cut(3, false, b"")?]),
            (Form::Reversed, _) => Ok(vec![cut(1, false, &longer[8..])?, cut(0, true, &longer[..8])?]),
            (Form::Overlap, _) => {
                let mut harmless = longer[..24].to_vec();
                harmless[13] = ACK;
                Ok(vec![cut(0, true, &harmless)?, cut(1, false, &longer[8..])?])
            }
            (Form::Route, true) => {
                let IpAddr::V4(hop) = to else { unreachable!("the family was asked for") };
                let route = [vec![131, 7, 4], hop.octets().to_vec(), vec![0]].concat();
                whole(Header { options: route, ..Header::default() }, &body)
            }
            (Form::Options | Form::Nested, true) => {
                whole(Header { options: vec![1, 1, 1, 0], ..Header::default() }, &body)
            }
            // A type 2 header with no segment left: hosts take it in.
            (Form::Route, false) => {
                let octets = match to {
                    IpAddr::V6(to) => to.octets(),
                    IpAddr::V4(_) => unreachable!("the family was asked for"),
                };
                let extension = [vec![2, 2, 0, 0, 0, 0, 0], octets.to_vec()].concat();
                whole(Header::default(), &before(43, extension, &body))
            }
            (Form::Options, false) => whole(Header::default(), &before(0, vec![0, 1, 4, 0, 0, 0, 0], &body)),
            (Form::Nested, false) => {
                let nest = |body: Body, _| before(60, vec![0, 1, 4, 0, 0, 0, 0], &body);
                whole(Header::default(), &(0..6).fold(body.clone(), nest))
            }
        }
    }
}
