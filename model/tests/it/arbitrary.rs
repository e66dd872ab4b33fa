//! Random histories: a few senders and ids, so that they meet often; time that mostly goes on,
//! sometimes jumps hours and sometimes is proposed too low.

use bytes::Bytes;
use clock::{Hlc, Stamp};
use model::{
    Batch, Caller, Command, CommandOp, Machine, MemoryView, Outcome, Query, Reader, query,
};
use proptest::prelude::*;
use proto::access::CreateAccess;
use proto::token::{TokenId, TokenOp, TokenProof};
use proto::wire::{Configure, Position, TokenChange};
use proto::{Header, Proof, Record};

pub(crate) const NAMES: [&str; 4] = ["alice", "bob", "carol", "admin"];
const HOUR_NS: u64 = 3_600_000_000_000;

pub(crate) fn caller(name: &str) -> Caller {
    Caller { name: name.to_owned(), admin: name == "admin", fingerprint: [7; 32] }
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(&NAMES[..]).prop_map(str::to_owned)
}

fn id() -> impl Strategy<Value = String> {
    "[a-e]"
}

fn send() -> impl Strategy<Value = CommandOp> {
    let to = prop_oneof![6 => name(), 2 => Just("*".to_owned()), 1 => Just("nobody".to_owned())];
    let headers = prop::collection::vec(("[a-z]{1,3}", "[a-z]{0,3}"), 0..2);
    (to, id(), headers, prop::sample::select(&["", "x", "yy"][..])).prop_map(
        |(to, id, headers, body)| CommandOp::Send {
            to,
            id,
            headers: headers.into_iter().map(|(key, value)| Header { key, value }).collect(),
            body: Bytes::from_static(body.as_bytes()),
        },
    )
}

fn op() -> impl Strategy<Value = CommandOp> {
    let delete = (id(), prop_oneof![Just(String::new()), name()]);
    let expire = (prop_oneof![Just(0), 1..30 * HOUR_NS], 0u64..30, 0u64..5000);
    prop_oneof![
        20 => send(),
        3 => delete.prop_map(|(id, from)| CommandOp::Delete { id, from, reason: "r".into() }),
        1 => (name(), any::<bool>()).prop_map(|(name, same)| CommandOp::Register {
            name,
            fingerprint: if same { [7; 32] } else { [8; 32] },
            home: "n1".into(),
        }),
        1 => (name(), 0u64..20).prop_map(|(name, seq)| CommandOp::SetCursor {
            name,
            positions: vec![Position { shard: 1, seq }],
        }),
        1 => expire.prop_map(|(max_age_ns, max_records, max_bytes)| {
            CommandOp::Expire { max_age_ns, max_records, max_bytes }
        }),
        1 => Just(CommandOp::Tick),
        2 => access().prop_map(|op| CommandOp::Token(TokenChange { op: Some(op) })),
        1 => settings().prop_map(CommandOp::Configure),
        1 => settings().prop_map(CommandOp::InitSettings),
    ]
}

/// Access tokens: few, so that they meet.
fn access() -> impl Strategy<Value = TokenOp> {
    let create = (0u8..4, name(), 1..40 * HOUR_NS).prop_map(|(id, client, ttl_ns)| {
        let token = Some(TokenProof { id: vec![id; 8], hash: vec![id; 32] });
        TokenOp::CreateAccess(CreateAccess { token, client, ttl_ns })
    });
    let revoke = (0u8..4).prop_map(|id| TokenOp::RevokeAccess(TokenId { id: vec![id; 8] }));
    prop_oneof![3 => create, 1 => revoke]
}

fn settings() -> impl Strategy<Value = Configure> {
    let clock = (prop::option::of(0u64..20_000_000), prop::option::of(-1i32..3));
    let age_ms = prop::option::of(prop_oneof![0u64..2000, 0u64..100_000_000]);
    let retain = (age_ms, prop::option::of(0u64..30), prop::option::of(0u64..5000));
    let life_s = prop::option::of(0u64..70_000_000);
    (clock, retain, life_s).prop_map(|((max_clock_error_us, on_loss), retain, cert_life_s)| {
        let (retain_age_ms, retain_count, retain_bytes) = retain;
        Configure {
            max_clock_error_us,
            on_loss,
            retain_age_ms,
            retain_count,
            retain_bytes,
            cert_life_s,
        }
    })
}

