//! The programs. Each hook has two entries, `…_btf` (a typed tracepoint) and `…_tp` (the classic one), over one body.

mod census;
mod owners;
mod reset;
mod retransmit;
mod state;
pub mod syn_watch;
mod synack;
mod time_wait;
