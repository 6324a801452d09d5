//! Random policies as YAML, the same for the same seed. Knows the names and addresses of the world, decides nothing.

use std::fmt::Write;

const NAMESPACES: [&str; 2] = ["shop", "ops"];
const APPS: [&str; 4] = ["web", "db", "api", "job"];
const IDENTITIES: [&str; 6] = [
    "spiffe://cluster.local/ns/shop/sa/web",
    "spiffe://cluster.local/ns/ops/sa/job",
    "spiffe://cluster.local/ns/shop/sa/*",
    "spiffe://cluster.local/ns/*/sa/api",
    "*/sa/db",
    "spiffe://other.example/ns/shop/sa/web",
];
const NETWORKS: [&str; 5] = ["10.1.0.0/24", "10.1.0.8/30", "10.2.0.0/16", "fd10:1::/64", "0.0.0.0/0"];
const PORTS: [&str; 6] = ["8080", "8081", "9000", "\"8080-8081\"", "\"1-8080\"", "\"8081-65535\""];

/// A source of choices.
pub(crate) struct Generator(u64);

impl Generator {
    /// Returns the source that `seed` stands for.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `limit` (xorshift64*).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    /// Returns whether something that happens once in `n` times happens now.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns one of `values`.
    pub(crate) fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[usize::try_from(self.below(values.len() as u64)).unwrap()]
    }

    /// Returns a mode under which pods are enrolled.
    pub(crate) fn mode(&mut self) -> &'static str {
        self.pick(&["strict", "strict", "strict", "permissive", "permissive", "audit"])
    }

    /// Returns up to four policies, as documents of one file.
    pub(crate) fn policies(&mut self, addresses: &[String]) -> String {
        let mut text = String::new();
        for number in 0..self.below(5) {
            text.push_str(&self.policy(number, addresses));
        }
        text
    }

    fn policy(&mut self, number: u64, addresses: &[String]) -> String {
        let cluster = self.one_in(4);
        let kind = if cluster { "ClusterAccessPolicy" } else { "AccessPolicy" };
        let namespace =
            if cluster { String::new() } else { format!("namespace: {}, ", self.pick(&NAMESPACES)) };
        let deny = self.one_in(3);
        let mut text = format!(
            "---\napiVersion: ambit.dev/v1alpha1\nkind: {kind}\nmetadata: {{{namespace}name: p{number}}}\nspec:\n"
        );
        let _ = writeln!(text, "  action: {}", if deny { "Deny" } else { "Allow" });
        let _ = writeln!(text, "  dryRun: {}", self.one_in(6));
        if self.one_in(2) {
            let _ = writeln!(text, "  selector: {{matchLabels: {{app: {}}}}}", self.pick(&APPS));
        }
        // Under Deny at least one; under Allow none refuses everything.
        let rules = if deny { 1 + self.below(2) } else { self.below(4) };
        if rules == 0 {
            text.push_str("  rules: []\n");
            return text;
        }
        text.push_str("  rules:\n");
        for _ in 0..rules {
            text.push_str(&self.rule(addresses));
        }
        text
    }

    fn rule(&mut self, addresses: &[String]) -> String {
        let from = !self.one_in(4);
        let to = !from || self.one_in(2);
        let mut text = String::new();
        if from {
            let peers: Vec<String> = (0..=self.below(2)).map(|_| self.peer(addresses)).collect();
            let _ = writeln!(text, "  - from: [{}]", peers.join(", "));
        }
        if to {
            let ports: Vec<&str> = (0..=self.below(2)).map(|_| self.pick(&PORTS)).collect();
            let protocol = self.pick(&["", "", ", protocol: TCP", ", protocol: UDP"]);
            let start = if from { "   " } else { "  -" };
            let _ = writeln!(text, "{start} to: [{{ports: [{}]{protocol}}}]", ports.join(", "));
        }
        text
    }

    fn peer(&mut self, addresses: &[String]) -> String {
        match self.below(7) {
            0 => "{anyone: true}".to_owned(),
            1 => "{host: true}".to_owned(),
            2 => format!("{{serviceAccounts: [\"{}/{}\"]}}", self.pick(&NAMESPACES), self.pick(&APPS)),
            3 => format!("{{namespaces: [{}]}}", self.pick(&NAMESPACES)),
            4 => format!("{{identities: [\"{}\"]}}", self.pick(&IDENTITIES)),
            5 => {
                let except = self.network(addresses);
                format!("{{cidrs: [\"{}\"], exceptCidrs: [\"{except}\"]}}", self.network(addresses))
            }
            _ => format!(
                "{{namespaces: [{}], cidrs: [\"{}\"]}}",
                self.pick(&NAMESPACES),
                self.network(addresses)
            ),
        }
    }

    fn network(&mut self, addresses: &[String]) -> String {
        if self.one_in(2) {
            return self.pick(&NETWORKS).to_owned();
        }
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let address = self.pick(&addresses);
        format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
    }
}
