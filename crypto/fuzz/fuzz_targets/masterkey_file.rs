//! `masterkey.cryptomator`, which is also unlocked where that is quick: the parser bounds its cost, but at about a second.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scaup_crypto::MasterkeyFile;

/// Most that N times r may be, for more than a thousand runs each second.
const QUICK: u64 = 1 << 8;

fuzz_target!(|data: &[u8]| {
    let Ok(file) = MasterkeyFile::parse(data) else { return };
    assert_ne!(file.version(), 0);
    let json: serde_json::Value = serde_json::from_slice(data).expect("it was parsed");
    let number = |name: &str| json[name].as_u64().expect("it was parsed");
    let cost = number("scryptCostParam") * number("scryptBlockSize");
    assert!(cost <= 8 * 32768 * 8, "not bounded");
    if cost <= QUICK {
        let _ = file.unlock("password");
    }
});
