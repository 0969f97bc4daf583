//! A table of poses and pixels, row by row or adjusted as one sortie.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::csv::{Fields, Rows, join, quote};
use super::shot::{Below, Shot};
use super::world::{self, Surroundings, World};
use super::{LocateArgs, sortie};
use crate::geo::heights::HeightDatum;
use crate::geo::level::{self, Assumed, CameraHeights, Stated};
use crate::geo::{
    Attitude, Camera, DEFAULT_MAX_RANGE_M, Distortion, Ellipse, LatLon, LocateError, Pose, PoseSigma, Target,
};

/// Poses in a table come without their errors: those of a drone without corrections are assumed, see `docs/accuracy.md`.
pub const TABLE_SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 2.5, yaw_deg: 3.0, tilt_deg: 0.8 };
/// Rows that are kept at once for an adjustment.
const MAX_ROWS: usize = 200_000;
/// Lines of a table that are named for a status, and notes of pictures that are written out.
const NAMED_LINES: usize = 5;
const MAX_NOTES: usize = 10;
/// How far off the middle a lens's centre is believed, as a share of the side, and how much longer than wide a pixel.
const CENTRE_OFF: f64 = 0.25;
const PIXEL_SKEW: f64 = 1.1;
/// A pixel so much longer than wide is none.
const PIXEL_ABSURD: f64 = 2.0;

/// A place as it is written.
pub struct Answer {
    pub at: LatLon,
    pub height_m: f64,
    pub uncertainty: Ellipse,
    pub status: String,
    /// What its height is counted from.
    pub datum: HeightDatum,
}

/// What a row gives.
#[derive(Debug, Clone)]
pub struct Row {
    pub shot: Shot,
    pub target: Target,
    /// Poses with the same key are one picture.
    pub station: String,
    pub object: String,
    pub time_s: Option<f64>,
    /// Where the terrain model ends: the height of the ground that the row tells, in the height that it tells too.
    flat: Option<Shot>,
}

/// A whole table; whether any row has a place. A row that cannot be used says why and stops nothing.
pub fn batch(table: impl BufRead, args: &LocateArgs, out: impl Write) -> anyhow::Result<bool> {
    if let Some(path) = &args.report {
        // Now, not after all the work.
        std::fs::File::create(path).with_context(|| format!("cannot write the report {}", path.display()))?;
    }
    if let Some(folder) = &args.images {
        ensure!(folder.is_dir(), "--images {}: no such folder", folder.display());
    }
    let world = World::read(args.dem.as_deref(), args.dem_datum, &args.geoid)?;
    let around = Surroundings { world, ground_m: args.ground };
    let done = rows(table, args, around, out);
    match &args.batch {
        Some(path) => done.with_context(|| path.display().to_string()),
        None => done,
    }
}

