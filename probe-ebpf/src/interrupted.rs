//! Events that interrupt their own program.
//!
//! The kernel does not run a program on a CPU that is running it already (kernel/trace/bpf_trace.c __bpf_trace_run(), 5.5 to
//! 6.18), so a transition in a softirq that interrupts the handling of another one would go unseen. A second program on the
//! same hook, called right after the first, makes up for it: the first leaves a mark that it has run, and where the second
//! finds none it does the work. Softirqs do not interrupt each other, so never are both running when an event comes.

use core::ffi::c_void;

use crate::maps::HANDLED;

/// Marks of one CPU. Two are in use at most: a task's, and that of a softirq which interrupts it. A mark is left behind when the
/// second program is interrupted on behalf of a task; it is older than any that is still in use then, so the oldest makes
/// room.
#[repr(C)]
pub struct Handled {
    marks: [Mark; MARKS],
    /// Marks made so far.
    count: u64,
}

const MARKS: usize = 4;

#[repr(C)]
#[derive(Clone, Copy)]
struct Mark {
    event: Event,
    /// Which mark of this CPU it is, from 1; 0 is a free place.
    number: u64,
}

/// Tells one event from those that may interrupt it. The socket stays a word of its own: to the verifier it is a pointer,
/// which may be stored and compared but not be reckoned with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    socket: u64,
    transition: u64,
}

impl Event {
    #[inline(always)]
    pub fn new(sk: *const c_void, old: u32, new: u32) -> Self {
        Self { socket: sk as u64, transition: u64::from(old) << 32 | u64::from(new) }
    }
}

/// Notes that the first program has run for `event`.
#[inline(always)]
pub fn mark(event: Event) {
    let Some(handled) = HANDLED.get_ptr_mut(0) else { return };
    // SAFETY: a pointer into this CPU's slot; a softirq that comes in between leaves it as it was, or with one mark more.
    unsafe {
        let mut place = 0;
        let mut oldest = u64::MAX;
        for candidate in 0..MARKS {
            let number = (*handled).marks[candidate].number;
            if number < oldest {
                oldest = number;
                place = candidate;
            }
        }
        (*handled).count += 1;
        let number = (*handled).count;
        (*handled).marks[place & (MARKS - 1)] = Mark { event, number };
    }
}

/// Takes the mark of `event` away; `false` when there was none, so that the first program has not run.
#[inline(always)]
pub fn take(event: Event) -> bool {
    let Some(handled) = HANDLED.get_ptr_mut(0) else { return true };
    // SAFETY: as above.
    unsafe {
        for place in 0..MARKS {
            let mark = &raw mut (*handled).marks[place];
            let marked = (*mark).event;
            if (*mark).number != 0 && marked.socket == event.socket && marked.transition == event.transition {
                (*mark).number = 0;
                return true;
            }
        }
    }
    false
}
