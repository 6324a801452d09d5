//! Random policies as people would write them: every field, valid, the same for the same seed. Decides nothing.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// Numbers that look random (splitmix64), the same on every machine.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number of `range`.
    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    fn once_in(&mut self, rounds: u64) -> bool {
        self.number(1..=rounds) == 1
    }

    /// Returns one of `choices`.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.number(0..=choices.len() as u64 - 1)).unwrap()]
    }

    /// Returns one to two different ones of `choices`, as a YAML list.
    fn list(&mut self, choices: &[&str]) -> String {
        let (first, second) = (self.pick(choices), self.pick(choices));
        if first == second || self.once_in(2) { format!("[{first}]") } else { format!("[{first}, {second}]") }
    }
}

/// What policies may name.
pub(crate) struct Names<'a> {
    /// Namespaces.
    pub(crate) namespaces: &'a [&'a str],
    /// Service accounts, in each namespace.
    pub(crate) accounts: &'a [&'a str],
    /// Values of the label `app`.
    pub(crate) apps: &'a [&'a str],
    /// Networks, in canonical form.
    pub(crate) networks: &'a [&'a str],
    /// Ports that are served.
    pub(crate) ports: &'a [u16],
}

impl Names<'_> {
    /// Returns one to five policies.
    pub(crate) fn policies(&self, dice: &mut Dice) -> String {
        let policies = (0..dice.number(1..=5)).map(|number| self.policy(dice, number));
        policies.collect::<Vec<_>>().join("---\n")
    }

    fn policy(&self, dice: &mut Dice, number: u64) -> String {
        let mut text = "apiVersion: ambit.dev/v1alpha1\n".to_owned();
        let namespace = (!dice.once_in(4)).then(|| dice.pick(self.namespaces));
        let _ = match namespace {
            Some(name) => {
                writeln!(text, "kind: AccessPolicy\nmetadata: {{namespace: {name}, name: r{number}}}\nspec:")
            }
            None => writeln!(text, "kind: ClusterAccessPolicy\nmetadata: {{name: r{number}}}\nspec:"),
        };
        if namespace.is_none() && dice.once_in(2) {
            let name = dice.pick(self.namespaces);
            let _ = writeln!(
                text,
                "  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {name}}}}}"
            );
        }
        let selector = match dice.number(0..=3) {
            0 => Some(format!("{{matchLabels: {{app: {}}}}}", dice.pick(self.apps))),
            1 => {
                let (operator, apps) = (dice.pick(&["In", "NotIn"]), dice.list(self.apps));
                Some(format!("{{matchExpressions: [{{key: app, operator: {operator}, values: {apps}}}]}}"))
            }
            2 => Some(format!("{{matchExpressions: [{{key: app, operator: {}}}]}}", dice.pick(&["Exists"]))),
            _ => None,
        };
        if let Some(selector) = selector {
            let _ = writeln!(text, "  selector: {selector}");
        }
        let denies = dice.once_in(3);
        let _ = writeln!(text, "  action: {}", if denies { "Deny" } else { "Allow" });
        if dice.once_in(5) {
            text += "  dryRun: true\n";
        }
        let fewest = u64::from(denies);
        let rules: Vec<String> = (0..dice.number(fewest..=3)).map(|_| self.rule(dice, namespace)).collect();
        if rules.is_empty() { text + "  rules: []\n" } else { text + "  rules:\n" + &rules.concat() }
    }

    fn rule(&self, dice: &mut Dice, namespace: Option<&str>) -> String {
        let (from, to) = *dice.pick(&[&(true, false), &(true, true), &(true, true), &(false, true)]);
        let mut fields = Vec::new();
        if from {
            let peers: Vec<String> = (0..dice.number(1..=2)).map(|_| self.peer(dice, namespace)).collect();
            fields.push(format!("from: [{}]", peers.join(", ")));
        }
        if to {
            let ports: Vec<String> = (0..dice.number(1..=2)).map(|_| self.ports(dice)).collect();
            fields.push(format!("to: [{{ports: [{}]}}]", ports.join(", ")));
        }
        format!("  - {{{}}}\n", fields.join(", "))
    }

    fn peer(&self, dice: &mut Dice, namespace: Option<&str>) -> String {
        match dice.number(0..=11) {
            0 => return "{anyone: true}".to_owned(),
            1 => return "{host: true}".to_owned(),
            2 => return format!("{{host: true, cidrs: {}}}", dice.list(self.networks)),
            3 => return format!("{{anyone: true, exceptCidrs: {}}}", dice.list(self.networks)),
            _ => {}
        }
        let mut fields = Vec::new();
        if dice.once_in(2) {
            let (first, second) = (self.account(dice, namespace), self.account(dice, namespace));
            fields.push(if first == second {
                format!("serviceAccounts: [{first}]")
            } else {
                format!("serviceAccounts: [{first}, {second}]")
            });
        }
        if dice.once_in(3) {
            fields.push(format!("namespaces: {}", dice.list(self.namespaces)));
        }
        if dice.once_in(3) {
            fields.push(format!("identities: [{}]", self.identity(dice)));
        }
        if dice.once_in(3) {
            fields.push(format!("cidrs: {}", dice.list(self.networks)));
        }
        if fields.is_empty() || dice.once_in(4) {
            fields.push(format!("exceptCidrs: {}", dice.list(self.networks)));
        }
        format!("{{{}}}", fields.join(", "))
    }

    fn account(&self, dice: &mut Dice, namespace: Option<&str>) -> String {
        let account = dice.pick(self.accounts);
        match namespace {
            Some(_) if dice.once_in(2) => account.to_owned(),
            _ => format!("{}/{account}", dice.pick(self.namespaces)),
        }
    }

    fn identity(&self, dice: &mut Dice) -> String {
        let (namespace, account) = (dice.pick(self.namespaces), dice.pick(self.accounts));
        let pattern = match dice.number(0..=4) {
            0 => format!("spiffe://cluster.local/ns/{namespace}/sa/{account}"),
            1 => format!("spiffe://cluster.local/ns/{namespace}/*"),
            2 => format!("*/sa/{account}"),
            3 => format!("spiffe://cluster.local/ns/*/sa/{account}"),
            _ => "*".to_owned(),
        };
        format!("{pattern:?}")
    }

    /// A port or a range that ends at, beside, or away from a port that is served.
    fn ports(&self, dice: &mut Dice) -> String {
        let served = self.ports[usize::try_from(dice.number(0..=self.ports.len() as u64 - 1)).unwrap()];
        let off = |dice: &mut Dice, port: u16| match dice.number(0..=3) {
            0 => port.saturating_sub(1).max(1),
            1 => port.saturating_add(1),
            _ => port,
        };
        let first = off(dice, served);
        if dice.once_in(2) {
            return first.to_string();
        }
        let other = self.ports[usize::try_from(dice.number(0..=self.ports.len() as u64 - 1)).unwrap()];
        let last = off(dice, other);
        format!("\"{}-{}\"", first.min(last), first.max(last))
    }
}
