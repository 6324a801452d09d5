//! The arithmetic, and reading its operands from a query. Pure.

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// What a request asks to be computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operands {
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// Given back as it came, so that a reader of the wire can find the request again.
    pub(crate) marker: Option<String>,
}

/// What a service answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    pub(crate) op: &'static str,
    pub(crate) a: f64,
    pub(crate) b: f64,
    pub(crate) result: f64,
    pub(crate) pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) marker: Option<String>,
}

impl Operands {
    /// Reads `a=…&b=…&marker=…`.
    pub(crate) fn from_query(query: &str) -> Result<Self> {
        let value = |wanted: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value)
        };
        let number = |key: &str| -> Result<f64> {
            let text = value(key).with_context(|| format!("the query has no {key}="))?;
            let number: f64 = text.parse().with_context(|| format!("{key}={text} is no number"))?;
            if !number.is_finite() {
                bail!("{key}={text} is not finite");
            }
            Ok(number)
        };
        Ok(Self { a: number("a")?, b: number("b")?, marker: value("marker").map(str::to_owned) })
    }
}

/// Computes one of the four operations that need no other service.
pub(crate) fn compute(op: &str, a: f64, b: f64) -> Result<f64> {
    let result = match op {
        "addition" => a + b,
        "substraction" => a - b,
        "multiplication" => a * b,
        "division" if b == 0.0 => bail!("division by zero"),
        "division" => a / b,
        other => bail!("{other} is no operation"),
    };
    if !result.is_finite() {
        bail!("the result of {op} is too large");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_operations_compute() {
        let results = ["addition", "substraction", "multiplication", "division"]
            .map(|op| compute(op, 6.0, 3.0).unwrap());
        assert_eq!(results, [9.0, 3.0, 18.0, 2.0]);
    }

    #[test]
    fn what_has_no_result_is_an_error() {
        assert!(compute("division", 1.0, 0.0).is_err());
        assert!(compute("multiplication", 1e200, 1e200).is_err());
        assert!(compute("root", 1.0, 1.0).is_err());
    }

    #[test]
    fn operands_are_read_or_their_fault_is_named() {
        let operands = Operands::from_query("a=6&b=-7.5&marker=x").unwrap();
        assert_eq!(operands, Operands { a: 6.0, b: -7.5, marker: Some("x".into()) });
        for (query, fault) in
            [("", "no a="), ("a=1", "no b="), ("a=one&b=2", "a=one"), ("a=1&b=inf", "b=inf")]
        {
            assert!(Operands::from_query(query).unwrap_err().to_string().contains(fault), "{query}");
        }
    }
}
