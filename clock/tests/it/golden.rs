//! Runs every script in `testscripts/` and compares what it prints with what it records.
//! `REGENERATE=1 cargo test --release -p clock` rewrites the scripts; review the diff.

use std::path::Path;

use golden::{printed, replay};

use crate::lead_world::LeadWorld;
use crate::world::World;

/// The commands of one script share a world.
fn run(path: &Path, text: &str) -> String {
    let (mut world, mut lead) = (World::default(), LeadWorld::default());
    let leads = path.parent().is_some_and(|folder| folder.ends_with("lead"));
    let mut run = |command: &String| if leads { lead.run(command) } else { world.run(command) };
    printed(text, |commands| commands.iter().filter_map(&mut run).collect())
}

#[test]
fn scripts_print_what_they_record() {
    replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts"), 12, run);
}
