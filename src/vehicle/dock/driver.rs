//! What a dock speaks: one way to look at it, one to move it, one to stop it.
//!
//! HTTP: `GET /dock` answers `{"hatch": "closed|opening|open|closing", "drone_present": true, "emergency_stop": false}`
//! (the last two may be missing), `POST /dock/open`, `/dock/close` and, where the controller has it, `/dock/stop` act.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::states::{Input, Seat, Seen, from_switches};
use super::{DockConfig, DockError, Hatch};
use crate::vehicle::http::Base;
use crate::vehicle::modbus::device::Unknown;
use crate::vehicle::modbus::line::Write;
use crate::vehicle::modbus::map::{Command, Contact, DockMap, MapFault, Motion};
use crate::vehicle::modbus::{Address, Device, LineError, Lines};

pub(super) enum Driver {
    Http(Base),
    Modbus(Box<Modbus>),
}

/// One look, when it was taken, and what went wrong with the lesser signals.
pub(super) struct Look {
    pub seen: Seen,
    pub at: Instant,
    pub trouble: Option<DockError>,
}

impl Driver {
    pub fn new(config: &DockConfig, lines: &Lines) -> Result<Driver, DockError> {
        match (&config.url, &config.modbus) {
            (Some(url), _) => Ok(Driver::Http(Base::parse("dock.url", url)?)),
            (None, Some(map)) => Ok(Driver::Modbus(Box::new(Modbus::new(map, lines)?))),
            (None, None) => Err(DockError::Form("no form")),
        }
    }

    pub fn poll_every(&self) -> Duration {
        match self {
            Driver::Http(_) => Duration::from_secs(1),
            Driver::Modbus(modbus) => Duration::from_secs_f64(modbus.map.poll_s),
        }
    }

    /// After this long without an answer nothing is known of the dock.
    pub fn stale(&self) -> Duration {
        match self {
            Driver::Http(_) => Duration::from_secs(4),
            Driver::Modbus(modbus) => modbus.device.stale(),
        }
    }

    pub async fn look(&mut self) -> Result<Look, DockError> {
        match self {
            Driver::Http(base) => {
                let at = Instant::now();
                let answer = base.get::<Answer>("/dock").await?;
                Ok(Look { seen: answer.seen(), at, trouble: None })
            }
            Driver::Modbus(modbus) => modbus.look().await,
        }
    }

    /// Commands a movement. Once, whatever comes of it.
    pub async fn start(&mut self, motion: Motion) -> Result<(), DockError> {
        match self {
            Driver::Http(base) => {
                let path = match motion {
                    Motion::Open => "/dock/open",
                    Motion::Close => "/dock/close",
                };
                Ok(base.post(path).await?)
            }
            Driver::Modbus(modbus) => {
                let commands = &modbus.map.commands;
                let command = match motion {
                    Motion::Open => commands.open.clone(),
                    Motion::Close => commands.close.clone(),
                };
                Ok(modbus.press(&command).await?)
            }
        }
    }

    /// Commands a stop, and lets go of what is held. `false`: the dock has nothing that stops it.
    pub async fn stop(&mut self) -> Result<bool, DockError> {
        match self {
            Driver::Http(base) => match base.post("/dock/stop").await {
                Ok(()) => Ok(true),
                Err(error) if error.is_unknown_path() => Ok(false),
                Err(error) => Err(error.into()),
            },
            Driver::Modbus(modbus) => {
                let held = !modbus.held.is_empty();
                let stop = modbus.map.commands.stop.clone();
                let stopped = match &stop {
                    Some(stop) => modbus.press(stop).await,
                    None => Ok(()),
                };
                // Both are tried, whatever became of the other.
                let let_go = modbus.let_go().await;
                stopped?;
                let_go?;
                Ok(stop.is_some() || held)
            }
        }
    }

    /// The movement is over: outputs that were held for it are let go.
    pub async fn let_go(&mut self) -> Result<(), DockError> {
        match self {
            Driver::Http(_) => Ok(()),
            Driver::Modbus(modbus) => Ok(modbus.let_go().await?),
        }
    }
}

/// What an HTTP controller answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    hatch: Hatch,
    drone_present: Option<bool>,
    emergency_stop: Option<bool>,
}

impl Answer {
    fn seen(&self) -> Seen {
        Seen {
            hatch: Seat::At(self.hatch),
            drone_present: self.drone_present,
            emergency_stop: self.emergency_stop.map_or(Input::Absent, |on| Some(on).into()),
            permits: Vec::new(),
        }
    }
}

/// A dock behind a register map.
pub(super) struct Modbus {
    map: DockMap,
    device: Device,
    /// Outputs that must be let go: noted before they are set, so that no cancelled task and no lost answer forgets one.
    held: Vec<Held>,
}

struct Held {
    release: Write,
    /// The button was pressed long enough, or the movement is over.
    due: bool,
}

