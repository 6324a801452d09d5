//! What is measured, how often and how long.

use std::time::Duration;

use crate::speed::{PATHS, TESTS};

/// What is measured besides the speeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    First,
    Policies,
    Changes,
    Memory,
}

impl Section {
    const ALL: [Self; 4] = [Self::First, Self::Policies, Self::Changes, Self::Memory];

    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Policies => "policies",
            Self::Changes => "changes",
            Self::Memory => "memory",
        }
    }
}

/// What is measured, how often and how long.
pub(crate) struct Plan {
    pub(crate) quick: bool,
    /// Rounds of the speeds.
    pub(crate) rounds: usize,
    /// How long each load runs.
    pub(crate) time: Duration,
    /// How long noisy series are repeated at most.
    pub(crate) patience: Duration,
    /// Rounds under policies.
    pub(crate) repeats: usize,
    /// How often a policy changes on each path.
    pub(crate) changes: usize,
    /// How many first connections there are on each path.
    pub(crate) firsts: usize,
    only: Vec<String>,
}

impl Plan {
    pub(crate) fn new(quick: bool, rounds: Option<usize>, time: Option<Duration>, only: &[String]) -> Self {
        let (usual, each, patience) = if quick { (2, 500, 45) } else { (5, 1500, 240) };
        Self {
            quick,
            rounds: rounds.unwrap_or(usual).max(1),
            time: time.unwrap_or(Duration::from_millis(each)),
            patience: Duration::from_secs(patience),
            repeats: rounds.unwrap_or(3).max(1),
            changes: if quick { 5 } else { 20 },
            firsts: 10,
            only: only.to_vec(),
        }
    }

    /// Tells whether this test on this path was asked for: names of paths choose among paths, those of tests among tests.
    pub(crate) fn wants_speed(&self, path: &str, test: &str) -> bool {
        let among = |known: &dyn Fn(&str) -> bool, name: &str| {
            let mut named = self.only.iter().filter(|name| known(name)).peekable();
            named.peek().is_none() || named.any(|wanted| wanted == name)
        };
        let asked = self.only.is_empty() || self.only.iter().any(|name| is_path(name) || is_test(name));
        asked && among(&is_path, path) && among(&is_test, test)
    }

    /// Tells whether this section was asked for.
    pub(crate) fn wants(&self, section: Section) -> bool {
        let usual = !self.quick || section == Section::Changes;
        if self.only.is_empty() { usual } else { self.only.iter().any(|name| name == section.name()) }
    }

    /// Tells whether anything is measured on the nodes with servers.
    pub(crate) fn needs_world(&self) -> bool {
        let speeds = PATHS.iter().any(|path| TESTS.iter().any(|test| self.wants_speed(path, test.name)));
        let sections = [Section::First, Section::Policies, Section::Changes];
        speeds || sections.into_iter().any(|section| self.wants(section))
    }
}

fn is_path(name: &str) -> bool {
    PATHS.contains(&name)
}

fn is_test(name: &str) -> bool {
    TESTS.iter().any(|test| test.name == name)
}

/// Reads a name of what can be measured.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let sections = Section::ALL.map(Section::name);
    let known: Vec<&str> = TESTS.iter().map(|test| test.name).chain(PATHS).chain(sections).collect();
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("nothing is called so; there are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(quick: bool, only: &[&str]) -> Plan {
        Plan::new(quick, None, None, &only.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_choose_among_their_own_kind() {
        let conn1 = plan(false, &["conn1"]);
        assert!(conn1.wants_speed("across", "conn1") && conn1.wants_speed("same-node", "conn1"));
        assert!(!conn1.wants_speed("across", "bulk1") && !conn1.wants(Section::Memory));
        let across = plan(false, &["across", "bulk4"]);
        assert!(across.wants_speed("across", "bulk4"));
        assert!(!across.wants_speed("same-node", "bulk4") && !across.wants_speed("across", "conn1"));
    }

    #[test]
    fn a_section_alone_measures_no_speeds() {
        let memory = plan(false, &["memory"]);
        assert!(memory.wants(Section::Memory) && !memory.needs_world());
        let changes = plan(true, &["changes"]);
        assert!(changes.needs_world() && !changes.wants_speed("across", "conn1"));
    }

    #[test]
    fn a_quick_run_measures_speeds_and_the_time_of_a_change() {
        let quick = plan(true, &[]);
        assert!(quick.wants_speed("to-plain", "http2") && quick.wants(Section::Changes));
        assert!(
            !quick.wants(Section::First) && !quick.wants(Section::Policies) && !quick.wants(Section::Memory)
        );
        assert!(Section::ALL.into_iter().all(|section| plan(false, &[]).wants(section)));
    }

    #[test]
    fn a_name_that_nothing_bears_is_refused_with_those_that_exist() {
        assert_eq!(name("across"), Ok("across".to_owned()));
        let error = name("acros").unwrap_err();
        assert!(error.contains("bulk1") && error.contains("across") && error.contains("memory"), "{error}");
    }
}
