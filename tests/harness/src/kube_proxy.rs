//! kube-proxy's part: without a mesh a service address must lead to an endpoint. Rules stand in nodes, never in pods.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use crate::pod::PodRecord;
use crate::service::Service;

/// Returns the whole ruleset for every node, to be loaded at once with `nft -f -`.
pub(crate) fn ruleset(services: &[Service], pods: &[Arc<PodRecord>]) -> String {
    let mut translate = String::new();
    let mut hairpin = String::new();
    for service in services {
        let ready: Vec<_> = service.endpoints(pods).into_iter().filter(|pod| !pod.spec().unready).collect();
        let v4 = ready.iter().map(|pod| IpAddr::from(pod.ip4)).collect::<Vec<_>>();
        let v6 = ready.iter().map(|pod| IpAddr::from(pod.ip6)).collect::<Vec<_>>();
        for &(port, target) in &service.spec.ports {
            translate += &rule(service.ip4.into(), port, &v4, target);
            translate += &rule(service.ip6.into(), port, &v6, target);
        }
        for ip in v4.iter().chain(&v6) {
            // A pod that reaches itself through the service would drop the answer from its own address.
            let _ = writeln!(hairpin, "    {0} saddr {ip} {0} daddr {ip} masquerade", family(ip));
        }
    }
    // Deleting a table that is declared just before never fails: the load replaces what stood there.
    format!(
        "table inet kube-proxy\ndelete table inet kube-proxy\ntable inet kube-proxy {{
  chain services {{
{translate}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    jump services
  }}
  chain output {{
    type nat hook output priority -100;
    jump services
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
{hairpin}  }}
}}
"
    )
}

fn rule(vip: IpAddr, port: u16, endpoints: &[IpAddr], target: u16) -> String {
    let family = family(&vip);
    let matched = format!("    {family} daddr {vip} tcp dport {port}");
    match endpoints {
        // As kube-proxy: a service without endpoints is refused rather than left to the default route.
        // REJECT is not to be had in a nat chain, so the packet is dropped and the client times out.
        [] => format!("{matched} drop\n"),
        [one] => format!("{matched} dnat {family} to {}\n", socket(*one, target)),
        many => {
            let entries: Vec<String> =
                many.iter().enumerate().map(|(i, ip)| format!("{i} : {ip} . {target}")).collect();
            let count = many.len();
            format!("{matched} dnat {family} to numgen random mod {count} map {{ {} }}\n", entries.join(", "))
        }
    }
}

fn family(ip: &IpAddr) -> &'static str {
    if ip.is_ipv4() { "ip" } else { "ip6" }
}

fn socket(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_endpoint_is_translated_directly() {
        assert_eq!(
            rule(ip("fd96::1"), 80, &[ip("fd10:1::a")], 8080),
            "    ip6 daddr fd96::1 tcp dport 80 dnat ip6 to [fd10:1::a]:8080\n"
        );
    }

    #[test]
    fn many_endpoints_are_drawn_at_random() {
        assert_eq!(
            rule(ip("10.96.0.1"), 80, &[ip("10.1.0.2"), ip("10.2.0.2")], 8080),
            "    ip daddr 10.96.0.1 tcp dport 80 dnat ip to numgen random mod 2 map \
             { 0 : 10.1.0.2 . 8080, 1 : 10.2.0.2 . 8080 }\n"
        );
    }

    #[test]
    fn no_endpoint_means_no_way_out() {
        assert_eq!(rule(ip("10.96.0.1"), 80, &[], 8080), "    ip daddr 10.96.0.1 tcp dport 80 drop\n");
    }
}
