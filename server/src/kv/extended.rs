//! Sums of floating-point numbers for INCRBYFLOAT, digit for digit as Redis gives them.
//!
//! Redis computes in C's `long double`. On x86-64 that is the 80-bit extended format: a 64-bit
//! significand and a 15-bit exponent, rounded to nearest, ties to even. Redis parses both operands
//! (`strtold`), adds, and prints with `%.17Lf` less the trailing zeros. Hardware floats would tie
//! the replicated state to the machine, so the three steps are done here in integer arithmetic. A
//! number is exactly `significand × 2^exponent`. Parsing and addition form the exact result as a
//! big integer and round it once to 64 bits. Printing is exact again, rounded once to 17 places. So
//! every replica gets the same bytes on every machine.

use super::big::Big;

/// The longest text that is read as a number, in bytes; Redis's buffer has the same size.
const MAX_TEXT_BYTES: usize = 5 * 1024 - 1;

/// The exponent of the smallest step between two numbers: subnormals go down to 2^-16445.
const MIN_EXPONENT: i64 = -16_445;

/// The exponent of the largest numbers, as a 64-bit integer times a power of two.
const MAX_EXPONENT: i64 = 16_383 - 63;

/// Decimal exponents beyond these are zero or infinite whatever the digits are; the margin is the
/// longest text, whose digits may shift the point.
const DECIMAL_EXPONENT_BOUND: i64 = 20_000;

/// The same for the binary exponents of hexadecimal numbers.
const BINARY_EXPONENT_BOUND: i64 = 100_000;

/// Why there is no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SumError {
    /// An operand is not a number, or is one that the format cannot hold.
    NotAFloat,
    /// The sum is infinite or not a number.
    Infinite,
}

/// Adds two numbers in text form.
///
/// # Errors
/// See [`SumError`].
pub(super) fn sum(a: &[u8], b: &[u8]) -> Result<String, SumError> {
    let a = Extended::parse(a).ok_or(SumError::NotAFloat)?;
    let b = Extended::parse(b).ok_or(SumError::NotAFloat)?;
    match (a, b) {
        (Extended::Finite(a), Extended::Finite(b)) => match a.plus(b) {
            Extended::Finite(sum) => Ok(sum.print()),
            Extended::Infinite => Err(SumError::Infinite),
        },
        (Extended::Infinite, _) | (_, Extended::Infinite) => Err(SumError::Infinite),
    }
}

/// A number of the extended format. The sign of an infinity decides nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extended {
    Finite(Finite),
    Infinite,
}

/// `significand × 2^exponent`, negated or not. Zero has significand zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Finite {
    negative: bool,
    significand: u64,
    exponent: i64,
}

const ZERO: Finite = Finite { negative: false, significand: 0, exponent: 0 };

impl Extended {
    /// Reads a whole text as `strtold` does: decimal and hexadecimal numbers and infinity. Leading
    /// space, "not a number", and numbers that overflow or vanish are refused.
    fn parse(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_TEXT_BYTES {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity") {
            return Some(Self::Infinite);
        }
        let magnitude = match text {
            [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
            _ => decimal(text)?,
        };
        match magnitude {
            Self::Finite(number) => Some(Self::Finite(Finite { negative, ..number })),
            // A number that is spelled out but too large is an error, unlike the word.
            Self::Infinite => None,
        }
    }

    /// `integer × 2^exponent`, plus something below one unit of `integer` if `inexact`, rounded to
    /// nearest, ties to even.
    fn round(integer: &Big, exponent: i64, inexact: bool, negative: bool) -> Self {
        let bits = integer.bits() as i64;
        let drop = (bits - 64).max(MIN_EXPONENT - exponent).max(0);
        let (mut kept, dropped) = integer.split_bits(drop as u64);
        let mut exponent = exponent + drop;
        if dropped.rounds_up(inexact, kept & 1 == 1) {
            match kept.checked_add(1) {
                Some(rounded) => kept = rounded,
                None => {
                    kept = 1 << 63;
                    exponent += 1;
                }
            }
        }
        if kept == 0 {
            return Self::Finite(Finite { negative, ..ZERO });
        }
        if exponent + (64 - i64::from(kept.leading_zeros())) > MAX_EXPONENT + 64 {
            return Self::Infinite;
        }
        Self::Finite(Finite { negative, significand: kept, exponent })
    }
}

impl Finite {
    fn plus(self, other: Self) -> Extended {
        let exponent = match (self.significand, other.significand) {
            (0, _) => return Extended::Finite(other),
            (_, 0) => return Extended::Finite(self),
            _ => self.exponent.min(other.exponent),
        };
        let scaled = |number: Self| {
            Big::from(number.significand).shifted_left((number.exponent - exponent) as u64)
        };
        let (a, b) = (scaled(self), scaled(other));
        if self.negative == other.negative {
            return Extended::round(&a.plus(&b), exponent, false, self.negative);
        }
        let (larger, smaller, negative) =
            if a >= b { (a, b, self.negative) } else { (b, a, other.negative) };
        Extended::round(&larger.minus(&smaller), exponent, false, negative)
    }

