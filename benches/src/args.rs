//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// What `--help` says.
pub(crate) const HELP: &str = "\
Replication latency of three logd processes, beside the disk and the network alone.

usage: benches [--seconds N] [--dir DIR] [--out FILE] [--quick]

  --seconds N   time of each level, ramp-up not counted (default 5)
  --dir DIR     where the cluster's folder is made and removed; the disk that is measured
                (default: the folder of the build)
  --out FILE    write the JSON document there and not to standard output
  --quick       few levels, a fraction of a second each: shows that all works, not how fast

It ends with 0 only if every acknowledged message lies on every node, once and unchanged.";

/// A fifth of a level is ramp-up, but no less and no more than this.
const RAMP: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
const QUICK: Duration = Duration::from_millis(500);
const SECONDS: f64 = 5.0;
const SECONDS_MAX: f64 = 3600.0;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Args {
    /// Time of one level.
    pub(crate) window: Duration,
    /// Time before it that does not count.
    pub(crate) ramp: Duration,
    /// Where the cluster's folder is made.
    pub(crate) dir: PathBuf,
    /// Where the document goes; standard output if nowhere.
    pub(crate) out: Option<PathBuf>,
    /// Few levels, short ones.
    pub(crate) quick: bool,
}

/// What the user wants.
#[derive(Debug)]
pub(crate) enum Wish {
    Help,
    Run(Args),
}

/// Reads the command line.
///
/// # Errors
/// When it is not one of ours.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Wish> {
    let (mut seconds, mut dir, mut out, mut quick) = (None, None, None, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => return Ok(Wish::Help),
            "--quick" => quick = true,
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--seconds" => {
                let text = value()?;
                let number: f64 = text.parse().with_context(|| format!("'{text}' seconds"))?;
                let fits = number > 0.0 && number <= SECONDS_MAX;
                anyhow::ensure!(fits, "{number} seconds: more than 0, at most {SECONDS_MAX}");
                seconds = Some(Duration::from_secs_f64(number));
            }
            other => anyhow::bail!("unknown argument '{other}'"),
        }
    }
    let usual = if quick { QUICK } else { Duration::from_secs_f64(SECONDS) };
    let window = seconds.unwrap_or(usual);
    let ramp = (window / 5).clamp(RAMP.0, RAMP.1);
    let dir = match dir {
        Some(dir) => dir,
        None => build_folder()?,
    };
    Ok(Wish::Run(Args { window, ramp, dir, out, quick }))
}

/// The folder of the build: on a disk, unlike the usual folder for temporary files.
fn build_folder() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.parent().and_then(|profile| profile.parent());
    Ok(folder.with_context(|| format!("{} lies in no build", exe.display()))?.to_owned())
}
