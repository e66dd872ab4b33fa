//! A datagram over loopback and back: what a request must at least wait for besides the disk.

use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

/// Bytes of a datagram, about those of a small request.
const BYTES: usize = 300;

/// Longest time that is told apart from longer ones, in nanoseconds.
const LONGEST_NS: u64 = 10_000_000_000;

/// The p50 of a round trip between two tasks, in nanoseconds.
///
/// # Errors
/// When there is no loopback.
pub(crate) async fn measure(window: Duration) -> anyhow::Result<u64> {
    let (near, far) =
        (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    near.connect(far.local_addr()?).await?;
    far.connect(near.local_addr()?).await?;
    let echo = tokio::spawn(async move {
        let mut buffer = [0; BYTES];
        while far.recv(&mut buffer).await.is_ok() && far.send(&buffer).await.is_ok() {}
    });
    let mut times = hdrhistogram::Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3)?;
    let (end, mut buffer) = (Instant::now() + window, [0; BYTES]);
    while Instant::now() < end {
        let began = Instant::now();
        near.send(&buffer).await?;
        near.recv(&mut buffer).await?;
        times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    echo.abort();
    Ok(times.value_at_quantile(0.5))
}
