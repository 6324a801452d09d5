//! TLS 1.3 records after the handshake (RFC 8446, 5.2): sealed and opened in place, in buffers of the caller.
//!
//! The keys come from rustls, and so do the next ones when they are updated; the cryptography is AWS-LC's. It never
//! reads or writes a socket. Keys for every record of a connection would cost rustls an allocation and two copies.

use std::io;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::BytesMut;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets};

/// Bytes before the data of a record.
pub(crate) const HEADER: usize = 5;
/// Bytes after the data of a record: its type, and the tag.
pub(crate) const TRAILER: usize = 1 + TAG;
/// The most data that a record carries, in bytes.
pub(crate) const MAX_DATA: usize = 16 * 1024;
/// The longest record that is read: the data may be padded, and the cipher may add up to 256 bytes.
pub(super) const MAX_RECORD: usize = HEADER + MAX_DATA + 256;

const TAG: usize = 16;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const KEY_UPDATE: u8 = 24;
/// Records under one key: AES-GCM may be used for 2^24 of full size (RFC 8446, 5.5).
const UPDATE_AFTER: u64 = 1 << 23;

/// What rustls keeps of a connection: how its keys go on.
pub(super) enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Schedule {
    fn next_sending(&mut self) -> Result<Key, Error> {
        let (sequence, secrets) = match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
        }?;
        Key::new(sequence, &secrets)
    }

    fn next_receiving(&mut self) -> Result<Key, Error> {
        let (sequence, secrets) = match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
        }?;
        Key::new(sequence, &secrets)
    }
}

/// The key of one direction.
struct Key {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Key {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(Error::General("the mesh uses AES-GCM alone".to_owned())),
        };
        let unusable = || Error::General("the cipher does not take its key".to_owned());
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unusable())?;
        let iv = iv.as_ref().try_into().map_err(|_| unusable())?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// Returns the nonce of the next record (RFC 8446, 5.3). It never repeats: keys are updated long before.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let (_, low) = nonce.split_at_mut(4);
        for (byte, counted) in low.iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= counted;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What a record that arrived means to its reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Data: so many bytes, directly behind the header.
    Data(usize),
    /// Nothing that the reader sees.
    Nothing,
    /// The peer has ended its direction.
    End,
}

/// Both directions of a connection.
pub(super) struct Records {
    sending: Key,
    receiving: Key,
    schedule: Schedule,
    /// The peer asked for a new key of this direction.
    update_asked: bool,
}

impl Records {
    pub(super) fn new(secrets: &ExtractedSecrets, schedule: Schedule) -> Result<Self, Error> {
        let sending = Key::new(secrets.tx.0, &secrets.tx.1)?;
        let receiving = Key::new(secrets.rx.0, &secrets.rx.1)?;
        Ok(Self { sending, receiving, schedule, update_asked: false })
    }

    /// Makes both keys as old as they get.
    #[cfg(test)]
    pub(super) fn age(&mut self) {
        (self.sending.sequence, self.receiving.sequence) = (UPDATE_AFTER, UPDATE_AFTER);
    }

    /// Appends the message that announces a new key to `out`, where one is due. To be asked before data is sealed.
    pub(super) fn update(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        if !self.update_asked && self.sending.sequence < UPDATE_AFTER {
            return Ok(());
        }
        self.append(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0], out)?;
        self.sending = self.schedule.next_sending()?;
        self.update_asked = false;
        Ok(())
    }

    /// Appends the message that ends this direction to `out`.
    pub(super) fn end(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        const WARNING: u8 = 1;
        self.append(ALERT, &[WARNING, AlertDescription::CloseNotify.into()], out)
    }

    fn append(&mut self, kind: u8, message: &[u8], out: &mut BytesMut) -> Result<(), Error> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(message);
        out.extend_from_slice(&[0; TRAILER]);
        self.seal_as(kind, out.get_mut(start..).unwrap_or_default())
    }

    /// Seals a record in place: its data stands behind the place of the header, and the trailer's place behind it.
    pub(super) fn seal(&mut self, record: &mut [u8]) -> Result<(), Error> {
        self.seal_as(DATA, record)
    }

    fn seal_as(&mut self, kind: u8, record: &mut [u8]) -> Result<(), Error> {
        let failed = || Error::EncryptError;
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or_else(failed)?;
        let length = u16::try_from(body.len()).map_err(|_| failed())?.to_be_bytes();
        *header = [DATA, 3, 3, length[0], length[1]];
        let (body, tag) = body.split_last_chunk_mut::<TAG>().ok_or_else(failed)?;
        *body.last_mut().ok_or_else(failed)? = kind;
        let nonce = self.sending.nonce();
        let sealed = self.sending.key.seal_in_place_separate_tag(nonce, Aad::from(*header), body);
        tag.copy_from_slice(sealed.map_err(|_| failed())?.as_ref());
        Ok(())
    }

    /// Opens a whole record in place.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Opened, Error> {
        const CHANGE_CIPHER_SPEC: u8 = 20;
        let (header, body) = record.split_first_chunk_mut::<HEADER>().ok_or(Error::DecryptError)?;
        if header[0] == CHANGE_CIPHER_SPEC && body == [1] {
            return Ok(Opened::Nothing);
        }
        let nonce = self.receiving.nonce();
        let data = self.receiving.key.open_in_place(nonce, Aad::from(*header), body);
        let data = data.map_err(|_| Error::DecryptError)?;
        // The type stands behind the data; zeros behind it are padding.
        let at = data.iter().rposition(|byte| *byte != 0).ok_or(Error::DecryptError)?;
        let (data, kind) = data.split_at(at);
        match kind.first() {
            Some(&DATA) if data.len() <= MAX_DATA => Ok(Opened::Data(data.len())),
            Some(&ALERT) => alert(data),
            Some(&HANDSHAKE) => self.handshake(data),
            _ => Err(Error::General("the peer sent a record of a kind that has no place here".to_owned())),
        }
    }

    /// Takes a message of the handshake that comes after it.
    fn handshake(&mut self, message: &[u8]) -> Result<Opened, Error> {
        const NEW_SESSION_TICKET: u8 = 4;
        match message {
            [KEY_UPDATE, 0, 0, 1, asked @ (0 | 1)] => {
                self.receiving = self.schedule.next_receiving()?;
                self.update_asked |= *asked == 1;
                Ok(Opened::Nothing)
            }
            // No session is resumed: tickets are of no use.
            [NEW_SESSION_TICKET, ..] if matches!(self.schedule, Schedule::Client(_)) => Ok(Opened::Nothing),
            _ => Err(Error::General("the peer sent a handshake message that has no place here".to_owned())),
        }
    }
}

fn alert(message: &[u8]) -> Result<Opened, Error> {
    match message {
        [_, kind] => match AlertDescription::from(*kind) {
            AlertDescription::CloseNotify => Ok(Opened::End),
            kind => Err(Error::AlertReceived(kind)),
        },
        _ => Err(Error::DecryptError),
    }
}

/// Returns the length of the record at the front of `bytes`; `None` while its header is not there whole.
///
/// # Errors
/// A length that no record has.
pub(super) fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some([_, 3, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return if bytes.len() < HEADER { Ok(None) } else { Err(malformed()) };
    };
    let length = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_RECORD { Err(malformed()) } else { Ok(Some(length)) }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the peer sent something that is no TLS record")
}
