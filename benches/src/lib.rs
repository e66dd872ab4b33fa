//! Replication latency and its parts.
