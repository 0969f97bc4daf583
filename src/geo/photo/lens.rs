//! A photo's camera model from what the photo says of its lens.

use super::exif::Fields;
use super::size::Size;
use super::xmp::{Properties, Words};
use crate::geo::{Camera, Distortion};

/// Cameras whose EXIF name stands for one lens on one sensor, with the sources of every fact.
const CAMERAS: &str = include_str!("cameras.csv");

/// One row of [`CAMERAS`].
struct Known {
    sensor_w_mm: f64,
    sensor_h_mm: f64,
    distortion: Option<Distortion>,
}

fn known(model: &str) -> Option<Known> {
    CAMERAS.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = line.split(',');
        if !fields.next()?.eq_ignore_ascii_case(model) {
            return None;
        }
        let mut number = || fields.next()?.parse().ok();
        let (sensor_w_mm, sensor_h_mm) = (number()?, number()?);
        let terms = [number(), number(), number(), number(), number()];
        let distortion = match terms {
            [Some(k1), Some(k2), Some(p1), Some(p2), Some(k3)] => Some(Distortion::Brown([k1, k2, p1, p2, k3])),
            _ => None,
        };
        Some(Known { sensor_w_mm, sensor_h_mm, distortion })
    })
}

/// The diagonal of a 36 × 24 mm frame, by which 35 mm equivalents are stated.
const DIAGONAL_35MM: f64 = 43.266_615_305_567_87;
/// Wider or narrower than any drone's lens: the numbers are nonsense.
const FOV_DEG: std::ops::RangeInclusive<f64> = 2.0..=150.0;
/// Two statements of the focal length that differ by more than this contradict each other: no rounding and no cropped format of
/// a drone explains it.
const DISAGREE: f64 = 0.15;

/// A camera, and one sigma of its focal length as a share of it.
pub(super) struct Lens {
    pub camera: Camera,
    pub focal_sigma: f64,
    /// What it would be by the other statement of its focal length, where that contradicts the one taken.
    pub may_be: Option<Camera>,
}

/// One sigma of a focal length from a calibration of this very lens, of this type of lens, from EXIF and the sensor's size,
/// and from a 35 mm equivalent rounded to whole millimetres.
const CALIBRATED: f64 = 0.003;
const CALIBRATED_TYPE: f64 = 0.01;
const FROM_SENSOR: f64 = 0.02;
const FROM_35MM: f64 = 0.03;

/// The lens, or nothing where the focal length cannot be told. What was assumed goes into `notes`.
pub(super) fn lens(
    width_px: u32,
    height_px: u32,
    size: &Size,
    exif: &Fields,
    xmp: &Properties,
    notes: &mut Vec<String>,
) -> Option<Lens> {
    let (w, h) = (f64::from(width_px), f64::from(height_px));
    let stated = dewarp(w, h, size.scale, xmp, notes)
        .or_else(|| skydio(w, h, size.scale, xmp))
        .or_else(|| pix4d(w, h, size.scale, exif, xmp))
        .map(|camera| Lens { camera, focal_sigma: CALIBRATED, may_be: None });
    let lens = stated.or_else(|| {
        let Focal { px: f, sigma: focal_sigma, distortion, or_px } = focal_px(w, h, size.scale, exif, xmp, notes)?;
        let camera = Camera { width_px, height_px, fx: f, fy: f, cx: w / 2.0, cy: h / 2.0, distortion };
        let may_be = or_px.map(|f| Camera { fx: f, fy: f, ..camera });
        Some(Lens { camera, focal_sigma, may_be })
    })?;
    let fov = 2.0 * (w / 2.0 / lens.camera.fx).atan().to_degrees();
    (lens.camera.valid() && FOV_DEG.contains(&fov)).then_some(lens)
}

