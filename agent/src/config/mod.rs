//! Configuration: [`raw`] is what was typed, [`Settings`] what is meant.

mod alerts;
mod check;
mod document;
mod endpoint;
mod file;
mod mistakes;
mod peers;
pub mod raw;
mod receivers;
mod settings;
mod silences;
mod watches;

pub use alerts::{AlertName, AlertSettings, Alerts, Measure, Thresholds};
pub use endpoint::{Endpoint, Secret, has_user, read_authorities, read_url};
pub use file::read_file;
pub use mistakes::{ConfigError, Mistake, Mistakes};
pub use peers::{Overlap, PeerGroup};
pub use raw::Limits;
pub use receivers::{Channel, Receiver, ReceiverKind, Severity};
pub use settings::{
    Aborted, CensusMode, HistorySettings, HookMode, Settings, TELEMETRY_PATH_RULE, is_telemetry_path,
};
pub use silences::{Silence, Window};
pub use watches::Watch;
