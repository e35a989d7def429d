//! Every scenario of `just soak`, scaled down.

use std::process::Command;

/// Runs one, which says itself what it saw.
fn soak(name: &str, scale: &str) {
    let soak = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args([name, "--scale", scale])
        .status()
        .unwrap();
    assert!(soak.success(), "{name} failed: see its output");
}

#[test]
fn idle_websockets_stay_and_cost_little() {
    soak("websockets", "0.05");
}

#[test]
fn a_good_client_does_not_notice_slow_ones() {
    soak("slow", "0.1");
}

#[test]
fn much_goes_through_in_flat_memory() {
    soak("bulk", "0.003");
}

#[test]
fn long_pages_are_rewritten_in_flat_memory() {
    soak("pages", "0.1");
}

#[test]
fn readers_never_see_half_a_lease() {
    soak("lease", "0.04");
}

#[test]
fn a_port_that_changes_hands_shows_no_foreign_byte() {
    soak("owners", "0.02");
}

#[test]
fn a_private_localhost_keeps_nothing_of_those_that_are_gone() {
    soak("localhost", "0.1");
}
