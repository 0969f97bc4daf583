//! aerie runs a drone base station: it flies patrols over MAVLink, looks for violations in what the camera saw, says where
//! each one is and how surely, and delivers cases over MQTT. This page is the map of the crate; `docs/architecture.md` has
//! the whole with its processes and files.
//!
//! ```text
//! patrol ── mission ──▶ vehicle ── pictures, poses ──▶ perception ── sightings ──▶ cases ──▶ outbox ──▶ uplink
//! (what, when, may it)   (MAVLink, dock, weather)       (child process)    (same thing again?)  (durable)    (MQTT 5)
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`station`] | the only wiring: builds every part of `aerie run` and connects them |
//! | [`orders`] | carries out commands, whoever gave them |
//! | [`cli`] | the command line, one file a command |
//! | [`config`] | strict configuration; every fault at once |
//! | [`care`] | doctor, support bundle, backup, setting up a new station |
//! | [`runtime`] | task supervisor, systemd and its control groups, where things lie, databases and their layouts |
//! | [`geo`] | pure: attitudes, cameras, terrain, geoids, pixel to ground with its error, adjustment of a sortie, datums, poses out of photos and subtitles |
//! | [`patrol`] | plans, schedule, gates, the sortie's states (pure) and the task that flies it |
//! | [`vehicle`] | the MAVLink link, missions, shots; dock and weather |
//! | [`perception`] | decode, tile, detect, locate; the child process, its protocol and its keeper |
//! | [`cases`] | from sightings to cases; the register of what is permitted |
//! | [`outbox`] | the only truth about what still has to reach upstream |
//! | [`update`] | signed models, fetched, probed, watched as a shadow and on trial, committed or rolled back |
//! | [`uplink`] | MQTT session, events, the one door for commands |
//! | [`console`] | HTTP interface and web page |
//! | [`sim`] | a simulated town with its drone, camera, dock, weather; nothing of the station knows it |
//!
//! Pure modules (`geo`, `patrol::{plan, schedule, gates, states}`, `cases::book`, `vehicle::{frame, telemetry, mission, shots}`,
//! `uplink::judge`, …) have no clock and no I/O; tasks around them do.
//!
//! # What may never happen
//!
//! Nine invariants, and the module that keeps each. Where one does not hold whole yet, it says so.
//!
//! 1. **Nothing arms unless every gate passed on data fresher than its limit; unknown is not passed.**
//!    [`patrol::gates`] decides, [`patrol::states`] has no other way to `Arming`, [`patrol::flight`] asks twice: before the
//!    dock opens and after.
//! 2. **A stale command never flies: every command has an id, a deadline, an author and exactly one terminal reply; the
//!    same id twice acts once.** [`uplink::commands`]: one door, one journal.
//! 3. **Before arming, the drone itself holds all that brings it home without us, read back and compared.**
//!    [`vehicle::mission`] and its transfer: mission and geofence, rally points cleared; [`vehicle::safety`]: failsafe
//!    parameters.
//! 4. **Our crash at any moment cannot strand the drone; on restart with the drone in the air we adopt the flight.**
//!    3 above, and [`patrol::flight::adopt`], which neither arms nor uploads. Shown on ArduPilot and PX4
//!    in software-in-the-loop, not in the air.
//! 5. **An alert that was accepted is delivered at least once under a stable id, in the order of its case; what must be
//!    dropped is dropped by a stated policy and reported.** [`outbox`] and [`uplink`]; [`cases::keeper`] offers again at
//!    start what a crash kept from the outbox.
//! 6. **No model looks at a live frame for the record before its signature, its hash and its probe passed; the last
//!    committed model always remains loadable.** [`update::states`] has no other way into charge, [`update::slots`] compares
//!    every byte before each load, [`update::ledger`] has a step on the disk before it is acted on. A model that the site
//!    itself names (`perception.model`) is checked by its hash alone: that is the operator's own word.
//! 7. **Every position carries its uncertainty, and says which datum it is in.** [`geo::locate()`] returns both or a reason;
//!    [`geo::datum`] names them; [`cases::event`] says them.
//! 8. **The user's configuration files are never rewritten; a bad one stops flights, names every fault with its key and
//!    file, and leaves the console up.** [`config`] and [`station`].
//! 9. **No `unwrap`, `expect` or `panic!` outside tests on any input from outside.** Every module; unsafe code is forbidden
//!    below.

#![forbid(unsafe_code)]

pub mod care;
pub mod cases;
pub mod cli;
pub mod config;
pub mod console;
pub mod geo;
pub mod orders;
pub mod outbox;
pub mod patrol;
pub mod perception;
pub mod runtime;
pub mod sim;
pub mod station;
pub mod update;
pub mod uplink;
pub mod vehicle;
