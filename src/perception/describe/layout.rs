//! Pure: which family a graph's outputs belong to. Every family is asked whether the tensors of a trial run can be its
//! own, by shape, by the numbers in them and by what the metadata says; one that can is the answer, none or several is
//! a question for a person. Names of files decide nothing.

use crate::perception::manifest::{Activation, Background, BoxFormat, Family, Order, Output, Unit};

/// An output of a trial run.
#[derive(Debug, Clone)]
pub struct Out {
    pub name: String,
    pub shape: Vec<usize>,
    /// Of an integer type.
    pub integer: bool,
    pub data: Vec<f32>,
}

/// What is known beside the tensors.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Width and height of the trial's input.
    pub size: (u32, u32),
    /// How many classes there are, if the metadata or a person says so.
    pub classes: Option<usize>,
    /// Ultralytics' `task`.
    pub task: Option<String>,
    /// The metadata says that the graph selects by itself.
    pub selects: bool,
    /// Ultralytics' `head`.
    pub head: Option<String>,
    /// The graph takes the picture's true size, and scales its boxes with it.
    pub takes_size: bool,
    /// The graph takes Paddle's `scale_factor`.
    pub paddle: bool,
    /// Bytes, pixel by pixel, or outputs by its names: TensorFlow.
    pub bytes: bool,
    /// Integer labels of selected triples were a remainder of this.
    pub divisor: Option<usize>,
    /// The graph names the classifier of the first DETR and of YOLOS: one class a query, or none.
    pub one_of_all: bool,
}

/// How a picture is prepared, by the project that a layout is typical of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// Ultralytics, YOLOv5 to v7: parts of 255, grey all around.
    Yolo,
    /// Bytes as they are, blue first, grey at the right and below.
    Yolox,
    /// Parts of 255, stretched by OpenCV.
    Stretched,
    /// Parts of 255, stretched by Pillow.
    Pillow,
    /// The same with ImageNet's mean and deviation.
    ImageNet,
    NanoDetPlus,
    NanoDet,
    /// ImageNet, stretched by cubic interpolation.
    Paddle,
    /// From -1 to 1 around 127.
    Ssd,
    /// Bytes as they are.
    Bytes,
}

#[derive(Debug, Clone)]
pub struct Layout {
    pub family: Family,
    pub output: Output,
    /// None where only a person can say.
    pub classes: Option<usize>,
    pub habit: Habit,
    /// What the tensors do not prove: key of the manifest, what was taken, and why.
    pub assumed: Vec<(&'static str, String, String)>,
}

/// All layouts that the outputs can be.
pub fn all(outs: &[Out], facts: &Facts) -> Vec<Layout> {
    let outs = without_extras(outs);
    let case = Case { outs: &outs, facts };
    [
        case.raw(),
        case.objectness(),
        case.yolox(),
        case.distribution(),
        case.distribution_by_level(),
        case.end2end(),
        case.obb(),
        case.seg(),
        case.detr_in_one(),
        case.boxes_and_scores(),
        case.triples(),
        case.labelled_boxes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether the rows of the one output are those of a grid: nothing has been selected from them.
pub fn is_whole_grid(outs: &[Out], facts: &Facts) -> bool {
    let outs = without_extras(outs);
    let case = Case { outs: &outs, facts };
    !facts.selects && case.single().is_some_and(|(_, rows, _)| case.levels(rows).is_some() || case.anchored(rows))
}

/// Without what stands beside detections in some exports: feature maps of YOLOv5 and v7, counts of selected rows.
fn without_extras(outs: &[Out]) -> Vec<Out> {
    // TensorFlow's detectors bring their raw tensors along; the selected ones are called so in all of them.
    let selected = |o: &&Out| {
        ["detection_boxes", "detection_classes", "detection_scores"].contains(&o.name.trim_end_matches(":0"))
    };
    if outs.iter().filter(selected).count() == 3 {
        return outs.iter().filter(selected).cloned().collect();
    }
    // Transformers' detectors, with the decoder's states beside them.
    let heads = |o: &&Out| ["logits", "pred_boxes"].contains(&o.name.as_str());
    if outs.iter().filter(heads).count() == 2 {
        return outs.iter().filter(heads).cloned().collect();
    }
    let matrices = outs.iter().filter(|o| matrix(&o.shape).is_some_and(|(_, columns)| columns > 1)).count();
    outs.iter()
        .filter(|o| matrices == 0 || (o.shape.len() < 5 && !(outs.len() > 1 && is_count(o, outs))))
        .cloned()
        .collect()
}

/// One number, where something else has several rows.
fn is_count(out: &Out, outs: &[Out]) -> bool {
    out.shape.iter().product::<usize>() == 1
        && (out.shape.len() <= 1 || out.integer)
        && outs.iter().any(|o| matrix(&o.shape).is_some_and(|(rows, columns)| rows != 1 && columns > 1))
}

pub fn matrix(shape: &[usize]) -> Option<(usize, usize)> {
    match shape {
        [ones @ .., rows, columns] if ones.iter().all(|n| *n == 1) => Some((*rows, *columns)),
        _ => None,
    }
}

fn vector(shape: &[usize]) -> Option<usize> {
    match shape {
        [ones @ .., count] if ones.iter().all(|n| *n == 1) => Some(*count),
        [count, 1] => Some(*count),
        _ => None,
    }
}

/// A probability, with what quantisation may add.
fn is_share(x: f32) -> bool {
    (-0.02..=1.05).contains(&x)
}

/// What YOLOv6 writes where others have their objectness.
fn is_one(x: f32) -> bool {
    (x - 1.0).abs() < 1e-3
}

/// Classes of the set that published models are trained on.
const COCO: usize = 80;
/// The sets of strides that detectors have.
const LEVELS: [&[u32]; 6] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32], &[8, 16], &[4, 8, 16]];
/// More queries than any DETR has, fewer cells than any grid of use.
const MOST_QUERIES: usize = 1000;

struct Case<'a> {
    outs: &'a [Out],
    facts: &'a Facts,
}

