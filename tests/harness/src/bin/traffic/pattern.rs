//! A byte pattern that both sides can make for themselves: any lost, doubled or swapped byte shows.

const BLOCK: usize = 64 * 1024;

/// Makes the bytes of one direction in order, from a seed.
pub(crate) struct Pattern {
    seed: u64,
    word: u64,
    block: Vec<u8>,
    used: usize,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, word: 0, block: vec![0; BLOCK], used: BLOCK }
    }

    /// Returns the next bytes, at most `limit` and at least one; `advance` tells how many were taken.
    pub(crate) fn peek(&mut self, limit: u64) -> &[u8] {
        if self.used == BLOCK {
            for chunk in self.block.chunks_exact_mut(8) {
                chunk.copy_from_slice(&mixed(self.seed.wrapping_add(self.word)).to_le_bytes());
                self.word += 1;
            }
            self.used = 0;
        }
        let left = BLOCK - self.used;
        let length = usize::try_from(limit).unwrap_or(left).min(left);
        &self.block[self.used..self.used + length]
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.used += count;
    }

    /// Takes as many bytes as `received` has and returns whether they are the same.
    pub(crate) fn matches(&mut self, mut received: &[u8]) -> bool {
        while !received.is_empty() {
            let expected = self.peek(received.len() as u64);
            let length = expected.len();
            if expected != &received[..length] {
                return false;
            }
            self.advance(length);
            received = &received[length..];
        }
        true
    }
}

/// Scatters the bits of a counter (the finalizer of splitmix64).
fn mixed(word: u64) -> u64 {
    let mut z = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut pattern = Pattern::new(seed);
        let mut all = Vec::new();
        while all.len() < length {
            let next = pattern.peek((length - all.len()) as u64).to_vec();
            pattern.advance(next.len());
            all.extend(next);
        }
        all
    }

    #[test]
    fn any_split_matches() {
        let sent = bytes(7, 3 * BLOCK + 5);
        let mut pattern = Pattern::new(7);
        assert!(sent.chunks(1009).all(|chunk| pattern.matches(chunk)));
    }

    #[test]
    fn a_changed_swapped_or_lost_byte_does_not_match() {
        let sent = bytes(7, 1000);
        let mut changed = sent.clone();
        changed[999] ^= 1;
        let mut swapped = sent.clone();
        swapped.swap(10, 500);
        for wrong in [changed, swapped, sent[1..].to_vec()] {
            assert!(!Pattern::new(7).matches(&wrong));
        }
        assert!(!Pattern::new(8).matches(&sent));
    }
}
