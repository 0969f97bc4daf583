//! A table of poses and pixels, row by row or adjusted as one sortie.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context, ensure};

use super::columns::{Columns, Source};
use super::csv::{Fields, Rows, join, quote};
use super::shot::{Below, Shot};
use super::told::{Contradicting, Notes, Told};
use super::world::{self, Surroundings, World};
use super::{LocateArgs, sortie};
use crate::geo::heights::HeightDatum;
use crate::geo::level::{self, CameraHeights};
use crate::geo::{DEFAULT_MAX_RANGE_M, Ellipse, LatLon, LocateError, Pose, PoseSigma, Target};

/// Poses in a table come without their errors: those of a drone without corrections are assumed, see `docs/accuracy.md`.
pub const TABLE_SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 2.5, yaw_deg: 3.0, tilt_deg: 0.8 };
/// Rows that are kept at once for an adjustment.
const MAX_ROWS: usize = 200_000;
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
