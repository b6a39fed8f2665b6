//! Which deliberate bug this process has: the one that the variable `LOGBOAT_MUTANT` names, or
//! none.
//!
//! The tool adds this module to the copy of `logboat-raft`, on which all patched crates depend, and
//! the names of all patches at its end.

extern crate std;

use std::env;
use std::sync::LazyLock;

/// Whether this process has the mutant of that name.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is($crate::mutants::Mutant::$name)
    };
}

macro_rules! mutants {
    ($($name:ident)*) => {
        /// A deliberate bug, described by the patch of its name.
        #[allow(missing_docs)]
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($name),*
        }

        fn called(name: &str) -> Mutant {
            match name {
                $(stringify!($name) => Mutant::$name,)*
                _ => panic!("no mutant is called {name:?}"),
            }
        }
    };
}

static CHOSEN: LazyLock<Option<Mutant>> =
    LazyLock::new(|| env::var("LOGBOAT_MUTANT").ok().map(|name| called(&name)));

/// Whether this is the process's mutant.
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    *CHOSEN == Some(mutant)
}
