//! What this node remembers of the others' stores, and what they remember of its own.
//!
//! A store that was set back to an older copy looks flawless to its node. So both ends of every
//! connection between nodes say in their hello what they show of their own store and what they
//! remember of others, and judge it before any message of the engine passes (`proto::attest`):
//! * whoever lacks what another remembers of it takes no part: it notes the damage and ends;
//! * two nodes that have committed different entries refuse each other and call a person;
//! * of two processes with copies of one store, the second is refused.
//!
//! Invariant: a node says that its own store is lacking only on the word of a node that has seen
//! what the store shows. That one looks for two histories first, where nobody lacks anything.
//!
//! Invariant: only what is durable is shown, so that no crash makes an honest store lack anything.
//!
//! Which of two processes is the node: the one that was let in first, for what it has acknowledged
//! since only it holds. The other one is refused, changes nothing, and is no reason to doubt the first.
//!
//! Not here: the rules (`proto::attest`), the order of a start (`start`).

mod ends;
mod file;
mod keep;
mod lives;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::Refused;
use parking_lot::{Mutex, MutexGuard};
use proto::attest::{Finding, Fork, Lack, Memory, Place, Shown};
use proto::lineage::{Kinship, Lineage};
use proto::member::NodeRole;
use proto::peer::{Hello, NodeInfo, Refusal};
use proto::{Problem, ProblemCode};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::blocking::Blocking;
use crate::chance::Chance;
use crate::raft::{Handle, Member};
use crate::store::Store;
use crate::store::format::{Identity, LogMark};

pub use self::file::Notebook;

use self::ends::Ends;
use self::file::{Contradiction, Remembered};
use self::lives::{LifeVerdict, Lives};

/// How long a process that is refused is told of after it came last.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// A primary that was heard so lately leads.
const LED_FOR: Duration = Duration::from_secs(2);
/// Who has heard of none for so long, while a member says that the cluster went on without it, believes it.
const OUTLIVED_AFTER: Duration = Duration::from_secs(2);
/// A member that said so and is not heard any more holds up no election.
const OUTLIVED_FOR: Duration = Duration::from_secs(6);

/// What a second process of a node is told, and everybody of it.
const SECOND: &str = "a second process runs with a copy of its store and its key";

/// What this node remembers, and what was found. Cheap to clone.
#[derive(Clone)]
pub struct Witness {
    inner: Arc<Inner>,
}

struct Inner {
    /// What this node shows that never changes.
    me: Shown,
    /// `None` where the store is not proven intact: it shows nothing then.
    store: Option<Store>,
    /// While it runs: it knows what the others have acknowledged.
    engine: Mutex<Option<Handle>>,
    notebook: Notebook,
    blocking: Blocking,
    state: Mutex<State>,
    /// Raft ids of the nodes that were met since this process began.
    met: watch::Sender<BTreeSet<u64>>,
    /// What this node's own store lacks, as soon as that is known.
    lacking: watch::Sender<Option<String>>,
    /// Why what former processes of this node had written down is not known any more.
    lost: Option<String>,
}

#[derive(Default)]
struct State {
    memory: Memory,
    /// Whether the memory holds more than its file.
    unsaved: bool,
    /// Whether that is more than further entries.
    urgent: bool,
    lives: Lives,
    ends: Ends,
    /// What is wrong with others, by name.
    trouble: BTreeMap<String, Trouble>,
    /// Stores that have committed something else than this one, by raft id. Written down: only a
    /// person ends it, by removing one of the two nodes.
    contradictions: BTreeMap<u64, Contradiction>,
    /// Nodes that remember more of this one than it has, and have not heard yet what it shows.
    doubts: BTreeSet<u64>,
    /// When a primary of this lineage was last heard that a majority follows.
    led_at: Option<Instant>,
    /// Since when, and when last, a member has said that the cluster went on without this node.
    outlived: Option<(Instant, Instant)>,
}

/// What is wrong between this node and another.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Its kind.
    pub code: Refusal,
    /// The sentence.
    pub text: String,
    /// When it was found last.
    at: Instant,
}