fn rows(table: impl BufRead, args: &LocateArgs, mut around: Surroundings, mut out: impl Write) -> anyhow::Result<bool> {
    let mut lines = Rows::new(table);
    let first = lines.next().map_err(|error| {
        // Nobody writes these into the header of a table.
        error.context("it is no table of text; a photo is given as IMAGE with --pixel X,Y, or by its name in a column image, with --images DIR")
    })?;
    let mut header = first.context("the table is empty; it needs a header")?.fields;
    if let Some(name) = header.first_mut() {
        *name = name.trim_start_matches('\u{feff}').to_owned();
    }
    ensure!(
        !header.iter().any(|name| name.contains('\r')),
        "its lines end in CR alone, as on an old Macintosh: save it with LF or CRLF"
    );
    let columns = Columns::new(&header, args)?;
    if columns.tells_several_heights() && around.world.geoids.is_empty() {
        around.world.geoids = world::geoids(&args.geoid)?;
    }
    let world = &around.world;
    writeln!(out, "{},out_lat,out_lon,out_height_m,semi_major_m,semi_minor_m,bearing_deg,status", join(&header))?;

    let mut reader = Reader {
        header: &header,
        columns,
        args,
        around: &around,
        photos: HashMap::new(),
        poses: HashMap::new(),
        contradicting: Contradicting::default(),
        notes: Notes::default(),
    };
    let mut told = Told::default();
    let mut write = |line: usize, row: &[String], answer: Result<Answer, String>| -> anyhow::Result<()> {
        told.note(line, &answer);
        // A short row keeps the columns of the answer in their places.
        let mut row = row.to_vec();
        row.resize(header.len(), String::new());
        match answer {
            Ok(a) => writeln!(
                out,
                "{},{:.9},{:.9},{:.3},{:.3},{:.3},{:.1},{}",
                join(&row),
                a.at.lat,
                a.at.lon,
                a.height_m,
                a.uncertainty.semi_major_m,
                a.uncertainty.semi_minor_m,
                a.uncertainty.bearing_deg,
                quote(&a.status)
            )?,
            Err(status) => writeln!(out, "{},,,,,,,{}", join(&row), quote(&status))?,
        }
        Ok(())
    };
    let mut hints = Hints::default();
    let mut nameless = 0;
    let mut assumed = BTreeSet::new();
    let (mut kept, mut kept_lines) = (Vec::new(), Vec::new());
    while let Some(Fields { line: number, fields, open }) = lines.next()? {
        if let [one] = fields.as_slice()
            && one.trim().is_empty()
        {
            continue;
        }
        let row = if open {
            Err("bad_input: a quote opens in this line and does not close in those behind it: close it".to_owned())
        } else {
            reader.read(&fields)
        };
        if let Ok(row) = &row {
            nameless += usize::from(row.object.is_empty());
            assumed.extend(row.shot.assumed.iter().copied());
        }
        if args.adjust {
            ensure!(kept.len() < MAX_ROWS, "more than {MAX_ROWS} rows are too many to adjust together");
            kept.push((fields, row));
            kept_lines.push(number);
        } else {
            let answer = row.and_then(|row| alone(&row, world).map_err(|e| hints.refused(&row, &e, world)));
            write(number, &fields, answer)?;
        }
    }
    if args.adjust {
        for (number, (fields, answer)) in kept_lines.into_iter().zip(sortie::adjust(kept, world, args, &mut hints)?) {
            write(number, &fields, answer)?;
        }
    }
    out.flush()?;
    told.say(args.batch.as_deref(), &assumed);
    if args.adjust && nameless > 0 {
        eprintln!("{nameless} rows name no object: each is taken for a thing of its own, which no other look confirms");
    }
    if let Some(text) = reader.contradicting.text() {
        eprintln!("{text}");
    }
    hints.say();
    reader.notes.say();
    Ok(told.found > 0)
}

/// One row by itself.
pub fn alone(row: &Row, world: &World) -> Result<Answer, LocateError> {
    let found = row.shot.locate(&row.target, world.dem.as_ref());
    let (found, status, datum) = match (found, &row.flat) {
        (Ok(found), _) => (found, row.shot.status(found.gap_m), row.shot.datum),
        (Err(e), Some(flat)) if matches!(e.code(), "outside_dem" | "dem_void") && !swapped(row, world) => {
            let found = flat.locate(&row.target, None)?;
            (found, format!("{};{}_flat_ground_taken", flat.status(0.0), e.code()), flat.datum)
        }
        (Err(e), _) => return Err(e),
    };
    Ok(Answer { at: found.place.at, height_m: found.height_m, uncertainty: found.place.uncertainty, status, datum })
}

/// Whether latitude and longitude the other way round would lie in the terrain model, as they are not.
fn swapped(row: &Row, world: &World) -> bool {
    world.dem.as_ref().is_some_and(|dem| {
        let [low, high] = dem.bounds();
        let inside = |lat, lon| (low.lat..=high.lat).contains(&lat) && (low.lon..=high.lon).contains(&lon);
        let LatLon { lat, lon } = row.shot.pose.at;
        !inside(lat, lon) && inside(lon, lat)
    })
}

