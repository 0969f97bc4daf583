//! Tags that contradict each other, and files that end too early. What is only doubtful is flagged and believed less: the
//! errors grow until they hold what the other tag says.

use super::makers::Said;
use super::xmp::{Properties, Words};
use super::{Attitude, Photo};

/// No land lies outside of these heights, above the sea or the ellipsoid.
const LAND_M: std::ops::RangeInclusive<f64> = -550.0..=9_000.0;
/// What a height above take-off is believed beside an absolute one that cannot be.
const VERTICAL_SIGMA_M: f64 = 5.0;
/// A gimbal that cannot pan stays within this of where the vehicle heads; their stops are at 30° or less.
const PAN_DEG: f64 = 40.0;
/// One sigma of a heading that is contradicted: by more, the ellipse is told by where the other one looks.
const HEADING_SIGMA_DEG: f64 = 60.0;
/// No vehicle of this kind leans so far and takes pictures.
const LEAN_DEG: f64 = 60.0;
/// DJI's cameras on gimbals that pan all round, among those whose name begins like that of those which cannot.
const PANNING: &[&str] = &["FC350", "FC550", "FC65"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    PositionsContradict,
    /// One of the file's two positions is none.
    PositionUnusable,
    /// The picture is smaller than its tags say, by which it may as well be a part cut out as a copy of the whole.
    Resized,
    HeadingsContradict,
    UpsideDown,
    VehicleOverturned,
    HeightsContradict,
    /// By the sensor and by the 35 mm equivalent.
    FocalContradict,
    /// The picture's file ends before the picture.
    Truncated,
    XmpTruncated,
}

impl Doubt {
    /// For tables.
    pub fn code(self) -> &'static str {
        match self {
            Self::PositionsContradict => "positions_contradict",
            Self::PositionUnusable => "position_unusable",
            Self::Resized => "resized",
            Self::HeadingsContradict => "headings_contradict",
            Self::UpsideDown => "upside_down",
            Self::VehicleOverturned => "vehicle_overturned",
            Self::HeightsContradict => "heights_contradict",
            Self::FocalContradict => "focal_contradict",
            Self::Truncated => "truncated",
            Self::XmpTruncated => "xmp_truncated",
        }
    }

    /// In words; of positions and sizes their place says more.
    pub(super) fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::PositionsContradict | Self::PositionUnusable | Self::Resized => return None,
            Self::HeadingsContradict => {
                "the gimbal's yaw is far from the vehicle's (FlightYawDegree), and this gimbal cannot pan: the ellipse holds where both look"
            }
            Self::UpsideDown => {
                "the gimbal's roll (GimbalRollDegree) holds the camera upside down, which this gimbal cannot: the ellipse holds where it looks upright too"
            }
            Self::VehicleOverturned => {
                "the vehicle leans further than it can fly (FlightRollDegree, FlightPitchDegree): the pose is believed less"
            }
            Self::HeightsContradict => {
                "by its absolute height and the one above take-off it took off where no land is: the absolute height is left out, the other believed less"
            }
            Self::FocalContradict => {
                "the focal length and its 35 mm equivalent contradict each other: the ellipse holds where either puts the place"
            }
            Self::Truncated => "the file ends before its picture does: the lower part is missing; copy it again",
            Self::XmpTruncated => {
                "the XMP metadata ends in the middle: tags behind its end are missing; copy the file again"
            }
        })
    }
}

pub(super) fn of_file(cut: bool, xmp_cut: bool) -> Vec<Doubt> {
    let found = [(cut, Doubt::Truncated), (xmp_cut, Doubt::XmpTruncated)];
    found.into_iter().filter_map(|(is, doubt)| is.then_some(doubt)).collect()
}

/// An absolute height with which the take-off point would lie under the sea or over all mountains says nothing.
pub(super) fn drop_impossible_heights(said: &mut Said) -> Option<Doubt> {
    let all = said.absolute.len();
    let up = said.above_take_off_m.unwrap_or(0.0);
    said.absolute.retain(|stated| LAND_M.contains(&(stated.m - up)));
    (said.absolute.len() < all).then(|| {
        said.sigma.vertical_m = said.sigma.vertical_m.max(VERTICAL_SIGMA_M);
        Doubt::HeightsContradict
    })
}

