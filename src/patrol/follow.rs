//! Follows one flight from the air to the closed dock: what is seen of it, what it is told, and its end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::crew::Crew;
use super::flight::{FlightError, Order, Reins, Told};
use super::monitor::{Astray, Monitor, Rules, Seen};
use super::states::{Sortie, State};
use crate::cases::keeper::Picture;
use crate::runtime::latest;
use crate::runtime::store::Table;
use crate::vehicle::{Along, FlightMode, Hatch, LandedState, Mission, Shot, Shots, Telemetry};

/// An order to come home is given again until it shows.
const AGAIN: Duration = Duration::from_secs(3);
/// PX4 holds before it acts on a failsafe, for five seconds at most by what we set (COM_FAIL_ACT_T). An order to return
/// would be taken for a pilot's hand in these, and the landing on an empty battery called off.
const MAKES_UP_ITS_MIND: Duration = Duration::from_secs(10);
/// What is older says nothing about where the drone is now.
const FRESH: Duration = Duration::from_secs(3);
/// After the landing, pictures that the camera has and we have not may take so long to be told.
const LATE_PICTURES: Duration = Duration::from_secs(15);
/// PX4 may turn for home at its mission's end before it has said that it was there.
const LATE_ITEM: Duration = Duration::from_secs(2);
/// A drone that was started and is on the ground after so long does not rise any more.
const NEVER_ROSE: Duration = Duration::from_secs(90);

/// From the air to the closed dock.
pub(super) struct Follow<'a> {
    crew: &'a Crew,
    sortie: &'a mut Sortie,
    mission: Mission,
    monitor: Monitor,
    began: Instant,
    until: Instant,
    /// Until it was up, "on the ground" may be the past.
    was_up: bool,
    said: Instant,
    /// Since when the drone has been in its return mode, in a flight that should go on.
    turned: Option<Instant>,
    ordered_home: Option<Instant>,
    /// The order to return has shown, and since then it holds.
    returned: bool,
    holds: Option<Instant>,
    /// To land where it is.
    ordered_down: Option<Instant>,
    ordered_off: Option<Instant>,
    /// That it is carried away was said.
    blown_away: bool,
    dock_asked: Option<Instant>,
    shots: Shots,
}

