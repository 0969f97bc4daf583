//! Pure: which ground was looked at how often and how well, and so which pictures are worth looking at. No clock, no I/O.
//!
//! The ground is a grid of cells. A picture is taken when it adds enough to cells that want more looks; otherwise it is
//! held back. What the taken ones left open is filled from those held back, the one that adds most first. A place where
//! something was seen that nobody can be sure of yet is *asked for*: every picture that shows it well is then taken.
//!
//! Invariants kept here:
//! - once [`Ledger::next_held`] has nothing more to give, every cell has its demanded looks, or as many as usable pictures
//!   showed it, but for what no single picture adds enough of ([`Rules::least`]);
//! - a look counts once it has come back: one that failed is as if the picture had never been taken;
//! - ground outside the area never makes a picture worth a look.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::geo::{self, Camera, LatLon, LocalFrame, Pose};

/// How often, and how well, ground is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Each patch of ground is looked at so often, where pictures allow.
    pub looks: u8,
    /// A picture is taken at once when it adds this share of what a first look at all of its ground would.
    pub worth: f64,
    /// A picture that adds less than this share is never looked at.
    pub least: f64,
    /// Ground shown more coarsely than this, metres a pixel across the line of sight, is not examined.
    pub coarsest_gsd_m: f64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { looks: 2, worth: 0.7, least: 0.02, coarsest_gsd_m: 0.3 }
    }
}

impl Rules {
    /// For a flight whose pictures show each patch of ground so many times. Holding back pays only where that is much more
    /// than is demanded; elsewhere nearly every picture is needed, and what is needed is looked at when it comes: an alert
    /// from a picture that was held back is as late as that look.
    pub fn for_flight(self, shown: f64) -> Rules {
        let well_inside = shown * (1.0 - 2.0 * RIM).powi(2);
        if well_inside >= 2.5 * f64::from(self.looks) { self } else { Rules { worth: 0.05, ..self } }
    }
}

/// Side of a cell: below the smallest thing that is looked for at its usual uncertainty, above where counting costs.
const CELL_M: f64 = 4.0;
/// Ground farther than this from the camera, times its height, is seen too flatly to be examined: 65° off nadir.
const FLATTEST: f64 = 2.4;
/// The rim of the picture, as a share of its sides: a thing there is cut or leans out of it.
const RIM: f64 = 0.08;
/// Pictures that may be held back at once: some four hours at one in four seconds.
const HELD: usize = 4096;
/// Places asked for nearer than this are one.
const SAME_ASK_M: f64 = 4.0;

/// Where a picture was taken from: says what it shows.
#[derive(Debug, Clone, Copy)]
pub struct View {
    pub camera: Camera,
    pub pose: Pose,
}

impl View {
    /// Whether a place on the ground falls well inside the picture.
    pub fn shows(&self, at: LatLon) -> bool {
        self.pixel(at).is_some_and(|pixel| self.well_inside(pixel))
    }

    fn pixel(&self, at: LatLon) -> Option<[f64; 2]> {
        geo::project_ground(&self.camera, &self.pose, at, 0.0)
    }

    fn well_inside(&self, [x, y]: [f64; 2]) -> bool {
        let (width, height) = (f64::from(self.camera.width_px), f64::from(self.camera.height_px));
        x > RIM * width && x < (1.0 - RIM) * width && y > RIM * height && y < (1.0 - RIM) * height
    }
}

/// What is to be done with a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Look,
    /// It adds little to what was seen; it may be called for later.
    Hold,
    /// It shows nothing of the area, or no ground at all.
    OffTarget,
}

/// Why a picture is off target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OffTarget {
    NotAboveGround,
    NoGround,
    TooCoarse,
    TooLow,
    BesideArea,
}

impl OffTarget {
    pub fn text(self) -> &'static str {
        match self {
            Self::NotAboveGround => "the camera is not above the ground, by its height above take-off",
            Self::NoGround => "they look at the sky, or so flat that no ground in them is near enough",
            Self::TooCoarse => {
                "a pixel covers too much ground to find anything in it: too high, too wide a lens, or too small a picture"
            }
            Self::TooLow => "from so low they show less than a patch of 4 m of the ground",
            Self::BesideArea => "they show ground outside the area only",
        }
    }
}