/// What the vehicle's attitude says against the gimbal's.
pub(super) fn of_attitude(photo: &mut Photo, xmp: &Properties) {
    let number = |name| xmp.number(Words::Dji, name);
    let leans = ["FlightRollDegree", "FlightPitchDegree"].into_iter().filter_map(number);
    if leans.into_iter().any(|degrees| degrees.abs() > LEAN_DEG) {
        photo.doubts.push(Doubt::VehicleOverturned);
        photo.pose.sigma.tilt_deg = photo.pose.sigma.tilt_deg.max(super::EDITED_TILT_DEG);
        photo.pose.sigma.yaw_deg = photo.pose.sigma.yaw_deg.max(super::EDITED_YAW_DEG);
    }
    let fixed =
        photo.model.as_deref().is_some_and(|m| m.starts_with("FC") && !PANNING.iter().any(|p| m.starts_with(p)));
    let stated = photo.pose.attitude;
    // Some roll by a quarter for portraits.
    if !fixed || number("GimbalYawDegree").is_none() || (60.0..120.0).contains(&stated.roll_deg.abs()) {
        return;
    }
    let upright = Attitude { roll_deg: 0.0, ..stated };
    let top = stated.rotation() * -nalgebra::Vector3::y();
    // Straight down the picture's top tells the heading, at the horizon its middle; so gimbals that call a turn by half at
    // nadir a roll are read aright.
    let off_deg = |attitude: Attitude, vehicle: f64| {
        let rotation = attitude.rotation();
        let heading = rotation * nalgebra::Vector3::z() + rotation * -nalgebra::Vector3::y();
        (heading.x.atan2(heading.y).to_degrees() - vehicle + 180.0).rem_euclid(360.0) - 180.0
    };
    let mut doubt = |doubt, may_look| {
        photo.doubts.push(doubt);
        photo.may_look.push(may_look);
        photo.pose.sigma.yaw_deg = photo.pose.sigma.yaw_deg.max(HEADING_SIGMA_DEG);
    };
    if top.z < -0.2 {
        doubt(Doubt::UpsideDown, upright);
    } else if let Some(vehicle) = number("FlightYawDegree") {
        let off = off_deg(stated, vehicle);
        // Straight down a roll by half a turn is one of the heading; it is to blame where all is well without it.
        if off.abs() > PAN_DEG
            && stated.roll_deg.to_radians().cos() < -0.5
            && off_deg(upright, vehicle).abs() <= PAN_DEG
        {
            doubt(Doubt::UpsideDown, upright);
        } else if off.abs() > PAN_DEG {
            doubt(Doubt::HeadingsContradict, Attitude { yaw_deg: stated.yaw_deg - off, ..stated });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FULL, jpeg, mavic_exif, packet, read_with};
    use super::super::{Missing, PhotoError, SIGMA, read, read_for_terrain};
    use super::*;

    /// As a drone writes it that is well.
    fn well() -> String {
        FULL.replace("-11.00", "+93.00")
    }

    #[test]
    fn tags_that_agree_are_not_doubted_nor_is_half_a_turn_at_nadir_that_is_called_a_roll() {
        let photo = read_with(&well()).unwrap();
        assert!(photo.doubts.is_empty() && photo.may_look.is_empty() && photo.pose.sigma == SIGMA, "{photo:?}");
        let turned = well().replace("-60.00", "-90.00").replace("+92.90", "-87.10").replace("\"+0.50", "\"+180.00");
        assert_eq!(read_with(&turned).unwrap().doubts, []);
        // Other gimbals pan all round.
        let inspire = super::super::tests::exif(&[(0x112, 1)], "FC6510", &[(0x920a, (88, 10)), (0xa405, (24, 1))]);
        assert_eq!(read(&jpeg(400, 300, Some(&inspire), Some(&packet(FULL)))).unwrap().doubts, []);
    }

    #[test]
    fn a_heading_or_a_roll_that_the_gimbal_cannot_have_is_doubted_and_may_look_the_other_way() {
        let behind = read_with(&well().replace("+93.00", "-87.10")).unwrap();
        assert_eq!(behind.doubts, [Doubt::HeadingsContradict]);
        assert!((behind.may_look[0].yaw_deg.rem_euclid(360.0) - 272.9).abs() < 1.0, "{:?}", behind.may_look);
        assert!(behind.pose.sigma.yaw_deg > 30.0 && behind.notes.iter().any(|n| n.contains("FlightYawDegree")));
        let beside = |yaw: &str| read_with(&well().replace("+93.00", yaw)).unwrap().doubts;
        assert_eq!((beside("+140.00"), beside("+125.00")), (vec![Doubt::HeadingsContradict], vec![]));
        let over = read_with(&well().replace("\"+0.50", "\"+180.00")).unwrap();
        assert_eq!((over.doubts.as_slice(), over.may_look[0].roll_deg), ([Doubt::UpsideDown].as_slice(), 0.0));
        // Straight down, too, where it turns the heading and not the picture's top.
        let nadir = read_with(&well().replace("-60.00", "-90.00").replace("\"+0.50", "\"+180.00")).unwrap();
        assert_eq!((nadir.doubts.as_slice(), nadir.may_look[0].roll_deg), ([Doubt::UpsideDown].as_slice(), 0.0));
        assert!(nadir.notes.iter().any(|n| n.contains("GimbalRollDegree")), "{:?}", nadir.notes);
        let fallen = read_with(&well().replace("+9.00", "+80.00")).unwrap();
        assert!(fallen.doubts == [Doubt::VehicleOverturned] && fallen.pose.sigma.tilt_deg > SIGMA.tilt_deg);
    }

    #[test]
    fn angles_that_are_none_are_refused_each_by_its_name() {
        for (from, to, what) in [
            ("+92.90", "999", "yaw"),
            ("+92.90", "1e308", "yaw"),
            ("-60.00", "-430", "pitch"),
            ("+0.50", "1e9", "roll"),
        ] {
            let refused = read_with(&well().replace(from, to)).unwrap_err();
            assert!(matches!(refused, PhotoError::Angle { what: w, .. } if w == what), "{refused}");
            assert!(refused.to_string().contains(what));
        }
    }

    #[test]
    fn an_absolute_height_under_all_land_is_left_out_and_told() {
        let photo = read_with(&well().replace("+186.57", "-500.00")).unwrap();
        assert!(photo.doubts == [Doubt::HeightsContradict] && photo.heights.absolute.is_empty());
        assert!(photo.pose.sigma.vertical_m > SIGMA.vertical_m && photo.pose.height_m == 99.96);
        let alone = well().replace("+186.57", "-900.00").replace("RelativeAltitude", "SomethingElse");
        let bytes = jpeg(400, 300, Some(&mavic_exif()), Some(&packet(&alone)));
        assert_eq!(read_for_terrain(&bytes).unwrap_err(), PhotoError::Missing(vec![Missing::Height]));
    }

    #[test]
    fn a_file_or_a_packet_that_ends_too_early_says_so() {
        let whole = jpeg(400, 300, Some(&mavic_exif()), Some(&packet(&well())));
        assert_eq!(read(&whole).unwrap().doubts, []);
        let half = read(&whole[..whole.len() - 200]).unwrap();
        assert!(half.doubts == [Doubt::Truncated] && half.notes.iter().any(|n| n.contains("copy it again")));
        // Nor is one that has too many segments to be walked, and all of its picture.
        let long: Vec<u8> = [0xff, 0xe1, 0, 4, b'x', b'x'].repeat(1_200);
        let header = 2 + 4 + 6 + mavic_exif().len() + 4 + 29 + packet(&well()).len();
        let many = [&whole[..header], &long, &whole[header..]].concat();
        assert_eq!(read(&many).unwrap().doubts, []);
        let cut = packet(&well()).replace("</rdf:RDF></x:xmpmeta>", "");
        assert_eq!(read(&jpeg(400, 300, Some(&mavic_exif()), Some(&cut))).unwrap().doubts, [Doubt::XmpTruncated]);
    }
}
