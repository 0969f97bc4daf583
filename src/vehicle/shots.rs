//! Pictures taken: from the camera's report to a [`Shot`] with its pose. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;
use mavlink::dialects::common::{
    CAMERA_IMAGE_CAPTURED_DATA, GIMBAL_DEVICE_ATTITUDE_STATUS_DATA, GLOBAL_POSITION_INT_DATA, GimbalDeviceFlags,
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::telemetry::from_e7;
use crate::geo::track::{ACCELERATION_M_S2, Clock};
use crate::geo::{Attitude, LatLon, LocalFrame, Pose, PoseSigma};

/// One picture, and where the camera was when the shutter opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shot {
    pub index: u32,
    pub taken_at: Timestamp,
    /// The file's name in the camera's folder, never a path. Empty where the camera does not name its files.
    pub file: String,
    pub pose: Pose,
}

/// Why a report gave no shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoShot {
    /// The camera says that the picture failed.
    Failed,
    /// Reported before under the same index and time.
    Repeated,
    /// Neither the camera, nor a gimbal, nor the vehicle said how the camera looked.
    NoAttitude,
    /// The camera does not know where it was, nor did the drone say so about that time.
    NoPlace,
}

/// A stream of shots. A reader more than the channel's size behind loses the oldest; what it lost is counted and logged.
pub struct Shots {
    receiver: broadcast::Receiver<Shot>,
    lost: u64,
}

impl Shots {
    pub(crate) fn new(receiver: broadcast::Receiver<Shot>) -> Self {
        Shots { receiver, lost: 0 }
    }

    /// The next shot; `None` once the link's task has ended.
    pub async fn recv(&mut self) -> Option<Shot> {
        loop {
            match self.receiver.recv().await {
                Ok(shot) => return Some(shot),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    self.lost += count;
                    tracing::error!(count, total = self.lost, "shots were lost: their reader is too slow");
                }
            }
        }
    }

    /// How many shots this reader lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Remembers what is needed to make a shot from a report.
#[derive(Debug)]
pub(crate) struct ShotMaker {
    sigma: PoseSigma,
    clock: Clock,
    /// Where the drone was and how it moved, as last told.
    drone: Option<GLOBAL_POSITION_INT_DATA>,
    /// Index and time of the last reports. A rebooted camera counts from zero again, but at another time.
    seen: VecDeque<(i32, u64)>,
    /// The gimbal's last attitudes by the drone's clock, about six seconds at 10 Hz.
    gimbal: VecDeque<(u32, Attitude)>,
    /// The pitch that the mission asked of a stabilised gimbal.
    pub commanded_pitch_deg: Option<f64>,
}

const SEEN: usize = 1024;
const GIMBAL: usize = 64;
/// Between attitudes further apart in time nobody knows how it turned.
const LONGEST_GAP_S: f64 = 0.5;
/// A place that is older, or newer, does not tell where the shutter opened.
const LONGEST_DRIFT_S: f64 = 1.0;

impl ShotMaker {
    pub fn new(sigma: PoseSigma, clock: Clock) -> Self {
        ShotMaker {
            sigma,
            clock,
            drone: None,
            seen: VecDeque::new(),
            gimbal: VecDeque::new(),
            commanded_pitch_deg: None,
        }
    }

    /// Notes how the drone moves.
    pub fn moves(&mut self, p: &GLOBAL_POSITION_INT_DATA) {
        self.drone = Some(p.clone());
    }

    /// What was reported before will be reported again, and is wanted.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Notes how the gimbal points. Its yaw may be relative to the vehicle, whose heading is then added by rotation
    /// about the vertical, the one axis where adding is right.
    pub fn gimbal(&mut self, status: &GIMBAL_DEVICE_ATTITUDE_STATUS_DATA, vehicle: Option<Attitude>) {
        let Some(mut attitude) = attitude_from_quaternion(status.q) else {
            return;
        };
        let earth = status.flags.intersects(
            GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME | GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_LOCK,
        );
        if !earth {
            let Some(vehicle) = vehicle else { return };
            attitude.yaw_deg = (attitude.yaw_deg + vehicle.yaw_deg).rem_euclid(360.0);
        }
        if self.gimbal.len() == GIMBAL {
            self.gimbal.pop_front();
        }
        self.gimbal.push_back((status.time_boot_ms, attitude));
    }

