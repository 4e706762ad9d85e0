//! The kernel's types, BTF.

#![no_main]

use libfuzzer_sys::fuzz_target;
use probe_ebpf::fields::{ABSENT, FIELDS};
use tcpwarden::probe::offsets::Offsets;

fuzz_target!(|bytes: &[u8]| {
    let Ok(offsets) = Offsets::parse(bytes) else { return };
    assert_eq!(offsets.fields.len(), FIELDS.len());
    // Without one of them there is an error instead.
    assert!(!offsets.fields.contains(&ABSENT));
    // A name of the list stands in the string section, or nothing was found under it.
    for name in FIELDS.iter().flat_map(|field| field.member.split('.').chain([field.structure])) {
        assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()), "nothing is named {name}");
    }
});
