//! `aerie locate`: one pixel of a photo, or a table of poses and pixels, to places on the ground.

mod columns;
mod csv;
pub mod shot;
mod sortie;
mod table;
mod told;
pub mod world;

use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use self::world::{Surroundings, World};
use crate::geo::heights::HeightDatum;
use crate::geo::{DEFAULT_MAX_RANGE_M, LatLon, Target, datum};

pub use table::{TABLE_SIGMA, batch};

/// Say where on the ground a pixel lies, and how surely.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "\
Examples:
  aerie locate DJI_0010.JPG --pixel 2697,1047
  aerie locate DJI_0010.JPG --pixel 2697,1047 --ground 6
  aerie locate DJI_0010.JPG --pixel 2697,1047 --dem terrain.tif
  aerie locate --batch poses.csv --dem terrain.tif > places.csv
  aerie locate --batch poses.csv --dem terrain.tif --adjust > places.csv
  aerie locate --batch pixels.csv --images photos > places.csv

A table needs px_x, px_y and either image (with --images) or a pose: drone_lat, drone_lon, drone_hae_m (or cam_lat, cam_lon,
cam_hae_m; drone_alt_egm96_m, drone_alt_egm2008_m beside it or instead), yaw_true_deg, pitch_deg (-90 is straight down),
roll_deg, img_w, img_h, fx, fy, cx, cy (or fx_px and so on), optionally k1, k2, p1, p2, k3. The ground is the terrain model,
or stands in the column ground_hae_m or in --ground. Where a pose is better known than a drone's own, sigma_horizontal_m,
sigma_vertical_m, sigma_yaw_deg and sigma_tilt_deg say how well (one sigma). With --adjust, object_id (or gcp_id) says what is the same thing, and
pose_id or image what is the same picture; time_s lets a wrong camera clock show. All columns come back, followed by out_lat,
out_lon, out_height_m, semi_major_m, semi_minor_m, bearing_deg, status (ok, ok;and what to know, or why not). Positions are
WGS 84, heights count as the ground's do, ellipses are 95 %. Standard error says the datums, how many rows have which status
(and in which lines of the table) and what was assumed.
Exit code: 0 if any place was found, 1 if none, 2 for wrong usage.")]
pub struct LocateArgs {
    /// A photo with its pose in EXIF and XMP.
    #[arg(value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// The pixel, from the picture's top-left corner.
    #[arg(long, value_name = "X,Y", value_parser = pixel, allow_hyphen_values = true)]
    pub pixel: Option<Pixel>,
    /// A table of poses and pixels, CSV with a header; - reads it from standard input.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["image", "pixel"])]
    pub batch: Option<PathBuf>,
    /// Where the pictures named in the table's column `image` are.
    #[arg(long, value_name = "DIR", requires = "batch")]
    pub images: Option<PathBuf>,
    /// A terrain model: GeoTIFF, DTED or SRTM .hgt.
    #[arg(long, value_name = "FILE")]
    pub dem: Option<PathBuf>,
    /// What its heights are counted from, where the file does not say: ellipsoid, egm96 or egm2008.
    #[arg(long, value_name = "DATUM", requires = "dem", value_parser = world::datum)]
    pub dem_datum: Option<HeightDatum>,
    /// A geoid grid (PROJ .gtx or GeographicLib .pgm), to compare ellipsoidal heights with those above the sea. Without it
    /// those of the packages proj-data and geographiclib are looked for.
    #[arg(long, value_name = "FILE")]
    pub geoid: Vec<PathBuf>,
    /// Height of the ground, metres: above the take-off point for photos (0 if not given); for a table in the datum of the
    /// camera's height, which is the ellipsoid where the table tells the height above the sea too. Without it and without --dem, a photo with a laser range takes the height of what the laser hit in
    /// the picture's centre (status laser_ground), a roof or a treetop as it may be.
    #[arg(long, value_name = "METRES", allow_negative_numbers = true)]
    pub ground: Option<f64>,
    /// Height of the seen point above the ground, metres.
    #[arg(long, value_name = "METRES", default_value_t = 0.0, allow_negative_numbers = true)]
    pub above_ground: f64,
    /// Refuse places further away than this, metres [default: 2000].
    #[arg(long, value_name = "METRES", allow_negative_numbers = true)]
    pub max_range: Option<f64>,
    /// Adjust all rows together as one sortie.
    #[arg(long, requires = "batch")]
    pub adjust: bool,
    /// Where to write the sortie's estimated errors, JSON.
    #[arg(long, value_name = "FILE", requires = "adjust")]
    pub report: Option<PathBuf>,
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

const NOTHING_GIVEN: &str =
    "give a photo as IMAGE with --pixel X,Y, or a table by --batch FILE.csv; aerie locate --help shows examples";

/// What is wrong with the options as a whole. Clap does not ask for what an option requires where it excludes what is given.
fn misused(args: &LocateArgs) -> Option<String> {
    if args.batch.is_some() {
        return None;
    }
    let for_tables =
        [(args.adjust, "--adjust"), (args.images.is_some(), "--images"), (args.report.is_some(), "--report")];
    if let Some((_, option)) = for_tables.iter().find(|(given, _)| *given) {
        return Some(format!("{option} is for a table: give it by --batch FILE.csv"));
    }
    (args.image.is_none() || args.pixel.is_none()).then(|| NOTHING_GIVEN.to_owned())
}

pub fn run(args: LocateArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.ground.is_none_or(f64::is_finite), "--ground must be a number of metres");
    ensure!(args.max_range.is_none_or(|m| m.is_finite() && m > 0.0), "--max-range must be a positive number of metres");
    ensure!(args.above_ground.is_finite(), "--above-ground must be a number of metres");
    if args.dem.is_some() && args.ground.is_some() {
        eprintln!(
            "--ground is used only where a table's rows leave the terrain model; elsewhere --dem says the ground"
        );
    }
    if !args.geoid.is_empty() && args.dem.is_none() && args.batch.is_none() {
        eprintln!("--geoid is not used: over flat ground a photo's heights are compared with no other");
    }
    if let Some(text) = misused(&args) {
        eprintln!("aerie: {text}");
        return Ok(ExitCode::from(2));
    }
    let stdout = std::io::stdout().lock();
    let found = match (&args.image, args.pixel, &args.batch) {
        (Some(image), Some(pixel), None) => one(image, pixel, &args, stdout)?,
        (None, None, Some(table)) if table == Path::new("-") => {
            batch(std::io::stdin().lock(), &args, BufWriter::new(stdout))?
        }
        (None, None, Some(table)) => {
            let file = std::fs::File::open(table).with_context(|| format!("cannot open {}", table.display()))?;
            batch(BufReader::new(file), &args, BufWriter::new(stdout))?
        }
        _ => bail!("{NOTHING_GIVEN}"),
    };
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One photo, one pixel; whether it has a place.
fn one(image: &Path, (x, y): Pixel, args: &LocateArgs, mut out: impl Write) -> anyhow::Result<bool> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let world = World::read(args.dem.as_deref(), args.dem_datum, &args.geoid)?;
    let around = Surroundings { world, ground_m: args.ground };
    let (photo, mut shot) = match around.shot(&bytes) {
        Ok(read) => read,
        Err(reason) => {
            eprintln!("{}: {reason}", image.display());
            let answer = refused("no_pose", &reason, Vec::new());
            writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
            return Ok(false);
        }
    };
    let mut notes: Vec<Value> = photo.notes.iter().map(|n| json!(n)).collect();
    let target = Target { height_m: args.above_ground, ..Target::ground([x, y]) };
    shot.max_range_m = args.max_range.unwrap_or(DEFAULT_MAX_RANGE_M);
    notes.extend(shot.notes.iter().map(|n| json!(n)));
    notes.extend(shot.assumed.iter().map(|a| json!(a.text())));
    let result = shot.locate(&target, around.world.dem.as_ref());
    let answer = match &result {
        Ok(found) => json!({
            "lat": round(found.place.at.lat, 8),
            "lon": round(found.place.at.lon, 8),
            "datum": "WGS 84",
            "height_m": round(found.height_m, 2),
            "height_datum": shot.datum.name(),
            "height_sigma_m": round(found.height_sigma_m, 2),
            "semi_major_m": round(found.place.uncertainty.semi_major_m, 2),
            "semi_minor_m": round(found.place.uncertainty.semi_minor_m, 2),
            "bearing_deg": round(found.place.uncertainty.bearing_deg, 1),
            "slant_m": round(found.place.slant_m, 1),
            "status": shot.status(found.gap_m),
            "also": also(found.place.at),
            "notes": notes,
        }),
        Err(error) => refused(error.code(), &error.to_string(), notes),
    };
    writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
    Ok(result.is_ok())
}

