//! `aerie locate`: one pixel of a photo, or a table of poses and pixels, to places on the ground.
//!
//! The ground is flat: at the height that `--ground` or the table's `ground_hae_m` says. A terrain model is not read yet.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use serde_json::json;

use crate::geo::photo::{self, Photo};
use crate::geo::{self, Attitude, Camera, LatLon, Located, Pose, PoseSigma};

/// Poses in a table come without their errors: those of a drone without corrections are assumed, see `geo::photo`.
const TABLE_SIGMA: PoseSigma = PoseSigma { horizontal_m: 1.5, vertical_m: 2.0, yaw_deg: 2.0, tilt_deg: 0.5 };

/// Say where on the ground a pixel lies, and how surely.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  aerie locate DJI_0010.JPG --pixel 2697,1047
  aerie locate DJI_0010.JPG --pixel 2697,1047 --ground 6
  aerie locate --batch poses.csv > places.csv
  aerie locate --batch pixels.csv --images photos > places.csv

A table needs px_x, px_y and either image (with --images) or a pose: drone_lat, drone_lon, drone_hae_m (or cam_lat, cam_lon,
cam_hae_m), yaw_true_deg, pitch_deg, roll_deg, img_w, img_h, fx, fy, cx, cy (or fx_px and so on), optionally k1, k2, p1, p2,
k3. The ground's height stands in the column ground_hae_m or in --ground. All columns come back, followed by out_lat, out_lon,
out_height_m, semi_major_m, semi_minor_m, bearing_deg, status. Ellipses are 95 %.
Exit code: 0 if any place was found, 1 if none, 2 for wrong usage.")]
pub struct LocateArgs {
    /// A photo with its pose in EXIF and XMP.
    #[arg(value_name = "IMAGE", required_unless_present = "batch", requires = "pixel")]
    pub image: Option<PathBuf>,
    /// The pixel, from the picture's top-left corner.
    #[arg(long, value_name = "X,Y", value_parser = pixel, allow_hyphen_values = true)]
    pub pixel: Option<Pixel>,
    /// A table of poses and pixels, CSV with a header.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["image", "pixel"])]
    pub batch: Option<PathBuf>,
    /// Where the pictures named in the table's column `image` are.
    #[arg(long, value_name = "DIR", requires = "batch")]
    pub images: Option<PathBuf>,
    /// Height of the ground, metres: above the take-off point for photos (0 if not given), in the table's own height
    /// datum for a table.
    #[arg(long, value_name = "METRES", allow_negative_numbers = true)]
    pub ground: Option<f64>,
    /// Height of the seen point above the ground, metres.
    #[arg(long, value_name = "METRES", default_value_t = 0.0, allow_negative_numbers = true)]
    pub above_ground: f64,
}

/// x, y.
pub type Pixel = (f64, f64);

fn pixel(text: &str) -> Result<Pixel, String> {
    let parsed = text.split_once(',').and_then(|(x, y)| Some((x.trim().parse().ok()?, y.trim().parse().ok()?)));
    match parsed {
        Some((x, y)) if f64::is_finite(x) && f64::is_finite(y) => Ok((x, y)),
        _ => Err("expected X,Y in pixels, such as 1920,1080.5".to_owned()),
    }
}

pub fn run(args: LocateArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.ground.is_none_or(f64::is_finite), "--ground must be a number of metres");
    ensure!(args.above_ground.is_finite(), "--above-ground must be a number of metres");
    let stdout = std::io::stdout().lock();
    let found = match (&args.image, args.pixel, &args.batch) {
        (Some(image), Some(pixel), None) => one(image, pixel, &args, stdout)?,
        (None, None, Some(table)) => {
            let file = std::fs::File::open(table).with_context(|| format!("cannot open {}", table.display()))?;
            batch(BufReader::new(file), &args, BufWriter::new(stdout))
                .with_context(|| format!("{}", table.display()))?
        }
        _ => bail!("give an image with --pixel X,Y, or --batch FILE.csv"),
    };
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One photo, one pixel; whether it has a place.
fn one(image: &Path, (x, y): Pixel, args: &LocateArgs, mut out: impl Write) -> anyhow::Result<bool> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let photo = photo::read(&bytes).with_context(|| format!("{}", image.display()))?;
    let ground = args.ground.unwrap_or(0.0);
    let result = on_ground(&photo.camera, &photo.pose, [x, y], ground, args.above_ground);
    let answer = match &result {
        Ok(place) => json!({
            "lat": round(place.at.lat, 8),
            "lon": round(place.at.lon, 8),
            "datum": "WGS 84",
            "height_m": round(ground + args.above_ground, 2),
            "height_datum": "take-off",
            "semi_major_m": round(place.uncertainty.semi_major_m, 2),
            "semi_minor_m": round(place.uncertainty.semi_minor_m, 2),
            "bearing_deg": round(place.uncertainty.bearing_deg, 1),
            "status": "ok",
            "notes": photo.notes,
        }),
        Err(error) => json!({
            "lat": null, "lon": null, "height_m": null, "height_datum": null,
            "semi_major_m": null, "semi_minor_m": null, "bearing_deg": null,
            "status": error.code(),
            "reason": error.to_string(),
            "notes": photo.notes,
        }),
    };
    writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
    Ok(result.is_ok())
}

