//! The rows of the demo: who tries to reach whom, what is expected in each mode, and whether it came out so. Pure.

use serde::Serialize;

/// How the destination is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Via {
    /// By the cluster address of a service.
    Service,
    /// By the address of one pod.
    PodIp,
}

/// The modes, in the order of a connection's expectations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    None,
    Audit,
    Permissive,
    Strict,
}

impl Mode {
    /// Returns the value of the label `ambit.dev/mode`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Audit => "audit",
            Self::Permissive => "permissive",
            Self::Strict => "strict",
        }
    }
}

/// A connection that is tried in every mode.
pub(crate) struct Connection {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) via: Via,
    /// Reached or refused under none, audit, permissive, strict.
    expected: [&'static str; 4],
}

impl Connection {
    /// Returns what is expected in a mode.
    pub(crate) fn expected(&self, mode: Mode) -> &'static str {
        self.expected[mode as usize]
    }
}

/// Both words of an outcome, short enough for a table of expectations.
pub(crate) const REACHED: &str = "reached";
pub(crate) const REFUSED: &str = "refused";

const ALWAYS: [&str; 4] = [REACHED; 4];
/// The policy does not name the source: refused wherever policies are enforced.
const POLICY: [&str; 4] = [REACHED, REACHED, REFUSED, REFUSED];
/// No policy selects the destination, but the source has no identity: refused by strict alone.
const STRICT: [&str; 4] = [REACHED, REACHED, REACHED, REFUSED];

/// Every connection of the demo. `host` is a process of node-1 in the cgroup `system`, `kubelet` one in `kubelet`.
pub(crate) const CONNECTIONS: &[Connection] = &[
    connection("mathfanboy", "multiplication", Via::Service, ALWAYS),
    connection("mathfanboy", "multiplication-1", Via::PodIp, ALWAYS),
    connection("mathfanboy", "multiplication-2", Via::PodIp, ALWAYS),
    connection("percentage", "multiplication", Via::Service, ALWAYS),
    connection("percentage", "multiplication-1", Via::PodIp, ALWAYS),
    connection("percentage", "multiplication-2", Via::PodIp, ALWAYS),
    connection("mathfanboy", "percentage", Via::Service, ALWAYS),
    connection("addition", "multiplication", Via::Service, POLICY),
    connection("addition", "multiplication-1", Via::PodIp, POLICY),
    connection("addition", "multiplication-2", Via::PodIp, POLICY),
    connection("outside", "multiplication", Via::Service, POLICY),
    connection("outside", "multiplication-1", Via::PodIp, POLICY),
    connection("outside", "multiplication-2", Via::PodIp, POLICY),
    connection("outside", "addition", Via::Service, STRICT),
    connection("host", "multiplication", Via::Service, POLICY),
    connection("host", "multiplication-1", Via::PodIp, POLICY),
    connection("host", "multiplication-2", Via::PodIp, POLICY),
    connection("kubelet", "multiplication-1", Via::PodIp, ALWAYS),
];

const fn connection(
    from: &'static str,
    to: &'static str,
    via: Via,
    expected: [&'static str; 4],
) -> Connection {
    Connection { from, to, via, expected }
}

/// One line of the table, and one object of the JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) via: Via,
    pub(crate) mode: &'static str,
    pub(crate) expected: String,
    pub(crate) observed: String,
    /// Whether the payload was hidden on the wire; absent where it did not cross the wire.
    pub(crate) encrypted: Option<bool>,
    pub(crate) ok: bool,
}

/// What the wire must show of a connection.
///
/// `crossed` is known only of what was reached: a refused connection carries no payload.
pub(crate) fn expected_on_wire(mode: Mode, from_is_enrolled: bool, crossed: bool) -> Option<bool> {
    crossed.then_some(from_is_enrolled && mode != Mode::None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_refuses_nothing_and_strict_refuses_all_that_permissive_does() {
        for connection in CONNECTIONS {
            assert_eq!(connection.expected(Mode::None), REACHED);
            assert_eq!(connection.expected(Mode::Audit), REACHED);
            if connection.expected(Mode::Permissive) == REFUSED {
                assert_eq!(connection.expected(Mode::Strict), REFUSED);
            }
        }
    }

    #[test]
    fn only_mathfanboy_percentage_and_the_kubelet_reach_multiplication_under_strict() {
        let mut reaching: Vec<_> = CONNECTIONS
            .iter()
            .filter(|c| c.to.starts_with("multiplication") && c.expected(Mode::Strict) == REACHED)
            .map(|c| c.from)
            .collect();
        reaching.dedup();
        assert_eq!(reaching, ["mathfanboy", "percentage", "kubelet"]);
    }

    #[test]
    fn a_row_is_written_as_the_readme_says() {
        let row = Row {
            from: "addition".into(),
            to: "multiplication-1".into(),
            via: Via::PodIp,
            mode: Mode::Strict.label(),
            expected: REFUSED.into(),
            observed: REFUSED.into(),
            encrypted: None,
            ok: true,
        };
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"from":"addition","to":"multiplication-1","via":"pod-ip","mode":"strict","expected":"refused","observed":"refused","encrypted":null,"ok":true}"#
        );
    }

    #[test]
    fn the_wire_hides_what_enrolled_pods_say_and_nothing_else() {
        assert_eq!(expected_on_wire(Mode::Strict, true, true), Some(true));
        assert_eq!(expected_on_wire(Mode::Audit, false, true), Some(false));
        assert_eq!(expected_on_wire(Mode::None, true, true), Some(false));
        assert_eq!(expected_on_wire(Mode::Strict, true, false), None);
    }
}
