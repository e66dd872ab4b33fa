//! Random histories of a cluster: a few names, keys and tokens, so that they meet often; answers that
//! got lost and are asked for again; a clock that mostly stands still.

use clock::{Hlc, Stamp};
use model::{Batch, Caller, Command, CommandOp};
use proptest::prelude::*;
use proto::member::{
    AdmitNode, Lead, LeftReason, MemberOp, MemberRow, MoveNode, Notice, ReadmitNode, RecoverNode,
    RemoveNodes, RepairedNode, SetNode, StepDown,
};
use proto::token::{AdmitClient, CreateToken, TokenId, TokenOp, TokenProof};
use proto::wire::{MemberChange, Members, TokenChange};

fn proof() -> impl Strategy<Value = TokenProof> {
    let right = (0u8..3).prop_map(|n| (n, n));
    prop_oneof![9 => right, 1 => (0u8..3, 0u8..3)]
        .prop_map(|(id, secret)| TokenProof { id: vec![id; 8], hash: vec![secret; 32] })
}

fn name() -> impl Strategy<Value = String> {
    (1u8..7).prop_map(|n| format!("n{n}"))
}

/// Several may ask under one name, and one may ask again.
fn admit() -> impl Strategy<Value = MemberOp> {
    (proof(), name(), 0u8..6, 0u8..8).prop_map(|(token, name, key, store)| {
        // Mostly the store that belongs to the key.
        let store = if store < 6 { key } else { store };
        MemberOp::Admit(AdmitNode {
            token: Some(token),
            address: format!("{name}:7101"),
            name,
            fingerprint: vec![key; 32],
            incarnation: vec![store; 16],
            wants: i32::from(key == 5),
            priority: None,
        })
    })
}

fn notice() -> impl Strategy<Value = MemberOp> {
    let id = prop_oneof![3 => 1u64..5, 3 => 16u64..24];
    (name(), id, 1i32..4, 0usize..3, 0u64..4).prop_map(|(name, raft_id, state, why, starts)| {
        let why = [LeftReason::Stopped, LeftReason::Unreachable, LeftReason::CutOff][why].as_str();
        let reason = if state == 3 { why } else { "" }.to_owned();
        // One of two stores of that incarnation; the log keeps to the first.
        let nonce = vec![u8::try_from(starts % 2).unwrap(); 16];
        let detail = String::new();
        MemberOp::Notice(Notice { name, raft_id, state, reason, starts, detail, nonce })
    })
}

fn first(count: u64) -> MemberOp {
    let row = |n: u64| MemberRow {
        name: format!("n{n}"),
        raft_id: n,
        address: format!("n{n}:7101"),
        fingerprint: first_key(n),
        incarnation: vec![0x40 + u8::try_from(n).unwrap(); 16],
        ..MemberRow::default()
    };
    MemberOp::Init(Members { epoch: 0, members: (1..=count).map(row).collect() })
}

fn first_key(n: u64) -> Vec<u8> {
    vec![0x40 + u8::try_from(n).unwrap(); 32]
}

/// A first member that is taken back, or somebody in its name.
fn readmit() -> impl Strategy<Value = MemberOp> {
    let key = prop_oneof![7 => Just(None), 1 => (0u8..6).prop_map(Some)];
    let id = prop_oneof![2 => Just(None), 1 => (16u64..24).prop_map(Some)];
    (1u64..4, id, key, 0x60u8..0x68, any::<bool>()).prop_map(|(n, id, key, store, permitted)| {
        MemberOp::Readmit(ReadmitNode {
            name: format!("n{n}"),
            raft_id: id.unwrap_or(n),
            fingerprint: key.map_or_else(|| first_key(n), |key| vec![key; 32]),
            incarnation: vec![store; 16],
            why: "lost".to_owned(),
            permitted,
        })
    })
}

fn node_op() -> impl Strategy<Value = CommandOp> {
    let change = |op: MemberOp| CommandOp::Member(MemberChange { op: Some(op), id: String::new() });
    let client = (proof(), 0u8..3, 0u8..3).prop_map(|(token, name, key)| {
        CommandOp::Token(TokenChange {
            op: Some(TokenOp::AdmitClient(AdmitClient {
                token: Some(token),
                name: format!("c{name}"),
                fingerprint: vec![key; 32],
                home: String::new(),
                admin: false,
            })),
        })
    });
    prop_oneof![
        8 => admit().prop_map(change),
        8 => notice().prop_map(change),
        1 => (0u64..9).prop_map(move |term| change(MemberOp::Lead(Lead { term }))),
        1 => (1u64..4).prop_map(move |count| change(first(count))),
        1 => (name(), 1u64..20, 1u16..9).prop_map(move |(name, raft_id, port)| {
            let address = format!("moved.example:{port}");
            change(MemberOp::Move(MoveNode { name, raft_id, address }))
        }),
        4 => readmit().prop_map(change),
        2 => (name(), 16u64..20).prop_map(move |(name, raft_id)| {
            change(MemberOp::Repaired(RepairedNode { name, raft_id }))
        }),
        6 => client,
    ]
}

