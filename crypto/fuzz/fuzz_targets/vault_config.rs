//! `vault.cryptomator`: a whole token, the header of one, and what a token that is signed claims.

#![no_main]

use std::sync::LazyLock;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use scaup_crypto::{Masterkey, UnverifiedConfig};
use scaup_crypto_fuzz::{masterkey, vector_bytes};
use sha2::Sha256;

static MASTERKEY: LazyLock<Masterkey> = LazyLock::new(masterkey);
static RAW_KEY: LazyLock<Vec<u8>> =
    LazyLock::new(|| [vector_bytes("masterkey.enc"), vector_bytes("masterkey.mac")].concat());

fn look_at(config: &UnverifiedConfig) {
    let _ = config.claimed_format();
    let _ = config.claimed_cipher_combo();
    if let Ok(name) = config.masterkey_file_name() {
        assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']));
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = UnverifiedConfig::parse(data) {
        look_at(&config);
        let _ = config.verify(&MASTERKEY);
    }

    let encoded = BASE64URL_NOPAD.encode(data);
    if let Ok(config) = UnverifiedConfig::parse(format!("{encoded}.e30.AA").as_bytes()) {
        look_at(&config);
    }

    let header = BASE64URL_NOPAD.encode(br#"{"kid":"masterkeyfile:masterkey.cryptomator","alg":"HS256"}"#);
    let signed = format!("{header}.{encoded}");
    let mac = Hmac::<Sha256>::new_from_slice(&RAW_KEY).expect("any length").chain_update(&signed).finalize();
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac.into_bytes()));
    let config = UnverifiedConfig::parse(token.as_bytes()).expect("a token of three parts");
    look_at(&config);
    if let Ok(config) = config.verify(&MASTERKEY) {
        assert_eq!(config.format, 8);
        let token = config.encode(&MASTERKEY, "masterkey.cryptomator").expect("values that were accepted");
        let again = UnverifiedConfig::parse(token.as_bytes()).and_then(|again| again.verify(&MASTERKEY));
        assert_eq!(again, Ok(config));
    }
});
