//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

/// What `--help` says.
pub(crate) const HELP: &str = "\
logd beside etcd and NATS JetStream on this machine: three nodes of each, in turn.

usage: peers [--rounds N] [--seconds N] [--in-flight N,N,...] [--body BYTES] [--dir DIR] [--out FILE]

  --rounds N       turns of each system at each level; medians are shown (default 5)
  --seconds N      time of each turn, ramp-up not counted (default 3)
  --in-flight L    requests that one client process has in flight (default 1,16,64,256)
  --body BYTES     bytes of a body (default 256)
  --dir DIR        where the stores lie, on the disk that counts (default: the folder of the build)
  --out FILE       write the JSON document there and not to standard output
  --logd FILE, --logctl FILE, --etcd FILE, --nats FILE
                   the programs; logd and logctl beside this one, the others on the PATH by default";

/// What to measure, and how.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) ramp: Duration,
    pub(crate) in_flight: Vec<usize>,
    pub(crate) body_bytes: usize,
    pub(crate) dir: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) logd: PathBuf,
    pub(crate) logctl: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) nats: PathBuf,
}

/// Reads the command line; `None` if help is asked for.
///
/// # Errors
/// When it is not one of ours.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Option<Args>> {
    let exe = std::env::current_exe()?;
    let beside = exe.parent().context("a program in no folder")?;
    let mut args = Args {
        rounds: 5,
        window: Duration::from_secs(3),
        ramp: Duration::ZERO,
        in_flight: vec![1, 16, 64, 256],
        body_bytes: 256,
        dir: beside.parent().unwrap_or(beside).to_owned(),
        out: None,
        logd: beside.join("logd"),
        logctl: beside.join("logctl"),
        etcd: "etcd".into(),
        nats: "nats-server".into(),
    };
    while let Some(word) = words.next() {
        if matches!(word.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        let number = |most: usize| -> anyhow::Result<usize> {
            let number = value.parse().with_context(|| format!("{word}: '{value}'"))?;
            anyhow::ensure!((1..=most).contains(&number), "{word}: {number} is not 1 to {most}");
            Ok(number)
        };
        match word.as_str() {
            "--rounds" => args.rounds = number(1000)?,
            "--seconds" => args.window = Duration::from_secs(number(3600)? as u64),
            "--body" => args.body_bytes = number(1 << 20)?,
            "--in-flight" => {
                let levels = value.split(',').map(str::parse);
                args.in_flight = levels.collect::<Result<_, _>>().context("--in-flight")?;
                let fits = args.in_flight.iter().all(|level| (1..=4096).contains(level));
                anyhow::ensure!(fits, "--in-flight: 1 to 4096, with commas between");
            }
            "--dir" => args.dir = value.into(),
            "--out" => args.out = Some(value.into()),
            "--logd" => args.logd = value.into(),
            "--logctl" => args.logctl = value.into(),
            "--etcd" => args.etcd = value.into(),
            "--nats" => args.nats = value.into(),
            other => anyhow::bail!("unknown argument '{other}'"),
        }
    }
    args.ramp = args.window / 4;
    Ok(Some(args))
}
