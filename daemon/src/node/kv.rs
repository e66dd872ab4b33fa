//! Reading the dictionary.

use model::query;
use proto::Failure;
use proto::wire::{KvRead, KvRows};

use crate::reader::{answered, store_failure};

use super::{Deadline, Node, Principal};

impl Node {
    /// One key, no row if there is none, or a page of those that begin with a prefix.
    pub(super) async fn kv_read(
        &self,
        principal: &Principal,
        read: &KvRead,
        deadline: Deadline,
    ) -> Result<KvRows, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, read.stale, deadline).await?;
        let _turn = self.inner.pages.next(&principal.identity).await;
        let view = core.store.snapshot().map_err(store_failure)?;
        let found = if read.prefix {
            query::kv_list(&view, &read.key, &read.after)
        } else {
            let row = query::kv_get(&view, &read.key);
            row.map(|row| KvRows { rows: row.into_iter().collect(), more: false })
        };
        answered(&view, found)
    }
}
