//! What the station says of its updates: every step upstream, and where it stands now.

use jiff::Timestamp;

use super::release::Kind;
use super::task::{Task, Work};
use super::{KindView, UpdateError};
use crate::outbox::{Class, Payload, Record};
use crate::runtime::latest;
use crate::uplink::cloudevents;

impl Task {
    /// Every step reaches upstream, once each, in order.
    pub(super) async fn tell(&mut self) -> Result<(), UpdateError> {
        let untold = self.with_ledger(|ledger| ledger.untold()).await?;
        let Some(last) = untold.last().map(|e| e.n) else { return Ok(()) };
        let station = &self.prepared.options.station;
        let records = untold.iter().map(|entry| {
            let at = entry.at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            let data = serde_json::to_value(entry).unwrap_or_default();
            let event = cloudevents::update_event(station, entry.n.unsigned_abs(), at, data);
            Record {
                id: format!("update/{}", entry.n),
                class: Class::Sortie,
                key: "update".to_owned(),
                topic: format!("update/{}", entry.n),
                content_type: cloudevents::CONTENT_TYPE.to_owned(),
                payload: Payload::Bytes(event.to_string().into_bytes()),
                captured_at: None,
            }
        });
        let accepted = self.outbox.accept(records.collect()).await;
        accepted.map_err(|e| UpdateError::Wrong(e.to_string()))?;
        self.with_ledger(move |ledger| ledger.told(last)).await
    }

    pub(super) async fn show(&self) {
        let mut kinds = Vec::new();
        for kind in Kind::ALL {
            match self.record(kind).await {
                Ok(record) => kinds.push(KindView { kind, record }),
                Err(error) => tracing::error!(%error, "the ledger of updates"),
            }
        }
        let doing = match &self.work {
            None => None,
            Some(Work::Search { .. }) => Some("asks its repository".to_owned()),
            Some(Work::Fetch { kind, progress, .. }) => Some(format!("fetches a {}: {progress}", kind.name())),
            Some(Work::Probe { kind, .. }) => Some(format!("probes a {}", kind.name())),
            Some(Work::Shadow { so_far, .. }) => {
                let tally = latest(so_far);
                Some(format!("shadow: {} of {} frames", tally.frames, self.prepared.options.config.watch.shadow_frames))
            }
            Some(Work::Trial { tally, .. }) => {
                Some(format!("trial: {} of {} frames", tally.frames, self.prepared.options.config.watch.trial_frames))
            }
        };
        let unusable: Vec<&str> =
            self.prepared.damaged.iter().chain(&self.prepared.unread).map(String::as_str).collect();
        let damaged = Some(unusable.join("; ")).filter(|text| !text.is_empty());
        let warning = self.web.as_ref().and_then(|web| web.warning());
        self.view.send_modify(|v| {
            v.warning = warning;
            (v.kinds, v.damaged, v.doing) = (kinds, damaged, doing.or(v.doing.take().filter(|d| d.contains("folder"))))
        });
    }
}
