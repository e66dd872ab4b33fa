//! The cluster CA, its certificates, and the rustls configurations made from them.
