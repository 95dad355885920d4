//! Values of arguments: what is wrong with one is told by what was expected.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// Reads a whole number in this range.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |s| {
        let number = s.parse().ok().filter(|n| range.contains(n));
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A time with its unit.
pub fn time(s: &str) -> Result<Duration, String> {
    humantime::parse_duration(s).map_err(|_| "expected a time such as 500ms, 10s or 1m30s".into())
}

/// Reads a time in this range.
pub fn time_in(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |s| {
        let time = humantime::parse_duration(s).ok().filter(|time| range.contains(time));
        let [from, to] = [range.start(), range.end()].map(|time| humantime::format_duration(*time));
        time.ok_or_else(|| format!("expected a time from {from} to {to}"))
    }
}

/// Bits a second, in thousands or millions where it says so; `None` where it is none.
pub fn bits(s: &str) -> Option<f64> {
    let (number, unit) = match s.char_indices().last()? {
        (at, 'k' | 'K') => (&s[..at], 1e3),
        (at, 'm' | 'M') => (&s[..at], 1e6),
        _ => (s, 1.0),
    };
    number.parse::<f64>().ok().map(|n| n * unit)
}

/// An address without a port.
pub fn ip(s: &str) -> Result<IpAddr, String> {
    s.parse().map_err(|_| "expected an IP address such as 127.0.0.2".into())
}

/// An address with its port.
pub fn address(s: &str) -> Result<SocketAddr, String> {
    s.parse().map_err(|_| {
        "expected an IP address and a port, as in 127.0.0.1:1935, 0.0.0.0:1935 or [::1]:0".into()
    })
}

/// The file of a capture.
pub fn capture() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|file| match file.to_string_lossy().contains("://") {
        true => Err("a URL stands where the file of a capture is expected"),
        false => Ok(PathBuf::from(file)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_by_what_was_expected() {
        let number = whole(1_u16..=256);
        assert_eq!((number("1"), number("256")), (Ok(1), Ok(256)));
        for wrong in ["0", "257", "-1", "1.5", "x", "", "99999999999999999999"] {
            assert_eq!(number(wrong), Err("expected a whole number from 1 to 256".into()), "{wrong}");
        }
        let ms = Duration::from_millis;
        let tick = time_in(ms(1)..=ms(1000));
        assert_eq!((tick("1ms"), tick("1s"), time("1m 30s")), (Ok(ms(1)), Ok(ms(1000)), Ok(ms(90_000))));
        for wrong in ["0s", "2s", "5", "x", ""] {
            assert_eq!(tick(wrong), Err("expected a time from 1ms to 1s".into()), "{wrong}");
        }
        assert_eq!(bits("2.5M"), Some(2_500_000.0));
        assert_eq!(
            (bits("96k"), bits("500"), bits("k"), bits("")),
            (Some(96_000.0), Some(500.0), None, None)
        );
    }
}
