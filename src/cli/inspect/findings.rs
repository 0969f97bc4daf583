//! Pure: which sightings are one thing, and the findings as GeoJSON.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::geo::{self, Located, datum};

/// Two sightings this near are one thing even when their ellipses are smaller: a detector's boxes are not that exact.
const NEAR_M: f64 = 5.0;

/// One thing in one photo, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Which photo, by number.
    pub image: usize,
    pub class: String,
    pub score: f32,
    pub bbox: [f32; 4],
    pub located: Located,
}

/// One thing, seen in one photo or more.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub class: String,
    /// The best of its sightings.
    pub score: f32,
    pub located: Located,
    /// Best first; at most one of each photo.
    pub sightings: Vec<Sighting>,
}

/// Sorts sightings into things: best score first, each to the nearest finding of its class that it can be (within
/// 5 m or within the 95 % ellipse of the difference), or to one of its own. One photo shows a thing once, so two
/// sightings of one photo are never the same thing.
pub fn fuse(sightings: &[Sighting]) -> Vec<Finding> {
    let mut order: Vec<&Sighting> = sightings.iter().collect();
    // Ties are broken so that the same photos give the same findings in whatever order they came.
    order.sort_by(|a, b| {
        (b.score.total_cmp(&a.score))
            .then(a.image.cmp(&b.image))
            .then(a.bbox[0].total_cmp(&b.bbox[0]))
            .then(a.bbox[1].total_cmp(&b.bbox[1]))
    });
    let mut found: Vec<Finding> = Vec::new();
    let mut photos: Vec<HashSet<usize>> = Vec::new();
    for sighting in order {
        let nearest = (0..found.len())
            .filter(|&i| found[i].class == sighting.class && !photos[i].contains(&sighting.image))
            .filter(|&i| may_be_near(&found[i].located, &sighting.located))
            .filter(|&i| geo::same_place(&found[i].located, &sighting.located, NEAR_M))
            .map(|i| (i, geo::distance_m(found[i].located.at, sighting.located.at)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match nearest {
            Some((i, _)) => {
                found[i].sightings.push(sighting.clone());
                photos[i].insert(sighting.image);
                let looks: Vec<Located> = found[i].sightings.iter().map(|s| s.located).collect();
                if let Some(located) = geo::combine(&looks) {
                    found[i].located = located;
                }
            }
            None => {
                found.push(Finding {
                    class: sighting.class.clone(),
                    score: sighting.score,
                    located: sighting.located,
                    sightings: vec![sighting.clone()],
                });
                photos.push(HashSet::from([sighting.image]));
            }
        }
    }
    found
}

/// A cheap bound before the exact test: a thousand photos make a million pairs, nearly all of them far apart.
fn may_be_near(a: &Located, b: &Located) -> bool {
    let reach = NEAR_M + a.uncertainty.semi_major_m + b.uncertainty.semi_major_m;
    (a.at.lat - b.at.lat).abs() * 110_000.0 <= reach
}

/// An RFC 7946 feature collection: WGS 84, longitude first, one point for each finding. `image` names a photo and its
/// evidence picture by number; `experimental` says of a class that nothing real speaks for it.
pub fn geojson<'a>(
    findings: &[Finding],
    image: impl Fn(usize) -> (&'a str, Option<&'a str>),
    experimental: impl Fn(&str) -> bool,
) -> Value {
    let features: Vec<Value> = findings
        .iter()
        .map(|f| {
            let sources: Vec<Value> = f
                .sightings
                .iter()
                .map(|s| {
                    let (name, evidence) = image(s.image);
                    json!({"image": name, "evidence": evidence, "box": s.bbox.map(tenth), "score": hundredth(s.score)})
                })
                .collect();
            let at = f.located.at;
            json!({
                "type": "Feature",
                "geometry": {"type": "Point", "coordinates": [degrees(at.lon), degrees(at.lat)]},
                "properties": {
                    "class": f.class,
                    "experimental": experimental(&f.class),
                    "score": hundredth(f.score),
                    "photos": f.sightings.len(),
                    "uncertainty": {
                        "confidence": 0.95,
                        "semi_major_m": centimetre(f.located.uncertainty.semi_major_m),
                        "semi_minor_m": centimetre(f.located.uncertainty.semi_minor_m),
                        "bearing_deg": (f.located.uncertainty.bearing_deg * 10.0).round() / 10.0,
                    },
                    "position": position(at),
                    "sources": sources,
                },
            })
        })
        .collect();
    json!({"type": "FeatureCollection", "features": features})
}

fn position(at: geo::LatLon) -> Value {
    let named = datum::named(at);
    let pair = |p: geo::LatLon| json!({"lat": degrees(p.lat), "lon": degrees(p.lon)});
    json!({
        "wgs84": pair(named.wgs84),
        "cgcs2000": pair(named.cgcs2000),
        "gcj02_display_only": named.gcj02.map(pair),
    })
}

/// Eight decimals are a millimetre.
fn degrees(v: f64) -> f64 {
    (v * 1e8).round() / 1e8
}

fn centimetre(v: f64) -> f64 {
    (v * 100.0).round() / 100.0
}

fn tenth(v: f32) -> f64 {
    (f64::from(v) * 10.0).round() / 10.0
}

fn hundredth(v: f32) -> f64 {
    (f64::from(v) * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::{Ellipse, LatLon, LocalFrame};

    fn seen(image: usize, class: &str, score: f32, east: f64, north: f64, semi: f64) -> Sighting {
        let at = LocalFrame::new(LatLon { lat: 23.03, lon: 112.9 }).to_latlon(east, north);
        let uncertainty = Ellipse { semi_major_m: semi, semi_minor_m: semi, bearing_deg: 0.0 };
        Sighting {
            image,
            class: class.to_owned(),
            score,
            bbox: [east as f32, north as f32, 9.0, 9.0],
            located: Located { at, uncertainty, slant_m: 100.0 },
        }
    }

    #[test]
    fn a_thing_in_three_photos_is_one_finding_and_another_class_at_the_same_place_is_another() {
        let found = fuse(&[
            seen(0, "vehicle", 0.6, 0.0, 0.0, 3.0),
            seen(1, "vehicle", 0.9, 2.0, 1.0, 3.0),
            seen(2, "vehicle", 0.7, 1.0, -2.0, 3.0),
            seen(2, "garbage", 0.5, 1.0, -2.0, 3.0),
        ]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].class.as_str(), found[0].score, found[0].sightings.len()), ("vehicle", 0.9, 3));
    }

    #[test]
    fn two_cars_side_by_side_in_one_photo_stay_two_and_find_their_own_selves_in_the_next() {
        let mut found = fuse(&[
            seen(0, "vehicle", 0.9, 0.0, 0.0, 6.0),
            seen(0, "vehicle", 0.8, 3.0, 0.0, 6.0),
            seen(1, "vehicle", 0.7, 1.0, 0.0, 6.0),
            seen(1, "vehicle", 0.6, 4.0, 0.0, 6.0),
        ]);
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let east = |f: &Finding| f.sightings.iter().map(|s| s.bbox[0]).collect::<Vec<_>>();
        assert_eq!(found.iter().map(east).collect::<Vec<_>>(), [vec![0.0, 1.0], vec![3.0, 4.0]]);
    }

    #[test]
    fn what_is_farther_than_five_metres_is_joined_only_by_its_ellipse() {
        let apart = |semi| fuse(&[seen(0, "v", 0.9, 0.0, 0.0, semi), seen(1, "v", 0.8, 8.0, 0.0, semi)]).len();
        assert_eq!((apart(3.0), apart(10.0)), (2, 1));
    }

    #[test]
    fn the_same_photos_give_the_same_findings_in_any_order() {
        let mut sightings: Vec<_> = (0..40)
            .map(|i| seen(i % 4, "v", 0.5, f64::from((i * 7 % 11) as u32) * 2.0, f64::from((i * 5 % 13) as u32), 4.0))
            .collect();
        let once = fuse(&sightings);
        sightings.reverse();
        assert_eq!(once, fuse(&sightings));
    }

    #[test]
    fn the_geojson_has_longitude_first_and_names_every_datum() {
        let value = geojson(
            &fuse(&[seen(0, "vehicle", 0.9, 0.0, 0.0, 3.0)]),
            |_| ("a.jpg", Some("evidence/a.jpg")),
            |class| class == "vehicle",
        );
        assert_eq!(value["type"], "FeatureCollection");
        let feature = &value["features"][0];
        assert_eq!(feature["geometry"], json!({"type": "Point", "coordinates": [112.9, 23.03]}));
        assert_eq!(feature["properties"]["experimental"], true);
        let position = &feature["properties"]["position"];
        assert_eq!(position["wgs84"]["lat"], 23.03);
        assert_eq!(position["cgcs2000"]["lon"], 112.9);
        assert!((position["gcj02_display_only"]["lon"].as_f64().unwrap() - 112.905).abs() < 0.002);
        assert_eq!(feature["properties"]["sources"][0]["evidence"], "evidence/a.jpg");
        assert_eq!(geojson(&[], |_| ("", None), |_| false)["features"], json!([]));
    }
}