fn admin_op() -> impl Strategy<Value = CommandOp> {
    let change =
        |(op, id): (MemberOp, String)| CommandOp::Member(MemberChange { op: Some(op), id });
    let token = |op| CommandOp::Token(TokenChange { op: Some(op) });
    let remove = (prop::collection::vec(name(), 1..3), any::<bool>())
        .prop_map(|(names, force)| MemberOp::Remove(RemoveNodes { names, force }));
    let set = (name(), prop::option::of(0i32..2), prop::option::of(any::<bool>())).prop_map(
        |(name, wants, drained)| SetNode { name, priority: Some(3), wants, drained, signs: None },
    );
    let aside = name().prop_map(|name| MemberOp::StepDown(StepDown { name, hold_ns: 9 }));
    let create = (proof(), any::<bool>(), 1u32..4, 1u64..9).prop_map(|(proof, node, uses, ttl)| {
        TokenOp::Create(CreateToken {
            token: Some(proof),
            role: if node { "node" } else { "client" }.to_owned(),
            uses,
            ttl_ns: ttl * 1_000_000_000,
            name: String::new(),
        })
    });
    prop_oneof![
        4 => (remove, "[a-d]").prop_map(change),
        2 => (set.prop_map(MemberOp::Set), "[a-d]").prop_map(change),
        1 => (aside, "[a-d]").prop_map(change),
        1 => (name().prop_map(|name| MemberOp::Recover(RecoverNode { name })), "[a-d]")
            .prop_map(change),
        6 => create.prop_map(token),
        1 => (0u8..3).prop_map(move |id| token(TokenOp::Revoke(TokenId { id: vec![id; 8] }))),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let caller = |name: &str, admin: bool| {
        let fingerprint = if admin { [7; 32] } else { [0; 32] };
        Caller { name: name.to_owned(), admin, fingerprint }
    };
    let of_node = (name(), node_op()).prop_map(move |(name, op)| (caller(&name, false), op));
    let of_admin = admin_op().prop_map(move |op| (caller("admin", true), op));
    let both = prop_oneof![3 => of_node, 1 => of_admin];
    both.prop_map(|(caller, op)| Command { caller, gateway: "n2".into(), op })
}

/// A history whose first entry enters three members and makes a token for nodes. Its proposer stamps
/// as a primary does: each entry later than all commands of the one before, in spite of a clock that
/// stands still three times out of four.
pub(crate) fn history() -> impl Strategy<Value = Vec<Batch>> {
    let step = prop_oneof![3 => Just(0u64), 1 => 1..2_000_000_000u64];
    let entries = prop::collection::vec((step, prop::collection::vec(command(), 1..5)), 1..60);
    entries.prop_map(|entries| {
        let token = TokenProof { id: vec![0; 8], hash: vec![0; 32] };
        let create = TokenOp::Create(CreateToken {
            token: Some(token),
            role: "node".to_owned(),
            uses: 3,
            ttl_ns: 60_000_000_000,
            name: String::new(),
        });
        let command = |name: &str, admin: bool, op| Command {
            caller: Caller {
                name: name.to_owned(),
                admin,
                fingerprint: if admin { [7; 32] } else { [0; 32] },
            },
            gateway: "n1".to_owned(),
            op,
        };
        let init = CommandOp::Member(MemberChange { op: Some(first(3)), id: String::new() });
        let token = CommandOp::Token(TokenChange { op: Some(create) });
        let start = vec![command("n1", false, init), command("admin", true, token)];
        let (mut ns, mut free) = (1_700_000_000_000_000_000, Hlc::ZERO);
        let mut history = Vec::new();
        for (step, commands) in [(0, start)].into_iter().chain(entries) {
            ns += step;
            let hlc = Hlc::from_ns(ns).max(free);
            free = hlc.advance(commands.len() as u64);
            let base = Stamp { hlc, early_us: 3, late_us: 4 };
            history.push(Batch { base, primary: "n1".into(), commands });
        }
        history
    })
}
