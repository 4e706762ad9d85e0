//! `iter/task_file`: which processes keep sockets that their peers have closed. Walked only while there are many of them.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{bpf_skc_to_tcp_sock, bpf_sock_from_file},
};
use core::ffi::c_void;
use probe_ebpf::{account::INBOUND, caller::OwnerKey, sweep::state::CLOSE_WAIT};

use crate::{
    accounts::direction_of_port,
    constants::SOCKET_SK,
    maps::OWNERS,
    socket::{Common, field, process_name},
};

/// `struct bpf_iter__task_file` (kernel/bpf/task_iter.c): each member takes 8 bytes.
#[repr(C)]
pub struct TaskFileIter {
    meta: *const c_void,
    task: *const c_void,
    fd: u64,
    file: *const c_void,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn owners(ctx: *mut TaskFileIter) -> i32 {
    // SAFETY: the kernel passes a context of this layout; both pointers are null after the last file.
    let (task, file) = unsafe { ((*ctx).task, (*ctx).file) };
    if !task.is_null() && !file.is_null() {
        let _ = try_owner(task, file);
    }
    0
}

#[inline(always)]
fn try_owner(task: *const c_void, file: *const c_void) -> Option<()> {
    // SAFETY: the helpers check what the file and the socket are; `sk` lies in `struct socket`, and a socket without one reads as 0.
    let sk: *const c_void = unsafe {
        let socket = bpf_sock_from_file(file.cast_mut().cast());
        if socket.is_null() {
            return None;
        }
        let sk: *const c_void = field(socket.cast_const().cast(), &SOCKET_SK);
        if bpf_skc_to_tcp_sock(sk.cast_mut()).is_null() {
            return None;
        }
        sk
    };
    let common = Common::new(sk);
    if common.state() != CLOSE_WAIT || !common.is_ours() {
        return None;
    }
    let port = common.tuple().local_port;
    if direction_of_port(port) != INBOUND {
        return None;
    }
    // SAFETY: the iterator hands out the task with its type.
    let name = unsafe { process_name(task.cast()) };
    let key = OwnerKey { port: u64::from(port), name };
    if let Some(sockets) = OWNERS.get_ptr_mut(key) {
        // SAFETY: a pointer into a live map value; only one walk runs at a time.
        unsafe { *sockets += 1 };
    } else {
        let _ = OWNERS.insert(key, 1, u64::from(BPF_ANY));
    }
    Some(())
}
