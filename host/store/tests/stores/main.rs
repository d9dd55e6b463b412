//! What every back end must do, written against the traits only, and run on each of them.
//!
//! A back end is a function in `backends`; a case is a function that takes a [`world::World`]. After every batch of every case the
//! invariants are asked about.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod backends;
mod blobs;
mod cancel;
mod claims;
mod costs;
mod definitions;
mod events;
mod hold;
mod hosts;
mod lanes;
mod limits;
mod lists;
mod modules;
mod night;
mod planted;
mod postgres_hosts;
mod postgres_open;
mod postgres_wire;
mod random;
mod rerun;
mod retention;
mod rounds;
mod schedules;
mod sessions;
mod sqlite_files;
mod submit;
mod tree;
mod twins;
mod world;

/// Runs each case on each back end, as a test of its own.
macro_rules! conformance {
    ($($module:ident::{$($case:ident),+ $(,)?})+) => {
        mod sqlite_in_memory {
            $(mod $module { $(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::world::World::on(crate::backends::sqlite_memory().await)).await;
                }
            )+ })+
        }
        mod sqlite_in_a_file {
            $(mod $module { $(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::world::World::on(crate::backends::sqlite_file().await)).await;
                }
            )+ })+
        }
        mod postgres {
            $(mod $module { $(
                #[tokio::test]
                async fn $case() {
                    crate::$module::$case(crate::world::World::on(crate::backends::postgres().await)).await;
                }
            )+ })+
        }
    };
}