    pub fn shot(
        &mut self,
        report: &CAMERA_IMAGE_CAPTURED_DATA,
        vehicle: Option<Attitude>,
        now: Timestamp,
    ) -> Result<Shot, NoShot> {
        const SUCCESS: u8 = 1;
        if report.capture_result.bits() != SUCCESS {
            return Err(NoShot::Failed);
        }
        let key = (report.image_index, report.time_utc);
        if self.seen.contains(&key) {
            return Err(NoShot::Repeated);
        }
        if self.seen.len() == SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(key);
        let moment_s = self.clock.moment(f64::from(report.time_boot_ms) / 1e3, 0.5, 1);
        let attitude = self
            .attitude_at_exposure(report, moment_s)
            .or_else(|| attitude_from_quaternion(report.q))
            .or_else(|| self.gimbal_at(moment_s))
            .or_else(|| {
                // A stabilised gimbal that says nothing: the vehicle's heading, the pitch that was asked for.
                let pitch_deg = self.commanded_pitch_deg?;
                Some(Attitude { yaw_deg: vehicle?.yaw_deg, pitch_deg, roll_deg: 0.0 })
            })
            .ok_or(NoShot::NoAttitude)?;
        // A camera without a clock sends zero; then the arrival of the report is the best that is known.
        let taken_at = i64::try_from(report.time_utc)
            .ok()
            .filter(|&micros| micros > 0)
            .map(|micros| self.clock.moment(micros as f64 / 1e6, 0.5, 1))
            .and_then(|s| Timestamp::from_microsecond((s * 1e6).round() as i64).ok())
            .unwrap_or(now);
        let (at, height_m, sigma) = self.place_at_exposure(report, moment_s).ok_or(NoShot::NoPlace)?;
        Ok(Shot {
            index: u32::try_from(report.image_index).unwrap_or_default(),
            taken_at,
            file: file_name(report.file_url.to_str().unwrap_or_default()),
            pose: Pose { at, height_m, attitude, sigma },
        })
    }

    /// The reported place, moved on by what the drone flew until the exposure; or the drone's own, where the camera knows
    /// none and says 0, 0.
    fn place_at_exposure(
        &self,
        report: &CAMERA_IMAGE_CAPTURED_DATA,
        moment_s: f64,
    ) -> Option<(LatLon, f64, PoseSigma)> {
        let unknown = report.lat == 0 && report.lon == 0;
        let drone = self.drone.as_ref();
        let (at, height_m, late) = if unknown {
            let drone = drone.filter(|d| (d.lat, d.lon) != (0, 0))?;
            let late = moment_s - f64::from(drone.time_boot_ms) / 1e3;
            if late.abs() > LONGEST_DRIFT_S {
                return None;
            }
            (from_e7(drone.lat, drone.lon), f64::from(drone.relative_alt) / 1e3, late)
        } else {
            (from_e7(report.lat, report.lon), f64::from(report.relative_alt) / 1e3, self.clock.latency_s)
        };
        let Some(drone) = drone.filter(|_| late != 0.0) else {
            return Some((at, height_m, self.sigma));
        };
        let [east, north, up] = [drone.vy, drone.vx, -drone.vz].map(|v| f64::from(v) / 100.0);
        let drift_m = 0.5 * ACCELERATION_M_S2 * late * late;
        let mut sigma = self.sigma;
        sigma.horizontal_m = sigma.horizontal_m.hypot(drift_m);
        sigma.vertical_m = sigma.vertical_m.hypot(drift_m);
        Some((LocalFrame::new(at).to_latlon(east * late, north * late), height_m + up * late, sigma))
    }

    /// Where the report's own attitude is of another moment than the exposure: the gimbal's, if it was told on both sides of it.
    fn attitude_at_exposure(&self, report: &CAMERA_IMAGE_CAPTURED_DATA, moment_s: f64) -> Option<Attitude> {
        let stamp_s = f64::from(report.time_boot_ms) / 1e3;
        ((moment_s - stamp_s).abs() > 1e-6).then(|| self.gimbal_between(moment_s)).flatten()
    }

