use super::*;
use crate::geo::heights::HeightDatum;
use crate::geo::{Attitude, Distortion};

pub(super) const FULL: &str = r#"d:GpsLatitude="+24.68027804" d:GpsLongtitude="+120.95170160" d:AbsoluteAltitude="+186.57"
    d:RelativeAltitude="+99.96" d:GimbalRollDegree="+0.50" d:GimbalYawDegree="+92.90" d:GimbalPitchDegree="-60.00"
    d:FlightYawDegree="-11.00" d:FlightPitchDegree="+7.00" d:FlightRollDegree="+9.00""#;

pub(super) fn packet(attributes: &str) -> String {
    format!(
        r#"<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
        xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
        xmlns:d="http://www.dji.com/drone-dji/1.0/" {attributes}/></rdf:RDF></x:xmpmeta>"#
    )
}

/// Little-endian TIFF with one IFD and, below it, one EXIF IFD: (tag, type, value), shorts and rationals.
pub(super) fn exif(main: &[(u16, u32)], model: &str, sub: &[(u16, (u32, u32))]) -> Vec<u8> {
    let mut b = b"II*\0\x08\0\0\0".to_vec();
    let entries = main.len() + 2;
    let model_at = 8 + 2 + entries * 12 + 4;
    let sub_at = model_at + 8;
    b.extend((entries as u16).to_le_bytes());
    let entry = |b: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
        b.extend(tag.to_le_bytes());
        b.extend(kind.to_le_bytes());
        b.extend(count.to_le_bytes());
        b.extend(value.to_le_bytes());
    };
    entry(&mut b, 0x110, 2, 8, model_at as u32);
    for (tag, value) in main {
        entry(&mut b, *tag, 3, 1, *value);
    }
    entry(&mut b, 0x8769, 4, 1, sub_at as u32);
    b.extend([0; 4]);
    b.extend(format!("{model:\0<8}").bytes().take(8));
    b.extend((sub.len() as u16).to_le_bytes());
    let data_at = sub_at + 2 + sub.len() * 12 + 4;
    for (i, (tag, (top, _))) in sub.iter().enumerate() {
        match tag {
            0xa405 | 0xa002 | 0xa003 => entry(&mut b, *tag, 3, 1, *top),
            _ => entry(&mut b, *tag, 5, 1, (data_at + 8 * i) as u32),
        }
    }
    b.extend([0; 4]);
    for (_, (top, bottom)) in sub {
        b.extend(top.to_le_bytes());
        b.extend(bottom.to_le_bytes());
    }
    b
}

pub(super) fn mavic_exif() -> Vec<u8> {
    exif(&[(0x112, 1)], "FC220", &[(0x920a, (473, 100)), (0xa405, (26, 1))])
}

pub(super) fn jpeg(width: u32, height: u32, exif: Option<&[u8]>, xmp: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    image::codecs::jpeg::JpegEncoder::new(&mut body).encode_image(&image::RgbImage::new(width, height)).unwrap();
    let mut file = vec![0xff, 0xd8];
    let mut segment = |head: &[u8], payload: &[u8]| {
        file.extend([0xff, 0xe1]);
        file.extend(((head.len() + payload.len() + 2) as u16).to_be_bytes());
        file.extend(head);
        file.extend(payload);
    };
    if let Some(exif) = exif {
        segment(b"Exif\0\0", exif);
    }
    if let Some(xmp) = xmp {
        segment(b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes());
    }
    file.extend(&body[2..]);
    file
}

pub(super) fn read_with(attributes: &str) -> Result<Photo, PhotoError> {
    read(&jpeg(400, 300, Some(&mavic_exif()), Some(&packet(attributes))))
}

#[test]
fn the_gimbals_attitude_is_taken_not_the_vehicles_and_the_misspelt_longitude_is_read() {
    let photo = read_with(FULL).unwrap();
    let a = photo.pose.attitude;
    assert_eq!((a.yaw_deg, a.pitch_deg, a.roll_deg), (92.9, -60.0, 0.5));
    assert_eq!(photo.pose.at, LatLon { lat: 24.68027804, lon: 120.9517016 });
    assert_eq!(photo.model.as_deref(), Some("FC220"));
}

