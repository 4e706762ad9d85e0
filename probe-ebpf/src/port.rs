//! What is known of each local port: whether it is a service, so that its connections are inbound.

use bytemuck::{Pod, Zeroable};

/// A local port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Port {
    /// [`LISTENING`], or the monotonic time in nanoseconds when it last was a service, or when an accepted connection on it
    /// was last seen; 0 is never.
    pub mark: u64,
    /// The monotonic time in nanoseconds when its listener began, if that was seen and the kernel may choose this port itself
    /// (`net.ipv4.ip_local_port_range`); 0 again once a listener that lasted ends.
    pub opened_ns: u64,
    /// The census that `sockets` belongs to.
    pub generation: u32,
    /// Sockets on this port in that census so far, listeners not counted.
    pub sockets: u32,
    /// Sockets on it in the census before.
    pub sockets_before: u32,
    /// Always 0.
    pub zero: u32,
}

/// The port is being listened on.
pub const LISTENING: u64 = u64::MAX;

/// A listener that ends sooner was short-lived. A passive FTP server listens until its client connects, a round trip or two; a service that is
/// restarted shows its clients of these seconds when they are over.
pub const SHORT_LIVED_NS: u64 = 10_000_000_000;

/// How long after the last sign of a listener a local port still counts as a service: the longest a mini-socket of
/// one of its connections lives (60 s as FIN_WAIT2, then 60 s as TIME_WAIT), and a margin.
pub const LISTEN_GRACE_NS: u64 = 130_000_000_000;

/// From so many sockets on, a port that the kernel would not have chosen for a connect() of ours was a service, even if
/// nobody listens on it any more. A single one may be ours, bound to a reserved port, as NFS does.
pub const SHARED: u32 = 2;

impl Port {
    /// Whether it is a service now, or was one so lately that connections of it may be left.
    #[must_use]
    #[inline(always)]
    pub const fn is_service(&self, now_ns: u64) -> bool {
        self.mark == LISTENING || (self.mark != 0 && now_ns.wrapping_sub(self.mark) < LISTEN_GRACE_NS)
    }

    /// Whether its last listener was short-lived, or is so young that it may become so.
    #[must_use]
    #[inline(always)]
    pub const fn is_short_lived(&self, now_ns: u64) -> bool {
        self.opened_ns != 0
            && (self.mark != LISTENING || now_ns.saturating_sub(self.opened_ns) < SHORT_LIVED_NS)
    }
}

const _: () = assert!(size_of::<Port>() == 32);

// SAFETY: the derived `bytemuck::Pod` checks what aya asks for: no padding, and valid for every bit pattern.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Port {}
