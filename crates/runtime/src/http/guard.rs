//! A web page must not be able to drive a listener on loopback.
//!
//! A browser on the same machine can be made to send requests here by any page it shows: across
//! origins, or, after DNS rebinding, under the page's own name. So a request is served only if its
//! Host is a loopback name, and its Origin, where there is one, is the listener's own. Tools that
//! aren't browsers send no Origin and aren't affected.
//!
//! The port in Host isn't compared with the listener's: it is another one behind a port forwarding,
//! and it doesn't help an attacker, who must come from an origin of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

use super::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Says why a request must not be served without knowing who sent it.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = host(headers)?;
    if !host.is_loopback() {
        return Err(host_problem(StatusCode::FORBIDDEN, "host_not_allowed", Some(host.host.into())));
    }
    // A request in absolute form: RFC 9112, 3.2.2 gives the target's authority precedence over Host.
    if let Some(authority) = uri.authority().map(Authority::as_str)
        && !HostPort::parse(authority).is_some_and(|target| target.is_loopback())
    {
        return Err(host_problem(StatusCode::FORBIDDEN, "host_not_allowed", Some(authority.into())));
    }
    check_origin(&host, method, headers)
}

/// Says why a request must not be served, whoever sent it: where each caller shows a token, any name may be the host's, but a
/// foreign web page is still refused.
pub fn check_page(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    check_origin(&host(headers)?, method, headers)
}

fn host(headers: &HeaderMap) -> Result<HostPort<'_>, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, _) => return Err(host_problem(StatusCode::BAD_REQUEST, "host_missing", None)),
        (Some(_), Some(_)) => return Err(host_problem(StatusCode::BAD_REQUEST, "host_repeated", None)),
    };
    host.to_str().ok().and_then(HostPort::parse).ok_or_else(|| {
        let shown = String::from_utf8_lossy(host.as_bytes()).into_owned();
        host_problem(StatusCode::BAD_REQUEST, "host_invalid", Some(shown))
    })
}

fn check_origin(host: &HostPort<'_>, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if let Some(origin) = origins.next() {
        let own = origins.next().is_none() && origin.to_str().is_ok_and(|origin| host.is_origin(origin));
        if !own {
            return Err(origin_problem("origin", &String::from_utf8_lossy(origin.as_bytes())));
        }
    }
    // Where there is no Origin (an image, a script), browsers still say where the request comes from. Only
    // somebody following a link from elsewhere is let in.
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        let own = matches!(site.as_bytes(), b"same-origin" | b"none");
        let link = (method == Method::GET || method == Method::HEAD)
            && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
        if !own && !link {
            return Err(origin_problem("sec-fetch-site", &String::from_utf8_lossy(site.as_bytes())));
        }
    }
    Ok(())
}

fn host_problem(status: StatusCode, code: &'static str, value: Option<String>) -> Problem {
    let problem = Problem::new(status, code).field("host").detail(
        "the Host header must be given once and name this machine by a loopback name: localhost, 127.0.0.1 or [::1], \
         each with or without a port",
    );
    match value {
        Some(value) => problem.value(value),
        None => problem,
    }
}

fn origin_problem(field: &'static str, value: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "origin_not_allowed").field(field).value(value).detail(
        "a web page of another origin may not use this address; programs that aren't browsers send no Origin header",
    )
}

