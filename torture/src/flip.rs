//! One bit of a file of one node's store is another. Nothing is lost, what is read is right, and a node
//! that has met it takes no part until it has come back with a new store. A bit that nothing reads does not count.

use std::fs;
use std::path::{Path, PathBuf};

use crate::damage::{AtRest, NODE, Verdict};
use crate::draw::Draw;
use crate::images::reflinking;
use crate::run::{Order, Stop, Tally};
use crate::work::Work;

const ACKS: u64 = 150;

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    Segment,
    Manifest,
    Current,
    Options,
    Watermark,
    Remembered,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Table,
        Self::Segment,
        Self::Manifest,
        Self::Current,
        Self::Options,
        Self::Watermark,
        Self::Remembered,
    ];

    /// Its files in a store that hold something.
    fn files(self, store: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let folder = match self {
            Self::Table | Self::Manifest | Self::Current | Self::Options => store.join("db"),
            Self::Segment => store.join("log"),
            Self::Watermark | Self::Remembered => store.to_owned(),
        };
        let is_it = |name: &str| match self {
            Self::Table => name.ends_with(".sst"),
            Self::Segment => name.ends_with(".segment"),
            Self::Manifest => name.starts_with("MANIFEST"),
            Self::Current => name == "CURRENT",
            Self::Options => name.starts_with("OPTIONS"),
            Self::Watermark => name == "watermark",
            Self::Remembered => name == "remembered",
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if is_it(&entry.file_name().to_string_lossy()) && entry.metadata()?.len() > 0 {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Runs the row.
pub(crate) fn run(order: Order, work: &Work, tally: &mut Tally) -> Result<(), Stop> {
    let disk = reflinking(work.path())?;
    let mut at_rest = AtRest::make(&disk, work.path(), ACKS, false)?;
    tally.acks = at_rest.acks();
    let mut draw = Draw::new(order.seed);
    let mut kinds = Vec::new();
    for _ in 0..order.repetitions {
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
        }
        let Some(kind) = draw.take(&mut kinds) else { continue };
        at_rest.stop()?;
        at_rest.put_back()?;
        let store = at_rest.cluster.data(NODE).join("store");
        let Some(path) = draw.take(&mut kind.files(&store)?) else { continue };
        let (at, byte) = flip(&path, &mut draw)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let what = format!("a bit of {name} at {at}");
        let mut verdict = at_rest.judge(&what)?;
        if verdict == Verdict::Healthy {
            // A look at everything finds it, if it is still there.
            at_rest.cluster.ctl(&["verify", "--state", "--deep"])?;
            verdict = at_rest.judge(&what)?;
            let still = fs::read(&path).is_ok_and(|bytes| bytes.get(at) == Some(&byte));
            if verdict == Verdict::Healthy && still && kind == Kind::Table {
                return Err(Stop::violated(format!("{what}: {NODE} is called intact")));
            }
        }
        tally.fault(verdict != Verdict::Healthy, &format!("{what}: {verdict:?}"));
    }
    Ok(())
}

/// Flips a bit where something is written; returns the place and what stands there now.
fn flip(path: &Path, draw: &mut Draw) -> anyhow::Result<(usize, u8)> {
    let mut bytes = fs::read(path)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    let at = usize::try_from(draw.between(0, written as u64))?;
    let bit = 1 << draw.between(0, 7);
    let byte = bytes.get_mut(at).map(|byte| {
        *byte ^= bit;
        *byte
    });
    fs::write(path, bytes)?;
    Ok((at, byte.unwrap_or(0)))
}
