//! Configuration: [`raw`] is what was typed, [`Settings`] what is meant.

pub mod raw;
mod settings;

pub use raw::Limits;
pub use settings::{
    CensusMode, ConfigError, HookMode, PeerGroup, Settings, TELEMETRY_PATH_RULE, is_telemetry_path,
};
