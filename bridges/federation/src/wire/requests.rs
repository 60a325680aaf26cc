//! Signed requests: RFC 9421 with one fixed list of components (PROTOCOL 8).
//!
//! There is one way to sign a request here, so there is little to parse and nothing to negotiate.
//! The clock, the list of nonces seen and the key are the caller's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::keys::KeyDocument;
use super::sign::{OwnKey, hash};
use crate::ident::{Kid, ServerName};

/// How far `created` may be from the receiver's clock, in seconds.
pub const MAX_SKEW: u64 = 300;
const TAG: &str = "chat1";
const COMPONENTS: &str = r#"("@method" "@authority" "@path" "@query" "content-digest")"#;

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Covered<'a> {
    pub method: &'a str,
    /// The receiver's domain, without a port.
    pub authority: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub body: &'a [u8],
}

/// The three headers of a signed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    pub content_digest: String,
    pub signature_input: String,
    pub signature: String,
}

/// A request that says who sent it. Nothing is proved before [`Claim::verify`].
#[derive(Debug, Clone)]
pub struct Claim {
    pub server: ServerName,
    pub kid: Kid,
    pub created: u64,
    pub nonce: String,
    base: String,
    signature: [u8; 64],
}

/// Why a request counts as not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the header {0} is missing, doubled or not of the form that PROTOCOL 8.1 asks for")]
    Header(&'static str),
    #[error("content-digest does not match the body")]
    Digest,
    #[error("created is more than {MAX_SKEW} s from this server's clock")]
    Time,
    #[error("the key {0} is not one of the server's")]
    Key(Kid),
    #[error("the signature does not verify")]
    Signature,
}

/// Signs a request. `nonce` has 16 to 64 letters and digits and is never used again.
pub fn sign(
    covered: Covered<'_>,
    server: &ServerName,
    key: &OwnKey,
    created: u64,
    nonce: &str,
) -> Headers {
    let content_digest = digest(covered.body);
    let params = format!(
        r#"{COMPONENTS};created={created};nonce="{nonce}";keyid="{server}/{}";tag="{TAG}""#,
        key.kid
    );
    let signature = key.sign(covered.base(&content_digest, &params).as_bytes());
    Headers {
        content_digest,
        signature_input: format!("chat={params}"),
        signature: format!("chat=:{}:", STANDARD.encode(signature)),
    }
}

/// Reads the headers of a request and checks that they belong to its body.
pub fn parse(covered: Covered<'_>, headers: &HeaderMap) -> Result<Claim, RequestError> {
    let content_digest = only(headers, "content-digest")?;
    if content_digest != digest(covered.body) {
        return Err(RequestError::Digest);
    }
    let input = only(headers, "signature-input")?;
    let params = input
        .strip_prefix("chat=")
        .ok_or(RequestError::Header("signature-input"))?;
    let (created, nonce, keyid) =
        parse_params(params).ok_or(RequestError::Header("signature-input"))?;
    let (server, kid) = keyid
        .split_once('/')
        .ok_or(RequestError::Header("signature-input"))?;
    let signature = only(headers, "signature")?
        .strip_prefix("chat=:")
        .and_then(|rest| rest.strip_suffix(':'))
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(RequestError::Header("signature"))?;
    Ok(Claim {
        server: ServerName::parse(server).map_err(|_| RequestError::Header("signature-input"))?,
        kid: Kid::parse(kid).map_err(|_| RequestError::Header("signature-input"))?,
        created,
        nonce: nonce.to_owned(),
        base: covered.base(content_digest, params),
        signature,
    })
}

impl Claim {
    /// Refuses what is too old, or from a clock too far ahead (attack F5).
    pub fn check_time(&self, now: u64) -> Result<(), RequestError> {
        if self.created.abs_diff(now) <= MAX_SKEW {
            Ok(())
        } else {
            Err(RequestError::Time)
        }
    }

    pub fn verify(&self, keys: &KeyDocument) -> Result<(), RequestError> {
        let key = (keys.server == self.server)
            .then(|| keys.key(&self.kid))
            .flatten();
        let key = key.ok_or_else(|| RequestError::Key(self.kid.clone()))?;
        if key.verify(self.base.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(RequestError::Signature)
        }
    }
}

impl Covered<'_> {
    /// The signature base of RFC 9421 2.5: one line for each component, no newline at the end.
    fn base(&self, content_digest: &str, params: &str) -> String {
        // RFC 9421 2.2.7: an absent query is signed as a lone question mark.
        let query = format!("?{}", self.query.unwrap_or(""));
        base(
            &[
                ("@method", self.method),
                ("@authority", self.authority),
                ("@path", self.path),
                ("@query", &query),
                ("content-digest", content_digest),
            ],
            params,
        )
    }
}

fn base(components: &[(&str, &str)], params: &str) -> String {
    let mut base = String::new();
    for (name, value) in components {
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {params}"));
    base
}

fn digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(hash(body)))
}

/// The one value of a header; two of them could be read differently by two readers.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, RequestError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| RequestError::Header(name)),
        _ => Err(RequestError::Header(name)),
    }
}

