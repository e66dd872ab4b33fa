//! Who may lead with which clock, as a table; and what must hold in every situation and for
//! as long as it lasts: somebody may stand for election in the end, heartbeats never stay off, and
//! nothing flaps at a limit.
//!
//! Seen to fail: with 100 % allowed to candidates; with a limit regained at once; with the last
//! resort left out, and with it for a clock that never was synchronised; with silence without an
//! end; with minting while refused; with `refuse` ignored; with hand-overs at every decision; with
//! a barred node as candidate; with ballots shunned for ever.

use clock::ClockState;
use clock::lead::{
    AHEAD_MAX_NS, BARRED_MS, ClockFitness, Decision, HAND_OVER_MS, HOPELESS_ELECTIONS, Mint,
    OnLoss, Policy, Refusal, SETTLE_MS, SILENCE_ELECTIONS, Situation, UnsyncedStart, may_campaign,
    may_stay,
};

const MAX_NS: u64 = 100_000_000;
const ELECTION_MS: u64 = 400;
const LAST_RESORT_MS: u64 = 3 * ELECTION_MS;
/// How often the tests ask.
const STEP_MS: u64 = 50;

fn standing(state: ClockState, percent: Option<u64>) -> ClockFitness {
    let error_ns = percent.map(|percent| MAX_NS / 100 * percent);
    ClockFitness { state, error_ns, ahead_ns: 0, behind: false }
}

fn good() -> ClockFitness {
    standing(ClockState::Synced, Some(10))
}

/// A backup with a good clock under a primary with another one.
fn calm() -> Situation {
    Situation {
        standing: good(),
        is_primary: false,
        has_primary: true,
        another_may_lead: true,
        successor: false,
        refused: false,
        max_error_ns: MAX_NS,
        on_loss: OnLoss::Degrade,
    }
}

fn primary(standing: ClockFitness) -> Situation {
    Situation { standing, is_primary: true, successor: true, ..calm() }
}

fn policy() -> Policy {
    Policy::new(0, ELECTION_MS, UnsyncedStart::Wait)
}

/// Every situation that can be told apart, with what a late start allows.
fn situations() -> Vec<(Situation, UnsyncedStart)> {
    let mut all = Vec::new();
    for state in ClockState::ALL {
        for percent in [None, Some(0), Some(80), Some(81), Some(100), Some(101)] {
            for ahead_ns in [0, AHEAD_MAX_NS + 1] {
                for flags in 0..32_u8 {
                    let flag = |bit: u8| flags & (1 << bit) != 0;
                    for on_loss in [OnLoss::Degrade, OnLoss::Refuse] {
                        for start in [UnsyncedStart::Wait, UnsyncedStart::AllowAfterMs(30_000)] {
                            let situation = Situation {
                                standing: ClockFitness { ahead_ns, ..standing(state, percent) },
                                is_primary: flag(0),
                                has_primary: flag(0) || flag(1),
                                another_may_lead: flag(2),
                                successor: flag(2) && flag(3),
                                refused: flag(0) && flag(4),
                                max_error_ns: MAX_NS,
                                on_loss,
                            };
                            all.push((situation, start));
                        }
                    }
                }
            }
        }
    }
    assert_eq!(all.len(), 32 * 7 * 6 * 2 * 2 * 2);
    all
}

