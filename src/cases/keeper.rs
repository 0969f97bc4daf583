//! The task between the camera and the outbox: hands each picture to perception with its pose, keeps the book of what
//! comes back, and accepts every event into the outbox before anything else hears of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::book::{Best, Book, Case, Finding, Sighted, View};
use super::event::{self, Division};
use super::kinds::{Kind, Kinds};
use super::place::place;
use super::verdict::{Peace, Verdict, VerdictRefused};
use crate::geo::terrain::{On, Terrain};
use crate::geo::{LatLon, Pose};
use crate::outbox::{Class, Outbox, OutboxError, Payload, Record};
use crate::perception::ledger::{self, Ledger, Rules, Survey};
use crate::perception::protocol::{CameraModel, Look, Mark};
use crate::perception::quality::Unusable;
use crate::perception::supervise::Looked;
use crate::perception::{Perception, PerceptionState};
use crate::runtime::latest;
use crate::runtime::store::{Store, StoreError, Table};
use crate::uplink::cloudevents;

/// Looks still under way when a sortie has landed are waited for so long.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// A child that fails over a picture, and the next one that does it, take less.
const ANNOTATE_LIMIT: Duration = Duration::from_secs(90);
/// No single thing that the keeper does takes longer.
pub const LONGEST_TASK: Duration = Duration::from_secs(150);
/// How often an idle keeper shows that it turns.
const IDLE_TURN: Duration = Duration::from_secs(5);
/// Freed, on a full disk, for the row of a case.
const ROOM_FOR_A_CASE: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the case keeper has stopped")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

pub struct Options {
    pub station: String,
    pub kinds: Kinds,
    pub division: Division,
    pub camera: CameraModel,
    /// Width of a picture over its height.
    pub aspect: f64,
    /// How often ground is looked at.
    pub rules: Rules,
    /// Where the camera's pictures arrive.
    pub media_dir: PathBuf,
    pub peace: Peace,
    /// The ground that things are placed on; flat at take-off height when none.
    pub terrain: Option<Arc<Terrain>>,
}

/// One picture, as the drone told of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Picture {
    /// The camera's number of it.
    pub index: u32,
    pub file: String,
    pub taken_at: Timestamp,
    pub pose: Pose,
}

/// What a sortie brought home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Harvest {
    /// Pictures that were looked at.
    pub frames: u64,
    /// Pictures that could not be.
    pub lost: u64,
    pub opened: u64,
    pub seen_again: u64,
    /// Sightings of buildings that the register permits.
    pub permitted: u64,
    /// Sightings placed on flat ground because the terrain model has a gap there, or ends before it.
    pub off_terrain: u64,
    /// How much of the patrol's area was seen, and how well.
    pub survey: Survey,
}

impl Harvest {
    /// Whether no picture stands in it. How often ground was to be looked at is no harvest.
    pub fn is_empty(&self) -> bool {
        let survey = Survey { looks: self.survey.looks, ..Survey::default() };
        *self == Harvest { survey, ..Harvest::default() }
    }
}

#[derive(Clone)]
pub struct CaseKeeper {
    requests: mpsc::Sender<Request>,
    cases: watch::Receiver<Arc<Vec<Case>>>,
    harvest: watch::Receiver<Harvest>,
    alive: watch::Receiver<Instant>,
}

enum Request {
    Begin {
        sortie: String,
        area: Vec<LatLon>,
        shown: f64,
        reply: oneshot::Sender<Option<u32>>,
    },
    Picture(Picture),
    Finish {
        reply: oneshot::Sender<Harvest>,
    },
    Verdict {
        case: String,
        verdict: Verdict,
        /// For which the speaker may speak; all when none.
        departments: Option<Vec<String>>,
        reply: oneshot::Sender<Result<u64, VerdictRefused>>,
    },
}

