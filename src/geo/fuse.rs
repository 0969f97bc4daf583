//! Several looks at one thing.

use nalgebra::{Matrix2, Vector2};

use super::ellipse::CHI2_95;
use super::{Ellipse, LocalFrame, Located};

/// One sigma, per axis, of the error that all looks of a flight share: the satellite fix drifts over minutes, so ten
/// looks within a minute are all off by the same. Averaging never takes the ellipse below this, except where a single
/// look is already better (RTK).
pub const COMMON_SIGMA_M: f64 = 1.5;
/// The share of the best look's smallest sigma that counts as common at most; the rest is what averaging can improve.
const COMMON_SHARE: f64 = 0.8;

/// The place of one thing from several looks at it: the mean weighted by each look's covariance.
///
/// Each look's error is taken as a common part (see [`COMMON_SIGMA_M`]) and one of its own; only the own parts average
/// out. Looks that contradict each other more than they admit widen the result. One look comes back as it is; none give
/// nothing. The slant range is that of the closest look.
pub fn combine(looks: &[Located]) -> Option<Located> {
    let (first, rest) = looks.split_first()?;
    if rest.is_empty() {
        return Some(*first);
    }
    let frame = LocalFrame::new(first.at);
    let smallest = looks.iter().map(|l| l.uncertainty.semi_minor_m).fold(f64::INFINITY, f64::min) / CHI2_95.sqrt();
    let common = Matrix2::identity() * COMMON_SIGMA_M.min(COMMON_SHARE * smallest).powi(2);

    let mut information = Matrix2::zeros();
    let mut weighted = Vector2::zeros();
    let mut own = Vec::with_capacity(looks.len());
    for look in looks {
        // A look without any error (possible only by construction) would weigh infinitely: a millimetre is the least.
        let covariance = look.uncertainty.covariance() - common + Matrix2::identity() * 1e-6;
        let weight = covariance.try_inverse()?;
        let place = Vector2::from(frame.to_enu(look.at));
        information += weight;
        weighted += weight * place;
        own.push((weight, place));
    }
    let spread = information.try_inverse()?;
    let mean = spread * weighted;
    let chi2: f64 = own.iter().map(|(w, p)| ((p - mean).transpose() * w * (p - mean))[0]).sum();
    let widen = (chi2 / (2 * (looks.len() - 1)) as f64).max(1.0);

    Some(Located {
        at: frame.to_latlon(mean.x, mean.y),
        uncertainty: Ellipse::from_covariance(&(spread * widen + common)),
        slant_m: looks.iter().map(|l| l.slant_m).fold(f64::INFINITY, f64::min),
    })
}

/// Whether two looks can be at the same place: within `near_m`, or within the 95 % ellipse of their difference.
pub fn same_place(a: &Located, b: &Located, near_m: f64) -> bool {
    let [east, north] = LocalFrame::new(a.at).to_enu(b.at);
    let apart = Vector2::new(east, north);
    if apart.norm() <= near_m {
        return true;
    }
    (a.uncertainty.covariance() + b.uncertainty.covariance())
        .try_inverse()
        .is_some_and(|w| (apart.transpose() * w * apart)[0] <= CHI2_95)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::LatLon;

    const HERE: LatLon = LatLon { lat: 23.03, lon: 112.9 };

    fn look(east: f64, north: f64, semi_major_m: f64, semi_minor_m: f64, bearing_deg: f64) -> Located {
        Located {
            at: LocalFrame::new(HERE).to_latlon(east, north),
            uncertainty: Ellipse { semi_major_m, semi_minor_m, bearing_deg },
            slant_m: 100.0 + east,
        }
    }

    #[test]
    fn one_look_comes_back_as_it_is_and_none_give_nothing() {
        let one = look(3.0, 4.0, 9.0, 5.0, 20.0);
        assert_eq!(combine(&[one]), Some(one));
        assert_eq!(combine(&[]), None);
    }

    #[test]
    fn crossed_ellipses_meet_where_both_are_sure() {
        // Sure of the north coordinate at 10, sure of the east coordinate at 20.
        let fused = combine(&[look(0.0, 10.0, 40.0, 6.0, 90.0), look(20.0, 0.0, 40.0, 6.0, 0.0)]).unwrap();
        let [east, north] = LocalFrame::new(HERE).to_enu(fused.at);
        assert!((east - 20.0).abs() < 1.0 && (north - 10.0).abs() < 1.0, "{east} {north}");
        assert!(fused.uncertainty.semi_major_m < 6.5);
    }

    #[test]
    fn a_hundred_looks_never_claim_more_than_the_common_error_allows() {
        let floor = COMMON_SIGMA_M * CHI2_95.sqrt();
        let fused = combine(&vec![look(0.0, 0.0, 8.0, 7.0, 0.0); 100]).unwrap();
        assert!(fused.uncertainty.semi_minor_m >= floor && fused.uncertainty.semi_minor_m < floor * 1.1, "{fused:?}");
        // Looks that are better than the floor keep what they have: the floor never widens one.
        let rtk = combine(&[look(0.0, 0.0, 0.3, 0.2, 0.0), look(0.0, 0.0, 0.3, 0.2, 0.0)]).unwrap();
        assert!(rtk.uncertainty.semi_major_m < 0.3, "{rtk:?}");
    }

    #[test]
    fn looks_that_contradict_each_other_widen_the_ellipse() {
        let agree = combine(&[look(0.0, 0.0, 5.0, 5.0, 0.0), look(1.0, 0.0, 5.0, 5.0, 0.0)]).unwrap();
        let contradict = combine(&[look(0.0, 0.0, 5.0, 5.0, 0.0), look(30.0, 0.0, 5.0, 5.0, 0.0)]).unwrap();
        assert!(contradict.uncertainty.semi_major_m > 2.0 * agree.uncertainty.semi_major_m);
    }

    #[test]
    fn two_looks_are_one_place_when_near_or_when_their_ellipses_allow_it() {
        let sure = look(0.0, 0.0, 2.0, 2.0, 0.0);
        assert!(same_place(&sure, &look(4.9, 0.0, 2.0, 2.0, 0.0), 5.0));
        assert!(!same_place(&sure, &look(5.1, 0.0, 2.0, 2.0, 0.0), 5.0));
        assert!(same_place(&sure, &look(0.0, 15.0, 20.0, 2.0, 0.0), 5.0), "along the long axis");
        assert!(!same_place(&sure, &look(15.0, 0.0, 20.0, 2.0, 0.0), 5.0), "across it");
    }
}
