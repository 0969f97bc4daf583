//! The signed envelope: how it is made, read and judged. Pure: no clock, no I/O.
//!
//! JWS compact with EdDSA over Ed25519: `base64url(header).base64url(payload).base64url(signature)`. What the token
//! says of itself chooses nothing but the key: the algorithm is ours.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest token that is looked at.
pub const MAX_BYTES: usize = 64 * 1024;
/// How far the operator's clock may be ahead of ours.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(60);
/// The longest time between issue and deadline.
const LONGEST_DEADLINE: SignedDuration = SignedDuration::from_hours(24);
const LONGEST_ID: usize = 128;

/// A command, a verdict or a request, as it is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Chosen by who issues it, unique; the same id again is the same command.
    pub id: String,
    /// The one station that may act on it.
    pub station: String,
    /// `patrol.start`, `patrol.cancel`, `verdict`, `request`: what stands in the topic.
    pub name: String,
    #[serde(default)]
    pub args: serde_json::Value,
    #[schemars(with = "String")]
    pub issued_at: Timestamp,
    /// The latest moment at which acting on it may begin; at most 24 hours after `issued_at`.
    #[schemars(with = "String")]
    pub deadline: Timestamp,
    /// Who gave it, for people to read in the journal.
    pub operator: String,
}

/// Why an envelope is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("too large: {0} bytes, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    #[error("not a signed envelope: {0}")]
    Malformed(String),
    #[error("the algorithm must be EdDSA")]
    Algorithm,
    #[error("key {0:?} is not known to this station")]
    UnknownKey(String),
    #[error("the signature does not match")]
    Signature,
    #[error("meant for station {0:?}")]
    WrongStation(String),
    #[error("named {name:?} but sent as {topic:?}")]
    WrongName { name: String, topic: String },
    #[error("this id was used before, for another command ({0}); every command needs its own")]
    IdTaken(String),
    #[error("key {kid:?} may not give {name:?}{}", super::who_may(name))]
    NotAllowed { kid: String, name: String },
    #[error("issued at {0}, which is in the future; check the clocks")]
    FromTheFuture(Timestamp),
    #[error("the deadline is more than 24 hours after the issue, or before it")]
    DeadlineRange,
    #[error("the deadline {0} has passed")]
    Expired(Timestamp),
    #[error(
        "the station's clock cannot be trusted ({0}), so nobody knows whether this is still meant: no flight is started by it; set the clock and issue it anew"
    )]
    Clock(String),
    #[error("key {kid:?} may start the patrols {patrols:?} alone")]
    Patrol { kid: String, patrols: Vec<String> },
    #[error(
        "issued at {issued_at}, before {until}: up to then what was done is forgotten (a lost journal, or a backup put back), with a minute for clocks that differ, and nobody knows whether this was carried out; issue it anew after that"
    )]
    Forgotten { issued_at: Timestamp, until: Timestamp },
}

/// A key as it may be used.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub verifying: VerifyingKey,
    pub may: Vec<String>,
    pub scope: Scope,
}

/// On what a right may be used; none means on all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scope {
    /// That it may start.
    pub patrols: Option<Vec<String>>,
    /// Whose cases it may judge.
    pub departments: Option<Vec<String>>,
}

pub(super) type Keyring = HashMap<String, Key>;

/// An envelope whose signature is genuine. Nothing else is said of it yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opened {
    pub kid: String,
    pub envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    // Anything else, `crit` above all, asks for a meaning that we do not give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
}

/// Signs an envelope.
pub fn sign(envelope: &Envelope, key: &SigningKey, kid: &str) -> String {
    let header = serde_json::json!({ "alg": "EdDSA", "kid": kid });
    // A map of strings and JSON values: serialisation has no case in which it fails.
    let payload = serde_json::to_value(envelope).unwrap_or_default();
    let signed =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

/// Size, shape, algorithm, key, signature, in this order. The payload is not parsed before its signature is known
/// to be genuine.
pub(super) fn open(token: &[u8], keys: &Keyring) -> Result<Opened, Refusal> {
    if token.len() > MAX_BYTES {
        return Err(Refusal::TooLarge(token.len()));
    }
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    let token = std::str::from_utf8(token).map_err(|_| malformed("not text"))?.trim_ascii();
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("a JWS has three parts with dots between"));
    };
    let decode = |part: &str, what: &str| {
        URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed(&format!("the {what} is not base64url")))
    };
    let header_bytes = decode(header, "header")?;
    let payload_bytes = decode(payload, "payload")?;
    let signature_bytes = decode(signature, "signature")?;
    let read: Header =
        serde_json::from_slice(&header_bytes).map_err(|error| Refusal::Malformed(format!("the header: {error}")))?;
    if read.alg != "EdDSA" {
        return Err(Refusal::Algorithm);
    }
    let Some(key) = keys.get(&read.kid) else {
        return Err(Refusal::UnknownKey(shorten(&read.kid)));
    };
    let signature = Signature::from_slice(&signature_bytes).map_err(|_| malformed("a signature has 64 bytes"))?;
    let signed_len = header.len() + 1 + payload.len();
    let signed = token.as_bytes().get(..signed_len).unwrap_or_default();
    // Strict: no second encoding of a signature or key counts as the same one.
    key.verifying.verify_strict(signed, &signature).map_err(|_| Refusal::Signature)?;
    let envelope: Envelope =
        serde_json::from_slice(&payload_bytes).map_err(|error| Refusal::Malformed(format!("the payload: {error}")))?;
    check_texts(&envelope)?;
    Ok(Opened { kid: read.kid, envelope })
}

