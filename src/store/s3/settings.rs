//! Where the object store is and who asks: from the variables and profile files of the AWS tools, checked before any request.

use super::patience::READ;
use super::profile::{self, Kind, Profile};
use crate::store::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a write is tried again when the user says nothing.
const WRITE_PATIENCE: Duration = Duration::from_secs(300);

/// Keys of a user of the store.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

/// Who signs the requests.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Signer {
    /// These keys.
    Keys(Keys),
    /// What the environment of the process lends: a web identity, a container's role, the machine's role.
    Lent,
    /// Nobody: a public bucket.
    Nobody,
}

/// How the bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// First in the path: `http://host/bucket/key`.
    Path,
    /// First in the host's name: `http://bucket.host/key`.
    VirtualHost,
}

/// Everything needed to talk to an object store.
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host; without it, AWS in `region`.
    pub(super) endpoint: Option<String>,
    pub(super) region: String,
    pub(super) signer: Signer,
    pub(super) style: Style,
    /// Certificates that are trusted beside the system's.
    pub(super) authorities: Option<PathBuf>,
    /// How long a read is tried.
    pub(super) read_patience: Duration,
    /// How long a write is tried.
    pub(super) write_patience: Duration,
}

impl Settings {
    /// The same for work that nobody waits for: its reads are tried for as long as its writes.
    #[must_use]
    pub fn persistent(self) -> Self {
        Self {
            read_patience: self.write_patience.max(READ),
            ..self
        }
    }

    /// Reads the settings of this process.
    ///
    /// # Errors
    /// `Refused` with the cure if a setting is missing or makes no sense.
    pub fn from_environment() -> Result<Self> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads the settings from what `lookup` knows by the names of environment variables; profile files are read from the disk.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let profile = load_profile(&variable)?;
        let setting = |names: &[&str], key: &str| {
            let found = names.iter().find_map(|name| variable(name));
            found.or_else(|| profile.get(key).filter(|value| !value.is_empty()).cloned())
        };
        let endpoint = setting(
            &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
            "s3.endpoint_url",
        )
        .or_else(|| profile.get("endpoint_url").cloned());
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint, is_true(variable("VAULTFS_ALLOW_HTTP").as_deref()))?;
        }
        let style = setting(&["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"], "s3.addressing_style");
        Ok(Self {
            style: match style.as_deref() {
                Some("virtual") => Style::VirtualHost,
                Some("path") => Style::Path,
                // A server of one's own rarely has a name for each bucket; AWS has.
                Some("auto") | None if endpoint.is_none() => Style::VirtualHost,
                other if is_true(other) => Style::VirtualHost,
                _ => Style::Path,
            },
            endpoint: endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned()),
            region: setting(&["AWS_REGION", "AWS_DEFAULT_REGION"], "region").unwrap_or_else(|| "us-east-1".to_owned()),
            signer: signer(&variable, &profile)?,
            authorities: setting(&["AWS_CA_BUNDLE"], "ca_bundle").map(PathBuf::from),
            read_patience: READ,
            write_patience: match variable("VAULTFS_WRITE_RETRY") {
                Some(text) => parse_seconds(&text)?,
                None => WRITE_PATIENCE,
            },
        })
    }

    /// Scheme and host of the server; `None` for AWS.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Scheme, host and what leads to the bucket: all a key is put behind.
    pub(super) fn bucket_url(&self, bucket: &str) -> String {
        let aws = || format!("https://s3.{}.amazonaws.com", self.region);
        let endpoint = self.endpoint.clone().unwrap_or_else(aws);
        match (self.style, endpoint.split_once("://")) {
            (Style::VirtualHost, Some((scheme, host))) => format!("{scheme}://{bucket}.{host}"),
            _ => format!("{endpoint}/{bucket}"),
        }
    }
}

fn refused(problem: impl Into<String>) -> Error {
    Error::Refused {
        store: "the object store".to_owned(),
        problem: problem.into(),
    }
}

fn is_true(text: Option<&str>) -> bool {
    matches!(text, Some("1" | "true" | "TRUE" | "yes"))
}

fn parse_seconds(text: &str) -> Result<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse();
    seconds.map(Duration::from_secs).map_err(|_| {
        refused(format!(
            "cannot be used: VAULTFS_WRITE_RETRY={text} is no number of seconds"
        ))
    })
}

