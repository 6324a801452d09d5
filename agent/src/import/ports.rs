//! Sets of ports.
//!
//! Complements and cuts them. Never holds port 0, which nobody can be called at.

use ambit_core::{Destination, PortRange, Protocol};

/// A set of ports from 1 to 65535.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSet {
    /// Ordered, and neither touching nor overlapping.
    ranges: Vec<PortRange>,
}

impl PortSet {
    /// Every port.
    pub(crate) fn all() -> Self {
        Self { ranges: vec![PortRange { first: 1, last: u16::MAX }] }
    }

    /// These ports.
    pub(crate) fn of(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut ports: Vec<u16> = ports.into_iter().filter(|port| *port > 0).collect();
        ports.sort_unstable();
        ports.dedup();
        Self::joined(ports.into_iter().map(PortRange::single))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// The ports that are not in it.
    pub(crate) fn complement(&self) -> Self {
        let mut ranges = Vec::new();
        let mut next = 1_u32;
        for range in &self.ranges {
            push(&mut ranges, next, u32::from(range.first) - 1);
            next = u32::from(range.last) + 1;
        }
        push(&mut ranges, next, u32::from(u16::MAX));
        Self { ranges }
    }

    /// The ports that are in both.
    pub(crate) fn intersect(&self, other: &Self) -> Self {
        let mut ranges = Vec::new();
        for left in &self.ranges {
            for right in &other.ranges {
                let (first, last) = (left.first.max(right.first), left.last.min(right.last));
                push(&mut ranges, u32::from(first), u32::from(last));
            }
        }
        Self { ranges }
    }

    /// The ports that are in one of them.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut ranges = [self.ranges.as_slice(), other.ranges.as_slice()].concat();
        ranges.sort_unstable();
        Self::joined(ranges.into_iter())
    }

    /// Returns it as a rule's `to`: absent for every port, and nothing at all for none.
    pub(crate) fn destinations(&self) -> Option<Vec<Destination>> {
        if self.is_all() {
            return None;
        }
        // A destination without ports would be every port.
        let some =
            (!self.is_empty()).then(|| Destination { protocol: Protocol::Tcp, ports: self.ranges.clone() });
        Some(some.into_iter().collect())
    }

    /// Joins ordered ranges that touch or overlap.
    fn joined(ranges: impl Iterator<Item = PortRange>) -> Self {
        let mut joined: Vec<PortRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                    last.last = last.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        Self { ranges: joined }
    }
}

fn push(ranges: &mut Vec<PortRange>, first: u32, last: u32) {
    if let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last))
        && first <= last
    {
        ranges.push(PortRange { first, last });
    }
}

/// Reads a port as text or number.
pub(crate) fn parse(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(set: &PortSet) -> Vec<String> {
        set.ranges.iter().map(PortRange::to_string).collect()
    }

    #[test]
    fn sets_are_cut_and_complemented() {
        assert_eq!(written(&PortSet::of([80]).complement()), ["1-79", "81-65535"]);
        assert_eq!(written(&PortSet::of([1, 65535]).complement()), ["2-65534"]);
        assert_eq!(written(&PortSet::of([81, 80, 80, 0, 443])), ["80-81", "443"]);
        assert!(PortSet::all().complement().is_empty() && PortSet::of([]).complement().is_all());
        let cut = PortSet::of([80, 81, 90]).intersect(&PortSet::of([81]).complement());
        assert_eq!(written(&cut), ["80", "90"]);
        assert!(PortSet::of([80]).union(&PortSet::of([80]).complement()).is_all());
    }

    #[test]
    fn a_port_is_a_number_from_1_to_65535() {
        for (text, port) in
            [("80", Some(80)), ("65535", Some(65535)), ("0", None), ("65536", None), ("", None)]
        {
            assert_eq!(parse(text), port, "{text}");
        }
        assert_eq!((parse("+80"), parse("http")), (None, None));
    }
}
