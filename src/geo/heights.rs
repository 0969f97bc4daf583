//! Which height is meant. A height above the ellipsoid and one above the sea differ by up to a hundred metres, and a sign
//! error between them hides: where camera and ground are both wrong by the same, the place comes out right.

use serde::Serialize;

use super::LatLon;
use super::geoid::Geoid;

/// What a height is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum HeightDatum {
    /// The point where the drone took off.
    #[serde(rename = "take-off")]
    TakeOff,
    /// The WGS 84 ellipsoid (CGCS2000's is the same to 0.1 mm).
    #[serde(rename = "WGS 84 ellipsoid")]
    Ellipsoid,
    #[serde(rename = "EGM96")]
    Egm96,
    #[serde(rename = "EGM2008")]
    Egm2008,
    /// The source does not say.
    #[serde(rename = "not stated")]
    Unstated,
}

impl HeightDatum {
    /// As written on the command line and in the metadata of files; nothing for a text that tells none.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        // Not "WGS84" alone: that names the horizontal datum far more often than the vertical one.
        if text.contains("egm2008") || text.contains("egm08") || text.contains("egm 2008") {
            Some(Self::Egm2008)
        } else if text.contains("egm96") || text.contains("egm 96") || text.contains("egm1996") {
            Some(Self::Egm96)
        } else if text.contains("ellips") {
            Some(Self::Ellipsoid)
        } else {
            None
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::TakeOff => "take-off",
            Self::Ellipsoid => "WGS 84 ellipsoid",
            Self::Egm96 => "EGM96",
            Self::Egm2008 => "EGM2008",
            Self::Unstated => "not stated",
        }
    }
}

/// Higher above the ground a drone with a camera is rarely seen, and a height in feet that is taken for metres often is.
pub const UNUSUAL_M: f64 = 300.0;
pub const METRES_A_FOOT: f64 = 0.3048;
/// One sigma of an undulation that is not known: its root mean square over the Earth (EGM96).
pub const UNKNOWN_UNDULATION_M: f64 = 30.6;
/// One sigma between EGM96 and EGM2008 where only one of them can be asked.
pub const BETWEEN_MODELS_M: f64 = 0.5;

/// The geoid models at hand.
#[derive(Debug, Clone, Default)]
pub struct Geoids {
    pub egm96: Option<Geoid>,
    pub egm2008: Option<Geoid>,
}

/// What to add to a height, and how sure that is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shift {
    pub add_m: f64,
    pub sigma_m: f64,
    /// An undulation would have been needed and none was at hand: nothing was added.
    pub no_geoid: bool,
}

impl Shift {
    pub const NONE: Self = Self { add_m: 0.0, sigma_m: 0.0, no_geoid: false };
}

