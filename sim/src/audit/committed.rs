//! What is committed: who holds it, and who must.

use daemon::raft::EngineState;

use super::{At, State};

impl State {
    /// A node is primary in a term that had none.
    pub(super) fn leads(&mut self, name: &str, term: u64) {
        let mut before = self.said_in.iter().rev().filter(|(_, said_in)| **said_in < term);
        let committed = before.find_map(|(index, _)| self.committed.get_key_value(index));
        let (Some(node), Some((&index, &old))) = (self.nodes.get(name), committed) else { return };
        let snapshot = self.ever.get(&node.raft_id).map_or(0, |ever| ever.snapshot);
        if !node.disk.holds((old, index)) && index > snapshot && !self.reckless {
            let wrong = format!("entry {index} of term {old}, which is committed");
            self.say(format!("{name} is primary of term {term}, and lacks {wrong}"));
        }
    }

    /// A primary says that an entry is committed.
    pub(super) fn commits(&mut self, name: &str, leads: u64, at: At) {
        let (term, index) = at;
        self.said_in.entry(index).or_insert(leads);
        match self.committed.insert(index, term) {
            Some(known) if known != term => {
                if !self.reckless {
                    let wrong = format!("of term {known} and of term {term}");
                    self.say(format!("two entries {index} are committed: {wrong}"));
                }
                return;
            }
            Some(_) => return,
            None => {}
        }
        if let Some(wrong) = self.few_hold(name, at, EngineState::is_primary) {
            self.say(format!("{name} commits entry {index} of term {term}, and {wrong}"));
        }
    }

    /// A node has applied its log up to this entry.
    pub(super) fn applies(&mut self, name: &str, index: u64) {
        let Some(kept) = self.nodes.get(name).and_then(|node| node.disk.now.get(&index)) else {
            return;
        };
        // By a snapshot, where its log still ends otherwise: then it is the committed one that it has.
        let term = self.committed.get(&index).copied().unwrap_or(kept.term);
        let at = (term, index);
        // Under the members of now alone is it known who had to hold it.
        let is_later = |view: &EngineState| view.membership_at.is_some_and(|(_, at)| at < index);
        if !self.reckless
            && let Some(wrong) = self.few_hold(name, at, is_later)
        {
            self.say(format!("{name} applies entry {index} of term {term}, and {wrong}"));
        }
    }

    /// How many hold an entry, if that is no majority of the voters that a node knows; not while they change,
    /// or if what the node is to be is not so.
    fn few_hold(&self, name: &str, at: At, is: impl Fn(&EngineState) -> bool) -> Option<String> {
        let engine = self.nodes.get(name)?.node.as_ref()?.engine()?;
        let view = engine.view();
        let view = view.borrow();
        if view.joint || !is(&view) || view.voters.is_empty() {
            return None;
        }
        let holds = |id: &&u64| self.ever.get(id).is_some_and(|ever| ever.held(at));
        let (holders, voters) = (view.voters.iter().filter(holds).count(), view.voters.len());
        (holders * 2 <= voters).then(|| format!("{holders} of {voters} disks hold it"))
    }
}
