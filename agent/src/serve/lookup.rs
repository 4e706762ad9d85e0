//! What may be asked beyond the latest view: each answer takes a while.

use std::{net::IpAddr, sync::Arc};

use anyhow::bail;

use super::refusal::Refusal;
use crate::model::{
    AccountId,
    past::{Happened, Sample, Span},
    port_map::PortMap,
};

/// Who can be asked. Each call may block for some seconds.
pub trait Lookup: Send + Sync {
    /// The samples of an account within a span, each with the first second it stands for.
    ///
    /// # Errors
    /// In words for whoever asked.
    fn samples(&self, account: &AccountId, span: Span) -> anyhow::Result<Vec<(u64, Sample)>>;

    /// The last events within a span, the oldest first, at most so many.
    ///
    /// # Errors
    /// In words for whoever asked.
    fn events(&self, span: Span, most: usize) -> anyhow::Result<Vec<Happened>>;

    /// All ports of an account now; those of the pair of addresses, the peer's and ours, with the most sockets.
    ///
    /// # Errors
    /// In words for whoever asked.
    fn ports(&self, account: &AccountId) -> anyhow::Result<(IpAddr, PortMap)>;
}

/// Who knows nothing beyond the latest view.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Lookup for Nobody {
    fn samples(&self, _: &AccountId, _: Span) -> anyhow::Result<Vec<(u64, Sample)>> {
        bail!("no past is kept")
    }

    fn events(&self, _: Span, _: usize) -> anyhow::Result<Vec<Happened>> {
        bail!("no past is kept")
    }

    fn ports(&self, _: &AccountId) -> anyhow::Result<(IpAddr, PortMap)> {
        bail!("sockets cannot be looked at")
    }
}

/// Asks on a thread that may wait.
pub(super) async fn ask<T: Send + 'static>(
    lookup: &Arc<dyn Lookup>,
    question: impl FnOnce(&dyn Lookup) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let lookup = Arc::clone(lookup);
    let answer = tokio::task::spawn_blocking(move || question(&*lookup)).await;
    match answer {
        Ok(answer) => answer.map_err(|error| Refusal::unavailable(format!("{error:#}"))),
        Err(error) => Err(Refusal::unavailable(error.to_string())),
    }
}
