//! The disk alone: append 4 KiB, `fdatasync`, again. What a log must at least wait for.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::figures::{Figures, Tally};

/// One append: a page, the least that the disk writes.
const APPEND: [u8; 4096] = [0x5a; 4096];

/// Measures `writers` files at a time, each written by a thread of its own; a figure is the time of
/// one append with its `fdatasync`.
///
/// # Errors
/// When the disk fails.
pub(crate) fn measure(folder: &Path, writers: usize, window: Duration) -> anyhow::Result<Figures> {
    let begin = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let path = folder.join(format!("disk-{writer}"));
            thread::spawn(move || {
                let tally = append(&path, begin + window);
                std::fs::remove_file(&path)?;
                tally
            })
        })
        .collect();
    let mut all = Tally::new()?;
    for thread in threads {
        let tally = thread.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        all.add(&tally)?;
    }
    Ok(all.figures(window))
}

fn append(path: &Path, until: Instant) -> anyhow::Result<Tally> {
    let mut file = File::create(path)?;
    let mut tally = Tally::new()?;
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok(tally);
        }
        file.write_all(&APPEND)?;
        file.sync_data()?;
        let ended = Instant::now();
        tally.note(ended - began, ended <= until);
    }
}