/// `created`, `nonce` and `keyid`, when nothing else but `tag` and `alg` is there, and each once.
fn parse_params(params: &str) -> Option<(u64, &str, &str)> {
    let (mut created, mut nonce, mut keyid, mut tag, mut alg) = (None, None, None, None, None);
    for param in params
        .strip_prefix(COMPONENTS)?
        .strip_prefix(';')?
        .split(';')
    {
        let (name, value) = param.split_once('=')?;
        let slot = match name {
            "created" => &mut created,
            "nonce" => &mut nonce,
            "keyid" => &mut keyid,
            "tag" => &mut tag,
            "alg" => &mut alg,
            _ => return None,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    if quoted(tag?)? != TAG || alg.is_some_and(|alg| alg != r#""ed25519""#) {
        return None;
    }
    let (created, nonce, keyid) = (created?, quoted(nonce?)?, quoted(keyid?)?);
    let digits = (1..=15).contains(&created.len()) && created.bytes().all(|b| b.is_ascii_digit());
    let fits = (16..=64).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    (digits && fits).then_some(())?;
    Some((created.parse().ok()?, nonce, keyid))
}

/// A string of RFC 8941 that needs no escapes.
fn quoted(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    let plain = inner
        .bytes()
        .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    plain.then_some(inner)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::wire::sign::PublicKey;

    const BODY: &[u8] = br#"{"txn":"1","events":[]}"#;

    fn server() -> ServerName {
        ServerName::parse("a.example").expect("a name")
    }

    fn key() -> OwnKey {
        OwnKey::from_seed(Kid::parse("k1").expect("a name"), &[1; 32])
    }

    fn keys() -> KeyDocument {
        KeyDocument::compose(&server(), &key(), &key().public().hash(), 0, 0)
    }

    fn covered() -> Covered<'static> {
        Covered {
            method: "POST",
            authority: "b.example",
            path: "/_chat/v1/push",
            query: None,
            body: BODY,
        }
    }

    fn headers() -> HeaderMap {
        let signed = sign(
            covered(),
            &server(),
            &key(),
            1_732_280_000,
            "0123456789abcdef",
        );
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-digest", signed.content_digest),
            ("signature-input", signed.signature_input),
            ("signature", signed.signature),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).expect("ASCII"));
        }
        headers
    }

    fn check(covered: Covered<'_>, headers: &HeaderMap) -> Result<(), RequestError> {
        parse(covered, headers)?.verify(&keys())
    }

    #[test]
    fn a_signed_request_verifies_and_says_who_sent_it() {
        let claim = parse(covered(), &headers()).expect("well formed");
        assert_eq!(
            (claim.server.as_str(), claim.kid.as_str(), claim.created),
            ("a.example", "k1", 1_732_280_000)
        );
        assert_eq!(claim.verify(&keys()), Ok(()));
        assert_eq!(claim.check_time(1_732_280_300), Ok(()));
        assert_eq!(claim.check_time(1_732_279_699), Err(RequestError::Time));
        assert_eq!(claim.check_time(1_732_280_301), Err(RequestError::Time));
    }

    #[test]
    fn f5_a_request_is_bound_to_method_receiver_path_query_and_body() {
        for changed in [
            Covered {
                method: "GET",
                ..covered()
            },
            Covered {
                authority: "c.example",
                ..covered()
            },
            Covered {
                path: "/_chat/v1/get",
                ..covered()
            },
            Covered {
                query: Some("x=1"),
                ..covered()
            },
        ] {
            assert_eq!(check(changed, &headers()), Err(RequestError::Signature));
        }
        assert_eq!(
            check(
                Covered {
                    body: b"{}",
                    ..covered()
                },
                &headers()
            ),
            Err(RequestError::Digest)
        );
    }

    #[test]
    fn any_other_form_of_the_headers_is_refused() {
        let good = headers()["signature-input"]
            .to_str()
            .expect("ASCII")
            .to_owned();
        for bad in [
            good.replace("\"@query\" ", ""),
            good.replace("chat1", "chat2"),
            good.replace(";tag=\"chat1\"", ""),
            format!("{good};expires=1"),
            format!("{good};tag=\"chat1\""),
            good.replace("created=1732280000", "created=1.5"),
            good.replace("0123456789abcdef", "short"),
            good.replace("a.example/k1", "A.example/k1"),
            good.replace("chat=", "sig1="),
            format!("{good}, other=()"),
        ] {
            let mut headers = headers();
            headers.insert(
                "signature-input",
                HeaderValue::from_str(&bad).expect("ASCII"),
            );
            assert_eq!(
                check(covered(), &headers),
                Err(RequestError::Header("signature-input")),
                "{bad}"
            );
        }
        let mut doubled = headers();
        doubled.append("signature", doubled["signature"].clone());
        assert_eq!(
            check(covered(), &doubled),
            Err(RequestError::Header("signature"))
        );
    }

    /// RFC 9421 B.2.6.
    #[test]
    fn the_signature_base_agrees_with_the_example_of_the_rfc() {
        let params = r#"("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#;
        let base = base(
            &[
                ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
                ("@method", "POST"),
                ("@path", "/foo"),
                ("@authority", "example.com"),
                ("content-type", "application/json"),
                ("content-length", "18"),
            ],
            params,
        );
        let key = PublicKey::parse("JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs").expect("a key");
        let signature = STANDARD
            .decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
            .expect("base64");
        assert!(key.verify(base.as_bytes(), &signature));
    }
}