#[test]
fn the_limits_are_80_and_100_percent() {
    use ClockState::{Disagree, Expired, Holdover, Local, Suspect, Synced, Unsynced};
    for (state, percent, campaigns, stays) in [
        (Synced, Some(0), true, true),
        (Synced, Some(80), true, true),
        (Synced, Some(81), false, true),
        (Synced, Some(100), false, true),
        (Synced, Some(101), false, false),
        (Synced, None, false, false),
        (Holdover, Some(80), true, true),
        (Holdover, Some(100), false, true),
        (Disagree, Some(80), true, true),
        (Disagree, Some(101), false, false),
        (Expired, Some(101), false, false),
        // The limit was raised a moment ago.
        (Expired, Some(60), true, true),
        (Suspect, Some(1), false, false),
        (Suspect, None, false, false),
        (Unsynced, None, false, false),
        (Local, None, true, true),
    ] {
        let standing = standing(state, percent);
        assert_eq!(may_campaign(&standing, MAX_NS), campaigns, "{standing:?}");
        assert_eq!(may_stay(&standing, MAX_NS), stays, "{standing:?}");
    }
    // Stamps of its own lie in the others' future: no candidate, but what leads may wait.
    let ahead = ClockFitness { ahead_ns: AHEAD_MAX_NS + 1, ..good() };
    assert!(!may_campaign(&ahead, MAX_NS) && may_stay(&ahead, MAX_NS));
    let huge = ClockFitness { error_ns: Some(u64::MAX), ..good() };
    assert!(!may_campaign(&huge, u64::MAX) && may_stay(&huge, u64::MAX));
}

/// The first decision in every situation, against the rules one by one.
#[test]
fn every_situation_is_decided_by_the_rules() {
    for (situation, start) in situations() {
        let decision = Policy::new(0, ELECTION_MS, start).decide(0, &situation);
        let Situation { standing, is_primary, successor, refused, .. } = situation;
        let fit = may_stay(&standing, MAX_NS) && !refused;
        let campaigns = may_campaign(&standing, MAX_NS);
        assert_eq!(decision.elections, campaigns, "{situation:?}");
        assert_eq!(decision.may_lead, campaigns, "{situation:?}");
        assert_eq!(decision.hand_over, is_primary && !fit && successor, "{situation:?}");
        // A refusal may be of a moment, and is no policy yet.
        let nobody = !may_stay(&standing, MAX_NS) && !successor;
        assert_eq!(decision.degraded, is_primary && nobody, "{situation:?}");
        // Silent at once if nobody can be handed over to.
        assert_eq!(decision.heartbeats, !refused || successor, "{situation:?}");
        assert_eq!(decision.shun_disjoint, standing.state.is_trusted() && !refused);
        if is_primary {
            assert_eq!(decision.mint, first_mint(&situation, fit), "{situation:?}");
        }
    }
}

/// What a primary that was just started mints.
fn first_mint(situation: &Situation, fit: bool) -> Mint {
    let Situation { standing, successor, refused, on_loss, .. } = *situation;
    let claimed = standing.state.is_trusted() || standing.state == ClockState::Expired;
    let bounds =
        if claimed && standing.error_ns.is_some() { Mint::Allowed } else { Mint::Unbounded };
    let unsynced = standing.state == ClockState::Unsynced;
    match on_loss {
        _ if refused => Mint::Refused(Refusal::InFuture),
        _ if !fit && unsynced => Mint::Refused(Refusal::Unsynced),
        OnLoss::Refuse if !fit && successor => Mint::Refused(Refusal::HandingOver),
        OnLoss::Refuse if !fit => Mint::Refused(Refusal::NoClock),
        OnLoss::Degrade | OnLoss::Refuse => bounds,
    }
}

/// What one situation leads to if it lasts: the decisions of a minute, by time.
fn lasting(situation: &Situation, start: UnsyncedStart) -> Vec<(u64, Decision)> {
    let mut policy = Policy::new(0, ELECTION_MS, start);
    let times = (0..60_000).step_by(usize::try_from(STEP_MS).unwrap());
    times.map(|now_ms| (now_ms, policy.decide(now_ms, situation))).collect()
}