conformance! {
    submit::{
        a_trace_begins_with_its_root_queued,
        the_same_key_for_the_same_is_answered_with_the_first_trace,
        the_same_key_for_something_else_is_refused,
        a_key_is_forgotten_in_time,
        old_keys_are_deleted_and_young_ones_are_not,
        a_trace_with_a_later_time_waits_for_it,
    }
    retention::{
        what_is_old_goes_with_everything_and_nothing_else_does,
        a_large_trace_goes_in_pieces_and_is_gone_from_the_first,
        a_schedule_outlives_its_traces_and_never_fires_an_instant_again,
        rounds_of_a_loop_go_with_it,
        an_artifact_is_its_traces_and_then_nobodys,
        an_artifact_that_was_taken_over_goes_with_the_last_that_has_it,
        traces_that_go_together_leave_nothing_to_each_other,
    }
    claims::{
        a_claim_hands_over_all_that_the_step_needs,
        urgent_tasks_go_first_and_then_the_oldest,
        a_small_trace_does_not_wait_for_a_large_ones_backlog,
        a_stale_claim_changes_nothing,
        a_released_claim_uses_up_no_retry,
        a_failure_backs_off_and_then_becomes_a_dead_letter,
        a_fatal_failure_ends_at_once,
        an_overdue_claim_is_taken_back_and_a_renewed_one_is_not,
        a_host_that_starts_anew_gets_its_tasks_back_in_the_queue,
        a_task_that_was_there_when_its_host_died_three_times_is_a_dead_letter,
        a_stop_that_nobody_ordered_is_a_release,
        batches_happen_in_the_order_in_which_they_are_committed,
    }
    tree::{
        children_run_and_are_folded,
        a_dependent_waits_and_is_handed_what_it_named,
        those_who_wait_for_tasks_that_end_together_go_on_however_many_and_nobody_else,
        a_failed_dependency_skips_all_that_wait_for_it,
        run_on_finished_runs_whatever_became_of_the_dependency,
        a_group_aggregator_sees_all_its_siblings,
        a_policy_that_is_not_met_fails_the_parent,
        a_fold_may_split_again,
        a_split_beyond_the_traces_bound_fails_the_step,
        a_wide_tree_is_folded_from_many_batches,
        a_split_of_thousands_is_whole,
        what_happens_to_a_trace_happens_in_order_whatever_the_clock_says,
        a_carried_output_by_reference_comes_back,
    }
    cancel::{
        a_cancelled_trace_ends_what_waits_and_tells_what_runs,
        a_subtree_is_cancelled_and_the_rest_goes_on,
        a_cancelled_claim_ends_cancelled_whatever_it_came_to,
        orders_that_have_nothing_to_do_say_so,
        a_large_cancel_holds_at_once_and_is_swept_in_pieces,
        what_ends_while_a_large_cancel_is_swept_is_cancelled_too,
        a_submit_and_its_cancel_in_one_batch,
    }
    hold::{
        nothing_of_a_paused_trace_is_claimed_until_it_is_resumed,
        a_subtree_is_held_and_the_rest_goes_on,
        what_a_held_step_splits_off_and_what_comes_due_is_held,
        a_step_that_stops_early_goes_on_from_there_and_uses_up_no_attempt,
        a_held_trace_can_be_cancelled_and_orders_without_effect_say_so,
    }
    hosts::{
        a_host_that_renews_hears_what_is_wanted_of_its_claims,
        hosts_are_seen_drained_and_begin_anew,
        others_hear_of_work_orders_and_traces,
    }
    lanes::{
        a_task_is_claimed_by_who_has_room_in_its_lane,
        a_task_stays_in_its_lane_wherever_it_was,
        children_wait_in_the_lanes_of_their_definitions,
        within_a_lane_urgent_tasks_go_first_and_none_starves,
        a_limit_is_passed_into_the_lane,
        lanes_are_listed_with_how_many_wait,
    }
    limits::{
        what_a_large_cancel_has_not_come_to_takes_nobodys_turn,
        no_more_tasks_of_a_definition_run_at_once_than_it_allows,
        tasks_with_one_value_of_the_key_run_one_after_another,
        tasks_of_a_user_share_a_limit_and_children_count,
        a_task_with_several_limits_holds_none_while_it_waits_for_one,
        starts_are_spread_by_the_rate,
        a_place_comes_back_however_the_claim_ends,
        limits_in_use_are_listed_with_who_runs_and_waits,
        a_limit_that_is_changed_counts_for_those_that_wait,
        what_waits_for_a_limit_is_held_and_cancelled_like_any_other,
        urgent_tasks_pass_a_limit_first_and_none_starves,
        of_ten_claims_one_is_made_in_fair_order,
        a_retry_has_the_limits_of_now,
        a_wide_split_passes_its_limit_few_by_few,
    }
    night::{
        a_nightly_task_waits_for_the_night_and_others_do_not,
        what_is_left_when_the_night_ends_waits_for_the_next,
        a_nightly_task_that_waits_is_held_and_cancelled_like_any_other,
    }
    rounds::{
        a_round_follows_another_after_its_pause_and_all_outputs_are_kept,
        children_of_one_round_are_no_part_of_the_next,
        a_loop_is_cancelled_and_held_between_rounds,
        a_retry_of_a_loop_goes_on_with_the_round_that_failed,
    }
    events::{
        a_tasks_history_is_in_order_and_without_gaps,
        reports_of_a_running_step_are_kept,
        logs_are_read_by_subtree,
        an_outside_event_is_kept_once,
        attempts_are_kept_with_their_errors,
    }
    lists::{
        pages_of_traces_are_stable_under_inserts,
        a_page_of_large_items_is_shorter_and_nothing_is_left_out,
        traces_are_filtered,
        pages_of_tasks_are_stable_under_inserts,
        tasks_are_filtered,
        a_tasks_path_leads_from_the_root,
        dead_letters_come_newest_first_and_close_with_a_retry,
        dead_letters_are_chosen_and_counted_by_what_they_have_in_common,
        pages_of_results_hold_every_child_once,
    }
    rerun::{
        a_retry_takes_over_what_succeeded_and_runs_the_rest,
        a_retry_of_what_went_well_or_has_not_ended_is_refused,
        a_dependent_of_something_that_runs_again_runs_again,
        a_failure_deep_down_is_retried_and_what_waits_for_it_plans_anew,
        a_split_dependent_of_something_that_runs_again_begins_anew,
        a_rerun_from_a_task_runs_it_anew_with_what_follows_from_it_and_no_more,
        a_rerun_from_the_root_is_the_whole_again_and_one_from_nowhere_is_refused,
    }
    schedules::{
        what_waits_for_a_cancelled_trace_goes_on_wherever_that_ends,
        a_put_begins_changes_and_ends_a_schedule,
        an_instant_fires_once_whoever_asks,
        what_fired_does_not_fire_again_after_a_change,
        a_skipped_overlap_is_counted,
        a_queued_overlap_fires_when_the_trace_has_ended,
        a_long_queue_keeps_the_latest_instants,
        an_overlap_may_end_the_trace_before,
        a_schedule_is_held_and_goes_on,
        a_schedule_without_a_next_instant_is_completed,
        schedules_are_listed_by_page,
    }
    sessions::{
        sessions_are_kept_and_listed_by_page,
        a_session_goes_from_use_to_the_archive_and_back,
        a_closed_session_takes_no_traces_and_its_files_go_later,
        traces_of_a_session_keep_it_in_use_and_leave_its_other_name,
    }
    definitions::{
        each_change_is_a_version,
        an_expected_version_is_held_against_the_current_one,
        the_version_of_an_instant_is_found,
        definitions_are_listed_by_page,
    }
    modules::{
        a_module_is_registered_once,
        a_tag_moves,
        a_remembered_tag_moves,
        many_who_ask_at_once_have_the_database_asked_once,
        tags_are_listed_by_page,
    }
}
