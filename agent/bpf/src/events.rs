//! The kernel's reports of connections that it refused by itself.

use crate::{KernelError, error::map_error};
use ambit_abi::{Address, Event, FlowKey};
use aya::maps::{Map, MapData, RingBuf};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

/// Tells whoever waits for events that it shall stop.
#[derive(Debug)]
pub struct StopSign(OwnedFd);

impl StopSign {
    /// Makes one that is down.
    ///
    /// # Errors
    /// What `eventfd` says.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC)?))
    }

    /// Raises it, for good.
    ///
    /// # Errors
    /// What `write` says.
    pub fn raise(&self) -> io::Result<()> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

/// Reads the ring buffer EVENTS.
pub struct EventReader {
    ring: RingBuf<MapData>,
}

impl EventReader {
    pub(crate) fn new(map: Map) -> Result<Self, KernelError> {
        Ok(Self { ring: RingBuf::try_from(map).map_err(map_error("EVENTS", "open"))? })
    }

    /// Blocks until there may be an event; `false` once `stop` was raised.
    ///
    /// # Errors
    /// What `poll` says.
    pub fn wait(&self, stop: &StopSign) -> io::Result<bool> {
        let ring = PollFd::new(&self.ring, PollFlags::IN);
        let mut either = [ring, PollFd::from_borrowed_fd(stop.0.as_fd(), PollFlags::IN)];
        match poll(&mut either, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(either[1].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the next event, `None` when there is none now.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let record = self.ring.next()?;
            if let Some(event) = parse(&record) {
                return Some(event);
            }
        }
    }
}

/// Reads a record; `None` when it is too short to be an event.
fn parse(record: &[u8]) -> Option<Event> {
    fn take<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
        record.get(at..at + N)?.try_into().ok()
    }
    Some(Event {
        key: FlowKey {
            source: Address::from_octets(take(record, 0)?),
            destination: Address::from_octets(take(record, 16)?),
            source_port: u16::from_ne_bytes(take(record, 32)?),
            destination_port: u16::from_ne_bytes(take(record, 34)?),
        },
        slot: u32::from_ne_bytes(take(record, 36)?),
        reason: u32::from_ne_bytes(take(record, 40)?),
        source_slot: u32::from_ne_bytes(take(record, 44)?),
        protocol: u32::from_ne_bytes(take(record, 48)?),
    })
}
