//! QUIC endpoints, framing, peer links and the client.
