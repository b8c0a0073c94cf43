//! Dates of HTTP (RFC 9110 §5.6.7), read as a cache should (RFC 9111 §4.2): whatever their case, in the zone GMT alone.
//!
//! The name of the day must be one, but not the right one: the date itself is beyond doubt.

use super::time::Timestamp;

const DAYS: [&[u8]; 7] = [b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday", b"sunday"];
const MONTHS: [&[u8]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// Reads any of the three forms; `None` for what is no date. What lies before 1970 is 1970.
pub fn parse(value: &[u8]) -> Option<Timestamp> {
    let value = value.trim_ascii();
    match value.iter().position(|byte| *byte == b',') {
        Some(3) => day(value.get(..3)?, 3).and_then(|()| imf_fixdate(value.get(3..)?)),
        Some(comma) => day(value.get(..comma)?, usize::MAX).and_then(|()| rfc_850(value.get(comma..)?)),
        None => day(value.get(..3)?, 3).and_then(|()| asctime(value.get(3..)?)),
    }
}

/// `, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(rest: &[u8]) -> Option<Timestamp> {
    let [b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', time @ .., b' ', z1, z2, z3] = rest else {
        return None;
    };
    zone([*z1, *z2, *z3])?;
    at(number(&[*y1, *y2, *y3, *y4])?, &[*m1, *m2, *m3], number(&[*d1, *d2])?, time)
}

/// `, 06-Nov-94 08:49:37 GMT`. Two digits are a year from 1970 to 2069: never more than 50 years ahead.
fn rfc_850(rest: &[u8]) -> Option<Timestamp> {
    let [b',', b' ', d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', time @ .., b' ', z1, z2, z3] = rest else {
        return None;
    };
    zone([*z1, *z2, *z3])?;
    let year = number(&[*y1, *y2])?;
    at(if year < 70 { 2000 + year } else { 1900 + year }, &[*m1, *m2, *m3], number(&[*d1, *d2])?, time)
}

/// ` Nov  6 08:49:37 1994`.
fn asctime(rest: &[u8]) -> Option<Timestamp> {
    let [b' ', m1, m2, m3, b' ', d1, d2, b' ', time @ .., b' ', y1, y2, y3, y4] = rest else { return None };
    let tens = if *d1 == b' ' { b'0' } else { *d1 };
    at(number(&[*y1, *y2, *y3, *y4])?, &[*m1, *m2, *m3], number(&[tens, *d2])?, time)
}

/// Any day's name, cut to so many letters.
fn day(name: &[u8], letters: usize) -> Option<()> {
    let is = |day: &&[u8]| day.get(..letters.min(day.len())).is_some_and(|day| day.eq_ignore_ascii_case(name));
    DAYS.iter().any(is).then_some(())
}

fn zone(name: [u8; 3]) -> Option<()> {
    name.eq_ignore_ascii_case(b"GMT").then_some(())
}

fn at(year: u64, month: &[u8; 3], day: u64, time: &[u8]) -> Option<Timestamp> {
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = time else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    // A leap second is a second like any.
    if !(1..=*lengths.get(month)?).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Leap days before this year, counted from the year 1.
    let leaps = |years: u64| years / 4 - years / 100 + years / 400;
    let before = |year: u64| year.saturating_sub(1) * 365 + leaps(year.saturating_sub(1));
    let days = before(year) + lengths.iter().take(month).sum::<u64>() + day - 1;
    let seconds = (days * 24 + hour) * 3600 + minute * 60 + second;
    Some(Timestamp::from_millis(seconds.saturating_sub(before(1970) * 86_400) * 1000))
}

/// Digits only.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms_are_read_and_nothing_else_is() {
        let (date, none) = (Some(784_111_777), None);
        for (text, expected, why) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", date, "RFC 9110 §5.6.7: IMF-fixdate"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", date, "§5.6.7: the form of RFC 850"),
            ("Sun Nov  6 08:49:37 1994", date, "§5.6.7: asctime"),
            ("sUN, 06 nOV 1994 08:49:37 gmt", date, "RFC 9111 §4.2: whatever the case"),
            ("Mon, 06 Nov 1994 08:49:37 GMT", date, "no rule asks for the right day, and the date is beyond doubt"),
            ("Saturday, 06-Nov-94 08:49:37 GMT", date, "likewise"),
            ("Mon Nov 06 08:49:37 1994", date, "a day of two digits"),
            (" Sun, 06 Nov 1994 08:49:37 GMT ", date, "RFC 9110 §5.5: white space around a value is none of it"),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_800), "§5.6.7: a leap second"),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800), "a leap year"),
            ("Sat, 29 Feb 2020 00:00:00 GMT", Some(1_582_934_400), "another"),
            ("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400), "a leap century"),
            ("Sun, 29 Feb 2100 00:00:00 GMT", none, "none"),
            ("Wed, 29 Feb 2023 00:00:00 GMT", none, "no leap year"),
            ("Thu, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878), "beyond 32 bits of seconds"),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799), "the last"),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(0), "before 1970 is 1970"),
            ("Mon, 01 Jan 0001 00:00:00 GMT", Some(0), "long before"),
            ("Sat, 01 Jan 0000 00:00:00 GMT", Some(0), "a year that never was"),
            ("Friday, 31-Dec-69 23:59:59 GMT", Some(3_155_759_999), "§5.6.7: at most 50 years ahead"),
            ("Thursday, 01-Jan-70 00:00:00 GMT", Some(0), "§5.6.7: else in the past"),
            ("Sun, 06 Nov 1994 08:49:37 UTC", none, "RFC 9111 §4.2: another zone is no date"),
            ("Sun, 06 Nov 1994 08:49:37 +0000", none, "likewise"),
            ("Sun, 06 Nov 1994 08:49:37", none, "no zone"),
            ("Sun, 6 Nov 1994 08:49:37 GMT", none, "§5.6.7: two digits"),
            ("Sun, 06 Nov 94 08:49:37 GMT", none, "four digits"),
            ("Sun, 06 Nov 1994 8:49:37 GMT", none, "two digits"),
            ("Sun, 06 Nov 1994 08.49.37 GMT", none, "colons"),
            ("Sun 06 Nov 1994 08:49:37 GMT", none, "a comma"),
            ("Sun,  06  Nov  1994 08:49:37 GMT", none, "one space"),
            ("Sun, 06-Nov-1994 08:49:37 GMT", none, "a form of its own"),
            ("Sun, 06-Nov-94 08:49:37 GMT", none, "the form of RFC 850 has whole names"),
            ("Xyz, 06 Nov 1994 08:49:37 GMT", none, "no day"),
            ("Sun, 06 Nox 1994 08:49:37 GMT", none, "no month"),
            ("Sun, 00 Nov 1994 08:49:37 GMT", none, "no day of a month"),
            ("Sun, 31 Nov 1994 08:49:37 GMT", none, "November has 30"),
            ("Sun, 06 Nov 1994 24:00:00 GMT", none, "no hour"),
            ("Sun, 06 Nov 1994 08:60:37 GMT", none, "no minute"),
            ("Sun, 06 Nov 1994 08:49:61 GMT", none, "no second"),
            ("Sun, +6 Nov 1994 08:49:37 GMT", none, "a sign is no digit"),
            ("Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", none, "one date, not two"),
            ("784111777", none, "a number"),
            ("0", none, "RFC 9111 §5.3 names it: in the past"),
            ("", none, "nothing"),
        ] {
            assert_eq!(parse(text.as_bytes()).map(Timestamp::as_secs), expected, "{text}: {why}");
        }
    }

    proptest! {
        /// What another library writes is read back, in all three forms.
        #[test]
        fn what_is_written_is_read(seconds in 0_u64..253_402_300_800) {
            let at = Timestamp::from_millis(seconds * 1000);
            let text = httpdate::fmt_http_date(at.to_system_time());
            prop_assert_eq!(parse(text.as_bytes()), Some(at));
            prop_assert_eq!(parse(text.to_ascii_uppercase().as_bytes()), Some(at));
            let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let [name, day, month, year, time, _] = words[..] else { panic!("{text}") };
            let asctime = format!("{name} {month} {day:>2} {time} {year}");
            prop_assert_eq!(parse(asctime.as_bytes()), Some(at));
            let year = year.parse::<u32>().unwrap();
            if (1970..2070).contains(&year) {
                let rfc_850 = format!("Sunday, {day}-{month}-{:02} {time} GMT", year % 100);
                prop_assert_eq!(parse(rfc_850.as_bytes()), Some(at));
            }
        }

        /// What the strict library reads is read alike.
        #[test]
        fn nothing_panics_and_nothing_strict_is_lost(text in "[A-Z][a-z]{2}, [0-3][0-9] (Jan|Feb|Dec) [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT|[ -~]{0,40}") {
            let read = parse(text.as_bytes());
            if let Some(strict) = httpdate::parse_http_date(&text).ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) {
                prop_assert_eq!(read.map(Timestamp::as_secs), Some(strict.as_secs()), "{}", text);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            parse(&bytes);
        }
    }
}