/// A matrix seen by rows of `fields`.
struct Rows<'a> {
    out: &'a Out,
    rows: usize,
    fields: usize,
    by_columns: bool,
}

impl Rows<'_> {
    fn column(&self, field: usize) -> impl Iterator<Item = f32> + '_ {
        (0..self.rows).map(move |row| {
            self.out.data[if self.by_columns { field * self.rows + row } else { row * self.fields + field }]
        })
    }

    fn shares(&self, fields: std::ops::Range<usize>) -> bool {
        fields.into_iter().all(|field| self.column(field).all(is_share))
    }

    fn mean(&self, field: usize) -> f32 {
        self.column(field).sum::<f32>() / self.rows.max(1) as f32
    }
}

impl Case<'_> {
    fn single(&self) -> Option<(&Out, usize, usize)> {
        let [out] = self.outs else { return None };
        let (rows, columns) = matrix(&out.shape)?;
        Some((out, rows, columns))
    }

    fn cells(&self, strides: &[u32]) -> usize {
        let (width, height) = self.facts.size;
        strides.iter().map(|s| (width.div_ceil(*s) * height.div_ceil(*s)) as usize).sum()
    }

    fn levels(&self, count: usize) -> Option<&'static [u32]> {
        LEVELS.into_iter().find(|strides| self.cells(strides) == count)
    }

    /// Three anchors a cell, as YOLOv5 and v7 have.
    fn anchored(&self, count: usize) -> bool {
        count.is_multiple_of(3) && self.levels(count / 3).is_some()
    }

    fn fits_classes(&self, classes: usize) -> bool {
        classes > 0 && self.facts.classes.is_none_or(|known| known == classes)
    }

    fn task_is(&self, task: &str) -> bool {
        self.facts.task.as_deref().is_none_or(|known| known == task)
    }

    fn unit(&self, boxes: impl Iterator<Item = f32>) -> Unit {
        if boxes.fold(0.0f32, |top, x| top.max(x.abs())) <= 2.0 { Unit::Normalised } else { Unit::Pixels }
    }

    fn raw(&self) -> Option<Layout> {
        let (out, first, second) = self.single()?;
        if !self.task_is("detect") || self.facts.selects {
            return None;
        }
        let by_columns = first < second;
        let (fields, rows) = if by_columns { (first, second) } else { (second, first) };
        let classes = fields.checked_sub(4)?;
        let view = Rows { out, rows, fields, by_columns };
        if !self.fits_classes(classes) || rows <= 16 || !view.shares(4..fields) {
            return None;
        }
        let mut assumed = vec![];
        if !by_columns {
            // By rows they look like those of YOLOv5, v6 and YOLOX, which have one field more.
            if rows <= MOST_QUERIES || (self.facts.classes.is_none() && !self.is_one_more(&view, false)) {
                return None;
            }
            let why = format!("as many scores as classes; with {} classes the first were an objectness", classes - 1);
            assumed.push(("family", "yolo_raw by rows".to_owned(), why));
        }
        let unit = self.unit((0..4).flat_map(|f| view.column(f).collect::<Vec<_>>()));
        Some(Layout {
            family: Family::YoloRaw,
            output: Output { tensors: vec![out.name.clone()], unit, ..Output::default() },
            classes: Some(classes),
            habit: Habit::Yolo,
            assumed,
        })
    }

    /// Whether decoded rows, one a cell, of an unknown number of classes can have an objectness before the classes, or can
    /// have none. COCO's 80 classes decide where they fit one of the two; otherwise both can be, and a person must say.
    fn is_one_more(&self, view: &Rows<'_>, objectness: bool) -> bool {
        let Some(strides) = self.levels(view.rows) else { return objectness };
        if self.follows_grid(view, strides) < 0.5 || view.column(4).all(is_one) {
            return objectness;
        }
        match view.fields.checked_sub(COCO) {
            Some(5) => objectness,
            Some(4) => !objectness,
            _ => true,
        }
    }

    /// The grid's place of a cell against the first number of its row: near 1 where boxes are decoded.
    fn follows_grid(&self, rows: &Rows<'_>, strides: &[u32]) -> f32 {
        let (width, height) = self.facts.size;
        let places = strides.iter().flat_map(|s| {
            let columns = width.div_ceil(*s);
            (0..height.div_ceil(*s)).flat_map(move |_| (0..columns).map(move |c| (c * s) as f32))
        });
        let pairs: Vec<(f64, f64)> = places.zip(rows.column(0)).map(|(a, b)| (f64::from(a), f64::from(b))).collect();
        let count = pairs.len().max(1) as f64;
        let (mean_a, mean_b) =
            (pairs.iter().map(|p| p.0).sum::<f64>() / count, pairs.iter().map(|p| p.1).sum::<f64>() / count);
        let sum = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
        let covariance = sum(&|p| (p.0 - mean_a) * (p.1 - mean_b));
        let spread = sum(&|p| (p.0 - mean_a).powi(2)) * sum(&|p| (p.1 - mean_b).powi(2));
        (covariance / spread.sqrt().max(1e-9)) as f32
    }

    fn objectness(&self) -> Option<Layout> {
        let (out, rows, fields) = self.single()?;
        let classes = fields.checked_sub(5)?;
        let view = Rows { out, rows, fields, by_columns: false };
        if !self.task_is("detect")
            || self.facts.selects
            || !self.fits_classes(classes)
            || rows <= fields
            || !view.shares(4..fields)
        {
            return None;
        }
        let mut layout = Layout {
            family: Family::YoloObjectness,
            output: Output { tensors: vec![out.name.clone()], ..Output::default() },
            classes: Some(classes),
            habit: Habit::Yolo,
            assumed: vec![],
        };
        if self.anchored(rows) {
            return Some(layout);
        }
        let strides = self.levels(rows)?;
        if self.follows_grid(&view, strides) < 0.5 {
            return None;
        }
        // One anchor a cell: YOLOv6 writes ones where YOLOX has its objectness.
        if self.facts.classes.is_none() && !self.is_one_more(&view, true) {
            return None;
        }
        if !view.column(4).all(is_one) {
            layout.habit = Habit::Yolox;
            let why =
                "one anchor a cell with a real objectness, boxes decoded: as YOLOX exports with --decode_in_inference"
                    .to_owned();
            layout.assumed.push(("input", "as YOLOX prepares pictures".to_owned(), why));
        }
        Some(layout)
    }

    fn yolox(&self) -> Option<Layout> {
        let (out, rows, fields) = self.single()?;
        let classes = fields.checked_sub(5)?;
        let strides = self.levels(rows)?;
        let view = Rows { out, rows, fields, by_columns: false };
        if self.facts.task.is_some()
            || !self.fits_classes(classes)
            || !view.shares(4..fields)
            || view.shares(0..4)
            || self.follows_grid(&view, strides) > 0.8
        {
            return None;
        }
        Some(Layout {
            family: Family::Yolox,
            output: Output { tensors: vec![out.name.clone()], strides: strides.to_vec(), ..Output::default() },
            classes: Some(classes),
            habit: Habit::Yolox,
            assumed: vec![],
        })
    }

    fn distribution(&self) -> Option<Layout> {
        let (out, rows, fields) = self.single()?;
        let strides = self.levels(rows)?;
        let view = Rows { out, rows, fields, by_columns: false };
        // Scores come first and are shares; a distribution's logits are not.
        let classes = match self.facts.classes {
            Some(classes) => classes,
            None => (0..fields).find(|field| !view.shares(*field..field + 1))?,
        };
        let rest = fields.checked_sub(classes)?;
        if classes == 0
            || rest < 8
            || !rest.is_multiple_of(4)
            || !view.shares(0..classes)
            || view.shares(classes..fields)
        {
            return None;
        }
        let plus = strides.len() == 4;
        let output = Output {
            tensors: vec![out.name.clone()],
            strides: strides.to_vec(),
            cell_offset: if plus { 0.0 } else { 0.5 },
            multi_label: true,
            ..Output::default()
        };
        let (habit, which) =
            if plus { (Habit::NanoDetPlus, "NanoDet-Plus") } else { (Habit::NanoDet, "NanoDet (not Plus)") };
        let why = format!("scores and distributions in one tensor on {} levels, as {which} exports", strides.len());
        let assumed = vec![
            ("output.cell_offset", output.cell_offset.to_string(), why.clone()),
            ("input", format!("as {which} prepares pictures"), why),
        ];
        Some(Layout { family: Family::Distribution, output, classes: Some(classes), habit, assumed })
    }

    /// Two tensors a level. Finest first; which of the two holds the scores, their numbers say.
    fn distribution_by_level(&self) -> Option<Layout> {
        if self.outs.len() < 4 || !self.outs.len().is_multiple_of(2) {
            return None;
        }
        let levels = LEVELS.into_iter().find(|strides| strides.len() * 2 == self.outs.len())?;
        let (width, height) = self.facts.size;
        let (mut scores, mut distances) = (Vec::new(), Vec::new());
        let (mut classes, mut logits) = (None, false);
        for stride in levels {
            let cells = (width.div_ceil(*stride) * height.div_ceil(*stride)) as usize;
            let fields = |out: &Out| match out.shape[..] {
                [1, count, fields] if count == cells => Some(fields),
                [1, fields, rows, columns] if rows * columns == cells => Some(fields),
                _ => None,
            };
            let pair: Vec<(&Out, usize)> = self.outs.iter().filter_map(|o| Some((o, fields(o)?))).collect();
            let [(a, a_fields), (b, b_fields)] = pair[..] else { return None };
            let shares = |out: &Out| out.data.iter().all(|x| is_share(*x));
            let by_name = |out: &Out, words: &[&str]| words.iter().any(|w| out.name.to_ascii_lowercase().contains(w));
            let a_is_scores = match (shares(a), shares(b)) {
                (true, false) => true,
                (false, true) => false,
                // Both unbounded: the names of the tensors, as the projects give them.
                _ if by_name(a, &["cls", "score", "class"]) || by_name(b, &["dis", "reg", "box", "loc"]) => true,
                _ if by_name(b, &["cls", "score", "class"]) || by_name(a, &["dis", "reg", "box", "loc"]) => false,
                _ => return None,
            };
            let (score, found, distance, bins) =
                if a_is_scores { (a, a_fields, b, b_fields) } else { (b, b_fields, a, a_fields) };
            if *classes.get_or_insert(found) != found || bins < 8 || !bins.is_multiple_of(4) {
                return None;
            }
            logits |= !shares(score);
            scores.push(score.name.clone());
            distances.push(distance.name.clone());
        }
        let classes = classes.filter(|c| self.fits_classes(*c))?;
        let why = "scores and distributions apart on each level, as PicoDet exports without its selection".to_owned();
        Some(Layout {
            family: Family::Distribution,
            output: Output {
                tensors: scores.into_iter().chain(distances).collect(),
                strides: levels.to_vec(),
                cell_offset: 0.5,
                multi_label: true,
                activation: if logits { Activation::Sigmoid } else { Activation::None },
                ..Output::default()
            },
            classes: Some(classes),
            habit: Habit::Paddle,
            assumed: vec![
                ("output.cell_offset", "0.5".to_owned(), why.clone()),
                ("input", "as PicoDet prepares pictures".to_owned(), why),
            ],
        })
    }

    /// Whether each row of a selection can hold its score and its class where `order` has them.
    fn selection(&self, view: &Rows<'_>, score: usize, class: usize) -> bool {
        let limit = self.facts.classes.unwrap_or(10_000) as f32;
        view.column(score).all(is_share) && view.column(class).all(|x| x == x.round() && (-1.0..limit).contains(&x))
    }

    fn end2end(&self) -> Option<Layout> {
        let (out, rows, fields) = self.single()?;
        let of_grid = self.levels(rows).is_some() || self.anchored(rows);
        if !self.task_is("detect") || (of_grid && !self.facts.selects) {
            return None;
        }
        let view = Rows { out, rows, fields, by_columns: false };
        let (order, first, habit) = match fields {
            6 if self.facts.paddle || self.facts.takes_size => (Order::ClassScoreBox, 2, Habit::Paddle),
            6 if self.selection(&view, 4, 5) => (Order::BoxScoreClass, 0, Habit::Yolo),
            6 if self.selection(&view, 1, 0) => (Order::ClassScoreBox, 2, Habit::Paddle),
            7 if out.shape.len() == 2 && self.selection(&view, 6, 5) && view.column(0).all(|x| x == 0.0) => {
                (Order::BatchBoxClassScore, 1, Habit::Yolo)
            }
            _ => return None,
        };
        let boxes: Vec<f32> = (first..first + 4).flat_map(|f| view.column(f).collect::<Vec<_>>()).collect();
        // Nothing found in the trial says nothing of the unit.
        let unit = if boxes.iter().all(|x| *x == 0.0) { Unit::Pixels } else { self.unit(boxes.into_iter()) };
        // Ultralytics' RT-DETR selects too, but keeps centres and sizes; corners would never be the wrong way round.
        let turned = |row: usize| {
            let at = |field: usize| out.data[row * fields + first + field];
            at(2) < at(0) || at(3) < at(1)
        };
        let rt_detr = self.facts.head.as_deref() == Some("RTDETRDecoder");
        let centred = rt_detr || (unit == Unit::Normalised && (0..rows).any(turned));
        let habit = if centred { Habit::Stretched } else { habit };
        let mut assumed = vec![];
        if centred && !rt_detr {
            let why = "some rows cannot be corners, and RT-DETR gives centres and sizes so".to_owned();
            assumed.push(("output.boxes", "cxcywh".to_owned(), why));
        }
        if habit == Habit::Paddle {
            let why = "rows of class, score and box, as PaddleDetection exports".to_owned();
            assumed.push(("input", "as PicoDet prepares pictures".to_owned(), why));
        }
        Some(Layout {
            family: Family::YoloEnd2end,
            output: Output {
                tensors: vec![out.name.clone()],
                boxes: if centred { BoxFormat::Cxcywh } else { BoxFormat::Xyxy },
                unit,
                order,
                ..Output::default()
            },
            classes: self.facts.classes.or(self.facts.divisor),
            habit,
            assumed,
        })
    }

    fn obb(&self) -> Option<Layout> {
        let (out, first, second) = self.single()?;
        if !self.task_is("obb") {
            return None;
        }
        let told = self.facts.task.is_some();
        let mut layout = Layout {
            family: Family::YoloObb,
            output: Output { tensors: vec![out.name.clone()], ..Output::default() },
            classes: None,
            habit: Habit::Yolo,
            assumed: vec![],
        };
        if second == 7 && first > 7 && (self.facts.selects || first <= MOST_QUERIES) {
            let view = Rows { out, rows: first, fields: 7, by_columns: false };
            if !self.selection(&view, 4, 5) {
                return None;
            }
            layout.classes = self.facts.classes.or(self.facts.divisor);
            return Some(layout);
        }
        if first >= second || second <= 16 {
            return None;
        }
        let view = Rows { out, rows: second, fields: first, by_columns: true };
        let classes = first.checked_sub(5)?;
        if !self.fits_classes(classes) || !view.shares(4..first - 1) {
            return None;
        }
        // An angle in the last row: beyond a probability, or far above what classes have where nothing is.
        let angles = view.column(first - 1).all(|x| (-3.2..3.2).contains(&x));
        let like_angle = !view.shares(first - 1..first)
            || (classes > 1 && view.mean(first - 1) > 0.2 && (4..first - 1).all(|f| view.mean(f) < 0.1));
        if !(angles && (told || like_angle)) {
            return None;
        }
        layout.classes = Some(classes);
        Some(layout)
    }

    fn seg(&self) -> Option<Layout> {
        let (prototypes, out) = match self.outs {
            [a, b] if a.shape.len() == 4 && b.shape.len() == 3 => (a, b),
            [b, a] if a.shape.len() == 4 && b.shape.len() == 3 => (a, b),
            _ => return None,
        };
        let masks = *prototypes.shape.get(1)?;
        let (first, second) = matrix(&out.shape)?;
        if !self.task_is("segment") {
            return None;
        }
        let output = Output { tensors: vec![out.name.clone(), prototypes.name.clone()], ..Output::default() };
        let layout =
            |output, classes| Layout { family: Family::YoloSeg, output, classes, habit: Habit::Yolo, assumed: vec![] };
        if second == 6 + masks && first <= MOST_QUERIES {
            let output = Output { boxes: BoxFormat::Xyxy, ..output };
            return Some(layout(output, self.facts.classes.or(self.facts.divisor)));
        }
        let (fields, objectness) = if first < second { (first, false) } else { (second, true) };
        let classes = fields.checked_sub(masks + if objectness { 5 } else { 4 })?;
        self.fits_classes(classes).then(|| layout(Output { objectness, ..output }, Some(classes)))
    }

    /// Ultralytics' RT-DETR: boxes and shares side by side, in parts of the picture.
    fn detr_in_one(&self) -> Option<Layout> {
        let (out, queries, fields) = self.single()?;
        let classes = fields.checked_sub(4)?;
        let view = Rows { out, rows: queries, fields, by_columns: false };
        if !self.task_is("detect")
            || self.facts.selects
            || queries > MOST_QUERIES
            || queries <= 16
            || self.levels(queries).is_some()
            || !self.fits_classes(classes)
            || !view.shares(0..fields)
            // Rows of a selection hold whole numbers.
            || (fields <= 7 && self.selection(&view, 4, 5))
        {
            return None;
        }
        let why = "boxes in parts of the picture beside shares, a few hundred rows: as Ultralytics exports RT-DETR"
            .to_owned();
        Some(Layout {
            family: Family::Detr,
            output: Output {
                tensors: vec![out.name.clone()],
                unit: Unit::Normalised,
                multi_label: false,
                ..Output::default()
            },
            classes: Some(classes),
            habit: Habit::Stretched,
            assumed: if self.facts.task.is_some() {
                vec![]
            } else {
                vec![("input", "stretched, in parts of 255".to_owned(), why)]
            },
        })
    }

    fn boxes_and_scores(&self) -> Option<Layout> {
        let floats: Vec<&Out> = self.outs.iter().filter(|o| !o.integer && o.shape.len() < 5).collect();
        // RF-DETR's masks are left out: their boxes stand for themselves.
        let floats: Vec<&Out> = floats.into_iter().filter(|o| o.shape.len() < 4 || o.shape.contains(&4)).collect();
        let rows_of = |out: &Out| {
            let shape: Vec<usize> = out.shape.iter().copied().filter(|n| *n != 1).collect();
            match shape[..] {
                [rows, 4] => Some(rows),
                _ => None,
            }
        };
        let [a, b] = floats[..] else { return None };
        if self.outs.iter().any(|o| o.integer) {
            return None;
        }
        let word = |out: &Out, words: &[&str]| words.iter().any(|w| out.name.to_ascii_lowercase().contains(w));
        let (boxes, scores, rows) = match (rows_of(a), rows_of(b)) {
            (Some(rows), None) => (a, b, rows),
            (None, Some(rows)) => (b, a, rows),
            // Four classes: the names of the tensors.
            (Some(rows), Some(_)) if word(a, &["box", "dets"]) && !word(b, &["box", "dets"]) => (a, b, rows),
            (Some(_), Some(rows)) if word(b, &["box", "dets"]) && !word(a, &["box", "dets"]) => (b, a, rows),
            _ => return None,
        };
        let (first, second) = matrix(&scores.shape)?;
        let (columns, by_class) = match (first == rows, second == rows) {
            (true, _) => (second, false),
            (false, true) => (first, true),
            _ => return None,
        };
        if columns < 1 || rows <= 16 {
            return None;
        }
        let mut assumed = Vec::new();
        let shares = scores.data.iter().all(|x| is_share(*x));
        let sums_to_one = !by_class
            && columns > 1
            && shares
            && scores.data.chunks_exact(columns).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 0.02);
        let unit = self.unit(boxes.data.iter().copied());
        let tensors = vec![boxes.name.clone(), scores.name.clone()];
        if rows > MOST_QUERIES || by_class {
            let background = if sums_to_one { Background::First } else { Background::None };
            if sums_to_one {
                let why = "the scores of a row add up to 1, and SSD puts the background first".to_owned();
                assumed.push(("output.background", "first".to_owned(), why));
            }
            let classes = columns - usize::from(background != Background::None);
            if !self.fits_classes(classes) {
                return None;
            }
            let habit = if self.facts.bytes {
                Habit::Bytes
            } else if self.facts.paddle {
                Habit::Paddle
            } else if sums_to_one {
                Habit::Ssd
            } else if unit == Unit::Pixels {
                Habit::Yolo
            } else {
                Habit::Stretched
            };
            let boxes_as = if self.facts.bytes { BoxFormat::Yxyx } else { BoxFormat::Xyxy };
            let why = "decoded boxes with scores come from many projects; this is the commonest with these numbers"
                .to_owned();
            assumed.push((
                "output.multi_label",
                "true".to_owned(),
                "a box may be of several classes, as SSD and PP-YOLOE take it".to_owned(),
            ));
            assumed.push(("output.boxes", format!("{boxes_as:?}").to_lowercase(), why.clone()));
            assumed.push(("input", format!("{habit:?} preparation").to_lowercase(), why));
            return Some(Layout {
                family: Family::Ssd,
                output: Output {
                    tensors,
                    boxes: boxes_as,
                    unit,
                    background,
                    activation: if shares { Activation::None } else { Activation::Sigmoid },
                    multi_label: true,
                    ..Output::default()
                },
                classes: Some(classes),
                habit,
                assumed,
            });
        }
        // COCO's numbers go to 90, and number 0 is nobody's; the first DETR has "nothing" as a last column.
        let (background, activation) = match columns {
            91 if self.fits_classes(90) => {
                let why = "91 columns are COCO's numbers 0 to 90, of which 0 is no class".to_owned();
                assumed.push(("output.background", "first".to_owned(), why));
                (Background::First, Activation::Sigmoid)
            }
            2.. if self.facts.one_of_all || (columns == 92 && self.fits_classes(91)) => {
                let why = "scores as the first DETR has them, with \"nothing\" as the last column".to_owned();
                assumed.push(("output.background", "last, softmax".to_owned(), why));
                (Background::Last, Activation::Softmax)
            }
            _ => {
                let background = match self.facts.classes {
                    Some(known) if known + 1 == columns => {
                        let why = format!("{known} classes and {columns} columns; the other end is --background first");
                        assumed.push(("output.background", "last".to_owned(), why));
                        Background::Last
                    }
                    _ => Background::None,
                };
                (background, Activation::Sigmoid)
            }
        };
        let classes = columns - usize::from(background != Background::None);
        if !self.fits_classes(classes) {
            return None;
        }
        if self.outs.iter().any(|o| o.shape.len() == 4 && !o.shape.contains(&4)) {
            let why = "of this family aerie reads the boxes; the masks stand in a tensor of their own".to_owned();
            assumed.push(("masks", "not read".to_owned(), why));
        }
        // RF-DETR is the one that calls its tensors so, and the one of them that wants ImageNet's numbers.
        let rf_detr = word(boxes, &["dets"]) && word(scores, &["labels"]);
        if rf_detr && background == Background::None && self.facts.classes.is_none() {
            let why = "RF-DETR trained on a set of one's own has one column more than names: give them by --classes"
                .to_owned();
            assumed.push(("output.background", format!("none: {columns} classes"), why));
        }
        Some(Layout {
            family: Family::Detr,
            output: Output {
                tensors,
                unit,
                background,
                activation: if shares { Activation::None } else { activation },
                multi_label: activation != Activation::Softmax,
                ..Output::default()
            },
            classes: Some(classes),
            habit: if rf_detr || activation == Activation::Softmax { Habit::ImageNet } else { Habit::Pillow },
            assumed,
        })
    }

    fn triples(&self) -> Option<Layout> {
        let [_, _, _] = self.outs else { return None };
        let boxes = self.outs.iter().find(|o| matches!(matrix(&o.shape), Some((_, 4))))?;
        let rows = matrix(&boxes.shape)?.0;
        let others: Vec<&Out> =
            self.outs.iter().filter(|o| o.name != boxes.name && vector(&o.shape) == Some(rows)).collect();
        let [a, b] = others[..] else { return None };
        let whole = |out: &Out| out.integer || (!out.data.is_empty() && out.data.iter().all(|x| *x == x.round()));
        let named = |out: &Out| ["label", "class"].iter().any(|w| out.name.to_ascii_lowercase().contains(w));
        let (labels, scores) = match (a.integer, b.integer, whole(a), whole(b)) {
            (true, false, ..) | (false, false, true, false) => (a, b),
            (false, true, ..) | (false, false, false, true) => (b, a),
            _ if named(a) && !named(b) => (a, b),
            _ if named(b) && !named(a) => (b, a),
            _ => return None,
        };
        let mut assumed = Vec::new();
        let mut output = Output {
            tensors: vec![labels.name.clone(), boxes.name.clone(), scores.name.clone()],
            boxes: BoxFormat::Xyxy,
            ..Output::default()
        };
        let mut classes = self.facts.classes.or(self.facts.divisor);
        let mut habit = Habit::Pillow;
        if self.facts.bytes {
            habit = Habit::Bytes;
            (output.boxes, output.unit) = (BoxFormat::Yxyx, Unit::Normalised);
            let why = "bytes in, boxes, classes and scores out: as TensorFlow's detectors export".to_owned();
            assumed.push(("output.boxes", "yxyx, normalised".to_owned(), why));
        } else if !boxes.data.is_empty() && !self.facts.takes_size {
            output.unit = self.unit(boxes.data.iter().copied());
        }
        // Selections in the manner of TensorRT, and YOLO-NAS, number their classes from 0.
        let from_zero = ["det_classes", "pred_classes"].contains(&labels.name.as_str());
        if from_zero {
            habit = Habit::Yolo;
            let why = "a selection as YOLO exports name it".to_owned();
            assumed.push(("input", "as YOLO prepares pictures".to_owned(), why));
        } else if self.facts.bytes || (!self.facts.takes_size && self.facts.divisor.is_none()) {
            output.background = Background::First;
            let why = "TensorFlow and torchvision number their classes from 1, 0 is the background".to_owned();
            assumed.push(("output.background", "first".to_owned(), why));
            // COCO's numbers 1 to 90; said where the names are given.
            classes = classes.or(Some(90));
        }
        Some(Layout { family: Family::Triples, output, classes, habit, assumed })
    }

    /// mmdeploy: boxes with their score as the fifth number, and labels.
    fn labelled_boxes(&self) -> Option<Layout> {
        let [a, b] = self.outs else { return None };
        let (labels, boxes) = match (a.integer, b.integer) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => return None,
        };
        let (rows, 5) = matrix(&boxes.shape)? else { return None };
        (vector(&labels.shape) == Some(rows)).then(|| Layout {
            family: Family::Triples,
            output: Output {
                tensors: vec![labels.name.clone(), boxes.name.clone()],
                boxes: BoxFormat::Xyxy,
                ..Output::default()
            },
            classes: self.facts.classes.or(self.facts.divisor),
            habit: Habit::ImageNet,
            assumed: vec![(
                "input",
                "ImageNet's mean and deviation, stretched".to_owned(),
                "labels and boxes of five numbers, as mmdeploy exports; its models differ".to_owned(),
            )],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decoded boxes, one a cell of a grid over 320 x 320, by rows; `fifth` stands behind the boxes, then shares.
    fn rows(fields: usize, fifth: f32) -> Out {
        let mut data = Vec::new();
        for stride in [8, 16, 32] {
            for cell in 0..(320 / stride) * (320 / stride) {
                let (x, y) = ((cell % (320 / stride) * stride) as f32, (cell / (320 / stride) * stride) as f32);
                data.extend([x, y, 30.0, 40.0, fifth]);
                data.extend((5..fields).map(|field| (field % 7) as f32 / 50.0));
            }
        }
        Out { name: "output".to_owned(), shape: vec![1, data.len() / fields, fields], data, integer: false }
    }

    fn read(fields: usize, fifth: f32, classes: Option<usize>) -> Vec<(Family, Option<usize>, bool)> {
        let facts = Facts { size: (320, 320), classes, ..Facts::default() };
        let said = |layout: &Layout| layout.assumed.iter().any(|(key, ..)| *key == "family" || *key == "input");
        all(&[rows(fields, fifth)], &facts).iter().map(|l| (l.family, l.classes, said(l))).collect()
    }

    #[test]
    fn rows_that_may_or_may_not_have_an_objectness_are_two_families_unless_something_tells() {
        use Family::{YoloObjectness, YoloRaw};
        assert_eq!(read(8, 0.3, None), [(YoloRaw, Some(4), true), (YoloObjectness, Some(3), true)]);
        // The number of names decides, and that it did is said.
        assert_eq!(read(8, 0.3, Some(4)), [(YoloRaw, Some(4), true)]);
        assert_eq!(read(8, 0.3, Some(3)), [(YoloObjectness, Some(3), true)]);
        // COCO's 80.
        assert_eq!(read(84, 0.3, None), [(YoloRaw, Some(80), true)]);
        assert_eq!(read(85, 0.3, None), [(YoloObjectness, Some(80), true)]);
        // YOLOv6 writes ones.
        assert_eq!(read(8, 1.0, None), [(YoloObjectness, Some(3), false)]);
    }
}