/// What nodes say by themselves.
fn node_op() -> impl Strategy<Value = CommandOp> {
    let event = (id(), prop::sample::select(&["", "x"][..])).prop_map(|(id, body)| {
        let body = Bytes::from_static(body.as_bytes());
        CommandOp::Event { id, headers: Vec::new(), body }
    });
    prop_oneof![4 => event, 1 => settings().prop_map(CommandOp::InitSettings)]
}

fn command() -> impl Strategy<Value = Command> {
    let clients = (name(), op()).prop_map(|(name, op)| (caller(&name), op));
    // A node may be called as a client is, and a client may try what only nodes may do.
    let nodes = (prop_oneof![9 => Just("n1"), 1 => Just("bob")], any::<bool>(), node_op());
    let nodes = nodes.prop_map(|(name, real, op)| {
        let fingerprint = if real { [0; 32] } else { [7; 32] };
        (Caller { name: name.to_owned(), admin: false, fingerprint }, op)
    });
    // By an access token, of whoever it is.
    let by_token = (name(), 0u8..4, op()).prop_map(|(name, id, op)| {
        let fingerprint = Proof::Token([id; 8]).to_bytes();
        (Caller { name, admin: false, fingerprint }, op)
    });
    prop_oneof![8 => clients, 1 => nodes, 2 => by_token].prop_map(|(caller, op)| Command {
        caller,
        gateway: "n2".into(),
        op,
    })
}

/// One entry: how far its proposed stamp lies from the one before, and its commands; blank if none.
fn entry() -> impl Strategy<Value = (i64, Vec<Command>)> {
    let step = prop_oneof![
        6 => 1..1_000_000_000i64,
        1 => -2_000_000_000..0i64,
        1 => 0..(10 * HOUR_NS as i64),
    ];
    (step, prop::collection::vec(command(), 0..6))
}

/// A history whose first entry registers everybody.
pub(crate) fn history() -> impl Strategy<Value = Vec<Option<Batch>>> {
    prop::collection::vec(entry(), 1..40).prop_map(|entries| {
        let mut ns = 1_700_000_000_000_000_000u64;
        let mut history = vec![Some(batch(ns, NAMES[..3].iter().map(|n| register(n)).collect()))];
        for (step, commands) in entries {
            ns = ns.saturating_add_signed(step);
            history.push((!commands.is_empty()).then(|| batch(ns, commands)));
        }
        history
    })
}

fn batch(ns: u64, commands: Vec<Command>) -> Batch {
    let base = Stamp { hlc: Hlc::from_ns(ns), early_us: 3, late_us: 4 };
    Batch { base, primary: "n1".into(), commands }
}

fn register(name: &str) -> Command {
    let op = CommandOp::Register { name: name.into(), fingerprint: [7; 32], home: String::new() };
    Command { caller: caller("admin"), gateway: "n2".into(), op }
}

/// Every kept record in log order, events too; for histories that fit into a page.
pub(crate) fn every(view: &MemoryView) -> Vec<Record> {
    let admin = Reader { name: "admin".into(), admin: true };
    let read = |to: &str| {
        let page = query::page(view, &admin, &Query { to: to.to_owned(), ..Query::default() });
        let page = page.unwrap();
        assert!(page.end, "one page holds all");
        page.records
    };
    let mut all = [read(""), read("$events")].concat();
    all.sort_by_key(|record| record.seq);
    all
}

/// Applies a history, one machine per entry, and returns what every entry came to.
pub(crate) fn apply_all(view: &mut MemoryView, history: &[Option<Batch>]) -> Vec<Vec<Outcome>> {
    let mut all = Vec::new();
    for (index, batch) in (1u64..).zip(history) {
        let mut machine = Machine::new(view).unwrap();
        all.push(machine.apply(index, 1, batch.as_ref()).unwrap());
        let changes = machine.into_changes();
        view.write(changes);
    }
    all
}

/// Every command of a history in log order, with the log time that its stamp has (the batch's, moved on
/// past everything before it) and what it came to.
pub(crate) fn stamped(
    history: &[Option<Batch>],
    outcomes: Vec<Vec<Outcome>>,
) -> Vec<(Hlc, &Command, Outcome)> {
    let (mut all, mut last) = (Vec::new(), Hlc::ZERO);
    for (batch, outcomes) in history.iter().zip(outcomes) {
        let Some(batch) = batch else {
            last = last.succ();
            continue;
        };
        for ((i, command), outcome) in (0u64..).zip(&batch.commands).zip(outcomes) {
            let proposed = batch.base.hlc.advance(i);
            last = if proposed > last { proposed } else { last.succ() };
            all.push((last, command, outcome));
        }
    }
    all
}
