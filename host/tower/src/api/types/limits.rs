//! Limits in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::limit::{Gate, GateLimit};
use tower_store::read::LimitUse;
use utoipa::ToSchema;

use super::RateBody;

/// A limit that somebody has passed or waits for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Limit)]
pub(crate) struct LimitBody {
    /// `definition/NAME`, `key/NAME/VALUE`, `user/ID`, or `rate/NAME` for starts.
    #[schema(value_type = String, example = "definition/research")]
    pub(crate) limit: Gate,
    /// How many may run at once; null: a rate, or no limit any more.
    pub(crate) max_concurrent: Option<u32>,
    /// How many may begin; null: no rate.
    pub(crate) rate_limit: Option<RateBody>,
    /// Tasks that have passed it and whose step has not ended.
    pub(crate) running: u32,
    /// Tasks that wait for it, up to 10 000. One with several limits waits for the first that is full.
    pub(crate) waiting: u32,
    /// When a rate lets the next one begin.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) opens_at: Option<Timestamp>,
}

impl LimitBody {
    /// What the store knows, with what the operator lets users have.
    pub(crate) fn of(used: LimitUse, user_max_concurrent: Option<u32>) -> Self {
        let LimitUse { gate, limit, running, waiting, opens_at } = used;
        let limit = if matches!(gate, Gate::User(_)) { user_max_concurrent.map(GateLimit::Places) } else { limit };
        let (max_concurrent, rate_limit) = match limit {
            Some(GateLimit::Places(places)) => (Some(places), None),
            Some(GateLimit::Rate(rate)) => (None, Some(rate.into())),
            None => (None, None),
        };
        Self { limit: gate, max_concurrent, rate_limit, running, waiting, opens_at }
    }
}
