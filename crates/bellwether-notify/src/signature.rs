//! Signatures of webhooks as <https://github.com/standard-webhooks/standard-webhooks> specifies them: HMAC-SHA256 over
//! `id.timestamp.body`, with a key that is written `whsec_` and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How many bytes a key has, by the specification.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret is no signing key: it is `whsec_` and the base64 of 24 to 64 bytes")]
pub struct KeyError;

fn key(secret: &str) -> Result<Vec<u8>, KeyError> {
    let encoded = secret.trim().strip_prefix("whsec_").ok_or(KeyError)?;
    let key = STANDARD.decode(encoded).map_err(|_| KeyError)?;
    if KEY_BYTES.contains(&key.len()) { Ok(key) } else { Err(KeyError) }
}

/// The header `webhook-signature`.
///
/// # Errors
/// The secret is no key.
pub fn sign(secret: &str, id: &str, seconds: i64, body: &[u8]) -> Result<String, KeyError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).map_err(|_| KeyError)?;
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification (`spec/standard-webhooks.md`, "Symmetric signatures" in its libraries' tests).
    #[test]
    fn signs_as_the_specification_does() {
        let signed = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for secret in
            ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%"]
        {
            assert_eq!(sign(secret, "m", 0, b""), Err(KeyError), "{secret}");
        }
    }
}
