//! What each maker's metadata says of the pose, and what it means by it.
//!
//! | maker | attitude | heights |
//! |---|---|---|
//! | DJI, Autel (new) | `GimbalYaw/Pitch/RollDegree`, −90 straight down | `RelativeAltitude` above take-off; `AbsoluteAltitude` above the ellipsoid with an RTK fix, otherwise above the ellipsoid or the sea, by model and firmware |
//! | Parrot ANAFI | `CameraYaw/Pitch/RollDegree`, −90 straight down | EXIF above EGM96, of ANAFI Ai above the ellipsoid |
//! | Skydio | `CameraOrientationNED`, −90 straight down | `AbsoluteAltitude` above EGM96; `CameraPositionFLU` up from take-off |
//! | senseFly, Parrot's mapping cameras, Autel (old), Teal | Pix4D's `Camera:Yaw/Pitch/Roll`, 0 straight down | `AboveGroundAltitude` above take-off; EXIF, by maker |
//!
//! Sources: DJI and Parrot developer documentation, Pix4D's XMP description, the samples in the test data, and OpenAthena's
//! notes on altitude references.

use super::exif::Fields;
use super::xmp::{Properties, Words};
use super::{RTK_FIXED, SIGMA, SIGMA_RTK};
use crate::geo::heights::HeightDatum;
use crate::geo::level::Stated;
use crate::geo::{Attitude, LatLon, PoseSigma};

/// One sigma of an absolute altitude from a satellite fix without corrections, and of one from EXIF alone.
const ABSOLUTE_SIGMA_M: f64 = 3.0;
const RTK_HEIGHT_SIGMA_M: f64 = 0.15;
/// A gimbal that points straight down says so to within this.
const NADIR_NOISE_DEG: f64 = -5.0;

/// As far as it was said; what is needed and lacks is named by the caller.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// From XMP; EXIF's has fewer digits. Or which of its tags cannot be used.
    pub at: Option<Result<LatLon, String>>,
    pub yaw: Option<f64>,
    pub pitch: Option<f64>,
    pub roll: Option<f64>,
    /// The angles are counted from nadir.
    pub nadir_zero: bool,
    pub above_take_off_m: Option<f64>,
    pub absolute: Vec<Stated>,
    pub sigma: PoseSigma,
    pub notes: Vec<String>,
}

impl Said {
    /// The attitude, once all that it needs is there.
    pub fn attitude(&self) -> Option<Attitude> {
        let (yaw_deg, pitch_deg, roll_deg) = (self.yaw?, self.pitch?, self.roll.unwrap_or(0.0));
        Some(if self.nadir_zero {
            Attitude::from_nadir_zero(yaw_deg, pitch_deg, roll_deg)
        } else {
            Attitude { yaw_deg, pitch_deg, roll_deg }
        })
    }
}

pub(super) fn read(exif: &Fields, xmp: &Properties) -> Said {
    let mut said =
        if xmp.number(Words::Dji, "GimbalYawDegree").or(xmp.number(Words::Dji, "GimbalPitchDegree")).is_some() {
            dji(xmp)
        } else if xmp.number(Words::Parrot, "CameraYawDegree").is_some() {
            parrot(xmp)
        } else if xmp.number(Words::Skydio, "CameraOrientationNED/Yaw").is_some() {
            skydio(xmp)
        } else if xmp.number(Words::Camera, "Yaw").is_some() {
            pix4d(exif, xmp)
        } else {
            // Whatever DJI's words hold, so that what is missing is named as it is.
            dji(xmp)
        };
    if let Some(m) = exif.altitude_m
        && said.absolute.is_empty()
    {
        let datum = if exif.altitude_ellipsoidal { HeightDatum::Ellipsoid } else { exif_datum(exif) };
        said.absolute.push(Stated { m, datum, sigma_m: ABSOLUTE_SIGMA_M });
    }
    said
}

fn is(what: &Option<String>, word: &str) -> bool {
    what.as_ref().is_some_and(|v| v.to_ascii_lowercase().contains(word))
}

/// What the maker counts EXIF's GPSAltitude from. The standard says the sea, many write what the receiver gave.
fn exif_datum(exif: &Fields) -> HeightDatum {
    if is(&exif.make, "parrot") {
        let ai = is(&exif.model, "anafiai") || is(&exif.model, "anafi ai");
        return if ai { HeightDatum::Ellipsoid } else { HeightDatum::Egm96 };
    }
    if is(&exif.make, "skydio") || is(&exif.make, "sensefly") { HeightDatum::Egm96 } else { HeightDatum::Unstated }
}

