//! How long one position takes: over flat ground (20 µs at most), over a terrain model with cells of 1 m (200 µs at most).
//! Beside another library: `scripts/compare-cameratransform.py`.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, criterion_group, criterion_main};
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::Tag;

use aerie::geo::dem::Dem;
use aerie::geo::heights::HeightDatum;
use aerie::geo::{Attitude, Camera, Distortion, Ground, LatLon, Look, Pose, PoseSigma, Target};

const HERE: LatLon = LatLon { lat: 23.05, lon: 112.99 };

fn camera() -> Camera {
    let lens = Distortion::Brown([-0.077582, 0.197062, 0.001172, 0.000239, -0.06815]);
    Camera {
        width_px: 4056,
        height_px: 3040,
        fx: 4826.147,
        fy: 4826.147,
        cx: 2028.0,
        cy: 1520.0,
        distortion: Some(lens),
    }
}

fn pose(pitch_deg: f64) -> Pose {
    Pose {
        at: HERE,
        height_m: 160.0,
        attitude: Attitude { yaw_deg: 214.6, pitch_deg, roll_deg: -0.3 },
        sigma: PoseSigma { horizontal_m: 1.5, vertical_m: 2.0, yaw_deg: 2.0, tilt_deg: 0.5 },
    }
}

/// Two kilometres of hills with houses, cells of 1 m, as a GeoTIFF in UTM.
fn terrain() -> Dem {
    const SIDE: u32 = 2_000;
    let corner = aerie::geo::crs::Crs::from_epsg(32649).unwrap().forward(HERE);
    let heights: Vec<f32> = (0..SIDE * SIDE)
        .map(|i| {
            let (x, y) = ((i % SIDE) as f32, (i / SIDE) as f32);
            let hill = 50.0 + 15.0 * (x / 90.0).sin() * (y / 70.0).cos();
            if i % SIDE % 40 < 12 && i / SIDE % 50 < 15 { hill + 9.0 } else { hill }
        })
        .collect();
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<colortype::Gray32Float>(SIDE, SIDE).unwrap();
    let half = f64::from(SIDE) / 2.0;
    let tags = image.encoder();
    tags.write_tag(Tag::from_u16_exhaustive(33_550), &[1.0, 1.0, 0.0][..]).unwrap();
    tags.write_tag(Tag::from_u16_exhaustive(33_922), &[0.0, 0.0, 0.0, corner[0] - half, corner[1] + half, 0.0][..])
        .unwrap();
    let keys: [u16; 16] = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32649];
    tags.write_tag(Tag::from_u16_exhaustive(34_735), &keys[..]).unwrap();
    image.write_data(&heights).unwrap();
    Dem::read(file.get_ref(), "bench.tif").unwrap().with_datum(HeightDatum::Egm96)
}

fn positions(c: &mut Criterion) {
    let (camera, dem) = (camera(), terrain());
    for (name, pitch) in [("near nadir", -66.7), ("oblique", -44.5), ("far", -20.0)] {
        let pose = pose(pitch);
        for (kind, ground) in [
            ("flat", Ground::Flat { height_m: 50.0, sigma_m: 0.5 }),
            ("DEM 1 m", Ground::Terrain { dem: &dem, sigma_m: 0.5 }),
        ] {
            let look = Look { camera: &camera, focal_sigma: 0.003, pose: &pose, ground, max_range_m: 2_000.0 };
            let target = Target::ground([3405.2, 684.6]);
            look.locate(&target).expect("the bench looks at ground");
            c.bench_function(&format!("{kind}, {name}"), |b| b.iter(|| black_box(&look).locate(black_box(&target))));
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = positions
}
criterion_main!(benches);
