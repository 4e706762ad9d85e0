//! The incidents that are seen from the side that connects (I2 to I5), each alone: its own alert and no other, and the figures
//! of the wire.

use lab::{
    aborted_early::{self, Tls},
    ephemeral_ports,
    failover::{self, Death},
    hanging_dependency::{self, Link},
    plays::until_right,
    stale_address::{self, Watched},
    story::Story,
};

/// Plays until a play is right.
fn plays(play: impl Fn(&mut Story)) {
    until_right(|| {
        let mut story = Story::quiet();
        play(&mut story);
        story.outcome()
    });
}

#[test]
fn incident_2_the_name_of_a_backend_that_moved_is_watched() {
    plays(|story| stale_address::play(story, Watched::Yes));
}

#[test]
fn incident_2_the_name_of_a_backend_that_moved_is_not_watched() {
    plays(|story| stale_address::play(story, Watched::No));
}

#[test]
fn incident_3_a_primary_that_refuses() {
    plays(|story| failover::play(story, Death::Refuses));
}

#[test]
fn incident_3_a_primary_that_is_silent() {
    plays(|story| failover::play(story, Death::Silent));
}

#[test]
fn incident_4_calls_hang() {
    plays(|story| hanging_dependency::play(story, Link::Calls));
}

#[test]
fn incident_4_an_accept_queue_is_full() {
    plays(|story| hanging_dependency::play(story, Link::Queue));
}

#[test]
fn incident_4_connections_are_not_closed() {
    plays(|story| hanging_dependency::play(story, Link::Leavers));
}

#[test]
fn incident_4_the_whole_chain() {
    plays(|story| hanging_dependency::play(story, Link::Chain));
}

#[test]
fn incident_5_phones_that_are_too_old() {
    plays(|story| aborted_early::play(story, Tls::V13));
}

#[test]
fn incident_5_phones_that_are_too_new() {
    plays(|story| aborted_early::play(story, Tls::V12));
}

#[test]
fn ports_of_our_own_run_out_towards_one_destination() {
    plays(|story| ephemeral_ports::play(story, 1));
}

#[test]
fn ports_of_our_own_suffice_for_many_destinations() {
    plays(|story| ephemeral_ports::play(story, 10));
}
