//! A terrain model: heights on a regular grid, and where a ray meets them.
//!
//! Read from bytes: GeoTIFF ([`geotiff`]), DTED ([`dted`]), SRTM ([`hgt`]); the first bytes and, for `.hgt`, the name tell
//! which. The whole grid is held in memory (4 bytes a cell).
//!
//! A fine grid is read bilinearly, except across walls. A coarse one (cells of more than 5 m) is read by monotone cubics: on
//! open ground they are better between the nodes, and they never swing past them.

mod dted;
mod geotiff;
mod hgt;
mod ray;

use super::crs::{Crs, UnknownCrs};
use super::heights::HeightDatum;
use super::{LatLon, LocalFrame};

pub use ray::{Hit, Miss};

/// More cells than this are refused: 800 MB of memory on a small computer.
const MAX_CELLS: u64 = 200_000_000;
/// Grids with larger cells are read by cubic convolution.
const COARSE_M: f64 = 5.0;
/// In a fine grid, neighbouring cells that differ by more than this share of a cell's side have a wall between them, which
/// stands at their border: no slope leads from a street to a roof.
const WALL: f64 = 1.0;
/// No ground of the Earth is outside this range, with room for geoids and towers.
const POSSIBLE_M: std::ops::RangeInclusive<f32> = -600.0..=9_500.0;
/// Cells on a side of a block whose highest cell is kept, so that a ray can pass over it in one step.
const BLOCK: usize = 16;
const EARTH_RADIUS_M: f64 = 6_371_000.0;

/// Why a file is no terrain model that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DemError {
    #[error("it is no terrain model that is known here (GeoTIFF, DTED, SRTM .hgt)")]
    Format,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("it has {cells} cells, more than {MAX_CELLS}; cut out the area with gdalwarp -te")]
    TooLarge { cells: u64 },
    #[error("{0}; convert it with gdal_translate or gdalwarp to a plain GeoTIFF of one band")]
    Unsupported(String),
    #[error(transparent)]
    Crs(#[from] UnknownCrs),
    #[error("its place on the Earth is not told (no ModelTiepoint and ModelPixelScale, no usable coordinate system)")]
    NoPlace,
    #[error("all of its cells are void")]
    AllVoid,
}

/// Heights on a grid, the first row in the north. A void is NaN.
#[derive(Debug, Clone)]
pub struct Dem {
    columns: usize,
    rows: usize,
    cells: Vec<f32>,
    crs: Crs,
    /// Coordinates of the centre of the first cell.
    origin: [f64; 2],
    /// Coordinates from one cell to the next; positive, rows count southwards.
    step: [f64; 2],
    datum: HeightDatum,
    /// The shorter side of a cell in metres.
    cell_m: f64,
    lowest_m: f64,
    highest_m: f64,
    blocks: Vec<f32>,
}

/// What a reader found, before it is checked.
struct Parts {
    columns: usize,
    rows: usize,
    cells: Vec<f32>,
    crs: Crs,
    origin: [f64; 2],
    step: [f64; 2],
    datum: HeightDatum,
}

impl Dem {
    /// Reads a file; its name is needed for `.hgt`, which tells its place in no other way.
    pub fn read(bytes: &[u8], name: &str) -> Result<Self, DemError> {
        let parts = match bytes {
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => geotiff::read(bytes)?,
            [b'U', b'H', b'L', b'1', ..] => dted::read(bytes)?,
            _ if name.to_ascii_lowercase().ends_with(".hgt") => hgt::read(bytes, name)?,
            _ => return Err(DemError::Format),
        };
        Self::new(parts)
    }

