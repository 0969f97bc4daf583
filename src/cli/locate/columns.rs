//! Which column of a table holds what, and the pose that a row tells in them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::LocateArgs;
use super::table::TABLE_SIGMA;
use crate::geo::heights::HeightDatum;
use crate::geo::level::{CameraHeights, Stated};
use crate::geo::{Attitude, Camera, Distortion, LatLon, Pose, PoseSigma};

/// How far off the middle a lens's centre is believed, as a share of the side, and how much longer than wide a pixel.
const CENTRE_OFF: f64 = 0.25;
const PIXEL_SKEW: f64 = 1.1;
/// A pixel so much longer than wide is none.
const PIXEL_ABSURD: f64 = 2.0;

/// Which column holds what.
pub(super) struct Columns {
    pub(super) pixel: [usize; 2],
    pub(super) ground: Option<usize>,
    pub(super) object: Option<usize>,
    pub(super) station: Option<usize>,
    pub(super) time: Option<usize>,
    pub(super) source: Source,
}

pub(super) enum Source {
    /// The column with a picture's name: the pose is in the picture.
    Pictures {
        image: usize,
        folder: PathBuf,
    },
    Rows(Box<PoseColumns>),
}

pub(super) struct PoseColumns {
    pub(super) lat: usize,
    pub(super) lon: usize,
    pub(super) heights: Vec<(usize, HeightDatum)>,
    /// yaw, pitch, roll.
    pub(super) attitude: [usize; 3],
    /// width, height, fx, fy, cx, cy.
    pub(super) camera: [usize; 6],
    pub(super) distortion: Option<[usize; 5]>,
    /// horizontal, vertical, yaw, tilt.
    pub(super) sigma: [Option<usize>; 4],
}

impl Columns {
    pub(super) fn new(header: &[String], args: &LocateArgs) -> anyhow::Result<Self> {
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
    pub(super) fn tells_several_heights(&self) -> bool {
        matches!(&self.source, Source::Rows(c) if c.heights.len() > 1)
    }
}

impl PoseColumns {
    pub(super) fn read(
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
    pub(super) fn usual_lens(
        &self,
        camera: &Camera,
        name: &impl Fn(usize) -> String,
    ) -> Result<Option<Camera>, String> {
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