#[test]
fn height_above_sea_level_is_never_taken_for_height_above_the_ground() {
    assert_eq!(read_with(FULL).unwrap().pose.height_m, 99.96);
    let error = read_with(&FULL.replace("RelativeAltitude", "SomethingElse")).unwrap_err();
    assert_eq!(error, PhotoError::Missing(vec![Missing::Height]));
}

#[test]
fn properties_written_as_elements_and_under_another_prefix_are_read_the_same() {
    let inner: String = [
        ("GpsLatitude", "23.1"),
        ("GpsLongitude", "112.9"),
        ("RelativeAltitude", "+80.0"),
        ("GimbalYawDegree", "+10"),
        ("GimbalPitchDegree", "-90"),
        ("GimbalRollDegree", "0"),
    ]
    .iter()
    .map(|(k, v)| format!("<q:{k}> {v} </q:{k}>"))
    .collect();
    let packet = format!(
        r#"<r:RDF xmlns:r="rdf" xmlns:q="http://www.dji.com/drone-dji/1.0/"><r:Description>{inner}</r:Description></r:RDF>"#
    );
    let photo = read(&jpeg(400, 300, Some(&mavic_exif()), Some(&packet))).unwrap();
    assert_eq!((photo.pose.height_m, photo.pose.at.lat), (80.0, 23.1));
}

