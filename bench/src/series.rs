//! Repeated measurements of one thing with and without a mesh, and what is said of them.

use serde::Serialize;

/// The spread of the values without a mesh above which a series counts as noisy: highest to lowest.
const NOISY: f64 = 1.25;

/// One round: the same load without and with a mesh, one directly after the other.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) direct: f64,
    pub(crate) mesh: f64,
    /// CPU seconds of the data plane per unit.
    pub(crate) cpu: f64,
    pub(crate) direct_p50: Option<f64>,
    pub(crate) direct_p99: Option<f64>,
    pub(crate) mesh_p50: Option<f64>,
    pub(crate) mesh_p99: Option<f64>,
}

/// What is said of a series: medians, and the lowest and highest ratio of a round.
#[derive(Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) path: &'static str,
    pub(crate) test: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) direct: f64,
    pub(crate) mesh: f64,
    pub(crate) ratio: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// CPU of the data plane in `cpu_unit`.
    pub(crate) cpu: f64,
    pub(crate) cpu_unit: &'static str,
    pub(crate) rounds: usize,
    pub(crate) noisy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) direct_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) direct_p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mesh_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mesh_p99_us: Option<f64>,
}

/// What is said of repeated measurements of one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Sums values up; all 0 of nothing.
pub(crate) fn spread(values: impl IntoIterator<Item = f64>) -> Spread {
    let values: Vec<f64> = values.into_iter().collect();
    let (min, max) = if values.is_empty() { (0.0, 0.0) } else { bounds(values.iter().copied()) };
    Spread { median: median(values), min, max }
}

/// Returns the `count` rounds in a row that differ the least without a mesh: all, when there are no more.
pub(crate) fn calmest(rounds: &[Round], count: usize) -> &[Round] {
    let spread = |rounds: &[Round]| {
        let (low, high) = bounds(rounds.iter().map(|round| round.direct));
        high / low
    };
    rounds
        .windows(count.clamp(1, rounds.len().max(1)))
        .min_by(|left, right| spread(left).total_cmp(&spread(right)))
        .unwrap_or(rounds)
}

/// Tells whether the rounds without a mesh differ so much that the machine was doing something else.
pub(crate) fn is_noisy(rounds: &[Round]) -> bool {
    let (low, high) = bounds(rounds.iter().map(|round| round.direct));
    high > low * NOISY
}

/// Returns the median; 0 of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => 0.0,
    }
}

/// Returns the lowest and the highest.
pub(crate) fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(value), high.max(value)))
}

/// Returns the median of those that are there.
pub(crate) fn median_of(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().collect();
    (!values.is_empty()).then(|| median(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(direct: f64) -> Round {
        let (mesh, cpu) = (1.0, 0.0);
        Round { direct, mesh, cpu, direct_p50: None, direct_p99: None, mesh_p50: None, mesh_p99: None }
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn a_series_is_noisy_when_the_machine_alone_varies() {
        assert!(!is_noisy(&[round(100.0), round(120.0)]));
        assert!(is_noisy(&[round(100.0), round(130.0)]));
    }

    #[test]
    fn a_series_that_was_repeated_is_judged_by_its_calmest_rounds() {
        let rounds = [200.0, 100.0, 90.0, 95.0].map(round);
        let calm = calmest(&rounds, 3);
        assert_eq!(calm.iter().map(|round| round.direct).collect::<Vec<_>>(), [100.0, 90.0, 95.0]);
        assert!(is_noisy(&rounds) && !is_noisy(calm));
        assert_eq!(calmest(&rounds[..2], 3).len(), 2, "fewer rounds than asked for: all of them");
        assert!(calmest(&[], 3).is_empty());
    }

    #[test]
    fn a_spread_holds_median_lowest_and_highest() {
        assert_eq!(spread([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread([]), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }
}