fn on_ground(
    camera: &Camera,
    pose: &Pose,
    pixel: [f64; 2],
    ground_m: f64,
    above_m: f64,
) -> Result<Located, geo::LocateError> {
    let pose = Pose { height_m: pose.height_m - ground_m, ..*pose };
    geo::locate(camera, &pose, pixel, above_m, 0.0)
}

/// A whole table, row by row; whether any row has a place. A row that cannot be used says why and stops nothing.
pub fn batch(table: impl BufRead, args: &LocateArgs, mut out: impl Write) -> anyhow::Result<bool> {
    let mut lines = table.lines();
    let first = lines.next().context("the table is empty; it needs a header")??;
    let header = split(first.trim_start_matches('\u{feff}'));
    let columns = Columns::new(&header, args)?;
    writeln!(out, "{},out_lat,out_lon,out_height_m,semi_major_m,semi_minor_m,bearing_deg,status", join(&header))?;
    let mut photos = HashMap::new();
    let mut found = false;
    for line in lines {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let mut row = split(&line);
        let result = columns.locate(&row, args, &mut photos);
        // A short row keeps the columns of the answer in their places.
        row.resize(header.len(), String::new());
        match result {
            Ok((place, height_m)) => {
                found = true;
                let e = place.uncertainty;
                writeln!(
                    out,
                    "{},{:.9},{:.9},{height_m:.3},{:.3},{:.3},{:.1},ok",
                    join(&row),
                    place.at.lat,
                    place.at.lon,
                    e.semi_major_m,
                    e.semi_minor_m,
                    e.bearing_deg
                )?;
            }
            Err(status) => writeln!(out, "{},,,,,,,{}", join(&row), quote(&status))?,
        }
    }
    out.flush()?;
    Ok(found)
}

/// Which column holds what.
struct Columns {
    pixel: [usize; 2],
    ground: Option<usize>,
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
    height: usize,
    /// yaw, pitch, roll.
    attitude: [usize; 3],
    /// width, height, fx, fy, cx, cy.
    camera: [usize; 6],
    distortion: Option<[usize; 5]>,
}