/// What share of the area was seen, and how well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Survey {
    /// Share of the area that lay in a picture that was looked at, 0 to 1.
    pub seen: f64,
    /// Share that was looked at as often as demanded, well inside the picture.
    pub examined: f64,
    /// How often was demanded.
    pub looks: u8,
    /// Of the best look at each patch, the median: metres a pixel, degrees off the vertical, sharpness 0 to 1.
    pub gsd_m: Option<f64>,
    pub off_nadir_deg: Option<f64>,
    pub sharpness: Option<f64>,
    /// Pictures not looked at: they added nothing, were blurred, too dark or too bright, showed nothing of the area.
    pub redundant: u64,
    pub blurred: u64,
    pub badly_exposed: u64,
    pub off_target: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Lay in a picture that was looked at, if only at its rim.
    seen: bool,
    /// Looks that came back, well inside the picture.
    looks: u8,
    /// Looks under way.
    pending: u8,
    /// Of the best look.
    gsd_m: f32,
    off_nadir_deg: f32,
    sharpness: f32,
}

/// What a picture shows of one cell.
#[derive(Debug, Clone, Copy)]
struct Glimpse {
    cell: (i32, i32),
    /// Well inside the picture, near and steep enough.
    good: bool,
    gsd_m: f32,
    off_nadir_deg: f32,
}

impl Glimpse {
    /// The worth of seeing from here: a look from straight above is the best.
    fn grade(&self) -> f64 {
        f64::from(self.off_nadir_deg).to_radians().cos()
    }
}

/// A picture that was offered.
struct Offered {
    view: View,
    glimpses: Vec<Glimpse>,
    /// What a first look at all that it can show would add.
    full: f64,
}

struct Ask {
    at: LatLon,
    looks: usize,
}

pub struct Ledger {
    rules: Rules,
    frame: Option<LocalFrame>,
    /// The area's ring on the local axes; empty where all ground counts.
    ring: Vec<[f64; 2]>,
    cells: HashMap<(i32, i32), Cell>,
    held: BTreeMap<u64, Offered>,
    pending: BTreeMap<u64, Offered>,
    /// Of the pictures that were looked at.
    looked: Vec<View>,
    asks: Vec<Ask>,
    survey: Survey,
}

impl Ledger {
    /// Of an area; without corners, of whatever ground the pictures show.
    pub fn new(area: &[LatLon], rules: Rules) -> Ledger {
        let frame = area.first().map(|&first| LocalFrame::new(first));
        let ring: Vec<[f64; 2]> = frame.map_or_else(Vec::new, |f| area.iter().map(|&p| f.to_enu(p)).collect());
        let mut ledger = Ledger {
            rules,
            frame,
            ring,
            cells: HashMap::new(),
            held: BTreeMap::new(),
            pending: BTreeMap::new(),
            looked: Vec::new(),
            asks: Vec::new(),
            survey: Survey { looks: rules.looks, ..Survey::default() },
        };
        ledger.fill_area();
        ledger
    }

    /// Every cell of the area, so that what nobody looks at counts too.
    fn fill_area(&mut self) {
        let bound =
            |axis: usize, start: f64, pick: fn(f64, f64) -> f64| self.ring.iter().map(|p| p[axis]).fold(start, pick);
        if self.ring.is_empty() {
            return;
        }
        // A ring of many kilometres is a slip of the pen elsewhere; here it must not take gigabytes.
        let index = |v: f64| (v / CELL_M).floor().clamp(-4000.0, 4000.0) as i32;
        let (east, north) = (index(bound(0, f64::MAX, f64::min)), index(bound(1, f64::MAX, f64::min)));
        let (east_end, north_end) = (index(bound(0, f64::MIN, f64::max)), index(bound(1, f64::MIN, f64::max)));
        for i in east..=east_end {
            for j in north..=north_end {
                if inside(&self.ring, centre((i, j))) {
                    self.cells.insert((i, j), Cell::default());
                }
            }
        }
    }

