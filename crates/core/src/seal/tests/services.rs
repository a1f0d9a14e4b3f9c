//! Master keys that are elsewhere: in a transit engine, in a key management service. Both are played by the test.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::error::Kind;
use crate::seal::kms::Kms;

/// Answers each request by its head and its JSON, until it is told to be down.
async fn service(
    answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
) -> (String, Arc<Mutex<bool>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let down = Arc::new(Mutex::new(false));
    let told = down.clone();
    #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
    drop(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if *told.lock().unwrap() {
                continue;
            }
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.unwrap();
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let (status, body) = answer(head, &serde_json::from_str(body).unwrap());
            let body = body.to_string();
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }));
    (url, down)
}

/// A key management service that gives back what it was given, to who says the same about it.
fn kms(head: &str, body: &Value) -> (u16, Value) {
    if !head.contains("/eu-central-1/kms/aws4_request") || body["KeyId"] != "alias/opsroom" {
        return (400, json!({ "__type": "AccessDeniedException" }));
    }
    if head.contains("TrentService.Encrypt") {
        let blob = json!([body["Plaintext"], body["EncryptionContext"]]).to_string();
        return (200, json!({ "CiphertextBlob": data_encoding::BASE64.encode(blob.as_bytes()) }));
    }
    let blob = data_encoding::BASE64.decode(body["CiphertextBlob"].as_str().unwrap().as_bytes());
    let kept: Value = serde_json::from_slice(&blob.unwrap_or_default()).unwrap_or_default();
    if kept[1] != body["EncryptionContext"] {
        return (400, json!({ "__type": "com.amazonaws.kms#InvalidCiphertextException" }));
    }
    (200, json!({ "Plaintext": kept[0] }))
}

fn transit(head: &str, body: &Value) -> (u16, Value) {
    if !head.to_ascii_lowercase().contains("x-vault-token: s3cr3t") {
        return (403, json!({ "errors": ["permission denied"] }));
    }
    match body["plaintext"].as_str() {
        Some(plain) => (200, json!({ "data": { "ciphertext": format!("vault:v1:{plain}") } })),
        None => {
            let sealed = body["ciphertext"].as_str().unwrap().strip_prefix("vault:v1:").unwrap_or_default();
            (200, json!({ "data": { "plaintext": sealed } }))
        }
    }
}

fn kms_config(url: &str) -> SealConfig {
    SealConfig {
        kms_key_id: "alias/opsroom".to_owned(),
        kms_region: "eu-central-1".to_owned(),
        kms_endpoint: url.to_owned(),
        kms_access_key_id: "AKID".to_owned(),
        kms_secret_access_key: "s3cr3t".into(),
        ..SealConfig::default()
    }
}

fn transit_config(url: &str) -> SealConfig {
    SealConfig { transit_address: url.to_owned(), transit_token: "s3cr3t".into(), ..SealConfig::default() }
}

fn at(test: &TestDb, config: &SealConfig) -> Sealer {
    config.validate().unwrap();
    let rules = EgressConfig { allow_addresses: vec!["127.0.0.1".to_owned()], ..EgressConfig::default() };
    let egress = Egress::new(&rules).unwrap();
    Sealer::new(test.db.clone(), Clock::manual(Time(1)), egress, config.clone(), test.folder.path())
}

#[tokio::test]
async fn a_master_key_elsewhere_seals_and_opens_and_is_nowhere_here() {
    let (kms_url, _) = service(kms).await;
    let (transit_url, _) = service(transit).await;
    for config in [kms_config(&kms_url), transit_config(&transit_url)] {
        let test = migrated().await;
        let sealed = at(&test, &config).seal(&["a"], b"value").await.unwrap();
        assert_eq!(&**at(&test, &config).open(&["a"], &sealed).await.unwrap(), b"value");
        assert!(!test.folder.path().join(MASTER_FILE).exists());
        // Its key-encryption keys are made anew, and what older ones sealed opens.
        let sealer = at(&test, &config);
        sealer.rotate().await.unwrap();
        assert_eq!(&**sealer.open(&["a"], &sealed).await.unwrap(), b"value");
    }
}

#[tokio::test]
async fn a_kms_that_is_down_fails_closed_and_says_so() {
    let (kms_url, kms_down) = service(kms).await;
    let (transit_url, transit_down) = service(transit).await;
    for (config, down, name) in [
        (kms_config(&kms_url), kms_down, "AWS KMS"),
        (transit_config(&transit_url), transit_down, "transit engine"),
    ] {
        let test = migrated().await;
        let sealed = at(&test, &config).seal(&["a"], b"value").await.unwrap();
        *down.lock().unwrap() = true;
        let sealer = at(&test, &config);
        for error in [
            sealer.open(&["a"], &sealed).await.expect_err("nothing opens"),
            sealer.seal(&["a"], b"other").await.expect_err("nothing is sealed"),
            sealer.check().await.expect_err("the check tells"),
        ] {
            assert_eq!(error.kind, Kind::Unavailable);
            assert!(error.message.contains(name) && !error.message.contains("s3cr3t"), "{error}");
        }
        *down.lock().unwrap() = false;
        assert_eq!(&**sealer.open(&["a"], &sealed).await.unwrap(), b"value", "it is back");
    }
}

#[tokio::test]
async fn a_kms_that_refuses_and_a_moved_row_open_nothing() {
    let (url, _) = service(kms).await;
    let test = migrated().await;
    let sealed = at(&test, &kms_config(&url)).seal(&["a"], b"value").await.unwrap();
    let wrong = SealConfig { kms_key_id: "alias/other".to_owned(), ..kms_config(&url) };
    let error = at(&test, &wrong).open(&["a"], &sealed).await.unwrap_err();
    assert!(error.message.contains("AccessDeniedException"), "{error}");
    // A key under the name of another: the service is told the name.
    let key = Kms::new(&kms_config(&url), at(&test, &wrong).inner.egress.clone(), Clock::manual(Time(1)));
    let wrapped = key.wrap("one", b"0123456789abcdef0123456789abcdef").await.unwrap();
    key.unwrap("one", &wrapped).await.unwrap();
    let error = key.unwrap("two", &wrapped).await.unwrap_err();
    assert!(error.message.contains("InvalidCiphertextException"), "{error}");
}

#[test]
fn a_master_key_is_in_one_place() {
    let right = kms_config("https://kms.example");
    right.validate().unwrap();
    for (key, wrong) in [
        ("kms_key_id", SealConfig { transit_address: "https://vault".to_owned(), ..right.clone() }),
        ("kms_key_id", SealConfig { value: "00".into(), ..right.clone() }),
        ("kms_region", SealConfig { kms_region: "eu.evil.example/".to_owned(), ..right.clone() }),
        ("kms_access_key_id", SealConfig { kms_secret_access_key: "".into(), ..right.clone() }),
    ] {
        let error = wrong.validate().unwrap_err();
        assert!(error.message.starts_with(&format!("secrets.master_key.{key}")), "{error}");
    }
}
