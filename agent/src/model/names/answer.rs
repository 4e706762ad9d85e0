//! What a resolver told of a name.

use std::net::IpAddr;

/// The addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// These, and so many more that are not kept.
    Listed {
        /// The addresses that are kept.
        addresses: Vec<IpAddr>,
        /// How many are not.
        left_out: usize,
    },
    /// None.
    Nothing {
        /// Whether the name exists.
        exists: bool,
    },
    /// Why nobody knows.
    Failed(String),
    /// Nobody answered in time.
    TimedOut,
}

/// What became of asking for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has addresses.
    Answered,
    /// It has none.
    Empty,
    /// Nobody knows.
    Failed,
    /// Nobody answered in time.
    TimedOut,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Empty, Self::Failed, Self::TimedOut];

    /// Value of the `outcome` label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::TimedOut => "timeout",
        }
    }
}

/// What was told at one time; times are monotonic, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked for.
    pub asked_ns: u64,
    /// When it came.
    pub answered_ns: u64,
    /// IPv4 addresses.
    pub v4: Told,
    /// IPv6 addresses.
    pub v6: Told,
}

impl Answer {
    /// What it comes to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match (&self.v4, &self.v6) {
            (Told::Listed { .. }, _) | (_, Told::Listed { .. }) => Outcome::Answered,
            (Told::Nothing { .. }, Told::Nothing { .. }) => Outcome::Empty,
            (Told::Failed(_), _) | (_, Told::Failed(_)) => Outcome::Failed,
            (Told::TimedOut, _) | (_, Told::TimedOut) => Outcome::TimedOut,
        }
    }

    /// Why it has no addresses, in words.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match (self.outcome(), &self.v4, &self.v6) {
            (Outcome::Answered, ..) => None,
            (Outcome::Empty, Told::Nothing { exists: false }, _)
            | (Outcome::Empty, _, Told::Nothing { exists: false }) => {
                Some("the name does not exist (NXDOMAIN)".to_owned())
            }
            (Outcome::Empty, ..) => Some("the name exists and has no address".to_owned()),
            (Outcome::Failed, Told::Failed(why), _) | (Outcome::Failed, _, Told::Failed(why)) => {
                Some(why.clone())
            }
            _ => Some("no name server answers".to_owned()),
        }
    }

    pub(super) fn lists(&self) -> bool {
        self.outcome() == Outcome::Answered
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outcome() == Outcome::Empty
    }
}