    /// What to do with a picture. One that is to be looked at counts as under way until [`looked`](Self::looked) or
    /// [`failed`](Self::failed).
    pub fn offer(&mut self, frame: u64, view: View) -> Verdict {
        let offered = self.glimpse(view);
        if offered.full <= 0.0 {
            self.survey.off_target += 1;
            return Verdict::OffTarget;
        }
        if self.is_asked_for(&view) || self.gain(&offered) >= self.rules.worth {
            self.take(frame, offered);
            return Verdict::Look;
        }
        self.held.insert(frame, offered);
        self.survey.redundant += 1;
        if self.held.len() > HELD {
            // The oldest go: what they show has had the longest time to be shown again.
            self.held.pop_first();
        }
        Verdict::Hold
    }

    /// Why a picture that was [`Verdict::OffTarget`] is.
    pub fn why_off_target(&mut self, view: View) -> OffTarget {
        if view.pose.height_m.is_nan() || view.pose.height_m <= 0.0 {
            return OffTarget::NotAboveGround;
        }
        if outline(&view).is_empty() {
            return OffTarget::NoGround;
        }
        let glimpses = self.glimpse(view).glimpses;
        let coarse = |glimpse: &Glimpse| f64::from(glimpse.gsd_m) > self.rules.coarsest_gsd_m;
        match glimpses.as_slice() {
            [] if !self.ring.is_empty() => OffTarget::BesideArea,
            [] => OffTarget::TooLow,
            some if some.iter().all(coarse) => OffTarget::TooCoarse,
            // At their rim or beyond what is near enough.
            _ if self.ring.is_empty() => OffTarget::TooLow,
            _ => OffTarget::BesideArea,
        }
    }

    /// A picture was looked at. `camera` is the picture's own, now that its size is known.
    pub fn looked(&mut self, frame: u64, camera: Camera, sharpness: f32) {
        let Some(offered) = self.release(frame) else { return };
        let view = View { camera, ..offered.view };
        for glimpse in self.glimpse(view).glimpses {
            let Some(cell) = self.cells.get_mut(&glimpse.cell) else { continue };
            cell.seen = true;
            if !glimpse.good {
                continue;
            }
            if cell.looks == 0 || glimpse.off_nadir_deg < cell.off_nadir_deg {
                cell.gsd_m = glimpse.gsd_m;
                cell.off_nadir_deg = glimpse.off_nadir_deg;
            }
            cell.sharpness = cell.sharpness.max(sharpness);
            cell.looks = cell.looks.saturating_add(1);
        }
        self.looked.push(view);
    }

    /// A picture could not be looked at: its ground still wants what it wanted.
    pub fn failed(&mut self, frame: u64) {
        self.release(frame);
    }

    /// A picture that was held back cannot be called for any more.
    pub fn forget(&mut self, frame: u64) {
        self.held.remove(&frame);
    }

    pub fn blurred(&mut self, frame: u64) {
        self.survey.blurred += 1;
        self.release(frame);
    }

    pub fn badly_exposed(&mut self, frame: u64) {
        self.survey.badly_exposed += 1;
        self.release(frame);
    }

