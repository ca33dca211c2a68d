//! Chunks: 8 bytes of number, then the chunk.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use scaup_crypto::{CLEARTEXT_CHUNK_LEN, ChunkNumber, ContentError, Cryptor, FileHeader};
use scaup_crypto_fuzz::{vaults, vector_bytes};

static FILES: LazyLock<[(Cryptor, FileHeader); 2]> = LazyLock::new(|| {
    vaults().map(|vault| {
        let header = vector_bytes(&format!("{}.header", vault.config().cipher_combo));
        let header = vault.decrypt_header(&header).expect("an authentic header");
        (vault, header)
    })
});

fuzz_target!(|data: &[u8]| {
    let Some((number, chunk)) = data.split_first_chunk() else { return };
    let number = ChunkNumber(u64::from_be_bytes(*number));
    for (vault, header) in &*FILES {
        if let Ok(text) = vault.decrypt_chunk(header, number, chunk) {
            assert_eq!(text.len() + vault.config().cipher_combo.chunk_overhead(), chunk.len());
        }
        match vault.encrypt_chunk(header, number, chunk) {
            Ok(encrypted) => {
                assert_eq!(vault.decrypt_chunk(header, number, &encrypted).expect("just encrypted"), chunk);
                assert_eq!(
                    vault.decrypt_chunk(header, ChunkNumber(!number.0), &encrypted),
                    Err(ContentError::Chunk)
                );
            }
            Err(error) => {
                assert_eq!(error, ContentError::Length(chunk.len()));
                assert!(chunk.len() > CLEARTEXT_CHUNK_LEN);
            }
        }
    }
});
