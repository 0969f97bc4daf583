//! A release on a computer that has other things to do.

use std::process::{Child, Stdio};

use super::*;

/// Processes that take all the processor time they get; they end with the test.
struct Busy(Vec<Child>);

impl Busy {
    /// Two for each core, of the ordinary priority.
    fn all_cores() -> Busy {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let one = || Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        Busy((0..cores * 2).map(|_| one()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes all processors for minutes"]
async fn the_running_models_own_bytes_pass_their_shadow_beside_busy_processors() {
    let publisher = Publisher::new();
    let (url, _) = serve(&publisher.repo()).await;
    let dir = tempfile::tempdir().unwrap();
    let station = Station::start_with(dir, &publisher, Some(url), Path::new(AERIE), |config| {
        (config.watch.shadow_frames, config.watch.trial_frames) = (100, 100);
    })
    .await;
    let _busy = Busy::all_cores();
    publisher.publish("1.1", |_, _| {});
    station.updates.check().await.unwrap();
    station.committed("1.1").await;
    station.print_trail();
}
