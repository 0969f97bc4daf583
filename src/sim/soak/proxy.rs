//! A TCP proxy that delays what passes and cuts the connection when its time has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::SoakError;

#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of each piece, in each direction.
    pub delay: Duration,
    /// A connection carries so many bytes upstream, at most, before it is cut in the middle of whatever passes.
    pub cut_after: u64,
    pub seed: u64,
}

pub struct Proxy {
    pub port: u16,
    cuts: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn start(target: u16, weather: Weather) -> Result<Self, SoakError> {
        let failed = |error: std::io::Error| SoakError::Failed(format!("the proxy cannot listen: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let cuts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(weather.seed);
            while let Ok((client, _)) = listener.accept().await {
                let carries = random.random_range(1..=weather.cut_after.max(1));
                let cuts = Arc::clone(&counted);
                tokio::spawn(async move {
                    if carry(client, target, weather.delay, carries).await {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { port, cuts, _task: AbortOnDropHandle::new(task) })
    }

    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// Until one side ends, or so many bytes went up. Whether it was cut.
async fn carry(client: TcpStream, target: u16, delay: Duration, carries: u64) -> bool {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return false };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let (mut buffer, mut left) = (vec![0; 16 * 1024], carries);
        loop {
            let Ok(read @ 1..) = from_client.read(&mut buffer).await else { return false };
            tokio::time::sleep(delay).await;
            let part = read.min(usize::try_from(left).unwrap_or(usize::MAX));
            if to_server.write_all(buffer.get(..part).unwrap_or_default()).await.is_err() {
                return false;
            }
            left -= part as u64;
            if left == 0 {
                return true;
            }
        }
    };
    let down = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let Ok(read @ 1..) = from_server.read(&mut buffer).await else { return };
            tokio::time::sleep(delay).await;
            if to_client.write_all(buffer.get(..read).unwrap_or_default()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        cut = up => cut,
        () = down => false,
    }
}
