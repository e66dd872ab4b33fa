//! Runs every script in `testscripts/` and compares what it prints with what it records.
//! `REGENERATE=1 cargo test --release -p clock` rewrites the scripts; review the diff.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lead_world::LeadWorld;
use crate::script::{Block, parse};
use crate::world::World;

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The script with what it prints now; the commands of one script share a world.
fn run(path: &Path, text: &str) -> String {
    let (mut world, mut lead) = (World::default(), LeadWorld::default());
    let leads = path.parent().is_some_and(|folder| folder.ends_with("lead"));
    let mut run = |command: &String| if leads { lead.run(command) } else { world.run(command) };
    let mut out = Vec::new();
    for Block { prose, commands } in parse(text) {
        let mut lines = prose;
        if !commands.is_empty() {
            lines.extend(commands.iter().cloned());
            lines.push("---".to_owned());
            lines.extend(commands.iter().filter_map(&mut run));
        }
        out.push(lines.join("\n"));
    }
    out.join("\n\n") + "\n"
}

#[test]
fn scripts_print_what_they_record() {
    let scripts = scripts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts"));
    assert!(scripts.len() >= 12, "scripts are missing");
    let mut wrong = Vec::new();
    for path in scripts {
        let recorded = fs::read_to_string(&path).unwrap();
        let printed = run(&path, &recorded);
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&path, &printed).unwrap();
        } else if printed != recorded {
            wrong.push(format!("{}:\n{}", path.display(), difference(&recorded, &printed)));
        }
    }
    assert!(wrong.is_empty(), "{}\nREGENERATE=1 rewrites them", wrong.join("\n"));
}

/// The first line that differs, with its number.
fn difference(recorded: &str, printed: &str) -> String {
    let (mut recorded, mut printed) = (recorded.lines(), printed.lines());
    for number in 1.. {
        let (old, new) = (recorded.next(), printed.next());
        if old != new || old.is_none() {
            let (old, new) = (old.unwrap_or("(end)"), new.unwrap_or("(end)"));
            return format!("  line {number}\n  recorded: {old}\n  printed:  {new}");
        }
    }
    String::new()
}