impl Modbus {
    fn new(map: &DockMap, lines: &Lines) -> Result<Modbus, DockError> {
        let address = Address::parse(&map.url).map_err(|reason| {
            let fault = format!("{:?}: {reason}", map.url);
            MapFault { key: "dock.modbus.url".to_owned(), fault }
        })?;
        let signals = &map.signals;
        let optional = [&signals.opening, &signals.closing, &signals.drone_present, &signals.emergency_stop];
        let places = [&signals.closed, &signals.open]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .chain(map.permits.iter().map(|permit| &permit.input))
            .map(|contact| contact.place(map.unit_id));
        let device = Device::new(
            lines.line(&address),
            map.unit_id,
            Duration::from_secs_f64(map.timeout_s),
            Duration::from_secs_f64(map.stale_s),
            places,
            signals.alive.as_ref(),
        );
        Ok(Modbus { map: map.clone(), device, held: Vec::new() })
    }

    async fn look(&mut self) -> Result<Look, DockError> {
        let began = Instant::now();
        let mut trouble = self.device.poll().await.err().map(DockError::Line);
        // What an earlier loss of the line kept from being let go.
        if self.held.iter().any(|held| held.due)
            && let Err(error) = self.release_due().await
        {
            trouble.get_or_insert(error.into());
        }
        let signals = &self.map.signals;
        // The switches must have been read just now; for the rest `stale_s` holds.
        let switch = |signal, contact: &Contact| match self.device.contact(contact) {
            Ok((on, at)) if at >= began => Ok((on, at)),
            Ok(_) => Err(DockError::Signal { signal, reason: Unknown::Missing }),
            Err(reason) => Err(DockError::Signal { signal, reason }),
        };
        let (closed, open) = match (
            switch("dock.modbus.signals.closed", &signals.closed),
            switch("dock.modbus.signals.open", &signals.open),
        ) {
            (Ok(closed), Ok(open)) => (closed, open),
            (Err(error), _) | (_, Err(error)) => return Err(trouble.unwrap_or(error)),
        };
        let word = |contact: &Contact| self.device.contact(contact).ok().map(|(on, _)| on);
        let maybe = |contact: &Option<Contact>| contact.as_ref().map(word);
        let lamps = maybe(&signals.opening).zip(maybe(&signals.closing));
        let seen = Seen {
            hatch: from_switches(Some(closed.0), Some(open.0), lamps),
            drone_present: maybe(&signals.drone_present).flatten(),
            emergency_stop: maybe(&signals.emergency_stop).map_or(Input::Absent, Input::from),
            permits: self.map.permits.iter().map(|p| (p.name.clone(), p.motion, word(&p.input))).collect(),
        };
        if closed.0 && open.0 {
            let both = "both limit switches are on at once; check their wiring and the entries in the map".to_owned();
            trouble.get_or_insert(DockError::Switches(both));
        }
        Ok(Look { seen, at: closed.1.min(open.1), trouble })
    }

    /// Sets an output, and where it is a button lets it go again.
    async fn press(&mut self, command: &Command) -> Result<(), LineError> {
        let set = self.device.output(command, command.value);
        let here = |held: &Held| held.release.is_beside(&set);
        // What is about to be set anew need not be let go first.
        self.held.retain(|held| !here(held));
        if let Some(release) = self.device.release(command) {
            self.held.push(Held { release, due: false });
        }
        let outcome = self.device.write(set).await;
        match (&outcome, command.pulse()) {
            (Err(error), _) if !error.may_have_acted() => self.held.retain(|held| !here(held)),
            (Ok(()), Some(pulse)) => {
                sleep(pulse).await;
                self.held.iter_mut().filter(|held| here(held)).for_each(|held| held.due = true);
                if let Err(error) = self.release_due().await {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "the dock did not confirm that a button was let go; tried again");
                }
            }
            // Perhaps pressed: let go with the next look.
            (Err(_), Some(_)) => self.held.iter_mut().filter(|held| here(held)).for_each(|held| held.due = true),
            // Held while it moves.
            (_, None) => {}
        }
        outcome
    }

    async fn let_go(&mut self) -> Result<(), LineError> {
        for held in &mut self.held {
            held.due = true;
        }
        self.release_due().await
    }

    async fn release_due(&mut self) -> Result<(), LineError> {
        let mut outcome = Ok(());
        for index in (0..self.held.len()).rev() {
            if !self.held[index].due {
                continue;
            }
            match self.device.write(self.held[index].release).await {
                Ok(()) => drop(self.held.remove(index)),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_we_do_not_know_is_not_open() {
        let answer: Answer = serde_json::from_str(r#"{"hatch": "ajar"}"#).unwrap();
        let seen = answer.seen();
        assert_eq!((seen.hatch, seen.drone_present), (Seat::At(Hatch::Unknown), None));
        // A controller without an emergency stop is not one whose stop is unknown.
        assert_eq!(seen.emergency_stop, Input::Absent);
    }
}
