//! Runs every script in `testscripts/` and compares what it prints with what it records.
//! `REGENERATE=1 cargo test --release -p model` rewrites the scripts; review the diff.

use std::path::Path;

use golden::{printed, replay};

use crate::world::World;

#[test]
fn scripts_print_what_they_record() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    replay(&folder, 10, |_, text| {
        let mut world = World::default();
        printed(text, |commands| world.run(commands))
    });
}