    /// The gimbal's attitude at a moment of the drone's clock, turned at constant rate between the two that were told around it.
    fn gimbal_between(&self, moment_s: f64) -> Option<Attitude> {
        let told = || self.gimbal.iter().map(|(ms, attitude)| (f64::from(*ms) / 1e3, attitude));
        let before = told().filter(|(s, _)| *s <= moment_s).max_by(|a, b| a.0.total_cmp(&b.0))?;
        let after = told().filter(|(s, _)| *s >= moment_s).min_by(|a, b| a.0.total_cmp(&b.0))?;
        let gap_s = after.0 - before.0;
        if gap_s > LONGEST_GAP_S {
            return None;
        }
        let share = if gap_s > 0.0 { (moment_s - before.0) / gap_s } else { 0.0 };
        Some(before.1.slerp(after.1, share))
    }

    /// The gimbal's attitude at a moment of the drone's clock, or else the nearest.
    fn gimbal_at(&self, moment_s: f64) -> Option<Attitude> {
        self.gimbal_between(moment_s).or_else(|| {
            let off = |ms: u32| (f64::from(ms) / 1e3 - moment_s).abs();
            let nearest = self.gimbal.iter().min_by(|(a, _), (b, _)| off(*a).total_cmp(&off(*b)));
            nearest.map(|(_, attitude)| *attitude)
        })
    }
}

/// The last part of a URL: what the camera says must never lead outside its folder.
fn file_name(url: &str) -> String {
    let name = url.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = name.split(['?', '#']).next().unwrap_or_default();
    if name == "." || name == ".." || name.contains('\0') {
        return String::new();
    }
    name.to_owned()
}

/// How a camera looks, from the rotation (w, x, y, z) of its forward-right-down axes to north-east-down.
/// `None` where the quaternion is not a rotation: MAVLink sends zeros or NaN for "unknown".
pub fn attitude_from_quaternion(q: [f32; 4]) -> Option<Attitude> {
    let [w, x, y, z] = q.map(f64::from);
    let norm = (w * w + x * x + y * y + z * z).sqrt();
    // NaN fails this too.
    if !(0.9..1.1).contains(&norm) {
        return None;
    }
    let [w, x, y, z] = [w / norm, x / norm, y / norm, z / norm];
    // Columns of the rotation matrix: where the camera's own axes point.
    let forward = [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)];
    let right = [2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)];
    let down_down = 1.0 - 2.0 * (x * x + y * y);
    let pitch = (-forward[2]).clamp(-1.0, 1.0).asin();
    // Looking straight down or up, yaw and roll turn about the same axis. All of it is called yaw: roll is 0, and the
    // right edge of the picture says where north is.
    let level = forward[0].hypot(forward[1]);
    const ALMOST_VERTICAL: f64 = 1e-3;
    let (yaw, roll) = if level < ALMOST_VERTICAL {
        ((-right[0]).atan2(right[1]), 0.0)
    } else {
        (forward[1].atan2(forward[0]), right[2].atan2(down_down))
    };
    Some(Attitude {
        yaw_deg: yaw.to_degrees().rem_euclid(360.0),
        pitch_deg: pitch.to_degrees(),
        roll_deg: roll.to_degrees(),
    })
}

