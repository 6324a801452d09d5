//! The direct lane: connections between enrolled pods of one node, decided upon by the kernel.

#![allow(clippy::unwrap_used, reason = "what the helpers of a test unwrap is the test's own failure")]

#[path = "lane/agreement.rs"]
mod agreement;
#[path = "lane/bulk.rs"]
mod bulk;
#[path = "lane/captured.rs"]
mod captured;
#[path = "lane/coming.rs"]
mod coming;
#[path = "lane/pods.rs"]
mod pods;
#[path = "lane/random.rs"]
mod random;
#[path = "lane/services.rs"]
mod services;
#[path = "lane/world.rs"]
mod world;
