//! The independent subscriber: a client with a session of its own that keeps count of what arrives.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::SoakError;

/// What arrived. Pure: fed with topics and payloads.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events by id, with the digest of what they said.
    events: HashMap<String, [u8; 32]>,
    /// The highest sequence of each subject, of those seen for the first time.
    last: HashMap<String, u64>,
    pictures: HashSet<String>,
    pub counts: Counts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub events: u64,
    pub pictures: u64,
    /// The same id again, saying the same.
    pub repeats: u64,
    /// The same id again, saying something else.
    pub changed: u64,
    /// An event of a case that came before its predecessor.
    pub out_of_order: u64,
    /// A picture that is not what its topic says.
    pub damaged: u64,
}

impl Seen {
    pub fn take(&mut self, topic: &str, payload: &[u8]) {
        if let Some((_, digest)) = topic.split_once("/evidence/") {
            let true_picture = hex::encode(Sha256::digest(payload)) == digest;
            self.counts.damaged += u64::from(!true_picture);
            match self.pictures.insert(digest.to_owned()) {
                true => self.counts.pictures += 1,
                false => self.counts.repeats += 1,
            }
            return;
        }
        let Ok(event) = serde_json::from_slice::<Value>(payload) else { return };
        let (Some(id), Some(subject), Some(sequence)) =
            (event["id"].as_str(), event["subject"].as_str(), event["sequence"].as_u64())
        else {
            return;
        };
        let digest: [u8; 32] = Sha256::digest(payload).into();
        match self.events.insert(id.to_owned(), digest) {
            Some(before) if before == digest => self.counts.repeats += 1,
            Some(_) => self.counts.changed += 1,
            None => {
                self.counts.events += 1;
                let last = self.last.entry(subject.to_owned()).or_default();
                self.counts.out_of_order += u64::from(sequence != *last + 1);
                *last = sequence.max(*last);
            }
        }
    }

    /// How many of these have not arrived.
    pub fn missing<'a>(&self, ids: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
        ids.into_iter()
            .filter(|id| match id.strip_prefix("evidence/") {
                Some(digest) => !self.pictures.contains(digest),
                None => !self.events.contains_key(*id),
            })
            .collect()
    }
}

pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    _task: AbortOnDropHandle<()>,
}

impl Witness {
    /// Returns once it is subscribed. `filter` is a topic filter.
    pub async fn start(port: u16, filter: &str) -> Result<Self, SoakError> {
        let mut options = MqttOptions::new("soak-witness", ("127.0.0.1", port));
        options.set_clean_start(true).set_session_expiry_interval(Some(86_400)).set_max_packet_size(Some(16 << 20));
        let (client, mut eventloop) = AsyncClient::builder(options).capacity(64).build();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (ready, mut subscribed) = watch::channel(false);
        let (store, filter) = (Arc::clone(&seen), filter.to_owned());
        let task = tokio::spawn(async move {
            loop {
                match eventloop.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        // A full channel of 64 with nothing else in it cannot be.
                        let _ = client.try_subscribe(filter.clone(), QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send_replace(true)),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let topic = String::from_utf8_lossy(&publish.topic);
                        store.lock().unwrap_or_else(PoisonError::into_inner).take(&topic, &publish.payload);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        let task = AbortOnDropHandle::new(task);
        match tokio::time::timeout(Duration::from_secs(20), subscribed.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => {}
            _ => return Err(SoakError::Failed("the witness could not subscribe within 20 s".to_owned())),
        }
        Ok(Self { seen, _task: task })
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until all of these have arrived, or until nothing more has for `patience`. What is missing.
    pub async fn wait_for(&self, ids: &HashSet<String>, patience: Duration) -> Vec<String> {
        let (mut before, mut still) = (Counts::default(), Duration::ZERO);
        let step = Duration::from_millis(50);
        loop {
            let (now, missing) =
                self.look(|seen| (seen.counts, seen.missing(ids).into_iter().cloned().collect::<Vec<_>>()));
            still = if now == before { still + step } else { Duration::ZERO };
            if missing.is_empty() || still > patience {
                return missing;
            }
            before = now;
            tokio::time::sleep(step).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(case: &str, sequence: u64, word: &str) -> Vec<u8> {
        let id = format!("{case}/{sequence}");
        json!({"id": id, "subject": case, "sequence": sequence, "data": word}).to_string().into_bytes()
    }

    #[test]
    fn the_witness_tells_a_repeat_from_a_change_and_a_gap_from_an_order() {
        let mut seen = Seen::default();
        for (case, sequence, word) in [("a", 1, "x"), ("b", 1, "x"), ("a", 2, "x"), ("a", 1, "x"), ("b", 1, "y")] {
            seen.take("aerie/v1/s/case/a", &event(case, sequence, word));
        }
        assert_eq!(seen.counts, Counts { events: 3, repeats: 1, changed: 1, ..Counts::default() });
        seen.take("aerie/v1/s/case/b", &event("b", 3, "x"));
        assert_eq!(seen.counts.out_of_order, 1);
        let wanted = ["a/1".to_owned(), "a/3".to_owned()];
        assert_eq!(seen.missing(&wanted), [&wanted[1]]);
    }

    #[test]
    fn a_picture_under_a_wrong_name_is_damaged() {
        let mut seen = Seen::default();
        let digest = hex::encode(Sha256::digest(b"picture"));
        seen.take(&format!("aerie/v1/s/evidence/{digest}"), b"picture");
        seen.take(&format!("aerie/v1/s/evidence/{digest}"), b"pictur");
        assert_eq!((seen.counts.pictures, seen.counts.repeats, seen.counts.damaged), (1, 1, 1));
    }
}
