//! Every story on every kind of cluster: `embedded::NAME`, `docker::NAME`, and with Slurm itself
//! `slurm::NAME` and `slurm_cgroup::NAME`; where it matters what containers may, `docker_confined::NAME` too.
//!
//! One module per chapter. The first seven chapters are the main path; the others are weather. A story that a cluster cannot hold says what it lacked, and passes.

mod a_host_of_its_own;
mod a_localhost_of_ones_own;
mod a_session_starts;
mod a_terminal;
mod an_ide_on_a_socket;
mod both_in_a_browser;
mod endings;
mod homes;
mod hostile_pages;
mod impostors;
mod its_assets_load_too;
mod live_reload_reaches_the_browser;
mod live_server_is_served_under_its_port;
mod nodes_and_networks;
mod only_the_proxy_port_is_tunnelled;
mod other_ides;
mod other_ways_to_the_node;
mod single_user;
mod slurm_is_unwell;
mod the_job_goes_away;
mod the_lease_is_lost;
mod the_login_node;
mod the_manager_restarts;
mod the_proxy_publishes_its_port;
mod the_suite_judges_others;
mod the_tunnel_drops;
mod two_users_share_a_node;
mod wrong_ports;

macro_rules! on_every_cluster {
    ($($chapter:ident: $($story:ident)+;)+) => {
        on_one_cluster!(embedded Embedded $($($chapter $story)+)+
            the_login_node one_is_cut_off_while_another_logs_in_slowly
            slurm_is_unwell slurm_talks_nonsense
            a_terminal a_session_is_had_from_a_terminal; endings a_run_to_be_killed);
        on_one_cluster!(docker Docker $($($chapter $story)+)+; endings a_run_to_be_killed);
        on_one_cluster!(slurm Slurm $($($chapter $story)+)+; endings a_run_to_be_killed);
        on_one_cluster!(slurm_cgroup SlurmCgroup $($($chapter $story)+)+; endings a_run_to_be_killed);
    };
}

macro_rules! on_one_cluster {
    ($name:ident $kind:ident $($chapter:ident $story:ident)+; $($ending:ident $endless:ident)?) => {
        mod $name {
            use e2e::cluster::$kind;
            use e2e::story::{Story, tell_on};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() -> Story {
                    tell_on(&$kind, super::$chapter::$story(&$kind)).await
                }
            )+

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[ignore = "never ends; another story starts it and kills it"]
                async fn $endless() -> Story {
                    tell_on(&$kind, super::$ending::$endless(&$kind)).await
                }
            )?
        }
    };
}

on_every_cluster! {
    a_session_starts:
        a_session_starts_where_it_is_wanted
        nothing_is_shown_without_a_sign_in;
    the_proxy_publishes_its_port:
        the_proxy_publishes_its_port
        a_plain_shell_loop_finds_the_port;
    only_the_proxy_port_is_tunnelled:
        only_the_proxy_port_is_tunnelled;
    live_server_is_served_under_its_port:
        live_server_is_served_under_its_port;
    its_assets_load_too:
        its_assets_load_too;
    live_reload_reaches_the_browser:
        live_reload_reaches_the_browser
        a_page_in_chromium_changes_by_itself
        browser_sync_reloads_under_the_prefix;
    two_users_share_a_node:
        two_users_have_the_same_ports
        two_users_share_a_node;
    both_in_a_browser:
        both_work_by_the_managers_page;
    a_localhost_of_ones_own:
        squatters_are_no_obstacle
        a_private_server_is_locked
        listeners_of_a_parallel_program_stay_in_reach
        the_supervisor_is_killed;
    a_host_of_its_own:
        a_dev_server_has_a_host_of_its_own
        nobody_else_gets_to_that_host
        a_page_on_a_host_of_its_own_is_alone;
    hostile_pages:
        a_dev_servers_page_is_not_the_managers
        a_page_of_another_site_is_not_the_managers;
    wrong_ports:
        nothing_listens
        it_is_not_my_server;
    the_tunnel_drops:
        the_tunnel_drops_and_heals;
    the_lease_is_lost:
        a_deleted_lease_comes_back;
    the_login_node:
        the_login_nodes_sshd_is_restarted;
    the_job_goes_away:
        the_job_is_cancelled
        the_job_is_requeued_to_another_node
        a_node_dies_and_its_job_moves;
    the_manager_restarts:
        the_manager_is_killed_and_comes_back
        the_only_users_tunnel_comes_back
        one_user_has_two_sessions
        an_idle_session_is_cancelled;
    slurm_is_unwell:
        the_controller_is_down;
    nodes_and_networks:
        a_node_freezes_and_goes_on
        a_node_falls_off_the_network
        a_node_is_slow_to_send
        a_proxy_is_killed;
    homes:
        the_homes_are_full
        a_home_is_read_only
        a_lease_is_seen_late
        a_clock_is_off;
    other_ides:
        another_ide_gets_no_proxy
        each_session_runs_the_ide_of_its_wish;
    an_ide_on_a_socket:
        only_its_user_connects_to_it;
    other_ways_to_the_node:
        the_proxy_listens_on_the_loopback_alone
        the_proxy_listens_on_a_socket_alone
        a_step_of_the_job_leads_to_the_proxy;
    impostors:
        a_stale_lease_is_not_believed
        an_impostor_on_the_old_port_gets_nothing
        an_impostor_where_the_job_was_hears_nothing;
    the_suite_judges_others:
        our_proxy_is_judged_as_any_other
        our_manager_is_judged_as_any_other;
    single_user:
        the_tunnel_ends_at_the_configured_port
        a_taken_port_is_an_error_that_names_the_holder;
    endings:
        the_end_leaves_nothing_behind
        a_killed_run_disturbs_no_other;
}

on_one_cluster! {
    docker_confined DockerConfined
    two_users_share_a_node two_users_have_the_same_ports
    a_localhost_of_ones_own squatters_are_no_obstacle
    a_localhost_of_ones_own a_private_server_is_locked;
}
