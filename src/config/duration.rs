//! Durations as the configuration writes them: a whole number and a unit ("250ms", "2s", "1m", "24h", "10d"). Pure; no fractions, no bare numbers.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The error is the end of a sentence that begins with the value.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wanted = "is not a duration: write a whole number and a unit, like \"250ms\", \"2s\", \"1m\", \"24h\" or \"10d\"";
    let number: u64 = number.parse().map_err(|_| wanted.to_string())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| wanted.to_string())?;
    let millis = number.checked_mul(*factor).filter(|millis| *millis <= 3_650 * 86_400_000);
    millis.map(Duration::from_millis).ok_or_else(|| "is longer than ten years".to_string())
}

/// The shortest exact spelling; what `parse` reads back, to the millisecond.
pub fn show(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let exact = UNITS.iter().rev().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    match exact {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        fn check(text: &str, millis: Option<u64>, shown: &str) {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text}");
            if let Some(millis) = millis {
                assert_eq!(show(Duration::from_millis(millis)), shown, "{text}");
            }
        }
        check("250ms", Some(250), "250ms");
        check("2s", Some(2_000), "2s");
        check("2000ms", Some(2_000), "2s");
        check("90s", Some(90_000), "90s");
        check("1m", Some(60_000), "1m");
        check("240h", Some(864_000_000), "10d");
        check("0s", Some(0), "0s");
        for bad in ["", "2", "s", "-1s", "1.5s", "2 s", "2S", "2sec", "99999999999999999999s", "9999999999999d", "11year", "4000d"] {
            check(bad, None, "");
        }
    }
}
