//! Checking this node's state: what it was like after its last entries, for comparison with other
//! nodes, and, if asked, every row of its disk. What that finds is damage: it is told, and the node
//! takes no part from then on.

use model::audit::Audit;
use proto::attest::Place;
use proto::limits::PLACES_MAX;
use proto::overview::DigestAt;
use proto::peer::Digested;
use proto::wire::{Verified, Verify};
use proto::{ErrorCode, Failure};

use super::{Node, Principal};
use crate::reader::store_failure;
use crate::store::format::LogMark;
use crate::store::{Store, StoreError};

impl Node {
    /// Digests of this node's state, and what a look at all of its rows finds. That look goes on
    /// to its end when the caller has gone; a second one has to wait for it.
    ///
    /// # Errors
    /// `Denied` for anybody but an admin, `Busy` while another look is under way, `Repairing` where
    /// the store is not proven intact.
    pub(super) async fn verify(
        &self,
        principal: &Principal,
        verify: Verify,
    ) -> Result<Verified, Failure> {
        principal.require_admin("check a node's state")?;
        let core = self.core()?;
        if verify.deep {
            Box::pin(self.ask_for_audit(core, &principal.identity.name)).await;
        }
        let audit = if verify.deep { Some(self.audit(core.store.clone()).await?) } else { None };
        let at = |(index, digest): (u64, [u8; 32])| DigestAt { index, digest: digest.to_vec() };
        let mut verified = Verified {
            node: self.inner.name.to_string(),
            digests: core.engine.digests().into_iter().map(at).collect(),
            ..Verified::default()
        };
        let contents = core.engine.states().into_iter();
        let contents = contents.filter(|claim| claim.digested() == Digested::Content);
        let contents = contents.filter_map(|claim| Some((claim.place?.index, claim.digest)));
        let content_at = |(index, digest)| DigestAt { index, digest };
        verified.contents = contents.map(content_at).collect();
        let told = places(&core.store, &verify.places).map_err(store_failure)?;
        (verified.places, verified.committed, verified.first) = told;
        if let Some(Audit { index, content, records, bytes, problems }) = audit {
            verified.content = Some(at((index, content)));
            verified.records = records;
            verified.bytes = bytes;
            verified.problems = problems;
        }
        Ok(verified)
    }

    async fn audit(&self, store: Store) -> Result<Audit, Failure> {
        let node = self.clone();
        let looked = self.inner.blocking.run(move || {
            let busy = |_| {
                Failure::new(ErrorCode::Busy, "the store is being read for somebody else already")
                    .retry_after_ms(1000)
            };
            let _alone = node.inner.auditing.try_lock().map_err(busy)?;
            store.audit_disk().map_err(store_failure)
        });
        let ended = |error| Failure::new(ErrorCode::Internal, format!("reading all: {error}"));
        let audit = looked.await.map_err(ended)??;
        Ok(audit)
    }
}

/// The places of these log entries, the last committed one, and the index of the first.
fn places(store: &Store, asked: &[u64]) -> Result<(Vec<Place>, Option<Place>, u64), StoreError> {
    let place = |LogMark { index, term, hash }| Place { index, term, hash };
    let mut asked: Vec<u64> = asked.iter().copied().take(PLACES_MAX).collect();
    asked.sort_unstable();
    let mut found = Vec::with_capacity(asked.len());
    for index in asked {
        found.extend(store.place_at(index)?.map(place));
    }
    let first = store.floor().map_or(0, |floor| floor.index);
    Ok((found, store.durable()?.committed.map(place), first))
}