impl Trouble {
    /// As a problem of this node.
    #[must_use]
    pub fn problem(&self, with: &str) -> Problem {
        let code = match self.code {
            Refusal::TwoHistories => ProblemCode::TwoHistories,
            Refusal::TwoLives => ProblemCode::TwoLives,
            Refusal::Lacks
            | Refusal::LacksItself
            | Refusal::NotYet
            | Refusal::Other
            | Refusal::Cluster
            | Refusal::Name
            | Refusal::Store
            | Refusal::Unknown
            | Refusal::Removed => ProblemCode::StoreLacks,
        };
        Problem::new(code).about(with).detail(&self.text)
    }
}

impl Witness {
    /// The witness of a node, with what it keeps its memory in. Without a store, or with one that is not proven intact, it remembers
    /// all the same.
    #[must_use]
    pub fn new(
        (notebook, chance, blocking): (Notebook, &Chance, Blocking),
        identity: &Identity,
        store: Option<Store>,
    ) -> Self {
        let mut lives = store.as_ref().map_or_else(Vec::new, |store| store.lives().to_vec());
        let former = lives.split_off(lives.len().min(1));
        let drawn = || chance.id().into_bytes().to_vec();
        let me = Shown {
            name: identity.node.clone(),
            raft_id: identity.raft_id,
            incarnation: identity.incarnation.clone(),
            nonce: identity.nonce.clone(),
            starts: store.as_ref().map_or(0, Store::starts),
            life: lives.pop().map_or_else(drawn, |own| own.life),
            former,
            ..Shown::default()
        };
        let read = notebook.read();
        let is_first = me.former.is_empty();
        let lost = why_lost(&read, &notebook, is_first);
        if let Some(why) = &lost {
            tracing::error!(why, "what this node remembered about the others is lost");
        }
        if store.is_some() && !matches!(read, Ok(Some(_))) {
            // From the first start on there is one, so that a later one misses it.
            notebook.write(&Remembered::default()).unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot write down what others have shown");
            });
        }
        let Remembered { stores, contradictions } = read.ok().flatten().unwrap_or_default();
        let state = State {
            memory: Memory::of(stores),
            contradictions: contradictions.into_iter().map(|it| (it.raft_id, it)).collect(),
            ..State::default()
        };
        let inner = Inner {
            me,
            store,
            engine: Mutex::new(None),
            notebook,
            blocking,
            state: Mutex::new(state),
            met: watch::Sender::default(),
            lacking: watch::Sender::default(),
            lost,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is to be said where the memory of former processes is lost, until this one ends.
    #[must_use]
    pub fn lost_memory(&self) -> Option<Problem> {
        let why = self.inner.lost.as_ref()?;
        Some(Problem::new(ProblemCode::MemoryLost).detail(why))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    /// What this node shows of its store now.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let mut shown = self.inner.me.clone();
        let Some(store) = &self.inner.store else { return shown };
        match store.durable() {
            Ok(durable) => {
                shown.term = durable.vote.map_or(0, |vote| vote.term);
                (shown.last, shown.last_term) =
                    durable.last.map_or((0, 0), |last| (last.index, last.term));
                shown.committed = durable.committed.map(place);
            }
            // Whoever reads it next ends the node for it.
            Err(error) => tracing::debug!(%error, "what the store holds cannot be told"),
        }
        shown
    }

    /// The same without what only a hello needs.
    #[must_use]
    pub fn in_brief(&self) -> Shown {
        Shown { former: Vec::new(), ..self.shown() }
    }

    /// Adds to a hello what this node shows and what it remembers.
    #[must_use]
    pub fn attest(&self, hello: Hello) -> Hello {
        Hello { shown: Some(self.shown()), remembers: self.lock().memory.all(), ..hello }
    }

    /// Judges a node that calls, and from where.
    ///
    /// # Errors
    /// Why the two have nothing to say to each other.
    pub fn called_by(&self, they: &Hello, from: SocketAddr) -> Result<(), Refused> {
        self.meet(they, Some(from))
    }

    /// Judges a node that was called, by its answer; it has seen what this one shows.
    ///
    /// # Errors
    /// Why the two have nothing to say to each other.
    pub fn answered_by(&self, they: &Hello) -> Result<(), Refused> {
        self.meet(they, None)
    }

    /// Whether a member, known by its key, says in its answer that the cluster went on without this node,
    /// after the majority was lost (`recover`). Then this node's store has ended; but not where a majority
    /// follows this node, or a primary that it hears: then that was done by mistake, and a person has to
    /// decide. A node that has just started waits a moment for the word of such a primary.
    ///
    /// # Errors
    /// That it is so.
    pub fn outlived_by(&self, they: &Hello) -> Result<(), Refused> {
        let mine = Lineage::of(self.inner.me.raft_id);
        let later = mine.kinship(Lineage::of(they.raft_id)) == Kinship::Later;
        if they.refusal.is_empty() || they.why_refused() != Refusal::Lacks || !later {
            return Ok(());
        }
        let engine = self.inner.engine.lock().clone();
        let leads = engine.is_some_and(|it| it.is_attested() && it.view().borrow().is_primary());
        let refusal = Refused::new(Refusal::Lacks, format!("{} says: {}", they.name, they.refusal));
        let mut state = self.lock();
        if leads || state.led_at.is_some_and(|at| at.elapsed() < LED_FOR) {
            state.outlived = None;
            let reason = format!("{}. But a majority is here: stop one of the two", refusal.reason);
            return Err(state.told(&they.name, Refused { reason, ..refusal }));
        }
        let now = Instant::now();
        let since = state.outlived.map_or(now, |(since, _)| since);
        state.outlived = Some((since, now));
        drop(state);
        if since.elapsed() >= OUTLIVED_AFTER {
            self.is_lacking(refusal.reason.clone());
        }
        Err(refusal)
    }

    fn meet(&self, they: &Hello, called_from: Option<SocketAddr>) -> Result<(), Refused> {
        let they_saw_me = called_from.is_none();
        let refused = (!they.refusal.is_empty())
            .then(|| Refused::new(they.why_refused(), they.refusal.clone()));
        let Some(shown) = &they.shown else {
            // A release that remembers nothing: it cannot tell, and it is there.
            if refused.is_none() {
                self.met(they.raft_id);
            }
            return Ok(());
        };
        if planted::hides_from_attestation() {
            self.met(they.raft_id);
            return Ok(());
        }
        self.note_acknowledged();
        let (me, mut state) = (self.shown(), self.lock());
        self.check_life(&mut state, shown, called_from)?;
        if let Some(known) = state.contradictions.get(&they.raft_id) {
            return Err(Refused::new(Refusal::TwoHistories, known.found.clone()));
        }
        let place_at = |index| self.place_at(index);
        let finding = state.memory.meet(&me, place_at, shown, &they.remembers);
        if let Some(refusal) = &refused
            && !matches!(finding, Finding::Fork(_))
        {
            self.heed(&mut state, they, refusal, they_saw_me)?;
        }
        match finding {
            Finding::Fork(fork) => {
                let refusal = Refused::new(Refusal::TwoHistories, fork_text(&me.name, they, &fork));
                Err(state.contradicted(they.raft_id, &they.name, refusal))
            }
            Finding::They(lack) => {
                let refusal = Refused::new(Refusal::Lacks, lack.to_string());
                Err(state.told(&they.name, refusal))
            }
            Finding::We(lack) => {
                if they_saw_me {
                    self.is_lacking(format!("{lack}, as {} remembers", they.name));
                } else {
                    state.doubts.insert(they.raft_id);
                }
                let reason = format!("this node has to check itself first: {lack}");
                Err(Refused::new(Refusal::LacksItself, reason))
            }
            Finding::Fits if refused.is_some() => Ok(()),
            Finding::Fits => {
                state.lives.let_in(shown, Instant::now());
                state.ends.note(shown, false);
                state.note(shown);
                for remembered in they.remembers.iter().filter(|of| of.raft_id != me.raft_id) {
                    state.note(remembered);
                }
                state.doubts.remove(&they.raft_id);
                state.trouble.remove(&they.name);
                drop(state);
                self.met(they.raft_id);
                Ok(())
            }
        }
    }

    /// Takes a refusal of theirs for what it says where this node finds no fork itself.
    ///
    /// # Errors
    /// The refusal, where it settles that the two have nothing to say to each other.
    fn heed(
        &self,
        state: &mut State,
        they: &Hello,
        refusal: &Refused,
        they_saw_me: bool,
    ) -> Result<(), Refused> {
        match refusal.why {
            Refusal::TwoHistories => {
                Err(state.contradicted(they.raft_id, &they.name, refusal.clone()))
            }
            Refusal::Lacks | Refusal::TwoLives if they_saw_me => {
                self.is_lacking(format!("{} says: {}", they.name, refusal.reason));
                Err(refusal.clone())
            }
            Refusal::Lacks
            | Refusal::TwoLives
            | Refusal::Other
            | Refusal::Cluster
            | Refusal::Name
            | Refusal::Store
            | Refusal::Unknown
            | Refusal::Removed
            | Refusal::LacksItself
            | Refusal::NotYet => Ok(()),
        }
    }

    /// Whether the process that said this hello is the one that lives with its store: where another
    /// came after it, it is one no more.
    ///
    /// # Errors
    /// Why it is not.
    pub fn is_current(&self, they: &Hello) -> Result<(), Refused> {
        let Some(shown) = &they.shown else { return Ok(()) };
        if self.lock().lives.is_current(shown, Instant::now()) {
            return Ok(());
        }
        Err(Refused::new(Refusal::NotYet, "another process of this node came after it"))
    }

    fn check_life(
        &self,
        state: &mut State,
        shown: &Shown,
        from: Option<SocketAddr>,
    ) -> Result<(), Refused> {
        let second = || match from {
            Some(from) => {
                Refused::new(Refusal::TwoLives, format!("{SECOND}, from {from}: stop it"))
            }
            None => Refused::new(Refusal::TwoLives, SECOND),
        };
        match state.lives.judge(shown, Instant::now()) {
            LifeVerdict::Current => Ok(()),
            // Nobody counts a start twice: this is a copy, and the first one was heard just now.
            LifeVerdict::Waits
                if state
                    .memory
                    .get(shown.raft_id)
                    .is_some_and(|known| matches!(shown.lacks(known), Some(Lack::Life { .. }))) =>
            {
                Err(state.told(&shown.name, second()))
            }
            LifeVerdict::Waits => {
                let reason = "its earlier process was heard a moment ago: try again in a moment";
                Err(Refused::new(Refusal::NotYet, reason))
            }
            LifeVerdict::Second => Err(state.told(&shown.name, second())),
        }
    }

    /// Takes what a node says of itself ten times a second; `asked` is when it was asked, if this is
    /// an answer. Says whether it counts: a second process of a node does not speak for it.
    #[must_use]
    pub fn heard(&self, info: &NodeInfo, asked: Option<Instant>) -> bool {
        let Some(shown) = &info.shown else { return true };
        let mut state = self.lock();
        let counts = state.lives.heard(shown, info.leaving, asked, Instant::now());
        let ours = Lineage::of(shown.raft_id) == Lineage::of(self.inner.me.raft_id);
        if counts && ours && info.followed && NodeRole::read(&info.role) == NodeRole::Primary {
            state.led_at = Some(Instant::now());
        }
        if counts {
            state.ends.note(shown, info.leaving);
            state.note(shown);
        }
        counts
    }

    /// How long ago a primary of this lineage was heard that a majority followed; `None` if none was since the
    /// start.
    pub(crate) fn led_ago(&self) -> Option<Duration> {
        self.lock().led_at.map(|at| at.elapsed())
    }

    /// What is wrong with other nodes, by name.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<String, Trouble> {
        let mut state = self.lock();
        // Who was refused and came no more is down, which is told as that.
        state.trouble.retain(|_, trouble| trouble.at.elapsed() < SHOWN_FOR);
        let mut troubles = state.trouble.clone();
        for Contradiction { name, found, .. } in state.contradictions.values() {
            let code = Refusal::TwoHistories;
            let trouble = Trouble { code, text: found.clone(), at: Instant::now() };
            troubles.insert(name.clone(), trouble);
        }
        troubles
    }

    /// Notes that what a node sent contradicts what is committed here.
    pub(crate) fn note_two_histories(&self, raft_id: u64, name: &str, found: &str) {
        let refusal = Refused::new(Refusal::TwoHistories, found);
        self.lock().contradicted(raft_id, name, refusal);
    }

    /// Waits until this node's own store is found lacking, and says what it lacks.
    pub async fn lacking(&self) -> String {
        let mut lacking = self.inner.lacking.subscribe();
        match lacking.wait_for(Option::is_some).await {
            Ok(lack) => lack.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    fn is_lacking(&self, what: String) {
        self.inner.lacking.send_if_modified(|lacking| {
            let first = lacking.is_none();
            if first {
                *lacking = Some(what);
            }
            first
        });
    }

    fn met(&self, raft_id: u64) {
        self.inner.met.send_if_modified(|met| met.insert(raft_id));
    }

    fn place_at(&self, index: u64) -> Option<Place> {
        let found = self.inner.store.as_ref()?.place_at(index);
        match found {
            Ok(found) => found.map(place),
            Err(error) => {
                tracing::debug!(index, %error, "a log entry cannot be compared");
                None
            }
        }
    }
}

impl State {
    fn note(&mut self, shown: &Shown) {
        let before = self.memory.get(shown.raft_id).map(|known| (known.starts, known.term));
        if self.memory.note(shown) {
            let now = self.memory.get(shown.raft_id).map(|known| (known.starts, known.term));
            self.unsaved = true;
            self.urgent |= before != now;
        }
    }

    /// Remembers for good that a store has committed something else, and says it once.
    fn contradicted(&mut self, raft_id: u64, name: &str, refusal: Refused) -> Refused {
        let known = self.contradictions.entry(raft_id).or_insert_with(|| {
            tracing::error!(peer = name, "two histories: {}", refusal.reason);
            (self.unsaved, self.urgent) = (true, true);
            Contradiction { raft_id, name: name.to_owned(), found: refusal.reason.clone() }
        });
        Refused::new(refusal.why, known.found.clone())
    }

    /// Forgets what is wrong with nodes that are members no more.
    fn forget_strangers(&mut self, members: &BTreeMap<u64, Member>) {
        self.memory.retain(|id| members.contains_key(&id));
        self.trouble.retain(|name, _| members.values().any(|member| member.name == *name));
        let before = self.contradictions.len();
        self.contradictions.retain(|id, _| members.contains_key(id));
        if self.contradictions.len() < before {
            (self.unsaved, self.urgent) = (true, true);
        }
    }

    /// Remembers what is wrong with a node, and says it once.
    fn told(&mut self, name: &str, refusal: Refused) -> Refused {
        let Refused { why: code, reason } = refusal.clone();
        let trouble = Trouble { code, text: reason, at: Instant::now() };
        let before = self.trouble.insert(name.to_owned(), trouble);
        if before.is_none_or(|before| before.code != code) {
            tracing::error!(peer = name, ?code, "{}", refusal.reason);
        }
        refusal
    }
}

/// Why what was written down is not known any more; `None` where it is, or where this is the first start.
fn why_lost(
    read: &io::Result<Option<Remembered>>,
    notebook: &Notebook,
    is_first: bool,
) -> Option<String> {
    const LEARNT: &str = "this node notes again what the others show; the next start clears this";
    match read {
        Ok(Some(_)) => None,
        // A node that takes no part knows of none.
        Ok(None) if is_first => None,
        Ok(None) => Some(format!("{notebook} is gone; {LEARNT}")),
        Err(error) => Some(format!("{error}; {LEARNT}")),
    }
}

fn fork_text(me: &str, they: &Hello, Fork { mine, theirs }: &Fork) -> String {
    let hex = |place: &Place| -> String {
        place.hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    };
    format!(
        "both have committed log entry {}, {me} {} of term {}, {} {} of term {}",
        mine.index,
        hex(mine),
        mine.term,
        they.name,
        hex(theirs),
        theirs.term
    )
}

fn place(LogMark { index, term, hash }: LogMark) -> Place {
    Place { index, term, hash }
}
