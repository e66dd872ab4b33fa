//! How long the stages of a message's way take on a node, in the forms that are shown.

use proto::stage::Stage;
use proto::wire::RaftView;
use serde::Serialize;

use crate::show::{Cell, Show};

/// One stage on one node, since that started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageView {
    node: String,
    stage: &'static str,
    /// `us`, or `commands`.
    unit: &'static str,
    count: u64,
    mean: Option<u64>,
    p50: Option<u64>,
    p99: Option<u64>,
    p999: Option<u64>,
    most: Option<u64>,
}

impl StageView {
    /// Those that a node has counted. Stages of a newer release are left out.
    #[must_use]
    pub fn all(view: &RaftView) -> Vec<Self> {
        let known = view.stages.iter().filter_map(|counted| {
            let stage = Stage::try_from(counted.stage).ok()?;
            Some(Self {
                node: view.node.clone(),
                stage: stage.as_str(),
                unit: if stage.is_time() { "us" } else { "commands" },
                count: counted.count(),
                mean: counted.mean(),
                p50: counted.at_most(500),
                p99: counted.at_most(990),
                p999: counted.at_most(999),
                most: counted.at_most(1000),
            })
        });
        known.collect()
    }

    fn figures(&self) -> [Option<u64>; 5] {
        [self.mean, self.p50, self.p99, self.p999, self.most]
    }
}

impl Show for StageView {
    fn headings() -> &'static [&'static str] {
        &["NODE", "STAGE", "COUNT", "MEAN", "P50", "P99", "P99.9", "MOST"]
    }

    fn row(&self) -> Vec<Cell> {
        let shown = |figure: Option<u64>| match (figure, self.unit) {
            (None, _) => "-".to_owned(),
            (Some(us), "us") if us >= 10_000 => format!("{} ms", us / 1000),
            (Some(us), "us") => format!("{us} us"),
            (Some(figure), _) => figure.to_string(),
        };
        let head = [self.node.clone(), self.stage.to_owned(), self.count.to_string()];
        let figures = self.figures().map(shown);
        head.into_iter().chain(figures).map(Cell::from).collect()
    }

    fn plain(&self) -> Vec<String> {
        let head = [self.node.as_str(), self.stage, self.unit].map(str::to_owned);
        let shown = |figure: Option<u64>| figure.map(|figure| figure.to_string());
        let figures = self.figures().map(|figure| shown(figure).unwrap_or_default());
        head.into_iter().chain([self.count.to_string()]).chain(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use proto::stage::Counted;

    use super::*;

    #[test]
    fn stages_are_shown_with_their_units() {
        let counted = |stage: i32, sum, buckets| Counted { stage, sum, buckets };
        let stages = vec![
            counted(Stage::Log.into(), 40, [vec![0; 12], vec![2]].concat()),
            counted(Stage::Commands.into(), 9, vec![0, 1, 0, 0, 0, 0, 0, 0, 1]),
            counted(99, 1, vec![1]),
        ];
        let view = RaftView { node: "n1".to_owned(), stages, ..RaftView::default() };
        let shown = StageView::all(&view);
        let plain: Vec<_> = shown.iter().map(|stage| stage.plain().join(" ")).collect();
        assert_eq!(plain, ["n1 log us 2 20 19 19 19 19", "n1 commands commands 2 4 1 9 9 9"]);
        let row: Vec<Cell> =
            ["n1", "log", "2", "20 us", "19 us", "19 us", "19 us", "19 us"].map(Cell::from).into();
        assert_eq!(shown[0].row(), row);
    }
}
