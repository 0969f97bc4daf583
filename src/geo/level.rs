//! Brings a camera to the height zero of a terrain model: which of the heights that a photo or a table states is meant, how
//! it compares with the model's, and how sure that is.
//!
//! A height above take-off compares with no model by itself, but a drone takes off somewhere near: the model's height under
//! the camera plus the height above take-off is right to within the relief around. That is enough to tell an ellipsoidal
//! height from one above the sea where nobody says which it is, and to notice heights that contradict each other.

use super::LatLon;
use super::dem::Dem;
use super::heights::{Geoids, HeightDatum, Shift, UNKNOWN_UNDULATION_M};

/// One absolute height as a source states it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stated {
    pub m: f64,
    pub datum: HeightDatum,
    pub sigma_m: f64,
}

/// All that is said of a camera's height.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CameraHeights {
    pub absolute: Vec<Stated>,
    pub above_take_off_m: Option<f64>,
}

/// What had to be assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assumed {
    /// An undulation is needed and no geoid is at hand.
    NoGeoid,
    /// The model's datum is not told: taken for the camera's.
    ModelDatum,
    /// The camera's datum is not told: the one that fits the height above take-off was taken.
    CameraDatum,
    /// No absolute height that can be compared: the take-off point is taken to be as high as the ground below the camera.
    TakeOffBelow,
    /// The absolute height and the one above take-off do not fit.
    HeightsContradict,
}

impl Assumed {
    /// For tables.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoGeoid => "no_geoid",
            Self::ModelDatum => "dem_datum_assumed",
            Self::CameraDatum => "height_datum_assumed",
            Self::TakeOffBelow => "take_off_below",
            Self::HeightsContradict => "heights_contradict",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::NoGeoid => {
                "no geoid is at hand to bring camera and terrain model to one height datum: the ellipse is widened by what is not known (install proj-data, or give --geoid FILE)"
            }
            Self::ModelDatum => {
                "the terrain model does not say what its heights are counted from: taken for the camera's datum (say it with --dem-datum)"
            }
            Self::CameraDatum => {
                "the photo does not say what its absolute height is counted from: the datum that fits its height above take-off was taken, or the middle of both where nothing tells them apart"
            }
            Self::TakeOffBelow => {
                "no absolute height that can be compared with the terrain model, or none that is as sure: the take-off point is taken to lie as high as the ground below the camera"
            }
            Self::HeightsContradict => {
                "the absolute height and the one above take-off do not fit together over this terrain: the ellipse holds both, or is widened by half of what they differ"
            }
        }
    }
}

/// The camera's height in the model's zero.
#[derive(Debug, Clone, PartialEq)]
pub struct Levelled {
    pub height_m: f64,
    /// One sigma of it.
    pub sigma_m: f64,
    pub datum: HeightDatum,
    pub assumed: Vec<Assumed>,
    /// The height by what else is told, where that contradicts it and nothing says which is right.
    pub else_m: Option<f64>,
}

/// Around the camera, this far, the ground is asked how much it rises and falls.
const RELIEF_RADIUS_M: f64 = 150.0;
/// One sigma of a barometric height above take-off, and of taking off on the terrain model's surface at all.
const TAKE_OFF_SIGMA_M: f64 = 3.0;