#[test]
fn whatever_lasts_leads_to_a_stable_decision_and_somebody_may_stand() {
    for (situation, start) in situations() {
        let decisions = lasting(&situation, start);
        let late: Vec<_> = decisions.iter().filter(|(at_ms, _)| *at_ms >= 31_300).collect();
        let (_, last) = late[late.len() - 1];
        let steady =
            |decision: &Decision| Decision { hand_over: false, heartbeats: true, ..*decision };
        assert!(late.iter().all(|(_, d)| steady(d) == steady(last)), "{situation:?}");
        if !situation.refused {
            assert!(decisions.iter().all(|(_, d)| d.heartbeats), "{situation:?}");
        }
        let unsynced = situation.standing.state == ClockState::Unsynced;
        let starts = !unsynced || start != UnsyncedStart::Wait;
        if !situation.is_primary {
            let leaderless = !situation.has_primary;
            let expected = may_campaign(&situation.standing, MAX_NS) || leaderless && starts;
            assert_eq!(last.elections, expected, "{situation:?}");
            assert!(!last.degraded && !last.hand_over);
        }
        // Without a primary, ballots are answered in the end, whoever asks.
        if !situation.has_primary {
            assert!(!last.shun_disjoint, "{situation:?}");
        }
        let allowed = matches!(last.mint, Mint::Allowed | Mint::Unbounded);
        if situation.is_primary && !situation.refused && situation.on_loss == OnLoss::Degrade {
            assert_eq!(allowed, starts, "{situation:?}");
        }
        if situation.is_primary && situation.on_loss == OnLoss::Refuse {
            let fit = may_stay(&situation.standing, MAX_NS) && !situation.refused;
            assert_eq!(allowed, fit, "{situation:?}");
        }
    }
}

#[test]
fn heartbeats_never_stay_off_and_hand_overs_keep_their_pace() {
    for (situation, start) in situations() {
        let decisions = lasting(&situation, start);
        let mut off_ms = 0;
        let mut last_hand_over = None;
        for (at_ms, decision) in decisions {
            off_ms = if decision.heartbeats { 0 } else { off_ms + STEP_MS };
            assert!(off_ms <= SILENCE_ELECTIONS * ELECTION_MS, "{situation:?}");
            if decision.hand_over {
                assert!(situation.successor && decision.heartbeats, "{situation:?}");
                let pause = last_hand_over.map_or(HAND_OVER_MS, |last_ms| at_ms - last_ms);
                assert!(pause >= HAND_OVER_MS, "{situation:?}");
                last_hand_over = Some(at_ms);
            }
        }
        let unfit = !may_stay(&situation.standing, MAX_NS) || situation.refused;
        let tries = situation.is_primary && unfit && situation.successor;
        // The last try is never long ago.
        assert_eq!(last_hand_over.is_some_and(|at_ms| at_ms >= 56_000), tries, "{situation:?}");
    }
}

/// How often something changes while the error swings around a limit.
fn changes(
    situation: &Situation,
    percents: [u64; 2],
    period_ms: u64,
    what: fn(&Decision) -> bool,
) -> usize {
    let mut policy = policy();
    let mut situation = *situation;
    let mut seen = Vec::new();
    for now_ms in (0..120_000).step_by(50) {
        let percent = percents[usize::try_from(now_ms / period_ms % 2).unwrap()];
        situation.standing = standing(ClockState::Synced, Some(percent));
        seen.push(what(&policy.decide(now_ms, &situation)));
    }
    seen.dedup();
    seen.len() - 1
}

#[test]
fn nothing_flaps_at_a_limit() {
    let alone = Situation { successor: false, another_may_lead: false, ..primary(good()) };
    for period_ms in [50, 1000, 5000, SETTLE_MS - 50] {
        assert_eq!(changes(&calm(), [79, 81], period_ms, |d| d.may_lead), 1, "{period_ms}");
        assert_eq!(changes(&calm(), [79, 81], period_ms, |d| d.elections), 1, "{period_ms}");
        assert_eq!(changes(&alone, [99, 101], period_ms, |d| d.degraded), 1, "{period_ms}");
    }
    // Below the limit for long, or by far: it counts as kept again.
    let mut policy = policy();
    let mut at = |now_ms: u64, percent| {
        let standing = standing(ClockState::Synced, Some(percent));
        policy.decide(now_ms, &Situation { standing, ..alone }).degraded
    };
    assert_eq!([at(0, 99), at(50, 101), at(100, 99), at(150, 80)], [false, true, true, false]);
    assert_eq!([at(200, 101), at(250, 99), at(250 + SETTLE_MS, 99)], [true, true, false]);
}