/// The first refusal of each kind that a table or a file is to blame for, in words for standard error.
#[derive(Default)]
pub struct Hints(BTreeMap<&'static str, String>);

impl Hints {
    /// A row's status.
    pub fn refused(&mut self, row: &Row, error: &LocateError, world: &World) -> String {
        let code = error.code();
        if matches!(code, "outside_dem" | "below_terrain" | "dem_void" | "below_target" | "tags_contradict") {
            self.0.entry(code).or_insert_with(|| error.to_string());
        }
        match error {
            LocateError::BadInput { .. } => format!("{code}: {error}"),
            LocateError::OutsideTerrain { .. } if swapped(row, world) => {
                format!("{code}: latitude and longitude look swapped")
            }
            _ => code.to_owned(),
        }
    }

    fn say(&self) {
        for (code, text) in &self.0 {
            eprintln!("{code}: {text}");
        }
    }
}

/// What goes to standard error once, so that no place is without its datum.
#[derive(Default)]
struct Told {
    found: usize,
    datums: BTreeSet<&'static str>,
    placed: BTreeMap<String, Seen>,
    /// By their code.
    refused: BTreeMap<String, Seen>,
}

/// The rows of one status.
#[derive(Default)]
struct Seen {
    rows: usize,
    lines: Vec<usize>,
    /// What the first of them says beside its code.
    text: String,
}

impl Told {
    fn note(&mut self, line: usize, answer: &Result<Answer, String>) {
        let seen = match answer {
            Ok(answer) => {
                self.found += 1;
                self.datums.insert(answer.datum.name());
                self.placed.entry(answer.status.clone()).or_default()
            }
            Err(status) => {
                let (code, text) = status.split_once(": ").unwrap_or((status, ""));
                let seen = self.refused.entry(code.to_owned()).or_default();
                if seen.rows == 0 {
                    seen.text = text.to_owned();
                }
                seen
            }
        };
        seen.rows += 1;
        if seen.lines.len() < NAMED_LINES {
            seen.lines.push(line);
        }
    }

    /// One line a status.
    fn statuses(&self) -> impl Iterator<Item = String> {
        self.placed.iter().chain(&self.refused).map(|(status, seen)| {
            let lines: Vec<String> = seen.lines.iter().map(usize::to_string).collect();
            let more = if seen.rows > seen.lines.len() { ", …" } else { "" };
            let (rows, of) = if seen.rows == 1 { ("row", "line") } else { ("rows", "lines") };
            let first = match (seen.text.as_str(), seen.rows) {
                ("", _) => String::new(),
                (text, 1) => format!(": {text}"),
                (text, _) => format!(", the first: {text}"),
            };
            format!("status {status}: {} {rows} ({of} {}{more}){first}", seen.rows, lines.join(", "))
        })
    }

    /// Where no row has a place: why most have none.
    fn nothing_found(&self) -> Option<String> {
        let rows: usize = self.refused.values().map(|seen| seen.rows).sum();
        if self.found > 0 {
            return None;
        }
        let most = self.refused.iter().max_by(|a, b| a.1.rows.cmp(&b.1.rows).then(b.0.cmp(a.0)));
        Some(most.map_or("the table has no row below its header".to_owned(), |(status, seen)| {
            format!("no place was found: all {rows} rows are refused, {} of them as {status}", seen.rows)
        }))
    }

    fn say(&self, table: Option<&Path>, assumed: &BTreeSet<Assumed>) {
        if self.found > 0 {
            let datums: Vec<&str> = self.datums.iter().copied().collect();
            eprintln!("positions: WGS 84; heights above: {}", datums.join(", "));
        }
        if let Some(text) = self.nothing_found() {
            let table = table.map_or_else(String::new, |path| format!("{}: ", path.display()));
            eprintln!("{table}{text}");
        }
        for text in self.statuses() {
            eprintln!("{text}");
        }
        for assumed in assumed {
            eprintln!("assumed: {}", assumed.text());
        }
        let rows = |code: &str| self.refused.get(code).map_or(0, |seen| seen.rows);
        let sky = rows("above_horizon");
        let along: usize =
            self.placed.iter().filter(|(status, _)| status.contains("pitch_unlikely")).map(|(_, seen)| seen.rows).sum();
        if along > 0 || sky > 0 && self.found < sky {
            eprintln!(
                "rows look above the horizon or along it: is the pitch counted from nadir? Here −90 is straight down and 0 the horizon"
            );
        }
        let far = rows("too_far");
        if far > 0 && self.found < far {
            eprintln!("most places are too far: are heights in metres, and of camera and ground above the same datum?");
        }
    }
}

struct Reader<'a> {
    header: &'a [String],
    columns: Columns,
    args: &'a LocateArgs,
    around: &'a Surroundings,
    photos: HashMap<String, Result<Shot, String>>,
    /// Of each picture that is named.
    poses: HashMap<String, String>,
    contradicting: Contradicting,
    notes: Notes,
}