/// A host and its port as Host and Origin write them.
struct HostPort<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> HostPort<'a> {
    /// `None` for what is neither a name, an IPv4 address nor an IPv6 address in brackets, with an
    /// optional port.
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let end = rest.find(']')?;
                let _: Ipv6Addr = rest[..end].parse().ok()?;
                (&text[..end + 2], &rest[end + 1..])
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            // `u16::from_str` would take a sign.
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let sane = host.starts_with('[') || (!host.is_empty() && host.bytes().all(name));
        sane.then_some(Self { host, port })
    }

    fn is_loopback(&self) -> bool {
        if let Some(address) = self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        }
        if let Ok(address) = self.host.parse::<Ipv4Addr>() {
            return address.is_loopback();
        }
        // Names below localhost are left out: not every resolver keeps them on the machine (RFC 6761).
        let name = self.host.strip_suffix('.').unwrap_or(self.host);
        name.eq_ignore_ascii_case("localhost")
    }

    /// Whether an Origin header's value is this host and port.
    fn is_origin(&self, origin: &str) -> bool {
        let (rest, port_default) = match origin.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (rest, 80),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (rest, 443),
            _ => return false,
        };
        HostPort::parse(rest).is_some_and(|other| {
            other.host.eq_ignore_ascii_case(self.host)
                && other.port.unwrap_or(port_default) == self.port.unwrap_or(port_default)
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn ask(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), (u16, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        check(&method, &uri.parse().unwrap(), &map).map_err(|p| (p.status().as_u16(), p.code().to_owned()))
    }

    fn host(value: &str) -> Result<(), (u16, String)> {
        ask(Method::POST, "/", &[("host", value)])
    }

    #[test]
    fn loopback_hosts_are_served() {
        for good in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "LocalHost.",
            "localhost.:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.8.9.10:65535",
            "[::1]",
            "[::1]:8080",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for (bad, status, code) in [
            // What a browser sends after DNS rebinding: the attacker's own name.
            ("evil.example", 403, "host_not_allowed"),
            ("evil.example:8080", 403, "host_not_allowed"),
            ("EVIL.EXAMPLE.", 403, "host_not_allowed"),
            ("127.0.0.1.evil.example", 403, "host_not_allowed"),
            ("localhost.evil.example", 403, "host_not_allowed"),
            ("evil.localhost", 403, "host_not_allowed"),
            ("notlocalhost", 403, "host_not_allowed"),
            ("localhost..", 403, "host_not_allowed"),
            ("127.0.0.1.nip.io:8080", 403, "host_not_allowed"),
            ("0.0.0.0", 403, "host_not_allowed"),
            ("10.0.0.1", 403, "host_not_allowed"),
            ("192.168.1.1:8080", 403, "host_not_allowed"),
            ("128.0.0.1", 403, "host_not_allowed"),
            ("2130706433", 403, "host_not_allowed"),
            ("0x7f.1", 403, "host_not_allowed"),
            ("127.1", 403, "host_not_allowed"),
            ("127.0.0.1.", 403, "host_not_allowed"),
            ("[::]", 403, "host_not_allowed"),
            ("[::2]:8080", 403, "host_not_allowed"),
            ("[fe80::1]", 403, "host_not_allowed"),
            ("[::ffff:10.0.0.1]", 403, "host_not_allowed"),
            ("", 400, "host_invalid"),
            (":8080", 400, "host_invalid"),
            ("::1", 400, "host_invalid"),
            ("[::1", 400, "host_invalid"),
            ("[::1]x", 400, "host_invalid"),
            ("[::1]:", 400, "host_invalid"),
            ("[localhost]", 400, "host_invalid"),
            ("localhost:", 400, "host_invalid"),
            ("localhost:99999", 400, "host_invalid"),
            ("localhost:+80", 400, "host_invalid"),
            ("localhost:80:80", 400, "host_invalid"),
            ("user@localhost", 400, "host_invalid"),
            ("localhost/x", 400, "host_invalid"),
            ("localhost, evil.example", 400, "host_invalid"),
            (" localhost x", 400, "host_invalid"),
            ("локалхост", 400, "host_invalid"),
        ] {
            assert_eq!(host(bad), Err((status, code.into())), "{bad:?}");
        }
    }

    #[test]
    fn host_must_be_there_once() {
        assert_eq!(ask(Method::GET, "/", &[]), Err((400, "host_missing".into())));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(ask(Method::GET, "/", &twice), Err((400, "host_repeated".into())));
    }

    #[test]
    fn the_absolute_form_of_a_target_is_checked_too() {
        let host = [("host", "localhost")];
        assert_eq!(ask(Method::GET, "http://localhost:8080/x", &host), Ok(()));
        assert_eq!(ask(Method::GET, "http://evil.example/x", &host), Err((403, "host_not_allowed".into())));
    }

    #[test]
    fn only_the_listeners_own_origin_is_served() {
        let refused = Err((403, "origin_not_allowed".to_owned()));
        for (host, origin, expected) in [
            ("localhost:8080", "http://localhost:8080", Ok(())),
            ("LOCALHOST:8080", "HTTP://localhost:8080", Ok(())),
            ("localhost", "http://localhost", Ok(())),
            ("localhost:80", "http://localhost", Ok(())),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", Ok(())),
            ("[::1]:8080", "http://[::1]:8080", Ok(())),
            // Another program's page on this machine is foreign, too.
            ("localhost:8080", "http://localhost:3000", refused.clone()),
            ("localhost:8080", "http://127.0.0.1:8080", refused.clone()),
            ("localhost:8080", "https://localhost", refused.clone()),
            ("localhost:8080", "http://evil.example", refused.clone()),
            ("localhost:8080", "http://localhost:8080.evil.example", refused.clone()),
            ("localhost:8080", "http://localhost:8080@evil.example", refused.clone()),
            ("localhost:8080", "http://evil.example:8080", refused.clone()),
            ("localhost:8080", "null", refused.clone()),
            ("localhost:8080", "", refused.clone()),
            ("localhost:8080", "file://", refused.clone()),
            ("localhost:8080", "chrome-extension://localhost:8080", refused.clone()),
        ] {
            let headers = [("host", host), ("origin", origin)];
            assert_eq!(ask(Method::POST, "/", &headers), expected, "{host} {origin:?}");
        }
        let two =
            [("host", "localhost:1"), ("origin", "http://localhost:1"), ("origin", "http://evil.example")];
        assert_eq!(ask(Method::GET, "/", &two), refused);
    }

    #[test]
    fn a_page_elsewhere_may_link_here_and_no_more() {
        let site = |method, site, mode| {
            let headers = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            ask(method, "/", &headers).is_ok()
        };
        assert!(site(Method::GET, "same-origin", "cors"));
        assert!(site(Method::GET, "none", "navigate"));
        assert!(site(Method::GET, "cross-site", "navigate"));
        assert!(!site(Method::GET, "cross-site", "no-cors"));
        assert!(!site(Method::GET, "same-site", "no-cors"));
        assert!(!site(Method::POST, "cross-site", "navigate"));
    }
}
