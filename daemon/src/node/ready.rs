//! Whether a client would be served now, and whether a restart would help: what probes ask.

use std::time::Duration;

use proto::{Failure, Name};

use super::{Body, Core, Deadline, Node};

/// A sync that takes this long will not end: the service manager may as well start anew.
const SYNC_HUNG: Duration = Duration::from_secs(15);

/// One thing that a probe asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Its name; part of the product.
    pub(crate) name: &'static str,
    /// Why it is not as it should be.
    pub(crate) failed: Option<String>,
}

impl Node {
    /// Whether the commit path moves: what the watchdog is fed with.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn progress(&self) -> Result<(), String> {
        let Body::Whole(core) = &self.inner.body else { return Ok(()) };
        let writer = core.store.writer().map_err(|error| error.to_string())?;
        match writer.sync_age() {
            Some(age) if age > SYNC_HUNG => Err(format!("a sync has taken {} s", age.as_secs())),
            _ => Ok(()),
        }
    }

    /// Waits until this node's state holds everything that was acknowledged before now.
    ///
    /// # Errors
    /// Why that was not reached in time.
    pub(crate) async fn reach_barrier(&self, deadline: Deadline) -> Result<(), Failure> {
        self.barrier(self.core()?, deadline).await
    }

    /// An id for what a client did not name.
    pub(crate) fn draw_id(&self) -> String {
        self.inner.chance.id().to_string()
    }

    /// What must be so for a client to be served, as far as this node knows without asking anybody.
    pub(crate) fn ready(&self) -> Vec<Check> {
        let check = |name, failed: Option<String>| Check { name, failed };
        let (store, core) = match self.core() {
            Ok(core) => (None, Some(core)),
            Err(failure) => (Some(failure.message), None),
        };
        let on = |of: &dyn Fn(&Core) -> Option<String>| match core {
            Some(core) => of(core),
            None => Some("the store is not proven".to_owned()),
        };
        vec![
            check("store", store),
            check("admitted", on(&|core| self.not_admitted(core))),
            check("in-service", self.out_of_service()),
            check("certificate", self.certificate_over()),
            check("stamps", self.no_stamps()),
            check("replication", on(&|core| self.not_fed(core))),
        ]
    }

    fn not_admitted(&self, core: &Core) -> Option<String> {
        let view = core.engine.view().borrow().clone();
        if core.standing.borrow().removed {
            return Some("it was removed from the cluster".to_owned());
        }
        let is_in = view.members.contains_key(&view.id);
        (!is_in).then(|| "it is no member yet, as far as it knows".to_owned())
    }

    fn out_of_service(&self) -> Option<String> {
        if self.is_leaving() {
            return Some("it is stopping".to_owned());
        }
        self.is_drained().then(|| "it is drained".to_owned())
    }

    fn certificate_over(&self) -> Option<String> {
        let (life, now) = (self.certificate_life(), self.wall_unix_s());
        let end = proto::life::Date(life.until_unix_s);
        if now > life.until_unix_s {
            return Some(format!("its certificate ended on {end}"));
        }
        (now < life.from_unix_s).then(|| "its certificate is not valid yet".to_owned())
    }

    /// Whether a message that is sent now would get no stamp.
    fn no_stamps(&self) -> Option<String> {
        let led = self.leader();
        if led.primary.is_empty() {
            return Some("no primary is known".to_owned());
        }
        if led.primary == self.inner.name.as_str() {
            return self.lead()?.may_write().err().map(|failure| failure.message);
        }
        (!led.mints).then(|| format!("the clock of {}, the primary, is behind", led.primary))
    }

    /// Whether what the primary orders does not come here.
    fn not_fed(&self, core: &Core) -> Option<String> {
        let view = core.engine.view().borrow().clone();
        if view.is_primary() {
            let alone = !self.fed(core, &view).followed;
            return alone.then(|| "no majority stores what this primary orders".to_owned());
        }
        let Some((_, primary)) = view.primary_member() else {
            return Some("no primary is known".to_owned());
        };
        let heard = self.inner.members.heard(&primary.name).filter(|heard| self.sees_up(heard));
        let Some(heard) = heard else {
            return Some(format!("{}, the primary, does not answer", primary.name));
        };
        let own: &Name = &self.inner.name;
        let unfed = heard.info.unfed.iter().any(|name| name == own.as_str());
        unfed.then(|| format!("{}, the primary, gets no entries through to it", primary.name))
    }
}
