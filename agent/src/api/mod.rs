//! What is said to programs: the JSON documents, made from a snapshot. Who asks for them reads them with the same types.
//!
//! Times are in seconds since the epoch. What is not known is null.

mod alert;
mod census;
mod overview;
mod path;
mod peer;

pub use self::{
    alert::Alert,
    census::{Census, PeerSockets},
    overview::{Agent, Host, Listener, Lost, Overview},
    path::segment,
    peer::{Account, ChallengedSyns, Outgrown, Pool, PortRange, PortRun, Ports, Second, TimeWaitSyns, Turn},
};