/// Texts that end up in topics, journals and on the page stay short and printable.
pub(super) fn check_texts(envelope: &Envelope) -> Result<(), Refusal> {
    check_id(&envelope.id).and_then(|()| check_operator(&envelope.operator)).map_err(Refusal::Malformed)
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_ID && !text.chars().any(char::is_control)
}

pub fn check_id(id: &str) -> Result<(), String> {
    let good = is_plain(id) && id.is_ascii();
    good.then_some(()).ok_or_else(|| format!("an id is 1 to {LONGEST_ID} printable ASCII characters"))
}

pub fn check_operator(operator: &str) -> Result<(), String> {
    is_plain(operator).then_some(()).ok_or_else(|| format!("an operator is 1 to {LONGEST_ID} bytes of printable text"))
}

/// Whether a genuine envelope is for us, is what its topic says, and comes from one who may.
pub(super) fn authorise(opened: &Opened, station: &str, topic: &str, keys: &Keyring) -> Result<(), Refusal> {
    let Opened { kid, envelope } = opened;
    if envelope.station != station {
        return Err(Refusal::WrongStation(shorten(&envelope.station)));
    }
    let name = topic.strip_prefix("command/").unwrap_or(topic);
    if envelope.name != name {
        return Err(Refusal::WrongName { name: shorten(&envelope.name), topic: shorten(topic) });
    }
    let key = keys.get(kid).filter(|key| key.may.iter().any(|may| covers(may, name)));
    let Some(key) = key else { return Err(Refusal::NotAllowed { kid: kid.clone(), name: name.to_owned() }) };
    match &key.scope.patrols {
        Some(patrols)
            if name == "patrol.start" && !patrols.iter().any(|one| envelope.args["patrol"] == one.as_str()) =>
        {
            Err(Refusal::Patrol { kid: kid.clone(), patrols: patrols.clone() })
        }
        _ => Ok(()),
    }
}

/// Whether a command brings a drone into the air or keeps it there.
pub(super) fn flies(name: &str) -> bool {
    matches!(name, "patrol.start" | "patrol.resume" | "request")
}

/// `patrol.start` allows itself, `patrol.*` everything that begins with `patrol.`.
pub(super) fn covers(may: &str, name: &str) -> bool {
    match may.strip_suffix('*') {
        Some(group) => group.ends_with('.') && name.starts_with(group),
        None => may == name,
    }
}

/// Whether acting on it may begin now.
pub(super) fn in_time(envelope: &Envelope, now: Timestamp) -> Result<(), Refusal> {
    if envelope.issued_at.duration_since(now) > CLOCK_TOLERANCE {
        return Err(Refusal::FromTheFuture(envelope.issued_at));
    }
    let given = envelope.deadline.duration_since(envelope.issued_at);
    if given.is_negative() || given > LONGEST_DEADLINE {
        return Err(Refusal::DeadlineRange);
    }
    if envelope.deadline < now {
        return Err(Refusal::Expired(envelope.deadline));
    }
    Ok(())
}

