//! The way in: where a picture lies in the graph's input, and the one pass that writes it there.

use opencv::core::{self, Mat, MatTraitConst, Rect, Vec3b, Vector};

use crate::perception::manifest::{Color, Fit, Input, Layout};

/// Part of a picture: RGB, three bytes a pixel, `stride` bytes a row. Nothing is copied to look at a tile.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pixels: &'a [u8],
    stride: usize,
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl<'a> View<'a> {
    /// None unless the part lies within `pixels`, and has a pixel.
    pub fn new(pixels: &'a [u8], stride: usize, x: u32, y: u32, width: u32, height: u32) -> Option<View<'a>> {
        let (x, y, width, height) = (x as usize, y as usize, width as usize, height as usize);
        if width == 0 || height == 0 || x.checked_add(width)?.checked_mul(3)? > stride {
            return None;
        }
        let end = y.checked_add(height - 1)?.checked_mul(stride)?.checked_add((x + width) * 3)?;
        (end <= pixels.len()).then_some(View { pixels, stride, x, y, width, height })
    }

    pub fn of(picture: &'a image::RgbImage) -> Option<View<'a>> {
        let (width, height) = picture.dimensions();
        View::new(picture.as_raw(), width as usize * 3, 0, 0, width, height)
    }

    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    fn row(&self, y: usize) -> &'a [u8] {
        let start = (self.y + y) * self.stride + self.x * 3;
        &self.pixels[start..start + self.width * 3]
    }
}

/// Where what was written lies in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The input's size.
    pub input: (u32, u32),
    /// The picture's corner in it, and the picture's size.
    pub at: (u32, u32),
    pub size: (u32, u32),
}

/// Where a part that already has the model's scale goes; none if it is larger than the input.
pub fn place(input: &Input, size: (u32, u32)) -> Option<Placement> {
    if size.0 == 0 || size.1 == 0 || size.0 > input.width || size.1 > input.height {
        return None;
    }
    let whole = if input.dynamic {
        (size.0.next_multiple_of(input.stride), size.1.next_multiple_of(input.stride))
    } else {
        (input.width, input.height)
    };
    let at = match input.fit {
        Fit::Centre => ((whole.0 - size.0) / 2, (whole.1 - size.1) / 2),
        Fit::TopLeft | Fit::Stretch => (0, 0),
    };
    Some(Placement { input: whole, at, size })
}

/// A whole picture in the input, as the model's project puts it there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// The size the picture has to be given first.
    pub size: (u32, u32),
    /// Pixels of the input a pixel of the picture.
    pub scale: [f32; 2],
}

pub fn fit(input: &Input, width: u32, height: u32) -> Fitted {
    let along = |to: u32, from: u32| f64::from(to) / f64::from(from.max(1));
    let (x, y) = (along(input.width, width), along(input.height, height));
    if input.fit == Fit::Stretch {
        return Fitted { size: (input.width, input.height), scale: [x as f32, y as f32] };
    }
    let scale = x.min(y);
    let to = |length: u32, most: u32| {
        let length = f64::from(length) * scale;
        let length = if input.fit == Fit::Centre { length.round() } else { length.floor() };
        (length as u32).clamp(1, most)
    };
    Fitted { size: (to(width, input.width), to(height, input.height)), scale: [scale as f32; 2] }
}

/// A byte's value in the input, for each of the input's channels.
pub struct Tables<T> {
    values: [[T; 256]; 3],
    pad: [T; 3],
    color: Color,
    layout: Layout,
}

/// The same for planes of `f32` by OpenCV, whose loops use what the processor has.
pub struct Planes {
    /// A byte times the first plus the second, for each of the input's channels.
    affine: [(f64, f64); 3],
    color: Color,
    /// The picture's channels apart; kept for its memory.
    channels: Vector<Mat>,
}

impl Planes {
    /// None for inputs that are not planes.
    pub fn new(input: &Input) -> Option<Planes> {
        let affine = std::array::from_fn(|channel| {
            let (mean, std) = (f64::from(input.mean[channel]), f64::from(input.std[channel]));
            (1.0 / (f64::from(input.scale) * std), -mean / std)
        });
        (input.layout == Layout::Nchw).then(|| Planes { affine, color: input.color, channels: Vector::new() })
    }

