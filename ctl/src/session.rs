//! One command's conversation with the cluster: context, credentials, client, token.

use std::path::{Path, PathBuf};

use certs::Credentials;
use clock::Hlc;
use net::{Client, ClientConfig};
use proto::Name;
use proto::wire::{Op, Read, Reply};

use crate::cli::Globals;
use crate::context::{self, Context};
use crate::error::CtlError;
use crate::home::{Home, write_atomic};

/// A client of one cluster, as one identity.
pub(crate) struct Session {
    context: Context,
    client: Client,
    token_path: PathBuf,
}

impl Session {
    /// As the context that the command chose.
    ///
    /// # Errors
    /// When there is no usable context; nothing is sent yet.
    pub(crate) fn open(globals: &Globals, home: &Home) -> Result<Self, CtlError> {
        let (name, context) = context::choose(home, globals.context.as_ref())?;
        Self::with(globals, home, &name, context, globals.via.as_ref())
    }

    /// As a given context, through a given gateway if one is named.
    pub(crate) fn with(
        globals: &Globals,
        home: &Home,
        name: &Name,
        context: Context,
        via: Option<&Name>,
    ) -> Result<Self, CtlError> {
        let file = |path: &Path| home.folder().join(path);
        let credentials =
            Credentials::load(&file(&context.ca), &file(&context.cert), &file(&context.key))?;
        if credentials.identity().cluster != context.cluster {
            return Err(CtlError::refused(
                4,
                format!(
                    "the context '{name}' is of cluster {}, its certificate of cluster {}",
                    context.cluster,
                    credentials.identity().cluster
                ),
                format!("logctl context show {name}, and correct its paths"),
            ));
        }
        let token_path = home.state_path(name, &context, "stamp");
        let stored = read_token(&token_path);
        let client = Client::new(ClientConfig {
            addresses: context
                .nodes
                .iter()
                .map(|node| format!("{}={}", node.name, node.address))
                .collect(),
            credentials,
            via: via.map(Name::to_string),
            home: context.home.as_ref().map(Name::to_string),
            timeout: globals.timeout,
            cache: Some(home.state_path(name, &context, "nodes.json")),
            token: (stored > Hlc::ZERO).then_some(stored),
        })?;
        Ok(Self { context, client, token_path })
    }

    /// The context in use.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Sends a request and waits for its answer; a refusal is an error.
    pub(crate) async fn call(&self, op: Op) -> Result<(String, Reply), CtlError> {
        let response = self.client.call(op).await?;
        let reply = response.reply.ok_or_else(|| CtlError::strange("an empty answer"))?;
        if let Reply::Failure(failure) = reply {
            return Err(net::ClientError::from(failure).into());
        }
        Ok((response.gateway, reply))
    }

    /// Follows a read; pages come until the caller stops or the cluster is out of reach.
    pub(crate) async fn follow(&self, read: Read) -> Result<net::Follow, CtlError> {
        Ok(self.client.follow(read).await?)
    }

    /// The node that the last answer came from.
    pub(crate) fn gateway(&self) -> String {
        self.client.gateway().unwrap_or_default()
    }

    /// Keeps the highest stamp seen for the next command, and says goodbye. Losing the stamp only
    /// loses the promise that the next command is ordered after this one; it is no failure.
    pub(crate) async fn close(self) {
        // Another command may have seen more in the meantime.
        let kept = read_token(&self.token_path);
        if let Some(seen) = self.client.token().filter(|&seen| seen > kept) {
            let kept = write_atomic(&self.token_path, format!("{seen}\n").as_bytes());
            if let Err(error) = kept {
                tracing::warn!("{}", error.line());
            }
        }
        self.client.close().await;
    }
}

/// The stamp that an earlier command kept; a missing or damaged file is none.
fn read_token(path: &Path) -> Hlc {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(Hlc::ZERO)
}
