//! QUIC without our client: what somebody sends who does not keep to the protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use certs::Credentials;
use proto::join::JOIN_ALPN;
use proto::{ClusterId, Identity};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};

use crate::patience::PATIENCE;

/// A connection that this test opened itself.
pub struct Raw {
    connection: Connection,
    endpoint: Endpoint,
}

/// A stream on which something was said, and nothing was heard yet. Ends when dropped.
pub struct Begun {
    tx: SendStream,
    rx: RecvStream,
}

impl Begun {
    /// Says the rest, and returns what comes back until the node ends it.
    ///
    /// # Errors
    /// When the node does not want the rest, or takes too long.
    pub async fn end(mut self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        bounded(self.tx.write_all(bytes)).await??;
        self.tx.finish()?;
        Ok(bounded(self.rx.read_to_end(1 << 20)).await??)
    }
}

/// Bytes that a deaf side lets arrive: the answer begins, and goes no further.
const DEAF_WINDOW: u32 = 1024;

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
        let config = config(credentials, alpn, TransportConfig::default())?;
        Self::dial(own_endpoint()?, config, &credentials.identity().cluster, address, node).await
    }

    /// As [`Raw::connect`], as somebody who takes no answers.
    ///
    /// # Errors
    /// As [`Raw::connect`].
    pub async fn connect_deaf(
        credentials: &Credentials,
        address: &str,
        node: &str,
        alpn: &[u8],
    ) -> anyhow::Result<Self> {
        let mut transport = TransportConfig::default();
        transport
            .stream_receive_window(DEAF_WINDOW.into())
            .keep_alive_interval(Some(Duration::from_secs(1)));
        let config = config(credentials, alpn, transport)?;
        Self::dial(own_endpoint()?, config, &credentials.identity().cluster, address, node).await
    }

    /// One connection more from the same port.
    ///
    /// # Errors
    /// As [`Raw::connect`].
    pub async fn another(
        &self,
        credentials: &Credentials,
        address: &str,
        node: &str,
        alpn: &[u8],
    ) -> anyhow::Result<Self> {
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_secs(5)));
        let config = config(credentials, alpn, transport)?;
        let cluster = &credentials.identity().cluster;
        Self::dial(self.endpoint.clone(), config, cluster, address, node).await
    }

    /// Connects without a certificate, as somebody who may ask to join.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn stranger(cluster: &ClusterId, address: &str, node: &str) -> anyhow::Result<Self> {
        let tls = QuicClientConfig::try_from(certs::pin::client_config(JOIN_ALPN)?)?;
        let config = ClientConfig::new(Arc::new(tls));
        Self::dial(own_endpoint()?, config, cluster, address, node).await
    }

    async fn dial(
        endpoint: Endpoint,
        config: ClientConfig,
        cluster: &ClusterId,
        address: &str,
        node: &str,
    ) -> anyhow::Result<Self> {
        let name = node_name(cluster, node)?;
        let connecting = endpoint.connect_with(config, address.parse()?, &name)?;
        let connection = bounded(connecting).await??;
        Ok(Self { connection, endpoint })
    }

    /// Writes bytes on a stream of their own and takes no answer. `ends`: nothing more comes.
    ///
    /// # Errors
    /// When the connection or the stream is refused.
    pub async fn begin(&self, bytes: &[u8], ends: bool) -> anyhow::Result<Begun> {
        let (mut tx, rx) = bounded(self.connection.open_bi()).await??;
        bounded(tx.write_all(bytes)).await??;
        if ends {
            tx.finish()?;
        }
        Ok(Begun { tx, rx })
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
        Ok(bounded(rx.read_to_end(8 << 20)).await??)
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

/// How somebody with a certificate talks.
fn config(
    credentials: &Credentials,
    alpn: &[u8],
    transport: TransportConfig,
) -> anyhow::Result<ClientConfig> {
    let tls = QuicClientConfig::try_from(credentials.client_config(&[alpn])?)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn own_endpoint() -> anyhow::Result<Endpoint> {
    Ok(Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?)
}

fn node_name(cluster: &ClusterId, node: &str) -> anyhow::Result<String> {
    let name = node.parse().with_context(|| node.to_owned())?;
    Ok(Identity { cluster: cluster.clone(), role: proto::Role::Node, name }.dns_name())
}

async fn bounded<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.context("the node did nothing for too long")
}