    fn new(mut p: Parts) -> Result<Self, DemError> {
        let cells = p.columns as u64 * p.rows as u64;
        if cells > MAX_CELLS {
            return Err(DemError::TooLarge { cells });
        }
        if p.columns < 2 || p.rows < 2 || p.cells.len() as u64 != cells {
            return Err(DemError::Damaged(format!(
                "{} × {} cells are told, {} are there",
                p.columns,
                p.rows,
                p.cells.len()
            )));
        }
        let place = [p.origin[0], p.origin[1], p.step[0], p.step[1]];
        if !place.iter().all(|v| v.is_finite()) || p.step[0] <= 0.0 || p.step[1] <= 0.0 {
            return Err(DemError::NoPlace);
        }
        let (mut lowest, mut highest) = (f32::INFINITY, f32::NEG_INFINITY);
        for cell in &mut p.cells {
            if POSSIBLE_M.contains(cell) {
                lowest = lowest.min(*cell);
                highest = highest.max(*cell);
            } else {
                // Undeclared fill values (-9999, -32768, 3.4e38) are as good as declared ones.
                *cell = f32::NAN;
            }
        }
        if lowest > highest {
            return Err(DemError::AllVoid);
        }
        let centre = [p.origin[0] + p.step[0] * p.columns as f64 / 2.0, p.origin[1] - p.step[1] * p.rows as f64 / 2.0];
        let middle = p.crs.inverse(centre);
        middle.validate().map_err(|_| DemError::NoPlace)?;
        let east = p.crs.inverse([centre[0] + p.step[0], centre[1]]);
        let north = p.crs.inverse([centre[0], centre[1] + p.step[1]]);
        let cell_m = middle.distance_m(east).min(middle.distance_m(north));
        let mut dem = Self {
            columns: p.columns,
            rows: p.rows,
            cells: p.cells,
            crs: p.crs,
            origin: p.origin,
            step: p.step,
            datum: p.datum,
            cell_m,
            lowest_m: lowest.into(),
            highest_m: highest.into(),
            blocks: Vec::new(),
        };
        dem.blocks = dem.highest_of_blocks();
        Ok(dem)
    }

    /// The highest cell of each block with two cells around it, which is what any reading inside can reach.
    fn highest_of_blocks(&self) -> Vec<f32> {
        let across = self.columns.div_ceil(BLOCK);
        let mut blocks = vec![f32::NEG_INFINITY; across * self.rows.div_ceil(BLOCK)];
        for row in 0..self.rows {
            let line = &self.cells[row * self.columns..(row + 1) * self.columns];
            let block_rows = row.saturating_sub(2) / BLOCK..=(row + 2).min(self.rows - 1) / BLOCK;
            for (column, cell) in line.iter().enumerate() {
                if cell.is_nan() {
                    continue;
                }
                for r in block_rows.clone() {
                    for c in column.saturating_sub(2) / BLOCK..=(column + 2).min(self.columns - 1) / BLOCK {
                        let block = &mut blocks[r * across + c];
                        *block = block.max(*cell);
                    }
                }
            }
        }
        blocks
    }

    /// What its heights are counted from, as far as the file says.
    pub fn datum(&self) -> HeightDatum {
        self.datum
    }

    /// The same heights, counted from what somebody who knows says.
    #[must_use]
    pub fn with_datum(mut self, datum: HeightDatum) -> Self {
        self.datum = datum;
        self
    }

    /// The shorter side of a cell in metres.
    pub fn cell_m(&self) -> f64 {
        self.cell_m
    }

    /// South-west and north-east corner, for messages.
    pub fn bounds(&self) -> [LatLon; 2] {
        let far = [
            self.origin[0] + self.step[0] * (self.columns - 1) as f64,
            self.origin[1] - self.step[1] * (self.rows - 1) as f64,
        ];
        [self.crs.inverse([self.origin[0], far[1]]), self.crs.inverse([far[0], self.origin[1]])]
    }

    /// The height at a place, in the model's own datum; `None` outside and in voids.
    pub fn height_m(&self, at: LatLon) -> Option<f64> {
        let [x, y] = self.crs.forward(at);
        self.read_at([(x - self.origin[0]) / self.step[0], (self.origin[1] - y) / self.step[1]])
    }

    /// The same by column and row, counted in cell centres.
    fn read_at(&self, [column, row]: [f64; 2]) -> Option<f64> {
        // The outermost half cell belongs to the model too.
        let (last_c, last_r) = ((self.columns - 1) as f64, (self.rows - 1) as f64);
        if !(column >= -0.5 && row >= -0.5 && column <= last_c + 0.5 && row <= last_r + 0.5) {
            return None;
        }
        let (column, row) = (column.clamp(0.0, last_c), row.clamp(0.0, last_r));
        let (c, r) = ((column as usize).min(self.columns - 2), (row as usize).min(self.rows - 2));
        let (fc, fr) = (column - c as f64, row - r as f64);
        if self.cell_m > COARSE_M
            && let Some(height) = self.smooth(c, r, fc, fr)
        {
            return Some(height);
        }
        let i = r * self.columns + c;
        let [a, b, c, d] = [i, i + 1, i + self.columns, i + self.columns + 1].map(|i| f64::from(self.cells[i]));
        let nearest = match (fr < 0.5, fc < 0.5) {
            (true, true) => a,
            (true, false) => b,
            (false, true) => c,
            (false, false) => d,
        };
        let height = if self.cell_m <= COARSE_M && a.max(b).max(c.max(d)) - a.min(b).min(c.min(d)) > WALL * self.cell_m
        {
            nearest
        } else {
            (a * (1.0 - fc) + b * fc) * (1.0 - fr) + (c * (1.0 - fc) + d * fc) * fr
        };
        // Beside a void, a cell stands for its own area.
        let height = if height.is_nan() { nearest } else { height };
        (!height.is_nan()).then_some(height)
    }

