//! Networks as other meshes write them.
//!
//! Makes them what a policy of ambit holds: without bits beyond their length, IPv4 never written as IPv6.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads a network or a single address.
///
/// # Errors
/// Says what it is instead.
pub(crate) fn parse(text: &str) -> Result<IpNet, String> {
    let network = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => network.trunc(),
        (Err(_), Ok(address)) => IpNet::from(address),
        (Err(_), Err(_)) => return Err(format!("{text:?} is neither an address nor a network")),
    };
    match network {
        IpNet::V6(v6) if v6.prefix_len() > 0 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(format!("{text:?} is IPv4 written as IPv6"))
        }
        network => Ok(network),
    }
}

/// Tells whether networks are every address of both families.
pub(crate) fn is_everything(networks: &[IpNet]) -> bool {
    let whole = |v4: bool| {
        let of_family = |network: &&IpNet| matches!(network, IpNet::V4(_)) == v4;
        networks.iter().filter(of_family).any(|network| network.prefix_len() == 0)
    };
    whole(true) && whole(false)
}

/// Returns the addresses that lie in one of both lists each.
pub(crate) fn intersect(left: &[IpNet], right: &[IpNet]) -> Vec<IpNet> {
    let mut cut: Vec<IpNet> = Vec::new();
    for (left, right) in left.iter().flat_map(|left| right.iter().map(move |right| (left, right))) {
        let smaller = if left.contains(right) {
            right
        } else if right.contains(left) {
            left
        } else {
            continue;
        };
        if !cut.contains(smaller) {
            cut.push(*smaller);
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| parse(text).unwrap()).collect()
    }

    #[test]
    fn networks_and_addresses_are_read() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1", "fd00::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), expected);
        }
        for text in ["10.0.0", "10.0.0.0/33", "", "::ffff:10.0.0.0/104", "example.com"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_are_cut() {
        let cut =
            intersect(&networks(&["10.0.0.0/8", "fd00::/8"]), &networks(&["10.1.0.0/16", "192.168.0.0/16"]));
        assert_eq!(cut, networks(&["10.1.0.0/16"]));
        assert!(is_everything(&networks(&["::/0", "0.0.0.0/0"])));
        assert!(!is_everything(&networks(&["0.0.0.0/0"])));
    }
}