/// A position out of two tags, of which the longitude has several names.
fn place(xmp: &Properties, words: Words, latitude: &str, longitudes: &[&str]) -> Option<Result<LatLon, String>> {
    let longitude = longitudes.iter().find(|name| xmp.text(words, name).is_some()).unwrap_or(&longitudes[0]);
    let told = [latitude, longitude].map(|name| (name, xmp.text(words, name)));
    if told.iter().all(|(_, text)| text.is_none()) {
        return None;
    }
    let [lat, lon] = told.map(|(name, text)| match text {
        None => Err(format!("XMP {name} is absent")),
        Some(text) => xmp.number(words, name).ok_or_else(|| format!("XMP {name} is {text:.32?}, no number")),
    });
    Some(match (lat, lon) {
        (Ok(0.0), Ok(0.0)) => Err(format!("XMP {latitude} and {longitude} are 0, 0, no fix")),
        (lat, lon) => lat.and_then(|lat| Ok(LatLon { lat, lon: lon? })),
    })
}

/// Tags of a pose whose value cannot be read, in words; positions are told apart.
pub(super) fn unreadable(xmp: &Properties) -> Vec<String> {
    const POSE: &[(Words, &[&str])] = &[
        (
            Words::Dji,
            &[
                "AbsoluteAltitude",
                "RelativeAltitude",
                "GimbalRollDegree",
                "GimbalYawDegree",
                "GimbalPitchDegree",
                "CalibratedFocalLength",
                "CalibratedOpticalCenterX",
                "CalibratedOpticalCenterY",
            ],
        ),
        (Words::Parrot, &["CameraYawDegree", "CameraPitchDegree", "CameraRollDegree"]),
        (Words::Skydio, &["AbsoluteAltitude", "CameraOrientationNED/Roll", "CameraPositionFLU/Z"]),
        (Words::Camera, &["Yaw", "Pitch", "Roll", "AboveGroundAltitude", "GPSAltitude"]),
    ];
    let names = POSE.iter().flat_map(|(words, names)| names.iter().map(|name| (*words, *name)));
    names
        .filter_map(|(words, name)| Some((name, xmp.text(words, name).filter(|_| xmp.number(words, name).is_none())?)))
        .map(|(name, text)| format!("XMP {name} is {text:.32?}, no number: left out"))
        .collect()
}

fn dji(xmp: &Properties) -> Said {
    let number = |name| xmp.number(Words::Dji, name);
    let rtk = number("RtkFlag") == Some(RTK_FIXED);
    let mut sigma = if rtk { SIGMA_RTK } else { SIGMA };
    if rtk && let (Some(east), Some(north)) = (number("RtkStdLon"), number("RtkStdLat")) {
        // The receiver's own estimate is an optimist's.
        sigma.horizontal_m = sigma.horizontal_m.max(2.0 * east.hypot(north));
    }
    let absolute = number("AbsoluteAltitude").map(|m| Stated {
        m,
        datum: if rtk { HeightDatum::Ellipsoid } else { HeightDatum::Unstated },
        sigma_m: if rtk { RTK_HEIGHT_SIGMA_M } else { ABSOLUTE_SIGMA_M },
    });
    Said {
        // The second is spelt wrongly by a generation of cameras (Phantom 4 Pro and RTK, among others).
        at: place(xmp, Words::Dji, "GpsLatitude", &["GpsLongitude", "GpsLongtitude"]),
        yaw: number("GimbalYawDegree"),
        pitch: number("GimbalPitchDegree"),
        roll: number("GimbalRollDegree"),
        nadir_zero: false,
        above_take_off_m: number("RelativeAltitude"),
        absolute: absolute.into_iter().collect(),
        sigma,
        notes: Vec::new(),
    }
}

fn parrot(xmp: &Properties) -> Said {
    let number = |name| xmp.number(Words::Parrot, name);
    Said {
        at: None,
        yaw: number("CameraYawDegree"),
        pitch: number("CameraPitchDegree"),
        roll: number("CameraRollDegree"),
        nadir_zero: false,
        above_take_off_m: xmp.number(Words::Camera, "AboveGroundAltitude"),
        absolute: Vec::new(),
        sigma: SIGMA,
        notes: Vec::new(),
    }
}

