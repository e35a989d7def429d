//! The field names that a proxy has to know, told from all others once, when a head is read.

macro_rules! names {
    ($($name:ident $spelling:literal)*) => {
        /// A field name that means something to a proxy, or any other.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            /// None of the rest: only its spelling tells it.
            Other,
            $(#[doc = concat!("`", $spelling, "`")] $name,)*
        }

        impl Name {
            /// The name that `spelling` spells, in any case (RFC 9110 section 5.1).
            pub fn of(spelling: &[u8]) -> Self {
                $(if spelling.len() == $spelling.len()
                    && spelling.eq_ignore_ascii_case($spelling.as_bytes()) {
                    return Self::$name;
                })*
                Self::Other
            }

            /// The usual spelling; nothing for [`Self::Other`].
            pub const fn spelling(self) -> &'static str {
                match self {
                    Self::Other => "",
                    $(Self::$name => $spelling,)*
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Name] = &[$(Name::$name),*];
    };
}

names! {
    Accept "Accept"
    AcceptEncoding "Accept-Encoding"
    AcceptRanges "Accept-Ranges"
    AltSvc "Alt-Svc"
    Authorization "Authorization"
    ClearSiteData "Clear-Site-Data"
    Connection "Connection"
    ContentDigest "Content-Digest"
    ContentDisposition "Content-Disposition"
    ContentEncoding "Content-Encoding"
    ContentLength "Content-Length"
    ContentLocation "Content-Location"
    ContentMd5 "Content-MD5"
    ContentRange "Content-Range"
    ContentSecurityPolicy "Content-Security-Policy"
    ContentSecurityPolicyReportOnly "Content-Security-Policy-Report-Only"
    ContentType "Content-Type"
    Cookie "Cookie"
    Digest "Digest"
    Etag "ETag"
    Expect "Expect"
    Forwarded "Forwarded"
    Host "Host"
    IfModifiedSince "If-Modified-Since"
    IfNoneMatch "If-None-Match"
    KeepAlive "Keep-Alive"
    Link "Link"
    Location "Location"
    Nel "NEL"
    Origin "Origin"
    ProxyAuthenticate "Proxy-Authenticate"
    ProxyAuthorization "Proxy-Authorization"
    ProxyConnection "Proxy-Connection"
    PublicKeyPins "Public-Key-Pins"
    Referer "Referer"
    Refresh "Refresh"
    ReportTo "Report-To"
    ReportingEndpoints "Reporting-Endpoints"
    ReprDigest "Repr-Digest"
    SecFetchDest "Sec-Fetch-Dest"
    ServiceWorkerAllowed "Service-Worker-Allowed"
    SetCookie "Set-Cookie"
    SetLogin "Set-Login"
    SourceMap "SourceMap"
    StrictTransportSecurity "Strict-Transport-Security"
    Te "TE"
    Token "X-Hpc-Proxy-Token"
    Trailer "Trailer"
    TransferEncoding "Transfer-Encoding"
    Upgrade "Upgrade"
    Via "Via"
    XForwardedFor "X-Forwarded-For"
    XForwardedHost "X-Forwarded-Host"
    XForwardedPrefix "X-Forwarded-Prefix"
    XForwardedProto "X-Forwarded-Proto"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_in_any_case() {
        for name in ALL {
            let spelling = name.spelling();
            for text in [
                spelling.to_owned(),
                spelling.to_lowercase(),
                spelling.to_uppercase(),
            ] {
                assert_eq!(Name::of(text.as_bytes()), *name, "{text}");
            }
            assert_eq!(Name::of(format!("{spelling}x").as_bytes()), Name::Other);
        }
    }
}
