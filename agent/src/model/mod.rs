//! What the figures mean. Pure: values and a time go in, values come out; no I/O, no clock.

mod accounts;
mod callers;
pub mod drift;
mod export;
mod grouped;
pub mod habits;
pub mod names;
mod overhead;
mod pacing;
pub mod past;
mod peer;
pub mod pool;
pub mod port_map;
mod recency;
pub mod refusals;
mod snapshot;
mod states;
mod syns;
mod trouble;

pub use probe_ebpf::account::CONNECT_FAILURES;

pub use accounts::{Accounts, CloseWaits, Destination, Retention};
pub use callers::{Callers, readable};
pub use grouped::grouped;
pub use overhead::Overhead;
pub use pacing::next_interval;
pub use peer::{AccountId, Direction, Groups, Peer, PortName};
pub use refusals::{Clocks, RefusedReuse};
pub use snapshot::{
    CensusFigures, ExportedAccount, HistoryFigures, HostFigures, LostFigures, NotificationFigures,
    ProbeFigures, QueueFigures, RunFigures, SelfFigures, Snapshot, Tells,
};
pub use states::{CONNECTED_STATES, NamedState, UNCONNECTED_STATES, state_name};
pub use syns::{SynCounts, Syns};
pub use trouble::Events;