/// The answer without a place.
fn refused(status: &str, reason: &str, notes: Vec<Value>) -> Value {
    json!({
        "lat": null, "lon": null, "height_m": null, "height_datum": null,
        "semi_major_m": null, "semi_minor_m": null, "bearing_deg": null,
        "status": status,
        "reason": reason,
        "notes": notes,
    })
}

/// The same place in the coordinates that others ask for, each named.
fn also(at: LatLon) -> Value {
    let grid = |g: datum::GridPosition| json!({"grid": g.name, "epsg": g.epsg, "east_m": round(g.east_m, 2), "north_m": round(g.north_m, 2)});
    let named = datum::named(at);
    let degrees = |p: LatLon| json!({"lat": round(p.lat, 8), "lon": round(p.lon, 8)});
    json!({
        "CGCS2000": degrees(named.cgcs2000),
        "CGCS2000 Gauss-Kruger": datum::gauss_kruger(at).map(grid),
        "UTM": datum::utm(at).map(grid),
        "GCJ-02 (display only)": named.gcj02.map(degrees),
    })
}

fn round(v: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (v * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Attitude, Camera, Pose};

    const HEADER: &str =
        "id,cam_lat,cam_lon,cam_hae_m,yaw_true_deg,pitch_deg,roll_deg,img_w,img_h,fx,fy,cx,cy,ground_hae_m,px_x,px_y";

    fn args() -> LocateArgs {
        LocateArgs::default()
    }

    fn table(rows: &[&str]) -> Vec<Vec<String>> {
        let text = format!("{HEADER}\n{}\n", rows.join("\n"));
        let mut out = Vec::new();
        batch(text.as_bytes(), &args(), &mut out).unwrap();
        String::from_utf8(out).unwrap().lines().map(|line| csv::split(line).0).collect()
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

    fn with(args: &LocateArgs, text: &str) -> Result<Vec<Vec<String>>, String> {
        let mut out = Vec::new();
        batch(text.as_bytes(), args, &mut out).map_err(|e| format!("{e:#}"))?;
        Ok(String::from_utf8(out).unwrap().lines().skip(1).map(|line| csv::split(line).0).collect())
    }

    const GOOD: &str = "23.0,113.0,120,0,-90,0,400,300,200,200,200,150,20,200,150";

    #[test]
    fn a_value_that_cannot_be_is_refused_with_its_column_and_what_it_is() {
        let rows = table(&[
            "yaw,23.0,113.0,120,7000,-90,0,400,300,200,200,200,150,20,200,150",
            "pitch,23.0,113.0,120,0,-430,0,400,300,200,200,200,150,20,200,150",
            "roll,23.0,113.0,120,0,-90,1e9,400,300,200,200,200,150,20,200,150",
            "fx,23.0,113.0,120,0,-90,0,400,300,0,200,200,150,20,200,150",
            "word,23.0,113.0,120,north,-90,0,400,300,200,200,200,150,20,200,150",
            &format!("comma,{GOOD},one more"),
            &format!("empty,{GOOD},"),
        ]);
        for (i, words) in [
            vec!["yaw_true_deg", "7000"],
            vec!["pitch_deg", "-430"],
            vec!["roll_deg", "1000000000"],
            vec!["fx"],
            vec!["column 5", "yaw_true_deg", "north"],
            vec!["17 fields", "16"],
        ]
        .iter()
        .enumerate()
        {
            let status = &rows[i + 1][22];
            assert!(status.starts_with("bad_input: ") && words.iter().all(|w| status.contains(w)), "{status}");
        }
        assert_eq!(rows[7][22], "ok", "an empty field at the end is no field");
    }

    #[test]
    fn a_table_that_cannot_be_read_says_how_it_could() {
        let refused = |header: &str, args: &LocateArgs| with(args, header).unwrap_err();
        assert!(refused(&HEADER.replace(',', ";"), &args()).contains("commas"));
        assert!(refused(&HEADER.replace(',', "\t"), &args()).contains("commas"));
        let ground = LocateArgs { ground: Some(0.0), ..args() };
        assert!(refused("image,px_x,px_y", &ground).contains("--images"));
        let absent = LocateArgs { images: Some("/nowhere/at/all".into()), ..args() };
        assert!(refused("image,px_x,px_y", &absent).contains("/nowhere/at/all"));
        // Before the work, and by its own name.
        let report = LocateArgs {
            adjust: true,
            report: Some("/nowhere/at/all.json".into()),
            batch: Some("table.csv".into()),
            ..args()
        };
        let error = refused(HEADER, &report);
        assert!(error.contains("/nowhere/at/all.json") && !error.contains("table.csv"), "{error}");
        let named = LocateArgs { batch: Some("table.csv".into()), ..args() };
        assert!(refused("px_x,px_y", &named).starts_with("table.csv"));
    }

    #[test]
    fn what_is_no_table_of_text_says_what_it_may_be() {
        let refused = |bytes: &[u8]| format!("{:#}", batch(bytes, &args(), Vec::new()).unwrap_err());
        let photo = refused(b"\xff\xd8\xff\xe1\x00\x10Exif\0\0II*\0");
        assert!(photo.contains("--pixel") && photo.contains("--images"), "{photo}");
        let gbk = [HEADER.as_bytes(), b"\nok,", GOOD.as_bytes(), b"\n\xb9\xe3\xd6\xdd,", GOOD.as_bytes()].concat();
        let refused = refused(&gbk);
        assert!(refused.contains("line 3") && refused.contains("UTF-8"), "{refused}");
    }

    #[test]
    fn a_number_that_no_computer_holds_is_called_too_large() {
        let digits = "9".repeat(309);
        let rows = table(&[
            &format!("a,{digits},113.0,120,0,-90,0,400,300,200,200,200,150,20,200,150"),
            "b,inf,113.0,120,0,-90,0,400,300,200,200,200,150,20,200,150",
        ]);
        let status = &rows[1][22];
        assert!(status.contains("column 2 (cam_lat) is too large a number") && status.len() < 100, "{status}");
        assert!(rows[2][22].contains("is no number: \"inf\""), "{}", rows[2][22]);
    }

    #[test]
    fn a_pose_that_was_surveyed_may_say_so() {
        let header = format!("{HEADER},sigma_horizontal_m,sigma_vertical_m,sigma_yaw_deg,sigma_tilt_deg");
        let rows =
            with(&args(), &format!("{header}\na,{GOOD},0.02,0.02,0.01,0.01\nb,{GOOD},,,,\nc,{GOOD},-1,,,\n")).unwrap();
        let major = |i: usize| rows[i][23].parse::<f64>().unwrap();
        assert!(major(0) < 2.6 && major(1) > 3.5, "{rows:?}");
        assert!(rows[2][26].contains("sigma_horizontal_m"), "{rows:?}");
    }

    #[test]
    fn heights_above_ellipsoid_and_sea_that_contradict_each_other_widen_the_ellipse() {
        let header = HEADER.replace("cam_hae_m", "cam_hae_m,cam_alt_egm96_m");
        // With the sea as high as the ellipsoid everywhere; 30° off the vertical, 100 m above the ground by the first height.
        let folder = tempfile::tempdir().unwrap();
        let flat = LocateArgs { geoid: vec![level_geoid(folder.path())], ..args() };
        let row = |egm: &str| format!("a,23.0,113.0,120,{egm},0,-60,0,400,300,200,200,200,150,20,200,150");
        let text = [row("122"), row("80"), row("160"), row("60"), row("20")].join("\n");
        let rows = with(&flat, &format!("{header}\n{text}\n")).unwrap();
        let status = |i: usize| rows[i][23].as_str();
        assert_eq!((status(0), status(1), status(2)), ("ok", "ok;heights_contradict", "ok;heights_contradict"));
        // The other height puts the place 23 m nearer or further along the view, and its own ellipse counts too.
        for (i, above_m) in [(1, 60.0_f64), (2, 140.0)] {
            let by_other =
                with(&flat, &format!("{HEADER}\n{}\n", row("").replace("120,,", &format!("{},", above_m + 20.0))));
            let other = by_other.unwrap()[0].clone();
            let number = |v: &str| v.parse::<f64>().unwrap();
            let way_m = (number(&other[16]) - number(&rows[i][17])).abs() * 110_750.0;
            assert!((way_m - 40.0 / 3_f64.sqrt()).abs() < 0.1, "{way_m}");
            let (major_m, others_m) = (number(&rows[i][20]), number(&other[19]));
            assert!(
                major_m >= way_m + 0.5 * others_m && major_m < 2.0 * (way_m + others_m),
                "{major_m} {way_m} {others_m}"
            );
        }
        assert!(rows[0][20].parse::<f64>().unwrap() < 20.0, "{rows:?}");
        // Further apart than anything is worth, each refused with its reason.
        for i in [3, 4] {
            assert!(status(i).starts_with("heights_contradict: ") && rows[i][17].is_empty(), "{}", status(i));
        }
        assert!(status(4).contains("100 m apart"), "{}", status(4));
    }

    /// A geoid that is the ellipsoid.
    fn level_geoid(folder: &Path) -> PathBuf {
        let mut bytes = Vec::new();
        bytes.extend([-90.0_f64, -180.0, 4.5, 4.5].map(f64::to_be_bytes).concat());
        bytes.extend([41_u32, 80].map(u32::to_be_bytes).concat());
        bytes.extend([0; 4 * 41 * 80]);
        let path = folder.join("egm96_level.gtx");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn where_no_look_has_a_place_the_adjustment_gives_each_row_its_reason() {
        let adjust = LocateArgs { adjust: true, ..args() };
        let header = HEADER.replace("id,", "object_id,");
        let sky = "a,23.0,113.0,120,0,30,0,400,300,200,200,200,150,20,200,150";
        let rows = with(&adjust, &format!("{header}\n{sky}\n{}\n", sky.replace(",30,", ",x,"))).unwrap();
        assert_eq!(rows[0][22], "above_horizon");
        assert!(rows[1][22].contains("pitch_deg"));
    }

    #[test]
    fn what_lies_further_than_the_limit_is_refused_after_an_adjustment_too() {
        let near = LocateArgs { adjust: true, max_range: Some(125.0), ..args() };
        let header = HEADER.replace("id,", "object_id,");
        // The same thing from above, and from the side, 129 m away.
        let above = format!("a,{GOOD}");
        let beside = "a,23.0,112.9992,120,90,-50.6,0,400,300,200,200,200,150,20,200,150";
        let rows = with(&near, &format!("{header}\n{above}\n{beside}\n")).unwrap();
        assert_eq!((rows[0][22].as_str(), rows[1][22].as_str()), ("ok", "too_far"), "{rows:?}");
    }

    #[test]
    fn a_photo_whose_tags_contradict_each_other_has_an_ellipse_that_holds_both_or_none() {
        let camera = Camera::from_fov(4000, 3000, 70.0);
        let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -60.0, roll_deg: 0.0 };
        let pose = Pose { at: LatLon { lat: 23.0, lon: 113.0 }, height_m: 100.0, attitude, sigma: TABLE_SIGMA };
        let plain = shot::Shot::flat(camera, 0.0, pose, 0.0, HeightDatum::TakeOff);
        let behind = Attitude { yaw_deg: 180.0, ..attitude };
        let doubted = shot::Shot { may_look: vec![behind], doubts: vec!["headings_contradict"], ..plain.clone() };
        let target = Target::ground([2000.0, 1500.0]);
        let (a, b) = (plain.locate(&target, None).unwrap(), doubted.locate(&target, None).unwrap());
        // 57.7 m ahead, or as far behind.
        assert!(a.place.uncertainty.semi_major_m < 20.0 && b.place.uncertainty.semi_major_m > 115.0, "{b:?}");
        assert!((a.height_sigma_m - TABLE_SIGMA.vertical_m).abs() < 0.1, "{}", a.height_sigma_m);
        assert_eq!(doubted.status(0.0), "ok;headings_contradict");
        let sky = shot::Shot { may_look: vec![Attitude { pitch_deg: 60.0, ..attitude }], ..plain };
        let refused = sky.locate(&target, None).unwrap_err();
        assert!(refused.code() == "tags_contradict" && refused.to_string().contains("above the horizon"), "{refused}");
    }

    #[test]
    fn a_photo_without_a_pose_is_answered_in_json_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bare.png");
        image::RgbImage::new(400, 300).save(&path).unwrap();
        let mut out = Vec::new();
        assert!(!one(&path, (1.0, 1.0), &args(), &mut out).unwrap());
        let answer: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(answer["status"], "no_pose");
        assert!(answer["reason"].as_str().unwrap().contains("PNG"));
    }

    #[test]
    fn a_row_that_is_short_or_empty_names_what_it_cannot_do_without() {
        let header = format!("{HEADER},k1,k2,p1,p2,k3");
        let empty = ",".repeat(20);
        let rows = [format!("a,{GOOD},,,,,"), "a,23.0,113.0".to_owned(), empty, format!("a,{GOOD},0.1,,,,")];
        let rows = with(&args(), &format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        let status = |i: usize| rows[i].last().unwrap().as_str();
        assert_eq!(status(0), "ok", "a lens model is not told of every row");
        assert!(status(1).contains("column 4 (cam_hae_m) is missing: 3 fields, the header has 21"), "{}", status(1));
        assert_eq!(status(2), "bad_input: column 2 (cam_lat) is empty");
        assert!(status(3).contains("(k2) is empty"), "{}", status(3));
    }

    #[test]
    fn a_column_that_is_there_twice_is_an_error_as_is_an_answer_given_as_a_question() {
        let error = with(&args(), &format!("{HEADER},pitch_deg\n")).unwrap_err();
        assert!(error.contains("column pitch_deg twice"), "{error}");
        let error = with(&args(), &format!("{HEADER},out_lat,out_lon,status\n")).unwrap_err();
        assert!(error.contains("out_lat already"), "{error}");
        let loud = with(&args(), &format!("{}\na,{GOOD}\n", HEADER.to_ascii_uppercase())).unwrap();
        assert_eq!(loud[0][22], "ok", "capitals are no other name");
        let error = with(&args(), &format!("{HEADER}\ra,{GOOD}\r")).unwrap_err();
        assert!(error.contains("CR alone"), "{error}");
    }

    #[test]
    fn a_forgotten_quote_costs_one_row_and_a_quoted_line_break_none() {
        let rows = {
            let mut out = Vec::new();
            let text = format!("{HEADER}\n\"a\nb\",{GOOD}\n\"c,{GOOD}\nd,{GOOD}\n");
            batch(text.as_bytes(), &args(), &mut out).unwrap();
            let mut rows = csv::Rows::new(out.as_slice());
            std::iter::from_fn(|| rows.next().unwrap().map(|row| row.fields)).collect::<Vec<_>>()
        };
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[1][0].as_str(), rows[1][22].as_str()), ("a\nb", "ok"));
        assert!(rows[2][22].contains("a quote opens in this line"), "{rows:?}");
        assert_eq!((rows[3][0].as_str(), rows[3][22].as_str()), ("d", "ok"));
    }

    #[test]
    fn a_camera_higher_than_drones_fly_has_an_ellipse_that_holds_feet_too() {
        // 150 m above ground that lies at 10 m, 45° down: in metres, all in feet, the camera alone in feet.
        let row = |camera: f64, ground: f64| {
            format!("a,23.0,113.0,{camera},0,-45,0,400,300,200,200,200,150,{ground},200,150")
        };
        let rows = table(&[&row(160.0, 10.0), &row(160.0 / 0.3048, 10.0 / 0.3048), &row(160.0 / 0.3048, 10.0)]);
        let status = |i: usize| rows[i][22].as_str();
        assert_eq!((status(1), status(2), status(3)), ("ok", "ok;height_unlikely", "ok;height_unlikely"));
        let number = |i: usize, column: usize| rows[i][column].parse::<f64>().unwrap();
        for i in [2, 3] {
            let off_m = (number(i, 16) - number(1, 16)) * 110_750.0;
            assert!(off_m > 300.0 && number(i, 19) > off_m && number(i, 19) < 2.0 * off_m, "{off_m} {:?}", rows[i]);
        }
        // An adjustment knows it as an error of the height.
        let adjust = LocateArgs { adjust: true, ..args() };
        let header = HEADER.replace("id,", "object_id,");
        let alone = with(&adjust, &format!("{header}\n{}\n", row(160.0 / 0.3048, 10.0 / 0.3048))).unwrap();
        assert!(alone[0][22].starts_with("ok;height_unlikely"), "{alone:?}");
        assert!(alone[0][19].parse::<f64>().unwrap() > 300.0, "{alone:?}");
    }

    #[test]
    fn a_picture_has_one_pose_and_looks_that_mostly_contradict_are_said_to() {
        let adjust = LocateArgs { adjust: true, ..args() };
        let header = HEADER.replace("id,", "pose_id,").replace("px_x", "object_id,px_x");
        let row = |pose: &str, lat: f64, object: &str| {
            format!("{pose},{lat},113.0,120,0,-90,0,400,300,200,200,200,150,20,{object},200,150")
        };
        let rows = [row("a", 23.0, "x"), row("a", 23.001, "y"), row("", 23.002, "z"), row("", 23.003, "z")];
        let rows = with(&adjust, &format!("{header}\n{}\n", rows.join("\n"))).unwrap();
        assert_eq!(rows[0][23], "ok;many_outliers", "one of three");
        assert!(rows[1][23].contains("(pose_id): \"a\" was told with another pose"), "{rows:?}");
        // Two pictures, 111 m apart, that look straight down at what is said to be one thing.
        let apart_m = (rows[2][17].parse::<f64>().unwrap() - rows[3][17].parse::<f64>().unwrap()) * 110_750.0;
        assert!(apart_m.abs() < 1.0 && rows[2][23].ends_with(";many_outliers"), "{rows:?}");
        let open = LocateArgs { ground: Some(20.0), ..args() };
        let left = GOOD.replace("150,20,200", "150,,200");
        assert_eq!(with(&open, &format!("{HEADER}\na,{left}\n")).unwrap()[0][22], "ok", "--ground says it");
    }

    #[test]
    fn a_pitch_near_the_horizon_may_be_counted_from_nadir() {
        let row = |pitch: f64, y: f64| format!("a,23.0,113.0,120,0,{pitch},0,400,300,200,200,200,150,20,200,{y}");
        let rows = table(&[&row(-90.0, 200.0), &row(0.0, 200.0), &row(-20.0, 200.0)]);
        let status = |i: usize| rows[i][22].as_str();
        assert_eq!((status(1), status(2), status(3)), ("ok", "ok;pitch_unlikely", "ok"));
        let number = |i: usize, column: usize| rows[i][column].parse::<f64>().unwrap();
        let off_m = (number(2, 16) - number(1, 16)) * 110_750.0;
        assert!(off_m > 400.0 && number(2, 19) > off_m, "{off_m} {:?}", rows[2]);
    }

    #[test]
    fn zero_zero_is_no_fix_in_a_table_either() {
        let rows = table(&["a,0,0.0,120,0,-90,0,400,300,200,200,200,150,20,200,150"]);
        assert_eq!(rows[1][22], "bad_input: column 2 (cam_lat) and column 3 (cam_lon) are 0, 0, no fix");
    }

    #[test]
    fn a_lens_unlike_others_has_an_ellipse_that_holds_the_usual_one_or_is_refused() {
        let row = |lens: &str| format!("a,23.0,113.0,120,0,-90,0,400,300,{lens},20,300,150");
        let rows = table(&[
            &row("200,200,320,150"),
            &row("200,240,200,150"),
            &row("200,205,210,140"),
            &row("200,200,520,150"),
            &row("200,900,200,150"),
        ]);
        let number = |i: usize, column: usize| rows[i][column].parse::<f64>().unwrap();
        assert_eq!(
            (&rows[1][22][..], &rows[2][22][..], &rows[3][22][..]),
            ("ok;lens_unlikely", "ok;lens_unlikely", "ok")
        );
        // By a centre in the middle the place is 60 m further to the right.
        assert!(number(1, 19) > 60.0 && number(3, 19) < 20.0, "{rows:?}");
        assert!(rows[4][22].contains("(cx): a centre at 520 is outside"), "{}", rows[4][22]);
        assert!(rows[5][22].contains("(fy): 900 is 4.5 times off fx"), "{}", rows[5][22]);
    }

    #[test]
    fn away_from_a_measured_point_the_ground_is_less_surely_as_high() {
        let camera = Camera::from_fov(4000, 3000, 70.0);
        let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -90.0, roll_deg: 0.0 };
        let at = LatLon { lat: 23.0, lon: 113.0 };
        let pose = Pose { at, height_m: 100.0, attitude, sigma: TABLE_SIGMA };
        let flat = shot::Shot::flat(camera, 0.0, pose, 0.0, HeightDatum::TakeOff);
        // A tree of 30 m below the camera.
        let measured = shot::Ranged { at, height_m: 30.0, else_m: 0.0 };
        let ranged = shot::Shot { ground: shot::Below::Ranged(measured), ..flat.clone() };
        let found = |shot: &shot::Shot, pixel| shot.locate(&Target::ground(pixel), None).unwrap();
        let [centre, corner] = [[2000.0, 1500.0], [20.0, 20.0]].map(|pixel| found(&ranged, pixel));
        assert!(centre.height_sigma_m < 3.0 && centre.height_m == 30.0, "{centre:?}");
        assert!(corner.height_sigma_m * 1.96 > 30.0, "{corner:?}");
        let apart_m = corner.place.at.distance_m(found(&flat, [20.0, 20.0]).place.at);
        assert!(apart_m > 20.0 && corner.place.uncertainty.semi_major_m > apart_m, "{apart_m} {corner:?}");
    }

    #[test]
    fn a_photo_of_two_focal_lengths_has_an_ellipse_that_holds_where_either_puts_the_place() {
        let camera = Camera::from_fov(4000, 3000, 70.0);
        let attitude = Attitude { yaw_deg: 0.0, pitch_deg: -60.0, roll_deg: 0.0 };
        let pose = Pose { at: LatLon { lat: 23.0, lon: 113.0 }, height_m: 100.0, attitude, sigma: TABLE_SIGMA };
        let one = shot::Shot::flat(camera, 0.02, pose, 0.0, HeightDatum::TakeOff);
        let longer = Camera { fx: camera.fx * 1.5, fy: camera.fy * 1.5, ..camera };
        let both = shot::Shot { may_be: vec![longer], ..one.clone() };
        let other = shot::Shot { camera: longer, ..one.clone() };
        let target = Target::ground([3900.0, 200.0]);
        let found = |shot: &shot::Shot| shot.locate(&target, None).unwrap().place;
        let apart_m = found(&one).at.distance_m(found(&other).at);
        let (a, b) = (found(&one).uncertainty, found(&both).uncertainty);
        assert!(apart_m > 2.0 * a.semi_major_m && b.semi_major_m > apart_m, "{apart_m} {a:?} {b:?}");
    }

    #[test]
    fn a_pixel_is_two_numbers() {
        assert_eq!(pixel("1920, 1080.5"), Ok((1920.0, 1080.5)));
        for bad in ["", "5", "5;6", "a,b", "1,nan", "1,2,3"] {
            assert!(pixel(bad).is_err(), "{bad}");
        }
    }
}
