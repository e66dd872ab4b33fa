//! The fault-tolerant hull: where true time lies if at most `f` of `N` servers lie.
//!
//! With `N` servers configured, `f = (N - 1) / 2` may lie. Of `n` that answer, at least `n - f` are
//! honest, so true time is covered by at least `k = n - f` of their intervals. The hull reaches from
//! the smallest to the largest point with that cover. It may hold shallower gaps: the narrowest
//! overlap would be a better guess and a wrong bound, because a liar can choose where it is.
//!
//! The target, a guess and not a bound, is the middle of the deepest overlap, if more than half of
//! the servers that answer share it, and more than may lie: then it lies in an honest one's interval.

use planted::Bug;

use crate::interval::Interval;

/// What a set of servers says together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// They agree well enough.
    Hull {
        /// Contains true time if at most `f` servers lie.
        hull: Interval,
        /// The deepest overlap, if more than half of the servers share it, and at least `f + 1`.
        majority: Option<Majority>,
    },
    /// Too few answer to outvote the liars there may be.
    NotEnough,
    /// More of them lie than may: no point has enough cover.
    Disagree,
}

/// Where most of the servers agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Majority {
    /// The first place that so many cover.
    pub first: Interval,
    /// From the first such place to the last: with several, nobody can tell which one is right.
    pub all: Interval,
}

impl From<Interval> for Majority {
    fn from(only: Interval) -> Self {
        Self { first: only, all: only }
    }
}

/// How many of `configured` servers may lie.
#[must_use]
pub const fn liars_max(configured: usize) -> usize {
    configured.saturating_sub(1) / 2
}

/// Combines the intervals of the servers that answer; `configured` counts those that do not, too.
#[must_use]
pub fn select(fresh: &[Interval], configured: usize) -> Selection {
    let liars = liars_max(configured);
    if fresh.len() <= liars {
        return Selection::NotEnough;
    }
    let cover = fresh.len() - liars;
    let sweep = Sweep::over(fresh, cover);
    assert!((1..=fresh.len()).contains(&sweep.depth), "{} of {} agree", sweep.depth, fresh.len());
    match (sweep.first_ns, sweep.last_ns) {
        _ if planted::is(Bug::LiarBelieved) => believed(fresh),
        (Some(lo_ns), Some(hi_ns)) => match Interval::new(lo_ns, hi_ns) {
            Some(hull) => {
                let outvotes = sweep.depth * 2 > fresh.len() && sweep.depth > liars;
                let majority = sweep.majority().filter(|_| outvotes);
                let within = |of: Majority| hull.intersect(of.all) == Some(of.all);
                assert!(majority.is_none_or(within), "{majority:?} beyond {hull:?}");
                Selection::Hull { hull, majority }
            }
            None => Selection::Disagree,
        },
        _ => Selection::Disagree,
    }
}

/// What a clock believes that goes by the narrowest answer: a bug.
fn believed(fresh: &[Interval]) -> Selection {
    let best = fresh.iter().min_by_key(|of| of.hi_ns().saturating_sub(of.lo_ns()));
    match best {
        Some(best) => Selection::Hull { hull: *best, majority: Some((*best).into()) },
        None => Selection::NotEnough,
    }
}

/// Whether a server contradicts the majority: reported, never used to choose a side.
#[must_use]
pub fn is_falseticker(interval: Interval, majority: Majority) -> bool {
    interval.intersect(majority.all).is_none()
}

/// One pass over the ends of all intervals in ascending order.
#[derive(Default)]
struct Sweep {
    /// Smallest point with enough cover.
    first_ns: Option<i64>,
    /// Largest point with enough cover.
    last_ns: Option<i64>,
    /// The deepest cover anywhere, the first place that has it, and the end of the last.
    depth: usize,
    deepest: Option<Interval>,
    deepest_end_ns: i64,
}

impl Sweep {
    fn over(intervals: &[Interval], cover: usize) -> Self {
        // Closed intervals: at one point, what starts there counts before what ends there.
        let starts = intervals.iter().map(|j| (j.lo_ns(), false));
        let ends = intervals.iter().map(|j| (j.hi_ns(), true));
        let mut edges: Vec<(i64, bool)> = starts.chain(ends).collect();
        edges.sort_unstable();

        let mut sweep = Self::default();
        let (mut depth, mut rising_ns) = (0_usize, None);
        for (at_ns, is_end) in edges {
            if is_end {
                if depth >= cover {
                    sweep.last_ns = Some(at_ns);
                }
                // The first end after a new record closes the place that set it.
                if let Some(from_ns) = rising_ns.take() {
                    sweep.deepest = Interval::new(from_ns, at_ns);
                }
                if depth == sweep.depth {
                    sweep.deepest_end_ns = at_ns;
                }
                depth -= 1;
            } else {
                depth += 1;
                if depth >= cover && sweep.first_ns.is_none() {
                    sweep.first_ns = Some(at_ns);
                }
                if depth > sweep.depth {
                    sweep.depth = depth;
                    rising_ns = Some(at_ns);
                }
            }
        }
        assert!(depth == 0, "every interval that starts ends");
        sweep
    }

    fn majority(&self) -> Option<Majority> {
        let first = self.deepest?;
        let all = Interval::new(first.lo_ns(), self.deepest_end_ns)?;
        assert_eq!(all.cover(first), all, "the first place of a majority is one of all");
        Some(Majority { first, all })
    }
}
