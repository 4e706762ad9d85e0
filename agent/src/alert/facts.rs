//! The figures of a moment that alerts look at.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use crate::model::{
    AccountId, CloseWaits, Destination, Events, HostFigures, LostFigures, Tells,
    habits::Habits,
    names::{NameTrouble, StaleAddress},
    pool::{EphemeralFigures, PoolFigures},
};

/// The pool of one address.
#[derive(Clone, Copy, Debug)]
pub struct PoolFact<'a> {
    /// The account that the address belongs to.
    pub account: &'a AccountId,
    /// The address.
    pub address: IpAddr,
    /// Its pool.
    pub figures: &'a PoolFigures,
}

/// Our ports towards one destination.
#[derive(Clone, Copy, Debug)]
pub struct EphemeralFact<'a> {
    /// The account that the address belongs to.
    pub account: &'a AccountId,
    /// The address.
    pub address: IpAddr,
    /// The ports.
    pub figures: &'a EphemeralFigures,
}

/// Everything that alerts look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Every pool; those of a group's addresses one by one.
    pub pools: &'a [PoolFact<'a>],
    /// What happened in the last minute to the accounts that had trouble in it.
    pub troubled: &'a HashMap<AccountId, Events>,
    /// Our ports towards the destinations with the most of our sockets.
    pub ephemeral: &'a [EphemeralFact<'a>],
    /// The destinations of ours that have trouble, or whose connections wait.
    pub destinations: &'a HashMap<AccountId, Destination>,
    /// Sockets in CLOSE_WAIT by the port of ours.
    pub close_waits: &'a BTreeMap<u16, CloseWaits>,
    /// What is usual for each peer.
    pub habits: &'a Habits,
    /// What the attached hooks can tell.
    pub tells: Tells,
    /// The host.
    pub host: &'a HostFigures,
    /// Events that found no room.
    pub lost: &'a [LostFigures],
    /// By how many TIME_WAIT and FIN_WAIT2 sockets each of the last censuses was off the kernel's own count.
    pub drift: i64,
    /// Addresses that are called though their name no longer lists them, and the accounts they belong to.
    pub stale: &'a [(AccountId, StaleAddress)],
    /// Accounts that nobody has called since their names ceased to list them.
    pub left_behind: &'a HashSet<AccountId>,
    /// How watched names resolve.
    pub names: &'a [NameTrouble],
    /// Why the past is kept in memory only, if so.
    pub history_trouble: Option<&'a str>,
    /// Whether the configuration last given is in force.
    pub config_reloaded: bool,
    /// Receivers that have not been reached for long.
    pub unreached: &'a [Arc<str>],
}