    /// A place is to be looked at until `looks` pictures have shown it well. Gives the held-back pictures to look at now;
    /// those that come later are taken when they are offered.
    pub fn ask(&mut self, at: LatLon, looks: usize) -> Vec<u64> {
        match self.asks.iter_mut().find(|ask| ask.at.distance_m(at) <= SAME_ASK_M) {
            Some(ask) => {
                ask.looks = ask.looks.max(looks);
                ask.at = at;
            }
            None => self.asks.push(Ask { at, looks }),
        }
        let mut wanted = looks.saturating_sub(self.shown(at));
        let mut taken = Vec::new();
        while wanted > 0 {
            // The one that has it nearest to its middle.
            let off_centre = |view: &View| {
                let [x, y] = view.pixel(at).filter(|_| view.shows(at))?;
                Some((x - view.camera.cx).hypot(y - view.camera.cy) / view.camera.fx)
            };
            let best = self
                .held
                .iter()
                .filter_map(|(&frame, offered)| Some((frame, off_centre(&offered.view)?)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((frame, _)) = best else { break };
            self.call(frame);
            taken.push(frame);
            wanted -= 1;
        }
        taken
    }

    /// The held-back picture that adds most, if that is at least `least`; it is to be looked at now.
    pub fn next_held(&mut self, least: f64) -> Option<u64> {
        let gains = self.held.iter().map(|(&frame, offered)| (frame, self.gain(offered)));
        let (frame, gain) = gains.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        if gain < least {
            return None;
        }
        self.call(frame);
        Some(frame)
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn survey(&self) -> Survey {
        let total = self.cells.len().max(1) as f64;
        let share = |count: usize| if self.ring.is_empty() { 0.0 } else { (count as f64 / total * 1e4).round() / 1e4 };
        let examined: Vec<&Cell> = self.cells.values().filter(|c| c.looks > 0).collect();
        let median = |pick: fn(&Cell) -> f32| {
            let mut values: Vec<f32> = examined.iter().map(|c| pick(c)).collect();
            values.sort_by(f32::total_cmp);
            // Tenths of a millimetre, of a degree: more digits would only make the record change for nothing.
            values.get(values.len() / 2).map(|v| (f64::from(*v) * 1e4).round() / 1e4)
        };
        Survey {
            seen: share(self.cells.values().filter(|c| c.seen).count()),
            examined: share(self.cells.values().filter(|c| c.looks >= self.rules.looks).count()),
            gsd_m: median(|c| c.gsd_m),
            off_nadir_deg: median(|c| c.off_nadir_deg),
            sharpness: median(|c| c.sharpness),
            ..self.survey
        }
    }

    /// How many pictures, looked at or under way, show a place well.
    fn shown(&self, at: LatLon) -> usize {
        let looked = self.looked.iter().filter(|view| view.shows(at)).count();
        looked + self.pending.values().filter(|offered| offered.view.shows(at)).count()
    }

    fn is_asked_for(&self, view: &View) -> bool {
        self.asks.iter().any(|ask| view.shows(ask.at) && self.shown(ask.at) < ask.looks)
    }

    fn call(&mut self, frame: u64) {
        if let Some(offered) = self.held.remove(&frame) {
            self.survey.redundant = self.survey.redundant.saturating_sub(1);
            self.take(frame, offered);
        }
    }

    fn take(&mut self, frame: u64, offered: Offered) {
        for glimpse in offered.glimpses.iter().filter(|g| g.good) {
            let cell = self.cells.entry(glimpse.cell).or_default();
            cell.pending = cell.pending.saturating_add(1);
        }
        self.pending.insert(frame, offered);
    }

    fn release(&mut self, frame: u64) -> Option<Offered> {
        let offered = self.pending.remove(&frame)?;
        for glimpse in offered.glimpses.iter().filter(|g| g.good) {
            if let Some(cell) = self.cells.get_mut(&glimpse.cell) {
                cell.pending = cell.pending.saturating_sub(1);
            }
        }
        Some(offered)
    }

    /// What a look would add, as a share of what a first look at all its ground would.
    fn gain(&self, offered: &Offered) -> f64 {
        let demanded = f64::from(self.rules.looks.max(1));
        let gain: f64 = offered
            .glimpses
            .iter()
            .map(|glimpse| {
                let cell = self.cells.get(&glimpse.cell).copied().unwrap_or_default();
                let have = cell.looks.saturating_add(cell.pending);
                let missing = f64::from(self.rules.looks.saturating_sub(have)) / demanded;
                match glimpse.good {
                    true => missing * glimpse.grade(),
                    // The rim is better than nothing where nothing else is.
                    false if have == 0 && !cell.seen => 0.25 * glimpse.grade(),
                    false => 0.0,
                }
            })
            .sum();
        gain / offered.full
    }

    fn glimpse(&mut self, view: View) -> Offered {
        let frame = *self.frame.get_or_insert_with(|| LocalFrame::new(view.pose.at));
        let mut glimpses = Vec::new();
        let (mut full, mut all) = (0.0, 0.0);
        let reach = reach(&view);
        let corners: Vec<[f64; 2]> = outline(&view).into_iter().map(|p| frame.to_enu(p)).collect();
        let index = |v: f64| (v / CELL_M).floor() as i32;
        let low = |axis: usize| index(corners.iter().map(|p| p[axis]).fold(f64::MAX, f64::min));
        let high = |axis: usize| index(corners.iter().map(|p| p[axis]).fold(f64::MIN, f64::max));
        if corners.is_empty() {
            return Offered { view, glimpses, full };
        }
        let [camera_e, camera_n] = frame.to_enu(view.pose.at);
        for i in low(0)..=high(0) {
            for j in low(1)..=high(1) {
                let [e, n] = centre((i, j));
                let away = (e - camera_e).hypot(n - camera_n);
                let slant = away.hypot(view.pose.height_m);
                let Some(pixel) = view.pixel(frame.to_latlon(e, n)).filter(|p| view.camera.contains(*p)) else {
                    continue;
                };
                let gsd_m = slant / view.camera.fx;
                let glimpse = Glimpse {
                    cell: (i, j),
                    good: view.well_inside(pixel) && slant <= reach && gsd_m <= self.rules.coarsest_gsd_m,
                    gsd_m: gsd_m as f32,
                    off_nadir_deg: away.atan2(view.pose.height_m).to_degrees() as f32,
                };
                all += glimpse.grade();
                if self.ring.is_empty() || self.cells.contains_key(&(i, j)) {
                    if glimpse.good {
                        full += glimpse.grade();
                    }
                    glimpses.push(glimpse);
                }
            }
        }
        // A picture with a mere corner in the area adds little even when all of that is new.
        let full = if full > 0.0 { full.max(0.25 * all) } else { 0.0 };
        Offered { view, glimpses, full }
    }
}

/// As far as a picture is worth a look.
fn reach(view: &View) -> f64 {
    (view.pose.height_m * (1.0 + FLATTEST * FLATTEST).sqrt()).max(1.0)
}

/// The ground that it shows within that.
fn outline(view: &View) -> Vec<LatLon> {
    geo::footprint(&view.camera, &view.pose, 0.0, reach(view)).unwrap_or_default()
}

fn centre((i, j): (i32, i32)) -> [f64; 2] {
    [(f64::from(i) + 0.5) * CELL_M, (f64::from(j) + 0.5) * CELL_M]
}

/// Even-odd rule.
fn inside(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let mut inside = false;
    for (i, a) in ring.iter().enumerate() {
        let b = ring[(i + ring.len() - 1) % ring.len()];
        if (a[1] > y) != (b[1] > y) && x < (b[0] - a[0]) * (y - a[1]) / (b[1] - a[1]) + a[0] {
            inside = !inside;
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::geo::{Attitude, PoseSigma};

    const HOME: LatLon = LatLon { lat: 23.05, lon: 113.0 };

    fn at(east: f64, north: f64) -> LatLon {
        LocalFrame::new(HOME).to_latlon(east, north)
    }

    /// From 60 m it shows 78 by 58 m.
    fn view(east: f64, north: f64) -> View {
        tilted(east, north, -90.0)
    }

    fn tilted(east: f64, north: f64, pitch_deg: f64) -> View {
        let sigma = PoseSigma { horizontal_m: 1.0, vertical_m: 1.0, yaw_deg: 1.0, tilt_deg: 0.5 };
        let attitude = Attitude { yaw_deg: 90.0, pitch_deg, roll_deg: 0.0 };
        View {
            camera: Camera::from_fov(1440, 1080, 66.0),
            pose: Pose { at: at(east, north), height_m: 60.0, attitude, sigma },
        }
    }

    const AREA: [(f64, f64); 4] = [(0.0, 0.0), (200.0, 0.0), (200.0, 120.0), (0.0, 120.0)];

    fn area() -> Vec<LatLon> {
        AREA.map(|(e, n)| at(e, n)).to_vec()
    }

    /// Flies parallel lines; `outcome` says what becomes of a look. Returns what was looked at.
    fn fly(
        ledger: &mut Ledger,
        step: f64,
        spacing: f64,
        mut outcome: impl FnMut(u64) -> bool,
    ) -> (Vec<View>, Vec<View>) {
        let (mut taken, mut all, mut frame) = (Vec::new(), Vec::new(), 0);
        let mut views = BTreeMap::new();
        let mut look = |ledger: &mut Ledger, frame: u64, view: View| {
            if outcome(frame) {
                ledger.looked(frame, view.camera, 0.7);
                taken.push(view);
            } else {
                ledger.blurred(frame);
            }
        };
        for line in 0..=(120.0 / spacing) as u32 {
            for shot in 0..=(200.0 / step) as u32 {
                let view = view(f64::from(shot) * step, f64::from(line) * spacing);
                frame += 1;
                all.push(view);
                views.insert(frame, view);
                if ledger.offer(frame, view) == Verdict::Look {
                    look(ledger, frame, view);
                }
            }
        }
        while let Some(frame) = ledger.next_held(ledger.rules.least) {
            look(ledger, frame, views[&frame]);
        }
        (taken, all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        /// However the pictures lie and whichever of them fail: what they could show often enough is examined so often,
        /// but for crumbs: 3.3 % of the points in the worst of some hundred flights drawn.
        #[test]
        fn every_patch_gets_its_looks_where_usable_pictures_showed_it(
            step in 8.0f64..30.0, spacing in 12.0f64..50.0, looks in 1u8..4, bad in prop::collection::vec(any::<bool>(), 7),
        ) {
            let mut ledger = Ledger::new(&area(), Rules { looks, ..Rules::default() });
            let usable = |frame: u64| !(bad[frame as usize % 7] && frame.is_multiple_of(3));
            let (taken, all) = fly(&mut ledger, step, spacing, usable);
            let good: Vec<&View> = all.iter().zip(1u64..).filter(|(_, f)| usable(*f)).map(|(v, _)| v).collect();
            let (mut short, mut points) = (0, 0);
            for i in 0..50 {
                for j in 0..30 {
                    let place = at(2.0 + 4.0 * f64::from(i), 2.0 + 4.0 * f64::from(j));
                    let could = good.iter().filter(|v| v.shows(place)).count();
                    let did = taken.iter().filter(|v| v.shows(place)).count();
                    points += 1;
                    if did < could.min(usize::from(looks)) {
                        short += 1;
                    }
                }
            }
            prop_assert!(f64::from(short) <= 0.05 * f64::from(points), "{short} of {points}");
            prop_assert!(ledger.next_held(ledger.rules.least).is_none());
        }
    }

    #[test]
    fn with_much_overlap_most_pictures_are_not_looked_at() {
        let mut ledger = Ledger::new(&area(), Rules::default());
        // 80 % along, 80 % across.
        let (taken, all) = fly(&mut ledger, 11.7, 11.7, |_| true);
        assert!(taken.len() * 5 <= all.len() * 2, "{} of {}", taken.len(), all.len());
        let survey = ledger.survey();
        assert!(survey.examined > 0.99 && survey.seen > 0.999, "{survey:?}");
        assert_eq!(survey.redundant as usize, all.len() - taken.len());
        assert!(survey.off_nadir_deg.unwrap() < 25.0 && (0.05..0.06).contains(&survey.gsd_m.unwrap()), "{survey:?}");
    }

    #[test]
    fn with_little_overlap_nothing_that_adds_is_held_back() {
        let mut ledger = Ledger::new(&area(), Rules::default().for_flight(1.0 / (0.35 * 0.6)));
        let held = |ledger: &mut Ledger, shot: u32| {
            ledger.offer(u64::from(shot), view(20.0 * f64::from(shot), 30.0)) == Verdict::Hold
        };
        assert!((1..=8).all(|shot| !held(&mut ledger, shot)));
        assert_eq!(Rules::default().for_flight(25.0).worth, Rules::default().worth);
    }

    #[test]
    fn a_picture_of_ground_outside_the_area_or_of_the_sky_is_off_target() {
        let mut ledger = Ledger::new(&area(), Rules::default());
        assert_eq!(ledger.offer(1, view(600.0, 60.0)), Verdict::OffTarget);
        assert_eq!(ledger.offer(2, tilted(100.0, 60.0, 20.0)), Verdict::OffTarget);
        assert_eq!(ledger.offer(3, view(100.0, 60.0)), Verdict::Look);
        assert_eq!(ledger.survey().off_target, 2);
    }

    #[test]
    fn why_a_picture_is_off_target_is_told() {
        let mut anywhere = Ledger::new(&[], Rules::default());
        let raised = |height_m: f64| {
            let mut view = view(100.0, 60.0);
            view.pose.height_m = height_m;
            view
        };
        for (view, why) in [
            (raised(0.0), OffTarget::NotAboveGround),
            (raised(0.3), OffTarget::TooLow),
            (tilted(100.0, 60.0, 20.0), OffTarget::NoGround),
        ] {
            assert_eq!((anywhere.offer(1, view), anywhere.why_off_target(view)), (Verdict::OffTarget, why), "{view:?}");
        }
        // Of a small picture from 200 m.
        let mut small = raised(200.0);
        small.camera = crate::geo::Camera::from_fov(320, 240, 73.0);
        assert_eq!(
            (anywhere.offer(2, small), anywhere.why_off_target(small)),
            (Verdict::OffTarget, OffTarget::TooCoarse)
        );
        let mut ledger = Ledger::new(&area(), Rules::default());
        assert_eq!(ledger.why_off_target(view(600.0, 60.0)), OffTarget::BesideArea);
    }

    #[test]
    fn a_look_that_failed_counts_for_nothing() {
        let mut ledger = Ledger::new(&area(), Rules { looks: 1, ..Rules::default() });
        assert_eq!(ledger.offer(1, view(100.0, 60.0)), Verdict::Look);
        assert_eq!(ledger.offer(2, view(101.0, 60.0)), Verdict::Hold);
        ledger.blurred(1);
        let survey = ledger.survey();
        assert_eq!((survey.seen, survey.examined, survey.blurred), (0.0, 0.0, 1));
        assert_eq!(ledger.next_held(0.7), Some(2), "the one beside it takes its place");
    }

    #[test]
    fn what_is_asked_for_is_taken_from_those_held_back_and_from_those_to_come() {
        let mut ledger = Ledger::new(&area(), Rules { looks: 1, ..Rules::default() });
        assert_eq!(ledger.offer(1, view(100.0, 60.0)), Verdict::Look);
        ledger.looked(1, view(0.0, 0.0).camera, 0.7);
        assert_eq!(ledger.offer(2, view(112.0, 60.0)), Verdict::Hold);
        assert_eq!(ledger.offer(3, view(104.0, 60.0)), Verdict::Hold);
        let place = at(98.0, 60.0);
        assert_eq!(ledger.ask(place, 2), [3], "the one that has it nearer to its middle");
        assert_eq!(ledger.ask(place, 2), [] as [u64; 0], "it is under way");
        assert_eq!(ledger.ask(place, 4), [2]);
        assert_eq!(ledger.offer(4, view(106.0, 60.0)), Verdict::Look);
        assert_eq!(ledger.offer(5, view(107.0, 60.0)), Verdict::Hold, "four pictures show it");
    }

    #[test]
    fn coarse_and_flat_ground_is_seen_but_not_examined() {
        let mut ledger = Ledger::new(&area(), Rules { looks: 1, coarsest_gsd_m: 0.04, ..Rules::default() });
        assert_eq!(ledger.offer(1, view(100.0, 60.0)), Verdict::OffTarget, "5 cm a pixel where 4 are needed");
        let mut ledger = Ledger::new(&area(), Rules { looks: 1, ..Rules::default() });
        assert_eq!(ledger.offer(1, tilted(20.0, 60.0, -30.0)), Verdict::Look);
        ledger.looked(1, view(0.0, 0.0).camera, 0.7);
        let survey = ledger.survey();
        assert!(survey.seen > survey.examined + 0.02, "{survey:?}");
    }

    #[test]
    fn a_patrol_without_an_area_chooses_by_the_ground_it_meets() {
        let mut ledger = Ledger::new(&[], Rules { looks: 1, ..Rules::default() });
        assert_eq!(ledger.offer(1, view(0.0, 0.0)), Verdict::Look);
        ledger.looked(1, view(0.0, 0.0).camera, 0.7);
        assert_eq!(ledger.offer(2, view(10.0, 0.0)), Verdict::Hold);
        assert_eq!(ledger.offer(3, view(60.0, 0.0)), Verdict::Look);
        assert_eq!(ledger.survey().seen, 0.0, "there is no area to have a share of");
    }
}