#[test]
fn a_new_clock_needs_no_time_to_settle() {
    let mut policy = policy();
    let unsynced = Situation { standing: standing(ClockState::Unsynced, None), ..calm() };
    assert!(!policy.decide(0, &unsynced).may_lead);
    let synced = Situation { standing: standing(ClockState::Synced, Some(79)), ..calm() };
    assert!(policy.decide(50, &synced).may_lead);
}

/// The log of a backup may jump ahead of what it has applied, for a moment.
#[test]
fn stamps_that_lie_ahead_need_no_time_to_settle() {
    let mut policy = policy();
    let mut may_lead = |now_ms, ahead_ns| {
        let standing = ClockFitness { ahead_ns, ..standing(ClockState::Synced, Some(80)) };
        policy.decide(now_ms, &Situation { standing, ..calm() }).may_lead
    };
    assert!(may_lead(0, AHEAD_MAX_NS));
    assert!(!may_lead(50, AHEAD_MAX_NS + 1));
    assert!(may_lead(100, AHEAD_MAX_NS));
}

#[test]
fn the_last_resort_takes_three_elections_without_primary_and_candidate() {
    let suspect = Situation { standing: standing(ClockState::Suspect, None), ..calm() };
    let leaderless = Situation { has_primary: false, ..suspect };
    let forlorn = Situation { another_may_lead: false, ..leaderless };
    let mut policy = policy();
    let mut elections = |now_ms, situation| policy.decide(now_ms, situation).elections;
    assert!(!elections(0, &suspect));
    assert!(!elections(LAST_RESORT_MS * 2, &leaderless));
    assert!(!elections(LAST_RESORT_MS * 3, &forlorn));
    assert!(!elections(LAST_RESORT_MS * 4 - 1, &forlorn));
    assert!(elections(LAST_RESORT_MS * 4, &forlorn));
    // A candidate with a good clock is heard for a moment: the time starts over.
    assert!(!elections(LAST_RESORT_MS * 4 + 50, &leaderless));
    assert!(!elections(LAST_RESORT_MS * 4 + 100, &forlorn));
    assert!(elections(LAST_RESORT_MS * 5 + 100, &forlorn));
    assert!(!elections(LAST_RESORT_MS * 5 + 150, &suspect));
}

/// A good clock whose log lacks what is committed cannot win. If the one that holds it waits for that
/// one, nobody is ever elected.
///
/// Seen to fail with: no last resort while another may lead.
#[test]
fn whoever_holds_what_is_committed_stands_in_the_end() {
    const HOPELESS_MS: u64 = HOPELESS_ELECTIONS * ELECTION_MS;
    let suspect = Situation { standing: standing(ClockState::Suspect, None), ..calm() };
    let leaderless = Situation { has_primary: false, ..suspect };
    let mut policy = policy();
    let mut elections = |now_ms, situation| policy.decide(now_ms, situation).elections;
    assert!(leaderless.another_may_lead, "a good clock is heard all the time");
    assert!(!elections(100, &leaderless));
    assert!(!elections(100 + HOPELESS_MS - 1, &leaderless));
    assert!(elections(100 + HOPELESS_MS, &leaderless));
    assert!(!elections(200 + HOPELESS_MS, &suspect), "somebody leads");
    assert!(!elections(300 + HOPELESS_MS, &leaderless));
    let primary = Situation { is_primary: true, has_primary: true, successor: true, ..suspect };
    let decision = policy.decide(400 + HOPELESS_MS, &primary);
    assert!(decision.hand_over, "the good clock gets the role");
    assert_eq!(decision.mint, Mint::Refused(Refusal::HandingOver), "the other might refuse it");
}

