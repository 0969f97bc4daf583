//! The kinds of case: which model class leads to which, how far apart two of a kind may be and still be one, what they
//! are called, and the codes under which they are reported.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    NewBuilding,
    BlueRoof,
    Earthwork,
    HeavyMachine,
    Garbage,
    Rubble,
    FloatingDebris,
    Burning,
}

/// A kind as it is reported. A site replaces any part of the defaults in its configuration.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KindConfig {
    /// What officers read.
    pub zh: String,
    pub code: String,
    pub department: String,
}

/// How kinds are reported, and the system their codes come from.
#[derive(Debug, Clone)]
pub struct Kinds {
    pub code_system: String,
    pub kinds: BTreeMap<Kind, KindConfig>,
}

impl Default for Kinds {
    fn default() -> Kinds {
        use Kind::*;
        let table = [
            (NewBuilding, "疑似新增建筑", "06001", "natural-resources"),
            (BlueRoof, "疑似新增彩钢棚", "06001", "natural-resources"),
            (Earthwork, "疑似违法占地动土", "08016", "natural-resources"),
            (HeavyMachine, "疑似施工作业", "08016", "natural-resources"),
            (Garbage, "暴露垃圾", "06010", "urban-management"),
            (Rubble, "建筑垃圾渣土", "06011", "urban-management"),
            (FloatingDebris, "水面漂浮物", "06025", "water"),
            (Burning, "疑似露天焚烧", "06020", "environment"),
        ];
        let kinds = table.map(|(kind, zh, code, department)| {
            (kind, KindConfig { zh: zh.to_owned(), code: code.to_owned(), department: department.to_owned() })
        });
        Kinds { code_system: "GB/T 47678.5-2026".to_owned(), kinds: kinds.into() }
    }
}

impl Kinds {
    /// What is written for `kind`, filled from the defaults where a site's table leaves it out.
    pub fn of(&self, kind: Kind) -> KindConfig {
        let known = self.kinds.get(&kind).cloned();
        known.or_else(|| Kinds::default().kinds.remove(&kind)).unwrap_or_else(|| KindConfig {
            zh: kind.name().to_owned(),
            code: String::new(),
            department: String::new(),
        })
    }
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::NewBuilding,
        Kind::BlueRoof,
        Kind::Earthwork,
        Kind::HeavyMachine,
        Kind::Garbage,
        Kind::Rubble,
        Kind::FloatingDebris,
        Kind::Burning,
    ];

    /// The kind that a model's class leads to; none for vehicles, which are never an alert.
    pub fn of_class(class: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.class() == class)
    }

    /// How models call it.
    pub fn class(self) -> &'static str {
        match self {
            Kind::NewBuilding => "building",
            other => other.name(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::NewBuilding => "new_building",
            Kind::BlueRoof => "blue_roof",
            Kind::Earthwork => "earthwork",
            Kind::HeavyMachine => "heavy_machine",
            Kind::Garbage => "garbage",
            Kind::Rubble => "rubble",
            Kind::FloatingDebris => "floating_debris",
            Kind::Burning => "burning",
        }
    }

    /// Only what the register of permitted buildings does not hold is a case.
    pub fn is_structure(self) -> bool {
        matches!(self, Kind::NewBuilding | Kind::BlueRoof)
    }

    /// Whether sightings of the two may be of one thing. A roof is called a building from one side and a blue roof from
    /// another; a heap is garbage or rubble.
    pub fn same_thing(self, other: Kind) -> bool {
        let heap = |k| matches!(k, Kind::Garbage | Kind::Rubble);
        self == other || (self.is_structure() && other.is_structure()) || (heap(self) && heap(other))
    }

    /// Two sightings nearer than this are one thing: about the size of the thing, plus what two flights' satellite
    /// fixes differ.
    pub fn radius_m(self) -> f64 {
        match self {
            Kind::Earthwork => 15.0,
            Kind::Burning => 12.0,
            Kind::FloatingDebris => 10.0,
            Kind::NewBuilding | Kind::BlueRoof => 8.0,
            Kind::HeavyMachine | Kind::Garbage | Kind::Rubble => 7.0,
        }
    }
}

/// That no case can come of a model of these classes, where that is so.
pub fn no_case_of<'a>(mut classes: impl Iterator<Item = &'a str>) -> Option<String> {
    classes.all(|class| Kind::of_class(class).is_none()).then(|| {
        format!(
            "none of the model's classes is one that a station makes cases of ({}); name them so in manifest.toml, classes[].name",
            Kind::ALL.map(Kind::class).join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_which_no_case_can_come_is_told_the_classes_there_are() {
        assert_eq!(no_case_of(["car", "building"].into_iter()), None);
        let warning = no_case_of(["zebra", "car"].into_iter()).unwrap();
        assert!(Kind::ALL.into_iter().all(|kind| warning.contains(kind.class())), "{warning}");
    }

    #[test]
    fn each_kind_has_a_class_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_class(kind.class()), Some(kind));
        }
        assert_eq!(Kind::of_class("new_building"), None);
    }
}