/// What is to be known of pictures, which have no row of their own: how many of them, and the first.
#[derive(Default)]
struct Notes(BTreeMap<String, (usize, String)>);

impl Notes {
    fn add(&mut self, picture: &str, notes: impl Iterator<Item = String>) {
        for note in notes {
            self.0.entry(note).or_insert_with(|| (0, picture.to_owned())).0 += 1;
        }
    }

    fn say(&self) {
        for (note, (pictures, first)) in self.0.iter().take(MAX_NOTES) {
            let of = if *pictures == 1 { first.clone() } else { format!("{pictures} pictures, first {first}") };
            eprintln!("note on {of}: {note}");
        }
        let left = self.0.len().saturating_sub(MAX_NOTES);
        if left > 0 {
            eprintln!("and {left} notes more; aerie locate IMAGE --pixel X,Y tells those of one picture");
        }
    }
}

/// Rows whose heights contradict each other.
#[derive(Default)]
struct Contradicting {
    rows: usize,
    most_m: f64,
}

impl Contradicting {
    fn note(&mut self, apart_m: f64) {
        self.rows += 1;
        self.most_m = self.most_m.max(apart_m);
    }

    /// For standard error.
    fn text(&self) -> Option<String> {
        (self.rows > 0).then(|| {
            format!(
                "warning: in {} rows the heights above the ellipsoid and above the sea contradict each other, by up to {:.0} m beside the geoid: ellipses hold what either says, rows that are more than {:.0} m apart are refused; find which column is wrong, or leave it out",
                self.rows, self.most_m, level::MAX_CONTRADICTION_M
            )
        })
    }
}

/// Which column holds what.
struct Columns {
    pixel: [usize; 2],
    ground: Option<usize>,
    object: Option<usize>,
    station: Option<usize>,
    time: Option<usize>,
    source: Source,
}

enum Source {
    /// The column with a picture's name: the pose is in the picture.
    Pictures {
        image: usize,
        folder: PathBuf,
    },
    Rows(Box<PoseColumns>),
}

struct PoseColumns {
    lat: usize,
    lon: usize,
    heights: Vec<(usize, HeightDatum)>,
    /// yaw, pitch, roll.
    attitude: [usize; 3],
    /// width, height, fx, fy, cx, cy.
    camera: [usize; 6],
    distortion: Option<[usize; 5]>,
    /// horizontal, vertical, yaw, tilt.
    sigma: [Option<usize>; 4],
}

