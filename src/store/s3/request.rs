//! Requests that the client library does not know, sent and signed as its own are: retention of objects, and unfinished uploads.
//!
//! # Source
//! Amazon S3 API Reference: `PutObjectRetention`, `GetObjectLockConfiguration`, `ListMultipartUploads`, `AbortMultipartUpload`.

use super::S3Store;
use super::patience::Patience;
use super::verdict::Verdict;
use super::wire::element;
use crate::clock::{Seconds, rfc3339};
use crate::store::{Key, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
use md5::{Digest, Md5};
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequest;
use std::time::Duration;

/// Uploads listed at a time.
const UPLOADS: usize = 1000;
/// Pages of a listing of uploads: a bound for a server that lies.
const MAX_PAGES: usize = 10_000;

/// An upload in parts that was begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Upload {
    /// Full name in the bucket.
    key: String,
    id: String,
    /// RFC 3339, as the server writes it.
    began: String,
}

/// A part of a URL that may hold any byte.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

impl S3Store {
    /// Sends one request to the bucket (`key` empty) or to an object by its full name, and returns the text of the answer.
    async fn send(&self, method: &str, key: &str, query: &str, body: &str) -> Result<String, Verdict> {
        let malformed = |what: &dyn std::fmt::Display| Verdict::Refused(format!("cannot be asked: {what}"));
        let slash = if key.is_empty() { "" } else { "/" };
        let mut request = HttpRequest::new(body.to_owned().into());
        *request.method_mut() = method.parse().map_err(|error| malformed(&error))?;
        let url = format!("{}{slash}{key}?{query}", self.bucket_url);
        *request.uri_mut() = url.parse().map_err(|error| malformed(&error))?;
        if !body.is_empty() {
            // Old servers insist on one of the two for what changes a retention.
            let length = body.len().to_string().parse().map_err(|error| malformed(&error))?;
            request.headers_mut().insert("content-length", length);
            let md5 = BASE64_STANDARD
                .encode(Md5::digest(body))
                .parse()
                .map_err(|error| malformed(&error))?;
            request.headers_mut().insert("content-md5", md5);
        }
        if self.signed {
            let credentials = self.reader.credentials().get_credential().await;
            let credential = credentials.map_err(|error| Verdict::of(&error))?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer
                .try_authorize(&mut request, None)
                .map_err(|error| Verdict::of(&error))?;
        }
        let failed = |error| {
            Verdict::of(&object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })
        };
        let answer = self.client.execute(request).await.map_err(failed)?;
        let text = answer.into_body().bytes().await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Forbids everybody to remove an object or to write over it until a time; the bucket has object lock.
    pub(super) fn retain_object(&self, key: &Key, until: Seconds) -> Result<()> {
        let full = self.address.full(key.as_str());
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>COMPLIANCE</Mode>\
             <RetainUntilDate>{}</RetainUntilDate></Retention>",
            rfc3339(until)
        );
        let patience = Patience::writing(self.write_patience, 0);
        match self.insist(patience, async || self.send("PUT", &full, "retention", &body).await) {
            Ok(_) => Ok(()),
            // An object that is retained for longer is kept as well.
            Err(Verdict::Denied(_)) if self.is_retained(&full, until) => Ok(()),
            Err(verdict) => Err(self.error("lock", key.as_str(), verdict)),
        }
    }

    fn is_retained(&self, full: &str, until: Seconds) -> bool {
        let asked = self.insist(self.looking(), async || self.send("GET", full, "retention", "").await);
        // Both are in UTC to the second or finer, and compare as text.
        asked.is_ok_and(|answer| element(&answer, "RetainUntilDate").get(..19) >= rfc3339(until).get(..19))
    }

    /// Says whether objects of the bucket can be retained.
    pub(super) fn has_object_lock(&self) -> Result<bool> {
        if let Some(known) = self.object_lock.get() {
            return Ok(*known);
        }
        let has = self.ask_object_lock()?;
        Ok(*self.object_lock.get_or_init(|| has))
    }

    fn ask_object_lock(&self) -> Result<bool> {
        match self.insist(self.looking(), async || self.send("GET", "", "object-lock", "").await) {
            Ok(answer) => Ok(element(&answer, "ObjectLockEnabled") == "Enabled"),
            // Not set up, not known, or not ours to ask: then objects are not retained, and the lock is vaultfs's own.
            Err(Verdict::Absent | Verdict::Unsupported | Verdict::Denied(_) | Verdict::Refused(_)) => Ok(false),
            Err(Verdict::Failed(text)) if text.contains("ObjectLockConfigurationNotFound") => Ok(false),
            Err(verdict) => Err(self.error("look up", "the object lock of the bucket", verdict)),
        }
    }

    /// The uploads below the vault's prefix that were begun and not ended.
    fn uploads(&self) -> Result<Vec<Upload>, Verdict> {
        let prefix = self.address.full("");
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let query = format!("max-uploads={UPLOADS}&prefix={}{after}&uploads=", escaped(&prefix));
            let page = self.insist(self.reading(0), async || {
                self.send("GET", "", &sorted(&query), "").await
            })?;
            let Some((uploads, next)) = parse_uploads(&page) else {
                return Err(Verdict::Failed("the answer is no listing of uploads".to_owned()));
            };
            found.extend(uploads.into_iter().filter(|upload| upload.key.starts_with(&prefix)));
            match next {
                None => return Ok(found),
                Some((key, id)) => {
                    let next = format!("&key-marker={}&upload-id-marker={}", escaped(&key), escaped(&id));
                    if next == after {
                        break;
                    }
                    after = next;
                }
            }
        }
        Err(Verdict::Failed("the listing of uploads does not end".to_owned()))
    }

    /// Removes uploads that were begun longer ago than `age`, by the clock of this machine; returns how many.
    pub(super) fn remove_uploads(&self, now: Seconds, age: Duration) -> Result<u64> {
        let name = self.address.full("");
        let uploads = self
            .uploads()
            .map_err(|verdict| self.error("list the uploads of", &name, verdict))?;
        let age = Seconds::try_from(age.as_secs()).unwrap_or(Seconds::MAX);
        let before = rfc3339(now.saturating_sub(age).max(0));
        let mut removed = 0_u64;
        // Times of day in UTC compare as text, as far as the seconds.
        for upload in uploads
            .iter()
            .filter(|upload| upload.began.get(..19) < before.get(..19))
        {
            let query = format!("uploadId={}", escaped(&upload.id));
            let abort = self.insist(self.looking(), async || {
                self.send("DELETE", &upload.key, &query, "").await
            });
            match abort {
                // Whoever was faster has done the same.
                Ok(_) | Err(Verdict::Absent | Verdict::NoUpload) => removed = removed.saturating_add(1),
                Err(verdict) => return Err(self.error("remove the upload of", &upload.key, verdict)),
            }
        }
        Ok(removed)
    }
}

