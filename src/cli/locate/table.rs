//! A table of poses and pixels, row by row or adjusted as one sortie.

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};

use super::csv::{join, quote, split};
use super::shot::{Below, Shot};
use super::world::{Surroundings, World};
use super::{LocateArgs, sortie};
use crate::geo::heights::HeightDatum;
use crate::geo::level::{Assumed, CameraHeights, Stated};
use crate::geo::{Attitude, Camera, DEFAULT_MAX_RANGE_M, Distortion, Ellipse, LatLon, Pose, PoseSigma, Target};

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
pub fn batch(table: impl BufRead, args: &LocateArgs, mut out: impl Write) -> anyhow::Result<bool> {
    let world = World::read(args.dem.as_deref(), args.dem_datum, &args.geoid)?;
    let around = Surroundings { world, ground_m: args.ground };
    let world = &around.world;
    let mut lines = table.lines();
    let first = lines.next().context("the table is empty; it needs a header")??;
    let header = split(first.trim_start_matches('\u{feff}'));
    let columns = Columns::new(&header, args)?;
    writeln!(out, "{},out_lat,out_lon,out_height_m,semi_major_m,semi_minor_m,bearing_deg,status", join(&header))?;

    let mut reader = Reader { columns, args, around: &around, photos: HashMap::new() };
    let mut told = Told::default();
    let mut write = |row: &[String], answer: Result<Answer, String>| -> anyhow::Result<()> {
        told.note(&answer);
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
    let mut datums = BTreeSet::new();
    let mut assumed = BTreeSet::new();
    let mut kept = Vec::new();
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let fields = split(&line);
        let row = reader.read(&fields);
        if let Ok(row) = &row {
            datums.insert(row.shot.datum.name());
            assumed.extend(row.shot.assumed.iter().copied());
        }
        if args.adjust {
            ensure!(kept.len() < MAX_ROWS, "more than {MAX_ROWS} rows are too many to adjust together");
            kept.push((fields, row));
        } else {
            write(&fields, row.and_then(|row| alone(&row, world)))?;
        }
    }
    if args.adjust {
        for (fields, answer) in sortie::adjust(kept, world, args)? {
            write(&fields, answer)?;
        }
    }
    out.flush()?;
    told.say(&datums.into_iter().collect::<Vec<_>>(), &assumed);
    Ok(told.found > 0)
}

/// One row by itself.
pub fn alone(row: &Row, world: &World) -> Result<Answer, String> {
    let found = row.shot.locate(&row.target, world.dem.as_ref());
    let (found, status) = match (found, &row.flat) {
        (Ok(found), _) => (found, row.shot.status(found.gap_m)),
        (Err(e), Some(flat)) if matches!(e.code(), "outside_dem" | "dem_void") => {
            let found = flat.locate(&row.target, None).map_err(|e| e.code().to_owned())?;
            (found, format!("{};{}_flat_ground_taken", flat.status(0.0), e.code()))
        }
        (Err(e), _) => return Err(e.code().to_owned()),
    };
    Ok(Answer { at: found.place.at, height_m: found.height_m, uncertainty: found.place.uncertainty, status })
}

/// What goes to standard error once, so that no place is without its datum.
#[derive(Default)]
struct Told {
    found: usize,
    refused: HashMap<String, usize>,
}

impl Told {
    fn note(&mut self, answer: &Result<Answer, String>) {
        match answer {
            Ok(_) => self.found += 1,
            Err(status) => *self.refused.entry(status.chars().take(60).collect()).or_default() += 1,
        }
    }

    fn say(&self, datums: &[&str], assumed: &BTreeSet<Assumed>) {
        if self.found > 0 {
            eprintln!("positions: WGS 84; heights above: {}", datums.join(", "));
        }
        for assumed in assumed {
            eprintln!("assumed: {}", assumed.text());
        }
        let sky: usize = self.refused.iter().filter(|(k, _)| k.starts_with("above_horizon")).map(|(_, n)| n).sum();
        if sky > 0 && self.found < sky {
            eprintln!(
                "most rows look above the horizon: is the pitch counted from nadir? Here −90 is straight down and 0 the horizon"
            );
        }
        let far: usize = self.refused.iter().filter(|(k, _)| k.starts_with("too_far")).map(|(_, n)| n).sum();
        if far > 0 && self.found < far {
            eprintln!("most places are too far: are heights in metres, and of camera and ground above the same datum?");
        }
    }
}

struct Reader<'a> {
    columns: Columns,
    args: &'a LocateArgs,
    around: &'a Surroundings,
    photos: HashMap<String, Result<Shot, String>>,
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
}

impl Columns {
    fn new(header: &[String], args: &LocateArgs) -> anyhow::Result<Self> {
        let find = |name: &str| header.iter().position(|c| c.trim() == name);
        let any = |names: &[&str]| names.iter().find_map(|name| find(name));
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
        }));
        Ok(Self { pixel, ground, object, station, time, source })
    }
}

