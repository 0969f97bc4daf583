//! Names of classes: out of Ultralytics' metadata, and COCO's own.

/// The names in a Python list or dictionary, as Ultralytics writes them: `{0: 'person', 1: "fireman's pole"}` or
/// `['car', 'bus']`. A dictionary has to number them from 0 without gaps.
pub fn python(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let (inner, numbered) = match (text.strip_prefix('{'), text.strip_prefix('[')) {
        (Some(inner), _) => (inner.strip_suffix('}')?, true),
        (_, Some(inner)) => (inner.strip_suffix(']')?, false),
        _ => return None,
    };
    let mut names = Vec::new();
    let mut rest = inner.trim_start();
    while !rest.is_empty() {
        if numbered {
            let (key, after) = rest.split_once(':')?;
            if key.trim().trim_matches(['\'', '"']).parse::<usize>().ok()? != names.len() {
                return None;
            }
            rest = after.trim_start();
        }
        let (name, after) = quoted(rest)?;
        names.push(name);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
    }
    (!names.is_empty()).then_some(names)
}

/// A quoted text at the start, and what follows it. A name that is a number stands there without quotes.
fn quoted(text: &str) -> Option<(String, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if digits > 0 {
        return Some((text[..digits].to_owned(), &text[digits..]));
    }
    let mut chars = text.char_indices();
    let (_, quote) = chars.next().filter(|(_, c)| matches!(c, '\'' | '"'))?;
    let mut name = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            // JSON's way to write what is not ASCII.
            '\\' if text[at..].starts_with("\\u") => {
                let digits = text.get(at + 2..at + 6)?;
                name.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
                chars.nth(4)?;
            }
            '\\' => name.push(chars.next()?.1),
            _ if c == quote => return Some((name, &text[at + 1..])),
            _ => name.push(c),
        }
    }
    None
}

/// COCO's 80 classes in the order of its detectors.
pub fn coco80() -> Vec<String> {
    COCO.iter().map(|(_, name)| (*name).to_owned()).collect()
}

/// COCO's classes by their numbers 1 to 90; the ten that COCO left out are named by their number.
pub fn coco90() -> Vec<String> {
    (1..=90)
        .map(|number| match COCO.iter().find(|(n, _)| *n == number) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("unused_{number}"),
        })
        .collect()
}

const COCO: [(u8, &str); 80] = [
    (1, "person"),
    (2, "bicycle"),
    (3, "car"),
    (4, "motorcycle"),
    (5, "airplane"),
    (6, "bus"),
    (7, "train"),
    (8, "truck"),
    (9, "boat"),
    (10, "traffic light"),
    (11, "fire hydrant"),
    (13, "stop sign"),
    (14, "parking meter"),
    (15, "bench"),
    (16, "bird"),
    (17, "cat"),
    (18, "dog"),
    (19, "horse"),
    (20, "sheep"),
    (21, "cow"),
    (22, "elephant"),
    (23, "bear"),
    (24, "zebra"),
    (25, "giraffe"),
    (27, "backpack"),
    (28, "umbrella"),
    (31, "handbag"),
    (32, "tie"),
    (33, "suitcase"),
    (34, "frisbee"),
    (35, "skis"),
    (36, "snowboard"),
    (37, "sports ball"),
    (38, "kite"),
    (39, "baseball bat"),
    (40, "baseball glove"),
    (41, "skateboard"),
    (42, "surfboard"),
    (43, "tennis racket"),
    (44, "bottle"),
    (46, "wine glass"),
    (47, "cup"),
    (48, "fork"),
    (49, "knife"),
    (50, "spoon"),
    (51, "bowl"),
    (52, "banana"),
    (53, "apple"),
    (54, "sandwich"),
    (55, "orange"),
    (56, "broccoli"),
    (57, "carrot"),
    (58, "hot dog"),
    (59, "pizza"),
    (60, "donut"),
    (61, "cake"),
    (62, "chair"),
    (63, "couch"),
    (64, "potted plant"),
    (65, "bed"),
    (67, "dining table"),
    (70, "toilet"),
    (72, "tv"),
    (73, "laptop"),
    (74, "mouse"),
    (75, "remote"),
    (76, "keyboard"),
    (77, "cell phone"),
    (78, "microwave"),
    (79, "oven"),
    (80, "toaster"),
    (81, "sink"),
    (82, "refrigerator"),
    (84, "book"),
    (85, "clock"),
    (86, "vase"),
    (87, "scissors"),
    (88, "teddy bear"),
    (89, "hair drier"),
    (90, "toothbrush"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_python_writes_them() {
        assert_eq!(python("{0: 'car', 1: \"fireman's pole\", 2: 'a\\'b'}").unwrap(), ["car", "fireman's pole", "a'b"]);
        assert_eq!(python("['car', 'bus, coach']").unwrap(), ["car", "bus, coach"]);
        assert_eq!(python("{0: '行人', 1: '车'}").unwrap(), ["行人", "车"]);
        assert_eq!(python("{\"0\": \"\\u884c\\u4eba\", \"1\": \"b\"}").unwrap(), ["行人", "b"]);
        assert_eq!(python("{0: 7, 1: '8'}").unwrap(), ["7", "8"]);
        for broken in ["", "{}", "{1: 'car'}", "{0: 'car', 2: 'bus'}", "{0: car}", "['car", "{0: 'car'"] {
            assert_eq!(python(broken), None, "{broken}");
        }
    }

    #[test]
    fn coco_has_its_numbers() {
        assert_eq!((coco80().len(), coco90().len()), (80, 90));
        assert_eq!(
            (coco90()[2].as_str(), coco90()[89].as_str(), coco90()[11].as_str()),
            ("car", "toothbrush", "unused_12")
        );
    }
}
