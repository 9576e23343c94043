//! Tests of resume, failover and replication, repeated with all connections encrypted.

/// Repeats tests of a module over TLS, under the same names.
macro_rules! rerun {
    ($name:ident, $module:path, $($test:ident),+) => {
        mod $name {
            use $module as it;
            $(#[test]
            fn $test() {
                crate::harness::over_tls(it::$test);
            })+
        }
    };
}

rerun!(
    failover,
    crate::failover,
    the_slave_is_killed,
    the_slave_is_stopped,
    the_line_is_cut,
    the_line_hangs,
    the_slave_stops_cleanly,
    the_master_is_gone_too,
    the_other_slave_has_something_else,
    no_other_slave_is_left
);
rerun!(
    resume_prompt,
    crate::resume::prompt,
    little_is_fetched_twice,
    what_was_begun_is_resumed_at_the_start_of_a_prompt,
    a_slave_that_comes_back_within_retry_is_enough,
    a_client_that_runs_is_left_alone_by_another
);
rerun!(resume_damaged, crate::resume::damaged, a_part_file_that_vanished_or_shrank_is_made_anew);
rerun!(resume_replaced, crate::resume::replaced, replaced_by_a_shorter_one, replaced_by_nothing);
rerun!(
    cluster_failover,
    crate::cluster::failover,
    a_large_get_while_slaves_are_killed,
    a_large_get_while_lines_are_cut,
    a_large_put_while_slaves_are_killed,
    a_large_put_while_slaves_are_stopped,
    a_tree_is_fetched_while_slaves_are_killed,
    a_tree_is_put_while_slaves_are_killed,
    a_tree_is_mirrored_while_lines_are_cut
);
rerun!(
    cluster_replication,
    crate::cluster::replication,
    every_kind_of_change_is_seen_at_every_other_slave_within_a_second,
    contents_arrive_with_digest_time_and_executable_bit,
    a_reader_where_the_content_is_still_coming_gets_it_from_the_holder,
    of_two_puts_at_once_the_higher_number_is_everywhere_and_whole,
    a_change_asked_for_again_at_another_slave_is_the_same_change
);
rerun!(
    cluster_catching_up,
    crate::cluster::catching_up,
    a_slave_that_was_away_for_300_changes_catches_up,
    an_empty_slave_joins_a_tree_of_3000_small_files
);
rerun!(
    cluster_partitions,
    crate::cluster::partitions,
    a_slave_that_is_cut_off_serves_what_it_has_and_refuses_changes,
    lines_cut_in_any_order_heal
);
rerun!(
    cluster_master_outages,
    crate::cluster::master_outages,
    without_the_master_downloads_go_on_and_changes_are_refused_plainly,
    all_programs_are_started_anew_one_after_the_other_and_no_command_fails
);
rerun!(
    hostile_limits,
    crate::hostile::limits,
    who_holds_on_without_going_on_is_ended,
    no_more_threads_and_processes
);
