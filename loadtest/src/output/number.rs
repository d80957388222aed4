//! Figures as people read them: three digits that count, and `k` and `M` behind large ones.

/// A figure: `0.056`, `5.61`, `56.1`, `561`, `5,610`, `56.1 k`, `5.61 M`.
pub(crate) fn short(value: f64) -> String {
    // The limits are those from which the rounded figure would have a digit more.
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.000_95 => format!("{value:.0e}"),
        size if size < 0.0995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        size if size < 9_999.5 => grouped(value),
        size if size < 99_950.0 => format!("{:.1} k", value / 1e3),
        size if size < 999_500.0 => format!("{:.0} k", value / 1e3),
        size if size < 9_995_000.0 => format!("{:.2} M", value / 1e6),
        size if size < 99_950_000.0 => format!("{:.1} M", value / 1e6),
        _ => format!("{} M", grouped(value / 1e6)),
    }
}

/// A figure that somebody has set, without zeros that say nothing: `8`, `6.5`, `250 k`.
pub(crate) fn plain(value: f64) -> String {
    let text = short(value);
    let (number, suffix) = text
        .find(' ')
        .map_or((text.as_str(), ""), |space| text.split_at(space));
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number}{suffix}")
}

/// A whole number in groups of three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits.as_str()),
    };
    let mut text = sign.to_owned();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A quotient of two figures: `1.18×`.
pub(crate) fn ratio(value: f64) -> String {
    format!("{}×", short(value))
}

/// A share: `97 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Microseconds, in the unit that suits them: `184 µs`, `1.24 ms`, `2.50 s`.
pub(crate) fn time(microseconds: f64) -> String {
    match microseconds.abs() {
        size if size < 999.5 => format!("{} µs", short(microseconds)),
        size if size < 999_500.0 => format!("{} ms", short(microseconds / 1e3)),
        _ => format!("{} s", short(microseconds / 1e6)),
    }
}

/// How long something took: `48 s`, `14 min 12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 59.5 {
        return format!("{seconds:.0} s");
    }
    let minutes = (seconds.round() / 60.0).floor();
    format!("{minutes:.0} min {:.0} s", seconds.round() - minutes * 60.0)
}

/// Memory: `640 KiB`, `7.8 GiB`.
#[expect(
    clippy::cast_precision_loss,
    reason = "two digits of it are shown, so the last ones do not matter"
)]
pub(crate) fn memory(bytes: u64) -> String {
    let bytes = bytes as f64;
    let units = [("GiB", 3), ("MiB", 2), ("KiB", 1)];
    let unit = units
        .into_iter()
        .find(|(_, power)| bytes >= 1024_f64.powi(*power));
    unit.map_or_else(
        || format!("{bytes:.0} bytes"),
        |(name, power)| format!("{:.1} {name}", bytes / 1024_f64.powi(power)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_2, "2e-4"),
            (0.0561, "0.056"),
            (0.0999, "0.10"),
            (5.614, "5.61"),
            (9.996, "10.0"),
            (56.14, "56.1"),
            (561.4, "561"),
            (999.7, "1,000"),
            (5_614.2, "5,614"),
            (56_142.0, "56.1 k"),
            (312_000.0, "312 k"),
            (999_600.0, "1.00 M"),
            (1_240_000.0, "1.24 M"),
            (56_100_000.0, "56.1 M"),
            (1_561_000_000.0, "1,561 M"),
            (-5.614, "-5.61"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn zeros_that_say_nothing_are_left_out() {
        for (value, text) in [
            (8.0, "8"),
            (6.5, "6.5"),
            (1.15, "1.15"),
            (250_000.0, "250 k"),
            (1_500_000.0, "1.5 M"),
            (10.0, "10"),
            (100.0, "100"),
            (3_072.0, "3,072"),
        ] {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn units_suit_the_size() {
        assert_eq!(time(184.3), "184 µs");
        assert_eq!(time(1_240.0), "1.24 ms");
        assert_eq!(time(2_500_000.0), "2.50 s");
        assert_eq!(duration(48.2), "48 s");
        assert_eq!(duration(59.7), "1 min 0 s");
        assert_eq!(duration(852.0), "14 min 12 s");
        assert_eq!(memory(8 << 30), "8.0 GiB");
        assert_eq!(memory(512), "512 bytes");
        assert_eq!(ratio(1.184), "1.18×");
        assert_eq!(percent(0.974), "97 %");
    }
}
