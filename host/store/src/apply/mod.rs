//! One batch as a unit of work, the same for every back end.

pub(crate) mod tx;