impl Columns {
    fn new(header: &[String], args: &LocateArgs) -> anyhow::Result<Self> {
        let mut names = BTreeSet::new();
        let named = || header.iter().map(|c| c.trim());
        if let Some(own) = named().find(|c| c.eq_ignore_ascii_case("out_lat") || c.eq_ignore_ascii_case("out_lon")) {
            bail!(
                "the table has a column {own} already, so it is an answer: give the table that was asked, or take its last seven columns away"
            );
        }
        if let Some(twice) = named().find(|c| !c.is_empty() && !names.insert(c.to_ascii_lowercase())) {
            bail!("the table has the column {twice} twice, and nothing says which one counts: rename one of them");
        }
        let find = |name: &str| header.iter().position(|c| c.trim().eq_ignore_ascii_case(name));
        let any = |names: &[&str]| names.iter().find_map(|name| find(name));
        if let ([one], Some(mark)) = (header, header.first().and_then(|h| h.chars().find(|c| matches!(c, ';' | '\t'))))
        {
            bail!("its fields are set apart by {mark:?}, not by commas: save it with commas ({one:.40}…)");
        }
        let need =
            |names: &[&str]| any(names).with_context(|| format!("the table has no column {}", names.join(" or ")));
        let pixel = [need(&["px_x"])?, need(&["px_y"])?];
        let object = any(&["object_id", "gcp_id", "gcp"]);
        ensure!(
            !args.adjust || object.is_some(),
            "--adjust needs a column object_id (or gcp_id) that says what is the same thing"
        );
        let (station, time) = (any(&["pose_id", "image"]), any(&["time_s", "taken_s"]));
        if let Some(folder) = &args.images {
            let source = Source::Pictures { image: need(&["image"])?, folder: folder.clone() };
            return Ok(Self { pixel, ground: None, object, station, time, source });
        }
        if any(&["drone_lat", "cam_lat"]).is_none() && find("image").is_some() {
            bail!(
                "the table has no column drone_lat or cam_lat: say by --images DIR where the pictures of its column image are"
            );
        }
        let ground = find("ground_hae_m");
        ensure!(
            ground.is_some() || args.ground.is_some() || args.dem.is_some(),
            "the height of the ground is not known: add a column ground_hae_m, or give --dem, or --ground in the datum of the camera's height"
        );
        let distortion = ["k1", "k2", "p1", "p2", "k3"].map(find);
        let (lat, lon) = (need(&["drone_lat", "cam_lat"])?, need(&["drone_lon", "cam_lon"])?);
        let heights: Vec<_> = [
            (&["drone_hae_m", "cam_hae_m"], HeightDatum::Ellipsoid),
            (&["drone_alt_egm96_m", "cam_alt_egm96_m"], HeightDatum::Egm96),
            (&["drone_alt_egm2008_m", "cam_alt_egm2008_m"], HeightDatum::Egm2008),
        ]
        .into_iter()
        .filter_map(|(names, datum)| Some((any(names)?, datum)))
        .collect();
        ensure!(
            !heights.is_empty(),
            "the table has no column drone_hae_m or cam_hae_m (above the ellipsoid), drone_alt_egm96_m or drone_alt_egm2008_m"
        );
        let source = Source::Rows(Box::new(PoseColumns {
            lat,
            lon,
            heights,
            attitude: [need(&["yaw_true_deg"])?, need(&["pitch_deg"])?, need(&["roll_deg"])?],
            camera: [
                need(&["img_w"])?,
                need(&["img_h"])?,
                need(&["fx", "fx_px"])?,
                need(&["fy", "fy_px"])?,
                need(&["cx", "cx_px"])?,
                need(&["cy", "cy_px"])?,
            ],
            // All or none: half a lens model is worse than none.
            distortion: match distortion {
                [Some(k1), Some(k2), Some(p1), Some(p2), Some(k3)] => Some([k1, k2, p1, p2, k3]),
                _ => None,
            },
            sigma: ["sigma_horizontal_m", "sigma_vertical_m", "sigma_yaw_deg", "sigma_tilt_deg"].map(find),
        }));
        Ok(Self { pixel, ground, object, station, time, source })
    }
}

impl Columns {
    /// Above the ellipsoid and above the sea: they can be held against each other.
    fn tells_several_heights(&self) -> bool {
        matches!(&self.source, Source::Rows(c) if c.heights.len() > 1)
    }
}

