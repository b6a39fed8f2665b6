//! How a port takes TLS, and whether its clients show certificates.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// Whether a port speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// It does not.
    #[default]
    Off,
    /// It takes both, and tells TLS by the first byte. So a running cluster can be switched over.
    Optional,
    /// It takes nothing else.
    Required,
}

/// Whether whoever comes to a port with TLS has to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// Who shows one must show a good one.
    Optional,
    /// Nobody comes in without one.
    Required,
}

/// A word that is none of those that are allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is none of {}", allowed.join(", "))]
pub struct WordError {
    word: String,
    allowed: &'static [&'static str],
}

macro_rules! words {
    ($kind:ty, $($value:ident $word:literal)*) => {
        impl $kind {
            const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word for it on the command line.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word),* }
            }
        }

        impl FromStr for $kind {
            type Err = WordError;

            fn from_str(word: &str) -> Result<Self, WordError> {
                match word {
                    $($word => Ok(Self::$value),)*
                    _ => Err(WordError { word: word.to_owned(), allowed: Self::WORDS }),
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words!(TlsMode, Off "off" Optional "optional" Required "required");
words!(ClientAuth, None "none" Optional "optional" Required "required");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_others_refused() {
        for mode in [TlsMode::Off, TlsMode::Optional, TlsMode::Required] {
            assert_eq!(mode.word().parse(), Ok(mode));
        }
        let error = "on".parse::<TlsMode>().unwrap_err().to_string();
        assert_eq!(error, "\"on\" is none of off, optional, required");
        assert_eq!("none".parse(), Ok(ClientAuth::None));
    }
}