/// The parts of a query in the order in which they are signed.
fn sorted(query: &str) -> String {
    let mut parts: Vec<&str> = query.split('&').collect();
    parts.sort_unstable();
    parts.join("&")
}

/// Where the next page of uploads begins: after this key and this id.
type Next = Option<(String, String)>;

/// The uploads of a page, and where the next one begins; `None` if it is no such page.
fn parse_uploads(page: &str) -> Option<(Vec<Upload>, Next)> {
    let whole =
        page.contains("<ListMultipartUploadsResult") && page.trim_end().ends_with("</ListMultipartUploadsResult>");
    if !whole {
        return None;
    }
    let mut uploads = Vec::new();
    for part in page.split("<Upload>").skip(1) {
        let (part, _) = part.split_once("</Upload>")?;
        let (key, id, began) = (
            element(part, "Key"),
            element(part, "UploadId"),
            element(part, "Initiated"),
        );
        // A name with what XML escapes is none of ours.
        let is_foreign = key.contains('&');
        if id.is_empty() || began.len() < 19 {
            return None;
        }
        if !is_foreign {
            uploads.push(Upload { key, id, began });
        }
    }
    let next = (element(page, "IsTruncated") == "true")
        .then(|| (element(page, "NextKeyMarker"), element(page, "NextUploadIdMarker")));
    Some((uploads, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read_as_a_whole_or_not_at_all() {
        let upload = "<Upload><Key>a/packs/0a</Key><UploadId>2~x</UploadId><Initiated>2026-11-20T03:00:00.000Z</Initiated></Upload>";
        let page =
            |inner: &str| format!("<ListMultipartUploadsResult xmlns=\"x\">{inner}</ListMultipartUploadsResult>\n");
        let expected = Upload {
            key: "a/packs/0a".to_owned(),
            id: "2~x".to_owned(),
            began: "2026-11-20T03:00:00.000Z".to_owned(),
        };
        assert_eq!(parse_uploads(&page("")), Some((vec![], None)));
        assert_eq!(parse_uploads(&page(upload)), Some((vec![expected.clone()], None)));
        let more =
            "<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>";
        let next = Some(("k".to_owned(), "u".to_owned()));
        assert_eq!(
            parse_uploads(&page(&format!("{more}{upload}"))),
            Some((vec![expected], next))
        );
        for bad in [
            "",
            "<html></html>",
            "<ListMultipartUploadsResult>",
            &page("<Upload><Key>x</Key></Upload>"),
        ] {
            assert_eq!(parse_uploads(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_goes_into_a_url_is_escaped() {
        assert_eq!(escaped("a/b c~2&x=ä"), "a%2Fb%20c~2%26x%3D%C3%A4");
        assert_eq!(
            sorted("uploads=&max-uploads=3&prefix=x"),
            "max-uploads=3&prefix=x&uploads="
        );
    }
}