impl Reader<'_> {
    /// A row, or its status.
    fn read(&mut self, fields: &[String]) -> Result<Row, String> {
        let (told, wanted) = (fields.len(), self.header.len());
        if fields.iter().skip(wanted).any(|field| !field.trim().is_empty()) {
            return Err(format!("bad_input: {told} fields, the header has {wanted}; quote a field that holds a comma"));
        }
        let name = |column: usize| format!("column {} ({})", column + 1, self.header[column].trim());
        let number = |column: usize| {
            let text = fields.get(column).map_or("", |v| v.trim());
            if column >= told {
                return Err(format!("bad_input: {} is missing: {told} fields, the header has {wanted}", name(column)));
            }
            if text.is_empty() {
                return Err(format!("bad_input: {} is empty", name(column)));
            }
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(number),
                Ok(number) if number.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) => {
                    Err(format!("bad_input: {} is too large a number: {}", name(column), short(text)))
                }
                _ => Err(format!("bad_input: {} is no number: {}", name(column), short(text))),
            }
        };
        let text = |column: Option<usize>| column.and_then(|c| fields.get(c)).map_or("", |v| v.trim()).to_owned();
        let columns = &self.columns;
        // Where a row leaves it open, --ground says it.
        let open = |column: &usize| self.args.ground.is_some() && text(Some(*column)).is_empty();
        let told_ground = columns.ground.filter(|column| !open(column)).map(number).transpose();
        let (shot, flat) = match &columns.source {
            Source::Pictures { image, folder } => {
                let name = text(Some(*image));
                let shot = self.photos.entry(name.clone()).or_insert_with(|| {
                    // A name is one, and no way out of the folder.
                    if name.is_empty() || name.split(['/', '\\']).any(|part| part == "..") {
                        return Err("no_picture: the name is empty or leaves the folder".to_owned());
                    }
                    let bytes = std::fs::read(folder.join(&name))
                        .map_err(|e| format!("no_picture: {name}: {e}{}", but_for_case(folder, &name)))?;
                    let (photo, shot) = self.around.shot(&bytes).map_err(|e| format!("no_pose: {e}"))?;
                    self.notes.add(&name, photo.notes.into_iter().chain(shot.notes.iter().cloned()));
                    let mut shot = shot;
                    if self.args.adjust {
                        shot.doubts_as_errors();
                    }
                    Ok(shot)
                });
                (shot.clone()?, None)
            }
            Source::Rows(c) => {
                let (camera, mut pose, heights) = c.read(fields, &number, &name)?;
                let usual = c.usual_lens(&camera, &name)?;
                let more_m = level::contradiction_m(&heights, pose.at, &self.around.world.geoids);
                if let Some(m) = more_m {
                    self.contradicting.note(m.abs());
                    if m.abs() > level::MAX_CONTRADICTION_M {
                        return Err(format!(
                            "heights_contradict: the heights above the ellipsoid and above the sea are {:.0} m apart beside the geoid",
                            m.abs()
                        ));
                    }
                }
                let mut heights = heights;
                // An adjustment knows one height and its error; a single look is tried with both.
                if let Some(m) = more_m.filter(|_| self.args.adjust) {
                    pose.sigma.vertical_m = pose.sigma.vertical_m.max(m.abs() / 2.0);
                    heights.absolute.iter_mut().for_each(|s| s.sigma_m = s.sigma_m.max(m.abs() / 2.0));
                }
                let flat_ground = match told_ground {
                    Ok(Some(ground)) => Some(ground),
                    _ => self.args.ground,
                };
                let (height_m, datum) =
                    heights.absolute.first().map_or((f64::NAN, HeightDatum::Unstated), |s| (s.m, s.datum));
                let flat = flat_ground.map(|ground| {
                    let mut flat = Shot::flat(camera, 0.0, Pose { height_m, ..pose }, ground, datum);
                    // The first is the ellipsoidal one, and so much more than by the other.
                    flat.may_stand_m.extend(more_m.map(|m| height_m - m));
                    flat
                });
                let flat = flat.map(|flat| Shot { may_be: usual.into_iter().collect(), ..flat });
                let (mut shot, flat) = match (&self.around.world.dem, flat) {
                    (Some(dem), flat) => {
                        let on = |heights: &CameraHeights| {
                            Shot::on_terrain(camera, 0.0, pose, heights, dem, &self.around.world)
                        };
                        let mut shot = on(&heights).ok_or("outside_dem")?;
                        if more_m.is_some() {
                            let each =
                                heights.absolute.iter().map(|&one| CameraHeights { absolute: vec![one], ..heights });
                            let each = each.filter_map(|one| on(&one)).map(|shot| shot.pose.height_m);
                            shot.may_stand_m = each.filter(|&m| m != shot.pose.height_m).collect();
                        }
                        (shot, flat)
                    }
                    (None, Some(flat)) => {
                        told_ground?;
                        (flat, None)
                    }
                    (None, None) => {
                        told_ground?;
                        return Err("bad_input: the height of the ground is not told".to_owned());
                    }
                };
                if more_m.is_some() {
                    shot.doubts.push("heights_contradict");
                }
                if usual.is_some() {
                    shot.doubts.push("lens_unlikely");
                    shot.may_be = usual.into_iter().collect();
                }
                let (at, stands_m) = (shot.pose.at, shot.pose.height_m);
                let ground_m = match (shot.ground, &self.around.world.dem) {
                    (Below::Flat { height_m, .. }, _) => Some(height_m),
                    (_, dem) => dem.as_ref().and_then(|dem| dem.height_m(at)),
                };
                if let Some(ground_m) = ground_m {
                    shot.doubt_height(stands_m - ground_m, 0.0);
                }
                shot.doubt_pitch();
                if self.args.adjust {
                    shot.doubts_as_errors();
                }
                (shot, flat)
            }
        };
        let mut shot = shot;
        shot.max_range_m = self.args.max_range.unwrap_or(DEFAULT_MAX_RANGE_M);
        let target = Target {
            height_m: self.args.above_ground,
            ..Target::ground([number(columns.pixel[0])?, number(columns.pixel[1])?])
        };
        // The same pose is the same picture.
        let pose = format!("{:?}", shot.pose);
        let station = match columns.station.map(|column| (column, text(Some(column)))) {
            Some((column, named)) if !named.is_empty() => {
                if *self.poses.entry(named.clone()).or_insert_with(|| pose.clone()) != pose && self.args.adjust {
                    return Err(format!(
                        "bad_input: {}: {} was told with another pose before; it names one picture, or may be left empty",
                        name(column),
                        short(&named)
                    ));
                }
                named
            }
            _ => pose,
        };
        let time_s = columns.time.and_then(|column| number(column).ok());
        Ok(Row { shot, target, station, object: text(columns.object), time_s, flat })
    }
}