impl CaseKeeper {
    /// Opens the sortie's book. What a crash had interrupted is taken up: the pictures told of so far are looked at
    /// again, and the number of the last one comes back. `shown`: how many pictures are to show each patch of ground.
    pub async fn begin(&self, sortie: String, area: Vec<LatLon>, shown: f64) -> Result<Option<u32>, KeeperError> {
        let (reply, last) = oneshot::channel();
        self.send(Request::Begin { sortie, area, shown, reply }).await?;
        last.await.map_err(|_| KeeperError::Gone)
    }

    pub async fn picture(&self, picture: Picture) -> Result<(), KeeperError> {
        self.send(Request::Picture(picture)).await
    }

    /// Waits for the looks under way, then closes the sortie's book.
    pub async fn finish(&self) -> Result<Harvest, KeeperError> {
        let (reply, harvest) = oneshot::channel();
        self.send(Request::Finish { reply }).await?;
        harvest.await.map_err(|_| KeeperError::Gone)
    }

    /// Takes a person's word on a case. Returns the sequence of the event that says it, once that is on its way.
    pub async fn verdict(
        &self,
        case: String,
        verdict: Verdict,
        departments: Option<Vec<String>>,
    ) -> Result<u64, VerdictRefused> {
        let gone = || VerdictRefused::Failed(KeeperError::Gone.to_string());
        let (reply, answer) = oneshot::channel();
        self.send(Request::Verdict { case, verdict, departments, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub fn cases(&self) -> watch::Receiver<Arc<Vec<Case>>> {
        self.cases.clone()
    }

    /// Of the sortie under way, as far as it is known.
    pub fn harvest(&self) -> watch::Receiver<Harvest> {
        self.harvest.clone()
    }

    /// When it last finished something, or looked whether there is anything to do. What it does takes
    /// [`LONGEST_TASK`] at most.
    pub fn last_turn(&self) -> Instant {
        latest(&self.alive)
    }

    async fn send(&self, request: Request) -> Result<(), KeeperError> {
        self.requests.send(request).await.map_err(|_| KeeperError::Gone)
    }
}

#[cfg(test)]
impl CaseKeeper {
    /// Looks at nothing: for tests of what goes on around it.
    pub(crate) fn idle() -> CaseKeeper {
        Self::bringing(Harvest::default())
    }

    /// Likewise, and says this when a book is closed.
    pub(crate) fn bringing(harvested: Harvest) -> CaseKeeper {
        let (requests, mut inbox) = mpsc::channel(256);
        let (cases_out, cases) = watch::channel(Arc::default());
        let (harvest_out, harvest) = watch::channel(Harvest::default());
        let (alive_out, alive) = watch::channel(Instant::now());
        tokio::spawn(async move {
            while let Some(request) = inbox.recv().await {
                match request {
                    Request::Begin { reply, .. } => drop(reply.send(None)),
                    Request::Finish { reply } => drop(reply.send(harvested)),
                    Request::Picture(_) | Request::Verdict { .. } => {}
                }
            }
            drop((cases_out, harvest_out, alive_out));
        });
        CaseKeeper { requests, cases, harvest, alive }
    }
}

/// Loads the known cases, makes again the events that a crash may have kept from the outbox, and starts the task.
pub async fn spawn(
    options: Options,
    register: super::Register,
    store: Store,
    outbox: Outbox,
    perception: Perception,
    looked: mpsc::Receiver<Looked>,
    cancel: CancellationToken,
) -> Result<CaseKeeper, KeeperError> {
    let mut cases: Vec<Case> = store.newest(Table::Cases, 100_000).await?;
    cases.reverse();
    // What is in the outbox already is passed over there. A picture that is gone can no longer be owed.
    let owed = cases.iter().flat_map(|case| {
        let pictures = case.evidence.iter().filter(|digest| outbox.picture_path(digest).is_file());
        record_of(case, None).into_iter().chain(pictures.map(|digest| evidence_record(digest, None)))
    });
    let owed = owed.collect();
    outbox.accept(owed).await?;
    // A picture is announced once a second or two; the queue only bridges a slow disk.
    let (requests, inbox) = mpsc::channel(256);
    let (cases_out, cases_in) = watch::channel(Arc::new(cases.clone()));
    let (harvest_out, harvest_in) = watch::channel(Harvest::default());
    let (alive, heard_alive) = watch::channel(Instant::now());
    let task = Task {
        book: Book::new(cases, register).with_peace(options.peace),
        options,
        store,
        outbox,
        model: perception.state(),
        perception,
        files: HashMap::new(),
        under_way: 0,
        frame: 0,
        ledger: Ledger::new(&[], Rules::default()),
        held: HashMap::new(),
        harvest: Harvest::default(),
        sortie: None,
        cases: cases_out,
        harvest_out,
        alive,
    };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = task.run(inbox, looked) => {}
        }
    });
    Ok(CaseKeeper { requests, cases: cases_in, harvest: harvest_in, alive: heard_alive })
}

