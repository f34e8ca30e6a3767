//! The suite on object stores: Ceph, Garage where there is one, s3s-fs, and servers that refuse or ignore conditions.
//!
//! Only a server that keeps writers apart by itself can promise one winner of a race; the others promise the rest. To s3s-fs a
//! prefix of keys is a directory, which it can neither read nor deny.

use super::objects::garage;
use super::objects::odd::{Manner, Odd};
use super::objects::real;
use super::objects::within::Within;
use std::sync::Arc;
use vaultfs::store::{Exclusion, Store};

macro_rules! on {
    ($($server:ident: $start:expr; $($fact:ident)*;)*) => {$(
        mod $server {
            use super::*;
            $(
                #[test]
                fn $fact() {
                    if let Some((_server, store)) = ($start)(stringify!($fact)) {
                        super::super::super::$fact(&store);
                    }
                }
            )*
        }
    )*};
}

/// A guard that keeps the server, and the store to test.
type Started<G> = Option<(G, Arc<dyn Store>)>;

fn ceph(test: &str) -> Started<()> {
    real::ceph(test).map(|ceph| {
        let store: Arc<dyn Store> = ceph.access.fresh(Exclusion::Atomic);
        ((), store)
    })
}

fn garage(test: &str) -> Started<()> {
    garage::garage(test).map(|garage| {
        let store: Arc<dyn Store> = garage.access.fresh(Exclusion::Checked);
        ((), store)
    })
}

fn within(_: &str) -> Started<Within> {
    let server = Within::start();
    let store = server.access.fresh(Exclusion::Atomic);
    Some((server, store))
}

fn odd(manner: Manner, exclusion: Exclusion) -> Started<Odd> {
    let server = Odd::start(manner, 1);
    let store = server.access.fresh(exclusion);
    Some((server, store))
}

mod all {
    use super::*;

    on! {
        on_ceph: ceph;
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            of_many_writers_of_one_key_exactly_one_wins
            a_range_is_exact_or_an_error
            what_is_not_there_is_not_found
            a_prefix_of_keys_is_no_object
            an_object_above_the_limit_is_not_read
            a_listing_is_sorted_and_complete
            a_listing_shows_each_acknowledged_object_while_others_are_written
            a_deleted_object_is_gone_and_its_name_is_free;
        on_an_honest_server: |_: &str| odd(Manner::Honours, Exclusion::Atomic);
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            of_many_writers_of_one_key_exactly_one_wins
            a_range_is_exact_or_an_error
            what_is_not_there_is_not_found
            a_prefix_of_keys_is_no_object
            an_object_above_the_limit_is_not_read
            a_listing_is_sorted_and_complete
            a_listing_shows_each_acknowledged_object_while_others_are_written
            a_deleted_object_is_gone_and_its_name_is_free;
        on_garage: garage;
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            a_range_is_exact_or_an_error
            what_is_not_there_is_not_found
            a_prefix_of_keys_is_no_object
            an_object_above_the_limit_is_not_read
            a_listing_is_sorted_and_complete
            a_listing_shows_each_acknowledged_object_while_others_are_written
            a_deleted_object_is_gone_and_its_name_is_free;
        on_a_server_that_ignores_conditions: |_: &str| odd(Manner::Ignores, Exclusion::Checked);
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            what_is_not_there_is_not_found
            a_deleted_object_is_gone_and_its_name_is_free;
        on_a_server_that_refuses_conditions: |_: &str| odd(Manner::Refuses, Exclusion::Checked);
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            what_is_not_there_is_not_found
            a_deleted_object_is_gone_and_its_name_is_free;
        on_s3s: within;
            an_object_reads_back_as_it_was_written
            put_new_never_overwrites
            a_range_is_exact_or_an_error
            what_is_not_there_is_not_found
            an_object_above_the_limit_is_not_read
            a_listing_is_sorted_and_complete
            a_listing_shows_each_acknowledged_object_while_others_are_written
            a_deleted_object_is_gone_and_its_name_is_free;
    }
}

#[test]
fn a_probe_finds_out_what_a_server_does_with_conditions_and_leaves_nothing() {
    for (manner, expected) in [
        (Manner::Honours, Exclusion::Atomic),
        (Manner::Ignores, Exclusion::Checked),
        (Manner::Refuses, Exclusion::Checked),
    ] {
        let server = Odd::start(manner, 2);
        let store = server.access.store("vault/p");
        assert_eq!(store.probe_exclusion().unwrap(), expected, "{manner:?}");
        assert_eq!(server.holds(), (vec![], 0));
    }
}

#[test]
fn a_vault_moved_to_a_server_that_ignores_conditions_still_overwrites_nothing() {
    for manner in [Manner::Ignores, Manner::Refuses] {
        let server = Odd::start(manner, 3);
        super::put_new_never_overwrites(&*server.access.fresh(Exclusion::Atomic));
    }
}

#[test]
fn a_probe_tells_real_servers_apart() {
    let test = "a_probe_tells_real_servers_apart";
    if let Some(ceph) = real::ceph(test) {
        assert_eq!(
            ceph.access.fresh(Exclusion::Checked).probe_exclusion().unwrap(),
            Exclusion::Atomic
        );
    }
    if let Some(garage) = garage::garage(test) {
        let store = garage.access.fresh(Exclusion::Checked);
        assert_eq!(store.probe_exclusion().unwrap(), Exclusion::Checked);
    }
}
