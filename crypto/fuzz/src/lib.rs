//! What the fuzz targets share: the vaults of the test vectors, so that inputs mean the same in every run.

use std::sync::LazyLock;

use scaup_crypto::{CipherCombo, Cryptor, Masterkey, MasterkeyFile, VaultConfig};

/// The test vectors, made by Cryptomator's own library.
static VECTORS: LazyLock<serde_json::Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../tests/vectors.json")).expect("the vectors are JSON")
});

/// The vector of this name.
pub fn vector(name: &str) -> &'static str {
    VECTORS[name].as_str().expect("a vector of that name")
}

/// The bytes of the vector of this name.
pub fn vector_bytes(name: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(vector(name).as_bytes()).expect("hexadecimal")
}

/// The masterkey of the vectors.
pub fn masterkey() -> Masterkey {
    let file = MasterkeyFile::parse(vector("masterkey.json").as_bytes()).expect("a masterkey file");
    file.unlock(vector("password")).expect("its password")
}

/// A vault of either combo, with the keys of the vectors and Cryptomator's own shortening threshold.
pub fn vaults() -> [Cryptor; 2] {
    [CipherCombo::SivGcm, CipherCombo::SivCtrMac].map(|cipher_combo| vault(cipher_combo, 220))
}

/// A vault with the keys of the vectors.
pub fn vault(cipher_combo: CipherCombo, shortening_threshold: usize) -> Cryptor {
    Cryptor::new(masterkey(), VaultConfig { format: 8, cipher_combo, shortening_threshold })
}
