//! Who is taken for a client: by a document, by registering, by a secret.

use super::*;

#[tokio::test]
async fn cimd_pointing_inwards_is_not_fetched() {
    let house = House::new(sqlite().await).await;
    let program = house.program("none").await;
    for id in [
        "https://127.0.0.1/client.json",
        "https://[::1]/client.json",
        "https://[::ffff:169.254.169.254]/client.json",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.7/client.json",
        "https://0x7f.1/client.json",
        "https://localhost/client.json",
        "https://127.0.0.1:6379/client.json",
        "https://app.example@127.0.0.1/client.json",
        "https://app.example/client.json#x",
        "https://app.example",
        "https://app.example/a/../client.json",
        "http://app.example/client.json",
        "file:///etc/passwd",
    ] {
        let refused = house.asked(&program, &[("client_id", id)]).await.unwrap_err();
        assert!(matches!(refused, Refused::Told(_)), "{id}: {refused:?}");
    }
    // Somebody who is not logged in makes us fetch nothing at all.
    let public = program.request(&[("client_id", "https://app.example/client.json")]);
    assert!(matches!(house.room.oauth.asked(&public, false).await, Err(Refused::LogIn)));
    let trusting = OAuthConfig { client_hosts: vec!["app.example".to_owned()], ..OAuthConfig::default() };
    let house = House::with(sqlite().await, trusting).await;
    let other = program.request(&[("client_id", "https://other.example/client.json")]);
    let Err(Refused::Told(error)) = house.room.oauth.asked(&other, true).await else {
        panic!("it is not trusted")
    };
    assert!(error.message.contains("oauth.client_hosts"), "{error}");
}

#[tokio::test]
async fn a_document_says_of_which_client_it_is_and_has_no_secret() {
    let house = House::new(sqlite().await).await;
    let id = "https://app.example/client.json";
    let of = |document: Value| house.room.oauth.of_document(id, serde_json::from_value(document).unwrap());
    let good = json!({ "client_id": id, "client_name": "App", "redirect_uris": [CALLBACK], "grant_types": ["authorization_code", "refresh_token"] });
    let client = of(good.clone()).unwrap();
    assert!(client.refreshes && client.auth == model::ClientAuth::None && client.name == "App");
    for (key, value) in [
        ("client_id", json!("https://app.example/other.json")),
        ("client_id", Value::Null),
        ("client_secret", json!("x")),
        ("token_endpoint_auth_method", json!("client_secret_basic")),
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["javascript:alert(1)"])),
        ("grant_types", json!(["implicit"])),
        ("response_types", json!(["token"])),
        ("client_name", json!("a\u{202e}b")),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(of(bad.clone()).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn registration_flood_is_slowed_down_and_what_nobody_used_goes() {
    for test in each_database().await {
        let house = House::new(test).await;
        let metadata = || -> Metadata {
            serde_json::from_value(json!({ "redirect_uris": ["http://127.0.0.1/cb"], "token_endpoint_auth_method": "none", "unknown": 1 })).unwrap()
        };
        let oauth = &house.room.oauth;
        let mut made = 0;
        let flood = async |house: &House| house.room.oauth.register(&stranger(), metadata()).await;
        let slow = loop {
            match flood(&house).await {
                Ok(_) => made += 1,
                Err(denied) => break denied,
            }
            assert!(made < 50, "nothing slowed it down");
        };
        assert_eq!(slow.code, "slow_down");
        let elsewhere = Caller::anonymous(Face::Rest, Some("198.51.100.1".to_owned()));
        let other = oauth.register(&elsewhere, metadata()).await.unwrap();
        let listed =
            async || house.call(&operator(), "list_oauth_clients", json!({ "limit": 200 })).await.unwrap();
        assert_eq!(listed().await["items"].as_array().unwrap().len(), made + 1);
        // Of those, one is used.
        let person = house.person("ada", "viewer").await;
        let program = Program { id: text(&other["client_id"]).to_owned(), secret: None };
        house.yes(&person, &program, &[("redirect_uri", "http://127.0.0.1:5/cb")]).await;
        house.clock.advance_seconds(25 * 3600);
        house.room.identity.agents.remove_old().await.unwrap();
        let left = listed().await;
        assert_eq!(left["items"].as_array().unwrap().len(), 1);
        assert_eq!(left["items"][0]["id"], other["client_id"]);
        assert_eq!(left["items"][0]["created_by"], "itself");
        house.call(&operator(), "delete_oauth_client", json!({ "id": other["client_id"] })).await.unwrap();
        assert!(listed().await["items"].as_array().unwrap().is_empty());
    }
    let closed = House::with(sqlite().await, OAuthConfig::default()).await;
    let metadata = serde_json::from_value(json!({ "redirect_uris": ["http://127.0.0.1/cb"] })).unwrap();
    assert_eq!(closed.room.oauth.register(&stranger(), metadata).await.unwrap_err().code, "access_denied");
    assert!(closed.room.oauth.metadata().unwrap().get("registration_endpoint").is_none());
}

#[tokio::test]
async fn a_client_with_a_secret_must_show_it_and_in_its_way() {
    let house = House::new(sqlite().await).await;
    let person = house.person("ada", "viewer").await;
    let program = house.program("client_secret_post").await;
    let secret = program.secret.clone().unwrap();
    for (secret, basic) in [(None, false), (Some("ocs_0"), false), (Some(secret.as_str()), true)] {
        let back = house.yes(&person, &program, &[]).await;
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", back["code"].as_str()),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let shown = Shown { client_id: &program.id, secret, basic };
        let denied =
            house.room.oauth.token(&stranger(), shown, &pairs.into_iter().collect()).await.unwrap_err();
        assert_eq!(denied.code, "invalid_client");
        house.clock.advance_seconds(120);
    }
    let back = house.yes(&person, &program, &[]).await;
    house.redeem(&program, &back["code"]).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..10 {
        let shown = Shown { client_id: "oc-nobody", secret: Some("guess"), basic: false };
        codes
            .push(house.room.oauth.token(&stranger(), shown, &Parameters::default()).await.unwrap_err().code);
    }
    assert_eq!((codes[0], codes[9]), ("invalid_client", "slow_down"));
}
