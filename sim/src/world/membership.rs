//! Nodes that come and go while faults happen, as administrators have it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use config::seed::Seed;
use net::ClientError;
use proto::join::{JoinAs, JoinAsk, JoinNode, Joined};
use proto::member::{MemberChange, MemberOp, MemberWants, RemoveNodes};
use proto::token::{CreateToken, TokenChange, TokenOp, TokenProof};
use proto::wire::Op;
use proto::{Executed, Name};
use tokio::time::Instant;

use super::World;
use crate::cluster::Who;
use crate::machine::Machine;
use crate::note;

/// Nodes of a cluster at most.
const NODES_MAX: usize = 7;
/// Nodes of a cluster at least: it has to bear a fault.
const NODES_MIN: usize = 3;
/// How often a joiner asks again for what it was not told.
const TRIES: usize = 3;
/// Longest wait of a joiner for one answer.
const ADMITTED_WITHIN: Duration = Duration::from_secs(6);
/// Time for a removal of unknown outcome to be known, once all faults have ended.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
/// Life of a join token, nanoseconds.
const TOKEN_TTL_NS: u64 = 3_600_000_000_000;

impl World {
    /// A new node joins, through any node; tells whether it was let in.
    pub(super) async fn join(&mut self) -> bool {
        if self.members().len() >= NODES_MAX {
            return false;
        }
        // A name that may have come in unnoticed is not used again.
        self.names += 1;
        let joined = match format!("n{}", self.names).parse() {
            Ok(name) => self.admit(&name).await,
            Err(error) => Err(anyhow::anyhow!("{error}")),
        };
        match joined {
            Ok(machine) => {
                note!(self.trace, "{} has joined", machine.name);
                machine.clock.reaches(self.time_servers.reached());
                tokio::task::spawn_local(Arc::clone(&machine).keep());
                self.machines.push(machine);
                self.tell_clients();
                true
            }
            Err(error) => {
                note!(self.trace, "nobody joins: {error:#}");
                false
            }
        }
    }

    /// Brings a token and a request, and makes the machine of the node that is let in.
    async fn admit(&mut self, name: &Name) -> anyhow::Result<Arc<Machine>> {
        let (id, secret) = (self.random.draw().to_be_bytes(), self.random.draw().to_be_bytes());
        let (id, secret) = (id.to_vec(), [secret, secret].concat());
        let token = TokenProof { id: id.clone(), hash: certs::sha256(&secret).to_vec() };
        let create = CreateToken {
            token: Some(token),
            role: "node".to_owned(),
            uses: 1,
            ttl_ns: TOKEN_TTL_NS,
            ..CreateToken::default()
        };
        let create = TokenChange { op: Some(TokenOp::Create(create)) };
        let gateway = self.any();
        self.clients.ask(Who::Admin, self.machine(gateway), Op::Token(create)).await?;
        let drawn = u128::from(self.random.draw()) << 64 | u128::from(self.random.draw());
        let incarnation = uuid::Builder::from_random_bytes(drawn.to_be_bytes()).into_uuid();
        let node = JoinNode {
            address: format!("{name}:7400"),
            incarnation: incarnation.as_bytes().to_vec(),
            wants: MemberWants::Voter.into(),
            priority: None,
        };
        let ask = JoinAsk {
            token: id,
            secret,
            name: name.to_string(),
            csr: self.cluster.request(name)?,
            now_ns: super::WALL_NS + self.trace.now_ns(),
            role: Some(JoinAs::Node(node)),
        };
        let joined = self.ask_in(ask.clone()).await?;
        self.try_again(&ask).await;
        self.cluster.take_certificate(name, &joined.certificate)?;
        let rows = joined.members.unwrap_or_default().members;
        let seed = Seed::of_admitted(self.cluster.id().clone(), name.clone(), &rows);
        let seed = seed.ok_or_else(|| anyhow::anyhow!("the members make no sense"))?;
        let (board, trace) = (self.board.clone(), self.trace.clone());
        let eyes = (&self.auditor, &trace);
        Machine::new(seed, &self.cluster, &board, eyes, &mut self.random, &self.shape)
    }

