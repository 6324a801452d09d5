//! Agents, pods and modes that come and go while traffic flows.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test at its line")]

#[path = "lifecycle/crash.rs"]
mod crash;
#[path = "lifecycle/hand_over.rs"]
mod hand_over;
#[path = "lifecycle/killed.rs"]
mod killed;
#[path = "lifecycle/mode.rs"]
mod mode;
#[path = "lifecycle/pins.rs"]
mod pins;
#[path = "lifecycle/pods.rs"]
mod pods;
#[path = "lifecycle/remains.rs"]
mod remains;
#[path = "lifecycle/renewal.rs"]
mod renewal;
#[path = "lifecycle/restart.rs"]
mod restart;
#[path = "lifecycle/start.rs"]
mod start;
#[path = "lifecycle/stop.rs"]
mod stop;