    /// Monotone cubics, first along the rows, then across them; nothing at the rim and beside voids.
    fn smooth(&self, c: usize, r: usize, fc: f64, fr: f64) -> Option<f64> {
        if c < 1 || r < 1 || c + 2 >= self.columns || r + 2 >= self.rows {
            return None;
        }
        let across = [0, 1, 2, 3].map(|i| {
            let at = (r - 1 + i) * self.columns + c - 1;
            monotone([0, 1, 2, 3].map(|i| f64::from(self.cells[at + i])), fc)
        });
        let height = monotone(across, fr);
        (!height.is_nan()).then_some(height)
    }

    /// Whether a column and row lie in the model, be it in a void.
    fn holds(&self, [column, row]: [f64; 2]) -> bool {
        (-0.5..=self.columns as f64 - 0.5).contains(&column) && (-0.5..=self.rows as f64 - 0.5).contains(&row)
    }

    /// One sigma of the model's height at a place (east, north of the view's centre): what such models are off by, and what
    /// the surface does between the nearest nodes, which no reading can know.
    fn sigma_at(&self, [column, row]: [f64; 2]) -> f64 {
        let own: f64 = match self.cell_m {
            m if m < 2.0 => 0.5,
            m if m < 10.0 => 1.0,
            _ => 2.0,
        };
        let (c, r) = ((column.max(0.0) as usize).min(self.columns - 2), (row.max(0.0) as usize).min(self.rows - 2));
        let near = [0, 1, self.columns, self.columns + 1].map(|i| f64::from(self.cells[r * self.columns + c + i]));
        let relief = near.iter().copied().fold(f64::MIN, f64::max) - near.iter().copied().fold(f64::MAX, f64::min);
        if relief.is_finite() { own.hypot(RELIEF_SHARE * relief) } else { own }
    }

    /// The model as seen from a place: metres east and north of it instead of coordinates.
    pub fn around(&self, at: LatLon, height_m: f64, radius_m: f64) -> View<'_> {
        View::new(self, at, height_m, radius_m)
    }
}

/// How much of the height difference between neighbouring nodes counts as one sigma of what lies between them.
const RELIEF_SHARE: f64 = 0.25;

/// Between the second and the third of four values (`t` from 0 to 1): a cubic that is straight where they are and stays
/// between the two where they are not (F. N. Fritsch and J. Butland, SIAM J. Sci. Stat. Comput. 5, 1984).
fn monotone([a, b, c, d]: [f64; 4], t: f64) -> f64 {
    // The harmonic mean of the slopes on both sides, none at a peak or in a hollow.
    let slope = |before: f64, after: f64| {
        if before * after > 0.0 { 2.0 * before * after / (before + after) } else { 0.0 * (before + after) }
    };
    let rise = c - b;
    let (from, to) = (slope(b - a, rise), slope(rise, d - c));
    b + t * (from + t * (3.0 * rise - 2.0 * from - to + t * (from + to - 2.0 * rise)))
}

/// A terrain model around one place. Heights in it are counted from the tangent plane's own zero: the model's height less
/// the drop of the Earth's curve.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    dem: &'a Dem,
    frame: LocalFrame,
    /// Metres of the local frame (which counts at the ellipsoid) in one metre up here.
    metric: f64,
    /// Column and row as polynomials of east and north: 1, e, n, e², e n, n².
    map: [[f64; 6]; 2],
}