/// Skydio's calibration: focal lengths and centre in pixels of the full picture, k1, k2, k3.
fn skydio(w: f64, h: f64, scale: f64, xmp: &Properties) -> Option<Camera> {
    let number = |name| xmp.number(Words::Skydio, name);
    let (fx, fy) = (number("CalibratedFocalLength/X")?, number("CalibratedFocalLength/Y")?);
    let (cx, cy) = (number("CalibratedOpticalCenter/X")?, number("CalibratedOpticalCenter/Y")?);
    let distortion = match *xmp.numbers(Words::Skydio, "DewarpData").unwrap_or_default() {
        [k1, k2, k3] => Some(Distortion::Brown([k1, k2, 0.0, 0.0, k3])),
        _ => None,
    };
    Some(Camera {
        width_px: w as u32,
        height_px: h as u32,
        fx: fx * scale,
        fy: fy * scale,
        cx: cx * scale,
        cy: cy * scale,
        distortion,
    })
}

/// Pix4D's camera description: lengths in millimetres on the sensor, whose pixels EXIF counts.
fn pix4d(w: f64, h: f64, scale: f64, exif: &Fields, xmp: &Properties) -> Option<Camera> {
    let pitch = exif.focal_plane_px_per_mm.filter(|v| *v > 0.0)? * scale;
    let text = |name| xmp.text(Words::Camera, name);
    let list = |name| xmp.numbers(Words::Camera, name);
    let (cx, cy) = match *list("PrincipalPoint").unwrap_or_default() {
        [x, y] => (x * pitch, y * pitch),
        _ => (w / 2.0, h / 2.0),
    };
    let (fx, fy, distortion) = if text("ModelType").is_some_and(|t| t.eq_ignore_ascii_case("fisheye")) {
        // C, D, E, F of the affine matrix, in pixels; the polynomial in quarter turns.
        let [c, _, _, f] = *list("FisheyeAffineMatrix")?.as_slice() else {
            return None;
        };
        let [_, p1, p2, p3, p4] = *[list("FisheyePolynomial")?, vec![0.0]].concat().get(..5)? else {
            return None;
        };
        let per_radian = std::f64::consts::FRAC_2_PI * p1 * scale;
        (c * per_radian, f * per_radian, Distortion::pix4d_fisheye([p2 / p1, p3 / p1, p4 / p1]))
    } else {
        let f = xmp.number(Words::Camera, "PerspectiveFocalLength")? * pitch;
        let [k1, k2, k3, t1, t2] = *list("PerspectiveDistortion")?.as_slice() else {
            return None;
        };
        (f, f, Distortion::Brown([k1, k2, t1, t2, k3]))
    };
    Some(Camera { width_px: w as u32, height_px: h as u32, fx, fy, cx, cy, distortion: Some(distortion) })
}

/// DJI's calibration: "date;fx,fy,cx,cy,k1,k2,p1,p2,k3", the centre counted from the middle of the full picture.
fn dewarp(w: f64, h: f64, scale: f64, xmp: &Properties, notes: &mut Vec<String>) -> Option<Camera> {
    let (_, numbers) = xmp.text(Words::Dji, "DewarpData")?.split_once(';')?;
    let numbers: Vec<f64> = numbers.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?;
    let &[fx, fy, cx, cy, k1, k2, p1, p2, k3] = numbers.as_slice() else {
        return None;
    };
    let mut camera = Camera {
        width_px: w as u32,
        height_px: h as u32,
        fx: fx * scale,
        fy: fy * scale,
        cx: w / 2.0 + cx * scale,
        cy: h / 2.0 + cy * scale,
        distortion: Some(Distortion::Brown([k1, k2, p1, p2, k3])),
    };
    // The flag says that the camera itself took the distortion out.
    if xmp.number(Words::Dji, "DewarpFlag") == Some(1.0) {
        camera = Camera { cx: w / 2.0, cy: h / 2.0, distortion: None, ..camera };
        notes.push("distortion was removed in the camera (DewarpFlag 1)".to_owned());
    }
    Some(camera)
}

