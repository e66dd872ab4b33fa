//! `logctl clock`: what a node knows about the time, and from whom.

use clock::hlc::utc_text;
use proto::wire::{ClockReport, ClockSource, Empty, Op, Reply};
use serde::Serialize;

use crate::cli::Globals;
use crate::error::CtlError;
use crate::health::{Standing, clock_standing};
use crate::home::Home;
use crate::out::{Cell, Out, Shape, Show, Tone};
use crate::session::Session;
use crate::views::hlc_text;

#[derive(Debug, Serialize)]
struct ClockView {
    node: String,
    state: String,
    now: String,
    earliest: Option<String>,
    latest: Option<String>,
    error_bound_us: Option<u64>,
    max_error_us: u64,
    drift_ppb: u64,
    hlc: Option<String>,
    ceiling: Option<String>,
    sources: Vec<SourceView>,
}

#[derive(Debug, Serialize)]
struct SourceView {
    address: String,
    reach: String,
    stratum: u32,
    offset_ns: i64,
    delay_ns: u64,
    distance_ns: u64,
    verdict: String,
    next_poll_ms: u64,
}

pub(crate) async fn run(globals: &Globals, out: &mut Out) -> Result<(), CtlError> {
    let session = Session::open(globals, &Home::from_env()?)?;
    let answer = session.call(Op::Clock(Empty {})).await;
    session.close().await;
    let (_, Reply::Clock(report)) = answer? else {
        return Err(CtlError::strange("no clock report"));
    };
    let view = ClockView::from(report);
    match out.shape() {
        Shape::Json => out.json(&view)?,
        Shape::Ndjson => out.json_line(&view)?,
        Shape::Plain | Shape::Raw => {
            view.facts()
                .iter()
                .try_for_each(|(key, value)| out.plain_line(&[(*key).to_owned(), value.clone()]))?;
        }
        Shape::Table => {
            for (key, value) in view.facts() {
                out.line(&format!("{key:<10} {value}"))?;
            }
            if !view.sources.is_empty() {
                out.line("")?;
                out.list(&view.sources)?;
            }
        }
    }
    view.verdict()
}

impl From<ClockReport> for ClockView {
    fn from(report: ClockReport) -> Self {
        let bound = |earliest: u64, latest: u64| {
            let now = report.now_ns;
            now.saturating_sub(earliest).max(latest.saturating_sub(now)).div_ceil(1000)
        };
        Self {
            error_bound_us: report.earliest_ns.zip(report.latest_ns).map(|(a, b)| bound(a, b)),
            node: report.node,
            state: report.state,
            now: utc_text(report.now_ns),
            earliest: report.earliest_ns.map(utc_text),
            latest: report.latest_ns.map(utc_text),
            max_error_us: report.max_error_us,
            drift_ppb: report.drift_ppb,
            hlc: hlc_text(&report.hlc),
            ceiling: (report.ceiling_ns > 0).then(|| utc_text(report.ceiling_ns)),
            sources: report.sources.into_iter().map(SourceView::from).collect(),
        }
    }
}

impl From<ClockSource> for SourceView {
    fn from(source: ClockSource) -> Self {
        Self {
            address: source.address,
            reach: format!("{:08b}", source.reach & 0xff),
            stratum: source.stratum,
            offset_ns: source.offset_ns,
            delay_ns: source.delay_ns,
            distance_ns: source.distance_ns,
            verdict: source.verdict,
            next_poll_ms: source.next_poll_ms,
        }
    }
}

impl ClockView {
    fn facts(&self) -> Vec<(&'static str, String)> {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let bound = known(&self.error_bound_us.map(|us| us.to_string()));
        vec![
            ("node", self.node.clone()),
            ("state", self.state.clone()),
            ("now", self.now.clone()),
            ("earliest", known(&self.earliest)),
            ("latest", known(&self.latest)),
            ("bound_us", bound),
            ("limit_us", self.max_error_us.to_string()),
            ("drift_ppb", self.drift_ppb.to_string()),
            ("hlc", known(&self.hlc)),
            ("ceiling", known(&self.ceiling)),
        ]
    }

    fn verdict(&self) -> Result<(), CtlError> {
        let code = match clock_standing(&self.state) {
            Standing::Fine => return Ok(()),
            Standing::Degraded => 10,
            Standing::Untrusted => 12,
        };
        let verdicts: Vec<String> = self
            .sources
            .iter()
            .map(|source| format!("{} {}", source.address, source.verdict))
            .collect();
        let sources =
            if verdicts.is_empty() { "no time server".to_owned() } else { verdicts.join(", ") };
        Err(CtlError::refused(
            code,
            format!("the clock of {} is {}: {sources}", self.node, self.state),
            "reach and address of the time servers in the node's [[clock.server]]",
        ))
    }
}

impl Show for SourceView {
    fn headings() -> &'static [&'static str] {
        &["SERVER", "REACH", "STRATUM", "OFFSET", "DELAY", "DISTANCE", "NEXT POLL", "VERDICT"]
    }

    fn row(&self) -> Vec<Cell> {
        let micros = |ns: u64| format!("{}.{:03} us", ns / 1000, ns % 1000);
        let sign = if self.offset_ns < 0 { '-' } else { '+' };
        let tone = if self.verdict == "selected" { Tone::Good } else { Tone::Warning };
        vec![
            self.address.as_str().into(),
            self.reach.as_str().into(),
            self.stratum.to_string().into(),
            format!("{sign}{}", micros(self.offset_ns.unsigned_abs())).into(),
            micros(self.delay_ns).into(),
            micros(self.distance_ns).into(),
            format!("{}.{:03} s", self.next_poll_ms / 1000, self.next_poll_ms % 1000).into(),
            Cell::toned(self.verdict.as_str(), tone),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.address.clone(),
            self.reach.clone(),
            self.stratum.to_string(),
            self.offset_ns.to_string(),
            self.delay_ns.to_string(),
            self.distance_ns.to_string(),
            self.verdict.clone(),
        ]
    }
}