impl<'a> View<'a> {
    fn new(dem: &'a Dem, at: LatLon, height_m: f64, radius_m: f64) -> Self {
        let frame = LocalFrame::new(at);
        let metric = EARTH_RADIUS_M / (EARTH_RADIUS_M + height_m.clamp(-1_000.0, 20_000.0));
        // Second-order differences over half the radius: over a kilometre the third order is below a millimetre.
        let s = (radius_m / 2.0).clamp(10.0, 5_000.0);
        let cell = |e: f64, n: f64| {
            let [x, y] = dem.crs.forward(frame.to_latlon(e * metric, n * metric));
            [(x - dem.origin[0]) / dem.step[0], (dem.origin[1] - y) / dem.step[1]]
        };
        let (o, east, west, north, south, corner) =
            (cell(0.0, 0.0), cell(s, 0.0), cell(-s, 0.0), cell(0.0, s), cell(0.0, -s), cell(s, s));
        let map = [0, 1].map(|i| {
            let e = (east[i] - west[i]) / (2.0 * s);
            let n = (north[i] - south[i]) / (2.0 * s);
            let ee = (east[i] + west[i] - 2.0 * o[i]) / (2.0 * s * s);
            let nn = (north[i] + south[i] - 2.0 * o[i]) / (2.0 * s * s);
            let en = (corner[i] - o[i] - e * s - n * s - ee * s * s - nn * s * s) / (s * s);
            [o[i], e, n, ee, en, nn]
        });
        Self { dem, frame, metric, map }
    }

    pub fn dem(&self) -> &'a Dem {
        self.dem
    }

    fn cell(&self, e: f64, n: f64) -> [f64; 2] {
        self.map.map(|m| m[0] + e * (m[1] + e * m[3] + n * m[4]) + n * (m[2] + n * m[5]))
    }

    /// The surface above the tangent plane's zero.
    pub fn surface_m(&self, e: f64, n: f64) -> Option<f64> {
        Some(self.dem.read_at(self.cell(e, n))? - drop_m(e, n))
    }

    /// The surface's slope towards east and north, over one cell.
    pub fn slope(&self, e: f64, n: f64) -> Option<[f64; 2]> {
        let h = self.dem.cell_m / 2.0;
        let along = |de: f64, dn: f64| {
            Some((self.surface_m(e + de, n + dn)? - self.surface_m(e - de, n - dn)?) / self.dem.cell_m)
        };
        Some([along(h, 0.0)?, along(0.0, h)?])
    }

    /// One sigma of the model at a place.
    pub fn sigma_m(&self, e: f64, n: f64) -> f64 {
        self.dem.sigma_at(self.cell(e, n))
    }

    pub fn to_latlon(&self, e: f64, n: f64) -> LatLon {
        self.frame.to_latlon(e * self.metric, n * self.metric)
    }

    pub fn to_enu(&self, at: LatLon) -> [f64; 2] {
        self.frame.to_enu(at).map(|v| v / self.metric)
    }
}

