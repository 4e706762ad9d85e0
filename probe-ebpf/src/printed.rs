//! Reading integers behind pointers that the verifier does not let us cast.
//!
//! `bpf_skc_to_tcp_timewait_sock()` and `bpf_skc_to_tcp_request_sock()` know a socket by its `sk_prot`, and only `tcp_prot` and `tcpv6_prot`
//! (net/core/filter.c, 5.9 to 6.18). Timewait sockets and requests of an MPTCP listener have MPTCP's own (net/mptcp/subflow.c
//! `tcp_prot_override`), those of a listener in a sockmap have `tcp_bpf_prots` (net/ipv4/tcp_bpf.c); the structures are the same. Of such a
//! socket the kernel prints the field for us: `bpf_snprintf_btf()` (5.10 on) reads any address, at every level of lockdown, unlike
//! `bpf_probe_read_kernel()`. It costs more than a load, and is asked only where the cast fails.

use core::ffi::c_void;

use aya_ebpf::{Global, bindings::btf_ptr, helpers::generated::bpf_snprintf_btf};
use probe_ebpf::fields::ABSENT;

use crate::{
    constants::{UNSIGNED_CHAR_TYPE, UNSIGNED_INT_TYPE},
    socket::field,
};

/// `BTF_F_COMPACT | BTF_F_NONAME | BTF_F_ZERO` (include/uapi/linux/btf.h): the number and nothing else, 0 included.
const NUMBER_ONLY: u64 = 1 | 2 | 8;

/// Digits of the largest `u32`.
const DIGITS: usize = 10;

/// An unsigned integer type of the kernel's, which the programs read in either way.
pub trait Printed: Copy {
    /// Its number in the kernel's BTF.
    fn type_id() -> u32;
    /// From its value, which fits.
    fn of(value: u32) -> Self;
}

impl Printed for u8 {
    #[inline(always)]
    fn type_id() -> u32 {
        UNSIGNED_CHAR_TYPE.load()
    }

    #[inline(always)]
    fn of(value: u32) -> Self {
        value as u8
    }
}

impl Printed for u32 {
    #[inline(always)]
    fn type_id() -> u32 {
        UNSIGNED_INT_TYPE.load()
    }

    #[inline(always)]
    fn of(value: u32) -> Self {
        value
    }
}

/// A field of the socket `sk`: through `cast`, what a helper made of it, or printed where that is null. `None` where the kernel cannot
/// print.
///
/// # Safety
/// `sk` must be a BTF-typed pointer to a kernel object that has the field at `offset`, and `cast` null or the same object with its type.
#[inline(always)]
pub unsafe fn field_of<T: Printed>(sk: *const c_void, cast: *mut c_void, offset: &Global<u32>) -> Option<T> {
    unsafe {
        if !cast.is_null() {
            return Some(field(cast.cast_const().cast(), offset));
        }
        print(sk.byte_add(offset.load() as usize), T::type_id()).map(T::of)
    }
}

/// # Safety
/// `address` must be that of an integer of the type; the kernel reads it so that a fault does no harm.
#[inline(always)]
unsafe fn print(address: *const c_void, type_id: u32) -> Option<u32> {
    if type_id == ABSENT {
        return None;
    }
    let mut what = btf_ptr { ptr: address.cast_mut(), type_id, flags: 0 };
    let mut text = [0_u8; 16];
    // SAFETY: both buffers are ours and as long as we say.
    let length = unsafe {
        bpf_snprintf_btf(
            text.as_mut_ptr().cast(),
            size_of_val(&text) as u32,
            &raw mut what,
            size_of_val(&what) as u32,
            NUMBER_ONLY,
        )
    };
    if length <= 0 {
        return None;
    }
    let mut value = 0_u32;
    for character in text.iter().take(DIGITS) {
        let digit = character.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    Some(value)
}
