//! The numbers of a report, as text.

pub(super) fn quantile(sorted: &[f64], at: f64) -> f64 {
    // With an even number of values the median is the mean of the two in the middle.
    if at == 0.5 && !sorted.is_empty() && sorted.len().is_multiple_of(2) {
        return f64::midpoint(sorted[sorted.len() / 2 - 1], sorted[sorted.len() / 2]);
    }
    let last = sorted.len().saturating_sub(1);
    // There are few rounds, so the index always fits into f64's exact integers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let index = (last as f64 * at).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// Describes ratios. Two values of zero have none.
pub(super) fn spread(ratios: &[f64]) -> String {
    let at = |at| match quantile(ratios, at) {
        small if small > 0.0 && small < 0.01 => format!("{small:.4}"),
        usual => format!("{usual:.2}"),
    };
    match ratios {
        _ if ratios.iter().any(|ratio| ratio.is_nan()) => "—".to_owned(),
        [_] => format!("{}×", at(0.5)),
        _ => format!("{}× ({}–{})", at(0.5), at(0.0), at(1.0)),
    }
}

pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{:.2}G", value / 1e9),
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_shows_small_ratios_and_no_ratio_of_zeros() {
        assert_eq!(spread(&[1.0, 2.0, 4.0]), "2.00× (1.00–4.00)");
        assert_eq!(spread(&[0.0027]), "0.0027×");
        assert_eq!(spread(&[0.0, 0.0]), "0.00× (0.00–0.00)");
        assert_eq!(spread(&[f64::NAN, f64::NAN]), "—");
    }
}
