//! The deliberate bugs go with the code: whoever changes lines that one of them stands on changes
//! the patch as well. Whether the simulator finds them is for the binary `mutants` to say.

use logboat_mutants::{read_patches, read_tree, repository, weave};

#[test]
fn every_patch_applies_to_the_tree() {
    let patches = read_patches(repository()).unwrap();
    let mut tree = read_tree(repository()).unwrap();
    if let Err(errors) = weave(&mut tree, &patches) {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("tests/mutants/README.md says how to mend these:\n{}", errors.join("\n"));
    }
}
