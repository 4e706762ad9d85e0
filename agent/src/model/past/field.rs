//! What is remembered of a second.

use std::ops::{Index, IndexMut};

use crate::model::pool::Turn;

/// How the values of several seconds become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A state: the highest stands for all.
    Level,
    /// Something that is the worse the lower it is: the lowest stands for all.
    Left,
    /// Events: they are summed up.
    Events,
}

/// Declares the fields, so that their number, order and kinds cannot come apart.
macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $kind:ident,)*) => {
        /// One number of a [`Sample`]. New ones go to the end: what was kept before has the first so many.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Field { $($(#[$doc])* $field),* }

        impl Field {
            /// All of them, in order.
            pub const ALL: [Self; [$(Kind::$kind),*].len()] = [$(Self::$field),*];

            /// How its values over several seconds become one.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$field => Kind::$kind),* }
            }
        }
    };
}

fields! {
    /// Sockets in ESTABLISHED.
    Established: Level,
    /// Sockets in TIME_WAIT.
    TimeWait: Level,
    /// Sockets in CLOSE_WAIT.
    CloseWait: Level,
    /// Sockets in SYN_SENT or SYN_RECV.
    Opening: Level,
    /// Sockets in FIN_WAIT1, FIN_WAIT2, LAST_ACK or CLOSING.
    Closing: Level,
    /// Connections of ours that wait for an answer.
    Stalled: Level,
    /// Ports of the pool; 0 while it is not known.
    PoolSize: Level,
    /// Ports that are taken, by TIME_WAIT or live connections.
    PortsTaken: Level,
    /// Seconds until no port is free, as foreseen then; [`Sample::NEVER`] when that would not be, or was not known.
    SecondsLeft: Left,
    /// Connections established.
    Connections: Events,
    /// Connections that we closed.
    ClosedLocal: Events,
    /// Connections that the peer closed.
    ClosedPeer: Events,
    /// Connections that a RST ended.
    ClosedReset: Events,
    /// Connections that the kernel gave up.
    ClosedTimeout: Events,
    /// How long those that ended had lived, in all, in milliseconds.
    LivedMillis: Events,
    /// SYNs of ours.
    Syns: Events,
    /// SYNs repeated.
    SynRetries: Events,
    /// SYN-ACKs we repeated.
    SynackRetries: Events,
    /// Other segments we repeated.
    Retransmits: Events,
    /// RSTs we sent.
    ResetsLocal: Events,
    /// RSTs we received.
    ResetsPeer: Events,
    /// SYNs that TIME_WAIT accepted.
    Accepted: Events,
    /// SYNs that TIME_WAIT refused and answered by a bare ACK.
    RefusedByAck: Events,
    /// SYNs that a mini-socket in FIN_WAIT2 answered by a RST.
    RefusedByReset: Events,
    /// SYNs that TIME_WAIT refused and left unanswered.
    RefusedUnanswered: Events,
    /// Refused attempts that came through once the client's RST had removed the TIME_WAIT.
    ConnectedAfterReset: Events,
    /// Refused attempts that came through later without one.
    ConnectedAfterRetry: Events,
    /// Refused attempts that the client gave up.
    GaveUp: Events,
    /// Connections on a 4-tuple seen before.
    Reused: Events,
    /// How long ago those 4-tuples had been closed, in all, in milliseconds.
    ReusedAfterMillis: Events,
    /// Connections aborted early.
    AbortedEarly: Events,
    /// Attempts of ours that nobody answered.
    FailedTimeout: Events,
    /// Attempts of ours that were refused.
    FailedRefused: Events,
    /// Attempts of ours that had no way.
    FailedUnreachable: Events,
    /// Attempts of ours that failed otherwise.
    FailedOther: Events,
    /// How long the failed ones took, in all, in milliseconds.
    FailedMillis: Events,
    /// Of the host: mini-sockets, by the kernel's own count.
    Buckets: Level,
    /// Of the host: connections waiting to be accepted in the fullest queue, in percent of its limit.
    QueuePercent: Level,
    /// Of the host: an accept queue was full.
    ListenOverflows: Events,
    /// Of the host: connections that got no TIME_WAIT because of the limit.
    BucketOverflows: Events,
    /// Attempts of ours that failed for want of a local port.
    FailedNoPort: Events,
    /// SYNs that met a connection still open here, late copies of its own aside.
    Challenged: Events,
    /// Attempts so refused that came through once the client's RST had ended the old connection.
    ChallengedAfterReset: Events,
    /// Attempts so refused that came through later without one.
    ChallengedAfterRetry: Events,
    /// Attempts so refused that the client gave up.
    ChallengedGaveUp: Events,
    /// Attempts of ours that our program abandoned before they were answered.
    FailedAbandoned: Events,
    /// How long it had waited, in all, in milliseconds.
    AbandonedMillis: Events,
    /// Attempts that TIME_WAIT refused and that came through from another port.
    ConnectedFromOtherPort: Events,
    /// How long refused attempts that came through had taken since, in all, in milliseconds.
    RefusedMillis: Events,
    /// Refused attempts that waited for 0.9 s or more.
    RefusedLate: Events,
    /// Attempts that an open connection refused and that came through from another port.
    ChallengedFromOtherPort: Events,
    /// Ports that a peer hands out in turn per minute, over all servers; 0 while it is not known which of them come back here.
    PortsPerMinute: Level,
    /// After how many rounds they come back here at the earliest; 0 if none does.
    ReturnRounds: Level,
    /// Of a thousand, those that come back then.
    ReturnPermille: Level,
    /// Of a thousand SYNs here, those that will meet a TIME_WAIT.
    ExpectedRefusedPermille: Level,
}

