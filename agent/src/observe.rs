//! What people see of a running agent: decisions in the log and as counts, and the answers of its unix socket.

mod decisions;
mod elders;
mod events;
mod packet;
mod query;
mod status;

pub(crate) use decisions::rfc3339;
pub use decisions::{Decisions, Denial};
pub use elders::{DrainingStatus, Elder, bind_elder, carried_by_elders, elders, left_sockets};
pub use events::{Reporting, report_refusals};
pub use packet::{RefusedPacket, refused_packet};
pub use query::{Asking, HandOverRequest, Query, ask, bind, read_line, serve, write_line};
pub use status::{ConnectionCounts, PodStatus, Status};

use std::error::Error;

/// Returns an error and all its causes as one line.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