impl<'a> Follow<'a> {
    pub fn new(crew: &'a Crew, sortie: &'a mut Sortie, mission: &Mission, limit: Duration, was_up: bool) -> Follow<'a> {
        let monitor = Monitor::new(Rules {
            energy: crew.energy,
            red: Duration::from_secs_f64(crew.limits.in_flight_red_s),
            fence: mission.fence.clone().unwrap_or_default(),
            exclusions: mission.exclusions.clone(),
            ceiling_m: crew.ceiling_m(sortie.approval.as_deref()),
            speed_m_s: mission.speed_m_s,
            home: crew.dock_at,
        });
        let now = Instant::now();
        Follow {
            crew,
            sortie,
            mission: mission.clone(),
            monitor,
            began: now,
            until: now + limit,
            was_up,
            said: now,
            ordered_home: None,
            turned: None,
            returned: false,
            holds: None,
            ordered_down: None,
            ordered_off: None,
            blown_away: false,
            dock_asked: None,
            shots: crew.vehicle.shots(),
        }
    }

    /// Of a flight that is taken over: the pictures from this number on were taken while nobody listened.
    pub fn recalling(self, from: Option<u32>) -> Self {
        if let Some(from) = from {
            self.crew.vehicle.recall_pictures(from);
        }
        self
    }

    /// It comes home already, and nobody saw why it turned.
    pub fn turned_unseen(&mut self) {
        if !self.flown_whole() {
            self.sortie.early.get_or_insert_with(|| "it turned for home while the station was away".to_owned());
        }
    }

    /// It was called home before the restart, or came by itself, and does not come now: whether it heard the call nobody
    /// knows.
    pub async fn call_again(&mut self, now: &Telemetry) -> Result<(), FlightError> {
        let Some(reason) = self.sortie.early.clone() else { return Ok(()) };
        match now.mode {
            Some(FlightMode::Auto | FlightMode::Guided) => self.go_home(&reason).await,
            Some(FlightMode::Hold) => {
                // As if it had been ordered just now: it may be making up its mind.
                (self.returned, self.ordered_home) = (true, Some(Instant::now()));
                self.crew.step(self.sortie, State::Returning, &reason).await
            }
            // A pilot's hand.
            _ => Ok(()),
        }
    }

    pub async fn run(mut self, reins: &mut Reins) -> Result<(), FlightError> {
        let mut tick = interval(Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut orders_open = true;
        loop {
            tokio::select! {
                Some(shot) = self.shots.recv() => {
                    self.keep(shot).await;
                    continue;
                }
                told = reins.orders.recv(), if orders_open => {
                    match told {
                        Some(told) => self.obey(told).await?,
                        None => orders_open = false,
                    }
                    continue;
                }
                _ = tick.tick() => {}
            }
            let now = latest(&self.crew.vehicle.telemetry());
            self.was_up |=
                now.linked && matches!(now.landed, LandedState::InAir | LandedState::TakingOff | LandedState::Landing);
            self.look(&now, &reins.cancel).await?;
            self.note_phase(&now).await?;
            self.insist(&now).await;
            self.keep_dock_open();
            if self.said.elapsed() >= Duration::from_secs(2) {
                self.say(&now).await;
            }
            if self.was_up && now.is_down_and_disarmed() {
                return self.landed().await;
            }
            if !self.was_up && self.began.elapsed() > NEVER_ROSE {
                if now.is_down_and_disarmed() {
                    self.sortie.early = Some("it never left the ground".to_owned());
                    return self.landed().await;
                }
                self.stand_down(&now).await;
            }
            if Instant::now() > self.until && !now.linked {
                self.crew.reap(self.sortie).await;
                return self.crew.step(self.sortie, State::Lost, "the drone is overdue and not heard").await;
            }
        }
    }

    /// What is seen of the flight, and whether it has to turn round.
    async fn look(&mut self, now: &Telemetry, cancel: &CancellationToken) -> Result<(), FlightError> {
        let place = now.position.filter(|p| now.linked && p.received.elapsed() < FRESH).map(|p| (p.at, p.height_m));
        // Also while an order to return is on its way to a drone that has not heard it.
        let under_way = matches!(self.sortie.state, State::Airborne | State::Returning);
        if now.linked && under_way && matches!(now.mode, Some(FlightMode::Auto | FlightMode::Return)) {
            // Turned for home it covers nothing; but PX4 says that it returns in the moment in which its last waypoint lies
            // behind it.
            let flies = |along: &Along| now.mode == Some(FlightMode::Auto) || *along >= self.mission.end();
            // The autopilot says some items twice; what was covered stays covered.
            let along = self.crew.vehicle.along(&self.mission).filter(flies);
            self.sortie.covered = along.filter(|a| self.sortie.covered.is_none_or(|c| *a > c)).or(self.sortie.covered);
        }
        if !matches!(self.sortie.state, State::Airborne | State::Paused | State::Returning) {
            return Ok(());
        }
        let gates = self.crew.gates();
        let facts = self.crew.facts();
        let window_left_s = match &self.sortie.approval {
            Some(reference) => self.crew.window_left_s(reference),
            None => Some(f64::MAX),
        };
        let seen = Seen {
            now: Instant::now(),
            linked: now.linked,
            place,
            battery_pct: now.battery_pct.filter(|_| now.linked),
            drone_s: now.health.boot_s,
            wind_m_s: facts.air.map(|(air, _)| air.wind_m_s),
            gates: &gates,
            window_left_s,
        };
        if self.sortie.state == State::Returning {
            return match self.monitor.homeward(&seen) {
                Some(astray) => self.astray(astray).await,
                None => Ok(()),
            };
        }
        let reason = self.monitor.look(&seen);
        match reason.or_else(|| cancel.is_cancelled().then(|| "called back".to_owned())) {
            Some(reason) => self.go_home(&reason).await,
            None => Ok(()),
        }
    }

    async fn astray(&mut self, astray: Astray) -> Result<(), FlightError> {
        match astray {
            Astray::BlownAway(_) if self.blown_away => Ok(()),
            Astray::BlownAway(reason) => {
                self.blown_away = true;
                tracing::error!(sortie = self.sortie.id, reason, "the drone does not get home");
                self.sortie.reason.clone_from(&reason);
                self.sortie.early.get_or_insert(reason);
                self.crew.record(self.sortie).await
            }
            Astray::Land(reason) => {
                self.sortie.early = Some(reason.clone());
                self.crew.step(self.sortie, State::Landing, &reason).await?;
                self.order_down().await;
                Ok(())
            }
        }
    }

    async fn order_down(&mut self) {
        self.ordered_down = Some(Instant::now());
        if let Err(error) = self.crew.vehicle.land().await {
            tracing::error!(%error, "the drone did not take the order to land");
        }
    }

    async fn go_home(&mut self, reason: &str) -> Result<(), FlightError> {
        // Recorded first: a crash right here must not forget why it turned round.
        self.sortie.early = Some(reason.to_owned());
        self.crew.step(self.sortie, State::Returning, reason).await?;
        self.order_home().await;
        Ok(())
    }

    async fn order_home(&mut self) {
        self.ordered_home = Some(Instant::now());
        if !latest(&self.crew.vehicle.telemetry()).linked {
            if let Err(error) = self.crew.vehicle.return_unheard().await {
                tracing::error!(%error, "the drone cannot even be called");
            }
            return;
        }
        if let Err(error) = self.crew.vehicle.return_home().await {
            tracing::error!(%error, "the drone did not take the order to return; its own failsafes remain");
            // Without a position it cannot find home; it can still come down. Right after a restart nobody knows yet.
            let drone = latest(&self.crew.vehicle.telemetry());
            if drone.gps_fix.is_some()
                && !drone.has_3d_fix()
                && let Err(error) = self.crew.vehicle.land().await
            {
                tracing::error!(%error, "the drone did not take the order to land");
            }
        }
    }

    /// An order that does not show is given again; a pilot's hand is never fought.
    async fn insist(&mut self, now: &Telemetry) {
        self.returned |= now.linked && now.mode == Some(FlightMode::Return);
        if self.returned && now.linked && now.mode == Some(FlightMode::Hold) {
            self.holds.get_or_insert_with(Instant::now);
        } else {
            self.holds = None;
        }
        let decides = self.holds.is_some_and(|at| at.elapsed() < MAKES_UP_ITS_MIND);
        let due = match self.ordered_home {
            Some(at) => at.elapsed() >= AGAIN && !decides,
            // It had turned for home by itself and flies its mission again, over which nobody watches any more.
            None => self.sortie.early.is_some() && now.linked && now.mode == Some(FlightMode::Auto),
        };
        let flies_on =
            !now.linked || matches!(now.mode, Some(FlightMode::Auto | FlightMode::Guided | FlightMode::Hold));
        if self.sortie.state == State::Returning && due && flies_on && !now.is_down_and_disarmed() {
            tracing::warn!(mode = ?now.mode, linked = now.linked, "the drone does not return yet; ordering it again");
            self.order_home().await;
        }
        let due = self.ordered_down.is_some_and(|at| at.elapsed() >= AGAIN);
        let flies_on =
            matches!(now.mode, Some(FlightMode::Auto | FlightMode::Guided | FlightMode::Hold | FlightMode::Return))
                && now.landed != LandedState::Landing;
        if self.sortie.state == State::Landing && due && flies_on && now.linked && !now.is_down_and_disarmed() {
            tracing::warn!(mode = ?now.mode, "the drone does not land yet; ordering it again");
            self.order_down().await;
        }
    }

    /// Armed, and never rose. In the air an autopilot refuses this.
    async fn stand_down(&mut self, now: &Telemetry) {
        let due = self.ordered_off.is_none_or(|at| at.elapsed() >= AGAIN);
        if due && now.linked && now.landed == LandedState::OnGround && now.armed == Some(true) {
            self.ordered_off = Some(Instant::now());
            tracing::warn!("the drone is armed and does not rise; disarming it");
            if let Err(error) = self.crew.vehicle.disarm().await {
                tracing::error!(%error, "the drone does not disarm");
            }
        }
    }

    /// A landing always gets its dock.
    fn keep_dock_open(&mut self) {
        let comes_home = matches!(self.sortie.state, State::Returning | State::Landing);
        let hatch = latest(&self.crew.dock.state()).hatch;
        let asked_lately = self.dock_asked.is_some_and(|at| at.elapsed() < Duration::from_secs(30));
        if comes_home && matches!(hatch, Hatch::Closed | Hatch::Closing) && !asked_lately {
            self.dock_asked = Some(Instant::now());
            let dock = self.crew.dock.clone();
            tokio::spawn(async move {
                tracing::warn!("the drone comes home to a closed dock; opening it");
                if let Err(error) = dock.open().await {
                    tracing::error!(%error, "the dock does not open for the landing");
                }
            });
        }
    }

    async fn obey(&mut self, told: Told) -> Result<(), FlightError> {
        let Told { order, by, reply } = told;
        let answer = match (order, self.sortie.state) {
            (Order::Pause, State::Airborne) => {
                self.crew.step(self.sortie, State::Paused, &format!("paused by {by}")).await?;
                let held = self.crew.vehicle.hold().await.map_err(|error| error.to_string());
                if let Err(error) = &held {
                    self.crew.step(self.sortie, State::Airborne, &format!("not paused: {error}")).await?;
                }
                held
            }
            (Order::Resume, State::Paused) => {
                // Who works at the dock must not find the drone on its way again; home it may always come.
                if let Some(held) = latest(&self.crew.holds).words() {
                    let _ = reply.send(Err(format!("{held}; lift that first, or call the drone home")));
                    return Ok(());
                }
                self.crew.step(self.sortie, State::Airborne, &format!("resumed by {by}")).await?;
                let gone_on = self.crew.vehicle.start_mission().await.map_err(|error| error.to_string());
                if let Err(error) = &gone_on {
                    self.crew.step(self.sortie, State::Paused, &format!("not resumed: {error}")).await?;
                }
                gone_on
            }
            (Order::Return, State::Airborne | State::Paused) => {
                self.go_home(&format!("called back by {by}")).await?;
                Ok(())
            }
            (Order::Return, State::Returning | State::Landing) => Ok(()),
            (order, state) => Err(format!("the sortie is {state:?}: {order:?} does not apply")),
        };
        // Who gave the order may have gone.
        let _ = reply.send(answer);
        Ok(())
    }

    /// Follows what the drone does by itself: its mission's end, a failsafe, a pilot's hand.
    async fn note_phase(&mut self, now: &Telemetry) -> Result<(), FlightError> {
        if !now.linked {
            return Ok(());
        }
        let landing =
            now.landed == LandedState::Landing || now.mode == Some(FlightMode::Land) || now.is_down_and_disarmed();
        if now.mode != Some(FlightMode::Return) {
            self.turned = None;
        }
        let step = match self.sortie.state {
            // PX4 does that when it hears the station again before its failsafe has made up its mind.
            State::Paused if now.mode == Some(FlightMode::Auto) => {
                (State::Airborne, "the drone flies on of its own accord".to_owned())
            }
            State::Airborne | State::Paused if now.mode == Some(FlightMode::Return) => {
                let turned = *self.turned.get_or_insert_with(Instant::now);
                if !self.flown_whole() && turned.elapsed() < LATE_ITEM {
                    return Ok(());
                }
                (State::Returning, self.of_its_own(now, "returns"))
            }
            // An autopilot that flies home by its mission's last item does not change its mode for that.
            State::Airborne
                if now.mode == Some(FlightMode::Auto) && !self.mission.waypoints.is_empty() && self.flown_whole() =>
            {
                (State::Returning, "flown to its end".to_owned())
            }
            State::Airborne | State::Paused if landing && self.was_up => {
                (State::Landing, self.of_its_own(now, "lands"))
            }
            State::Returning if landing && self.was_up => (State::Landing, "landing".to_owned()),
            _ => return Ok(()),
        };
        self.crew.step(self.sortie, step.0, &step.1).await
    }

    /// The words for what the drone does unasked. Before the end of its way it is a failsafe or a pilot's hand, and the
    /// sortie was not flown to its end.
    fn of_its_own(&mut self, now: &Telemetry, does: &str) -> String {
        if self.flown_whole() {
            return format!("the drone {does}");
        }
        const WARNING: u8 = 4;
        let lately = |text: &&crate::vehicle::Text| text.severity <= WARNING && text.received.elapsed().as_secs() < 20;
        let said = now.texts.iter().rev().find(lately).map(|text| format!(": {}", text.text)).unwrap_or_default();
        let words = format!("the drone {does} of its own accord{said}");
        self.sortie.early.get_or_insert_with(|| words.clone());
        words
    }

    fn flown_whole(&self) -> bool {
        // A flight that is only followed has no end that could be missed.
        self.mission.waypoints.is_empty() || self.sortie.covered.is_some_and(|along| self.mission.share(along) > 0.999)
    }

    async fn say(&mut self, now: &Telemetry) {
        self.said = Instant::now();
        let harvest = latest(&self.crew.keeper.harvest());
        self.sortie.reap(&harvest);
        self.sortie.progress = match self.sortie.state {
            State::Airborne | State::Paused => {
                let share = self.sortie.covered.map_or(0.0, |along| self.mission.share(along));
                (share * 0.95).max(self.sortie.progress)
            }
            State::Returning | State::Landing if self.sortie.early.is_none() => 0.95,
            _ => self.sortie.progress,
        };
        tracing::debug!(mode = ?now.mode, progress = self.sortie.progress, "under way");
        self.crew.current.send_replace(Some(self.sortie.clone()));
        // What a restart needs to go on from; its event goes out with the next step.
        if let Err(error) = self.crew.store.put(Table::Sorties, &self.sortie.id, &*self.sortie).await {
            tracing::error!(%error, "the sortie's progress could not be stored");
        }
    }

    async fn keep(&self, shot: Shot) {
        let Shot { index, taken_at, file, pose } = shot;
        if let Err(error) = self.crew.keeper.picture(Picture { index, file, taken_at, pose }).await {
            tracing::error!(%error, "a picture is not looked at");
        }
    }

    /// Waits for the pictures that the camera has and we have not, where it can tell.
    async fn gather(&mut self) {
        let mut telemetry = self.crew.vehicle.telemetry();
        if telemetry.borrow().pictures.is_none() {
            return;
        }
        let whole = async {
            loop {
                tokio::select! {
                    // What has come is kept before the waiting ends.
                    biased;
                    shot = self.shots.recv() => match shot {
                        Some(shot) => self.keep(shot).await,
                        None => return,
                    },
                    () = complete(&mut telemetry) => return,
                }
            }
        };
        if timeout(LATE_PICTURES, whole).await.is_err() {
            tracing::warn!(missing = ?latest(&self.crew.vehicle.telemetry()).pictures_missing, "pictures were not told of");
        }
    }

    async fn landed(mut self) -> Result<(), FlightError> {
        let whole = self.flown_whole();
        let crew = self.crew;
        if matches!(self.sortie.state, State::Airborne | State::Paused | State::Returning) {
            crew.step(self.sortie, State::Landing, "on the ground").await?;
        }
        if !crew.drone_is_in_dock().await {
            self.gather().await;
            crew.reap(self.sortie).await;
            let mut away = "it landed, but the dock does not see it; the dock stays open".to_owned();
            if let Some(why) = &self.sortie.early {
                away = format!("{away}; before that: {why}");
            }
            return crew.step(self.sortie, State::LandedAway, &away).await;
        }
        crew.step(self.sortie, State::DockClosing, "landed, disarmed and in the dock").await?;
        // The dock closes while the last pictures still come in and are looked at.
        let harvested = async {
            self.gather().await;
            crew.reap(self.sortie).await;
        };
        let (closed, ()) = tokio::join!(crew.dock.close(true), harvested);
        let sortie = self.sortie;
        let (end, mut reason) = match sortie.early.clone() {
            None => (State::Done, "flown to its end".to_owned()),
            Some(reason) if whole => (State::Done, format!("flown to its end; on the way home: {reason}")),
            Some(reason) => (State::Aborted, reason),
        };
        if let Err(error) = closed {
            tracing::error!(%error, "the dock stays open");
            reason = format!("{reason}; {error}");
        }
        if end == State::Done {
            sortie.progress = 1.0;
        }
        crew.step(sortie, end, &reason).await
    }
}

async fn complete(telemetry: &mut watch::Receiver<Telemetry>) {
    // An error means that the vehicle's task has stopped: nothing comes any more.
    let _ = telemetry.wait_for(|t| t.pictures_missing == Some(0)).await;
}
