//! Tables of settings and what they come to.

use super::*;
use std::collections::HashMap;
use tempfile::TempDir;

fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Settings::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned()))
}

const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "A"),
    ("AWS_SECRET_ACCESS_KEY", "S"),
    ("HOME", "/nonexistent"),
];

fn with(more: &[(&str, &str)]) -> Result<Settings> {
    settings(&[&KEYS, more].concat())
}

fn problem(result: Result<Settings>) -> String {
    result.map(drop).unwrap_err().to_string()
}

#[test]
fn without_an_endpoint_the_store_is_aws_in_the_region() {
    let aws = with(&[("AWS_REGION", "eu-west-1")]).unwrap();
    assert_eq!(aws.bucket_url("b"), "https://b.s3.eu-west-1.amazonaws.com");
    assert_eq!(with(&[]).unwrap().region, "us-east-1");
    assert_eq!(aws.write_patience, Duration::from_secs(300));
    assert!(
        aws.signer
            == Signer::Keys(Keys {
                id: "A".into(),
                secret: "S".into(),
                token: None
            })
    );
}

#[test]
fn a_server_of_ones_own_gets_the_bucket_in_the_path_unless_told_otherwise() {
    let own = ("AWS_ENDPOINT_URL", "https://s3.example.org:9000/");
    assert_eq!(with(&[own]).unwrap().bucket_url("b"), "https://s3.example.org:9000/b");
    let virtual_host = with(&[own, ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")]).unwrap();
    assert_eq!(virtual_host.bucket_url("b"), "https://b.s3.example.org:9000");
    let special = with(&[own, ("AWS_ENDPOINT_URL_S3", "https://other")]).unwrap();
    assert_eq!(special.bucket_url("b"), "https://other/b");
}

#[test]
fn plain_http_is_for_loopback_or_on_demand() {
    let http = |host: &str| with(&[("AWS_ENDPOINT_URL", &format!("http://{host}"))]);
    for near in ["127.0.0.1:7480", "localhost:9000", "[::1]:80", "127.3.4.5"] {
        assert!(http(near).is_ok(), "{near}");
    }
    for far in [
        "10.0.0.1",
        "s3.example.org:80",
        "localhost.evil.org",
        "[fe80::1]",
        "127.0.0.1.evil.org",
    ] {
        let text = problem(http(far));
        assert!(text.contains("VAULTFS_ALLOW_HTTP=1"), "{far}: {text}");
    }
    let allowed = [("AWS_ENDPOINT_URL", "http://10.0.0.1"), ("VAULTFS_ALLOW_HTTP", "1")];
    assert!(with(&allowed).is_ok());
    for bad in [
        "host",
        "ftp://host",
        "https://",
        "https://host/path",
        "http://u@127.0.0.1",
    ] {
        assert!(with(&[("AWS_ENDPOINT_URL", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn a_profile_gives_what_no_variable_says() {
    let dir = TempDir::new().unwrap();
    let aws = dir.path().join(".aws");
    std::fs::create_dir(&aws).unwrap();
    std::fs::write(
        aws.join("config"),
        "[profile lab]\nregion = r1\nendpoint_url = http://127.0.0.1:1\n[profile sso]\nsso_session = x\n",
    )
    .unwrap();
    std::fs::write(
        aws.join("credentials"),
        "[lab]\naws_access_key_id = P\naws_secret_access_key = Q\naws_session_token = T\n",
    )
    .unwrap();
    let home = ("HOME", dir.path().to_str().unwrap());
    let lab = settings(&[home, ("AWS_PROFILE", "lab")]).unwrap();
    assert_eq!(
        (lab.region.as_str(), lab.bucket_url("b").as_str()),
        ("r1", "http://127.0.0.1:1/b")
    );
    let keys = Keys {
        id: "P".into(),
        secret: "Q".into(),
        token: Some("T".into()),
    };
    assert!(lab.signer == Signer::Keys(keys));
    let over = settings(&[home, ("AWS_PROFILE", "lab"), ("AWS_REGION", "r2")]).unwrap();
    assert_eq!(over.region, "r2");
    assert!(problem(settings(&[home, ("AWS_PROFILE", "nobody")])).contains("nobody"));
    assert!(problem(settings(&[home, ("AWS_PROFILE", "sso")])).contains("export-credentials"));
}

#[test]
fn missing_and_half_credentials_are_told_with_the_cure() {
    let none = [("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true")];
    assert!(problem(settings(&none)).contains("AWS_ACCESS_KEY_ID"));
    assert!(settings(&[("HOME", "/nonexistent")]).unwrap().signer == Signer::Lent);
    let half = [("HOME", "/nonexistent"), ("AWS_ACCESS_KEY_ID", "A")];
    assert!(problem(settings(&half)).contains("AWS_SECRET_ACCESS_KEY is not"));
    assert!(with(&[("AWS_SKIP_SIGNATURE", "true")]).unwrap().signer == Signer::Nobody);
    assert!(problem(with(&[("VAULTFS_WRITE_RETRY", "soon")])).contains("VAULTFS_WRITE_RETRY"));
    assert_eq!(
        with(&[("VAULTFS_WRITE_RETRY", "20")]).unwrap().write_patience.as_secs(),
        20
    );
}
