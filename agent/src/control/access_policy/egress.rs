//! Reads the egress rules of a policy: what its pods may call outside the mesh.
//!
//! Refuses a rule that names no address: everything is written out, as `0.0.0.0/0` and `::/0`.

use ambit_core::{EgressRule, Protocol};

use super::rules::{read_cidr, read_ports, read_protocol, values};
use crate::control::fields::{Fields, filled_list};
use crate::control::finding::Findings;
use crate::control::node::Cursor;

pub(super) const RULE: [&str; 4] = ["cidrs", "exceptCidrs", "ports", "protocol"];

/// Reads the egress rules of a policy.
pub(super) fn read(field: &Cursor<'_>, findings: &mut Findings) -> Option<Vec<EgressRule>> {
    filled_list(field, findings, read_rule)
}

fn read_rule(item: &Cursor<'_>, findings: &mut Findings) -> Option<EgressRule> {
    let fields = Fields::of(item, &RULE, findings)?;
    let cidrs = fields.get("cidrs");
    if cidrs.is_none() && !fields.has_unknown {
        let finding = item.finding("the egress rule has no `cidrs`");
        findings.error(finding.with_hint("write `cidrs: [\"0.0.0.0/0\", \"::/0\"]` for every address"));
    }
    let cidrs = cidrs.map(|cidrs| filled_list(&cidrs, findings, read_cidr));
    let except_cidrs = values(fields.get("exceptCidrs"), findings, read_cidr);
    let ports = values(fields.get("ports"), findings, read_ports);
    let protocol = read_protocol(fields.get("protocol"), findings);
    if fields.has_unknown {
        return None;
    }
    let (ports, protocol) = (ports?, protocol?);
    // Ports without a protocol are TCP's, as in `to`.
    let protocol = protocol.or_else(|| (!ports.is_empty()).then_some(Protocol::Tcp));
    Some(EgressRule { cidrs: cidrs??, except_cidrs: except_cidrs?, ports, protocol })
}
