//! Glob patterns with the rules of Redis: `*`, `?`, `[abc]`, `[^a-z]` and `\` as an escape.

/// Whether `text` matches `pattern`. With `fold_case`, ASCII letters match in either case.
///
/// Only the last star that was reached is tried again with more text. Once a later star is reached,
/// giving an earlier one more text can't help. So the time is at most the product of the lengths.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8], fold_case: bool) -> bool {
    let (mut rest, mut at) = (pattern, 0);
    let mut retry: Option<(&[u8], usize)> = None;
    loop {
        match step(rest, text.get(at).copied(), fold_case) {
            Step::Star(after) => {
                retry = Some((after, at));
                rest = after;
            }
            Step::Matched(after) => {
                rest = after;
                at += 1;
            }
            Step::Done => return true,
            Step::Failed => match retry {
                Some((after, from)) if from < text.len() => {
                    retry = Some((after, from + 1));
                    (rest, at) = (after, from + 1);
                }
                Some(_) | None => return false,
            },
        }
    }
}

enum Step<'a> {
    /// A star; the pattern behind it.
    Star(&'a [u8]),
    /// One byte matched one element; the pattern behind it.
    Matched(&'a [u8]),
    /// Pattern and text are both used up.
    Done,
    Failed,
}

fn step(pattern: &[u8], byte: Option<u8>, fold_case: bool) -> Step<'_> {
    let Some((&first, after)) = pattern.split_first() else {
        return if byte.is_none() { Step::Done } else { Step::Failed };
    };
    if first == b'*' {
        return Step::Star(after);
    }
    let Some(byte) = byte else {
        return Step::Failed;
    };
    let (matched, after) = match (first, after) {
        (b'?', _) => (true, after),
        (b'[', _) => class(after, byte, fold_case),
        (b'\\', [escaped, after @ ..]) => (same(*escaped, byte, fold_case), after),
        (literal, _) => (same(literal, byte, fold_case), after),
    };
    if matched { Step::Matched(after) } else { Step::Failed }
}

/// Matches the class whose text starts `pattern`, behind its `[`; returns what follows the class.
/// A class that is never closed ends with the pattern.
fn class(pattern: &[u8], byte: u8, fold_case: bool) -> (bool, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [] => break,
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [b'\\', escaped, after @ ..] => {
                found |= same(*escaped, byte, fold_case);
                after
            }
            [low, b'-', high, after @ ..] => {
                found |= within(*low, *high, byte, fold_case);
                after
            }
            [literal, after @ ..] => {
                found |= same(*literal, byte, fold_case);
                after
            }
        };
    }
    (found != negated, rest)
}

fn within(low: u8, high: u8, byte: u8, fold_case: bool) -> bool {
    let fold = |byte: u8| {
        if fold_case { byte.to_ascii_lowercase() } else { byte }
    };
    let (low, high) = (fold(low.min(high)), fold(low.max(high)));
    (low..=high).contains(&fold(byte))
}

fn same(a: u8, b: u8, fold_case: bool) -> bool {
    if fold_case { a.eq_ignore_ascii_case(&b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), false),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn patterns_of_redis() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("foo*", "foo", true),
            ("foo*", "foobar", true),
            ("*bar", "foobar", true),
            ("*bar", "foobarx", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("key:1??", "key:123", true),
            ("key:1??", "key:12", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\", r"a\", true),
            ("{a}*", "{a}x", true),
            ("[abc", "b", true),
            (r"[\]]", "]", true),
            ("[", "x", false),
            ("[^", "x", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
        ] {
            check(pattern, text, expected);
        }
    }

    #[test]
    fn case_is_folded_on_request() {
        assert!(matches(b"MAX*", b"maxclients", true));
        assert!(matches(b"[A-C]x", b"bX", true));
        assert!(!matches(b"MAX*", b"maxclients", false));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(5_000);
        let mut text = vec![b'a'; 20_000];
        assert!(matches(&pattern, &text, false));
        text.push(b'b');
        assert!(!matches(&[&pattern[..], b"c"].concat(), &text, false));
    }
}