#[test]
fn an_unsynchronised_node_leads_only_if_allowed_and_only_late() {
    let situation = Situation {
        standing: standing(ClockState::Unsynced, None),
        has_primary: false,
        another_may_lead: false,
        ..calm()
    };
    let elections = |start, at_ms: u64| {
        let mut policy = Policy::new(0, ELECTION_MS, start);
        (0..=at_ms).map(|now_ms| policy.decide(now_ms, &situation).elections).last().unwrap()
    };
    assert!(!elections(UnsyncedStart::Wait, 100_000));
    assert!(!elections(UnsyncedStart::AllowAfterMs(30_000), 29_999));
    assert!(elections(UnsyncedStart::AllowAfterMs(30_000), 30_000));
    assert!(!elections(UnsyncedStart::AllowAfterMs(0), LAST_RESORT_MS - 1));
    let mut policy = Policy::new(0, ELECTION_MS, UnsyncedStart::AllowAfterMs(30_000));
    let leads = Situation { is_primary: true, has_primary: true, ..situation };
    assert_eq!(policy.decide(29_999, &leads).mint, Mint::Refused(Refusal::Unsynced));
    assert_eq!(policy.decide(30_000, &leads).mint, Mint::Unbounded);
    let refuses = Situation { on_loss: OnLoss::Refuse, ..leads };
    assert_eq!(policy.decide(30_050, &refuses).mint, Mint::Refused(Refusal::NoClock));
}

#[test]
fn a_successor_that_does_not_take_over_is_none_after_three_tries() {
    let over = primary(standing(ClockState::Expired, Some(120)));
    let over = Situation { on_loss: OnLoss::Refuse, ..over };
    let mut policy = policy();
    let mut said = Vec::new();
    for now_ms in (0..5000).step_by(500) {
        let Decision { hand_over, degraded, mint, .. } = policy.decide(now_ms, &over);
        said.push((hand_over, degraded, mint == Mint::Refused(Refusal::NoClock)));
    }
    let (tried, waits) = ((true, false, false), (false, false, false));
    assert_eq!(said[..6], [tried, waits, tried, waits, tried, waits]);
    let (tried, waits) = ((true, true, true), (false, true, true));
    assert_eq!(said[6..], [tried, waits, tried, waits]);
    // A late one is handed over to as well; what is said does not change for it.
    let alone = Situation { successor: false, ..over };
    assert!(policy.decide(4800, &alone).degraded && policy.decide(4900, &over).degraded);
    // A clock that is good again ends it, and the next spell begins from the start.
    let fine = Situation { standing: good(), ..over };
    assert_eq!(policy.decide(5000, &fine).mint, Mint::Allowed);
    assert_eq!(policy.decide(5050, &over).mint, Mint::Refused(Refusal::HandingOver));
}

/// A primary whose stamps a quorum refuses: one try to hand over, then silence, then it is heard
/// for one try more; and it is no candidate until long after.
#[test]
fn a_refused_primary_lets_others_elect() {
    let refused = Situation { refused: true, ..primary(good()) };
    let mut policy = policy();
    let mut heartbeats = |now_ms, situation| policy.decide(now_ms, situation).heartbeats;
    assert!(heartbeats(0, &refused) && heartbeats(HAND_OVER_MS - 1, &refused));
    assert!(!heartbeats(HAND_OVER_MS, &refused));
    assert!(!heartbeats(HAND_OVER_MS + ELECTION_MS, &refused));
    // Nobody can refuse what is not sent: that is no reason to go on.
    let over_ms = HAND_OVER_MS + SILENCE_ELECTIONS * ELECTION_MS;
    let unheard = Situation { refused: false, ..refused };
    assert!(!heartbeats(over_ms - 1, &unheard));
    assert!(heartbeats(over_ms, &refused) && heartbeats(over_ms + HAND_OVER_MS - 1, &refused));
    assert!(!heartbeats(over_ms + HAND_OVER_MS, &refused));

    // Another was elected. Its own clock looks good, and it must not come back yet.
    let last_ms = over_ms + HAND_OVER_MS;
    let voted_out = Situation { has_primary: false, ..calm() };
    let backup = policy.decide(last_ms + 50, &voted_out);
    assert!(!backup.elections && !backup.may_lead && backup.heartbeats);
    assert!(!policy.decide(last_ms + BARRED_MS - 1, &voted_out).elections);
    let backup = policy.decide(last_ms + BARRED_MS, &voted_out);
    assert!(backup.elections && backup.may_lead);
}

