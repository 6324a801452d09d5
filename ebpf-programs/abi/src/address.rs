//! Addresses as the maps hold them: 16 bytes in network order, IPv4 mapped into IPv6.

/// An IP address as four words in network byte order; IPv4 stands as `::ffff:a.b.c.d`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Address {
    /// The words as they lie in memory; the bytes are in network order.
    pub words_be: [u32; 4],
}

/// An IP address with a port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct SocketAddress {
    /// The address.
    pub ip: Address,
    /// The port in host byte order.
    pub port: u16,
    /// Always zero.
    pub _pad: u16,
}

const MAPPED_PREFIX_BE: u32 = 0xffff_u32.to_be();

impl Address {
    /// No address: `::`.
    pub const UNSPECIFIED: Self = Self { words_be: [0; 4] };

    /// Returns the IPv4 address whose word in network order is `word_be`.
    #[inline(always)]
    pub const fn from_v4_be(word_be: u32) -> Self {
        Self { words_be: [0, 0, MAPPED_PREFIX_BE, word_be] }
    }

    /// Returns the address of `octets`, in network order.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            words_be: [
                u32::from_ne_bytes([a, b, c, d]),
                u32::from_ne_bytes([e, f, g, h]),
                u32::from_ne_bytes([i, j, k, l]),
                u32::from_ne_bytes([m, n, o, p]),
            ],
        }
    }

    /// Returns the octets of the address, in network order.
    pub fn octets(&self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (chunk, word) in octets.chunks_exact_mut(4).zip(self.words_be) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        octets
    }

    /// Tells whether this is an IPv4 address, mapped.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words_be[0] == 0 && self.words_be[1] == 0 && self.words_be[2] == MAPPED_PREFIX_BE
    }

    /// Tells whether this is `::`.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let [a, b, c, d] = self.words_be;
        a | b | c | d == 0
    }

    /// Tells whether this is in 127.0.0.0/8 or is `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        if self.is_v4() {
            return u32::from_be(self.words_be[3]) >> 24 == 127;
        }
        self.words_be[0] == 0
            && self.words_be[1] == 0
            && self.words_be[2] == 0
            && self.words_be[3] == 1_u32.to_be()
    }

    /// Tells whether this is in fe80::/10.
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        u32::from_be(self.words_be[0]) >> 22 == 0xfe80 >> 6
    }

    /// Compares without a call to `memcmp`, which BPF programs do not have.
    #[inline(always)]
    pub const fn same(&self, other: &Self) -> bool {
        self.words_be[0] == other.words_be[0]
            && self.words_be[1] == other.words_be[1]
            && self.words_be[2] == other.words_be[2]
            && self.words_be[3] == other.words_be[3]
    }
}

const _: () = assert!(size_of::<Address>() == 16 && size_of::<SocketAddress>() == 20);

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn octets_survive_the_round_trip() {
        let octets = core::array::from_fn(|index| index as u8);
        assert_eq!(Address::from_octets(octets).octets(), octets);
    }

    #[test]
    fn loopback_is_known_in_both_families() {
        assert!(Address::from_v4_be(u32::from_ne_bytes([127, 3, 2, 1])).is_loopback());
        assert!(!Address::from_v4_be(u32::from_ne_bytes([128, 0, 0, 1])).is_loopback());
        let mut one = [0; 16];
        one[15] = 1;
        assert!(Address::from_octets(one).is_loopback());
        assert!(!Address::UNSPECIFIED.is_loopback());
    }
}
