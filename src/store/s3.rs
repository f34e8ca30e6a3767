//! A store in a bucket of an S3-compatible object store. Here and below are the only names of the client library and its runtime.
//!
//! Every operation has an end of its own: what somebody waits for within half a minute, a write within a time that the user
//! sets. Inside that time it is tried again (`patience`); what an error means is decided in `verdict`; no answer is believed
//! before `wire` has looked at it. An answer that something is absent, or that a listing is empty, is never made of an error.

mod address;
mod patience;
mod profile;
mod request;
mod settings;
mod verdict;
mod wire;
mod write;

pub use address::Address;
pub use settings::Settings;

use super::{Error, Exclusion, Key, Result, Store, wait};
use crate::bytes::{to_u64, to_usize};
use crate::clock::{Clock, Seconds, System};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, S3ConditionalPut};
use object_store::client::{HttpClient, HttpConnector};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    Certificate, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig,
    StaticCredentialProvider,
};
use patience::{Patience, Rapport, insist};
use settings::{Signer, Style};
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use verdict::Verdict;

/// Longest time until a connection stands, and longest time without a byte of an answer to a read.
const STALL: Duration = Duration::from_secs(5);
/// Threads that move bytes; waiting costs none.
const WORKERS: usize = 2;

/// A bucket, or a prefix in it, as a store.
pub struct S3Store {
    address: Address,
    /// The address and the server, for messages.
    place: String,
    reader: AmazonS3,
    /// Without a limit on the time between two bytes: an upload gets no answer before its end.
    writer: AmazonS3,
    /// For requests that the library does not know.
    client: HttpClient,
    bucket_url: String,
    region: String,
    /// Whether the bucket has object lock, once it was asked.
    object_lock: OnceLock<bool>,
    runtime: &'static Runtime,
    read_patience: Duration,
    write_patience: Duration,
    signed: bool,
    rapport: Rapport,
    /// Whether the server keeps two writers of one name apart.
    exclusive: AtomicBool,
    /// Set once the server has said that it knows no conditions on a write.
    unconditional: AtomicBool,
}

impl S3Store {
    /// Makes the store at `address`, without asking the server anything yet.
    ///
    /// # Errors
    /// `Refused` for settings that cannot work, `Io` if the runtime cannot be started.
    pub fn open(address: &Address, settings: &Settings) -> Result<Self> {
        let endpoint = settings.bucket_url(address.bucket());
        let refused = |problem: String| Error::Refused {
            store: address.to_string(),
            problem,
        };
        let build = |options| {
            let made = builder(address, settings, options).build();
            made.map_err(|error| refused(format!("cannot be used: {error}")))
        };
        let options = client_options(settings).map_err(refused)?;
        let reader = build(options.clone().with_read_timeout(STALL))?;
        let client = wire::Connector::default().connect(&options.clone().with_read_timeout(STALL));
        let lent = Arc::clone(reader.credentials());
        let writer = builder(address, settings, options).with_credentials(lent).build();
        Ok(Self {
            place: format!("{address} at {endpoint}"),
            bucket_url: endpoint,
            region: settings.region.clone(),
            object_lock: OnceLock::new(),
            client: client.map_err(|error| refused(format!("cannot be used: {error}")))?,
            address: address.clone(),
            reader,
            writer: writer.map_err(|error| refused(format!("cannot be used: {error}")))?,
            runtime: runtime()?,
            read_patience: settings.read_patience,
            write_patience: settings.write_patience,
            signed: settings.signer != Signer::Nobody,
            rapport: Rapport::default(),
            exclusive: AtomicBool::new(false),
            unconditional: AtomicBool::new(false),
        })
    }
}

