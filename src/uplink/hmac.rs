//! HMAC-SHA256, as the webhook and the object store want it. Pure.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // Every length of key is allowed.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_case_of_rfc_4231() {
        let mac = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(hex::encode(mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