/// The inverse of [`attitude_from_quaternion`].
pub fn quaternion_from_attitude(attitude: Attitude) -> [f32; 4] {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin_cos();
    let (sy, cy) = half(attitude.yaw_deg);
    let (sp, cp) = half(attitude.pitch_deg);
    let (sr, cr) = half(attitude.roll_deg);
    [cy * cp * cr + sy * sp * sr, cy * cp * sr - sy * sp * cr, cy * sp * cr + sy * cp * sr, sy * cp * cr - cy * sp * sr]
        .map(|component| component as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mavlink::dialects::common::MavBool;

    fn close(a: Attitude, b: Attitude) -> bool {
        let turn = (a.yaw_deg - b.yaw_deg + 180.0).rem_euclid(360.0) - 180.0;
        turn.abs() < 0.01 && (a.pitch_deg - b.pitch_deg).abs() < 0.05 && (a.roll_deg - b.roll_deg).abs() < 0.01
    }

    #[test]
    fn attitudes_survive_the_way_through_a_quaternion() {
        for yaw_deg in [0.0, 37.0, 180.0, 269.0] {
            for pitch_deg in [-89.0, -45.0, 0.0, 30.0] {
                for roll_deg in [-20.0, 0.0, 5.0] {
                    let attitude = Attitude { yaw_deg, pitch_deg, roll_deg };
                    let back = attitude_from_quaternion(quaternion_from_attitude(attitude)).unwrap();
                    assert!(close(attitude, back), "{attitude:?} became {back:?}");
                }
            }
        }
    }

    #[test]
    fn straight_down_the_top_of_the_picture_still_has_a_direction() {
        for yaw_deg in [0.0, 90.0, 123.0, 300.0] {
            let attitude = Attitude { yaw_deg, pitch_deg: -90.0, roll_deg: 0.0 };
            let back = attitude_from_quaternion(quaternion_from_attitude(attitude)).unwrap();
            assert!(close(attitude, back), "{attitude:?} became {back:?}");
        }
        // From first principles: nadir with the picture's top to the east. Forward is down, right is south, down is west.
        let half = std::f32::consts::FRAC_1_SQRT_2;
        // Rz(90°)·Ry(−90°)
        let q = [half * half, half * half, -half * half, half * half];
        assert!(close(
            attitude_from_quaternion(q).unwrap(),
            Attitude { yaw_deg: 90.0, pitch_deg: -90.0, roll_deg: 0.0 }
        ));
    }

    #[test]
    fn no_rotation_is_not_taken_for_level_north() {
        assert_eq!(attitude_from_quaternion([0.0; 4]), None);
        assert_eq!(attitude_from_quaternion([f32::NAN; 4]), None);
    }

    fn maker_with(clock: Clock) -> ShotMaker {
        ShotMaker::new(PoseSigma { horizontal_m: 1.5, vertical_m: 1.0, yaw_deg: 2.0, tilt_deg: 0.5 }, clock)
    }

    fn maker() -> ShotMaker {
        maker_with(Clock::default())
    }

    fn report(index: i32) -> CAMERA_IMAGE_CAPTURED_DATA {
        CAMERA_IMAGE_CAPTURED_DATA {
            time_utc: 1_790_000_000_000_000,
            time_boot_ms: 5000,
            lat: 230_500_000,
            lon: 1_130_000_000,
            relative_alt: 60_000,
            q: quaternion_from_attitude(Attitude { yaw_deg: 10.0, pitch_deg: -90.0, roll_deg: 0.0 }),
            image_index: index,
            capture_result: MavBool::MAV_BOOL_TRUE,
            file_url: "http://192.168.1.2/media/IMG_7.jpg".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_picture_reported_twice_is_one_shot() {
        let mut maker = maker();
        let shot = maker.shot(&report(7), None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((shot.index, shot.file.as_str()), (7, "IMG_7.jpg"));
        assert_eq!(shot.pose.height_m, 60.0);
        assert_eq!(maker.shot(&report(7), None, Timestamp::UNIX_EPOCH), Err(NoShot::Repeated));
        assert!(maker.shot(&report(8), None, Timestamp::UNIX_EPOCH).is_ok());
        let failed = CAMERA_IMAGE_CAPTURED_DATA { capture_result: MavBool::MAV_BOOL_FALSE, ..report(9) };
        assert_eq!(maker.shot(&failed, None, Timestamp::UNIX_EPOCH), Err(NoShot::Failed));
    }

    #[test]
    fn a_camera_that_does_not_know_its_attitude_takes_the_gimbals_of_that_moment() {
        let mut maker = maker();
        let mute = CAMERA_IMAGE_CAPTURED_DATA { q: [0.0; 4], ..report(1) };
        assert_eq!(maker.shot(&mute, None, Timestamp::UNIX_EPOCH), Err(NoShot::NoAttitude));
        for (time_boot_ms, yaw_deg) in [(4000, 50.0), (5010, 80.0), (6000, 120.0)] {
            let looks = Attitude { yaw_deg, pitch_deg: -60.0, roll_deg: 0.0 };
            let status = GIMBAL_DEVICE_ATTITUDE_STATUS_DATA {
                time_boot_ms,
                q: quaternion_from_attitude(looks),
                flags: GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_IN_VEHICLE_FRAME,
                ..Default::default()
            };
            maker.gimbal(&status, Some(Attitude { yaw_deg: 300.0, pitch_deg: 0.0, roll_deg: 0.0 }));
        }
        let mute = CAMERA_IMAGE_CAPTURED_DATA { image_index: 2, ..mute };
        let shot = maker.shot(&mute, None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(close(shot.pose.attitude, Attitude { yaw_deg: 20.0, pitch_deg: -60.0, roll_deg: 0.0 }));
    }

    #[test]
    fn a_camera_that_exposes_late_and_whose_clock_is_off_gets_the_pose_of_the_exposure() {
        let clock = Clock { offset_s: 2.0, latency_s: 0.25, readout_s: 0.0 };
        let mut maker = maker_with(clock);
        // North at 8 m/s, climbing at 2, while the gimbal turns by ten degrees a second. The camera's stamp is 5.0 s, so the
        // exposure was at 5.0 − 2.0 + 0.25 s of the drone's clock.
        maker.moves(&GLOBAL_POSITION_INT_DATA { vx: 800, vy: 0, vz: -200, ..Default::default() });
        for (time_boot_ms, yaw_deg) in [(3000, 350.0), (3500, 355.0), (5000, 10.0)] {
            let looks = Attitude { yaw_deg, pitch_deg: -60.0, roll_deg: 0.0 };
            let status = GIMBAL_DEVICE_ATTITUDE_STATUS_DATA {
                time_boot_ms,
                q: quaternion_from_attitude(looks),
                flags: GimbalDeviceFlags::GIMBAL_DEVICE_FLAGS_YAW_IN_EARTH_FRAME,
                ..Default::default()
            };
            maker.gimbal(&status, None);
        }
        let told = report(1);
        let shot = maker.shot(&told, None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(close(shot.pose.attitude, Attitude { yaw_deg: 352.5, pitch_deg: -60.0, roll_deg: 0.0 }), "{shot:?}");
        let moved = LocalFrame::new(from_e7(told.lat, told.lon)).to_enu(shot.pose.at);
        assert!(moved[0].abs() < 1e-3 && (moved[1] - 2.0).abs() < 1e-3, "{moved:?}");
        assert!((shot.pose.height_m - 60.5).abs() < 1e-9 && shot.pose.sigma.horizontal_m > 1.5);
        let late_us = shot.taken_at.as_microsecond() - told.time_utc as i64;
        assert!((late_us + 1_750_000).abs() < 10, "{late_us}");

        // Without a word on its clock, the report stands as it is.
        let mut plain = self::maker();
        plain.moves(&GLOBAL_POSITION_INT_DATA { vx: 800, ..Default::default() });
        let shot = plain.shot(&told, None, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((shot.pose.at, shot.pose.height_m), (from_e7(told.lat, told.lon), 60.0));
        assert_eq!(shot.taken_at.as_microsecond(), told.time_utc as i64);
    }

    #[test]
    fn a_camera_that_does_not_know_its_place_takes_the_drones_of_that_moment_or_gives_no_shot() {
        let mut maker = maker();
        let lost = CAMERA_IMAGE_CAPTURED_DATA { lat: 0, lon: 0, relative_alt: 0, ..report(1) };
        assert_eq!(maker.shot(&lost, None, Timestamp::UNIX_EPOCH), Err(NoShot::NoPlace));
        let drone = |time_boot_ms| GLOBAL_POSITION_INT_DATA {
            time_boot_ms,
            lat: 230_500_000,
            lon: 1_130_000_000,
            relative_alt: 60_000,
            vx: 800,
            ..Default::default()
        };
        maker.moves(&drone(4750));
        let shot =
            maker.shot(&CAMERA_IMAGE_CAPTURED_DATA { image_index: 2, ..lost.clone() }, None, Timestamp::UNIX_EPOCH);
        let pose = shot.unwrap().pose;
        let moved = LocalFrame::new(from_e7(230_500_000, 1_130_000_000)).to_enu(pose.at);
        assert!((moved[1] - 2.0).abs() < 1e-3 && pose.height_m == 60.0, "{moved:?}");
        maker.moves(&drone(3000));
        let old = maker.shot(&CAMERA_IMAGE_CAPTURED_DATA { image_index: 3, ..lost }, None, Timestamp::UNIX_EPOCH);
        assert_eq!(old, Err(NoShot::NoPlace));
    }

    #[test]
    fn a_file_name_never_leads_out_of_its_folder() {
        assert_eq!(file_name("../../etc/passwd"), "passwd");
        assert_eq!(file_name("mavlinkftp:///DCIM/.."), "");
        assert_eq!(file_name("C:\\a\\b.jpg?x=1"), "b.jpg");
    }
}
