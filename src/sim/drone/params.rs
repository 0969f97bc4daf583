//! The simulated autopilot's parameters: the ones that matter to a station, with the defaults that ArduCopter ships.

use mavlink::dialects::common::{MavMessage, MavParamType, PARAM_VALUE_DATA};

/// As shipped: the failsafes are off, which is why a station must set them.
const TABLE: [(&str, f32, bool); 42] = [
    ("SYSID_THISMAV", 1.0, true),
    ("SYSID_MYGCS", 255.0, true),
    ("FS_GCS_ENABLE", 0.0, true),
    ("FS_GCS_TIMEOUT", 5.0, false),
    ("FS_OPTIONS", 16.0, true),
    ("FS_EKF_ACTION", 1.0, true),
    ("FS_EKF_THRESH", 0.8, false),
    ("FS_CRASH_CHECK", 1.0, true),
    ("FS_THR_ENABLE", 1.0, true),
    ("BATT_MONITOR", 4.0, true),
    ("BATT_LOW_TIMER", 10.0, true),
    ("BATT_LOW_VOLT", 10.5, false),
    ("BATT_CRT_VOLT", 0.0, false),
    ("BATT_CAPACITY", 10_000.0, true),
    ("BATT_LOW_MAH", 0.0, false),
    ("BATT_CRT_MAH", 0.0, false),
    ("BATT_FS_LOW_ACT", 0.0, true),
    ("BATT_FS_CRT_ACT", 0.0, true),
    ("BATT_SERIAL_NUM", -1.0, true),
    ("FENCE_ENABLE", 0.0, true),
    ("FENCE_ACTION", 1.0, true),
    ("FENCE_TYPE", 7.0, true),
    ("FENCE_ALT_MAX", 100.0, false),
    ("FENCE_RADIUS", 300.0, false),
    ("FENCE_MARGIN", 2.0, false),
    ("RTL_ALT", 1500.0, false),
    ("RTL_ALT_FINAL", 0.0, false),
    ("RTL_ALT_TYPE", 0.0, true),
    ("RTL_CONE_SLOPE", 3.0, false),
    ("RTL_LOIT_TIME", 5000.0, true),
    ("WPNAV_SPEED", 1000.0, false),
    ("WPNAV_SPEED_UP", 300.0, false),
    ("WPNAV_SPEED_DN", 200.0, false),
    ("WPNAV_RADIUS", 200.0, false),
    ("LAND_SPEED", 70.0, false),
    ("DISARM_DELAY", 10.0, true),
    ("ARMING_CHECK", 1.0, true),
    ("AUTO_OPTIONS", 0.0, true),
    ("MIS_RESTART", 0.0, true),
    ("RALLY_TOTAL", 0.0, true),
    ("RALLY_LIMIT_KM", 0.3, false),
    ("RALLY_INCL_HOME", 1.0, true),
];

#[derive(Debug)]
pub struct Parameters(Vec<(String, f32, bool)>);

impl Parameters {
    pub fn new(overrides: &[(String, f32)]) -> Self {
        let mut parameters =
            Parameters(TABLE.iter().map(|(name, value, whole)| ((*name).to_owned(), *value, *whole)).collect());
        for (name, value) in overrides {
            parameters.set(name, *value);
        }
        parameters
    }

    pub fn get(&self, name: &str) -> f64 {
        let found = self.0.iter().find(|(known, ..)| known == name);
        found.map_or(0.0, |(_, value, _)| f64::from(*value))
    }

    /// Where the parameter stands, if it was known and the value can be one.
    pub fn set(&mut self, name: &str, value: f32) -> Option<usize> {
        let index = self.find(name)?;
        if value.is_finite() {
            let (_, held, whole) = &mut self.0[index];
            *held = if *whole { value.round() } else { value };
        }
        Some(index)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, ..)| known == name)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn message(&self, index: usize) -> Option<MavMessage> {
        let (name, value, whole) = self.0.get(index)?;
        Some(MavMessage::PARAM_VALUE(PARAM_VALUE_DATA {
            param_value: *value,
            param_count: self.0.len() as u16,
            param_index: index as u16,
            param_id: name.as_str().into(),
            param_type: if *whole { MavParamType::MAV_PARAM_TYPE_INT32 } else { MavParamType::MAV_PARAM_TYPE_REAL32 },
        }))
    }
}
