//! `masterkey.cryptomator`, which is also unlocked where that is quick: the parser bounds its cost, but at about a
//! second.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scaup_crypto::MasterkeyFile;
use serde::Deserialize;

/// Most that N times r may be, for more than a thousand runs each second.
const QUICK: u64 = 1 << 8;

/// The members that say what unlocking costs. Others are passed over like the parser does it, not even as text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    scrypt_cost_param: u64,
    scrypt_block_size: u64,
}

fuzz_target!(|data: &[u8]| {
    let Ok(file) = MasterkeyFile::parse(data) else { return };
    assert_ne!(file.version(), 0);
    let cost: Cost = serde_json::from_slice(data).expect("it was parsed");
    let cost = cost.scrypt_cost_param * cost.scrypt_block_size;
    assert!(cost <= 8 * 32768 * 8, "not bounded");
    if cost <= QUICK {
        let _ = file.unlock("password");
    }
});
