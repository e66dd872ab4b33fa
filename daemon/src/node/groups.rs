//! Reading groups.

use model::{QueryError, query};
use proto::Failure;
use proto::wire::{Groups, ListGroups};

use crate::reader::{answered, store_failure};

use super::{Deadline, Node, Principal};

impl Node {
    /// One group with its members, or all that the caller may see without them. Always fresh.
    pub(super) async fn groups(
        &self,
        principal: &Principal,
        list: &ListGroups,
        deadline: Deadline,
    ) -> Result<Groups, Failure> {
        let core = self.core()?;
        self.fresh(core, principal, false, deadline).await?;
        let _turn = self.inner.pages.next(&principal.identity).await;
        let view = core.store.snapshot().map_err(store_failure)?;
        let viewer = principal.viewer();
        let groups = match list.name.as_str() {
            "" => query::groups(&view, &viewer).map_err(QueryError::from),
            name => query::group(&view, &viewer, name).map(|group| vec![group]),
        };
        Ok(Groups { groups: answered(&view, groups)? })
    }
}
