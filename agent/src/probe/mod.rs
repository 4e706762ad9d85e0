//! The kernel side as the agent sees it: what this kernel can do, loading, attaching, and typed readers of the maps.
//!
//! Nothing is pinned. Dropping [`Probe`], or dying, detaches every program and frees every map.

mod callers;
pub mod capability;
mod clock;
pub mod format;
mod hooks;
mod load;
pub mod offsets;
mod prototypes;
mod refusals;
mod rights;
mod source_ports;
mod stats;
mod table;
mod ticks;

pub use clock::monotonic_ns;
pub use hooks::{HOOKS, Hook, HookReport, Mode, Way};
pub use load::{Probe, ProbeError, Wishes, give_back_memory};
pub use rights::{Kept, keep_for_starting};
pub use stats::ProgramStats;
