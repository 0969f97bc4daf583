//! A simulated station: a town, a drone that flies over it, its camera, the dock, the weather, a broker. A product
//! feature: `aerie demo` shows the whole job with it, and nothing downstream knows.

pub mod bridge;
pub mod broker;
pub mod campaign;
pub mod drone;
pub mod faults;
pub mod fleet;
pub mod hardware;
pub mod plc;
pub mod score;
pub mod site;
pub mod soak;
pub mod town;
