"""The faults that a pool survives, and the test of each; all run with fork, spawn and forkserver.

A worker that dies
    in a task, by os._exit, sys.exit, SIGKILL
        pool/test_loss.py::test_the_error_names_slot_pid_death_and_item
    by SIGSEGV
        faults/test_deaths.py::test_a_segmentation_fault_is_named_and_takes_one_item
    as memory ran out
        faults/test_deaths.py::test_a_worker_that_runs_out_of_memory_is_said_to_have
    idle
        pool/test_stats.py::test_a_killed_idle_worker_is_replaced_and_counted
    idle, as all of them
        faults/test_deaths.py::test_all_idle_workers_killed_at_once_cost_nobody_anything
    while starting
        pool/test_loss.py::test_killing_all_workers_once_while_they_start_breaks_no_pool
    while it sends a large result
        pool/test_loss.py::test_a_worker_lost_while_it_sends_a_large_result
    while it receives an argument
        faults/test_deaths.py::test_an_argument_half_received_is_run_elsewhere
    of loading an argument
        faults/test_deaths.py::test_an_argument_that_kills_who_loads_it_is_given_up
    in the initializer
        pool/test_lifecycle.py::test_an_initializer_that_exits_breaks_the_pool
    with all the others
        pool/test_loss.py::test_all_workers_killed_at_once_under_load
    again and again
        faults/test_deaths.py::test_workers_killed_again_and_again_under_load
        faults/test_deaths.py::test_items_that_kill_again_and_again_take_nothing_with_them
    what is lost
        pool/test_loss.py::test_only_the_item_that_killed_its_worker_is_lost
    what the error says
        faults/test_deaths.py::test_an_error_has_all_that_is_known_of_the_death
    when a map raises
        faults/test_deaths.py::test_a_map_raises_when_all_the_others_have_run

What user code raises
    BaseException
        faults/test_errors.py::test_whatever_an_item_raises_is_its_error
    in an imap
        faults/test_errors.py::test_an_imap_raises_it_once_and_goes_on
    StopIteration
        faults/test_errors.py::test_stop_iteration_from_an_item_hides_no_other
    errors that can't be (un)pickled
        faults/test_errors.py::test_an_error_that_cannot_travel_is_an_error_of_its_item
    results that can't be
        faults/test_errors.py::test_a_result_that_cannot_travel_is_an_error_of_its_item
        faults/test_errors.py::test_a_result_whose_pickling_exits_ends_no_other
    one argument of many
        faults/test_errors.py::test_one_argument_of_many_that_cannot_be_pickled
        faults/test_errors.py::test_an_argument_whose_pickling_exits
    in a callback
        faults/test_errors.py::test_a_callback_that_raises_is_its_calls_error_and_counted
    in the iterable
        faults/test_errors.py::test_an_iterable_that_raises_is_one_error_behind_what_it_gave
    an iterable that blocks
        faults/test_errors.py::test_an_iterable_that_blocks_delays_nobody_else
    or waits for earlier results
        faults/test_errors.py::test_an_iterable_may_wait_for_its_calls_earlier_results
    in the initializer
        pool/test_lifecycle.py::test_an_initializer_that_raises_breaks_the_pool
        faults/test_deaths.py::test_however_an_initializer_fails_the_pool_says_so
    no respawning for ever
        faults/test_deaths.py::test_an_initializer_that_fails_is_tried_a_few_times_and_no_more

User code that calls the pool
    from __reduce__
        faults/test_calls.py::test_arguments_whose_pickling_calls_the_pool
        faults/test_calls.py::test_results_whose_loading_calls_the_pool
    from a callback
        faults/test_calls.py::test_callbacks_that_call_the_pool_and_wait
    from __del__
        faults/test_calls.py::test_finalizers_that_call_the_pool
        faults/test_calls.py::test_a_finalizer_that_waits_for_the_pool_in_the_callers_thread
        faults/test_calls.py::test_a_finalizer_that_waits_in_the_thread_that_it_waits_for
        faults/test_calls.py::test_a_finalizer_of_a_callback_that_waits_for_the_pool
    from a signal handler
        faults/test_calls.py::test_signal_handlers_that_call_the_pool_and_wait
    from 16 threads
        faults/test_calls.py::test_sixteen_threads_share_one_pool

close, terminate, join, garbage collection, exit
    in any order
        faults/test_endings.py::test_any_order
    from any thread
        faults/test_endings.py::test_from_many_threads_at_once
    from a callback
        faults/test_endings.py::test_from_a_callback
    from a signal handler
        faults/test_endings.py::test_from_a_signal_handler_anywhere_in_a_call
        faults/test_endings.py::test_within_a_call_that_would_have_to_end_first
    with imap half read
        faults/test_endings.py::test_an_imap_read_in_part_ends_with_its_pool
        faults/test_endings.py::test_an_imap_read_in_part_keeps_no_pool_from_closing
        faults/test_endings.py::test_a_dropped_imap_keeps_no_pool_from_closing
    under full load
        faults/test_endings.py::test_terminate_under_full_load
        faults/test_endings.py::test_close_under_full_load_does_all_that_was_asked_for
    while workers start
        faults/test_endings.py::test_terminate_while_workers_start
    SIGTERM ignored; stuck in C
        faults/test_endings.py::test_workers_that_do_not_want_to_end
    what is waited for
        pool/test_lifecycle.py::test_terminate_gives_every_pending_call_an_error
    what is left
        pool/test_lifecycle.py::test_an_ended_pool_leaves_no_process_no_thread_and_no_descriptor
    garbage
        pool/test_lifecycle.py::test_a_pool_nobody_refers_to_ends
        faults/test_endings.py::test_a_pool_forgotten_under_load_ends
    the interpreter's exit
        pool/test_lifecycle.py::test_a_program_that_ends_without_a_word_ends
        faults/test_endings.py::test_the_interpreters_exit_whatever_goes_on
        faults/test_endings.py::test_the_interpreters_exit_with_calls_in_atexit

The pool's own process
    Ctrl-C
        pool/test_lifecycle.py::test_ctrl_c_is_one_interrupt_and_leaves_nothing
    at any instruction
        faults/test_parent.py::test_ctrl_c_at_any_instruction_is_one_interrupt_and_leaves_nothing
    killed
        pool/test_lifecycle.py::test_no_worker_outlives_a_killed_parent
        faults/test_parent.py::test_a_killed_parents_segment_says_so_and_no_worker_is_left
        faults/test_parent.py::test_a_parent_killed_while_its_workers_start
    forks with other threads
        faults/test_parent.py::test_workers_forked_among_busy_threads
    is forked
        faults/test_parent.py::test_a_forked_child_harms_no_pool_of_its_parent
    is a daemonic worker
        pool/test_lifecycle.py::test_a_pool_works_within_a_daemonic_process

Hostile surroundings
    no space for the segment
        faults/test_hostile.py::test_no_space_for_the_segment
    no descriptors
        faults/test_hostile.py::test_file_descriptors_used_up
    no processes
        faults/test_hostile.py::test_no_more_processes_allowed
    a reader that dies
        faults/test_hostile.py::test_readers_that_die_in_the_middle
    garbage, nothing, 100 MB
        faults/test_hostile.py::test_clients_that_attack_disturb_no_work_and_no_other_client
    another user
        faults/test_hostile.py::test_another_users_client_is_refused

What stands still
    the parent
        faults/test_stops.py::test_a_parent_stopped_and_continued
    a worker
        faults/test_stops.py::test_others_work_on_beside_a_stopped_worker
        faults/test_stops.py::test_terminate_with_a_stopped_worker
    all of them
        faults/test_stops.py::test_all_workers_stopped_at_once_and_continued
    with its claim lock held
        faults/test_stops.py::test_others_work_on_beside_one_stopped_with_its_claim_lock
    and is killed then
        faults/test_stops.py::test_a_worker_killed_with_its_claim_lock_held
    the clock, set back
        faults/test_stops.py::test_a_clock_set_back_changes_no_call
"""
