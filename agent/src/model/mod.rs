//! What the figures mean. Pure: values and a time go in, values come out; no I/O, no clock.

mod accounts;
mod callers;
mod export;
mod grouped;
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
mod trouble;

pub use accounts::{Accounts, CloseWaits, Destination, Retention};
pub use callers::{Callers, readable};
pub use grouped::grouped;
pub use overhead::Overhead;
pub use pacing::next_interval;
pub use peer::{AccountId, Direction, Groups, Peer};
pub use refusals::{Clocks, RefusedReuse};
pub use snapshot::{
    CensusFigures, ExportedAccount, HistoryFigures, HostFigures, LostFigures, NotificationFigures,
    ProbeFigures, QueueFigures, RunFigures, SelfFigures, Snapshot, Tells,
};
pub use states::{CONNECTED_STATES, NamedState, UNCONNECTED_STATES};
pub use trouble::Events;