    /// Brings a token once more that was used up, under another name.
    async fn try_again(&mut self, used: &JoinAsk) {
        let name = format!("{}-too", used.name);
        let Ok(csr) = name.parse().map_err(Into::into).and_then(|name| self.cluster.request(&name))
        else {
            return;
        };
        let mut role = used.role.clone();
        if let Some(JoinAs::Node(node)) = &mut role {
            node.address = format!("{name}:7400");
            node.incarnation.reverse();
        }
        let ask = JoinAsk { name: name.clone(), csr, role, ..used.clone() };
        if self.ask_in(ask).await.is_ok() {
            self.wrong.push(format!("{name} was let in with a token that was used up"));
        }
    }

    /// Asks to be let in, through one node after the other.
    async fn ask_in(&mut self, ask: JoinAsk) -> anyhow::Result<Joined> {
        let mut last = anyhow::anyhow!("nobody listens there");
        for _ in 0..TRIES {
            let gateway = self.any();
            let Some(process) = self.machine(gateway).process() else { continue };
            let admitted = process.pause.within(process.running.admit(ask.clone()));
            let admitted = process.died.run_until_cancelled(admitted);
            match tokio::time::timeout(ADMITTED_WITHIN, admitted).await {
                Ok(Some(Ok(joined))) => return Ok(joined),
                Ok(Some(Err(failure))) => last = failure.into(),
                Ok(None) => last = anyhow::anyhow!("the gateway died"),
                Err(_) => last = anyhow::anyhow!("no answer"),
            }
        }
        Err(last)
    }

    /// A node is removed, wherever it is; tells whether that may be so.
    pub(super) async fn remove(&mut self, at: usize) -> bool {
        let busy = !self.damaged.is_empty() || !self.leaving.is_empty();
        if busy || self.members().len() <= NODES_MIN {
            return false;
        }
        let name = self.machine(at).name.to_string();
        let remove = RemoveNodes { names: vec![name.clone()], force: true };
        let id = format!("remove-{name}-{}", self.random.draw());
        let change = MemberChange { op: Some(MemberOp::Remove(remove)), id };
        self.leaving.push((at, change));
        self.try_removal().await != Some(Executed::No)
    }

    /// Asks for the removal that waits, through any node; `None` once it is done, or whether it is.
    async fn try_removal(&mut self) -> Option<Executed> {
        let (at, change) = self.leaving.last().cloned()?;
        let gateway = self.other_than(at);
        let name = self.machine(at).name.clone();
        let asked = self.clients.ask(Who::Admin, self.machine(gateway), Op::Member(change)).await;
        let done = match &asked {
            Ok(_) => None,
            Err(ClientError::Failure(failure)) => Some(failure.error_code().executed()),
            // It never came to a node.
            Err(_) => Some(Executed::No),
        };
        note!(self.trace, "{name} is removed: {done:?}");
        match done {
            None => {
                self.leaving.pop();
                self.machine(at).is_removed();
                self.tell_clients();
            }
            Some(Executed::No) => drop(self.leaving.pop()),
            Some(Executed::Unknown) => {}
        }
        done
    }

    /// Finds out what came of the removal of unknown outcome.
    pub(super) async fn settle_removals(&mut self) {
        let began = Instant::now();
        while !self.leaving.is_empty() {
            self.try_removal().await;
            if began.elapsed() > KNOWN_WITHIN {
                return self.late.push("a removal cannot be found out about".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nobody votes whose node was removed, or whose store was replaced.
    pub(super) async fn settle_votes(&mut self) {
        let began = Instant::now();
        loop {
            let members = self.members().into_iter().map(|at| self.machine(at));
            let stores: BTreeSet<u64> = members.clone().map(|machine| machine.raft_id()).collect();
            let mut strangers = members.filter_map(|machine| {
                let view = machine.engine_state()?;
                let stranger = view.voters.iter().find(|id| !stores.contains(id)).copied();
                stranger.filter(|_| view.is_primary())
            });
            let Some(stranger) = strangers.next() else { return };
            if began.elapsed() > KNOWN_WITHIN {
                return self.wrong.push(format!("{stranger} votes, which is no member's store"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn tell_clients(&self) {
        let members = self.members().into_iter().map(|at| Arc::clone(self.machine(at)));
        self.clients.go_to(members.collect());
    }
}
