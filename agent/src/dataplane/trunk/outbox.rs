//! Records that are being filled: frames of many streams share one, and an application's bytes are read to where they
//! are sealed. One per thread, for whichever trunk is served.

use super::frame::{self, HEADER, MAX_PAYLOAD};
use crate::identity::tls::{
    Secured,
    record::{self, MAX_DATA, TRAILER},
};
use std::{
    array,
    cell::RefCell,
    io::{self, IoSliceMut},
};

/// Records that are sent at once: what one call costs is spread over more bytes, and they fill TCP's largest segments
/// (64 KiB) almost wholly.
const RECORDS: usize = 23;
/// Bytes of a full record.
const RECORD: usize = record::HEADER + MAX_DATA + TRAILER;
/// Where less than this is left of a record, an application's bytes begin in the next one.
const LEAST: usize = 4096;

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::new(Outbox { buffer: vec![0; RECORDS * RECORD], start: 0, data: 0 });
}

/// Records, the last of which is not yet sealed.
pub(super) struct Outbox {
    buffer: Vec<u8>,
    /// Where the record begins that is being filled.
    start: usize,
    /// Bytes of data in it.
    data: usize,
}

impl Outbox {
    /// Calls `work` with this thread's, empty.
    pub(super) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        OUTBOX.with_borrow_mut(|outbox| {
            (outbox.start, outbox.data) = (0, 0);
            work(outbox)
        })
    }

    /// Tells whether a full record still has a place.
    pub(super) fn has_room(&self) -> bool {
        self.start + 2 * RECORD <= self.buffer.len()
    }

    /// Adds one short frame. To be asked while there is room.
    pub(super) fn push<S>(&mut self, frame: &[u8], secured: &mut Secured<S>) -> io::Result<()> {
        if self.data + frame.len() > MAX_DATA {
            self.close(secured)?;
        }
        let at = self.start + record::HEADER + self.data;
        let place = self.buffer.get_mut(at..at + frame.len()).ok_or(io::ErrorKind::StorageFull)?;
        place.copy_from_slice(frame);
        self.data += frame.len();
        Ok(())
    }

    /// Adds what `read` puts into the places it is given, as frames of `stream`, `limit` bytes at most. To be asked while
    /// there is room.
    pub(super) fn fill<S>(
        &mut self,
        stream: u32,
        limit: usize,
        secured: &mut Secured<S>,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> usize,
    ) -> io::Result<()> {
        if self.data > 0 && MAX_DATA - self.data < HEADER + limit.min(LEAST) {
            self.close(secured)?;
        }
        let (start, first, mut left, mut used) = (self.start, self.data, limit, 0);
        let records = self.buffer.get_mut(start..).unwrap_or_default().chunks_exact_mut(RECORD);
        let mut records = records.enumerate();
        let mut places: [IoSliceMut<'_>; RECORDS] = array::from_fn(|_| {
            let place = records.next().and_then(|(number, record)| {
                let before = record::HEADER + if number == 0 { first } else { 0 } + HEADER;
                record.get_mut(before..record::HEADER + MAX_DATA)
            });
            let place = place.unwrap_or_default();
            let bytes = place.len().min(left);
            left -= bytes;
            used += usize::from(bytes > 0);
            IoSliceMut::new(place.get_mut(..bytes).unwrap_or_default())
        });
        let mut rest = read(places.get_mut(..used).unwrap_or_default());
        while rest > 0 {
            let bytes = rest.min(MAX_DATA - self.data - HEADER);
            let at = self.start + record::HEADER + self.data;
            let place = self.buffer.get_mut(at..at + HEADER).ok_or(io::ErrorKind::StorageFull)?;
            place.copy_from_slice(&frame::data_header(stream, bytes));
            self.data += HEADER + bytes;
            rest -= bytes;
            if rest > 0 {
                self.close(secured)?;
            }
        }
        Ok(())
    }

    /// Returns the bytes of an application that the last frame carries.
    pub(super) fn last(&self, bytes: usize) -> &[u8] {
        let end = self.start + record::HEADER + self.data;
        self.buffer.get(end.saturating_sub(bytes.min(MAX_PAYLOAD))..end).unwrap_or_default()
    }

    /// Seals the last record and returns all of them; the outbox is empty then.
    pub(super) fn finish<S>(&mut self, secured: &mut Secured<S>) -> io::Result<&[u8]> {
        if self.data > 0 {
            self.close(secured)?;
        }
        let end = std::mem::take(&mut self.start);
        Ok(self.buffer.get(..end).unwrap_or_default())
    }

    fn close<S>(&mut self, secured: &mut Secured<S>) -> io::Result<()> {
        let end = self.start + record::HEADER + self.data + TRAILER;
        secured.seal(self.buffer.get_mut(self.start..end).ok_or(io::ErrorKind::StorageFull)?)?;
        (self.start, self.data) = (end, 0);
        Ok(())
    }
}