impl PoseColumns {
    fn read(
        &self,
        fields: &[String],
        number: &impl Fn(usize) -> Result<f64, String>,
        name: &impl Fn(usize) -> String,
    ) -> Result<(Camera, Pose, CameraHeights), String> {
        // In the order of what a row cannot do without, so that a short one names that and no lens model.
        let at = LatLon { lat: number(self.lat)?, lon: number(self.lon)? };
        at.validate().map_err(|e| format!("bad_input: {} and {}: {e}", name(self.lat), name(self.lon)))?;
        if at.lat == 0.0 && at.lon == 0.0 {
            return Err(format!("bad_input: {} and {} are 0, 0, no fix", name(self.lat), name(self.lon)));
        }
        let heights = self.heights.iter().map(|&(column, datum)| Ok((number(column)?, datum)));
        let heights: Vec<(f64, HeightDatum)> = heights.collect::<Result<_, String>>()?;
        let [yaw, pitch, roll] = self.attitude.map(number);
        let attitude = Attitude { yaw_deg: yaw?, pitch_deg: pitch?, roll_deg: roll? };
        let [width, height, fx, fy, cx, cy] = self.camera.map(number);
        let mut camera = Camera {
            width_px: width? as u32,
            height_px: height? as u32,
            fx: fx?,
            fy: fy?,
            cx: cx?,
            cy: cy?,
            distortion: None,
        };
        let told = |column: usize| fields.get(column).is_some_and(|v| !v.trim().is_empty());
        // A row may be without a lens model, but not with half of one.
        if let Some(columns) = self.distortion.filter(|columns| columns.iter().any(|&column| told(column))) {
            let [k1, k2, p1, p2, k3] = columns.map(number);
            camera.distortion = Some(Distortion::Brown([k1?, k2?, p1?, p2?, k3?]));
        }
        let Attitude { yaw_deg, pitch_deg, roll_deg } = attitude;
        if let Some((what, v)) = Attitude::impossible(Some(yaw_deg), Some(pitch_deg), Some(roll_deg)) {
            let column = self.attitude[match what {
                "yaw" => 0,
                "pitch" => 1,
                _ => 2,
            }];
            return Err(format!("bad_input: {}: {v} is no {what}, in degrees", name(column)));
        }
        // Told and not empty, or what is assumed of all tables.
        let sigma = |of: usize, assumed: f64| match self.sigma[of] {
            Some(column) if told(column) => {
                let sigma = number(column)?;
                if sigma >= 0.0 { Ok(sigma) } else { Err(format!("bad_input: {}: {sigma} is no error", name(column))) }
            }
            _ => Ok(assumed),
        };
        let sigma = PoseSigma {
            horizontal_m: sigma(0, TABLE_SIGMA.horizontal_m)?,
            vertical_m: sigma(1, TABLE_SIGMA.vertical_m)?,
            yaw_deg: sigma(2, TABLE_SIGMA.yaw_deg)?,
            tilt_deg: sigma(3, TABLE_SIGMA.tilt_deg)?,
        };
        let absolute: Vec<Stated> =
            heights.into_iter().map(|(m, datum)| Stated { m, datum, sigma_m: sigma.vertical_m }).collect();
        let height_m = absolute.first().map_or(f64::NAN, |s| s.m);
        let pose = Pose { at, height_m, attitude, sigma };
        Ok((camera, pose, CameraHeights { absolute, above_take_off_m: None }))
    }