/// The client as the settings want it; all that it would do by itself, repeating above all, is switched off.
fn builder(address: &Address, settings: &Settings, options: ClientOptions) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(address.bucket())
        .with_region(settings.region.clone())
        .with_virtual_hosted_style_request(settings.style == Style::VirtualHost)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_http_connector(wire::Connector::default())
        .with_client_options(options)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
    let url = settings.bucket_url(address.bucket());
    let endpoint = match settings.style {
        Style::VirtualHost => url.as_str(),
        Style::Path => url.strip_suffix(address.bucket()).unwrap_or(&url).trim_end_matches('/'),
    };
    // The setting of this name goes before every other of its kind.
    builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    match &settings.signer {
        Signer::Keys(keys) => builder.with_credentials(Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: keys.id.clone(),
            secret_key: keys.secret.clone(),
            token: keys.token.clone(),
        }))),
        Signer::Lent => builder.with_skip_signature(false),
        Signer::Nobody => builder.with_skip_signature(true),
    }
}

fn client_options(settings: &Settings) -> Result<ClientOptions, String> {
    let plain = settings
        .endpoint
        .as_ref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(STALL)
        .with_allow_http(plain);
    if let Some(path) = &settings.authorities {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot be used: AWS_CA_BUNDLE {}: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        for certificate in Certificate::from_pem_bundle(&text).map_err(|error| failed(&error))? {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// The one runtime of this process; it lives as long as the process, so that no end waits for a server.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = Builder::new_multi_thread();
    let made = builder.worker_threads(WORKERS).thread_name("s3").enable_all().build();
    let made = made.map_err(|source| Error::Io {
        operation: "start threads for",
        key: "the object store".to_owned(),
        source,
    })?;
    Ok(RUNTIME.get_or_init(|| made))
}

impl S3Store {
    fn path(&self, key: &str) -> Path {
        Path::from(self.address.full(key))
    }

    /// Runs one request: with credentials at hand, and its error judged.
    async fn ask<T>(&self, request: impl Future<Output = object_store::Result<T>>) -> Result<T, Verdict> {
        if self.signed
            && let Err(error) = self.reader.credentials().get_credential().await
        {
            return Err(if self.rapport.is_known() {
                Verdict::of(&error)
            } else {
                Verdict::of_credentials(&error)
            });
        }
        request.await.map_err(|error| Verdict::of(&error))
    }

    /// Tries until it is done, means something definite, or the time is over; the calling thread waits.
    fn insist<T>(
        &self,
        mut patience: Patience,
        attempt: impl AsyncFnMut() -> Result<T, Verdict>,
    ) -> Result<T, Verdict> {
        patience.total = wait::left(patience.total);
        self.runtime.block_on(insist(patience, &self.rapport, attempt))
    }

    fn reading(&self, len: usize) -> Patience {
        Patience::reading(self.read_patience, len)
    }

    fn looking(&self) -> Patience {
        Patience::looking(self.read_patience)
    }

    async fn whole(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Verdict> {
        let result = self.ask(self.reader.get_opts(path, GetOptions::default())).await?;
        let size = result.meta.size;
        if size > limit {
            return Err(Verdict::TooLarge);
        }
        let data = self.ask(result.bytes()).await?;
        if to_u64(data.len()) != size {
            return Err(Verdict::Failed("the answer was cut".to_owned()));
        }
        Ok(data.into())
    }

    async fn range(&self, path: &Path, offset: u64, buf: &mut [u8]) -> Result<(), Verdict> {
        let end = offset.saturating_add(to_u64(buf.len()));
        let options = GetOptions {
            range: Some(GetRange::Bounded(offset..end)),
            ..GetOptions::default()
        };
        let result = self.ask(self.reader.get_opts(path, options)).await?;
        if result.meta.size < end {
            return Err(Verdict::Short);
        }
        let data = self.ask(result.bytes()).await?;
        if data.len() != buf.len() {
            return Err(Verdict::Failed("the answer was cut".to_owned()));
        }
        buf.copy_from_slice(&data);
        Ok(())
    }

    /// The last `most` bytes of an object and its size.
    async fn tail(&self, path: &Path, most: usize) -> Result<(u64, Vec<u8>), Verdict> {
        let options = GetOptions {
            range: Some(GetRange::Suffix(to_u64(most))),
            ..GetOptions::default()
        };
        let result = self.ask(self.reader.get_opts(path, options)).await?;
        let size = result.meta.size;
        let data = self.ask(result.bytes()).await?;
        if to_u64(data.len()) != size.min(to_u64(most)) {
            return Err(Verdict::Failed("the answer was cut".to_owned()));
        }
        Ok((size, data.into()))
    }

    /// The same in two requests, for servers that fail where an object is shorter than the tail that is asked for.
    async fn measured_tail(&self, path: &Path, most: usize) -> Result<(u64, Vec<u8>), Verdict> {
        let size = self.size(path).await?;
        let mut tail = vec![0; to_usize(size).min(most)];
        if tail.is_empty() {
            return Err(Verdict::Short);
        }
        self.range(path, size.saturating_sub(to_u64(tail.len())), &mut tail)
            .await?;
        Ok((size, tail))
    }

    /// The size of an object. The answer to HEAD has no words, and cannot tell a missing object from a missing bucket, or a wrong
    /// key from a missing right: where it denies, a GET is asked for the word.
    async fn size(&self, path: &Path) -> Result<u64, Verdict> {
        match self.ask(self.reader.head(path)).await {
            Ok(meta) => Ok(meta.size),
            Err(Verdict::Absent | Verdict::Denied(_)) => {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(0..1)),
                    ..GetOptions::default()
                };
                match self.ask(self.reader.get_opts(path, options)).await {
                    Ok(found) => Ok(found.meta.size),
                    Err(Verdict::Short) => Ok(0),
                    Err(other) => Err(other),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// One page of a listing, and where the next begins.
    async fn page(&self, prefix: &str, token: Option<String>) -> Result<(Vec<Key>, Option<String>), Verdict> {
        let options = PaginatedListOptions {
            page_token: token,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let page = self.ask(self.reader.list_paginated(prefix, options)).await?;
        let keys = page.result.objects.iter().filter_map(|object| {
            // Foreign names, and the empty objects by which some tools mark a folder, are no objects of ours.
            Key::new(self.address.strip(object.location.as_ref())?).ok()
        });
        Ok((keys.collect(), page.page_token))
    }

    fn pages(&self, prefix: &str) -> Result<Vec<Key>, Verdict> {
        let full = self.address.full(prefix);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let (keys, next) = self.insist(self.reading(0), async || self.page(&full, token.clone()).await)?;
            found.extend(keys);
            if next.is_none() {
                found.sort_unstable();
                found.dedup();
                return Ok(found);
            }
            if next == token {
                return Err(Verdict::Failed("the listing goes round in a circle".to_owned()));
            }
            token = next;
        }
    }

    /// What a verdict is to the caller of the store.
    fn error(&self, operation: &'static str, key: &str, verdict: Verdict) -> Error {
        let key = key.to_owned();
        let io = |kind, text: String| Error::Io {
            operation,
            key: key.clone(),
            source: io::Error::new(kind, format!("{}: {text}", self.place)),
        };
        match verdict {
            Verdict::Absent => Error::NotFound { key },
            Verdict::Exists => Error::AlreadyExists { key },
            Verdict::Refused(problem) => Error::Refused {
                store: self.place.clone(),
                problem,
            },
            Verdict::NoStore(problem) => Error::NoStore {
                store: self.place.clone(),
                problem,
            },
            Verdict::Denied(text) => io(ErrorKind::PermissionDenied, text),
            Verdict::Full(text) => io(ErrorKind::StorageFull, text),
            Verdict::Unreached(text) => io(
                ErrorKind::NotConnected,
                format!("{text}; check AWS_ENDPOINT_URL and the network"),
            ),
            Verdict::TooLarge => io(ErrorKind::InvalidData, verdict.to_string()),
            Verdict::Short | Verdict::Unsupported | Verdict::NoUpload | Verdict::Failed(_) => {
                io(ErrorKind::TimedOut, verdict.to_string())
            }
        }
    }
}

impl Store for S3Store {
    fn get(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(key.as_str());
        let patience = self.reading(to_usize(limit));
        let read = self.insist(patience, async || self.whole(&path, limit).await);
        read.map_err(|verdict| match verdict {
            Verdict::TooLarge => super::too_large(key, limit),
            other => self.error("read", key.as_str(), other),
        })
    }

    fn read_range(&self, key: &Key, offset: u64, buf: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(to_u64(buf.len()));
        let short = || Error::Short {
            key: key.to_string(),
            end,
        };
        // No object reaches there, and an empty range cannot be asked for.
        if buf.is_empty() || end > i64::MAX.unsigned_abs() {
            let size = self.head(key)?;
            return if size < end { Err(short()) } else { Ok(()) };
        }
        let path = self.path(key.as_str());
        let patience = self.reading(buf.len());
        let read = self.insist(patience, async || self.range(&path, offset, buf).await);
        read.map_err(|verdict| match verdict {
            Verdict::Short => short(),
            other => self.error("read", key.as_str(), other),
        })
    }

    fn read_tail(&self, key: &Key, most: usize) -> Result<(u64, Vec<u8>)> {
        let path = self.path(key.as_str());
        let mut measured = false;
        let read = self.insist(self.reading(most), async || {
            let tail = if measured {
                self.measured_tail(&path, most).await
            } else {
                self.tail(&path, most).await
            };
            measured = matches!(tail, Err(Verdict::Failed(_))) && !measured;
            tail
        });
        read.map_err(|verdict| match verdict {
            // Of nothing there is no last byte.
            Verdict::Short => Error::Short {
                key: key.to_string(),
                end: 1,
            },
            other => self.error("read", key.as_str(), other),
        })
    }

    fn head(&self, key: &Key) -> Result<u64> {
        let path = self.path(key.as_str());
        let size = self.insist(self.looking(), async || self.size(&path).await);
        size.map_err(|verdict| self.error("look up", key.as_str(), verdict))
    }

    fn put_new(&self, key: &Key, data: &[u8]) -> Result<()> {
        let put = self.write(&self.path(key.as_str()), data);
        put.map_err(|verdict| self.error("write", key.as_str(), verdict))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Key>> {
        let mut found = self.pages(prefix).map_err(|verdict| {
            let name = self.address.full(prefix);
            match verdict {
                // Of a listing this is no word that an object is absent, but no word at all.
                Verdict::Absent => self.error("list", &name, Verdict::Failed("there is no listing here".to_owned())),
                other => self.error("list", &name, other),
            }
        })?;
        found.retain(|key| key.as_str().starts_with(prefix));
        Ok(found)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        // The answer to DELETE is the same whether there was an object or not.
        self.head(key)?;
        let path = self.path(key.as_str());
        let deleted = self.insist(self.looking(), async || self.ask(self.writer.delete(&path)).await);
        deleted.map_err(|verdict| self.error("delete", key.as_str(), verdict))
    }

    fn describe(&self) -> String {
        self.address.to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn remove_litter(&self, age: Duration) -> Result<u64> {
        self.remove_uploads(System.now(), age)
    }

    fn can_retain(&self) -> Result<bool> {
        self.has_object_lock()
    }

    fn retain(&self, key: &Key, until: Seconds) -> Result<()> {
        if self.has_object_lock()? {
            self.retain_object(key, until)?;
        }
        Ok(())
    }

    fn probe_exclusion(&self) -> Result<Exclusion> {
        let probed = self.probe();
        probed.map_err(|verdict| self.error("try out writing to", &self.address.full("probe"), verdict))
    }

    fn set_exclusion(&self, exclusion: Exclusion) {
        self.exclusive.store(exclusion == Exclusion::Atomic, Ordering::Relaxed);
    }
}
