//! How large the picture was when its tags were written. A smaller or larger copy of the whole keeps its pose, and its focal
//! length in pixels goes with it. What was cut out of it does not, and where the size alone cannot tell the two apart, that
//! is said.

use super::exif::Fields;
use super::xmp::{Properties, Words};

/// Rounded to whole pixels and codec blocks; and how far a calibrated centre lies off the middle, as a share of the side.
const ROUNDING: f64 = 0.01;
const OFF_MIDDLE: f64 = 0.05;

/// The picture's size against those that its tags name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    /// The picture's pixels for one of those that a calibration in its tags is counted in.
    pub scale: f64,
    /// Width and height that the tags name, where the picture is a copy of another size.
    pub was: Option<[f64; 2]>,
    /// The calibrated frame, where its shape is neither the picture's nor that of a format which a camera cuts out of its
    /// sensor by keeping one side.
    pub cut_from: Option<[f64; 2]>,
}

impl Size {
    /// EXIF's shape was compared before, see [`super::edited`].
    pub fn of(w: f64, h: f64, exif: &Fields, xmp: &Properties) -> Self {
        let written = exif.width_px.filter(|full| (w / full - 1.0).abs() > ROUNDING);
        // What the camera wrote, and how much larger or smaller the picture is now.
        let copy = written.map_or(1.0, |full| w / full);
        let (written_w, written_h) = (w / copy, h / copy);
        let centre = |x, y| match (xmp.number(Words::Dji, x), xmp.number(Words::Dji, y)) {
            (Some(x), y) => Some((2.0 * x, y.map(|y| 2.0 * y))),
            _ => None,
        };
        let skydio = |axis| xmp.number(Words::Skydio, axis);
        let calibrated = centre("CalibratedOpticalCenterX", "CalibratedOpticalCenterY").or_else(|| {
            let x = skydio("CalibratedOpticalCenter/X")?;
            Some((2.0 * x, skydio("CalibratedOpticalCenter/Y").map(|y| 2.0 * y)))
        });
        let mut size = Self { scale: copy, was: written.map(|full| [full, h / w * full]), cut_from: None };
        let Some((full_w, full_h)) = calibrated.filter(|(x, y)| *x > 0.0 && y.is_none_or(|y| y > 0.0)) else {
            return size;
        };
        let across = written_w / full_w;
        let down = full_h.map_or(across, |full| written_h / full);
        let whole = |share: f64| (share - 1.0).abs() < OFF_MIDDLE;
        // A format of another shape is cut out of the sensor in the camera and keeps one of its sides.
        if whole(across) || whole(down) {
            return size;
        }
        let share = across.max(down);
        let frame = [full_w, full_h.unwrap_or(h / w * full_w)];
        size.scale = copy * share;
        if (across / down - 1.0).abs() < OFF_MIDDLE {
            size.was = size.was.or(Some(frame));
        } else {
            size.cut_from = Some(frame);
        }
        size
    }

    /// A picture that is smaller by this may be a part of the whole as well as a copy of it.
    pub fn smaller(&self, w: f64) -> Option<f64> {
        self.was.map(|[full, _]| w / full).filter(|share| *share < 1.0)
    }

    /// How far a cut may have moved the centre, and how much longer the focal length is if it was no smaller copy, each as a
    /// share of the focal length in pixels of the calibrated frame.
    pub fn may_be_cut(&self, w: f64, h: f64) -> Option<Cut> {
        let [full_w, full_h] = self.cut_from?;
        let centre_px = ((full_w - w).abs() / 2.0).hypot((full_h - h).abs() / 2.0);
        Some(Cut { centre_px, focal_share: (1.0 / self.scale - 1.0).abs() })
    }
}

/// What an unknown cut may have done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    /// In pixels of the calibrated frame.
    pub centre_px: f64,
    /// Of the focal length that was taken.
    pub focal_share: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(picture: [f64; 2], exif: Option<[f64; 2]>, centre: Option<[f64; 2]>) -> Size {
        let exif = Fields { width_px: exif.map(|e| e[0]), height_px: exif.map(|e| e[1]), ..Fields::default() };
        let tags = centre.map_or(String::new(), |[x, y]| {
            format!(r#"d:CalibratedOpticalCenterX="{x}" d:CalibratedOpticalCenterY="{y}""#)
        });
        let packet = super::super::tests::packet(&tags);
        Size::of(picture[0], picture[1], &exif, &super::super::xmp::read(packet.as_bytes()).unwrap())
    }

    #[test]
    fn a_size_that_differs_from_the_tags_is_a_copy_a_format_or_a_cut() {
        for (what, picture, exif, centre, scale, copy, cut) in [
            ("as written", [4000.0, 3000.0], Some([4000.0, 3000.0]), Some([2003.0, 1490.0]), 1.0, false, false),
            ("halved", [2000.0, 1500.0], Some([4000.0, 3000.0]), None, 0.5, true, false),
            ("doubled", [8000.0, 6000.0], Some([4000.0, 3000.0]), None, 2.0, true, false),
            ("halved, by both", [2000.0, 1500.0], Some([4000.0, 3000.0]), Some([2003.0, 1490.0]), 0.5, true, false),
            ("halved, EXIF tidied", [2000.0, 1500.0], Some([2000.0, 1500.0]), Some([2000.0, 1500.0]), 0.5, true, false),
            ("quartered, no EXIF", [1368.0, 912.0], None, Some([2736.0, 1824.0]), 0.25, true, false),
            ("16:9 of 4:3", [4000.0, 2250.0], Some([4000.0, 2250.0]), Some([2000.0, 1500.0]), 1.0, false, false),
            ("4:3 of 3:2", [4864.0, 3648.0], Some([4864.0, 3648.0]), Some([2736.0, 1824.0]), 1.0, false, false),
            ("cut, EXIF tidied", [2400.0, 2400.0], Some([2400.0, 2400.0]), Some([2000.0, 1500.0]), 0.8, false, true),
        ] {
            let size = of(picture, exif, centre);
            assert!((size.scale - scale).abs() < 1e-9, "{what}: {size:?}");
            assert_eq!((size.was.is_some(), size.cut_from.is_some()), (copy, cut), "{what}: {size:?}");
        }
    }
}