/// How far the Earth's surface lies below the tangent plane.
pub(super) fn drop_m(e: f64, n: f64) -> f64 {
    (e * e + n * n) / (2.0 * EARTH_RADIUS_M)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const HERE: LatLon = LatLon { lat: 23.03, lon: 112.9 };

    /// A model in UTM around [`HERE`]: its height is a function of metres east and north of there.
    pub(crate) fn model(cell_m: f64, size: usize, height: impl Fn(f64, f64) -> f64) -> Dem {
        let crs = Crs::from_epsg(32649).unwrap();
        let centre = crs.forward(HERE);
        let half = cell_m * (size as f64 - 1.0) / 2.0;
        let origin = [centre[0] - half, centre[1] + half];
        // Grid north is not true north: the function is asked in true metres.
        let frame = LocalFrame::new(HERE);
        let cells = (0..size * size)
            .map(|i| {
                let (r, c) = ((i / size) as f64, (i % size) as f64);
                let [e, n] = frame.to_enu(crs.inverse([origin[0] + c * cell_m, origin[1] - r * cell_m]));
                height(e, n) as f32
            })
            .collect();
        let parts = Parts {
            columns: size,
            rows: size,
            cells,
            crs,
            origin,
            step: [cell_m, cell_m],
            datum: HeightDatum::Ellipsoid,
        };
        Dem::new(parts).unwrap()
    }

    #[test]
    fn a_plane_is_read_exactly_on_nodes_and_between_them_fine_or_coarse() {
        for cell in [1.0, 15.0] {
            let dem = model(cell, 100, |e, n| 100.0 + 0.1 * e - 0.05 * n);
            for (e, n) in [(0.0, 0.0), (13.3, -7.7), (-20.1, 31.9)] {
                let got = dem.height_m(LocalFrame::new(HERE).to_latlon(e, n)).unwrap();
                assert!((got - (100.0 + 0.1 * e - 0.05 * n)).abs() < 0.01, "{got} at {e} {n} with cells of {cell} m");
            }
        }
    }

    #[test]
    fn a_coarse_model_never_swings_past_its_nodes_and_rounds_a_hill_better_than_facets() {
        let cliff = model(30.0, 40, |e, _| if e > 0.0 { 100.0 } else { 0.0 });
        let at = |dem: &Dem, e: f64| dem.height_m(LocalFrame::new(HERE).to_latlon(e, 3.0)).unwrap();
        assert!((-200..200).all(|e| (0.0..=100.0).contains(&at(&cliff, f64::from(e)))));
        let wave = |e: f64| 40.0 * (e / 60.0).sin();
        let hill = model(30.0, 40, |e, _| wave(e));
        let rms = |of: &dyn Fn(f64) -> f64| {
            ((-300..300).map(|e| (of(f64::from(e)) - wave(f64::from(e))).powi(2)).sum::<f64>() / 600.0).sqrt()
        };
        let facets = |e: f64| {
            let step = (e / 30.0).floor() * 30.0;
            let share = (e - step) / 30.0;
            at(&hill, step) * (1.0 - share) + at(&hill, step + 30.0) * share
        };
        assert!(rms(&|e| at(&hill, e)) < 0.8 * rms(&facets), "{} {}", rms(&|e| at(&hill, e)), rms(&facets));
    }

    #[test]
    fn a_view_reads_what_the_model_reads_less_the_earths_curve() {
        let dem = model(1.0, 1_500, |e, n| 50.0 + 10.0 * (e / 60.0).sin() + 0.02 * n);
        let view = dem.around(HERE, 150.0, 1_000.0);
        for (e, n) in [(0.0, 0.0), (300.0, -500.0), (-650.0, 600.0)] {
            let direct = dem.height_m(view.to_latlon(e, n)).unwrap();
            let seen = view.surface_m(e, n).unwrap();
            assert!((direct - drop_m(e, n) - seen).abs() < 1e-3, "{direct} {seen}");
        }
    }

    #[test]
    fn a_wall_stands_at_the_border_of_two_cells_and_does_not_lean() {
        // A roof 10 m above the street; the first cell on it has its centre 0.5 m behind the wall.
        let dem = model(1.0, 100, |e, _| if e > 0.0 { 60.0 } else { 50.0 });
        let at = |e: f64| dem.height_m(LocalFrame::new(HERE).to_latlon(e, 5.0)).unwrap();
        let heights: Vec<f64> = (-20..20).map(|i| at(f64::from(i) / 10.0)).collect();
        assert!(heights.iter().all(|h| *h == 50.0 || *h == 60.0), "{heights:?}");
    }

    #[test]
    fn outside_and_in_voids_there_is_no_height() {
        let dem = model(1.0, 50, |e, n| if e.hypot(n) < 5.0 { -9999.0 } else { 10.0 });
        let at = |e, n| dem.height_m(LocalFrame::new(HERE).to_latlon(e, n));
        assert_eq!(at(0.0, 0.0), None);
        assert_eq!(at(30.0, 0.0), None);
        assert!(at(10.0, 0.0).is_some());
    }

    #[test]
    fn what_is_no_terrain_is_refused() {
        assert_eq!(Dem::read(b"", "a.tif").unwrap_err(), DemError::Format);
        assert_eq!(Dem::read(b"GIF89a", "a.tif").unwrap_err(), DemError::Format);
        let parts = |cells: Vec<f32>, step: f64| Parts {
            columns: 2,
            rows: 2,
            cells,
            crs: Crs::Geographic,
            origin: [112.0, 23.0],
            step: [step, step],
            datum: HeightDatum::Unstated,
        };
        assert_eq!(Dem::new(parts(vec![-9999.0; 4], 0.01)).unwrap_err(), DemError::AllVoid);
        assert!(matches!(Dem::new(parts(vec![1.0; 3], 0.01)).unwrap_err(), DemError::Damaged(_)));
        assert_eq!(Dem::new(parts(vec![1.0; 4], f64::NAN)).unwrap_err(), DemError::NoPlace);
        assert_eq!(
            Dem::new(Parts { origin: [23.0, 112.0], ..parts(vec![1.0; 4], 0.01) }).unwrap_err(),
            DemError::NoPlace
        );
    }
}
