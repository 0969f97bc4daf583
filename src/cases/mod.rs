//! Cases: the same thing seen again is the same case. The machine says *suspected*; only people say *violation*.
//!
//! [`book`] decides and is pure, [`verdict`] is what people say; [`register`] knows what is permitted; [`event`] says a case to the world;
//! [`keeper`] is the task between perception and the outbox.

mod adjust;
mod belief;
pub mod book;
pub mod event;
pub mod keeper;
pub mod kinds;
pub mod place;
pub mod register;
pub mod verdict;

pub use book::{Case, CaseState};
pub use kinds::{Kind, Kinds};
pub use register::Register;