/// `None` where nothing that is said can be compared with the model: no absolute height, and the model does not reach under
/// the camera.
pub fn level(heights: &CameraHeights, at: LatLon, dem: &Dem, geoids: &Geoids) -> Option<Levelled> {
    let near = heights
        .above_take_off_m
        .and_then(|up| under(dem, at).map(|(ground, relief)| (ground + up, relief.hypot(TAKE_OFF_SIGMA_M))));
    let best = heights
        .absolute
        .iter()
        .filter_map(|stated| compare(stated, heights, near, at, dem, geoids))
        .min_by(|a, b| a.sigma_m.total_cmp(&b.sigma_m));
    let from_take_off = near.map(|(height_m, sigma_m)| Levelled {
        height_m,
        sigma_m,
        datum: dem.datum(),
        assumed: vec![Assumed::TakeOffBelow],
        else_m: None,
    });
    match (best, from_take_off) {
        // What nobody can compare is worth less than the ground below, which it may contradict all the same.
        (Some(a), Some(mut b)) if a.sigma_m > b.sigma_m => {
            let other = nearest_of_all(&heights.absolute, b.height_m, at, dem.datum(), geoids);
            let far = |m: &f64| (m - b.height_m).abs() > UNEXPLAINED_M.max(2.0 * b.sigma_m);
            if let Some(other_m) = other.filter(far) {
                b.assumed.push(Assumed::HeightsContradict);
                b.else_m = Some(other_m);
            }
            Some(b)
        }
        (Some(mut a), Some(b)) => {
            let apart = (a.height_m - b.height_m).abs();
            if apart > 4.0 * a.sigma_m.hypot(b.sigma_m) {
                a.sigma_m = a.sigma_m.max(apart / 2.0);
                a.assumed.push(Assumed::HeightsContradict);
            } else if apart > UNEXPLAINED_M && !geoids.is_empty() {
                // Were the model's heights counted from elsewhere, all would fit.
                let otherwise = nearest_of_all(&heights.absolute, b.height_m, at, HeightDatum::Unstated, geoids);
                if let Some(other_m) = otherwise.filter(|m| (m - b.height_m).abs() < apart / 3.0) {
                    a.assumed.push(Assumed::HeightsContradict);
                    a.else_m = Some(other_m);
                }
            }
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

/// The sea lies between these from the ellipsoid, everywhere on Earth, and a little more.
const UNDULATIONS_M: std::ops::RangeInclusive<f64> = -115.0..=95.0;
/// Two heights of one camera may differ by this beside the geoid: grids and roundings.
const HEIGHTS_AGREE_M: f64 = 5.0;

/// Beyond this nothing is left of a camera's height: drones fly some 100 m above the ground, and mixed-up datums are 30 m
/// apart in the root mean square over the Earth.
pub const MAX_CONTRADICTION_M: f64 = 50.0;

/// By how much an ellipsoidal height is more than fits one above the sea, where they contradict each other; without a
/// geoid, by how much more than the sea lies from the ellipsoid anywhere. Negative where it is less.
pub fn contradiction_m(heights: &CameraHeights, at: LatLon, geoids: &Geoids) -> Option<f64> {
    let of = |sea: bool| {
        heights.absolute.iter().find(|s| match s.datum {
            HeightDatum::Ellipsoid => !sea,
            HeightDatum::Egm96 | HeightDatum::Egm2008 => sea,
            _ => false,
        })
    };
    let (ellipsoid, sea) = of(false).zip(of(true))?;
    let undulation_m = ellipsoid.m - sea.m;
    let more_m = match geoids.shift(sea.datum, HeightDatum::Ellipsoid, at) {
        Some(shift) if !shift.no_geoid => undulation_m - shift.add_m,
        _ => undulation_m - undulation_m.clamp(*UNDULATIONS_M.start(), *UNDULATIONS_M.end()),
    };
    (more_m.abs() > HEIGHTS_AGREE_M).then_some(more_m)
}

/// A height above take-off and an absolute one that differ by more, whatever the datum, contradict each other; over uneven
/// ground by twice as much as that leaves open.
const UNEXPLAINED_M: f64 = 10.0;

/// The one of several absolute heights that can be read nearest to `height_m`.
fn nearest_of_all(all: &[Stated], height_m: f64, at: LatLon, model: HeightDatum, geoids: &Geoids) -> Option<f64> {
    let each = all.iter().map(|stated| nearest(stated, height_m, at, model, geoids));
    each.min_by(|x, y| (x - height_m).abs().total_cmp(&(y - height_m).abs()))
}

/// An absolute height in the model's zero by that reading of its datum which puts it nearest to `height_m`.
fn nearest(stated: &Stated, height_m: f64, at: LatLon, model: HeightDatum, geoids: &Geoids) -> f64 {
    use HeightDatum::*;
    let told = |datum| if datum == Unstated { vec![Ellipsoid, Egm96] } else { vec![datum] };
    let mut nearest_m = f64::INFINITY;
    for from in told(stated.datum) {
        for to in told(model) {
            let add_m = match geoids.shift(from, to, at) {
                Some(shift) if !shift.no_geoid => shift.add_m,
                // Any undulation that there is on Earth.
                _ => {
                    let (low, high) = (*UNDULATIONS_M.start(), *UNDULATIONS_M.end());
                    let missing = height_m - stated.m;
                    if from == Ellipsoid { missing.clamp(-high, -low) } else { missing.clamp(low, high) }
                }
            };
            if (stated.m + add_m - height_m).abs() < (nearest_m - height_m).abs() {
                nearest_m = stated.m + add_m;
            }
        }
    }
    nearest_m
}

/// The model's height under the camera, and one sigma of the ground around it.
fn under(dem: &Dem, at: LatLon) -> Option<(f64, f64)> {
    let view = dem.around(at, 0.0, RELIEF_RADIUS_M);
    let mut heights = Vec::with_capacity(17);
    for (ring, radius) in [(8, RELIEF_RADIUS_M), (8, RELIEF_RADIUS_M / 2.0), (1, 0.0)] {
        for i in 0..ring {
            let (s, c) = (f64::from(i) / f64::from(ring) * std::f64::consts::TAU).sin_cos();
            heights.extend(view.surface_m(radius * s, radius * c));
        }
    }
    if heights.is_empty() {
        return None;
    }
    // Roofs and trees stand above what one takes off from: the lower middle of what is around.
    heights.sort_by(f64::total_cmp);
    let ground = heights[heights.len() * 2 / 5];
    let spread = heights[heights.len() * 9 / 10] - heights[heights.len() / 10];
    Some((ground, spread / 2.56))
}

fn compare(
    stated: &Stated,
    all: &CameraHeights,
    near: Option<(f64, f64)>,
    at: LatLon,
    dem: &Dem,
    geoids: &Geoids,
) -> Option<Levelled> {
    use HeightDatum::*;
    let with = |shift: Shift, more: &[Assumed]| Levelled {
        height_m: stated.m + shift.add_m,
        sigma_m: stated.sigma_m.hypot(shift.sigma_m),
        datum: dem.datum(),
        assumed: shift.no_geoid.then_some(Assumed::NoGeoid).into_iter().chain(more.iter().copied()).collect(),
        else_m: None,
    };
    match (stated.datum, dem.datum()) {
        (TakeOff, _) => None,
        (_, Unstated | TakeOff) => {
            // Fits the height above take-off, or is the only height that is told: taken as the same. Otherwise anything goes.
            let fits =
                near.is_some_and(|(height, sigma)| (stated.m - height).abs() < 3.0 * sigma.hypot(stated.sigma_m));
            let mut level = with(Shift::NONE, &[Assumed::ModelDatum]);
            level.datum = stated.datum;
            if !fits {
                level.sigma_m = level.sigma_m.hypot(UNKNOWN_UNDULATION_M);
                // Between several stated heights, the one above the sea comes first, as public models count.
                if all.absolute.len() > 1 && stated.datum == Ellipsoid {
                    level.sigma_m += 1.0;
                }
            }
            Some(level)
        }
        (Unstated, to) => {
            let [sea, ellipsoid] = [Egm96, Ellipsoid]
                .map(|from| geoids.shift(from, to, at).map(|shift| with(shift, &[Assumed::CameraDatum])));
            let (sea, ellipsoid) = sea.zip(ellipsoid)?;
            let Some((height, sigma)) = near else {
                // Nothing tells them apart: the middle, as wide as both.
                let half = (sea.height_m - ellipsoid.height_m).abs() / 2.0;
                let middle = (sea.height_m + ellipsoid.height_m) / 2.0;
                return Some(Levelled {
                    height_m: middle,
                    sigma_m: sea.sigma_m.max(ellipsoid.sigma_m).hypot(half),
                    ..sea
                });
            };
            let off = |l: &Levelled| (l.height_m - height).abs();
            let (best, other) = if off(&sea) < off(&ellipsoid) { (sea, ellipsoid) } else { (ellipsoid, sea) };
            // Not told apart by the relief around: half of the difference stays as an error.
            let told = off(&other) > 3.0 * sigma;
            let doubt = if told { 0.0 } else { (best.height_m - other.height_m).abs() / 2.0 };
            let wrong = if off(&best) > 4.0 * sigma { off(&best) } else { 0.0 };
            Some(Levelled { sigma_m: best.sigma_m.hypot(doubt).hypot(wrong), ..best })
        }
        (from, to) => geoids.shift(from, to, at).map(|shift| with(shift, &[])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dem::tests::{HERE, model};
    use super::*;

    fn dem(datum: HeightDatum) -> Dem {
        model(2.0, 300, |e, _| 90.0 + 0.01 * e).with_datum(datum)
    }

    fn heights(absolute: &[(f64, HeightDatum)], above_take_off_m: Option<f64>) -> CameraHeights {
        let absolute = absolute.iter().map(|&(m, datum)| Stated { m, datum, sigma_m: 0.2 }).collect();
        CameraHeights { absolute, above_take_off_m }
    }

    #[test]
    fn the_same_datum_needs_no_geoid_and_another_one_without_a_geoid_is_as_unsure_as_the_earth_is_uneven() {
        let camera = heights(&[(190.0, HeightDatum::Ellipsoid)], None);
        let same = level(&camera, HERE, &dem(HeightDatum::Ellipsoid), &Geoids::default()).unwrap();
        assert_eq!((same.height_m, same.sigma_m, same.assumed), (190.0, 0.2, vec![]));
        let other = level(&camera, HERE, &dem(HeightDatum::Egm96), &Geoids::default()).unwrap();
        assert!(other.sigma_m > 30.0 && other.assumed == [Assumed::NoGeoid], "{other:?}");
    }

    #[test]
    fn without_a_geoid_the_height_above_take_off_does_better() {
        let camera = heights(&[(190.0, HeightDatum::Ellipsoid)], Some(100.0));
        let got = level(&camera, HERE, &dem(HeightDatum::Egm96), &Geoids::default()).unwrap();
        assert!((got.height_m - 190.0).abs() < 2.0 && got.sigma_m < 5.0, "{got:?}");
        assert_eq!(got.assumed, [Assumed::TakeOffBelow]);
    }

    #[test]
    fn a_model_of_unknown_datum_is_taken_for_the_cameras_where_the_take_off_height_fits() {
        let camera = heights(&[(189.0, HeightDatum::Ellipsoid)], Some(100.0));
        let fits = level(&camera, HERE, &dem(HeightDatum::Unstated), &Geoids::default()).unwrap();
        assert!(fits.sigma_m < 1.0 && fits.datum == HeightDatum::Ellipsoid, "{fits:?}");
        assert_eq!(fits.assumed, [Assumed::ModelDatum]);
        // Twenty metres of undulation show: then the ground below is believed.
        let camera = heights(&[(210.0, HeightDatum::Ellipsoid)], Some(100.0));
        let off = level(&camera, HERE, &dem(HeightDatum::Unstated), &Geoids::default()).unwrap();
        assert!((off.height_m - 190.0).abs() < 2.0 && off.assumed == [Assumed::TakeOffBelow], "{off:?}");
    }

    #[test]
    fn heights_that_contradict_each_other_widen_the_error_and_are_told() {
        // An RTK height in the model's own datum, but a height above take-off in feet.
        let camera = heights(&[(190.0, HeightDatum::Ellipsoid)], Some(328.0));
        let got = level(&camera, HERE, &dem(HeightDatum::Ellipsoid), &Geoids::default()).unwrap();
        assert!(got.height_m == 190.0 && got.sigma_m > 100.0, "{got:?}");
        assert_eq!(got.assumed, [Assumed::HeightsContradict]);
    }

    #[test]
    fn a_height_whose_datum_nobody_tells_contradicts_the_one_above_take_off_where_no_datum_explains_it() {
        let level = |absolute: f64, up: f64, datum: HeightDatum| {
            let camera = heights(&[(absolute, HeightDatum::Unstated)], Some(up));
            level(&camera, HERE, &dem(datum), &Geoids::default()).unwrap()
        };
        // The height above take-off in feet; a model that lies 160 m lower than the take-off point.
        for (absolute, up) in [(190.0, 656.0), (350.0, 100.0)] {
            let got = level(absolute, up, HeightDatum::Egm96);
            assert!((got.height_m - 90.0 - up).abs() < 2.0, "{got:?}");
            assert_eq!(got.assumed, [Assumed::TakeOffBelow, Assumed::HeightsContradict]);
            assert!((got.else_m.unwrap() - absolute).abs() <= 115.0, "{got:?}");
        }
        // Within what the sea may lie from the ellipsoid nothing is contradicted.
        for datum in [HeightDatum::Egm96, HeightDatum::Unstated] {
            let got = level(220.0, 100.0, datum);
            assert!(got.else_m.is_none() && got.assumed == [Assumed::TakeOffBelow], "{got:?}");
        }
    }

    #[test]
    fn a_models_datum_under_which_nothing_fits_while_under_another_all_does_is_doubted() {
        // The sea lies 11.6 m above the ellipsoid here.
        let mut geoids = Geoids::default();
        geoids.put(super::super::geoid::Geoid::read(&super::super::geoid::tests::gtx(), "egm96_test.gtx").unwrap());
        let camera = heights(&[(190.0, HeightDatum::Ellipsoid)], Some(100.0));
        let told = |datum| level(&camera, HERE, &dem(datum), &geoids).unwrap();
        let right = told(HeightDatum::Ellipsoid);
        assert!(right.height_m == 190.0 && right.assumed.is_empty() && right.else_m.is_none(), "{right:?}");
        let wrong = told(HeightDatum::Egm96);
        assert!((wrong.height_m - 178.4).abs() < 0.5 && wrong.assumed == [Assumed::HeightsContradict], "{wrong:?}");
        assert_eq!(wrong.else_m, Some(190.0));
    }

    #[test]
    fn without_a_geoid_heights_contradict_each_other_where_no_place_on_earth_has_them() {
        for (sea, more_m) in [(131.0, None), (20.0, None), (-20.0, Some(45.0)), (275.0, Some(-40.0))] {
            let both = heights(&[(120.0, HeightDatum::Ellipsoid), (sea, HeightDatum::Egm96)], None);
            assert_eq!(contradiction_m(&both, HERE, &Geoids::default()), more_m, "{sea}");
        }
        assert_eq!(contradiction_m(&heights(&[(120.0, HeightDatum::Ellipsoid)], None), HERE, &Geoids::default()), None);
    }

    #[test]
    fn away_from_the_model_nothing_can_be_compared_but_absolute_heights() {
        let far = LatLon { lat: 31.6, lon: -110.4 };
        assert_eq!(level(&heights(&[], Some(100.0)), far, &dem(HeightDatum::Egm96), &Geoids::default()), None);
    }
}