    /// What a lens as others are would be, beside one whose centre is far from the picture's or whose pixels are no squares:
    /// columns that changed places, or a lens of another picture. What cannot be at all is refused.
    fn usual_lens(&self, camera: &Camera, name: &impl Fn(usize) -> String) -> Result<Option<Camera>, String> {
        let &Camera { fx, fy, cx, cy, .. } = camera;
        let [_, _, _, fy_column, cx_column, cy_column] = self.camera;
        let sides = [f64::from(camera.width_px), f64::from(camera.height_px)];
        for (column, centre, side) in [(cx_column, cx, sides[0]), (cy_column, cy, sides[1])] {
            if side > 0.0 && !(0.0..=side).contains(&centre) {
                return Err(format!("bad_input: {}: a centre at {centre} is outside of the picture", name(column)));
            }
        }
        let skew = fx.max(fy) / fx.min(fy);
        if fx > 0.0 && fy > 0.0 && skew > PIXEL_ABSURD {
            return Err(format!(
                "bad_input: {}: {fy} is {skew:.1} times off fx ({fx}); both are in pixels",
                name(fy_column)
            ));
        }
        let [middle_x, middle_y] = sides.map(|side| side / 2.0);
        let off = ((cx - middle_x) / sides[0]).abs().max(((cy - middle_y) / sides[1]).abs()) > CENTRE_OFF;
        let f = (fx * fy).sqrt();
        let centred = if off { Camera { cx: middle_x, cy: middle_y, ..*camera } } else { *camera };
        Ok((off || skew > PIXEL_SKEW).then_some(Camera { fx: f, fy: f, ..centred }))
    }
}

/// What a picture is called in the folder, where its name there differs by capitals alone.
fn but_for_case(folder: &Path, name: &str) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else { return String::new() };
    let mut names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.find(|other| other.eq_ignore_ascii_case(name)).map_or_else(String::new, |other| format!("; {other} is there"))
}

/// The beginning of a field, for a message.
fn short(text: &str) -> String {
    if text.chars().count() <= 20 {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(20).collect::<String>())
    }
}

impl Row {
    /// How far the picture is from an adjusted place.
    pub fn slant_m(&self, placed: &crate::geo::adjust::Placed) -> f64 {
        let pose = &self.shot.pose;
        pose.at.distance_m(placed.at).hypot(pose.height_m - placed.height_m)
    }

    /// The ground as the adjustment takes it.
    pub fn stands(&self) -> crate::geo::adjust::Stands {
        match self.shot.ground_at(&self.target) {
            None => crate::geo::adjust::Stands::OnTerrain,
            Some((height_m, sigma_m)) => crate::geo::adjust::Stands::At {
                height_m: height_m + self.target.height_m,
                sigma_m: sigma_m.max(FLAT_SIGMA_M),
            },
        }
    }
}

/// One sigma of a ground height that a table tells for one place or a whole sortie.
const FLAT_SIGMA_M: f64 = 0.3;
