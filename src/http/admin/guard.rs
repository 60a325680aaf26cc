//! Who may ask: programs on this machine, and no web page in one of its browsers.
//!
//! The listener has no password: it is for everybody on this machine. A browser connects for pages from
//! anywhere, though. It always tells for which one: in `Host`, when the page's own name was pointed at this machine (DNS
//! rebinding), and in `Origin` and `Sec-Fetch-Site`, when a page sends something across (request forgery).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Refuses what a browser brings on behalf of a web page from elsewhere.
pub(super) async fn only_for_this_machine(request: Request, next: Next) -> Response {
    let Some(asked) = authority(&request) else {
        return misdirected();
    };
    if !is_this_machine(asked.host()) {
        return misdirected();
    }
    if !is_safe(request.method()) && comes_from_a_page_elsewhere(request.headers(), &asked) {
        let text = "a web page from elsewhere may change nothing here\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

fn misdirected() -> Response {
    let text = "this listener is for the machine itself: ask for localhost or its address\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

fn authority(request: &Request) -> Option<Authority> {
    let host = || request.headers().get(HOST)?.to_str().ok()?.parse().ok();
    request.uri().authority().cloned().or_else(host)
}

fn is_this_machine(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Programs send neither header. Other ports of this machine are elsewhere: anybody's page may be served there.
fn comes_from_a_page_elsewhere(headers: &HeaderMap, asked: &Authority) -> bool {
    let fetch_site = headers.get("sec-fetch-site");
    let strange_site = fetch_site.is_some_and(|site| site != "same-origin" && site != "none");
    let strange_origin = headers.get(ORIGIN).is_some_and(|origin| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Uri>().ok());
        origin.and_then(|uri| uri.authority().cloned()).as_ref() != Some(asked)
    });
    strange_site || strange_origin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_listener_answers_to_names_of_this_machine_only() {
        for good in ["localhost", "127.0.0.1", "127.0.0.9", "[::1]"] {
            assert!(is_this_machine(good), "{good}");
        }
        for bad in ["evil.example", "192.0.2.1", "localhost.evil.example", ""] {
            assert!(!is_this_machine(bad), "{bad}");
        }
    }

    #[test]
    fn a_web_page_from_elsewhere_may_change_nothing() {
        let asked: Authority = "127.0.0.1:8420".parse().expect("an authority");
        let elsewhere = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            comes_from_a_page_elsewhere(&headers, &asked)
        };
        assert!(!comes_from_a_page_elsewhere(&HeaderMap::new(), &asked));
        assert!(!elsewhere("origin", "http://127.0.0.1:8420"));
        assert!(!elsewhere("sec-fetch-site", "same-origin"));
        for bad in [
            "null",
            "https://evil.example",
            "http://127.0.0.1:3000",
            "http://localhost:8420",
            "nonsense",
        ] {
            assert!(elsewhere("origin", bad), "{bad}");
        }
        for bad in ["cross-site", "same-site"] {
            assert!(elsewhere("sec-fetch-site", bad), "{bad}");
        }
    }
}