#[test]
fn a_refused_primary_without_successor_is_silent_at_once_and_mints_nothing() {
    let refused = Situation { refused: true, successor: false, ..primary(good()) };
    let mut policy = policy();
    for now_ms in (0..20_000).step_by(50) {
        let decision = policy.decide(now_ms, &refused);
        assert_eq!(decision.mint, Mint::Refused(Refusal::InFuture));
        assert!(!decision.shun_disjoint);
        let lasts = now_ms >= ELECTION_MS;
        assert_eq!((decision.degraded, decision.may_lead), (lasts, !lasts), "{now_ms}");
        if now_ms < SILENCE_ELECTIONS * ELECTION_MS {
            assert!(!decision.heartbeats);
        }
    }
    assert!(!policy.decide(20_000, &refused).elections);
}

/// A stamp that was a little too early, which an honest primary's can be after a token or a restart:
/// accepted at the next try, before anybody stands.
#[test]
fn a_refusal_of_a_moment_costs_nothing() {
    let alone = Situation { successor: false, ..primary(good()) };
    let refused = Situation { refused: true, ..alone };
    let mut policy = policy();
    for now_ms in [0, ELECTION_MS - 1] {
        assert!(!policy.decide(now_ms, &refused).heartbeats);
    }
    let after = policy.decide(ELECTION_MS, &alone);
    assert_eq!(after, Policy::new(0, ELECTION_MS, UnsyncedStart::Wait).decide(0, &alone));
    assert!(after.heartbeats && after.elections && after.may_lead && !after.degraded);
}

#[test]
fn choices_are_read_and_written() {
    for text in ["degrade", "refuse"] {
        assert_eq!(text.parse::<OnLoss>().unwrap().to_string(), text);
    }
    assert!("Degrade".parse::<OnLoss>().unwrap_err().to_string().contains("'degrade' nor"));
    for (text, start) in [
        ("wait", UnsyncedStart::Wait),
        ("allow-after:30s", UnsyncedStart::AllowAfterMs(30_000)),
        ("allow-after:0s", UnsyncedStart::AllowAfterMs(0)),
        ("allow-after:2m", UnsyncedStart::AllowAfterMs(120_000)),
        ("allow-after:90s", UnsyncedStart::AllowAfterMs(90_000)),
        ("allow-after:1500ms", UnsyncedStart::AllowAfterMs(1500)),
    ] {
        assert_eq!(text.parse::<UnsyncedStart>(), Ok(start));
        assert_eq!(start.to_string(), text);
    }
    for text in [
        "",
        "Wait",
        "allow",
        "allow-after",
        "allow-after:",
        "allow-after:s",
        "allow-after:30",
        "allow-after:-1s",
        "allow-after:+1s",
        "allow-after:1.5s",
        "allow-after:30 s",
        "allow-after:1h",
        "allow-after:99999999999999999999s",
        "allow-after:18446744073709551615m",
    ] {
        let error = text.parse::<UnsyncedStart>().unwrap_err().to_string();
        assert!(error.contains("allow-after:30s"), "{error}");
    }
}
