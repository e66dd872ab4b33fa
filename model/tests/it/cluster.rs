//! What golden scripts say of nodes, join tokens and homes.
//!
//! Names stand for what they name: a token `t1` has the id and the secret that belong to that text,
//! a key and a store likewise.

use golden::Line;
use model::{CommandOp, MemoryView, query};
use proto::admin::{AdminChange, AdminKey, AdminName, AdminOp, AdminRecovery, AdminRow, Admins};
use proto::member::{
    AdmitNode, BindKey, Lead, MemberOp, MemberRow, MemberState, MemberWants, MoveNode, NewLineage,
    Notice, ReadmitNode, RecoverNode, RemoveNodes, RepairedNode, SetNode, StepDown,
};
use proto::token::{AdmitClient, CreateToken, TokenId, TokenOp, TokenProof, TokenView};
use proto::wire::{MemberChange, Members, Plan, TokenChange, Tokens};
use proto::{Role, overview};

use crate::world::{SECOND_NS, fingerprint, refused, short};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    // Commands of nodes.
    First,
    Admit,
    Notice,
    Lead,
    AdmitClient,
    Bind,
    FirstAdmins,
    Moved,
    Readmit,
    Repaired,
    NewLineage,
    // Commands of admins.
    Recover,
    AddAdmin,
    RemoveAdmin,
    RecoverAdmin,
    Remove,
    Set,
    StepDown,
    MakeToken,
    RevokeToken,
    // Reads.
    Nodes,
    Tokens,
    CheckToken,
    CheckAdmission,
    CheckReadmission,
    CheckClient,
    KeyOf,
    MayRenew,
    Revoked,
    Bindings,
    Admins,
    Homes,
    Route,
    Plan,
}

