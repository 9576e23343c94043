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
    the_connection_is_cut,
    the_connection_hangs,
    the_slave_stops_cleanly,
    the_master_is_down_too,
    the_other_slave_has_other_content,
    no_other_slave_is_left
);
rerun!(
    resume_prompt,
    crate::resume::prompt,
    little_is_fetched_twice,
    a_prompt_resumes_unfinished_transfers_at_its_start,
    a_slave_that_comes_back_within_retry_is_enough,
    a_running_client_is_not_disturbed_by_another
);
rerun!(resume_damaged, crate::resume::damaged, a_part_file_that_vanished_or_shrank_is_made_anew);
rerun!(resume_replaced, crate::resume::replaced, replaced_by_a_shorter_one, replaced_by_nothing);
rerun!(
    cluster_failover,
    crate::cluster::failover,
    a_large_get_while_slaves_are_killed,
    a_large_get_while_connections_are_cut,
    a_large_put_while_slaves_are_killed,
    a_large_put_while_slaves_are_stopped,
    a_tree_is_fetched_while_slaves_are_killed,
    a_tree_is_put_while_slaves_are_killed,
    a_tree_is_mirrored_while_connections_are_cut
);
rerun!(
    cluster_replication,
    crate::cluster::replication,
    every_kind_of_change_replicates_within_a_second,
    contents_arrive_with_digest_time_and_executable_bit,
    a_reader_gets_content_in_transit_from_its_holder,
    of_two_concurrent_puts_the_higher_number_wins_everywhere,
    a_change_repeated_at_another_slave_is_the_same_change
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
    a_partitioned_slave_serves_its_files_and_refuses_changes,
    connections_cut_in_any_order_recover
);
rerun!(
    cluster_master_outages,
    crate::cluster::master_outages,
    without_the_master_downloads_work_and_changes_are_refused,
    a_rolling_restart_of_all_programs_fails_no_command
);
rerun!(
    hostile_limits,
    crate::hostile::limits,
    stalled_sessions_are_closed,
    no_more_threads_and_processes
);