/// What came from outside goes into a reply only in part.
fn shorten(text: &str) -> String {
    text.chars().take(LONGEST_ID).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn keyring() -> Keyring {
        let verifying = key().verifying_key();
        let may = vec!["patrol.start".into(), "camera.*".into()];
        let scope = Scope { patrols: Some(vec!["river".into()]), departments: None };
        HashMap::from([("ops".to_owned(), Key { verifying, may, scope })])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub(in super::super) fn envelope() -> Envelope {
        Envelope {
            id: "01J".into(),
            station: "s1".into(),
            name: "patrol.start".into(),
            args: serde_json::json!({ "patrol": "river" }),
            issued_at: at(1000),
            deadline: at(1060),
            operator: "li".into(),
        }
    }

    fn token(header: serde_json::Value, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let signature = key().sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn with(change: impl FnOnce(&mut Envelope)) -> Envelope {
        let mut envelope = envelope();
        change(&mut envelope);
        envelope
    }

    /// Name, token, topic, the time it comes, what is expected.
    type Hostile = (&'static str, Vec<u8>, &'static str, i64, fn(&Refusal) -> bool);

    /// Everything the door checks without its journal, as one verdict.
    fn judge(token: &[u8], topic: &str, now: Timestamp) -> Result<Envelope, Refusal> {
        let opened = open(token, &keyring())?;
        authorise(&opened, "s1", topic, &keyring())?;
        in_time(&opened.envelope, now)?;
        Ok(opened.envelope)
    }

    #[test]
    fn a_genuine_envelope_in_time_is_taken() {
        let signed = sign(&envelope(), &key(), "ops");
        assert_eq!(judge(signed.as_bytes(), "command/patrol.start", at(1001)), Ok(envelope()));
        let signed = sign(&with(|e| e.name = "camera.look".into()), &key(), "ops");
        assert!(judge(signed.as_bytes(), "command/camera.look", at(1001)).is_ok());
    }

    #[test]
    fn every_other_envelope_is_refused_for_its_own_reason() {
        let good = sign(&envelope(), &key(), "ops");
        let body = serde_json::to_string(&envelope()).unwrap();
        let header = serde_json::json!({ "alg": "EdDSA", "kid": "ops" });
        let signed = |change: fn(&mut Envelope)| sign(&with(change), &key(), "ops");
        let stranger = SigningKey::from_bytes(&[8; 32]);
        let mut bent = good.clone().into_bytes();
        let middle = good.find('.').unwrap() + 5;
        bent[middle] = if bent[middle] == b'A' { b'B' } else { b'A' };

        let topic = "command/patrol.start";
        let cases: Vec<Hostile> = vec![
            ("too large", vec![b'a'; MAX_BYTES + 1], topic, 1001, |r| matches!(r, Refusal::TooLarge(_))),
            ("empty", vec![], topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("not UTF-8", vec![0xff, 0xfe, b'.', b'.'], topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("plain JSON", body.clone().into_bytes(), topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("four parts", format!("{good}.x").into_bytes(), topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("short signature", good[..good.len() - 8].into(), topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("alg none", token(serde_json::json!({"alg": "none", "kid": "ops"}), &body).into(), topic, 1001, |r| {
                *r == Refusal::Algorithm
            }),
            ("alg HS256", token(serde_json::json!({"alg": "HS256", "kid": "ops"}), &body).into(), topic, 1001, |r| {
                *r == Refusal::Algorithm
            }),
            (
                "crit",
                token(serde_json::json!({"alg": "EdDSA", "kid": "ops", "crit": ["b64"]}), &body).into(),
                topic,
                1001,
                |r| matches!(r, Refusal::Malformed(_)),
            ),
            ("unknown kid", sign(&envelope(), &key(), "who").into(), topic, 1001, |r| {
                matches!(r, Refusal::UnknownKey(_))
            }),
            ("another's key", sign(&envelope(), &stranger, "ops").into(), topic, 1001, |r| *r == Refusal::Signature),
            ("bent payload", bent, topic, 1001, |r| *r == Refusal::Signature),
            ("not an envelope", token(header.clone(), "{}").into(), topic, 1001, |r| {
                matches!(r, Refusal::Malformed(_))
            }),
            ("unknown field", token(header, &body.replacen('{', "{\"x\":1,", 1)).into(), topic, 1001, |r| {
                matches!(r, Refusal::Malformed(_))
            }),
            ("empty id", signed(|e| e.id.clear()).into(), topic, 1001, |r| matches!(r, Refusal::Malformed(_))),
            ("control characters", signed(|e| e.operator = "li\u{1b}[2J".into()).into(), topic, 1001, |r| {
                matches!(r, Refusal::Malformed(_))
            }),
            ("another station", signed(|e| e.station = "s2".into()).into(), topic, 1001, |r| {
                matches!(r, Refusal::WrongStation(_))
            }),
            ("another topic", good.clone().into(), "command/patrol.cancel", 1001, |r| {
                matches!(r, Refusal::WrongName { .. })
            }),
            ("not allowed", signed(|e| e.name = "patrol.cancel".into()).into(), "command/patrol.cancel", 1001, |r| {
                matches!(r, Refusal::NotAllowed { .. })
            }),
            ("another patrol", signed(|e| e.args = serde_json::json!({"patrol": "north"})).into(), topic, 1001, |r| {
                matches!(r, Refusal::Patrol { .. })
            }),
            ("from the future", good.clone().into(), topic, 939, |r| matches!(r, Refusal::FromTheFuture(_))),
            ("late", good.into(), topic, 1061, |r| matches!(r, Refusal::Expired(_))),
            ("deadline too far", signed(|e| e.deadline = at(1001 + 24 * 3600)).into(), topic, 1001, |r| {
                *r == Refusal::DeadlineRange
            }),
            ("deadline before issue", signed(|e| e.deadline = at(999)).into(), topic, 998, |r| {
                *r == Refusal::DeadlineRange
            }),
        ];
        for (name, token, topic, now, expected) in cases {
            let verdict = judge(&token, topic, at(now));
            assert!(verdict.as_ref().is_err_and(expected), "{name}: {verdict:?}");
        }
    }

    #[test]
    fn a_group_never_reaches_beyond_its_dot() {
        assert!(covers("patrol.*", "patrol.start"));
        assert!(!covers("patrol.*", "patrolling"));
        assert!(!covers("*", "patrol.start"), "there is no right to everything");
        assert!(!covers("patrol*", "patrol.start"));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_from_outside_ever_stop_the_door(token: Vec<u8>) {
            proptest::prop_assert!(open(&token, &keyring()).is_err());
        }
    }
}
