//! What each alert means and what to do, a page each: part of the program, so that the link in an alert always leads there.

use crate::config::AlertName;

/// The page of an alert, in Markdown.
pub(super) fn page(name: AlertName) -> &'static str {
    match name {
        AlertName::TimeWaitNearPoolLimit => include_str!("../../../docs/runbooks/TimeWaitNearPoolLimit.md"),
        AlertName::PortReuseRefused => include_str!("../../../docs/runbooks/PortReuseRefused.md"),
        AlertName::HalfOpenConnections => include_str!("../../../docs/runbooks/HalfOpenConnections.md"),
        AlertName::PoolDiffers => include_str!("../../../docs/runbooks/PoolDiffers.md"),
        AlertName::SynRetriesHigh => include_str!("../../../docs/runbooks/SynRetriesHigh.md"),
        AlertName::TimeWaitNearBucketLimit => {
            include_str!("../../../docs/runbooks/TimeWaitNearBucketLimit.md")
        }
        AlertName::ListenQueueOverflow => include_str!("../../../docs/runbooks/ListenQueueOverflow.md"),
        AlertName::EphemeralPortsNearLimit => {
            include_str!("../../../docs/runbooks/EphemeralPortsNearLimit.md")
        }
        AlertName::BackendNotAnswering => include_str!("../../../docs/runbooks/BackendNotAnswering.md"),
        AlertName::DependencyHanging => include_str!("../../../docs/runbooks/DependencyHanging.md"),
        AlertName::AbortedEarly => include_str!("../../../docs/runbooks/AbortedEarly.md"),
        AlertName::CloseWaitGrowing => include_str!("../../../docs/runbooks/CloseWaitGrowing.md"),
        AlertName::StaleAddress => include_str!("../../../docs/runbooks/StaleAddress.md"),
        AlertName::NameNotResolving => include_str!("../../../docs/runbooks/NameNotResolving.md"),
        AlertName::AgentDegraded => include_str!("../../../docs/runbooks/AgentDegraded.md"),
    }
}
