//! What a name server sends, whoever it is.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tcpwarden::host::names::{
    Listing,
    wire::{Family, Reply, reply},
};

fuzz_target!(|message: &[u8]| {
    let Ok(name) = "db.example".parse() else { return };
    for family in [Family::V4, Family::V6] {
        let Reply::Answer(Listing::Listed(addresses, left_out)) = reply(message, &name, family) else {
            continue;
        };
        assert!(addresses.is_sorted() && (1..=64).contains(&addresses.len()));
        assert!(left_out == 0 || addresses.len() == 64);
        for address in addresses {
            // Whatever is listed was sent.
            let was_sent = match address {
                IpAddr::V4(v4) => message.windows(4).any(|bytes| bytes == v4.octets()),
                IpAddr::V6(v6) => message.windows(16).any(|bytes| bytes == v6.octets()),
            };
            assert!(was_sent, "{address}");
        }
    }
});
