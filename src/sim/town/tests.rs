use std::sync::Arc;

use super::draft::Draft;
use super::layout::{Laid, PATROL, lay_out};
use super::planted::{Kind, Site};
use super::*;
use crate::geo::{Camera, Distortion};

fn camera(width: u32, height: u32, focal: f64) -> Camera {
    Camera {
        width_px: width,
        height_px: height,
        fx: focal,
        fy: focal,
        cx: f64::from(width) / 2.0,
        cy: f64::from(height) / 2.0,
        distortion: None,
    }
}

fn attitude(yaw_deg: f64, pitch_deg: f64) -> Attitude {
    Attitude { yaw_deg, pitch_deg, roll_deg: 0.0 }
}

/// The layout alone: what the tests over many seeds need, without sorting a scene.
fn laid(seed: u64) -> Laid {
    lay_out(seed, false, &Light::roll(&mut math::Dice::new(seed, 2)))
}

fn world(d: &Draft, site: &Site) -> [f32; 2] {
    d.world(site.at[0], site.at[1])
}

fn apart(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Metres from a point to a footprint; 0 inside.
fn to_footprint(p: [f32; 2], ring: &[[f32; 2]; 4]) -> f32 {
    let mut inside = true;
    let mut nearest = f32::INFINITY;
    let turn: f32 = (0..4).map(|i| ring[i][0] * ring[(i + 1) % 4][1] - ring[(i + 1) % 4][0] * ring[i][1]).sum();
    for i in 0..4 {
        let (a, b) = (ring[i], ring[(i + 1) % 4]);
        let (ex, ey) = (b[0] - a[0], b[1] - a[1]);
        let (px, py) = (p[0] - a[0], p[1] - a[1]);
        inside &= (ex * py - ey * px) * turn >= 0.0;
        let t = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        nearest = nearest.min((px - t * ex).hypot(py - t * ey));
    }
    if inside { 0.0 } else { nearest }
}

#[test]
fn the_same_seed_gives_the_same_town_and_picture() {
    let (a, b) = (Town::generate(7), Town::generate(7));
    assert_eq!(a.violations(), b.violations());
    assert_eq!(a.register_geojson(), b.register_geojson());
    let pose = TruePose { east_m: 10.0, north_m: -20.0, up_m: 60.0, attitude: attitude(35.0, -70.0) };
    let shoot = |town: Town, noise| Renderer::new(Arc::new(town)).render(&camera(160, 120, 90.0), pose, noise);
    let (first, second) = (shoot(a, 5), shoot(b, 5));
    assert!(first.rgb == second.rgb, "pictures differ");
    assert!(first.ids == second.ids, "ids differ");
    let other = shoot(Town::generate(8), 5);
    assert!(first.rgb != other.rgb, "another seed drew the same picture");
}

#[test]
fn two_frames_of_one_scene_differ_in_noise_only() {
    let renderer = Renderer::new(Arc::new(Town::generate(3)));
    let pose = TruePose { east_m: 0.0, north_m: 0.0, up_m: 80.0, attitude: attitude(0.0, -90.0) };
    let (a, b) = (renderer.render(&camera(120, 90, 90.0), pose, 1), renderer.render(&camera(120, 90, 90.0), pose, 2));
    assert!(a.rgb != b.rgb);
    let same = a.ids.iter().zip(&b.ids).filter(|(x, y)| x == y).count();
    assert!(same * 100 > a.ids.len() * 98, "only {same} of {} pixels kept their object", a.ids.len());
}

/// The camera is placed by plain trigonometry so that its axis meets the truth position: no use of the renderer's own
/// projection. Whatever is drawn in the middle pixel must be the violation itself.
#[test]
fn the_middle_pixel_of_a_camera_aimed_at_a_violation_carries_its_id() {
    for seed in [1, 2] {
        let renderer = Renderer::new(Arc::new(Town::generate(seed)));
        let camera = camera(9, 9, 120.0);
        for v in renderer.town().violations().to_vec() {
            for (yaw, pitch) in [(0.0, -90.0), (40.0, -66.0), (130.0, -66.0), (220.0, -66.0), (310.0, -66.0)] {
                let (depression, bearing) = (f64::to_radians(-pitch), f64::to_radians(yaw));
                let up_m = 60.0;
                let back = up_m / depression.tan();
                let pose = TruePose {
                    east_m: v.east_m - back * bearing.sin(),
                    north_m: v.north_m - back * bearing.cos(),
                    up_m,
                    attitude: attitude(yaw, pitch),
                };
                let seen = renderer.render(&camera, pose, 1).ids;
                assert!(
                    seen[4 * 9 + 4] == v.id || seen.contains(&v.id) && v.kind == "heavy_machine",
                    "seed {seed}: {} from yaw {yaw} pitch {pitch} shows {seen:?}",
                    v.kind
                );
            }
        }
    }
}

#[test]
fn yaw_turns_clockwise_and_north_is_left_of_a_camera_whose_top_points_east() {
    let town = Town::generate(4);
    let v = town.violations().iter().find(|v| v.kind == "blue_roof").cloned().expect("every town has one");
    let renderer = Renderer::new(Arc::new(town));
    // Straight down, top of the picture to the east, the roof 10 m north of the axis: at 70 m and 700 px it is 100 px left.
    let pose = TruePose { east_m: v.east_m, north_m: v.north_m - 10.0, up_m: 70.0, attitude: attitude(90.0, -90.0) };
    let seen = renderer.render(&camera(320, 240, 700.0), pose, 1).ids;
    let at = |x: usize, y: usize| seen[y * 320 + x];
    assert_eq!(at(160 - 100, 120), v.id);
    assert_ne!(at(160 + 100, 120), v.id);
}

#[test]
fn rolling_right_lowers_the_right_side() {
    let [right, _, _] = render::camera_axes(Attitude { yaw_deg: 0.0, pitch_deg: -30.0, roll_deg: 10.0 });
    assert!(right[2] < 0.0, "the right axis points up: {right:?}");
}

#[test]
fn a_distorting_lens_is_undone_ray_by_ray() {
    let mut camera = camera(640, 480, 500.0);
    camera.distortion = Some(Distortion::Brown([-0.12, 0.03, 0.001, -0.0005, 0.0]));
    let town = Town::generate(4);
    let v = town.violations().iter().find(|v| v.kind == "blue_roof").cloned().expect("every town has one");
    let pose =
        TruePose { east_m: v.east_m - 25.0, north_m: v.north_m - 18.0, up_m: 60.0, attitude: attitude(0.0, -90.0) };
    let [x, y] = render::project(&camera, &pose, [v.east_m, v.north_m, 4.0]).expect("in front of the camera");
    let seen = Renderer::new(Arc::new(town)).render(&camera, pose, 1).ids;
    assert_eq!(seen[y as usize * 640 + x as usize], v.id);
}

#[test]
fn every_demo_town_has_the_whole_set_planted_well_apart_in_the_open() {
    for seed in 1..=50 {
        let Laid { draft, sites, .. } = laid(seed);
        let count = |kind: Kind| sites.iter().filter(|(s, _)| s.kind == kind).count();
        let within = |kind, lo: usize, hi: usize| {
            let n = count(kind);
            assert!((lo..=hi).contains(&n), "seed {seed}: {n} of {kind:?}, wanted {lo} to {hi}");
        };
        within(Kind::NewBuilding, 1, 2);
        within(Kind::BlueRoof, 1, 2);
        within(Kind::Earthwork, 1, 1);
        within(Kind::HeavyMachine, 1, 1);
        within(Kind::Garbage, 2, 3);
        within(Kind::FloatingDebris, 1, 2);
        within(Kind::Burning, 1, 1);
        assert!((9..=11).contains(&sites.len()), "seed {seed}: {} planted", sites.len());
        for (i, (a, _)) in sites.iter().enumerate() {
            let at = world(&draft, a);
            let margin = (PATROL[0] - at[0].abs()).min(PATROL[1] - at[1].abs());
            assert!(margin >= 20.0, "seed {seed}: {:?} is {margin} m from the rim", a.kind);
            for (b, _) in &sites[..i] {
                let pair = (a.kind == Kind::HeavyMachine && b.kind == Kind::Earthwork)
                    || (b.kind == Kind::HeavyMachine && a.kind == Kind::Earthwork);
                let (gap, wanted) = (apart(at, world(&draft, b)), if pair { 6.0 } else { 25.0 });
                assert!(gap >= wanted, "seed {seed}: {:?} and {:?} are {gap} m apart", a.kind, b.kind);
            }
            for tree in draft.trees.iter().map(|t| draft.world(t[0], t[1])) {
                let gap = apart(at, tree);
                assert!(
                    gap > a.radius().min(4.0),
                    "seed {seed}: a tree stands {gap} m from the middle of {:?}",
                    a.kind
                );
            }
        }
    }
}

#[test]
fn nothing_planted_is_in_the_register_or_near_enough_to_be_taken_for_it() {
    for seed in 1..=50 {
        let Laid { draft, sites, .. } = laid(seed);
        let planted = sites.iter().filter(|(s, _)| matches!(s.kind, Kind::NewBuilding | Kind::BlueRoof)).count();
        assert_eq!(draft.buildings.iter().filter(|b| !b.registered).count(), planted, "seed {seed}");
        for (site, _) in &sites {
            let at = world(&draft, site);
            for b in draft.buildings.iter().filter(|b| b.registered) {
                let gap = to_footprint(at, &b.footprint);
                assert!(gap > site.radius(), "seed {seed}: {:?} stands {gap} m from a registered building", site.kind);
                if site.kind == Kind::NewBuilding {
                    assert!(gap - site.radius() >= 14.0, "seed {seed}: a new house {gap} m from a registered one");
                }
            }
        }
    }
}

#[test]
fn the_register_lists_each_permitted_building_with_its_permit() {
    let town = Town::generate(5);
    let register = town.register_geojson();
    let features = register["features"].as_array().expect("a collection");
    assert_eq!(features.len(), town.buildings.iter().filter(|b| b.registered).count());
    assert!(features.len() > 20, "a town of {} buildings", features.len());
    for f in features {
        assert!(f["properties"]["permit"].as_str().is_some_and(|p| p.starts_with("NH-")));
        let ring = f["geometry"]["coordinates"][0].as_array().expect("a ring");
        assert_eq!(ring.first(), ring.last());
    }
    let truth = town.truth_geojson();
    assert_eq!(truth["features"].as_array().map(Vec::len), Some(town.violations().len()));
}

#[test]
fn a_town_around_a_drone_has_its_dock_below_it_and_is_the_same_town() {
    for at in [LatLon { lat: -35.363_262, lon: 149.165_237 }, LatLon { lat: 47.397_742, lon: 8.545_594 }] {
        let (usual, around) = (Town::generate(5), Town::generate_around(5, at));
        assert!(around.dock().distance_m(at) < 0.001);
        assert_eq!(usual.dock_local(), around.dock_local());
        let apart = |town: &Town| town.violations()[0].at.distance_m(town.dock());
        assert!((apart(&usual) - apart(&around)).abs() < 0.1);
    }
}

#[test]
fn the_dock_stands_in_the_patrolled_area_on_dry_open_ground() {
    for seed in 1..=50 {
        let Laid { draft, dock, .. } = laid(seed);
        let [e, n] = draft.world(dock[0], dock[1]);
        assert!(e.abs() <= PATROL[0] && n.abs() <= PATROL[1], "seed {seed}: the dock is outside at {e}, {n}");
        assert!(
            draft.river.offset(dock[0], dock[1]).abs() > draft.river.half + 5.0,
            "seed {seed}: the dock is in the river"
        );
        for b in &draft.buildings {
            assert!(to_footprint([e, n], &b.footprint) > 3.0, "seed {seed}: the dock is under a roof");
        }
    }
}

#[test]
fn labels_are_the_bounds_of_what_is_seen() {
    let town = Town::generate(6);
    let v = town.violations().iter().find(|v| v.kind == "blue_roof").cloned().expect("every town has one");
    let renderer = Renderer::new(Arc::new(town));
    let pose = TruePose { east_m: v.east_m, north_m: v.north_m, up_m: 70.0, attitude: attitude(0.0, -90.0) };
    let camera = camera(320, 320, 700.0);
    let rendered = renderer.render(&camera, pose, 1);
    let labels = dataset::labels(renderer.town(), &camera, &pose, &rendered);
    let around = labels
        .iter()
        .find(|l| l.class == 1 && l.low[0] < 160.0 && l.high[0] > 160.0 && l.low[1] < 160.0 && l.high[1] > 160.0);
    let Some(label) = around else {
        panic!("no blue roof around the middle: {labels:?}");
    };
    for (i, _) in rendered.ids.iter().enumerate().filter(|(_, id)| **id == v.id) {
        let (x, y) = ((i % 320) as f32, (i / 320) as f32);
        assert!(x >= label.low[0] && x < label.high[0] && y >= label.low[1] && y < label.high[1]);
    }
    let wide = label.high[0] - label.low[0];
    assert!(f64::from(wide) < v.radius_m * 2.0 * 10.0 * 1.25, "{wide} px for a shed of radius {} m", v.radius_m);
}