impl Verb {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "first" => Self::First,
            "admit" => Self::Admit,
            "notice" => Self::Notice,
            "lead" => Self::Lead,
            "admit-client" => Self::AdmitClient,
            "bind" => Self::Bind,
            "first-admins" => Self::FirstAdmins,
            "add-admin" => Self::AddAdmin,
            "remove-admin" => Self::RemoveAdmin,
            "recover-admin" => Self::RecoverAdmin,
            "bindings" => Self::Bindings,
            "admins" => Self::Admins,
            "moved" => Self::Moved,
            "readmit" => Self::Readmit,
            "repaired" => Self::Repaired,
            "new-lineage" => Self::NewLineage,
            "recover" => Self::Recover,
            "check-readmission" => Self::CheckReadmission,
            "remove" => Self::Remove,
            "set" => Self::Set,
            "step-down" => Self::StepDown,
            "make-token" => Self::MakeToken,
            "revoke-token" => Self::RevokeToken,
            "nodes" => Self::Nodes,
            "tokens" => Self::Tokens,
            "check-token" => Self::CheckToken,
            "check-admission" => Self::CheckAdmission,
            "check-client" => Self::CheckClient,
            "key-of" => Self::KeyOf,
            "may-renew" => Self::MayRenew,
            "revoked" => Self::Revoked,
            "homes" => Self::Homes,
            "route" => Self::Route,
            "plan" => Self::Plan,
            _ => return None,
        })
    }

    /// The command, if it is one.
    pub(crate) fn command(self, line: &mut Line) -> Option<CommandOp> {
        let member = |op: MemberOp, line: &mut Line| {
            let id = line.text("change");
            Some(CommandOp::Member(MemberChange { op: Some(op), id }))
        };
        let token = |op: TokenOp| Some(CommandOp::Token(TokenChange { op: Some(op) }));
        let admin = |op: AdminOp| Some(CommandOp::Admin(AdminChange { op: Some(op) }));
        match self {
            Self::First => member(MemberOp::Init(first(line)), line),
            Self::Admit => member(MemberOp::Admit(admit(line)), line),
            Self::Notice => member(MemberOp::Notice(notice(line)), line),
            Self::Lead => member(MemberOp::Lead(Lead { term: line.number("term") }), line),
            Self::Bind => {
                let (name, raft_id) = (line.text("name"), line.number("id"));
                let fingerprint = fingerprint(&line.text("with")).to_vec();
                member(MemberOp::Bind(BindKey { name, raft_id, fingerprint }), line)
            }
            Self::FirstAdmins => {
                let row = |name: &String| AdminRow {
                    name: name.to_owned(),
                    fingerprint: fingerprint(name).to_vec(),
                    ..AdminRow::default()
                };
                let admins = list(line, "of").iter().map(row).collect();
                admin(AdminOp::First(Admins { admins }))
            }
            Self::AddAdmin => {
                let fingerprint = fingerprint(&line.text("with")).to_vec();
                admin(AdminOp::Add(AdminKey { name: line.text("name"), fingerprint }))
            }
            Self::RemoveAdmin => admin(AdminOp::Remove(AdminName { name: line.text("name") })),
            Self::RecoverAdmin => {
                let fingerprint = fingerprint(&line.text("with")).to_vec();
                let said =
                    AdminRecovery { name: line.text("name"), fingerprint, signature: vec![1] };
                admin(AdminOp::Recover(said))
            }
            Self::Moved => {
                let (name, address) = (line.text("name"), line.text("at"));
                let moved = MoveNode { name, raft_id: line.number("id"), address };
                member(MemberOp::Move(moved), line)
            }
            Self::Readmit => member(MemberOp::Readmit(readmit(line)), line),
            Self::Repaired => member(MemberOp::Repaired(repaired(line)), line),
            Self::NewLineage => member(MemberOp::NewLineage(new_lineage(line)), line),
            Self::Recover => {
                member(MemberOp::Recover(RecoverNode { name: line.text("name") }), line)
            }
            Self::Remove => {
                let force = line.text("force") == "yes";
                member(MemberOp::Remove(RemoveNodes { names: list(line, "names"), force }), line)
            }
            Self::Set => member(MemberOp::Set(set(line)), line),
            Self::StepDown => {
                let hold_ns = line.number::<u64>("hold") * SECOND_NS;
                member(MemberOp::StepDown(StepDown { name: line.text("name"), hold_ns }), line)
            }
            Self::MakeToken => token(TokenOp::Create(CreateToken {
                token: Some(proof(line)),
                role: line.text("for"),
                uses: line.number("uses"),
                ttl_ns: line.number::<u64>("ttl") * SECOND_NS,
                name: line.text("name"),
            })),
            Self::RevokeToken => {
                token(TokenOp::Revoke(TokenId { id: token_id(&line.text("token")) }))
            }
            Self::AdmitClient => token(TokenOp::AdmitClient(admit_client(line))),
            _ => None,
        }
    }

    /// What a read prints, at the last stamp.
    pub(crate) fn read(self, view: &MemoryView, line: &mut Line) -> Vec<String> {
        let now = query::stats(view).unwrap().last_stamp;
        match self {
            Self::Nodes => describe_members(&query::members(view).unwrap()),
            Self::Tokens => describe_tokens(&query::tokens(view, now).unwrap()),
            Self::CheckToken => {
                let (role, proof) = (line.text("for").parse().unwrap(), proof(line));
                vec![match query::check_token(view, &proof, role, &line.text("name"), now) {
                    Ok(()) => "usable".to_owned(),
                    Err(error) => refused(&error.into_failure()),
                }]
            }
            Self::CheckClient => {
                vec![match query::check_client_admission(view, &admit_client(line), now) {
                    Ok(None) => "admissible".to_owned(),
                    Ok(Some(home)) => format!("in already, at home on '{home}'"),
                    Err(error) => refused(&error.into_failure()),
                }]
            }
            Self::CheckAdmission => {
                vec![match query::check_admission(view, &admit(line), now) {
                    Ok(false) => "admissible".to_owned(),
                    Ok(true) => "in already".to_owned(),
                    Err(error) => refused(&error.into_failure()),
                }]
            }
            Self::CheckReadmission => vec![check_readmission(view, line, now)],
            Self::KeyOf => vec![key_of(view, line)],
            Self::MayRenew => vec![may_renew(view, line)],
            Self::Revoked => {
                let (name, key) = (line.text("name"), line.text("with"));
                let key = (!key.is_empty()).then(|| fingerprint(&key));
                let id = line.number("id");
                let why = query::revoked(view, &name, key.as_ref().map(|key| &key[..]), id);
                vec![why.unwrap().unwrap_or_else(|| "not revoked".to_owned())]
            }
            Self::Admins => describe_admins(&query::admins(view).unwrap()),
            Self::Bindings => query::bindings(view).unwrap().iter().map(binding).collect(),
            Self::Homes => {
                let slots = query::slots(view).unwrap();
                let count = |i: usize| slots.homes.iter().filter(|h| **h as usize == i).count();
                let shares = slots.nodes.iter().enumerate();
                let shares: Vec<_> = shares.map(|(i, n)| format!("{n} {}", count(i))).collect();
                vec![format!("epoch {}: {}", slots.epoch, shares.join(", "))]
            }
            Self::Route => {
                let routed = query::route(view, line.word(0)).unwrap();
                let overview::Routed { slot, shard, home, epoch, .. } = routed;
                vec![format!("slot {slot}, shard {shard}, home {home:?}, epoch {epoch}")]
            }
            Self::Plan => plan(view, line),
            _ => unreachable!("{self:?} is not a read"),
        }
    }
}

