//! Many measurements of one thing, and how far they spread.

use std::time::Duration;

/// Measurements, in whatever unit, sorted.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// In the order of `values`, `first` by `second`, as far as both go.
    pub fn ratios(first: &[f64], second: &[f64]) -> Self {
        first.iter().zip(second).map(|(a, b)| a / b).collect()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that the share `q` of all does not exceed: 0.5 is the median. 0 where there is none.
    pub fn quantile(&self, q: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into what fits in memory"
        )]
        let index = ((self.0.len().saturating_sub(1)) as f64 * q).round() as usize;
        self.0.get(index).copied().unwrap_or_default()
    }

    /// The lowest.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The highest.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl FromIterator<Duration> for Samples {
    /// In milliseconds.
    fn from_iter<I: IntoIterator<Item = Duration>>(values: I) -> Self {
        values
            .into_iter()
            .map(|value| value.as_secs_f64() * 1e3)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let samples: Samples = [5.0, 1.0, 3.0, 2.0, 4.0].into_iter().collect();
        assert_eq!(
            [
                samples.min(),
                samples.median(),
                samples.quantile(0.75),
                samples.max()
            ],
            [1.0, 3.0, 4.0, 5.0]
        );
    }

    #[test]
    fn nothing_measured_is_zero() {
        assert_eq!(Samples::default().median(), 0.0);
    }
}
