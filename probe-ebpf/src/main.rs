//! The eBPF programs. One hook family per file; each program is a thin entry that finds the socket, and hands over to
//! a body that does not know how the kernel was entered.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "an atomic add has no stable spelling for the BPF target")]

mod accounts;
mod constants;
mod maps;
mod printed;
mod programs;
mod refusals;
mod socket;
mod tuples;
mod waits;

/// The helpers the programs call (`bpf_skc_to_tcp_sock` and others) are for GPL-compatible programs only, which this name says they are.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: a program that could panic does not pass the verifier, which refuses the endless loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
