//! Turns an author's function into an export of the component.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, ItemFn, ReturnType};

/// Which export a function becomes.
#[derive(Clone, Copy)]
pub(crate) enum Export {
    Step,
    Aggregate,
}

impl Export {
    fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Aggregate => "aggregate",
        }
    }

    fn shape(self) -> &'static str {
        match self {
            Self::Step => "fn run(task: Task<Params>) -> Result<Output>",
            Self::Aggregate => "fn fold(task: Task<Params>, results: Results) -> Result<Output>",
        }
    }

    fn arguments(self) -> usize {
        match self {
            Self::Step => 1,
            Self::Aggregate => 2,
        }
    }
}

/// The function as it was, followed by its export; a misfit becomes a compile error at the place that is wrong.
pub(crate) fn expand(export: Export, attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function = match parse(export, attributes, item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            return quote! { #item #error };
        }
    };
    let name = &function.sig.ident;
    let glue = match export {
        Export::Step => step_glue(name),
        Export::Aggregate => aggregate_glue(name),
    };
    quote! { #function #glue }
}

fn parse(export: Export, attributes: TokenStream, item: TokenStream) -> Result<ItemFn, Error> {
    if !attributes.is_empty() {
        return Err(Error::new_spanned(attributes, format!("`{}` takes no arguments", export.name())));
    }
    let misfit = |tokens: &dyn quote::ToTokens, what: &str| {
        let message = format!("{what}: `{}` goes on a function like `{}`", export.name(), export.shape());
        Error::new_spanned(tokens.to_token_stream(), message)
    };
    let function: ItemFn = syn::parse2(item.clone()).map_err(|_| misfit(&item, "not a function"))?;
    let signature = &function.sig;
    if let Some(asyncness) = &signature.asyncness {
        return Err(misfit(asyncness, "a step is not async, the host does the waiting"));
    }
    if !signature.generics.params.is_empty() {
        return Err(misfit(&signature.generics, "the types must be known"));
    }
    if signature.inputs.len() != export.arguments() {
        return Err(misfit(signature, "wrong number of arguments"));
    }
    if matches!(signature.output, ReturnType::Default) {
        return Err(misfit(signature, "nothing is returned"));
    }
    Ok(function)
}

fn step_glue(name: &syn::Ident) -> TokenStream {
    let sdk = quote! { ::command_tower::__private };
    let guest = format_ident!("CommandTowerStep");
    quote! {
        const _: () = {
            struct #guest;
            impl #sdk::StepGuest for #guest {
                fn run(task: #sdk::RawTask) -> ::core::result::Result<#sdk::RawOutcome, #sdk::RawError> {
                    #sdk::run_step(task, #name)
                }
            }
            #[cfg(target_arch = "wasm32")]
            #sdk::export_step!(#guest with_types_in #sdk::step);
            // Off Wasm nothing is exported; this use keeps the author's code from being called dead.
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(#sdk::RawTask) -> ::core::result::Result<#sdk::RawOutcome, #sdk::RawError> =
                <#guest as #sdk::StepGuest>::run;
        };
    }
}

fn aggregate_glue(name: &syn::Ident) -> TokenStream {
    let sdk = quote! { ::command_tower::__private };
    let guest = format_ident!("CommandTowerAggregate");
    quote! {
        const _: () = {
            struct #guest;
            impl #sdk::AggregateGuest for #guest {
                fn aggregate(
                    task: #sdk::RawTask,
                    summary: #sdk::RawSummary,
                ) -> ::core::result::Result<#sdk::RawOutcome, #sdk::RawError> {
                    #sdk::run_aggregate(task, summary, #name)
                }
            }
            #[cfg(target_arch = "wasm32")]
            #sdk::export_aggregate!(#guest with_types_in #sdk::fold);
            #[cfg(not(target_arch = "wasm32"))]
            const _: fn(#sdk::RawTask, #sdk::RawSummary) -> ::core::result::Result<#sdk::RawOutcome, #sdk::RawError> =
                <#guest as #sdk::AggregateGuest>::aggregate;
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(export: Export, attributes: TokenStream, item: TokenStream) -> String {
        parse(export, attributes, item).map(|_| ()).expect_err("it should be refused").to_string()
    }

    #[test]
    fn the_function_itself_is_kept() {
        let text = expand(Export::Step, quote!(), quote! { fn run(task: Task<P>) -> Result<O> { body() } }).to_string();
        assert!(text.starts_with("fn run (task : Task < P >) -> Result < O > { body () }"), "{text}");
        assert!(text.contains("export_step !"), "{text}");
        assert!(!text.contains("export_aggregate"), "{text}");
    }

    #[test]
    fn what_is_not_a_step_is_refused_with_the_shape_of_one() {
        for (item, why) in [
            (quote! { struct Run; }, "not a function"),
            (quote! { async fn run(task: Task<P>) -> Result<O> {} }, "not async"),
            (quote! { fn run<P>(task: Task<P>) -> Result<O> {} }, "types must be known"),
            (quote! { fn run() -> Result<O> {} }, "wrong number of arguments"),
            (quote! { fn run(task: Task<P>) {} }, "nothing is returned"),
        ] {
            let message = message(Export::Step, quote!(), item);
            assert!(message.contains(why), "{message}");
            assert!(message.contains("fn run(task: Task<Params>) -> Result<Output>"), "{message}");
        }
    }

    #[test]
    fn an_aggregate_takes_the_results_too() {
        let item = quote! { fn fold(task: Task<P>) -> Result<O> {} };
        assert!(message(Export::Aggregate, quote!(), item).contains("results: Results"));
    }

    #[test]
    fn attributes_are_refused() {
        let item = quote! { fn run(task: Task<P>) -> Result<O> {} };
        assert!(message(Export::Step, quote!(name = "x"), item).contains("takes no arguments"));
    }
}
