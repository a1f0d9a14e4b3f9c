//! What is refused, whoever sends it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::*;

fn forge(house: &House, forge: impl Fn(&Fake, &Map<String, Value>) -> String + Send + Sync + 'static) {
    house.provided.lock().forge = Some(Arc::new(forge));
}

async fn is_refused(house: &House, words: &str) {
    let refused = house.refused().await;
    assert_eq!(refused.kind, Kind::Unauthenticated, "{refused}");
    assert!(refused.message.contains(words), "{refused}");
}

#[tokio::test]
async fn v9_1_1_a_stripped_or_tampered_token_is_refused() {
    let house = House::plain().await;
    for algorithm in ["none", "None", "nOnE", ""] {
        forge(&house, move |_, claims| {
            format!("{}.", unsigned(&json!({ "alg": algorithm, "kid": "one" }), claims))
        });
        is_refused(&house, "algorithms").await;
    }
    forge(&house, |fake, claims| {
        let right = fake.signer.sign(&json!({ "alg": "ES256", "kid": "one" }), claims);
        let mut other = claims.clone();
        other.insert("sub".to_owned(), json!("root"));
        let signature = right.rsplit_once('.').unwrap().1;
        format!("{}.{signature}", unsigned(&json!({ "alg": "ES256", "kid": "one" }), &other))
    });
    is_refused(&house, "signature").await;
    forge(&house, |fake, claims| {
        let right = fake.signer.sign(&json!({ "alg": "ES256", "kid": "one" }), claims);
        format!("{}.", right.rsplit_once('.').unwrap().0)
    });
    is_refused(&house, "signature").await;
}

