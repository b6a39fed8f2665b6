//! Splitting an inline command into its arguments, with the quotes of Redis.

use bytes::Bytes;

/// Splits a line at white space. A part in double quotes may hold `\n`, `\r`, `\t`, `\b`, `\a`,
/// `\xHH` and any other escaped byte; one in single quotes only `\'`. None if a quote is not
/// closed, or is followed by something other than white space.
#[must_use]
pub fn split_arguments(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut arguments = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (argument, after) = one_argument(rest)?;
        arguments.push(Bytes::from(argument));
        rest = skip_space(after);
    }
    Some(arguments)
}

fn one_argument(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut argument = Vec::new();
    loop {
        rest = match rest {
            [] => return Some((argument, rest)),
            [b'"', after @ ..] => return finish(argument, double_quoted(after)?),
            [b'\'', after @ ..] => return finish(argument, single_quoted(after)?),
            [byte, after @ ..] if is_space(*byte) => return Some((argument, after)),
            [byte, after @ ..] => {
                argument.push(*byte);
                after
            }
        };
    }
}

/// Joins what stood before a quoted part with it; a closing quote ends the argument.
fn finish(mut argument: Vec<u8>, (quoted, after): (Vec<u8>, &[u8])) -> Option<(Vec<u8>, &[u8])> {
    argument.extend(quoted);
    match after {
        [] => Some((argument, after)),
        [byte, ..] => is_space(*byte).then_some((argument, after)),
    }
}

fn double_quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut quoted = Vec::new();
    loop {
        rest = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some((quoted, after)),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                quoted.push(hex_digit(*high) << 4 | hex_digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                quoted.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                quoted.push(*byte);
                after
            }
        };
    }
}

fn single_quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut quoted = Vec::new();
    loop {
        rest = match rest {
            [] => return None,
            [b'\\', b'\'', after @ ..] => {
                quoted.push(b'\'');
                after
            }
            [b'\'', after @ ..] => return Some((quoted, after)),
            [byte, after @ ..] => {
                quoted.push(*byte);
                after
            }
        };
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn skip_space(mut rest: &[u8]) -> &[u8] {
    while let [byte, after @ ..] = rest
        && is_space(*byte)
    {
        rest = after;
    }
    rest
}

/// C's `isspace`, which has the vertical tab that Rust's ASCII white space lacks.
const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::split_arguments;

    #[test]
    fn lines_split_as_in_redis() {
        for (line, expected) in [
            (&b""[..], &[][..]),
            (b"  ", &[]),
            (b"SET k1 xyzk", &[&b"SET"[..], b"k1", b"xyzk"]),
            (b"  a \t b  ", &[b"a", b"b"]),
            (br#"set "a b" 'c d'"#, &[b"set", b"a b", b"c d"]),
            (br#"x "\n\r\t\b\a\x41\q\"""#, &[b"x", b"\n\r\t\x08\x07Aq\""]),
            (br"x 'it\'s' '\n'", &[b"x", b"it's", b"\\n"]),
            (br#"pre"fix""#, &[b"prefix"]),
            (br#"x """#, &[b"x", b""]),
            (br#"x "\xZZ""#, &[b"x", b"xZZ"]),
        ] {
            let arguments = split_arguments(line).unwrap();
            assert_eq!(arguments, expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [&b"x \"a"[..], b"x 'a", b"x \"a\"b", b"x 'a'b", b"\"", b"x \"a\\"] {
            assert_eq!(split_arguments(line), None, "{}", line.escape_ascii());
        }
    }
}
