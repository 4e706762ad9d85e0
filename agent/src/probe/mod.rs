//! The kernel side as the agent sees it: what this kernel can do, loading, attaching, and typed readers of the maps.
//!
//! Nothing is pinned. Dropping [`Probe`], or dying, detaches every program and frees every map.

mod accounts;
pub mod capability;
mod format;
mod hooks;
mod load;
mod offsets;
mod stats;

pub use accounts::AccountReader;
pub use hooks::{HOOKS, Hook, HookReport, Mode};
pub use load::{Probe, ProbeError};
pub use stats::ProgramStats;
