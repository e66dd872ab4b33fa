//! What can be said of a change of the members without knowing any state: whatever fails here is never
//! proposed.

use std::collections::BTreeSet;

use proto::limits::{ADDRESS_BYTES_MAX, NODES_MAX, REASON_BYTES_MAX, STEP_DOWN_MAX_NS};
use proto::member::{
    AdmitNode, LeftReason, MemberOp, MemberState, MemberWants, Notice, ReadmitNode, RemoveNodes,
    SetNode,
};
use proto::wire::{MemberChange, Members};
use proto::{Failure, MessageId, Name};

use crate::rows::command::ADMIN;
use crate::rows::error::invalid;
use crate::rules::input::{check_proof, no_token, unknown_change};

/// What can be said of a change without knowing any state.
pub(crate) fn check(change: &MemberChange) -> Result<(), Failure> {
    if !change.id.is_empty() {
        change.id.parse::<MessageId>().map_err(invalid)?;
    }
    match change.op.as_ref().ok_or_else(unknown_change)? {
        MemberOp::Init(given) => check_first(given),
        MemberOp::Admit(ask) => check_admit(ask),
        MemberOp::Notice(notice) => check_notice(notice),
        MemberOp::Lead(_) => Ok(()),
        MemberOp::Remove(RemoveNodes { names, .. }) => check_names(names),
        MemberOp::Set(set) => {
            check_name(&set.name)?;
            let SetNode { priority, wants, drained, signs, .. } = set;
            let nothing = priority.is_none() && wants.is_none() && drained.is_none();
            if nothing && signs.is_none() {
                return Err(invalid("no change is given"));
            }
            set.wants.map_or(Ok(()), check_wants)
        }
        MemberOp::StepDown(step) => {
            check_name(&step.name)?;
            if step.hold_ns > STEP_DOWN_MAX_NS {
                return Err(invalid("a node is set aside for a day at most"));
            }
            Ok(())
        }
        MemberOp::Bind(bind) => {
            check_name(&bind.name)?;
            check_fingerprint(&bind.fingerprint)
        }
        MemberOp::Move(moved) => {
            check_name(&moved.name)?;
            check_address(&moved.address)
        }
        MemberOp::Readmit(ask) => check_readmit(ask),
        MemberOp::Repaired(done) => check_name(&done.name),
        MemberOp::Recover(recover) => check_name(&recover.name),
        MemberOp::NewLineage(begin) => {
            check_name(&begin.name)?;
            if begin.incarnation.len() != 16 {
                return Err(invalid("an incarnation has 16 bytes"));
            }
            Ok(())
        }
    }
}

fn check_fingerprint(fingerprint: &[u8]) -> Result<(), Failure> {
    if fingerprint.len() != 32 {
        return Err(invalid("a fingerprint has 32 bytes"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Failure> {
    name.parse::<Name>().map(|_| ()).map_err(invalid)
}

fn check_names(names: &[String]) -> Result<(), Failure> {
    if names.is_empty() || names.len() > NODES_MAX {
        return Err(invalid(format!("1 to {NODES_MAX} nodes are named, not {}", names.len())));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        check_name(name)?;
        if !seen.insert(name) {
            return Err(invalid(format!("'{name}' is named twice")));
        }
    }
    Ok(())
}

fn check_wants(wants: i32) -> Result<(), Failure> {
    MemberWants::try_from(wants).map(|_| ()).map_err(|_| invalid("neither voter nor learner"))
}

fn check_address(address: &str) -> Result<(), Failure> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
    let graphic = address.bytes().all(|b| b.is_ascii_graphic());
    if port.is_none_or(|port| port == 0) || address.len() > ADDRESS_BYTES_MAX || !graphic {
        return Err(invalid(format!("'{}' is not an address: host:port", address.escape_debug())));
    }
    Ok(())
}

fn check_first(given: &Members) -> Result<(), Failure> {
    let names: Vec<String> = given.members.iter().map(|row| row.name.clone()).collect();
    check_names(&names)?;
    for row in &given.members {
        check_address(&row.address)?;
        if row.raft_id == 0 || row.raft_id > 1 << 62 {
            return Err(invalid(format!("{} is not a raft id", row.raft_id)));
        }
        if !row.fingerprint.is_empty() {
            check_fingerprint(&row.fingerprint)?;
        }
    }
    Ok(())
}

pub(crate) fn check_admit(ask: &AdmitNode) -> Result<(), Failure> {
    check_proof(ask.token.as_ref().ok_or_else(no_token)?)?;
    check_name(&ask.name)?;
    if ask.name == ADMIN {
        return Err(invalid(format!("the name '{ADMIN}' is reserved")));
    }
    check_address(&ask.address)?;
    check_wants(ask.wants)?;
    check_fingerprint(&ask.fingerprint)?;
    if ask.incarnation.len() != 16 {
        return Err(invalid("an incarnation has 16 bytes"));
    }
    Ok(())
}

pub(crate) fn check_readmit(ask: &ReadmitNode) -> Result<(), Failure> {
    check_name(&ask.name)?;
    check_fingerprint(&ask.fingerprint)?;
    if ask.incarnation.len() != 16 {
        return Err(invalid("an incarnation has 16 bytes"));
    }
    if ask.why.len() > REASON_BYTES_MAX {
        return Err(invalid(format!("a reason of more than {REASON_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn check_notice(notice: &Notice) -> Result<(), Failure> {
    check_name(&notice.name)?;
    let allowed: &[&str] = match MemberState::try_from(notice.state) {
        Ok(MemberState::Joined | MemberState::Suspect) => &[""],
        Ok(MemberState::Left) => &[
            LeftReason::Stopped.as_str(),
            LeftReason::Unreachable.as_str(),
            LeftReason::CutOff.as_str(),
        ],
        Ok(MemberState::Admitted | MemberState::Removed) | Err(_) => {
            return Err(invalid("a state that nobody notices"));
        }
    };
    if !allowed.contains(&notice.reason.as_str()) {
        return Err(invalid(format!("'{}' is no reason for that", notice.reason.escape_debug())));
    }
    if !matches!(notice.nonce.len(), 0 | 16) {
        return Err(invalid("a nonce has 16 bytes"));
    }
    if notice.detail.len() > REASON_BYTES_MAX {
        return Err(invalid(format!("a detail of more than {REASON_BYTES_MAX} bytes")));
    }
    Ok(())
}
