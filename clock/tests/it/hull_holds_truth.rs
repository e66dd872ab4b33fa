//! I3, its core: the hull contains the truth if at most `f` of `N` servers lie, whatever they say.
//!
//! Seen to fail: with the deepest overlap as the bound (max-overlap), with `k = n - f + 1`, with
//! `f` counted from the servers that answer instead of those configured, and with ends before
//! starts at one point. The naming: with the first of several places instead of all of them; with a
//! majority of fewer than `f + 1`.

use clock::Interval;
use clock::select::{Selection, is_falseticker, liars_max, select};
use proptest::prelude::*;

/// Offsets on a coarse grid, so that ends coincide, or anywhere.
fn offsets() -> impl Strategy<Value = i64> {
    prop_oneof![-6..7_i64, -1000..1000_i64, any::<i64>()]
}

/// Servers as (interval, whether it is honest), and how many are configured.
fn servers() -> impl Strategy<Value = (Vec<Interval>, usize)> {
    let honest = prop::collection::vec((0..8_u64, 0..8_u64), 0..7);
    let liars = prop::collection::vec((offsets(), offsets()), 0..7);
    (honest, liars, 0..4_usize, any::<prop::sample::Index>()).prop_map(
        |(honest, liars, silent, at)| {
            let mut all: Vec<Interval> = honest
                .iter()
                .map(|(below, above)| {
                    Interval::new(-below.cast_signed(), above.cast_signed()).unwrap()
                })
                .collect();
            // As many liars as the number of servers allows; the honest may be the silent ones.
            let mut lying = liars.len();
            while lying > liars_max(honest.len() + lying + silent) {
                lying -= 1;
            }
            for (a, b) in liars.iter().take(lying) {
                all.push(Interval::new(*a.min(b), *a.max(b)).unwrap());
            }
            let configured = all.len() + silent;
            let turn = if all.is_empty() { 0 } else { at.index(all.len()) };
            all.rotate_left(turn);
            (all, configured)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn the_hull_holds_the_truth((fresh, configured) in servers()) {
        match select(&fresh, configured) {
            Selection::Hull { hull, majority } => {
                prop_assert!(hull.contains(0), "{hull:?} of {fresh:?}");
                if let Some(majority) = majority {
                    prop_assert!(hull.intersect(majority.first).is_some());
                    let first = majority.first;
                    let agree = fresh.iter().filter(|j| j.intersect(first) == Some(first));
                    let agree = agree.count();
                    prop_assert!(agree * 2 > fresh.len() && agree > liars_max(configured));
                    prop_assert_eq!(majority.all.lo_ns(), first.lo_ns());
                    prop_assert!(majority.all.hi_ns() >= first.hi_ns());
                }
            }
            Selection::NotEnough => prop_assert!(fresh.len() <= liars_max(configured)),
            Selection::Disagree => prop_assert!(false, "the honest ones agree"),
        }
    }

    #[test]
    fn the_order_of_servers_does_not_matter((fresh, configured) in servers()) {
        let mut turned = fresh.clone();
        turned.reverse();
        prop_assert_eq!(select(&fresh, configured), select(&turned, configured));
    }

    /// A server is named only if it lies, as long as the truth has the deepest cover.
    #[test]
    fn no_honest_server_is_named_while_the_honest_outnumber_every_lie(
        (fresh, configured) in servers(),
    ) {
        let depth = |at: i64| fresh.iter().filter(|j| j.contains(at)).count();
        let deepest = fresh.iter().map(|j| depth(j.lo_ns())).max().unwrap_or(0);
        if let Selection::Hull { majority: Some(majority), .. } = select(&fresh, configured)
            && depth(0) == deepest
        {
            for interval in fresh.iter().filter(|j| j.contains(0)) {
                prop_assert!(!is_falseticker(*interval, majority));
            }
        }
    }
}
