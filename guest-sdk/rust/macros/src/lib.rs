//! The attributes `step` and `aggregate` of `command-tower-sdk`. Use them through that crate: what they expand to names it.
#![warn(missing_docs)]

mod export;

use export::{Export, expand};
use proc_macro::TokenStream;

/// Makes a function the component's `step`.
///
/// The function takes one `Task<Params>` (`Params: serde::Deserialize`) and returns `Result<Output>`, where `Output` is
/// `serde::Serialize` or an `Outcome` of such a type. A component has one step.
#[proc_macro_attribute]
pub fn step(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(Export::Step, attributes.into(), item.into()).into()
}

/// Makes a function the component's `aggregate`, which folds the results of children.
///
/// The function takes a `Task<Params>` and a `Results`, and returns as a step does. A component with an aggregate needs a
/// step too.
#[proc_macro_attribute]
pub fn aggregate(attributes: TokenStream, item: TokenStream) -> TokenStream {
    expand(Export::Aggregate, attributes.into(), item.into()).into()
}
