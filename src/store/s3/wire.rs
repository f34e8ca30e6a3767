//! What passes between us and the server, looked at before it is believed: answers that are no success become typed errors,
//! bodies are bounded, and a page of a listing is whole and a page of a listing.

use http_body_util::{BodyExt, Limited};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, Result};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Largest text of an error that is read.
const MAX_ERROR: usize = 64 << 10;
/// Largest page of a listing: a thousand names with all that is told of each.
const MAX_PAGE: usize = 16 << 20;
/// Largest answer to a write.
const MAX_ANSWER: usize = 1 << 20;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// The store's word for it (`NoSuchKey`); empty where it gives none.
    pub(super) code: String,
    /// The store's sentence.
    pub(super) message: String,
    /// The region in which the bucket is, where the answer tells.
    pub(super) region: String,
}

impl Answer {
    fn new(status: u16, body: &str, region: Option<&str>) -> Self {
        Self {
            status,
            code: element(body, "Code"),
            message: element(body, "Message"),
            region: region.map_or_else(|| element(body, "Region"), str::to_owned),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        for text in [&self.code, &self.message].into_iter().filter(|text| !text.is_empty()) {
            write!(f, ", {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Answer {}

/// A success that cannot be believed.
#[derive(Debug, thiserror::Error)]
#[error("the server's answer is {0}")]
struct Unbelievable(&'static str);

/// The text of the first element `name`, shortened, without what a terminal would obey.
pub(super) fn element(body: &str, name: &str) -> String {
    let inner = || {
        body.split_once(&format!("<{name}>"))?
            .1
            .split_once(&format!("</{name}>"))
    };
    let text = inner().map_or("", |(text, _)| text);
    text.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

/// Says what is wrong with a page of a listing, if anything.
///
/// What cannot be told from an empty listing by a reader of XML: an error page, the login page of a proxy, a cut answer, and a
/// page that is not the last and does not say how to go on.
fn page_problem(page: &str) -> Option<&'static str> {
    let body = page.trim_end();
    let starts = body.get(..300).unwrap_or(body).contains("<ListBucketResult") || body.contains("<ListBucketResult");
    if !starts || !body.ends_with("</ListBucketResult>") {
        return Some("no listing");
    }
    let goes_on = element(body, "IsTruncated") == "true";
    (goes_on && element(body, "NextContinuationToken").is_empty()).then_some("a part of a listing without a next part")
}

/// Makes clients that look at their answers.
#[derive(Debug, Default)]
pub(super) struct Connector(ReqwestConnector);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(Wire(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Wire(HttpClient);

impl HttpService for Wire {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let question = Question::of(&request);
            look(question, self.0.execute(request).await?).await
        })
    }
}

/// What was asked for, as far as it bounds the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Page,
    Range(usize),
    /// The length is in the answer's header, and is checked by who asked.
    Object,
    Size,
    Deletion,
    Property,
    Other,
}

impl Question {
    fn of(request: &HttpRequest) -> Self {
        match request.method().as_str() {
            "GET" => {}
            "HEAD" => return Self::Size,
            "DELETE" => return Self::Deletion,
            _ => return Self::Other,
        }
        match request.uri().query() {
            Some(query) if query.contains("list-type=2") => return Self::Page,
            // Properties of buckets and objects; who asks looks at the text.
            Some(query)
                if ["uploads", "retention", "object-lock"]
                    .iter()
                    .any(|of| query.contains(of)) =>
            {
                return Self::Property;
            }
            _ => {}
        }
        let range = request.headers().get("range").and_then(|value| value.to_str().ok());
        range.and_then(range_len).map_or(Self::Object, Self::Range)
    }
}

/// The most bytes of `bytes=FIRST-LAST` or `bytes=-LENGTH`.
fn range_len(range: &str) -> Option<usize> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return last.parse().ok();
    }
    let len = last.parse::<u64>().ok()?.checked_sub(first.parse().ok()?)?;
    usize::try_from(len.checked_add(1)?).ok()
}

async fn look(question: Question, response: HttpResponse) -> Result<HttpResponse, HttpError> {
    if !response.status().is_success() {
        let status = response.status().as_u16();
        let region = response
            .headers()
            .get("x-amz-bucket-region")
            .and_then(|value| value.to_str().ok());
        let region = region.map(str::to_owned);
        let body = collect(response.into_body(), MAX_ERROR).await.unwrap_or_default();
        let answer = Answer::new(status, &String::from_utf8_lossy(&body), region.as_deref());
        return Err(HttpError::new(HttpErrorKind::Unknown, answer));
    }
    let (parts, body) = response.into_parts();
    let unbelievable = |problem| Err(HttpError::new(HttpErrorKind::Decode, Unbelievable(problem)));
    let is_object = ["etag", "last-modified"]
        .iter()
        .any(|name| parts.headers.contains_key(*name));
    let body = match question {
        Question::Object | Question::Range(_) | Question::Size if !is_object => {
            return unbelievable("no object of an object store");
        }
        Question::Object | Question::Size => body,
        Question::Range(len) => bounded(body, len),
        Question::Other => bounded(body, MAX_ANSWER),
        Question::Property => bounded(body, MAX_PAGE),
        Question::Deletion => {
            if !collect(body, MAX_ERROR).await?.is_empty() {
                return unbelievable("not that of an object store to a deletion");
            }
            HttpResponseBody::from(Vec::new())
        }
        Question::Page => {
            let page = collect(body, MAX_PAGE).await?;
            if let Some(problem) = page_problem(&String::from_utf8_lossy(&page)) {
                return unbelievable(problem);
            }
            HttpResponseBody::from(page)
        }
    };
    Ok(HttpResponse::from_parts(parts, body))
}

fn bounded(body: HttpResponseBody, limit: usize) -> HttpResponseBody {
    let too_long = |source| HttpError::new_boxed(HttpErrorKind::Interrupted, source);
    HttpResponseBody::new(Limited::new(body, limit).map_err(too_long))
}

async fn collect(body: HttpResponseBody, limit: usize) -> Result<Vec<u8>, HttpError> {
    Ok(bounded(body, limit).bytes().await?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_page_that_can_be_gone_on_from_is_a_listing() {
        let page =
            |inner: &str| format!("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">{inner}</ListBucketResult>\n");
        assert_eq!(page_problem(&page("<IsTruncated>false</IsTruncated>")), None);
        let more = "<IsTruncated>true</IsTruncated>";
        assert!(page_problem(&page(more)).is_some());
        assert_eq!(
            page_problem(&page(&format!(
                "{more}<NextContinuationToken>t</NextContinuationToken>"
            ))),
            None
        );
        for bad in [
            "",
            "<html></html>",
            "<ListBucketResult>",
            "<Error><Code>x</Code></Error>",
            "</ListBucketResult>",
        ] {
            assert!(page_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn an_error_is_read_as_far_as_it_goes() {
        let body = "<Error><Code>NoSuchKey</Code><Message>gone\u{1b}[31m</Message></Error>";
        let answer = Answer::new(404, body, None);
        assert_eq!(
            (answer.code.as_str(), answer.message.as_str()),
            ("NoSuchKey", "gone[31m")
        );
        assert_eq!(answer.to_string(), "the server answered 404, NoSuchKey, gone[31m");
        assert_eq!(Answer::new(503, "<html>", None).to_string(), "the server answered 503");
        assert_eq!(Answer::new(301, "", Some("eu")).region, "eu");
    }

    #[test]
    fn the_length_of_a_range_bounds_its_answer() {
        assert_eq!(range_len("bytes=0-0"), Some(1));
        assert_eq!(range_len("bytes=5-104"), Some(100));
        assert_eq!(range_len("bytes=-100"), Some(100));
        for odd in ["bytes=5-", "bytes=-", "5-6", "bytes=6-5"] {
            assert_eq!(range_len(odd), None, "{odd}");
        }
    }
}