impl Columns {
    fn new(header: &[String], args: &LocateArgs) -> anyhow::Result<Self> {
        let find = |name: &str| header.iter().position(|c| c.trim() == name);
        let need = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| find(name))
                .with_context(|| format!("the table has no column {}", names.join(" or ")))
        };
        let pixel = [need(&["px_x"])?, need(&["px_y"])?];
        let ground = find("ground_hae_m");
        if let Some(folder) = &args.images {
            let source = Source::Pictures { image: need(&["image"])?, folder: folder.clone() };
            return Ok(Self { pixel, ground: None, source });
        }
        ensure!(
            ground.is_some() || args.ground.is_some(),
            "the height of the ground is not known: add a column ground_hae_m, or give --ground in the datum of the camera's height"
        );
        let distortion = ["k1", "k2", "p1", "p2", "k3"].map(find);
        let source = Source::Rows(Box::new(PoseColumns {
            lat: need(&["drone_lat", "cam_lat"])?,
            lon: need(&["drone_lon", "cam_lon"])?,
            height: need(&["drone_hae_m", "cam_hae_m"])?,
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
        Ok(Self { pixel, ground, source })
    }

    /// The place and the height of the seen point, or the row's status.
    fn locate(
        &self,
        row: &[String],
        args: &LocateArgs,
        photos: &mut HashMap<String, Result<Photo, String>>,
    ) -> Result<(Located, f64), String> {
        let number = |column: usize| {
            row.get(column)
                .and_then(|v| v.trim().parse().ok())
                .filter(|v: &f64| v.is_finite())
                .ok_or_else(|| format!("bad_input: column {} is no number", column + 1))
        };
        let ground_m = match self.ground {
            Some(column) => number(column)?,
            None => args.ground.unwrap_or(0.0),
        };
        let (camera, pose) = match &self.source {
            Source::Pictures { image, folder } => {
                let name = row.get(*image).map_or("", |v| v.trim());
                let photo = photos.entry(name.to_owned()).or_insert_with(|| {
                    let bytes = std::fs::read(folder.join(name)).map_err(|e| format!("no_picture: {e}"))?;
                    photo::read(&bytes).map_err(|e| format!("no_pose: {e}"))
                });
                let photo = photo.as_ref().map_err(Clone::clone)?;
                (photo.camera, photo.pose)
            }
            Source::Rows(c) => {
                let [width, height, fx, fy, cx, cy] = c.camera.map(number);
                let [yaw, pitch, roll] = c.attitude.map(number);
                let distortion = match c.distortion {
                    Some(columns) => {
                        let [k1, k2, p1, p2, k3] = columns.map(number);
                        Some([k1?, k2?, p1?, p2?, k3?])
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
                let at = LatLon { lat: number(c.lat)?, lon: number(c.lon)? };
                at.validate().map_err(|e| format!("bad_input: {e}"))?;
                let attitude = Attitude { yaw_deg: yaw?, pitch_deg: pitch?, roll_deg: roll? };
                (camera, Pose { at, height_m: number(c.height)?, attitude, sigma: TABLE_SIGMA })
            }
        };
        let pixel = [number(self.pixel[0])?, number(self.pixel[1])?];
        on_ground(&camera, &pose, pixel, ground_m, args.above_ground)
            .map(|place| (place, ground_m + args.above_ground))
            .map_err(|e| e.code().to_owned())
    }
}

/// The fields of one line, RFC 4180 without line breaks inside fields.
fn split(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut fields, '"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => push(&mut fields, c),
        }
    }
    fields
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

fn quote(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

fn join(fields: &[String]) -> String {
    fields.iter().map(|f| quote(f)).collect::<Vec<_>>().join(",")
}

fn round(v: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (v * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "id,cam_lat,cam_lon,cam_hae_m,yaw_true_deg,pitch_deg,roll_deg,img_w,img_h,fx,fy,cx,cy,ground_hae_m,px_x,px_y";

    fn args() -> LocateArgs {
        LocateArgs { image: None, pixel: None, batch: None, images: None, ground: None, above_ground: 0.0 }
    }

    fn table(rows: &[&str]) -> Vec<Vec<String>> {
        let text = format!("{HEADER}\n{}\n", rows.join("\n"));
        let mut out = Vec::new();
        batch(text.as_bytes(), &args(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(split).collect()
    }

    #[test]
    fn every_row_comes_back_with_its_columns_and_a_place_or_a_reason() {
        let rows = table(&[
            r#""a, first",23.0,113.0,120,0,-90,0,400,300,200,200,200,150,20,200,150"#,
            "up,23.0,113.0,120,0,30,0,400,300,200,200,200,150,20,200,150",
            "nan,23.0,113.0,NaN,0,-90,0,400,300,200,200,200,150,20,200,150",
            "swapped,113.0,23.0,120,0,-90,0,400,300,200,200,200,150,20,200,150",
            "short,23.0,113.0",
        ]);
        assert_eq!(rows[0].len(), 16 + 7);
        assert!(rows.iter().all(|r| r.len() == 16 + 7), "{rows:?}");
        assert_eq!(rows[1][0], "a, first");
        let last = |i: usize| rows[i][22].as_str();
        assert_eq!((last(1), last(2)), ("ok", "above_horizon"));
        assert_eq!((&rows[1][16][..6], &rows[1][17][..7], &rows[1][18][..]), ("23.000", "113.000", "20.000"));
        assert!(last(3).contains("column 4"), "{}", last(3));
        assert!(last(4).contains("swapped"));
        assert!(last(5).starts_with("bad_input"));
    }

    #[test]
    fn a_table_without_the_grounds_height_is_refused_before_any_row() {
        let header = HEADER.replace(",ground_hae_m", "");
        let error = batch(header.as_bytes(), &args(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("--ground"), "{error}");
        // The truth about a control point is never read as the ground.
        let error = batch(format!("{header},gcp_hae_m").as_bytes(), &args(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("--ground"), "{error}");
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = batch("px_x,px_y,ground_hae_m".as_bytes(), &args(), Vec::new()).unwrap_err();
        assert!(error.to_string().contains("drone_lat or cam_lat"), "{error}");
    }

    #[test]
    fn a_pixel_is_two_numbers() {
        assert_eq!(pixel("1920, 1080.5"), Ok((1920.0, 1080.5)));
        for bad in ["", "5", "5;6", "a,b", "1,nan", "1,2,3"] {
            assert!(pixel(bad).is_err(), "{bad}");
        }
    }
}
