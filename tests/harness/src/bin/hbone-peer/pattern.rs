//! Bytes that tell where in a stream they belong, so that each one that comes back is checked.

use bytes::Bytes;

/// Returns the byte at `offset`; it repeats only after 16 MiB and more.
pub(crate) fn byte(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// Returns the bytes from `offset` on.
pub(crate) fn piece(offset: u64, length: usize) -> Bytes {
    (offset..).take(length).map(byte).collect()
}

/// Returns whether `bytes` are those from `offset` on.
pub(crate) fn matches(offset: u64, bytes: &[u8]) -> bool {
    (offset..).zip(bytes).all(|(at, found)| byte(at) == *found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shifted_piece_is_noticed() {
        let bytes = piece(1000, 4096);
        assert!(matches(1000, &bytes));
        assert!(!matches(1001, &bytes));
        assert!(!matches(1000 + 65536, &bytes));
    }
}
