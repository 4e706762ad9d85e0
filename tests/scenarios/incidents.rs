//! The incidents that are seen from the side that connects (I2 to I5), each alone: its own alert and no other, and the figures
//! of the wire.

use lab::{
    aborted_early::{self, Tls},
    ephemeral_ports,
    failover::{self, Death},
    hanging_dependency::{self, Link},
    stale_address::{self, Watched},
    story::Story,
};

lab::scenarios! {
    Staged 80 s:
        incident_4_connections_are_not_closed;
    Staged 60 s:
        incident_2_the_name_of_a_backend_that_moved_is_watched,
        incident_2_the_name_of_a_backend_that_moved_is_not_watched,
        incident_4_calls_hang,
        incident_4_the_whole_chain,
        incident_5_phones_that_are_too_old,
        ports_of_our_own_run_out_towards_one_destination,
        ports_of_our_own_suffice_for_many_destinations;
    Staged 40 s:
        incident_3_a_primary_that_refuses,
        incident_3_a_primary_that_is_silent,
        incident_4_an_accept_queue_is_full,
        incident_5_phones_that_are_too_new;
}

/// Plays it, and fails where anything differs.
fn plays(play: impl Fn(&mut Story)) {
    let mut story = Story::quiet();
    play(&mut story);
    story.end();
}

fn incident_2_the_name_of_a_backend_that_moved_is_watched() {
    plays(|story| stale_address::play(story, Watched::Yes));
}

fn incident_2_the_name_of_a_backend_that_moved_is_not_watched() {
    plays(|story| stale_address::play(story, Watched::No));
}

fn incident_3_a_primary_that_refuses() {
    plays(|story| failover::play(story, Death::Refuses));
}

fn incident_3_a_primary_that_is_silent() {
    plays(|story| failover::play(story, Death::Silent));
}

fn incident_4_calls_hang() {
    plays(|story| hanging_dependency::play(story, Link::Calls));
}

fn incident_4_an_accept_queue_is_full() {
    plays(|story| hanging_dependency::play(story, Link::Queue));
}

fn incident_4_connections_are_not_closed() {
    plays(|story| hanging_dependency::play(story, Link::Leavers));
}

fn incident_4_the_whole_chain() {
    plays(|story| hanging_dependency::play(story, Link::Chain));
}

fn incident_5_phones_that_are_too_old() {
    plays(|story| aborted_early::play(story, Tls::V13));
}

fn incident_5_phones_that_are_too_new() {
    plays(|story| aborted_early::play(story, Tls::V12));
}

fn ports_of_our_own_run_out_towards_one_destination() {
    plays(|story| ephemeral_ports::play(story, 1));
}

fn ports_of_our_own_suffice_for_many_destinations() {
    plays(|story| ephemeral_ports::play(story, 10));
}
