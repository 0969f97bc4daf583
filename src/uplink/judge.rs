//! Pure: what the end of a publish means for the record. No clock, no I/O.

use jiff::{SignedDuration, Timestamp};
use rumqttc::{PubAckReason, PublishNoticeError, PublishResult};

use crate::outbox::{NO_SUBSCRIBERS, Settlement};

/// The first wait of a record that was refused for now; doubled with each refusal.
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_RETRY: SignedDuration = SignedDuration::from_hours(1);

/// What to do about a record.
#[derive(Debug)]
pub(super) enum Verdict {
    Settle(Settlement),
    /// The connection ended first: the record is published again over the next one.
    Unknown,
}

pub(super) fn judge(
    result: &Result<PublishResult, PublishNoticeError>,
    seq: i64,
    attempts: u32,
    at: Timestamp,
) -> Verdict {
    let refused = |reason: String| Verdict::Settle(later(seq, attempts, reason, at));
    match result {
        Ok(PublishResult::Qos1(ack)) => match ack.reason {
            PubAckReason::Success => Verdict::Settle(Settlement::Delivered { seq, acked_at: at, note: None }),
            // A success by the standard: the broker took it, and found nobody to give it to.
            PubAckReason::NoMatchingSubscribers => {
                Verdict::Settle(Settlement::Delivered { seq, acked_at: at, note: Some(NO_SUBSCRIBERS.to_owned()) })
            }
            // These speak of the message, not of the moment: asking again cannot help.
            reason @ (PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid) => {
                Verdict::Settle(Settlement::Aside {
                    seq,
                    reason: format!("the broker refused it: {reason:?}"),
                    packet_bytes: None,
                })
            }
            reason => refused(format!("the broker refused it: {reason:?}")),
        },
        Ok(other) => refused(format!("unexpected answer: {other:?}")),
        Err(PublishNoticeError::Recv | PublishNoticeError::SessionReset) => Verdict::Unknown,
        Err(error) => refused(error.to_string()),
    }
}

/// Refused for now, with a wait that grows: permissions and quotas change, but not by the second.
pub(super) fn later(seq: i64, attempts: u32, reason: String, at: Timestamp) -> Settlement {
    let wait = FIRST_RETRY.saturating_mul(1 << attempts.min(16)).min(LONGEST_RETRY);
    Settlement::Later { seq, reason, retry_at: at.saturating_add(wait).unwrap_or(at) }
}

#[cfg(test)]
mod tests {
    use rumqttc::PubAck;

    use super::*;

    fn answered(reason: PubAckReason, attempts: u32) -> Verdict {
        let mut ack = PubAck::new(1, None);
        ack.reason = reason;
        judge(&Ok(PublishResult::Qos1(ack)), 7, attempts, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn only_a_success_code_counts_as_delivered() {
        use PubAckReason::{
            ImplementationSpecificError, NoMatchingSubscribers, NotAuthorized, PacketIdentifierInUse,
            PayloadFormatInvalid, QuotaExceeded, Success, TopicNameInvalid, UnspecifiedError,
        };
        for reason in [Success, NoMatchingSubscribers] {
            assert!(matches!(answered(reason, 0), Verdict::Settle(Settlement::Delivered { seq: 7, .. })), "{reason:?}");
        }
        for reason in
            [UnspecifiedError, ImplementationSpecificError, NotAuthorized, PacketIdentifierInUse, QuotaExceeded]
        {
            assert!(matches!(answered(reason, 0), Verdict::Settle(Settlement::Later { seq: 7, .. })), "{reason:?}");
        }
        for reason in [TopicNameInvalid, PayloadFormatInvalid] {
            assert!(matches!(answered(reason, 0), Verdict::Settle(Settlement::Aside { seq: 7, .. })), "{reason:?}");
        }
    }

    #[test]
    fn a_record_whose_fate_is_unknown_is_not_settled() {
        for error in [PublishNoticeError::Recv, PublishNoticeError::SessionReset] {
            assert!(matches!(judge(&Err(error), 7, 0, Timestamp::UNIX_EPOCH), Verdict::Unknown));
        }
    }

    #[test]
    fn refusals_are_asked_again_ever_less_often_but_at_least_hourly() {
        let wait = |attempts| match answered(PubAckReason::QuotaExceeded, attempts) {
            Verdict::Settle(Settlement::Later { retry_at, .. }) => retry_at.as_second(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(0), 5);
        assert_eq!(wait(3), 40);
        assert_eq!(wait(40), 3600);
        assert_eq!(wait(u32::MAX), 3600);
    }
}