fn plan(view: &MemoryView, line: &mut Line) -> Vec<String> {
    let plan = Plan { add: list(line, "add"), remove: list(line, "remove") };
    let planned = match query::plan(view, &plan) {
        Ok(planned) => planned,
        Err(error) => return vec![refused(&error.into_failure())],
    };
    let shares = |shares: &[overview::Share]| {
        let each = shares.iter().map(|share| format!("{} {}", share.node, share.slots));
        each.collect::<Vec<_>>().join(", ")
    };
    let mut out = vec![format!("{} becomes {}", shares(&planned.before), shares(&planned.after))];
    let moves = planned.moves.iter();
    out.extend(moves.map(|m| format!("{} of '{}' to '{}'", m.slots, m.from, m.to)));
    out
}

/// `a,b`.
fn list(line: &mut Line, key: &str) -> Vec<String> {
    line.text(key).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// `of=n1:1,n2:2:KEY`: names, raft ids, and keys where they are known.
fn first(line: &mut Line) -> Members {
    let one = |part: &String| {
        let mut parts = part.split(':');
        let (name, id) = (parts.next().unwrap(), parts.next().unwrap());
        let fingerprint = parts.next().map(|key| fingerprint(key).to_vec()).unwrap_or_default();
        let address = format!("{name}.example:7101");
        let incarnation = store(name);
        let raft_id = id.parse().unwrap();
        let name = name.to_owned();
        MemberRow { name, raft_id, address, incarnation, fingerprint, ..MemberRow::default() }
    };
    Members { epoch: 0, members: list(line, "of").iter().map(one).collect() }
}

/// `token=t1 name=n4 with=KEY`, and `store`, `at`, `wants`, `priority` where they matter.
fn key_of(view: &MemoryView, line: &mut Line) -> String {
    let role: Role = line.text("for").parse().unwrap();
    let key = query::admitted_key(view, role, &line.text("name")).unwrap();
    let wanted = fingerprint(&line.text("with"));
    match key {
        None => "no key".to_owned(),
        Some(key) if key == wanted => "this key".to_owned(),
        Some(_) => "another key".to_owned(),
    }
}

fn may_renew(view: &MemoryView, line: &mut Line) -> String {
    let role: Role = line.text("for").parse().unwrap();
    let key = fingerprint(&line.text("with"));
    let why = query::renewal_refusal(view, role, &line.text("name"), &key);
    why.unwrap().unwrap_or_else(|| "renewed".to_owned())
}

fn admit_client(line: &mut Line) -> AdmitClient {
    AdmitClient {
        token: Some(proof(line)),
        name: line.text("name"),
        fingerprint: fingerprint(&line.text("with")).to_vec(),
        home: line.text("home"),
        admin: line.text("as") == "admin",
    }
}

fn admit(line: &mut Line) -> AdmitNode {
    let (token, name, key) = (proof(line), line.text("name"), line.text("with"));
    let or = |given: String, other: String| if given.is_empty() { other } else { given };
    let priority = line.text("priority");
    AdmitNode {
        token: Some(token),
        fingerprint: fingerprint(&key).to_vec(),
        incarnation: store(&or(line.text("store"), key)),
        address: or(line.text("at"), format!("{name}.example:7101")),
        wants: wants(&or(line.text("wants"), "voter".to_owned())),
        priority: (!priority.is_empty()).then(|| priority.parse().unwrap()),
        name,
    }
}

/// `name=n2 id=2 with=KEY store=s why=text`, and `permitted=no` where its file does not let it.
fn readmit(line: &mut Line) -> ReadmitNode {
    ReadmitNode {
        name: line.text("name"),
        raft_id: line.number("id"),
        fingerprint: fingerprint(&line.text("with")).to_vec(),
        incarnation: store(&line.text("store")),
        why: line.text("why"),
        permitted: line.text("permitted") != "no",
    }
}

/// The lineage of that number, with 7 drawn.
fn new_lineage(line: &mut Line) -> NewLineage {
    let before = (1..line.number("lineage"))
        .fold(proto::lineage::Lineage::FIRST, |lineage, _| lineage.next(9).unwrap());
    NewLineage {
        name: line.text("name"),
        raft_id: before.next(7).unwrap().first_raft_id(),
        incarnation: store(&line.text("store")),
        last_index: line.number("last"),
        committed_index: line.number("committed"),
    }
}

fn repaired(line: &mut Line) -> RepairedNode {
    RepairedNode { name: line.text("name"), raft_id: line.number("id") }
}

fn check_readmission(view: &MemoryView, line: &mut Line, now: clock::Hlc) -> String {
    match query::check_readmission(view, &readmit(line), now) {
        Ok(query::Readmission::May) => "may come back".to_owned(),
        Ok(query::Readmission::In) => "is back".to_owned(),
        Ok(query::Readmission::Not(wait, text)) => format!("waits for {}: {text}", wait.as_str()),
        Err(error) => refused(&error.into_failure()),
    }
}

fn binding(bound: &query::Binding) -> String {
    let removed = match (bound.removed, bound.replaced) {
        (_, true) => ", replaced",
        (true, false) => ", removed",
        (false, false) => "",
    };
    let key = match &bound.fingerprint[..] {
        [] => "no key".to_owned(),
        [first, ..] => format!("key {first:02x}"),
    };
    format!("{} id {} {key}{removed}", bound.name, bound.raft_id)
}

fn notice(line: &mut Line) -> Notice {
    let state = match &*line.text("state") {
        "joined" => MemberState::Joined,
        "suspect" => MemberState::Suspect,
        "left" => MemberState::Left,
        "removed" => MemberState::Removed,
        other => panic!("no state {other}"),
    };
    Notice {
        name: line.text("name"),
        raft_id: line.number("id"),
        state: state.into(),
        reason: line.text("why"),
        starts: line.number("starts"),
        detail: line.text("detail"),
        nonce: Vec::new(),
    }
}

fn set(line: &mut Line) -> SetNode {
    let (priority, wanted, drained) =
        (line.text("priority"), line.text("wants"), line.text("drained"));
    let signs = line.text("signs");
    SetNode {
        name: line.text("name"),
        priority: (!priority.is_empty()).then(|| priority.parse().unwrap()),
        wants: (!wanted.is_empty()).then(|| wants(&wanted)),
        drained: (!drained.is_empty()).then(|| drained == "yes"),
        signs: (!signs.is_empty()).then(|| signs == "yes"),
    }
}

fn wants(word: &str) -> i32 {
    match word {
        "voter" => MemberWants::Voter.into(),
        "learner" => MemberWants::Learner.into(),
        other => other.parse().unwrap(),
    }
}

/// `token=t1`, and `secret=s` if it is not the one that belongs to it.
fn proof(line: &mut Line) -> TokenProof {
    let (token, secret) = (line.text("token"), line.text("secret"));
    let secret = if secret.is_empty() { token.clone() } else { secret };
    TokenProof { id: token_id(&token), hash: fingerprint(&secret).to_vec() }
}

fn token_id(token: &str) -> Vec<u8> {
    fingerprint(token)[..8].to_vec()
}

fn store(name: &str) -> Vec<u8> {
    fingerprint(&format!("store {name}"))[..16].to_vec()
}

pub(crate) fn describe_members(members: &Members) -> Vec<String> {
    let rows = members.members.iter().map(|row| {
        let wants = if row.wants_vote() { "voter" } else { "learner" };
        let state = row.noticed().as_str();
        let since = short(clock::Hlc::from_slice(&row.since).unwrap());
        let mut text = format!(
            "{} id {} at {} {wants} priority {}, {state}",
            row.name, row.raft_id, row.address, row.priority
        );
        if !row.reason.is_empty() {
            text.push_str(&format!(" ({})", row.reason));
        }
        text.push_str(&format!(" since {since}, starts {}", row.starts));
        if row.drained {
            text.push_str(", drained");
        }
        if let Some(repair) = &row.repair {
            text.push_str(&format!(", being repaired ({})", repair.why));
        }
        if row.may_return {
            text.push_str(", may return");
        }
        if row.aside_until_ns != 0 {
            let until = short(clock::Hlc::from_ns(row.aside_until_ns));
            text.push_str(&format!(", aside until {until}"));
        }
        text
    });
    [format!("epoch {}", members.epoch)].into_iter().chain(rows).collect()
}

pub(crate) fn describe_admins(admins: &Admins) -> Vec<String> {
    let one = |row: &AdminRow| {
        let since = short(clock::Hlc::from_slice(&row.since).unwrap());
        format!("administrator {} since {since} by {}", row.name, row.by)
    };
    admins.admins.iter().map(one).collect()
}

pub(crate) fn describe_tokens(tokens: &Tokens) -> Vec<String> {
    let one = |token: &TokenView| {
        let bound = if token.name.is_empty() { "anybody" } else { &token.name };
        format!(
            "{} for a {} {bound}, {} of {} uses by [{}], until {}, {} by {}",
            proto::token::id_text(&token.id),
            token.role,
            token.used,
            token.uses,
            token.used_by.join(", "),
            short(clock::Hlc::from_ns(token.expires_ns)),
            token.state,
            token.by,
        )
    };
    tokens.tokens.iter().map(one).collect()
}