/// A focal length, its relative error, and the distortion of the type of lens where somebody measured it.
struct Focal {
    px: f64,
    sigma: f64,
    distortion: Option<Distortion>,
    /// What the other statement says, where it contradicts.
    or_px: Option<f64>,
}

fn focal_px(w: f64, h: f64, scale: f64, exif: &Fields, xmp: &Properties, notes: &mut Vec<String>) -> Option<Focal> {
    let zoom = exif.digital_zoom.filter(|z| *z > 1.0).unwrap_or(1.0);
    let calibrated = xmp.number(Words::Dji, "CalibratedFocalLength").filter(|f| *f > 0.0);
    let calibrated = calibrated.map(|f| f * scale * zoom);
    let model = exif.model.as_deref().unwrap_or("");
    let known = known(model);
    let by_sensor = known.as_ref().zip(exif.focal_mm).map(|(known, mm)| {
        // A 16:9 picture of a 4:3 sensor keeps the sensor's width, a 4:3 picture of a 3:2 one keeps its height.
        let (sw, sh) = (known.sensor_w_mm, known.sensor_h_mm);
        let one = if w * sh >= h * sw { mm / sw * w } else { mm / sh * h };
        one * zoom
    });
    let by_35mm = exif.focal_35mm.map(|f35| {
        // The equivalent is stated for the sensor's own format, so a 16:9 picture counts as cropped from 4:3.
        let native_h = h.max(if w / h > 1.6 { w * 0.75 } else { 0.0 });
        f35 / DIAGONAL_35MM * w.hypot(native_h) * zoom
    });
    let mut or_px = None;
    if let (Some(a), Some(b)) = (by_sensor, by_35mm)
        // Some count the digital zoom in the equivalent already.
        && [b, b / zoom].iter().all(|b| a.max(*b) / a.min(*b) > 1.0 + DISAGREE)
    {
        // A calibration of this lens says which is right.
        or_px = Some(b).filter(|_| calibrated.is_none());
        notes.push(format!(
            "focal length: {a:.0} px by the sensor (FocalLength), {b:.0} px by the 35 mm equivalent (FocalLengthIn35mmFilm); is the picture cropped?"
        ));
    }
    // A zoomed picture shows the lens's middle only, where it is straight.
    let distortion = known.as_ref().and_then(|k| k.distortion).filter(|_| zoom == 1.0);
    let (f, sigma, whence) = match (calibrated, by_sensor, by_35mm) {
        (Some(f), ..) => (f, FROM_SENSOR, "from the maker's calibration".to_owned()),
        (_, Some(f), _) => {
            let sigma = if distortion.is_some() { CALIBRATED_TYPE } else { FROM_SENSOR };
            (f, sigma, format!("from EXIF and the sensor of {model}"))
        }
        (.., Some(f)) => (f, FROM_35MM, "from the 35 mm equivalent (good to about 3 %)".to_owned()),
        _ => return None,
    };
    let lens = if distortion.is_some() { "distortion that of its type" } else { "lens distortion unknown" };
    notes.push(format!("focal length {whence}, {lens}"));
    Some(Focal { px: f, sigma, distortion, or_px })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_camera_of_the_table_is_one() {
        let mut models: Vec<&str> = CAMERAS
            .lines()
            .filter(|line| !line.starts_with('#'))
            .skip(1)
            .map(|line| {
                assert_eq!(line.split(',').count(), 9, "{line}");
                line.split(',').next().unwrap()
            })
            .collect();
        for model in &models {
            let k = known(model).unwrap_or_else(|| panic!("{model}"));
            assert!(
                (2.0..50.0).contains(&k.sensor_w_mm) && (1.0..2.0).contains(&(k.sensor_w_mm / k.sensor_h_mm)),
                "{model}"
            );
        }
        models.dedup();
        assert!(models.len() >= 30);
        assert!(known("fc300s").unwrap().distortion.is_some() && known("").is_none());
    }
}
