//! The one integration binary.

// `cfg(test)` always holds here; it tells clippy that helpers may unwrap like the tests they serve.
#[cfg(test)]
mod failover;
#[cfg(test)]
mod smoke;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod tidy;
