//! What the simulated drone says: heartbeats, streams, reports of pictures. Pure.

use mavlink::dialects::common::{
    ATTITUDE_DATA, AUTOPILOT_VERSION_DATA, BATTERY_STATUS_DATA, CAMERA_IMAGE_CAPTURED_DATA, EXTENDED_SYS_STATE_DATA,
    GIMBAL_DEVICE_ATTITUDE_STATUS_DATA, GLOBAL_POSITION_INT_DATA, GPS_RAW_INT_DATA, GimbalDeviceErrorFlags,
    GimbalDeviceFlags, GpsFixType, HEARTBEAT_DATA, HOME_POSITION_DATA, MISSION_CURRENT_DATA, MavAutopilot, MavBool,
    MavLandedState, MavMessage, MavModeFlag, MavProtocolCapability, MavState, MavType, MavVtolState, SYS_STATUS_DATA,
    VFR_HUD_DATA,
};

use super::autopilot::{Autopilot, CAMERA};
use crate::vehicle::mission::degrees_e7;
use crate::vehicle::shots::quaternion_from_attitude;

pub const MISSION_CURRENT: u32 = 42;
pub const AUTOPILOT_VERSION: u32 = 148;

/// What may be streamed. Like a real one on a fresh link, none of it runs until it is asked for.
pub const STREAMS: [u32; 10] = [1, 24, 30, 33, MISSION_CURRENT, 74, 147, 242, 245, 285];

/// Of the sea below home.
const GROUND_AMSL_M: f64 = 5.0;
const CELLS: f64 = 6.0;

impl Autopilot {
    pub(super) fn boot_ms(&self) -> u32 {
        (self.uptime_s * 1000.0) as u32
    }

    fn voltage(&self) -> f64 {
        CELLS * (3.5 + 0.7 * self.battery_pct / 100.0)
    }

    pub(super) fn heartbeat(&mut self) {
        let mut base_mode =
            MavModeFlag::MAV_MODE_FLAG_CUSTOM_MODE_ENABLED | MavModeFlag::MAV_MODE_FLAG_STABILIZE_ENABLED;
        if self.armed {
            base_mode |= MavModeFlag::MAV_MODE_FLAG_SAFETY_ARMED;
        }
        self.say(MavMessage::HEARTBEAT(HEARTBEAT_DATA {
            custom_mode: self.mode as u32,
            mavtype: MavType::MAV_TYPE_QUADROTOR,
            autopilot: MavAutopilot::MAV_AUTOPILOT_ARDUPILOTMEGA,
            base_mode,
            system_status: if self.armed { MavState::MAV_STATE_ACTIVE } else { MavState::MAV_STATE_STANDBY },
            mavlink_version: 3,
        }));
    }

    /// Heartbeats and streams that are due.
    pub(super) fn speak(&mut self) {
        let now = self.uptime_s;
        if now >= self.heartbeat_due_s {
            self.heartbeat_due_s = now + 1.0;
            self.heartbeat();
            self.say_as(
                CAMERA,
                MavMessage::HEARTBEAT(HEARTBEAT_DATA {
                    custom_mode: 0,
                    mavtype: MavType::MAV_TYPE_CAMERA,
                    autopilot: MavAutopilot::MAV_AUTOPILOT_INVALID,
                    base_mode: MavModeFlag::empty(),
                    system_status: MavState::MAV_STATE_ACTIVE,
                    mavlink_version: 3,
                }),
            );
        }
        let mut due = Vec::new();
        for (id, stream) in &mut self.streams {
            if now >= stream.due_s {
                stream.due_s = now + stream.period_s;
                due.push(*id);
            }
        }
        for id in due {
            self.emit(id);
        }
    }