#[test]
fn a_stripped_photo_names_everything_that_is_missing_and_what_to_do() {
    let error = read(&jpeg(400, 300, None, None)).unwrap_err();
    assert_eq!(
        error,
        PhotoError::Missing(vec![
            Missing::Position,
            Missing::Height,
            Missing::GimbalYaw,
            Missing::GimbalPitch,
            Missing::FocalLength
        ])
    );
    let text = error.to_string();
    for part in
        ["GPS position", "above take-off", "gimbal yaw", "gimbal pitch", "focal length", "as the drone wrote it"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn zero_zero_is_no_fix_and_nan_is_no_number() {
    let zero = FULL.replace("+24.68027804", "0").replace("+120.95170160", "0.0");
    let refused = read_with(&zero).unwrap_err();
    let told = "XMP GpsLatitude and GpsLongtitude are 0, 0";
    assert!(matches!(&refused, PhotoError::Position(text) if text.contains(told)), "{refused}");
    // And EXIF's by EXIF's names.
    let bare = FULL.replace(r#"d:GpsLatitude="+24.68027804" d:GpsLongtitude="+120.95170160""#, "");
    let nowhere = exif_at(*b"NE", [(0, 1); 6]);
    let refused = read(&jpeg(400, 300, Some(&nowhere), Some(&packet(&bare)))).unwrap_err();
    let told = "EXIF GPSLatitude and GPSLongitude are 0, 0";
    assert!(matches!(&refused, PhotoError::Position(text) if text.contains(told)), "{refused}");
    let nan = FULL.replace("+92.90", "nan").replace("-60.00", "inf");
    assert_eq!(read_with(&nan).unwrap_err(), PhotoError::Missing(vec![Missing::GimbalYaw, Missing::GimbalPitch]));
    let swapped = FULL.replace("+24.68027804", "120.9").replace("+120.95170160", "24.6");
    assert!(read_with(&swapped).unwrap_err().to_string().contains("swapped"));
}

#[test]
fn a_sixteen_to_nine_picture_of_a_four_to_three_sensor_has_the_same_focal_length_in_pixels() {
    let at = |h| read(&jpeg(400, h, Some(&mavic_exif()), Some(&packet(FULL)))).unwrap().camera;
    assert!((at(300).fx - 4.73 / 6.3269 * 400.0).abs() < 1e-9);
    assert_eq!(at(225).fx, at(300).fx);
    assert_eq!(at(225).cy, 112.5);
    // And so by the 35 mm equivalent, for a camera that no table knows.
    let unknown = exif(&[(0x112, 1)], "NEW1", &[(0x920a, (473, 100)), (0xa405, (26, 1))]);
    let at = |h| read(&jpeg(400, h, Some(&unknown), Some(&packet(FULL)))).unwrap().camera.fx;
    assert!((at(300) - 26.0 / 43.2666 * 500.0).abs() < 0.01);
    assert!((at(225) - at(300)).abs() < 1e-9);
}

#[test]
fn a_makers_calibration_is_taken_before_anything_else_and_fits_a_smaller_copy() {
    let dewarp = format!(
        r#"{FULL} d:CalibratedOpticalCenterX="800.0" d:DewarpFlag="0"
        d:DewarpData="2018-09-07;1000.0,1001.0,-8.0,16.0,-0.26,0.11,0.0009,0.0001,-0.03""#
    );
    let camera = read_with(&dewarp).unwrap().camera;
    assert_eq!((camera.fx, camera.fy, camera.cx, camera.cy), (250.0, 250.25, 198.0, 154.0));
    assert_eq!(camera.distortion, Some(Distortion::Brown([-0.26, 0.11, 0.0009, 0.0001, -0.03])));
    let corrected = read_with(&dewarp.replace(r#"DewarpFlag="0""#, r#"DewarpFlag="1""#)).unwrap();
    assert_eq!(corrected.camera.distortion, None);
}

/// A packet with attributes in a namespace of its own, and elements inside.
fn other(namespace: &str, attributes: &str, inside: &str) -> String {
    format!(
        r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description
        xmlns:n="{namespace}" {attributes}>{inside}</r:Description></r:RDF></x:xmpmeta>"#
    )
}

/// EXIF with a position, which some makers write nowhere else: 46° 50' N, 91° 59' W, 198.6 m.
fn exif_with_position() -> Vec<u8> {
    exif_at(*b"NW", [(46, 1), (50, 1), (0, 1), (91, 1), (59, 1), (0, 1)])
}

/// The same elsewhere: the hemispheres' letters, degrees, minutes and seconds of both.
fn exif_at(sides: [u8; 2], parts: [(u32, u32); 6]) -> Vec<u8> {
    // One IFD with the model, the EXIF IFD and the GPS IFD behind it.
    let mut b = b"II*\0\x08\0\0\0".to_vec();
    let entry = |b: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32| {
        b.extend(tag.to_le_bytes());
        b.extend(kind.to_le_bytes());
        b.extend(count.to_le_bytes());
        b.extend(value.to_le_bytes());
    };
    b.extend(3_u16.to_le_bytes());
    entry(&mut b, 0x110, 2, 4, u32::from_le_bytes(*b"NEW\0"));
    entry(&mut b, 0x8769, 4, 1, 50);
    entry(&mut b, 0x8825, 4, 1, 68);
    b.extend([0; 4]);
    assert_eq!(b.len(), 50);
    b.extend(1_u16.to_le_bytes());
    entry(&mut b, 0xa405, 3, 1, 24);
    b.extend([0; 4]);
    assert_eq!(b.len(), 68);
    let data = 68 + 2 + 5 * 12 + 4;
    b.extend(5_u16.to_le_bytes());
    entry(&mut b, 1, 2, 2, u32::from(sides[0]));
    entry(&mut b, 2, 5, 3, data);
    entry(&mut b, 3, 2, 2, u32::from(sides[1]));
    entry(&mut b, 4, 5, 3, data + 24);
    entry(&mut b, 6, 5, 1, data + 48);
    b.extend([0; 4]);
    for (top, bottom) in parts.into_iter().chain([(1986, 10)]) {
        b.extend(u32::to_le_bytes(top));
        b.extend(u32::to_le_bytes(bottom));
    }
    b
}

#[test]
fn a_sensefly_pitch_of_ten_looks_ten_degrees_ahead_of_straight_down() {
    let attributes = r#"n:Yaw="30.0" n:Pitch="10.0" n:Roll="0.0" n:AboveGroundAltitude="80.0" n:GPSXYAccuracy="2.5""#;
    for namespace in ["http://pix4d.com/camera/1.0/", "Camera/"] {
        let packet = other(namespace, attributes, "");
        let photo = read(&jpeg(400, 300, Some(&exif_with_position()), Some(&packet))).unwrap();
        let a = photo.pose.attitude;
        assert!((a.pitch_deg + 80.0).abs() < 1e-9 && (a.yaw_deg - 30.0).abs() < 1e-9, "{a:?}");
        assert_eq!((photo.pose.height_m, photo.pose.sigma.horizontal_m), (80.0, 2.5));
        assert!((photo.pose.at.lon + 91.983_333).abs() < 1e-5);
    }
}

/// What Autel writes since it took DJI's words over (seen in public samples of the EVO II RTK): DJI's namespace under a
/// prefix of its own, the longitude misspelt, and the focal length in pixels.
#[test]
fn autels_newer_tags_are_djis_under_another_prefix() {
    let attributes = r#"n:AbsoluteAltitude="+513.00" n:RelativeAltitude="+60.00" n:GpsLatitude="47.64368732"
        n:GpsLongtitude="16.47592717" n:CalibratedFocalLength="400.5" n:FlightYawDegree="-148.96" n:GimbalYawDegree="-150.10"
        n:GimbalPitchDegree="-89.90" n:GimbalRollDegree="+0.00" n:RtkFlag="50" n:RtkStdLon="0.0137" n:RtkStdLat="0.0144""#;
    let packet = other("http://www.dji.com/drone-dji/1.0/", attributes, "");
    let photo = read(&jpeg(400, 300, Some(&mavic_exif()), Some(&packet))).unwrap();
    assert_eq!((photo.pose.attitude.yaw_deg, photo.pose.attitude.pitch_deg), (-150.10, -89.90));
    assert_eq!((photo.pose.at.lon, photo.pose.height_m, photo.camera.fx), (16.47592717, 60.0, 400.5));
}

#[test]
fn a_position_that_cannot_be_is_named_by_its_tag_and_the_other_one_taken_or_none() {
    let good = [(24, 1), (40, 1), (49, 1), (120, 1), (57, 1), (6, 1)];
    let (lat, lon) = (r#"d:GpsLatitude="+24.68027804""#, r#"d:GpsLongtitude="+120.95170160""#);
    // XMP's tags; what is told of them; whether EXIF's position is another one.
    for (tags, told) in [
        (FULL.replace(lat, r#"d:GpsLatitude="nan""#), "XMP GpsLatitude is \"nan\""),
        (FULL.replace(lat, r#"d:GpsLatitude="0/0""#), "XMP GpsLatitude is \"0/0\""),
        (FULL.replace(lat, r#"d:GpsLatitude="""#), "XMP GpsLatitude is \"\""),
        (FULL.replace(lon, ""), "XMP GpsLongitude is absent"),
        (FULL.replace(lat, ""), "XMP GpsLatitude is absent"),
        (FULL.replace(lat, r#"d:GpsLatitude="91""#), "latitude 91"),
        (FULL.replace(lon, r#"d:GpsLongtitude="190""#), "longitude 190"),
        (
            FULL.replace(lat, r#"d:GpsLatitude="0""#).replace(lon, r#"d:GpsLongtitude="0""#),
            "XMP GpsLatitude and GpsLongtitude are 0, 0",
        ),
    ] {
        let photo = read(&jpeg(400, 300, Some(&exif_at(*b"NE", good)), Some(&packet(&tags)))).unwrap();
        assert!((photo.pose.at.lat - 24.680_278).abs() < 1e-5, "{told}: {photo:?}");
        assert_eq!(photo.doubts, [Doubt::PositionUnusable], "{told}");
        assert!(photo.notes.iter().any(|n| n.contains(told) && n.contains("EXIF's")), "{told}: {:?}", photo.notes);
        let refused = read_with(&tags).unwrap_err().to_string();
        assert!(refused.contains(told) && refused.contains("as the drone wrote it"), "{told}: {refused}");
        // Of an RTK fix, too: a place out of EXIF is no better than EXIF.
        let rtk = jpeg(400, 300, Some(&exif_at(*b"NE", good)), Some(&packet(&format!(r#"{tags} d:RtkFlag="50""#))));
        assert!(read(&rtk).unwrap().pose.sigma.horizontal_m >= SIGMA.horizontal_m, "{told}");
    }
    for (sides, parts, told) in [
        (*b"NE", [(0, 0), (40, 1), (49, 1), (120, 1), (57, 1), (6, 1)], "EXIF GPSLatitude is 0/0 40/1 49/1"),
        (*b"NE", [(24, 1), (61, 1), (49, 1), (120, 1), (57, 1), (6, 1)], "EXIF GPSLatitude is 24/1 61/1 49/1"),
        (*b"NE", [(91, 1), (0, 1), (0, 1), (120, 1), (57, 1), (6, 1)], "latitude 91"),
        (*b"XE", good, "EXIF GPSLatitudeRef is \"X\""),
        (*b"N\0", good, "EXIF GPSLongitudeRef is absent"),
    ] {
        let exif = exif_at(sides, parts);
        let photo = read(&jpeg(400, 300, Some(&exif), Some(&packet(FULL)))).unwrap();
        assert!(photo.doubts == [Doubt::PositionUnusable] && photo.pose.at.lat == 24.68027804, "{told}: {photo:?}");
        assert!(photo.notes.iter().any(|n| n.contains(told) && n.contains("XMP's")), "{told}: {:?}", photo.notes);
        let alone = FULL.replace(lat, "").replace(lon, "");
        let refused = read(&jpeg(400, 300, Some(&exif), Some(&packet(&alone)))).unwrap_err();
        assert!(matches!(&refused, PhotoError::Position(text) if text.contains(told)), "{told}: {refused}");
    }
}

#[test]
fn a_tag_of_the_pose_that_cannot_be_read_is_named() {
    let photo = read_with(&FULL.replace("+0.50", "nan").replace("+186.57", "1/0")).unwrap();
    for told in ["XMP GimbalRollDegree is \"nan\"", "XMP AbsoluteAltitude is \"1/0\""] {
        assert!(photo.notes.iter().any(|n| n.contains(told)), "{told}: {:?}", photo.notes);
    }
}

#[test]
fn positions_that_differ_are_told_and_those_of_two_places_are_refused() {
    let with = |lat: &str| {
        let attributes = FULL.replace("+24.68027804", lat).replace("+120.95170160", "-91.983333");
        read(&jpeg(400, 300, Some(&exif_with_position()), Some(&packet(&attributes))))
    };
    assert_eq!(with("46.8333333").unwrap().doubts, []);
    let near = with("46.8353333").unwrap();
    assert!(near.doubts == [Doubt::PositionsContradict] && near.pose.sigma.horizontal_m > 200.0, "{near:?}");
    assert!(near.notes.iter().any(|n| n.contains("apart")));
    let refused = with("2.0").unwrap_err();
    assert!(matches!(refused, PhotoError::Apart { .. }) && refused.to_string().contains("km apart"), "{refused}");
}

/// Skydio's second spelling: members as elements of a resource.
#[test]
fn skydios_structures_as_resources_are_read_the_same() {
    let inside = r#"<n:Latitude>32.5</n:Latitude><n:Longitude>-110.9</n:Longitude><n:AbsoluteAltitude>1034.4</n:AbsoluteAltitude>
        <n:CameraOrientationNED r:parseType="Resource"><n:Roll>0.2</n:Roll><n:Pitch>-47.5</n:Pitch><n:Yaw>127.4</n:Yaw>
        </n:CameraOrientationNED><n:VehicleOrientationNED r:parseType="Resource"><n:Roll>1.5</n:Roll><n:Pitch>-1.5</n:Pitch>
        <n:Yaw>99.8</n:Yaw></n:VehicleOrientationNED><n:CameraPositionFLU r:parseType="Resource"><n:Z>52.6</n:Z></n:CameraPositionFLU>"#;
    let packet = other("https://www.skydio.com/drone-skydio/1.0/", "", inside);
    let photo = read(&jpeg(400, 300, Some(&mavic_exif()), Some(&packet))).unwrap();
    assert_eq!(photo.pose.attitude, Attitude { yaw_deg: 127.4, pitch_deg: -47.5, roll_deg: 0.2 });
    assert_eq!((photo.pose.height_m, photo.pose.at.lat), (52.6, 32.5));
}

#[test]
fn skydios_structures_are_read_with_their_datum_and_their_lens() {
    let inside = r#"<n:CameraOrientationNED n:Roll="0.2" n:Pitch="-47.5" n:Yaw="127.4"/>
        <n:VehicleOrientationNED n:Roll="1.5" n:Pitch="-1.5" n:Yaw="126.8"/><n:CameraPositionFLU n:X="1.1" n:Y="-2.0" n:Z="52.6"/>
        <n:CalibratedFocalLength n:X="237.8" n:Y="237.7"/><n:CalibratedOpticalCenter n:X="203.0" n:Y="152.0"/>"#;
    let attributes =
        r#"n:Latitude="32.5" n:Longitude="-110.9" n:AbsoluteAltitude="1034.4" n:DewarpData="0.12,-0.23,0.09""#;
    let packet = other("https://www.skydio.com/drone-skydio/1.0/", attributes, inside);
    let photo = read(&jpeg(406, 304, Some(&mavic_exif()), Some(&packet))).unwrap();
    assert_eq!(photo.pose.attitude, Attitude { yaw_deg: 127.4, pitch_deg: -47.5, roll_deg: 0.2 });
    assert_eq!((photo.pose.height_m, photo.heights.absolute[0].datum), (52.6, HeightDatum::Egm96));
    assert_eq!(photo.camera.distortion, Some(Distortion::Brown([0.12, -0.23, 0.0, 0.0, 0.09])));
    assert_eq!((photo.camera.fx, photo.camera.cx), (237.8, 203.0));
}

#[test]
fn parrots_own_angles_come_before_pix4ds_beside_them() {
    let packet = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description
        xmlns:p="http://www.parrot.com/drone-parrot/1.0/" xmlns:c="http://pix4d.com/camera/1.0/" p:CameraRollDegree="-0.3"
        p:CameraPitchDegree="-78.4" p:CameraYawDegree="176.3" c:Pitch="11.6" c:Yaw="176.3" c:Roll="0" c:AboveGroundAltitude="40"
        /></r:RDF></x:xmpmeta>"#;
    let photo = read(&jpeg(400, 300, Some(&exif_with_position()), Some(packet))).unwrap();
    assert_eq!(photo.pose.attitude.pitch_deg, -78.4);
    assert_eq!(photo.pose.height_m, 40.0);
}

#[test]
fn with_a_terrain_model_an_absolute_height_is_enough_and_without_one_it_is_not() {
    let absolute_only = FULL.replace("RelativeAltitude", "SomethingElse");
    let bytes = jpeg(400, 300, Some(&mavic_exif()), Some(&packet(&absolute_only)));
    let photo = read_for_terrain(&bytes).unwrap();
    assert!(photo.pose.height_m.is_nan() && photo.heights.absolute[0].m == 186.57);
    assert_eq!(photo.heights.absolute[0].datum, HeightDatum::Unstated);
    assert_eq!(read(&bytes).unwrap_err(), PhotoError::Missing(vec![Missing::Height]));
    let rtk = read_with(&format!(r#"{FULL} d:RtkFlag="50""#)).unwrap();
    assert_eq!(rtk.heights.absolute[0].datum, HeightDatum::Ellipsoid);
}

#[test]
fn a_picture_that_was_cropped_stretched_or_turned_is_refused() {
    let was = |w, h| exif(&[(0x112, 1)], "FC220", &[(0x920a, (473, 100)), (0xa002, (w, 1)), (0xa003, (h, 1))]);
    let refuse = |w, h, exif: &[u8]| read(&jpeg(w, h, Some(exif), Some(&packet(FULL)))).unwrap_err();
    assert!(matches!(refuse(400, 300, &was(400, 400)), PhotoError::Reshaped { turned: false, .. }));
    assert!(matches!(refuse(300, 400, &was(400, 300)), PhotoError::Reshaped { turned: true, .. }));
    assert!(
        matches!(refuse(300, 400, &mavic_exif()), PhotoError::Reshaped { turned: true, .. }),
        "no camera writes portraits"
    );
    // A smaller copy of the whole is the same picture; that it is one and no part cut out is told to be taken on trust.
    let copy = read(&jpeg(400, 300, Some(&was(4000, 3000)), Some(&packet(FULL)))).unwrap();
    assert!(!copy.edited && (copy.camera.fx - 4.73 / 6.3269 * 400.0).abs() < 1e-9);
    assert!(copy.doubts.contains(&Doubt::Resized) && copy.notes.iter().any(|n| n.contains("4000 × 3000")), "{copy:?}");
    // A larger one cannot be a part.
    let calibrated = format!(r#"{FULL} d:CalibratedFocalLength="150""#);
    let larger = read(&jpeg(400, 300, Some(&was(200, 150)), Some(&packet(&calibrated)))).unwrap();
    assert!(!larger.doubts.contains(&Doubt::Resized) && larger.camera.fx == 300.0, "{larger:?}");
    assert!(larger.notes.iter().any(|n| n.contains("200 × 150")), "{:?}", larger.notes);
    let cropped = format!(r#"{FULL} xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:HasCrop="True""#);
    assert_eq!(read_with(&cropped).unwrap_err(), PhotoError::Cropped);
}

#[test]
fn a_picture_that_an_editor_had_in_hands_is_flagged_and_believed_less() {
    let plain = read_with(FULL).unwrap();
    assert!(!plain.edited);
    let edited = read_with(&format!(
        r#"{FULL} xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool="Adobe Photoshop 22.1 (Macintosh)""#
    ))
    .unwrap();
    assert!(edited.edited && edited.notes.iter().any(|n| n.contains("Photoshop")), "{:?}", edited.notes);
    assert!(edited.focal_sigma > plain.focal_sigma && edited.pose.sigma.tilt_deg > plain.pose.sigma.tilt_deg);
    // What DJI itself writes of crops and settings is no editor's trace.
    let dji = format!(
        r#"{FULL} xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:HasCrop="False" crs:HasSettings="False" crs:AlreadyApplied="False""#
    );
    assert!(!read_with(&dji).unwrap().edited);
    // A crop that was set and, by the editor's own word, not applied.
    let crop = |more: &str| {
        read_with(&format!(
            r#"{FULL} xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" crs:HasCrop="True"{more}"#
        ))
    };
    let set = crop(r#" crs:AlreadyApplied="False""#).unwrap();
    assert!(set.edited && set.notes.iter().any(|n| n.contains("HasCrop")), "{:?}", set.notes);
    assert_eq!(crop(r#" crs:AlreadyApplied="True""#).unwrap_err(), PhotoError::Cropped);
    // No part of the calibrated frame that a camera writes: how far the centre may have moved shows in the errors.
    let cut = read_with(&format!(
        r#"{FULL} d:CalibratedFocalLength="700" d:CalibratedOpticalCenterX="500" d:CalibratedOpticalCenterY="450""#
    ))
    .unwrap();
    assert!(cut.edited && cut.notes.iter().any(|n| n.contains("cropped")), "{:?}", cut.notes);
    assert!(cut.pose.sigma.tilt_deg > 15.0 && cut.focal_sigma > 0.5, "{cut:?}");
    let odd = read(&jpeg(400, 260, Some(&mavic_exif()), Some(&packet(FULL)))).unwrap();
    assert!(odd.edited, "no drone camera writes 400 × 260");
}

#[test]
fn a_laser_range_is_taken_only_where_the_range_finder_vouches_for_it() {
    let with = |status: &str| {
        read_with(&format!(r#"{FULL} d:LRFStatus="{status}" d:LRFTargetDistance="93.752""#)).unwrap().laser_range_m
    };
    assert_eq!((with("Normal"), with("TooFar")), (Some(93.752), None));
}

#[test]
fn a_picture_turned_after_its_pose_was_written_has_none() {
    let turned = exif(&[(0x112, 6)], "FC220", &[(0x920a, (473, 100))]);
    assert_eq!(read(&jpeg(400, 300, Some(&turned), Some(&packet(FULL)))), Err(PhotoError::Turned(6)));
}

#[test]
fn an_rtk_fix_is_believed_more_than_a_plain_one() {
    let plain = read_with(FULL).unwrap().pose.sigma.horizontal_m;
    let rtk = read_with(&format!(r#"{FULL} d:RtkFlag="50""#)).unwrap().pose.sigma.horizontal_m;
    assert!(rtk < plain / 5.0);
}

#[test]
fn focal_lengths_that_contradict_each_other_are_doubted_and_absurd_ones_refused() {
    let with = |tenths_mm: u32, more: &str| {
        let exif = exif(&[(0x112, 1)], "FC220", &[(0x920a, (tenths_mm, 10)), (0xa405, (26, 1))]);
        read(&jpeg(400, 300, Some(&exif), Some(&packet(&format!("{FULL} {more}")))))
    };
    // 26 mm are 300 px here, 4.7 mm 297 px. What a rounding does is no contradiction.
    let well = with(50, "").unwrap();
    assert!(!well.doubts.contains(&Doubt::FocalContradict) && well.may_be.is_empty(), "{well:?}");
    let longer = with(63, "").unwrap();
    assert!(longer.doubts.contains(&Doubt::FocalContradict), "{longer:?}");
    assert!((longer.camera.fx - 398.3).abs() < 0.1 && (longer.may_be[0].fx - 300.5).abs() < 0.1, "{longer:?}");
    assert!(longer.focal_sigma > 0.15);
    let refused = with(470, "").unwrap_err();
    assert!(matches!(refused, PhotoError::FocalLengths { times, .. } if (9.0..11.0).contains(&times)), "{refused}");
    assert!(refused.to_string().contains("FocalLengthIn35mmFilm (26 mm)"), "{refused}");
    // The maker's own calibration stands above both.
    assert!(with(470, r#"d:CalibratedFocalLength="300""#).unwrap().may_be.is_empty());
}

#[test]
fn of_a_png_it_is_said_that_its_tags_are_not_read() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(400, 300).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let refused = read(png.get_ref()).unwrap_err();
    assert!(refused == PhotoError::Png && refused.to_string().contains("not read"), "{refused}");
}

#[test]
fn hostile_xmp_is_refused_in_words() {
    let bomb = format!(
        r#"<!DOCTYPE x [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>{}"#,
        packet(&FULL.replace("+99.96", "&b;"))
    );
    let refuse = |xmp: &str| read(&jpeg(400, 300, Some(&mavic_exif()), Some(xmp))).unwrap_err();
    assert_eq!(refuse(&bomb), PhotoError::Xmp(xmp::XmpError::DocType));
    let entity = packet(&FULL.replace("+99.96", "&b;"));
    assert!(matches!(refuse(&entity), PhotoError::Xmp(xmp::XmpError::Malformed(_))));
    let long = packet(&format!(r#"{FULL} d:SelfData="{}""#, "x".repeat(50_000)));
    assert!(refuse(&long).to_string().contains("exceeds the limit of 1024"));
    assert!(matches!(xmp::read(&vec![b' '; 1_000_000]), Err(xmp::XmpError::TooMuch { what: "size", .. })));
    let deep = "<a>".repeat(2_000);
    assert!(refuse(&deep).to_string().contains("depth"));
    let many: String = (0..2_000).map(|i| format!(r#"d:p{i}="1" "#)).collect();
    assert!(refuse(&packet(&many)).to_string().contains("number of properties"));
}

#[test]
fn a_file_cut_off_anywhere_gives_an_error_or_a_pose_but_never_a_panic() {
    let whole = jpeg(400, 300, Some(&mavic_exif()), Some(&packet(FULL)));
    for end in 0..whole.len() {
        let _ = read(&whole[..end]);
    }
    // And a byte flipped anywhere in the metadata.
    for at in 0..1_200.min(whole.len()) {
        let mut broken = whole.clone();
        broken[at] ^= 0xff;
        let _ = read(&broken);
    }
    assert!(matches!(read(b"not a picture"), Err(PhotoError::NotAPicture(_))));
    assert!(matches!(read(&[]), Err(PhotoError::NotAPicture(_))));
}
