//! What the simulated drone says: heartbeats, streams, reports of pictures. Pure.

use mavlink::dialects::common::{
    ATTITUDE_DATA, AUTOPILOT_VERSION_DATA, BATTERY_STATUS_DATA, CAMERA_IMAGE_CAPTURED_DATA, EXTENDED_SYS_STATE_DATA,
    GIMBAL_DEVICE_ATTITUDE_STATUS_DATA, GLOBAL_POSITION_INT_DATA, GPS_RAW_INT_DATA, GimbalDeviceErrorFlags,
    GimbalDeviceFlags, GpsFixType, HEARTBEAT_DATA, HOME_POSITION_DATA, MISSION_CURRENT_DATA, MavAutopilot,
    MavBatteryChargeState, MavBool, MavLandedState, MavMessage, MavModeFlag, MavOdidArmStatus, MavProtocolCapability,
    MavSeverity, MavState, MavSysStatusSensor, MavType, MavVtolState, MissionState, OPEN_DRONE_ID_ARM_STATUS_DATA,
    SYS_STATUS_DATA, SYSTEM_TIME_DATA, VFR_HUD_DATA,
};

use super::RemoteId;
use super::autopilot::{Autopilot, CAMERA, Mode, REMOTE_ID};
use super::pack::CELLS;
use crate::vehicle::mission::degrees_e7;
use crate::vehicle::shots::quaternion_from_attitude;

pub const MISSION_CURRENT: u32 = 42;
pub const AUTOPILOT_VERSION: u32 = 148;

pub const HOME_POSITION: u32 = 242;

/// What may be streamed. Like a real one on a fresh link, none of it runs until it is asked for.
pub const STREAMS: [u32; 12] = [1, 2, 24, 30, 33, MISSION_CURRENT, 74, 147, HOME_POSITION, 245, 285, 370];

/// Of the sea below home.
const GROUND_AMSL_M: f64 = 5.0;
/// What is wrong with it is said so often to a drone that stands, seconds.
const PREARM_EVERY_S: f64 = 30.0;

impl Autopilot {
    /// The drone's own clock goes by simulated time: rates that are reckoned by it are those of its flight.
    pub(super) fn boot_ms(&self) -> u32 {
        (self.sim_s * 1000.0) as u32
    }

    fn current_ca(&self) -> i16 {
        (self.pack.current_a * 100.0).round() as i16
    }

