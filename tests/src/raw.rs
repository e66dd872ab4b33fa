//! QUIC without our client: what somebody sends who does not keep to the protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use certs::Credentials;
use proto::{ClusterId, Identity};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};

use crate::patience::PATIENCE;

/// A connection that this test opened itself.
pub struct Raw {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Raw {
    /// Connects to a node in one of its protocols. That this succeeds does not mean that the node
    /// accepts the certificate: its refusal comes later, see [`Raw::closed`].
    ///
    /// # Errors
    /// When the node does not answer, or is refused by this side.
    pub async fn connect(
        credentials: &Credentials,
        address: &str,
        node: &str,
        alpn: &[u8],
    ) -> anyhow::Result<Self> {
        let tls = QuicClientConfig::try_from(credentials.client_config(alpn)?)?;
        let endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let name = node_name(&credentials.identity().cluster, node)?;
        let config = ClientConfig::new(Arc::new(tls));
        let connecting = endpoint.connect_with(config, address.parse()?, &name)?;
        let connection = bounded(connecting).await??;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Writes bytes on a stream of their own and returns what comes back until the node ends it.
    ///
    /// # Errors
    /// When the connection or the stream is refused.
    pub async fn exchange(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let (mut tx, mut rx) = bounded(self.connection.open_bi()).await??;
        // A node that has seen enough stops reading; its answer counts.
        let _ = bounded(tx.write_all(bytes)).await?;
        let _ = tx.finish();
        Ok(bounded(rx.read_to_end(1 << 20)).await??)
    }

    /// Waits until the node closes the connection, and returns the reason it gave.
    ///
    /// # Errors
    /// When it does not.
    pub async fn closed(&self) -> anyhow::Result<String> {
        Ok(bounded(self.connection.closed()).await?.to_string())
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

fn node_name(cluster: &ClusterId, node: &str) -> anyhow::Result<String> {
    let name = node.parse().with_context(|| node.to_owned())?;
    Ok(Identity { cluster: cluster.clone(), role: proto::Role::Node, name }.dns_name())
}

async fn bounded<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.context("the node did nothing for too long")
}
