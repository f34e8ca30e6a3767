//! What an error of a request means: the object is absent, present or short, the store refuses, or it may go better next time.

use super::STALL;
use super::settings::NO_CREDENTIALS;
use super::wire::Answer;
use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The meaning of a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no such object, or (of an answer without words) no such bucket.
    Absent,
    /// There is an object of that name already.
    Exists,
    /// The object ends before what was asked for.
    Short,
    /// The object is larger than its kind may be.
    TooLarge,
    /// The server does not know how to do this at all.
    Unsupported,
    /// The upload in parts is not there (any more).
    NoUpload,
    /// The server answers and will go on refusing until somebody changes something.
    Refused(String),
    /// It lets this user do other things, or nothing.
    Denied(String),
    /// There is no room.
    Full(String),
    /// There is no such bucket, or no such server: nothing can be said about any object.
    NoStore(String),
    /// The server could not be reached at all.
    Unreached(String),
    /// It failed; a later try may succeed.
    Failed(String),
}

impl Verdict {
    /// Judges an error of a request.
    pub(super) fn of(error: &object_store::Error) -> Self {
        let mut link: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(cause) = link {
            if let Some(answer) = cause.downcast_ref::<Answer>() {
                return Self::of_answer(answer);
            }
            if let Some(http) = cause.downcast_ref::<HttpError>() {
                match http.kind() {
                    HttpErrorKind::Connect => return of_connection(&innermost(http)),
                    HttpErrorKind::Timeout => return Self::silence(STALL),
                    _ => {}
                }
            }
            link = cause.source();
        }
        Self::Failed(innermost(error))
    }

    /// Nothing came for so long.
    pub(super) fn silence(waited: Duration) -> Self {
        Self::Failed(format!("no answer within {} seconds", waited.as_secs().max(1)))
    }

    /// Judges an error while credentials were fetched.
    pub(super) fn of_credentials(error: &object_store::Error) -> Self {
        Self::Refused(format!(
            "{NO_CREDENTIALS} (asking for a role failed: {})",
            innermost(error)
        ))
    }

    fn of_answer(answer: &Answer) -> Self {
        let told = || answer.to_string();
        let refused = |text: &str| Self::Refused(format!("{text} ({})", told()));
        match (answer.status, answer.code.as_str()) {
            (_, "NoSuchBucket") => Self::NoStore("there is no such bucket; make it, or check the name".to_owned()),
            (_, "NoSuchUpload") => Self::NoUpload,
            (404, "NoSuchKey" | "") => Self::Absent,
            (304 | 412, _) => Self::Exists,
            (416, _) => Self::Short,
            (405 | 501, _) => Self::Unsupported,
            (_, "RequestTimeTooSkewed") => refused("refuses the time of this machine; set its clock"),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken") => {
                refused("refuses the credentials; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }
            (300..=399, _) | (_, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                let region = match answer.region.as_str() {
                    "" => "its own".to_owned(),
                    region => format!("{region}: set AWS_REGION={region}"),
                };
                refused(&format!("is in another region than the one asked, {region}"))
            }
            (_, "QuotaExceeded") | (507, _) => Self::Full(format!("it is full ({})", told())),
            (401 | 403, _) => Self::Denied(format!(
                "it does not let this user do this; a vault needs the rights to list, read, write and delete ({})",
                told()
            )),
            // Of an upload that was damaged or cut on its way.
            (400, "RequestTimeout" | "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "InvalidPart") => {
                Self::Failed(told())
            }
            (400, _) => refused("does not understand the request"),
            _ => Self::Failed(told()),
        }
    }
}

/// A connection that was never made: for a certificate there is no second try.
fn of_connection(words: &str) -> Verdict {
    let lower = words.to_ascii_lowercase();
    if lower.contains("certificate") || lower.contains("tls") || lower.contains("unknownissuer") {
        return Verdict::NoStore(format!(
            "is not trusted: {words}; if its certificate is of an authority of your own, name it with AWS_CA_BUNDLE=FILE"
        ));
    }
    if lower.contains("corrupt message") {
        return Verdict::NoStore(format!("does not speak TLS ({words}); is its endpoint http://?"));
    }
    Verdict::Unreached(words.to_owned())
}

/// The words of the last cause: the ones before it repeat it with noise.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "the object is not there",
            Self::Exists => "the object is there",
            Self::Short => "the object is too short",
            Self::TooLarge => "the object is too large",
            Self::Unsupported => "the server does not support this",
            Self::NoUpload => "the upload is not there any more",
            Self::Denied(text) | Self::Full(text) => text,
            Self::Refused(text) | Self::NoStore(text) | Self::Unreached(text) | Self::Failed(text) => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, code: &str) -> Verdict {
        Verdict::of_answer(&Answer {
            status,
            code: code.to_owned(),
            message: String::new(),
            region: "eu-1".to_owned(),
        })
    }

    #[test]
    fn absent_is_only_what_the_store_calls_absent() {
        assert_eq!(verdict(404, "NoSuchKey"), Verdict::Absent);
        assert!(matches!(verdict(404, "NoSuchBucket"), Verdict::NoStore(_)));
        assert!(matches!(verdict(404, "SomethingElse"), Verdict::Failed(_)));
        assert!(matches!(verdict(403, "AccessDenied"), Verdict::Denied(text) if text.contains("rights to list")));
        assert!(matches!(verdict(403, "QuotaExceeded"), Verdict::Full(_)));
        for status in [500, 502, 503, 504, 429, 408, 409] {
            assert!(matches!(verdict(status, ""), Verdict::Failed(_)), "{status}");
        }
    }

    #[test]
    fn refusals_name_the_cure() {
        for (status, code, cure) in [
            (403, "RequestTimeTooSkewed", "clock"),
            (403, "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            (301, "PermanentRedirect", "AWS_REGION=eu-1"),
            (400, "AuthorizationHeaderMalformed", "AWS_REGION=eu-1"),
        ] {
            let Verdict::Refused(text) = verdict(status, code) else {
                panic!("{code}")
            };
            assert!(text.contains(cure), "{text}");
        }
        assert!(
            matches!(of_connection("invalid peer certificate: UnknownIssuer"), Verdict::NoStore(text) if text.contains("AWS_CA_BUNDLE"))
        );
    }
}