impl Geoids {
    pub fn put(&mut self, geoid: Geoid) {
        match geoid.model() {
            HeightDatum::Egm2008 => self.egm2008 = Some(geoid),
            _ => self.egm96 = Some(geoid),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.egm96.is_none() && self.egm2008.is_none()
    }

    /// What turns a height in `from` into one in `to`. `None` where the two cannot be compared at all: take-off heights and
    /// heights whose datum nobody said.
    pub fn shift(&self, from: HeightDatum, to: HeightDatum, at: LatLon) -> Option<Shift> {
        use HeightDatum::*;
        if from == to {
            return Some(Shift::NONE);
        }
        match (from, to) {
            (TakeOff | Unstated, _) | (_, TakeOff | Unstated) => None,
            (Ellipsoid, _) => Some(match self.undulation(to, at) {
                // h = H + N: the height above the sea is less where the sea's surface is above the ellipsoid.
                Some((n, sigma_m)) => Shift { add_m: -n, sigma_m, no_geoid: false },
                None => Shift { add_m: 0.0, sigma_m: UNKNOWN_UNDULATION_M, no_geoid: true },
            }),
            (_, Ellipsoid) => {
                let back = self.shift(Ellipsoid, from, at)?;
                Some(Shift { add_m: -back.add_m, ..back })
            }
            _ => Some(match (self.exact(from, at), self.exact(to, at)) {
                (Some(a), Some(b)) => Shift { add_m: a - b, sigma_m: 0.0, no_geoid: false },
                _ => Shift { add_m: 0.0, sigma_m: BETWEEN_MODELS_M, no_geoid: false },
            }),
        }
    }

    fn exact(&self, model: HeightDatum, at: LatLon) -> Option<f64> {
        match model {
            HeightDatum::Egm96 => self.egm96.as_ref()?.undulation_m(at),
            HeightDatum::Egm2008 => self.egm2008.as_ref()?.undulation_m(at),
            _ => None,
        }
    }

    /// The undulation of a model, or of the other one with the difference as its error.
    fn undulation(&self, model: HeightDatum, at: LatLon) -> Option<(f64, f64)> {
        let other = if model == HeightDatum::Egm96 { HeightDatum::Egm2008 } else { HeightDatum::Egm96 };
        self.exact(model, at).map(|n| (n, 0.0)).or_else(|| self.exact(other, at).map(|n| (n, BETWEEN_MODELS_M)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARIZONA: LatLon = LatLon { lat: 31.6036, lon: -110.433 };

    /// A geoid that lies 28.62 m below the ellipsoid, everywhere.
    fn below() -> Geoids {
        let mut b = Vec::new();
        for v in [-90.0_f64, -180.0, 4.5, 4.5] {
            b.extend(v.to_be_bytes());
        }
        for v in [41_u32, 80] {
            b.extend(v.to_be_bytes());
        }
        b.extend([(-28.62_f32).to_be_bytes(); 41 * 80].concat());
        let mut geoids = Geoids::default();
        geoids.put(Geoid::read(&b, "egm96").unwrap());
        geoids
    }

    #[test]
    fn where_the_geoid_is_below_the_ellipsoid_a_height_above_the_sea_is_the_larger_number() {
        // A surveyed point: 1414.276 m above the ellipsoid, 1442.896 m above EGM96. The wrong sign gives 1385.7.
        let shift = below().shift(HeightDatum::Ellipsoid, HeightDatum::Egm96, ARIZONA).unwrap();
        assert!((1414.276 + shift.add_m - 1442.896).abs() < 0.01, "{shift:?}");
        let back = below().shift(HeightDatum::Egm96, HeightDatum::Ellipsoid, ARIZONA).unwrap();
        assert!((back.add_m + shift.add_m).abs() < 1e-9);
    }

    #[test]
    fn without_a_geoid_nothing_is_made_up_and_the_error_is_as_wide_as_what_is_not_known() {
        let none = Geoids::default();
        let shift = none.shift(HeightDatum::Ellipsoid, HeightDatum::Egm96, ARIZONA).unwrap();
        assert_eq!(shift, Shift { add_m: 0.0, sigma_m: UNKNOWN_UNDULATION_M, no_geoid: true });
        assert_eq!(none.shift(HeightDatum::Egm96, HeightDatum::Egm96, ARIZONA), Some(Shift::NONE));
        assert_eq!(none.shift(HeightDatum::Egm96, HeightDatum::Egm2008, ARIZONA).unwrap().sigma_m, BETWEEN_MODELS_M);
    }

    #[test]
    fn take_off_and_unstated_heights_are_never_compared_with_others() {
        assert_eq!(below().shift(HeightDatum::TakeOff, HeightDatum::Egm96, ARIZONA), None);
        assert_eq!(below().shift(HeightDatum::Egm96, HeightDatum::Unstated, ARIZONA), None);
    }

    #[test]
    fn a_horizontal_datum_is_not_taken_for_a_vertical_one() {
        assert_eq!(HeightDatum::from_text("WGS 84"), None);
        assert_eq!(HeightDatum::from_text("EGM96 orthometric (HAE minus EGM96 15min)"), Some(HeightDatum::Egm96));
        assert_eq!(HeightDatum::from_text("WGS_84_Ellipsoid"), Some(HeightDatum::Ellipsoid));
        assert_eq!(HeightDatum::from_text("egm2008"), Some(HeightDatum::Egm2008));
    }
}
