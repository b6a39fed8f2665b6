//! Deliberate bugs (mutants). They show whether the simulator notices what it should notice.
//!
//! Each is a patch in `tests/mutants/patches`; the README beside it describes the format. The
//! product has none of them. All patches are [woven](weave) into one [copy](write_copy) of the
//! tree, where a switch at run time turns each of them on. So one build serves them all.

mod patch;
mod tree;
mod weave;

pub use patch::{Patch, PatchError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
pub use tree::{read_patches, read_tree, write_copy};
pub use weave::weave;

/// The files of a tree by their paths in it.
pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// The variable by which a process of the copy is told which mutant it has.
pub const SWITCH_VARIABLE: &str = "LOGBOAT_MUTANT";

/// The repository that this was built from.
#[must_use]
pub fn repository() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the package is `tests/mutants`")
}