#[tokio::test]
async fn v9_1_2_a_public_key_is_no_shared_secret() {
    let house = House::plain().await;
    for secret in ["whole key", "coordinate"] {
        forge(&house, move |fake, claims| {
            let public = fake.signer.public();
            let key = if secret == "coordinate" {
                public["x"].as_str().unwrap().to_owned()
            } else {
                public.to_string()
            };
            let signed = unsigned(&json!({ "alg": "HS256", "kid": "one" }), claims);
            let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
            mac.update(signed.as_bytes());
            format!("{signed}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
        });
        is_refused(&house, "algorithms").await;
    }
    // A token brings no key of its own.
    forge(&house, |_, claims| {
        let own = Signer::new("one");
        own.sign(&json!({ "alg": "ES256", "kid": "one", "jwk": own.public() }), claims)
    });
    is_refused(&house, "signature").await;
}

#[tokio::test]
async fn v9_1_3_an_algorithm_that_does_not_fit_the_key_is_refused() {
    let house = House::plain().await;
    for algorithm in ["RS256", "PS256", "EdDSA"] {
        forge(&house, move |fake, claims| {
            fake.signer.sign(&json!({ "alg": algorithm, "kid": "one" }), claims)
        });
        is_refused(&house, "signature").await;
    }
    for (header, words) in [
        (json!({ "alg": "ES256", "kid": "one", "crit": ["b64"], "b64": false }), "something else"),
        (json!({ "alg": "ES256", "kid": "one", "typ": "at+jwt" }), "something else"),
        (json!({ "alg": "ES384", "kid": "one" }), "algorithms"),
        (json!({ "alg": "ES256", "kid": 1 }), "kid"),
    ] {
        forge(&house, move |fake, claims| fake.signer.sign(&header, claims));
        is_refused(&house, words).await;
    }
}

#[tokio::test]
async fn v9_2_3_a_wrong_audience_is_refused() {
    let house = House::plain().await;
    for audience in
        [json!("another"), json!(["another"]), json!([]), json!(null), json!(["opsroom", "another"])]
    {
        house.provided.lie(move |claims| drop(claims.insert("aud".to_owned(), audience.clone())));
        is_refused(&house, "another client").await;
    }
    house.provided.lie(|claims| drop(claims.insert("azp".to_owned(), json!("another"))));
    is_refused(&house, "another client").await;
    house.provided.lie(|claims| {
        claims.extend([("aud".to_owned(), json!(["opsroom", "x"])), ("azp".to_owned(), json!("opsroom"))]);
    });
    house.login().await.unwrap();
}

#[tokio::test]
async fn v9_2_1_a_token_out_of_its_time_is_refused() {
    let house = House::plain().await;
    let now = START.0 / 1_000_000;
    for (claim, value, words) in [
        ("exp", json!(now - 61), "has ended"),
        ("exp", json!(null), "when it ends"),
        ("exp", json!("never"), "when it ends"),
        ("iat", json!(now + 120), "compare the clocks"),
        ("iat", json!(now - 700), "compare the clocks"),
        ("iat", json!(null), "when it was made"),
        ("nbf", json!(now + 120), "not good yet"),
    ] {
        house.provided.lie(move |claims| drop(claims.insert(claim.to_owned(), value.clone())));
        is_refused(&house, words).await;
    }
}

#[tokio::test]
async fn a_wrong_nonce_is_refused() {
    let house = House::plain().await;
    for nonce in [json!("of another login"), json!(null), json!("")] {
        house.provided.lie(move |claims| drop(claims.insert("nonce".to_owned(), nonce.clone())));
        is_refused(&house, "another login").await;
    }
}

#[tokio::test]
async fn a_mixed_up_issuer_is_refused() {
    let house = House::plain().await;
    let way = house.way("", "").await;
    for way in [way.with("iss", "https://evil.example"), way.without("iss"), way.with("iss", "")] {
        let refused = house.come_back(&stranger(), &way).await.err().unwrap();
        assert_eq!(refused.kind, Kind::Forbidden, "{refused}");
    }
    assert_eq!(house.provided.asked("/token"), 0, "no code went to the wrong one");
    house.provided.lie(|claims| drop(claims.insert("iss".to_owned(), json!("https://evil.example"))));
    is_refused(&house, "another issuer").await;
    // Metadata in which a provider calls itself by the name of another.
    let house = House::plain().await;
    house.provided.lock().metadata =
        Arc::new(|metadata| drop(metadata.insert("issuer".to_owned(), json!("https://login.example.com"))));
    let refused = house.room.oidc.begin("", "").await.err().unwrap();
    assert_eq!(refused.kind, Kind::Unavailable, "{refused}");
}

#[tokio::test]
async fn a_replayed_state_is_refused() {
    for test in each_database().await {
        let house = House::new(test, |_| {}).await;
        let way = house.way("", "").await;
        house.come_back(&stranger(), &way).await.unwrap();
        // This provider takes a code as often as it comes.
        let refused = house.come_back(&stranger(), &way).await.err().unwrap();
        assert_eq!(refused.kind, Kind::Forbidden, "{refused}");
    }
}

#[tokio::test]
async fn a_login_that_another_browser_began_is_refused() {
    let house = House::plain().await;
    let (mine, theirs) = (house.way("", "").await, house.way("", "").await);
    let crossed = Way { cookie: mine.cookie.clone(), back: theirs.back.clone() };
    let none = Way { cookie: String::new(), back: theirs.back.clone() };
    // The state is made of all that the cookie holds, the path to go on to included.
    let (rest, _) = mine.cookie.rsplit_once('.').unwrap();
    let then = BASE64URL_NOPAD.encode(br#"{"next":"/other"}"#);
    let altered = Way { cookie: format!("{rest}.{then}"), back: mine.back.clone() };
    let empty = mine.with("state", "");
    for way in [crossed, none, altered, empty, mine.without("state")] {
        let refused = house.come_back(&stranger(), &way).await.err().unwrap();
        assert_eq!(refused.kind, Kind::Forbidden, "{refused}");
    }
    assert_eq!(house.provided.asked("/token"), 0);
    house.clock.advance_seconds(601);
    assert_eq!(house.come_back(&stranger(), &mine).await.err().unwrap().kind, Kind::Forbidden, "too late");
}

#[tokio::test]
async fn a_parameter_that_comes_twice_is_refused() {
    let house = House::plain().await;
    let mut way = house.way("", "").await;
    way.back.push(("code".to_owned(), "another".to_owned()));
    assert_eq!(house.come_back(&stranger(), &way).await.err().unwrap().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_provider_that_says_no_is_repeated_in_plain_words() {
    let house = House::plain().await;
    let way = house.way("", "").await.without("code");
    let no = house.come_back(&stranger(), &way.with("error", "access_denied")).await.err().unwrap();
    assert!(no.message.contains("access_denied"), "{no}");
    let no =
        house.come_back(&stranger(), &way.with("error", "<script>alert(1)</script>")).await.err().unwrap();
    assert!(!no.message.contains("script"), "{no}");
}

#[tokio::test]
async fn keys_are_rotated_and_a_flood_of_unknown_ones_is_bounded() {
    let house = House::plain().await;
    house.login().await.unwrap();
    house.login().await.unwrap();
    assert_eq!(house.provided.asked("/jwks"), 1, "keys are kept");
    house.provided.lock().signer = Signer::new("two");
    house.login().await.unwrap();
    assert_eq!(house.provided.asked("/jwks"), 2, "an unknown key is asked for at once");
    // The old key is gone, and what it signs is refused.
    let old = Arc::new(Signer::new("one"));
    forge(&house, move |_, claims| old.sign(&json!({ "alg": "ES256", "kid": "one" }), claims));
    for _ in 0..10 {
        assert_eq!(house.refused().await.kind, Kind::Unauthenticated);
    }
    assert_eq!(house.provided.asked("/jwks"), 5, "five in a minute");
    house.provided.lock().forge = None;
    house.login().await.unwrap();
    house.clock.advance_seconds(61);
    house.provided.lock().signer = Signer::new("three");
    house.login().await.unwrap();
}

#[tokio::test]
async fn the_client_secret_is_a_reference_and_goes_nowhere_else() {
    let house = House::new(sqlite().await, |oidc| oidc.client_secret = "secret://opsroom/sso".into()).await;
    assert_eq!(house.refused().await.kind, Kind::NotFound, "there is no such secret yet");
    let input = json!({ "path": "sso", "value": "s3cr3t-of-the-client" });
    house.call(&operator(), "put_secret", input).await.unwrap();
    house.login().await.unwrap();
    let audit = house.call(&operator(), "list_audit", json!({ "limit": 50 })).await.unwrap().to_string();
    assert!(audit.contains("use_secret") && !audit.contains("s3cr3t-of"), "{audit}");
}

#[tokio::test]
async fn a_provider_at_a_private_address_is_reached_only_where_that_is_said() {
    let house = House::new(sqlite().await, |oidc| oidc.private_address = false).await;
    let refused = house.room.oidc.begin("", "").await.err().unwrap();
    assert!(refused.message.contains("may not reach"), "{refused}");
    assert_eq!(house.provided.asked("/.well-known/openid-configuration"), 0);
    // Its metadata open no other host.
    let house = House::plain().await;
    house.provided.lock().metadata = Arc::new(|metadata| {
        drop(metadata.insert("jwks_uri".to_owned(), json!("http://localhost:18008/jwks")))
    });
    let refused = house.refused().await;
    assert!(refused.message.contains("may not reach"), "{refused}");
}

#[test]
fn a_configuration_that_cannot_be_safe_is_refused() {
    let right = OidcConfig {
        issuer: "https://login.example.com".to_owned(),
        client_id: "opsroom".to_owned(),
        ..OidcConfig::default()
    };
    right.validate().unwrap();
    for (key, wrong) in [
        ("oidc.issuer", OidcConfig { issuer: "http://login.example.com".to_owned(), ..right.clone() }),
        ("oidc.issuer", OidcConfig { issuer: "https://login.example.com?x=1".to_owned(), ..right.clone() }),
        ("oidc.client_id", OidcConfig { client_id: String::new(), ..right.clone() }),
        ("oidc.algorithms", OidcConfig { algorithms: Vec::new(), ..right.clone() }),
        ("oidc.roles", OidcConfig { roles: vec![group("", Role::Viewer, &[])], ..right.clone() }),
        ("oidc.roles", OidcConfig { roles: vec![group("x", Role::Viewer, &["A b"])], ..right.clone() }),
    ] {
        let error = wrong.validate().unwrap_err();
        assert!(error.message.starts_with(key), "{key}: {error}");
    }
}