    /// Writes the part over the padding, straight from its rows.
    pub fn write(&mut self, view: &View<'_>, placement: &Placement, to: &mut [f32]) -> opencv::Result<()> {
        let (rows, columns) = (view.pixels.len() / view.stride, view.stride / 3);
        let whole =
            Mat::new_rows_cols_with_bytes::<Vec3b>(rows as i32, columns as i32, &view.pixels[..rows * columns * 3])?;
        let rect = |(x, y): (usize, usize), (w, h): (usize, usize)| Rect::new(x as i32, y as i32, w as i32, h as i32);
        let size = (view.width, view.height);
        core::split(&Mat::roi(&whole, rect((view.x, view.y), size))?, &mut self.channels)?;
        let (wide, tall) = (placement.input.0 as usize, placement.input.1 as usize);
        let at = (placement.at.0 as usize, placement.at.1 as usize);
        for (channel, (plane, (times, plus))) in to.chunks_exact_mut(wide * tall).zip(self.affine).enumerate() {
            let source = self.channels.get(if self.color == Color::Rgb { channel } else { 2 - channel })?;
            let mut plane = Mat::new_rows_cols_with_data_mut::<f32>(tall as i32, wide as i32, plane)?;
            let mut part = Mat::roi_mut(&mut plane, rect(at, size))?;
            source.convert_to(&mut part, core::CV_32F, times, plus)?;
        }
        Ok(())
    }

    /// Whether a view's rows are whole pixels and all there, as OpenCV needs them.
    pub fn takes(view: &View<'_>) -> bool {
        view.stride.is_multiple_of(3) && (view.y + view.height) * view.stride <= view.pixels.len()
    }
}

impl<T: Copy> Tables<T> {
    pub fn new(input: &Input, number: impl Fn(f32) -> T) -> Tables<T> {
        let values: [[T; 256]; 3] = std::array::from_fn(|channel| {
            std::array::from_fn(|byte| number((byte as f32 / input.scale - input.mean[channel]) / input.std[channel]))
        });
        let pad = std::array::from_fn(|channel| values[channel][usize::from(input.pad)]);
        Tables { values, pad, color: input.color, layout: input.layout }
    }

    /// Numbers the input has.
    pub fn length(placement: &Placement) -> usize {
        placement.input.0 as usize * placement.input.1 as usize * 3
    }

