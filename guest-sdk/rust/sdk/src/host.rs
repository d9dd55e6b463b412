//! The way out: the contract's imports in a component, and a stand-in that remembers what it was told anywhere else.

#[cfg(target_arch = "wasm32")]
#[path = "host/component.rs"]
mod implementation;
#[cfg(not(target_arch = "wasm32"))]
#[path = "host/stand_in.rs"]
mod implementation;

pub(crate) use implementation::*;