impl Reader<'_> {
    /// A row, or its status.
    fn read(&mut self, fields: &[String]) -> Result<Row, String> {
        let number = |column: usize| {
            fields
                .get(column)
                .and_then(|v| v.trim().parse().ok())
                .filter(|v: &f64| v.is_finite())
                .ok_or_else(|| format!("bad_input: column {} is no number", column + 1))
        };
        let text = |column: Option<usize>| column.and_then(|c| fields.get(c)).map_or("", |v| v.trim()).to_owned();
        let columns = &self.columns;
        let told_ground = columns.ground.map(number).transpose();
        let (shot, flat) = match &columns.source {
            Source::Pictures { image, folder } => {
                let name = text(Some(*image));
                let shot = self.photos.entry(name.clone()).or_insert_with(|| {
                    // A name is one, and no way out of the folder.
                    if name.is_empty() || name.split(['/', '\\']).any(|part| part == "..") {
                        return Err("no_picture: the name is empty or leaves the folder".to_owned());
                    }
                    let bytes = std::fs::read(folder.join(&name)).map_err(|e| format!("no_picture: {e}"))?;
                    self.around.shot(&bytes).map(|(_, shot)| shot).map_err(|e| format!("no_pose: {e}"))
                });
                (shot.clone()?, None)
            }
            Source::Rows(c) => {
                let (camera, pose, heights) = c.read(&number)?;
                let flat_ground = match told_ground {
                    Ok(Some(ground)) => Some(ground),
                    _ => self.args.ground,
                };
                let (height_m, datum) =
                    heights.absolute.first().map_or((f64::NAN, HeightDatum::Unstated), |s| (s.m, s.datum));
                let flat = flat_ground.map(|ground| Shot::flat(camera, 0.0, Pose { height_m, ..pose }, ground, datum));
                match (&self.around.world.dem, flat) {
                    (Some(dem), flat) => {
                        let shot = Shot::on_terrain(camera, 0.0, pose, &heights, dem, &self.around.world)
                            .ok_or("outside_dem")?;
                        (shot, flat)
                    }
                    (None, Some(flat)) => {
                        told_ground?;
                        (flat, None)
                    }
                    (None, None) => return Err("bad_input: the height of the ground is no number".to_owned()),
                }
            }
        };
        let mut shot = shot;
        shot.max_range_m = self.args.max_range.unwrap_or(DEFAULT_MAX_RANGE_M);
        let target = Target {
            height_m: self.args.above_ground,
            ..Target::ground([number(columns.pixel[0])?, number(columns.pixel[1])?])
        };
        let station = match columns.station {
            Some(_) => text(columns.station),
            // The same pose is the same picture.
            None => format!("{:?}", shot.pose),
        };
        let time_s = columns.time.and_then(|column| number(column).ok());
        Ok(Row { shot, target, station, object: text(columns.object), time_s, flat })
    }
}

impl PoseColumns {
    fn read(&self, number: &impl Fn(usize) -> Result<f64, String>) -> Result<(Camera, Pose, CameraHeights), String> {
        let [width, height, fx, fy, cx, cy] = self.camera.map(number);
        let [yaw, pitch, roll] = self.attitude.map(number);
        let distortion = match self.distortion {
            Some(columns) => {
                let [k1, k2, p1, p2, k3] = columns.map(number);
                Some(Distortion::Brown([k1?, k2?, p1?, p2?, k3?]))
            }
            None => None,
        };
        let camera = Camera {
            width_px: width? as u32,
            height_px: height? as u32,
            fx: fx?,
            fy: fy?,
            cx: cx?,
            cy: cy?,
            distortion,
        };
        let at = LatLon { lat: number(self.lat)?, lon: number(self.lon)? };
        at.validate().map_err(|e| format!("bad_input: {e}"))?;
        let attitude = Attitude { yaw_deg: yaw?, pitch_deg: pitch?, roll_deg: roll? };
        let absolute: Vec<Stated> = self
            .heights
            .iter()
            .map(|&(column, datum)| number(column).map(|m| Stated { m, datum, sigma_m: TABLE_SIGMA.vertical_m }))
            .collect::<Result<_, _>>()?;
        let height_m = absolute.first().map_or(f64::NAN, |s| s.m);
        let pose = Pose { at, height_m, attitude, sigma: TABLE_SIGMA };
        Ok((camera, pose, CameraHeights { absolute, above_take_off_m: None }))
    }
}

impl Row {
    /// The ground as the adjustment takes it.
    pub fn stands(&self) -> crate::geo::adjust::Stands {
        match self.shot.ground {
            Below::Terrain => crate::geo::adjust::Stands::OnTerrain,
            Below::Flat { height_m, sigma_m } => crate::geo::adjust::Stands::At {
                height_m: height_m + self.target.height_m,
                sigma_m: sigma_m.max(FLAT_SIGMA_M),
            },
        }
    }
}

/// One sigma of a ground height that a table tells for one place or a whole sortie.
const FLAT_SIGMA_M: f64 = 0.3;