    /// `%.17Lf` without trailing zeros and without a negative zero.
    fn print(self) -> String {
        let digits = if self.exponent >= 0 {
            let whole = Big::from(self.significand).shifted_left(self.exponent as u64);
            whole.to_decimal()
        } else {
            self.print_fraction()
        };
        if self.negative && digits != "0" { format!("-{digits}") } else { digits }
    }

    /// The magnitude of a number with a negative exponent, to 17 places.
    fn print_fraction(self) -> String {
        const PLACES: u128 = 100_000_000_000_000_000;
        // Below 2^64 × 10^17 < 2^121, so the product is exact.
        let scaled = u128::from(self.significand) * PLACES;
        let shift = self.exponent.unsigned_abs().min(127) as u32;
        let (mut quotient, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
        let half = 1 << (shift - 1);
        if rest > half || (rest == half && quotient & 1 == 1) {
            quotient += 1;
        }
        let text = format!("{}.{:017}", quotient / PLACES, quotient % PLACES);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// Digits with an optional point and an optional decimal exponent.
fn decimal(text: &[u8]) -> Option<Extended> {
    let scanned = scan(text, 10, b'e')?;
    let exponent =
        scanned.exponent?.clamp(-DECIMAL_EXPONENT_BOUND, DECIMAL_EXPONENT_BOUND) - scanned.places;
    if scanned.digits.is_zero() {
        return Some(Extended::Finite(ZERO));
    }
    // Keep the powers of ten small where the result cannot be finite or other than zero anyway.
    let magnitude = exponent + scanned.significant;
    if magnitude > 4_940 {
        return Some(Extended::Infinite);
    }
    if magnitude < -4_960 {
        return None;
    }
    let power = Big::power_of_ten(exponent.unsigned_abs());
    let rounded = if exponent >= 0 {
        Extended::round(&scanned.digits.times(&power), 0, false, false)
    } else {
        // Scale one side so that the quotient has a few bits more than 64. That is enough to round
        // it. Each more bit would cost a pass over the digits.
        let excess = scanned.digits.bits() as i64 - power.bits() as i64 - 66;
        let dividend = scanned.digits.shifted_left((-excess).max(0) as u64);
        let divisor = power.shifted_left(excess.max(0) as u64);
        let (quotient, exact) = dividend.divided_by(&divisor);
        Extended::round(&quotient, excess, !exact, false)
    };
    unless_vanished(rounded)
}

/// Hexadecimal digits with an optional point and an optional binary exponent.
fn hexadecimal(text: &[u8]) -> Option<Extended> {
    let scanned = scan(text, 16, b'p')?;
    if scanned.digits.is_zero() {
        return Some(Extended::Finite(ZERO));
    }
    let exponent = scanned.exponent?.clamp(-BINARY_EXPONENT_BOUND, BINARY_EXPONENT_BOUND);
    unless_vanished(Extended::round(&scanned.digits, exponent - 4 * scanned.places, false, false))
}

/// A number that is not zero but rounds to zero is out of range, like one that is too large.
fn unless_vanished(rounded: Extended) -> Option<Extended> {
    match rounded {
        Extended::Finite(number) if number.significand == 0 => None,
        Extended::Finite(_) | Extended::Infinite => Some(rounded),
    }
}

/// The parts of a number's text.
struct Scanned {
    /// All digits as one integer.
    digits: Big,
    /// How many digits there are without leading zeros.
    significant: i64,
    /// How many digits stand behind the point.
    places: i64,
    /// The exponent as written, saturated; none if its text is malformed.
    exponent: Option<i64>,
}

fn scan(text: &[u8], radix: u32, exponent_mark: u8) -> Option<Scanned> {
    let end = text
        .iter()
        .position(|byte| byte.eq_ignore_ascii_case(&exponent_mark))
        .unwrap_or(text.len());
    let (number, exponent) = text.split_at(end);
    let point = number.iter().position(|&byte| byte == b'.').unwrap_or(number.len());
    let (whole, fraction) = number.split_at(point);
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut digits = Big::default();
    let mut significant = 0;
    for &byte in whole.iter().chain(fraction) {
        let digit = char::from(byte).to_digit(radix)?;
        digits.multiply_add(radix, digit);
        significant += i64::from(significant > 0 || digit > 0);
    }
    let places = fraction.len() as i64;
    let exponent = if exponent.is_empty() { Some(0) } else { scan_exponent(&exponent[1..]) };
    exponent.map(|exponent| Scanned { digits, significant, places, exponent: Some(exponent) })
}

fn scan_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits.iter().fold(0i64, |value, &digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn add(a: &str, b: &str) -> Result<String, SumError> {
        sum(a.as_bytes(), b.as_bytes())
    }

    #[test]
    fn sums_print_as_redis_prints_them() {
        // Taken from a Redis 7.0 on x86-64.
        for (a, b, expected) in [
            ("0", "1", "1"),
            ("1", "0.25", "1.25"),
            ("1.5", "1.5", "3"),
            ("17179869184", "1.5", "17179869185.5"),
            ("17179869184", "17179869184", "34359738368"),
            ("1", "-1.1", "-0.1"),
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "0", "3000"),
            ("5.0e3", "2.0e2", "5200"),
            ("0.1", "0.2", "0.3"),
            ("-0", "-0", "0"),
            ("0x1p3", "0x.8", "8.5"),
            ("1e18", "0.5", "1000000000000000000.5"),
            ("1e-18", "0", "0"),
            ("5e-18", "0", "0"),
            ("6e-18", "0", "0.00000000000000001"),
            (".5", "5.", "5.5"),
            ("+7", "0", "7"),
        ] {
            assert_eq!(add(a, b).as_deref(), Ok(expected), "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            " 11",
            "11 ",
            " 11 ",
            "1\x002",
            "abc",
            "1e",
            "1e+",
            ".",
            "-",
            "+",
            "1.2.3",
            "nan",
            "0x",
            "1e5000",
            "-1e5000",
            "1e-5000",
            "1e99999999999999999999",
            "infinit",
            "1_0",
            "--1",
        ] {
            assert_eq!(add(text, "1"), Err(SumError::NotAFloat), "{text:?}");
        }
        assert_eq!(add(&"1".repeat(5120), "1"), Err(SumError::NotAFloat));
    }

    #[test]
    fn infinities_are_refused_as_sums() {
        for text in ["inf", "-inf", "+Infinity"] {
            assert_eq!(add("0", text), Err(SumError::Infinite), "{text}");
        }
        assert_eq!(add("1.1e4932", "1.1e4932"), Err(SumError::Infinite));
    }

    #[test]
    fn opposite_numbers_leave_no_negative_zero() {
        assert_eq!(add("0.02439024390243902", "-0.02439024390243902").as_deref(), Ok("0"));
        assert_eq!(add("-1e-30", "0").as_deref(), Ok("0"));
    }

    #[test]
    fn the_largest_number_keeps_its_digits() {
        let text = add("1.18973149535723176502e4932", "0").unwrap();
        assert_eq!(text.len(), 4933);
        assert!(text.starts_with("118973149535723176502"), "{text}");
    }

    #[test]
    fn ties_go_to_the_even_neighbour() {
        // 2^64 + 1 lies half way between two numbers of 64 bits.
        assert_eq!(add("18446744073709551616", "1").as_deref(), Ok("18446744073709551616"));
        assert_eq!(add("18446744073709551616", "3").as_deref(), Ok("18446744073709551620"));
    }

    proptest! {
        #[test]
        fn integers_add_exactly(a in -(1i64 << 61)..1i64 << 61, b in -(1i64 << 61)..1i64 << 61) {
            prop_assert_eq!(add(&a.to_string(), &b.to_string()), Ok((a + b).to_string()));
        }

        #[test]
        fn arbitrary_text_never_panics(a in "[-+0-9.eExXpPinf]{0,24}", b in "[-+0-9.eE]{0,24}") {
            let _ = add(&a, &b);
        }
    }
}