    /// (enabled, healthy): the sensors and functions that SYS_STATUS tells of.
    fn health(&self) -> (MavSysStatusSensor, MavSysStatusSensor) {
        use MavSysStatusSensor as S;
        let basic = S::MAV_SYS_STATUS_SENSOR_3D_GYRO
            | S::MAV_SYS_STATUS_SENSOR_3D_ACCEL
            | S::MAV_SYS_STATUS_SENSOR_3D_MAG
            | S::MAV_SYS_STATUS_SENSOR_ABSOLUTE_PRESSURE
            | S::MAV_SYS_STATUS_SENSOR_GPS
            | S::MAV_SYS_STATUS_AHRS
            | S::MAV_SYS_STATUS_SENSOR_BATTERY
            | S::MAV_SYS_STATUS_PREARM_CHECK;
        let fence = self.params.get("FENCE_ENABLE") >= 1.0;
        let enabled = if fence { basic | S::MAV_SYS_STATUS_GEOFENCE } else { basic };
        let ills = [
            (self.satellites() == 0, S::MAV_SYS_STATUS_SENSOR_GPS),
            (!self.estimator.position_ok(), S::MAV_SYS_STATUS_AHRS),
            (self.battery_stage > 0, S::MAV_SYS_STATUS_SENSOR_BATTERY),
            (!self.armed && !self.prearm().is_empty(), S::MAV_SYS_STATUS_PREARM_CHECK),
            (self.breached, S::MAV_SYS_STATUS_GEOFENCE),
        ];
        let ill = ills.into_iter().filter(|(ill, _)| *ill).fold(S::empty(), |all, (_, bit)| all | bit);
        (enabled, enabled - ill)
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
            self.remote_id();
        }
        self.say_reached();
        if !self.armed && now >= self.prearm_due_s {
            self.prearm_due_s = now + PREARM_EVERY_S;
            for reason in self.prearm() {
                self.text(MavSeverity::MAV_SEVERITY_CRITICAL, &reason);
            }
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

    fn remote_id(&mut self) {
        let (status, error) = match self.faults.remote_id {
            RemoteId::Good => (MavOdidArmStatus::MAV_ODID_ARM_STATUS_GOOD_TO_ARM, ""),
            RemoteId::Failing => (MavOdidArmStatus::MAV_ODID_ARM_STATUS_PRE_ARM_FAIL_GENERIC, "no transmission"),
            RemoteId::Silent => return,
        };
        let said = OPEN_DRONE_ID_ARM_STATUS_DATA { status, error: error.into() };
        self.say_as(REMOTE_ID, MavMessage::OPEN_DRONE_ID_ARM_STATUS(said));
    }

    fn mission_state(&self) -> MissionState {
        if self.mission.items.len() < 2 {
            MissionState::MISSION_STATE_NO_MISSION
        } else if self.mission_complete {
            MissionState::MISSION_STATE_COMPLETE
        } else if self.active.is_none() {
            MissionState::MISSION_STATE_NOT_STARTED
        } else if self.mode == Mode::Auto {
            MissionState::MISSION_STATE_ACTIVE
        } else {
            MissionState::MISSION_STATE_PAUSED
        }
    }

    // The dialect calls SMART_BATTERY_INFO deprecated; drones send it.
    #[allow(deprecated)]
    fn smart_battery(&self) -> MavMessage {
        use mavlink::dialects::common::SMART_BATTERY_INFO_DATA;
        let capacity = self.params.get("BATT_CAPACITY") as i32;
        MavMessage::SMART_BATTERY_INFO(SMART_BATTERY_INFO_DATA {
            capacity_full_specification: capacity,
            capacity_full: capacity,
            cycle_count: self.pack.cycles,
            weight: u16::MAX,
            discharge_minimum_voltage: 3300,
            charging_minimum_voltage: u16::MAX,
            resting_minimum_voltage: 3500,
            serial_number: self.pack.serial.as_str().into(),
            device_name: "aerie_simulated".into(),
            charging_maximum_voltage: 4200,
            cells_in_series: CELLS as u8,
            ..Default::default()
        })
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
            1 => {
                let (enabled, healthy) = self.health();
                MavMessage::SYS_STATUS(SYS_STATUS_DATA {
                    onboard_control_sensors_present: enabled | MavSysStatusSensor::MAV_SYS_STATUS_GEOFENCE,
                    onboard_control_sensors_enabled: enabled,
                    onboard_control_sensors_health: healthy,
                    voltage_battery: (self.pack.voltage() * 1000.0) as u16,
                    current_battery: self.current_ca(),
                    battery_remaining: self.pack.charge_pct.floor() as i8,
                    load: 300,
                    ..Default::default()
                })
            }
            // UTC by the satellites; once set, its clock goes on without them.
            2 => MavMessage::SYSTEM_TIME(SYSTEM_TIME_DATA {
                time_unix_usec: u64::try_from(self.now.as_microsecond()).unwrap_or_default(),
                time_boot_ms,
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
                satellites_visible: self.satellites(),
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
                mission_state: self.mission_state(),
                mission_mode: if self.mode == Mode::Auto { 1 } else { 2 },
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
                // Of each cell, as smart ones tell.
                let mut voltages = [u16::MAX; 10];
                for (told, cell) in voltages.iter_mut().zip(self.pack.cells_v()) {
                    *told = (cell * 1000.0) as u16;
                }
                let used = self.params.get("BATT_CAPACITY") * (1.0 - self.pack.charge_pct / 100.0);
                MavMessage::BATTERY_STATUS(BATTERY_STATUS_DATA {
                    current_consumed: used.round() as i32,
                    energy_consumed: -1,
                    temperature: (self.pack.temperature_c * 100.0) as i16,
                    voltages,
                    current_battery: self.current_ca(),
                    battery_remaining: self.pack.charge_pct.floor() as i8,
                    charge_state: match self.battery_stage {
                        0 => MavBatteryChargeState::MAV_BATTERY_CHARGE_STATE_OK,
                        1 => MavBatteryChargeState::MAV_BATTERY_CHARGE_STATE_LOW,
                        _ => MavBatteryChargeState::MAV_BATTERY_CHARGE_STATE_CRITICAL,
                    },
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
            370 => self.smart_battery(),
            HOME_POSITION => {
                let (home, _) = self.ground.place(self.home);
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
        self.album.keep(report.clone());
        self.say_as(CAMERA, MavMessage::CAMERA_IMAGE_CAPTURED(report));
    }
}
