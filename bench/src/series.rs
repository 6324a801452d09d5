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
}