    /// Says one message by its number; `false` where it has none such.
    pub(super) fn emit(&mut self, id: u32) -> bool {
        let time_boot_ms = self.boot_ms();
        let estimate = self.body.estimated_position();
        let (at, height_m) = self.ground.place(estimate);
        let (lat, lon) = (degrees_e7(at.lat), degrees_e7(at.lon));
        let millimetres = |metres: f64| (metres * 1000.0).round() as i32;
        let alt = millimetres(height_m + GROUND_AMSL_M);
        let velocity = self.body.velocity;
        let yaw_deg = (self.body.attitude.yaw_deg + self.body.compass_bias_deg).rem_euclid(360.0);
        let speed = velocity[0].hypot(velocity[1]);
        let message = match id {
            1 => MavMessage::SYS_STATUS(SYS_STATUS_DATA {
                voltage_battery: (self.voltage() * 1000.0) as u16,
                current_battery: if self.in_air() { 2000 } else { 50 },
                battery_remaining: self.battery_pct.floor() as i8,
                load: 300,
                ..Default::default()
            }),
            24 => MavMessage::GPS_RAW_INT(GPS_RAW_INT_DATA {
                time_usec: u64::from(time_boot_ms) * 1000,
                lat,
                lon,
                alt,
                eph: 70,
                epv: 90,
                vel: (speed * 100.0) as u16,
                cog: u16::MAX,
                fix_type: if self.faults.gps_lost {
                    GpsFixType::GPS_FIX_TYPE_NO_FIX
                } else {
                    GpsFixType::GPS_FIX_TYPE_3D_FIX
                },
                satellites_visible: if self.faults.gps_lost { 0 } else { 18 },
                ..Default::default()
            }),
            30 => {
                let noise = [(); 3].map(|()| self.body.attitude_noise_deg());
                let attitude = self.body.attitude;
                let radians = |degrees: f64| {
                    let turned = (degrees + 180.0).rem_euclid(360.0) - 180.0;
                    turned.to_radians() as f32
                };
                MavMessage::ATTITUDE(ATTITUDE_DATA {
                    time_boot_ms,
                    roll: radians(attitude.roll_deg + noise[0]),
                    pitch: radians(attitude.pitch_deg + noise[1]),
                    yaw: radians(yaw_deg + noise[2]),
                    ..Default::default()
                })
            }
            33 => MavMessage::GLOBAL_POSITION_INT(GLOBAL_POSITION_INT_DATA {
                time_boot_ms,
                lat,
                lon,
                alt,
                relative_alt: millimetres(height_m),
                vx: (velocity[1] * 100.0) as i16,
                vy: (velocity[0] * 100.0) as i16,
                vz: (-velocity[2] * 100.0) as i16,
                hdg: (yaw_deg * 100.0) as u16 % 36_000,
            }),
            MISSION_CURRENT => MavMessage::MISSION_CURRENT(MISSION_CURRENT_DATA {
                seq: self.active.unwrap_or_default() as u16,
                total: self.mission.items.len() as u16,
                ..Default::default()
            }),
            74 => MavMessage::VFR_HUD(VFR_HUD_DATA {
                airspeed: speed as f32,
                groundspeed: speed as f32,
                alt: (height_m + GROUND_AMSL_M) as f32,
                climb: velocity[2] as f32,
                heading: yaw_deg as i16,
                throttle: if self.in_air() { 50 } else { 0 },
            }),
            147 => {
                let mut voltages = [u16::MAX; 10];
                voltages[0] = (self.voltage() * 1000.0) as u16;
                MavMessage::BATTERY_STATUS(BATTERY_STATUS_DATA {
                    current_consumed: -1,
                    energy_consumed: -1,
                    temperature: 2500,
                    voltages,
                    current_battery: if self.in_air() { 2000 } else { 50 },
                    battery_remaining: self.battery_pct.floor() as i8,
                    ..Default::default()
                })
            }
            AUTOPILOT_VERSION => MavMessage::AUTOPILOT_VERSION(AUTOPILOT_VERSION_DATA {
                capabilities: MavProtocolCapability::MAV_PROTOCOL_CAPABILITY_MISSION_INT
                    | MavProtocolCapability::MAV_PROTOCOL_CAPABILITY_MAVLINK2
                    | MavProtocolCapability::MAV_PROTOCOL_CAPABILITY_MISSION_FENCE
                    | MavProtocolCapability::MAV_PROTOCOL_CAPABILITY_PARAM_ENCODE_C_CAST,
                // 4.5.0, released.
                flight_sw_version: 0x0405_00FF,
                ..Default::default()
            }),
            242 => {
                let home = self.ground.home;
                MavMessage::HOME_POSITION(HOME_POSITION_DATA {
                    latitude: degrees_e7(home.lat),
                    longitude: degrees_e7(home.lon),
                    altitude: millimetres(GROUND_AMSL_M),
                    q: [1.0, 0.0, 0.0, 0.0],
                    ..Default::default()
                })
            }
            245 => MavMessage::EXTENDED_SYS_STATE(EXTENDED_SYS_STATE_DATA {
                vtol_state: MavVtolState::MAV_VTOL_STATE_UNDEFINED,
                landed_state: if !self.armed || (self.body.on_ground() && !self.taking_off()) {
                    MavLandedState::MAV_LANDED_STATE_ON_GROUND
                } else if self.taking_off() {
                    MavLandedState::MAV_LANDED_STATE_TAKEOFF
                } else if self.landing() {
                    MavLandedState::MAV_LANDED_STATE_LANDING
                } else {
                    MavLandedState::MAV_LANDED_STATE_IN_AIR
                },
            }),
            285 => {
                let q = quaternion_from_attitude(self.estimated_camera());
                MavMessage::GIMBAL_DEVICE_ATTITUDE_STATUS(GIMBAL_DEVICE_ATTITUDE_STATUS_DATA {
                    time_boot_ms,
                    q,
                    failure_flags: GimbalDeviceErrorFlags::empty(),
                    flags: GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_ROLL_LOCK
                        | GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_PITCH_LOCK
                        | GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME,
                    ..Default::default()
                })
            }
            _ => return false,
        };
        self.say(message);
        true
    }

    /// The camera finished a picture: reports it as the drone saw itself when the shutter opened.
    pub fn picture_done(&mut self, index: u32, file: Result<&str, ()>) {
        let Some(taken) = self.pending.remove(&index) else {
            return;
        };
        let (at, height_m) = self.ground.place(taken.estimate);
        let report = CAMERA_IMAGE_CAPTURED_DATA {
            time_utc: u64::try_from(taken.at.as_microsecond()).unwrap_or_default(),
            time_boot_ms: taken.boot_ms,
            lat: degrees_e7(at.lat),
            lon: degrees_e7(at.lon),
            alt: ((height_m + GROUND_AMSL_M) * 1000.0).round() as i32,
            relative_alt: (height_m * 1000.0).round() as i32,
            q: quaternion_from_attitude(taken.attitude),
            image_index: index as i32,
            camera_id: 0,
            capture_result: if file.is_ok() { MavBool::MAV_BOOL_TRUE } else { MavBool::MAV_BOOL_FALSE },
            file_url: file.unwrap_or_default().into(),
        };
        self.say_as(CAMERA, MavMessage::CAMERA_IMAGE_CAPTURED(report));
    }
}