/// The numbers of a second, or of several. What a kernel cannot tell is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample([u32; Field::ALL.len()]);

impl Default for Sample {
    fn default() -> Self {
        let mut sample = Self([0; Field::ALL.len()]);
        sample[Field::SecondsLeft] = Self::NEVER;
        sample
    }
}

impl Index<Field> for Sample {
    type Output = u32;

    fn index(&self, field: Field) -> &u32 {
        &self.0[field as usize]
    }
}

impl IndexMut<Field> for Sample {
    fn index_mut(&mut self, field: Field) -> &mut u32 {
        &mut self.0[field as usize]
    }
}

impl Sample {
    /// Attempts of ours that failed, by reason, but for those that got no local port.
    pub const FAILED: [Field; 5] = [
        Field::FailedTimeout,
        Field::FailedAbandoned,
        Field::FailedRefused,
        Field::FailedUnreachable,
        Field::FailedOther,
    ];

    /// Seconds left where none is foreseen.
    pub const NEVER: u32 = u32::MAX;

    /// Takes another second in.
    pub fn take_in(&mut self, other: &Self) {
        for field in Field::ALL {
            let value = other[field];
            let sum = &mut self[field];
            *sum = match field.kind() {
                Kind::Level => value.max(*sum),
                Kind::Left => value.min(*sum),
                Kind::Events => sum.saturating_add(value),
            };
        }
    }

    /// SYNs that met a TIME_WAIT and were not accepted.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.sum(&[Field::RefusedByAck, Field::RefusedByReset, Field::RefusedUnanswered])
    }

    /// Attempts of ours that failed, but for those that got no local port.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.sum(&Self::FAILED)
    }

    /// The share of the pool that is taken.
    #[must_use]
    pub fn used_ratio(&self) -> Option<f64> {
        let size = self[Field::PoolSize];
        (size > 0).then(|| f64::from(self[Field::PortsTaken]) / f64::from(size))
    }

    /// Keeps how a peer goes round its pool, once it is known which of the ports come back here.
    pub fn set_turn(&mut self, turn: &Turn) {
        if turn.returning.is_none() || turn.is_withdrawn {
            return;
        }
        let (rounds, share) = turn.soonest_return().unwrap_or_default();
        self[Field::PortsPerMinute] = nearest(turn.rate * 60.0);
        self[Field::ReturnRounds] = rounds;
        self[Field::ReturnPermille] = nearest(share * 1e3);
        self[Field::ExpectedRefusedPermille] = nearest(turn.refused_share * 1e3);
    }

    /// How a peer went round its pool, as far as that is kept: of the ports that come back here, those that do at the earliest.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let [per_minute, rounds, permille, refused] = [
            Field::PortsPerMinute,
            Field::ReturnRounds,
            Field::ReturnPermille,
            Field::ExpectedRefusedPermille,
        ]
        .map(|field| self[field]);
        let (size, left) = (self[Field::PoolSize], self[Field::SecondsLeft]);
        let rate = f64::from(per_minute) / 60.0;
        let share = |at| if at == rounds { f64::from(permille) / 1e3 } else { 0.0 };
        (per_minute > 0 && size > 0).then(|| Turn {
            rate,
            round_seconds: f64::from(size) / rate,
            returning: Some((1..=rounds.clamp(1, 6)).map(share).collect()),
            refusal_seconds: if left == Self::NEVER { f64::INFINITY } else { f64::from(left) },
            is_withdrawn: false,
            refused_share: f64::from(refused) / 1e3,
            is_at_limit: false,
            next_met: None,
        })
    }

    fn sum(&self, fields: &[Field]) -> u32 {
        fields.iter().fold(0, |sum, &field| sum.saturating_add(self[field]))
    }
}

/// The nearest whole number below the top.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is clamped first")]
pub(super) fn nearest(value: f64) -> u32 {
    value.round().clamp(0.0, f64::from(u32::MAX - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_seconds_become_one_by_kind() {
        let mut minute = Sample::default();
        for (time_wait, left, connections) in [(5, Sample::NEVER, 2), (9, 30, 3), (7, 40, 4)] {
            let mut second = Sample::default();
            second[Field::TimeWait] = time_wait;
            second[Field::SecondsLeft] = left;
            second[Field::Connections] = connections;
            minute.take_in(&second);
        }
        let taken = [Field::TimeWait, Field::SecondsLeft, Field::Connections].map(|field| minute[field]);
        assert_eq!(taken, [9, 30, 9]);
    }

    #[test]
    fn how_a_peer_went_round_is_told_as_it_was() {
        let turn = Turn {
            rate: 150.0,
            round_seconds: 4_096.0 / 150.0,
            returning: Some(vec![0.0, 0.01, 0.99]),
            refusal_seconds: f64::INFINITY,
            is_withdrawn: false,
            refused_share: 0.0,
            is_at_limit: false,
            next_met: None,
        };
        let mut sample = Sample::default();
        sample[Field::PoolSize] = 4_096;
        sample.set_turn(&Turn { returning: None, ..turn.clone() });
        assert_eq!(sample.turn(), None, "it is not known yet what comes back");
        sample.set_turn(&turn);
        let kept = sample.turn().expect("kept");
        assert_eq!(kept.text(50.0), turn.text(50.0));
        // A sample that was kept before there were these fields.
        assert_eq!(Sample::default().turn(), None);
    }

    #[test]
    fn sums_stop_at_the_top() {
        let mut sample = Sample::default();
        sample[Field::Connections] = u32::MAX;
        let other = sample;
        sample.take_in(&other);
        assert_eq!(sample[Field::Connections], u32::MAX);
    }
}