/// Passwords and data go over a wire in the clear only where there is no wire, or the user says so.
fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<()> {
    let wrong = |what: &str| refused(format!("cannot be used: the endpoint {endpoint} {what}"));
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return Err(wrong("has no scheme; write https://HOST or http://HOST:PORT"));
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(wrong(
            "must be scheme and host, as in https://s3.example.org, and nothing more",
        ));
    }
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => host.split(':').next().unwrap_or(host),
    };
    let loopback = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if loopback || allow_http => Ok(()),
        "http" => Err(wrong(
            "is not encrypted: everybody on the way can read the backups; use https://, or set VAULTFS_ALLOW_HTTP=1",
        )),
        _ => Err(wrong("is neither https:// nor http://")),
    }
}

fn signer(variable: &impl Fn(&str) -> Option<String>, profile: &Profile) -> Result<Signer> {
    if is_true(variable("AWS_SKIP_SIGNATURE").as_deref()) {
        return Ok(Signer::Nobody);
    }
    let half = |has: &str, lacks: &str| refused(format!("has no usable credentials: {has} is set and {lacks} is not"));
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            let token = variable("AWS_SESSION_TOKEN");
            return Ok(Signer::Keys(Keys { id, secret, token }));
        }
        (Some(_), None) => return Err(half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")),
        (None, None) => {}
    }
    match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            return Ok(Signer::Keys(Keys {
                id: id.clone(),
                secret: secret.clone(),
                token: profile.get("aws_session_token").cloned(),
            }));
        }
        (Some(_), None) => return Err(half("aws_access_key_id of the profile", "aws_secret_access_key")),
        (None, Some(_)) => return Err(half("aws_secret_access_key of the profile", "aws_access_key_id")),
        (None, None) => {}
    }
    let foreign = ["credential_process", "sso_session", "sso_start_url", "source_profile"];
    if let Some(key) = foreign.iter().find(|key| profile.contains_key(**key)) {
        return Err(refused(format!(
            "has no usable credentials: the profile gets them by {key}, which vaultfs does not; \
             run: eval \"$(aws configure export-credentials --format env)\""
        )));
    }
    let lent = [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ];
    let metadata = !is_true(variable("AWS_EC2_METADATA_DISABLED").as_deref());
    if metadata || lent.iter().any(|name| variable(name).is_some()) {
        return Ok(Signer::Lent);
    }
    Err(refused(NO_CREDENTIALS))
}

/// What to say when nobody lends credentials.
pub(super) const NO_CREDENTIALS: &str = "has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into \
     ~/.aws/credentials, or give this machine a role";

/// Reads the chosen profile from both files; of a setting in both, the one of `credentials` counts.
fn load_profile(variable: &impl Fn(&str) -> Option<String>) -> Result<Profile> {
    let chosen = variable("AWS_PROFILE").or_else(|| variable("AWS_DEFAULT_PROFILE"));
    let name = chosen.as_deref().unwrap_or("default");
    let files = [
        ("AWS_CONFIG_FILE", "config", Kind::Config),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", Kind::Credentials),
    ];
    let mut all: Option<Profile> = None;
    for (path_variable, file, kind) in files {
        let named = variable(path_variable).map(PathBuf::from);
        let Some(path) = named.clone().or_else(|| Some(home(variable)?.join(".aws").join(file))) else {
            continue;
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => continue,
            // Another user's home: whose files may not be read are not this user's settings.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied && named.is_none() => continue,
            Err(error) => {
                let path = path.display();
                return Err(refused(format!("cannot be used: {path_variable} {path}: {error}")));
            }
        };
        if let Some(found) = profile::parse(&text, kind, name) {
            all.get_or_insert_default().extend(found);
        }
    }
    match (all, chosen) {
        (Some(profile), _) => Ok(profile),
        (None, Some(name)) => Err(refused(format!(
            "cannot be used: there is no profile {name} in ~/.aws/config or ~/.aws/credentials"
        ))),
        (None, None) => Ok(Profile::new()),
    }
}

/// The user's home; services of the system often run as root without being told where root lives.
fn home(variable: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let root = || {
        rustix::process::geteuid()
            .is_root()
            .then(|| Path::new("/root").to_owned())
    };
    variable("HOME").map(PathBuf::from).or_else(root)
}

#[cfg(test)]
mod tests;