fn skydio(xmp: &Properties) -> Said {
    let number = |name| xmp.number(Words::Skydio, name);
    Said {
        at: place(xmp, Words::Skydio, "Latitude", &["Longitude"]),
        yaw: number("CameraOrientationNED/Yaw"),
        pitch: number("CameraOrientationNED/Pitch"),
        roll: number("CameraOrientationNED/Roll"),
        nadir_zero: false,
        // Forward, left, up of where its navigation started.
        above_take_off_m: number("CameraPositionFLU/Z"),
        absolute: number("AbsoluteAltitude")
            .map(|m| Stated { m, datum: HeightDatum::Egm96, sigma_m: ABSOLUTE_SIGMA_M })
            .into_iter()
            .collect(),
        sigma: SIGMA,
        notes: Vec::new(),
    }
}

fn pix4d(exif: &Fields, xmp: &Properties) -> Said {
    let number = |name| xmp.number(Words::Camera, name);
    let mut sigma = SIGMA;
    if let Some(accuracy) = number("GPSXYAccuracy").filter(|v| *v > 0.0) {
        sigma.horizontal_m = accuracy.max(SIGMA_RTK.horizontal_m);
    }
    let height_sigma = number("GPSZAccuracy").filter(|v| *v > 0.0).unwrap_or(ABSOLUTE_SIGMA_M);
    let mut pitch = number("Pitch");
    // Counted from nadir, -80 would look backwards and up to the horizon; who writes that counts from the horizon.
    let nadir_zero = pitch.is_none_or(|p| p > -60.0);
    let mut notes = Vec::new();
    if !nadir_zero {
        notes.push("the camera's pitch is taken as counted from the horizon, against Pix4D's definition".to_owned());
    } else if let Some(p) = pitch.filter(|p| *p < NADIR_NOISE_DEG)
        && is(&exif.make, "autel")
    {
        // Its gimbal cannot look backwards: some firmware counts the angle from nadir with the other sign.
        notes.push(format!(
            "the camera's pitch of {p}° from straight down is taken as ahead: an Autel cannot look backwards"
        ));
        pitch = Some(-p);
    }
    Said {
        at: None,
        yaw: number("Yaw"),
        pitch,
        roll: number("Roll"),
        nadir_zero,
        above_take_off_m: number("AboveGroundAltitude"),
        absolute: number("GPSAltitude")
            .map(|m| Stated { m, datum: HeightDatum::Unstated, sigma_m: height_sigma })
            .into_iter()
            .collect(),
        sigma,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Older Autel firmware: Pix4D's words as elements, in a namespace without a slash at its end.
    fn pitch_of(make: &str, pitch: &str) -> f64 {
        let packet = format!(
            r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
            <r:Description r:about="Autel Robotics Meta Data" xmlns:Camera="http://pix4d.com/camera/1.0"><Camera:Yaw>30.0</Camera:Yaw>
            <Camera:Pitch>{pitch}</Camera:Pitch><Camera:Roll>0.0</Camera:Roll></r:Description></r:RDF></x:xmpmeta>"#
        );
        let exif = Fields { make: Some(make.to_owned()), ..Fields::default() };
        let said = super::super::xmp::read(packet.as_bytes()).map(|xmp| read(&exif, &xmp)).unwrap();
        let ray = said.attitude().unwrap().rotation() * nalgebra::Vector3::z();
        // North-east of the camera: how far ahead of straight down, along the yaw of 30°.
        let (s, c) = 30.0_f64.to_radians().sin_cos();
        (ray.x * s + ray.y * c).atan2(-ray.z).to_degrees()
    }

    #[test]
    fn an_older_autels_pitch_is_counted_from_straight_down_and_never_looks_backwards() {
        for (make, pitch, ahead_deg) in [
            ("Autel Robotics", "35.0", 35.0),
            ("Autel Robotics", "-35.0", 35.0),
            ("Autel Robotics", "0.0", 0.0),
            ("Autel Robotics", "-90.0", 0.0),
            // A wing that pitches down looks backwards.
            ("senseFly", "-8.0", -8.0),
        ] {
            let got = pitch_of(make, pitch);
            assert!((got - ahead_deg).abs() < 1e-3, "{make} {pitch}: {got}");
        }
    }
}