struct Task {
    options: Options,
    book: Book,
    store: Store,
    outbox: Outbox,
    perception: Perception,
    model: watch::Receiver<PerceptionState>,
    /// The picture of each frame of this sortie.
    files: HashMap<u64, PathBuf>,
    under_way: usize,
    /// Counts up over all sorties, so that a late answer is never taken for another sortie's.
    frame: u64,
    ledger: Ledger,
    /// Looks that the ledger holds back.
    held: HashMap<u64, Look>,
    harvest: Harvest,
    /// Under way.
    sortie: Option<String>,
    cases: watch::Sender<Arc<Vec<Case>>>,
    harvest_out: watch::Sender<Harvest>,
    alive: watch::Sender<Instant>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>, mut looked: mpsc::Receiver<Looked>) {
        let mut tick = interval(IDLE_TURN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.alive.send_replace(Instant::now());
            tokio::select! {
                _ = tick.tick() => {}
                request = inbox.recv() => match request {
                    None => return,
                    Some(Request::Begin { sortie, area, shown, reply }) => {
                        // As below: who asked may be gone.
                        let _ = reply.send(self.begin(&sortie, &area, shown).await);
                    }
                    Some(Request::Picture(picture)) => self.picture(picture).await,
                    Some(Request::Finish { reply }) => {
                        let harvest = self.finish(&mut looked).await;
                        // The sortie's task may be gone; its records are in the outbox all the same.
                        let _ = reply.send(harvest);
                    }
                    Some(Request::Verdict { case, verdict, departments, reply }) => {
                        let taken = self.verdict(&case, verdict, departments.as_deref()).await;
                        // Who asked may have gone; the word stands.
                        let _ = reply.send(taken);
                    }
                },
                outcome = looked.recv() => match outcome {
                    None => return,
                    Some(outcome) => self.outcome(outcome).await,
                },
            }
        }
    }

    async fn begin(&mut self, sortie: &str, area: &[LatLon], shown: f64) -> Option<u32> {
        self.book.begin(sortie);
        self.files.clear();
        self.under_way = 0;
        self.ledger = Ledger::new(area, self.options.rules.for_flight(shown));
        self.held.clear();
        self.harvest = Harvest::default();
        self.sortie = Some(sortie.to_owned());
        let before = self.told_before(sortie).await.unwrap_or_else(|error| {
            tracing::error!(%error, sortie, "the pictures of before a crash cannot be looked at again");
            Vec::new()
        });
        let last = before.iter().map(|picture| picture.index).max();
        for picture in before {
            if let Some(file) = self.path(&picture) {
                self.offer(picture, file);
            }
        }
        self.harvest_out.send_replace(self.harvest);
        last
    }

    async fn told_before(&self, sortie: &str) -> Result<Vec<Picture>, StoreError> {
        self.store.keep_only(Table::Pictures, sortie).await?;
        self.store.beginning(Table::Pictures, sortie).await
    }

    async fn picture(&mut self, picture: Picture) {
        let Some(sortie) = &self.sortie else {
            tracing::info!(file = picture.file, "a picture outside any sortie is not looked at");
            return;
        };
        let Some(file) = self.path(&picture) else { return };
        // After a crash the camera says again what it said before.
        if self.files.values().any(|known| *known == file) {
            return;
        }
        // Remembered before it is looked at. If that fails it is looked at all the same.
        let key = format!("{sortie}/{:020}/{}", picture.taken_at.as_microsecond(), picture.file);
        if let Err(error) = self.store.put(Table::Pictures, &key, &picture).await {
            tracing::error!(%error, "a crash would forget this picture");
        }
        self.offer(picture, file);
        self.harvest_out.send_replace(self.harvest);
    }

    /// The name comes from the drone: only its last part is taken, so that it cannot point elsewhere.
    fn path(&self, picture: &Picture) -> Option<PathBuf> {
        Some(self.options.media_dir.join(Path::new(&picture.file).file_name()?))
    }

    /// Looks at a picture, or holds it back, as the ledger says.
    fn offer(&mut self, picture: Picture, file: PathBuf) {
        self.frame += 1;
        let frame = self.frame;
        self.files.insert(frame, file.clone());
        let camera = self.options.camera;
        // Who looks at it takes the ground for flat: as high as it is below the camera.
        let pose = self.options.terrain.as_ref().map_or(picture.pose, |terrain| terrain.over_ground(&picture.pose));
        let look = Look { frame, file, taken_at: picture.taken_at, pose, camera };
        let verdict = self.ledger.offer(frame, self.nominal(&look));
        self.held.insert(frame, look);
        if verdict == ledger::Verdict::Look {
            self.look(frame);
        }
        self.harvest.survey = self.ledger.survey();
    }

    /// The view of a picture whose size is not known yet.
    fn nominal(&self, look: &Look) -> View {
        const WIDTH: u32 = 4000;
        let height = (f64::from(WIDTH) / self.options.aspect).round() as u32;
        View { camera: look.camera.camera(WIDTH, height), pose: look.pose }
    }

    fn look(&mut self, frame: u64) {
        let Some(look) = self.held.remove(&frame) else { return };
        let view = self.nominal(&look);
        match self.perception.look(look) {
            Ok(()) => {
                self.under_way += 1;
                self.book.expect(frame, view);
            }
            Err(error) => {
                tracing::warn!(%error, "a picture is not looked at");
                self.harvest.lost += 1;
                self.ledger.failed(frame);
            }
        }
    }

    /// What a picture did not give, one beside it may.
    fn look_instead(&mut self) {
        let worth = self.ledger.rules().worth;
        while let Some(frame) = self.ledger.next_held(worth) {
            self.look(frame);
        }
    }

    async fn outcome(&mut self, outcome: Looked) {
        let frame = outcome.look().frame;
        if !self.files.contains_key(&frame) {
            tracing::warn!("a look of an earlier sortie came back after its book was closed");
            return;
        }
        self.under_way = self.under_way.saturating_sub(1);
        self.book.answered(frame);
        match outcome {
            Looked::Lost { .. } => {
                self.harvest.lost += 1;
                self.ledger.failed(frame);
                self.look_instead();
            }
            Looked::Skipped { why, .. } => {
                match why {
                    Unusable::Blurred => self.ledger.blurred(frame),
                    Unusable::BadlyExposed => self.ledger.badly_exposed(frame),
                }
                self.look_instead();
            }
            Looked::Seen { look, frame: seen } => {
                self.harvest.frames += 1;
                let camera = look.camera.camera(seen.width_px, seen.height_px);
                self.ledger.looked(frame, camera, seen.sharpness);
                let view = View { camera, pose: look.pose };
                let terrain = self.options.terrain.as_deref();
                let sightings = seen
                    .sightings
                    .into_iter()
                    .filter_map(|s| {
                        let kind = Kind::of_class(&s.class)?;
                        let (located, stance, on) = place(terrain, &s, &view)?;
                        self.harvest.off_terrain += u64::from(terrain.is_some() && on == On::Flat);
                        Some(Sighted {
                            kind,
                            score: s.score,
                            threshold: s.threshold,
                            located,
                            stance,
                            at_edge: s.at_edge,
                            experimental: s.experimental,
                            frame,
                            bbox: s.bbox,
                            taken_at: look.taken_at,
                        })
                    })
                    .collect();
                let findings = self.book.frame(view, sightings, Ulid::generate);
                self.tell(findings).await;
                for (at, looks) in self.book.doubts() {
                    for frame in self.ledger.ask(at, looks) {
                        self.look(frame);
                    }
                }
            }
        }
        self.harvest.survey = self.ledger.survey();
        self.harvest_out.send_replace(self.harvest);
    }

    async fn finish(&mut self, looked: &mut mpsc::Receiver<Looked>) -> Harvest {
        let until = Instant::now() + DRAIN_LIMIT;
        loop {
            self.alive.send_replace(Instant::now());
            // What the pictures looked at so far have left open is filled from those held back, best first.
            if self.under_way == 0 {
                let least = self.ledger.rules().least;
                match self.ledger.next_held(least) {
                    Some(frame) => self.look(frame),
                    None => break,
                }
            }
            if self.under_way == 0 {
                continue;
            }
            match timeout_at(until, looked.recv()).await {
                Ok(Some(outcome)) => self.outcome(outcome).await,
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(under_way = self.under_way, "looks did not come back in time; closing the book");
                    self.harvest.lost += self.under_way as u64;
                    break;
                }
            }
        }
        self.harvest.survey = self.ledger.survey();
        let findings = self.book.finish(Ulid::generate);
        self.tell(findings).await;
        self.harvest.permitted = self.book.permitted;
        if self.harvest.off_terrain > 0 {
            tracing::warn!(
                sightings = self.harvest.off_terrain,
                "the terrain model (terrain.model) has gaps or ends where things were seen: they were placed on flat ground, with wider ellipses"
            );
        }
        self.sortie = None;
        self.files.clear();
        self.held.clear();
        // The book is closed: nothing is left to be looked at again.
        if let Err(error) = self.store.keep_only(Table::Pictures, "none").await {
            tracing::warn!(%error, "the list of looked-at pictures could not be emptied");
        }
        self.harvest_out.send_replace(self.harvest);
        self.harvest
    }

    async fn tell(&mut self, findings: Vec<Finding>) {
        for finding in findings {
            self.alive.send_replace(Instant::now());
            let (index, best, show) = match finding {
                Finding::Opened { case, best } | Finding::SeenAgain { case, best } => (case, best, true),
                Finding::Refined { case, best } => (case, best, false),
            };
            if let Err(error) = self.tell_one(index, &best, show).await {
                // The row, if it was written, makes the event again at the next start; nothing else can be done here.
                tracing::error!(%error, "a case event could not be accepted");
            }
        }
        (self.harvest.opened, self.harvest.seen_again) = self.book.told();
        self.cases.send_replace(Arc::new(self.book.cases().to_vec()));
    }

    async fn verdict(
        &mut self,
        id: &str,
        verdict: Verdict,
        departments: Option<&[String]>,
    ) -> Result<u64, VerdictRefused> {
        let case = self.book.cases().iter().find(|case| case.id == id);
        let before = case.cloned().ok_or_else(|| VerdictRefused::UnknownCase(id.to_owned()))?;
        let department = self.options.kinds.of(before.kind).department;
        if departments.is_some_and(|may| !may.contains(&department)) {
            return Err(VerdictRefused::Department { case: before.id, department });
        }
        let Some(index) = self.book.judge(id, verdict) else { return Err(VerdictRefused::UnknownCase(before.id)) };
        if let Err(error) = self.say(index, None, None).await {
            // Not on the disk, so not said.
            if let Some(case) = self.book.case_mut(index) {
                *case = before;
            }
            return Err(VerdictRefused::Failed(error.to_string()));
        }
        self.cases.send_replace(Arc::new(self.book.cases().to_vec()));
        Ok(self.book.case(index).map_or(0, |case| case.sequence))
    }

    /// Evidence, then the case's row, then the outbox: a crash between any two loses nothing, see [`spawn`].
    async fn tell_one(&mut self, index: usize, best: &Best, show: bool) -> Result<(), KeeperError> {
        let picture = if show { self.evidence(index, best).await } else { None };
        let picture = picture.map(|digest| evidence_record(&digest, Some(best.taken_at)));
        // A refined position tells nothing new, so it counts for no latency.
        self.say(index, picture, show.then_some(best.newest)).await
    }

    async fn say(
        &mut self,
        index: usize,
        picture: Option<Record>,
        captured_at: Option<Timestamp>,
    ) -> Result<(), KeeperError> {
        let Some(before) = self.book.case(index).cloned() else { return Ok(()) };
        // The model that found it; a verdict comes from no model.
        let told = before.event.as_ref().map(|event| event["data"]["properties"]["model"].clone());
        let told = told.and_then(|model| serde_json::from_value(model).ok());
        let running = self.model.borrow().model.clone();
        let model = if captured_at.is_none() { told.or(running) } else { running };
        let mut case = before.clone();
        case.sequence += 1;
        if let Some(Payload::File(digest)) = picture.as_ref().map(|record| &record.payload) {
            case.evidence.push(digest.clone());
        }
        let feature = event::feature(&case, &self.options.kinds, &self.options.division, model.as_ref());
        let event = cloudevents::case_event(&self.options.station, &case.id, case.sequence, Timestamp::now(), feature);
        case.event = Some(event);
        if let Err(error) = self.store.put(Table::Cases, &case.id, &case).await {
            // The likeliest cause is a full disk, and the outbox knows what may go.
            tracing::warn!(%error, case = case.id, "a case could not be stored; making room for it");
            self.outbox.make_room(ROOM_FOR_A_CASE).await?;
            self.store.put(Table::Cases, &case.id, &case).await?;
        }
        // Counted only now: what was not stored is told the next time, without a gap.
        if let Some(known) = self.book.case_mut(index) {
            *known = case.clone();
        }
        let mut records: Vec<Record> = record_of(&case, captured_at).into_iter().collect();
        records.extend(picture);
        self.outbox.accept(records).await?;
        tracing::info!(case = case.id, kind = case.kind.name(), sequence = case.sequence, "case event accepted");
        Ok(())
    }

    /// The best look as an annotated picture in the store; a case without one is still a case.
    async fn evidence(&self, index: usize, best: &Best) -> Option<String> {
        let (case, file) = (self.book.case(index)?, self.files.get(&best.frame)?);
        let mark = Mark { bbox: best.bbox, label: format!("{} {:.0}%", case.kind.name(), best.score * 100.0) };
        // A perception that does not come back must not keep a case from being told.
        match timeout(ANNOTATE_LIMIT, self.perception.annotate(file.clone(), vec![mark])).await {
            Ok(Ok(jpeg)) => match self.outbox.store_picture(&jpeg).await {
                Ok(digest) => Some(digest),
                Err(error) => {
                    tracing::warn!(%error, case = case.id, "the evidence picture could not be stored");
                    None
                }
            },
            Ok(Err(error)) => {
                tracing::warn!(%error, case = case.id, "no evidence picture could be made");
                None
            }
            Err(_) => {
                tracing::warn!(limit = ?ANNOTATE_LIMIT, case = case.id, "no evidence picture was made in time");
                None
            }
        }
    }
}

fn evidence_record(digest: &str, captured_at: Option<Timestamp>) -> Record {
    Record {
        id: format!("evidence/{digest}"),
        class: Class::Evidence,
        key: String::new(),
        topic: format!("evidence/{digest}"),
        content_type: "image/jpeg".to_owned(),
        payload: Payload::File(digest.to_owned()),
        captured_at,
    }
}

/// The newest event of a case as the outbox takes it.
fn record_of(case: &Case, captured_at: Option<Timestamp>) -> Option<Record> {
    let event = case.event.as_ref()?;
    Some(Record {
        id: event["id"].as_str()?.to_owned(),
        class: Class::Case,
        key: case.id.clone(),
        topic: format!("case/{}", case.id),
        content_type: "application/cloudevents+json".to_owned(),
        payload: Payload::Bytes(event.to_string().into_bytes()),
        captured_at,
    })
}
