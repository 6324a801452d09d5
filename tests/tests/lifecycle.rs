//! Agents, pods and modes that come and go while traffic flows.

#[path = "lifecycle/crash.rs"]
mod crash;
#[path = "lifecycle/mode.rs"]
mod mode;
#[path = "lifecycle/pins.rs"]
mod pins;
#[path = "lifecycle/pods.rs"]
mod pods;
#[path = "lifecycle/renewal.rs"]
mod renewal;
#[path = "lifecycle/restart.rs"]
mod restart;
#[path = "lifecycle/start.rs"]
mod start;
