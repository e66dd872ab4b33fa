//! Retention: an expiry that says there is no more leaves exactly what the policy allows, and it
//! never takes a record that the policy would have kept.
//!
//! Seen to fail with the age measured from the newest record. (The rule itself is held by
//! `testscripts/retention`, which failed with `>=` in the count.)

use clock::{Hlc, Stamp};
use model::retention::{Kept, Policy, expired};
use model::{Batch, Command, CommandOp, Machine, MemoryView, Outcome, Table, query};
use proptest::prelude::*;

use crate::arbitrary::{apply_all, caller, every, history};

fn kept(view: &MemoryView) -> Vec<(Hlc, u64)> {
    let sizes = view.rows(Table::Records).map(|(_, row)| row.len() as u64);
    every(view).iter().map(|r| r.hlc().unwrap()).zip(sizes).collect()
}

proptest! {
    #[test]
    fn the_policy_holds(
        history in history(),
        hours in 0u64..40,
        max_records in 0u64..20,
        max_bytes in 0u64..4000,
    ) {
        let mut view = MemoryView::default();
        apply_all(&mut view, &history);
        let policy = Policy { max_age_ns: hours * 3_600_000_000_000, max_records, max_bytes };
        let proposed = policy;
        // What the cluster has set wins over what is proposed.
        let set = query::settings(&view).unwrap().and_then(|settings| Policy::of(&settings));
        let policy = set.unwrap_or(proposed);
        let before = kept(&view);
        let acks = view.rows(Table::Dedup).count();

        let Policy { max_age_ns, max_records, max_bytes } = proposed;
        let op = CommandOp::Expire { max_age_ns, max_records, max_bytes };
        let command = Command { caller: caller("n1"), gateway: "n1".into(), op };
        let now = query::stats(&view).unwrap().last_stamp.succ();
        let base = Stamp::unbounded(now);
        let batch = Batch { base, primary: "n1".into(), commands: vec![command] };
        let mut machine = Machine::new(&view).unwrap();
        let outcome = machine.apply(1000, 1, Some(&batch)).unwrap().remove(0);
        let changes = machine.into_changes();
        view.write(changes);

        let Outcome::Expired { records, bytes, more } = outcome else { panic!("{outcome:?}") };
        prop_assert!(!more);
        let after = kept(&view);
        let gone = usize::try_from(records).unwrap();
        prop_assert_eq!(&after[..], &before[gone..]);
        prop_assert_eq!(before[..gone].iter().map(|r| r.1).sum::<u64>(), bytes);
        prop_assert!(acks - view.rows(Table::Dedup).count() <= 2, "only the window forgets acks");
        let measure = |rest: &[(Hlc, u64)]| Kept {
            records: rest.len() as u64,
            bytes: rest.iter().map(|r| r.1).sum(),
            oldest: rest[0].0,
        };
        if !after.is_empty() {
            prop_assert!(!expired(policy, measure(&after), now));
        }
        if gone > 0 {
            prop_assert!(expired(policy, measure(&before[gone - 1..]), now));
        }
    }
}
