//! The ABI between the kernel side and the agent: what the maps hold, how histograms are cut, and which kernel
//! fields the programs need.
//!
//! Every type here is plain data with a layout asserted at compile time: no padding, no `bool`, no enum with data.
//! The module names are the features' names on both sides.

#![no_std]
#![deny(missing_docs)]

pub mod account;
pub mod caller;
pub mod connection;
pub mod fields;
pub mod port;
pub mod record;
pub mod refusal;
pub mod source_ports;
pub mod sweep;
pub mod tally;
pub mod tuple_memory;