    /// Fills everything with the padding.
    pub fn clear(&self, placement: &Placement, to: &mut [T]) {
        let plane = Self::length(placement) / 3;
        match self.layout {
            Layout::Nchw => to.chunks_exact_mut(plane).zip(self.pad).for_each(|(plane, pad)| plane.fill(pad)),
            Layout::Nhwc => to.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&self.pad)),
        }
    }

    /// Writes the part over the padding, straight from its rows.
    pub fn write(&self, view: &View<'_>, placement: &Placement, to: &mut [T]) {
        let wide = placement.input.0 as usize;
        let (left, top) = (placement.at.0 as usize, placement.at.1 as usize);
        let [first, second, third] = match self.color {
            Color::Rgb => [0, 1, 2],
            Color::Bgr => [2, 1, 0],
        };
        let [one, two, three] = &self.values;
        match self.layout {
            Layout::Nchw => {
                let plane = Self::length(placement) / 3;
                let (a, rest) = to.split_at_mut(plane);
                let (b, c) = rest.split_at_mut(plane);
                for y in 0..view.height {
                    let start = (top + y) * wide + left;
                    let span = start..start + view.width;
                    let planes = a[span.clone()].iter_mut().zip(&mut b[span.clone()]).zip(&mut c[span]);
                    for (((a, b), c), pixel) in planes.zip(view.row(y).chunks_exact(3)) {
                        *a = one[usize::from(pixel[first])];
                        *b = two[usize::from(pixel[second])];
                        *c = three[usize::from(pixel[third])];
                    }
                }
            }
            Layout::Nhwc => {
                for y in 0..view.height {
                    let start = ((top + y) * wide + left) * 3;
                    let row = &mut to[start..start + view.width * 3];
                    for (to, pixel) in row.chunks_exact_mut(3).zip(view.row(y).chunks_exact(3)) {
                        to[0] = one[usize::from(pixel[first])];
                        to[1] = two[usize::from(pixel[second])];
                        to[2] = three[usize::from(pixel[third])];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perception::manifest::Interpolation;

    fn input(width: u32, height: u32, fit: Fit) -> Input {
        Input {
            width,
            height,
            stride: 32,
            dynamic: false,
            color: Color::Rgb,
            scale: 255.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            pad: 114,
            fit,
            interpolation: Interpolation::Linear,
            layout: Layout::Nchw,
            tensor: None,
            extra: vec![],
        }
    }

    #[test]
    fn a_tile_is_read_from_the_middle_of_its_picture_and_padded() {
        // Every byte says where it is.
        let picture = image::RgbImage::from_fn(10, 8, |x, y| image::Rgb([x as u8, y as u8, 200]));
        let view = View::new(picture.as_raw(), 30, 4, 3, 2, 3).unwrap();
        let input = Input { scale: 1.0, mean: [1.0, 2.0, 3.0], std: [2.0, 4.0, 5.0], ..input(32, 32, Fit::TopLeft) };
        let placement = place(&input, view.size()).unwrap();
        let tables = Tables::new(&input, |x| x);
        let mut to = vec![f32::NAN; Tables::<f32>::length(&placement)];
        tables.clear(&placement, &mut to);
        tables.write(&view, &placement, &mut to);
        let at = |channel: usize, x: usize, y: usize| to[channel * 1024 + y * 32 + x];
        assert_eq!([at(0, 0, 0), at(0, 1, 2)], [(4.0 - 1.0) / 2.0, (5.0 - 1.0) / 2.0]);
        assert_eq!([at(1, 0, 0), at(1, 1, 2)], [(3.0 - 2.0) / 4.0, (5.0 - 2.0) / 4.0]);
        assert_eq!(at(2, 1, 1), (200.0 - 3.0) / 5.0);
        assert_eq!([at(0, 2, 0), at(1, 0, 3)], [(114.0 - 1.0) / 2.0, (114.0 - 2.0) / 4.0]);
    }

    #[test]
    fn planes_are_the_same_numbers_as_the_tables_give() {
        let picture =
            image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([(x * 5) as u8, (y * 6) as u8, (x * y) as u8]));
        for color in [Color::Rgb, Color::Bgr] {
            let input = Input { color, mean: [0.1, 0.2, 0.3], std: [0.5, 0.4, 0.3], ..input(64, 64, Fit::Centre) };
            let view = View::new(picture.as_raw(), 150, 7, 5, 31, 22).unwrap();
            let placement = place(&input, view.size()).unwrap();
            let tables = Tables::new(&input, |x| x);
            let mut wanted = vec![0.0; Tables::<f32>::length(&placement)];
            tables.clear(&placement, &mut wanted);
            let mut got = wanted.clone();
            tables.write(&view, &placement, &mut wanted);
            assert!(Planes::takes(&view));
            Planes::new(&input).unwrap().write(&view, &placement, &mut got).unwrap();
            assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn blue_goes_first_where_the_model_wants_it_and_pixels_stay_whole_where_it_wants_them() {
        let picture = image::RgbImage::from_pixel(1, 1, image::Rgb([1, 2, 3]));
        let input = Input { scale: 1.0, color: Color::Bgr, layout: Layout::Nhwc, ..input(2, 2, Fit::TopLeft) };
        let placement = place(&input, (1, 1)).unwrap();
        let tables = Tables::new(&input, |x| x as u8);
        let mut to = vec![0u8; 12];
        tables.clear(&placement, &mut to);
        tables.write(&View::of(&picture).unwrap(), &placement, &mut to);
        assert_eq!(to, [3, 2, 1, 114, 114, 114, 114, 114, 114, 114, 114, 114]);
    }

    #[test]
    fn a_view_outside_its_picture_is_none() {
        let pixels = vec![0; 10 * 3 * 8];
        assert!(View::new(&pixels, 30, 0, 0, 10, 8).is_some());
        for (x, y, width, height) in [(1, 0, 10, 8), (0, 1, 10, 8), (0, 0, 0, 8), (0, 0, 10, 0), (10, 0, 1, 1)] {
            assert!(View::new(&pixels, 30, x, y, width, height).is_none(), "{x} {y} {width} {height}");
        }
        assert!(View::new(&pixels, 30, 0, u32::MAX, 10, u32::MAX).is_none());
    }

    #[test]
    fn a_whole_picture_keeps_its_proportions_unless_the_model_was_trained_without() {
        // 4000 x 2250 into 640: 640 x 360, 140 above and below.
        let centre = input(640, 640, Fit::Centre);
        let fitted = fit(&centre, 4000, 2250);
        assert_eq!((fitted.size, fitted.scale), ((640, 360), [0.16, 0.16]));
        assert_eq!(place(&centre, fitted.size).unwrap().at, (0, 140));
        let stretched = fit(&input(640, 640, Fit::Stretch), 4000, 2250);
        assert_eq!((stretched.size, stretched.scale), ((640, 640), [0.16, 640.0 / 2250.0]));
        // Dynamic: no more padding than to the stride.
        let dynamic = Input { dynamic: true, ..centre.clone() };
        assert_eq!(place(&dynamic, fit(&dynamic, 4000, 2250).size).unwrap().input, (640, 384));
        for (width, height) in [(1, 1), (1, 9000), (9000, 1)] {
            let fitted = fit(&centre, width, height);
            assert!(place(&centre, fitted.size).is_some(), "{width} {height}");
        }
    }
}
