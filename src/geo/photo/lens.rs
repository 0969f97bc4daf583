//! A photo's camera model from what the photo says of its lens.

use super::exif::Fields;
use super::xmp::Dji;
use crate::geo::Camera;

/// Cameras whose EXIF name stands for one lens on one sensor: EXIF name, sensor width and height in mm.
///
/// Facts from the makers' specification pages (sensor format) and, where these give only a format, from OpenSfM's public
/// sensor list. Cameras that write one name for several lenses (H20T, M3T, M30T) are left out on purpose: for them the
/// 35 mm equivalent, which they do write, tells the lens.
const SENSORS: &[(&str, f64, f64)] = &[
    ("FC220", 6.17, 4.63),  // Mavic Pro
    ("FC300C", 6.17, 4.63), // Phantom 3 Standard
    ("FC300S", 6.17, 4.63), // Phantom 3 Advanced
    ("FC300X", 6.17, 4.63), // Phantom 3 Professional
    ("FC330", 6.17, 4.63),  // Phantom 4
    ("FC350", 6.17, 4.63),  // Inspire 1, Zenmuse X3
    ("FC2103", 6.17, 4.63), // Mavic Air
    ("FC7203", 6.17, 4.63), // Mavic Mini
    ("FC7303", 6.17, 4.63), // Mini 2
    ("FC550", 17.3, 13.0),  // Zenmuse X5
    ("FC6520", 17.3, 13.0), // Zenmuse X5S
    ("FC6510", 13.2, 8.8),  // Zenmuse X4S
    ("FC6310", 13.2, 8.8),  // Phantom 4 Pro
    ("FC6310S", 13.2, 8.8), // Phantom 4 Pro V2
    ("FC6310R", 13.2, 8.8), // Phantom 4 RTK
    ("L1D-20c", 13.2, 8.8), // Mavic 2 Pro
    ("FC3411", 13.2, 8.8),  // Air 2S
    ("M3E", 17.3, 13.0),    // Mavic 3 Enterprise, wide
    ("ZenmuseP1", 35.9, 24.0),
];

/// The diagonal of a 36 × 24 mm frame, by which 35 mm equivalents are stated.
const DIAGONAL_35MM: f64 = 43.266_615_305_567_87;
/// Wider or narrower than any drone's lens: the numbers are nonsense.
const FOV_DEG: std::ops::RangeInclusive<f64> = 2.0..=150.0;
/// Two statements of the focal length that differ by more than this are worth a note.
const DISAGREE: f64 = 0.15;

/// The camera, or nothing where the focal length cannot be told. What was assumed goes into `notes`.
pub(super) fn camera(
    width_px: u32,
    height_px: u32,
    exif: &Fields,
    xmp: &Dji,
    notes: &mut Vec<String>,
) -> Option<Camera> {
    let (w, h) = (f64::from(width_px), f64::from(height_px));
    let camera = dewarp(w, h, exif, xmp, notes).or_else(|| {
        let f = focal_px(w, h, exif, xmp, notes)?;
        Some(Camera { width_px, height_px, fx: f, fy: f, cx: w / 2.0, cy: h / 2.0, distortion: None })
    })?;
    let fov = 2.0 * (w / 2.0 / camera.fx).atan().to_degrees();
    (camera.valid() && FOV_DEG.contains(&fov)).then_some(camera)
}

/// DJI's calibration: "date;fx,fy,cx,cy,k1,k2,p1,p2,k3", the centre counted from the middle of the full picture.
fn dewarp(w: f64, h: f64, exif: &Fields, xmp: &Dji, notes: &mut Vec<String>) -> Option<Camera> {
    let (_, numbers) = xmp.text("DewarpData")?.split_once(';')?;
    let numbers: Vec<f64> = numbers.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?;
    let &[fx, fy, cx, cy, k1, k2, p1, p2, k3] = numbers.as_slice() else {
        return None;
    };
    let scale = w / full_width(w, exif, xmp);
    let mut camera = Camera {
        width_px: w as u32,
        height_px: h as u32,
        fx: fx * scale,
        fy: fy * scale,
        cx: w / 2.0 + cx * scale,
        cy: h / 2.0 + cy * scale,
        distortion: Some([k1, k2, p1, p2, k3]),
    };
    // The flag says that the camera itself took the distortion out.
    if xmp.number("DewarpFlag") == Some(1.0) {
        camera = Camera { cx: w / 2.0, cy: h / 2.0, distortion: None, ..camera };
        notes.push("distortion was removed in the camera (DewarpFlag 1)".to_owned());
    }
    Some(camera)
}

/// The width that a calibration in pixels is meant for: the picture may be a smaller copy.
fn full_width(w: f64, exif: &Fields, xmp: &Dji) -> f64 {
    let stated = xmp.number("CalibratedOpticalCenterX").map(|cx| 2.0 * cx).or(exif.width_px);
    stated.filter(|full| *full >= w).unwrap_or(w)
}

fn focal_px(w: f64, h: f64, exif: &Fields, xmp: &Dji, notes: &mut Vec<String>) -> Option<f64> {
    let zoom = exif.digital_zoom.filter(|z| *z > 1.0).unwrap_or(1.0);
    let calibrated = xmp.number("CalibratedFocalLength").filter(|f| *f > 0.0).map(|f| f * w / full_width(w, exif, xmp));
    let model = exif.model.as_deref().unwrap_or("");
    let sensor = SENSORS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(model));
    let by_sensor = sensor.zip(exif.focal_mm).map(|((_, sensor_w, sensor_h), mm)| {
        // A 16:9 picture of a 4:3 sensor keeps the sensor's width, a 4:3 picture of a 3:2 one keeps its height.
        let one = if w * sensor_h >= h * sensor_w { mm / sensor_w * w } else { mm / sensor_h * h };
        one * zoom
    });
    let by_35mm = exif.focal_35mm.map(|f35| {
        // The equivalent is stated for the sensor's own format, so a 16:9 picture counts as cropped from 4:3.
        let native_h = h.max(if w / h > 1.6 { w * 0.75 } else { 0.0 });
        f35 / DIAGONAL_35MM * w.hypot(native_h) * zoom
    });
    if let (Some(a), Some(b)) = (by_sensor, by_35mm)
        && (a / b - 1.0).abs() > DISAGREE
    {
        notes.push(format!(
            "focal length: {a:.0} px by the sensor, {b:.0} px by the 35 mm equivalent; is the picture cropped?"
        ));
    }
    let focal = calibrated.or(by_sensor).or(by_35mm)?;
    notes.push(match (calibrated, by_sensor) {
        (Some(_), _) => "focal length from the maker's calibration, lens distortion unknown".to_owned(),
        (None, Some(_)) => {
            format!("focal length from EXIF and the sensor of {model}, lens distortion unknown")
        }
        (None, None) => {
            "focal length from the 35 mm equivalent (good to about 2 %), lens distortion unknown".to_owned()
        }
    });
    Some(focal)
}
