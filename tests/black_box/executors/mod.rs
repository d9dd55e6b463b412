//! One suite for everything that runs steps: a component in the host's process, a worker that fetches steps, one that is called, and a
//! container behave alike.

mod kinds;
#[cfg(target_os = "linux")]
mod mixed;
mod outside;
mod peers;
mod refusals;
mod suite;

macro_rules! for_each_kind {
    ($($case:ident),+ $(,)?) => {
        mod component {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::suite::$case(super::kinds::Kind::Component).await;
            })+
        }
        mod worker_that_fetches {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::suite::$case(super::kinds::Kind::Queue).await;
            })+
        }
        mod worker_that_is_called {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::suite::$case(super::kinds::Kind::Http).await;
            })+
        }
        #[cfg(target_os = "linux")]
        mod container {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::suite::$case(super::kinds::Kind::Container).await;
            })+
        }
    };
}

for_each_kind! {
    a_step_returns_its_output,
    a_step_splits_and_its_children_wait_for_each_other,
    what_a_step_reports_is_seen,
    a_step_hears_that_it_is_cancelled,
    a_step_that_does_not_care_is_stopped_after_its_grace_time,
    a_step_that_takes_too_long_fails,
    a_step_is_tried_again_when_that_may_help,
    a_fatal_failure_ends_the_task,
    code_that_breaks_off_is_tried_again,
    a_paused_step_goes_on_from_where_it_was,
    a_step_runs_again_when_its_host_dies,
}
