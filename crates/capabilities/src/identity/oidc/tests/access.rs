//! Access tokens of the provider, shown at our MCP endpoints.

use super::*;

/// An access token of the provider, altered.
fn token(house: &House, typ: &str, alter: impl Fn(&mut Map<String, Value>)) -> String {
    let fake = house.provided.lock();
    let now = house.clock.now().0 / 1_000_000;
    let claims = json!({
        "iss": fake.issuer, "sub": "s-1", "aud": format!("{HOME}/mcp"), "client_id": "editor", "iat": now,
        "exp": now + 300, "scope": "openid *:read",
    });
    let mut claims = claims.as_object().unwrap().clone();
    alter(&mut claims);
    fake.signer.sign(&json!({ "alg": "ES256", "kid": fake.signer.id, "typ": typ }), &claims)
}

async fn show(house: &House, endpoint: &str, token: &str) -> Result<Option<Caller>> {
    house.room.oidc.authenticate_at(endpoint, token, Face::Mcp, None).await
}

async fn open() -> House {
    House::new(sqlite().await, |config| config.access_tokens = true).await
}

#[tokio::test]
async fn a_token_of_the_provider_opens_the_endpoint_that_it_is_for() {
    let house = open().await;
    let good = token(&house, "at+jwt", |_| {});
    let nobody = show(&house, "/mcp", &good).await.unwrap_err();
    assert_eq!(nobody.kind, Kind::Unauthenticated, "{nobody}");
    let person = house.login().await.unwrap();
    let caller = show(&house, "/mcp", &good).await.unwrap().unwrap();
    assert_eq!((caller.name.as_str(), caller.role), ("editor on behalf of ada", person.role));
    assert!(house.call(&caller, "list_jobs", json!({})).await.is_ok());
    let denied = house.call(&caller, "create_receiver", json!({ "name": "x", "sender": "github" })).await;
    assert_eq!(denied.unwrap_err().kind, Kind::Forbidden, "the token gives no more than it says");
    // Of the common endpoint, it is good at the others as well; of another one, only there.
    assert!(show(&house, "/mcp/services/x", &good).await.unwrap().is_some());
    let one = token(&house, "JWT", |claims| {
        drop(claims.insert("aud".to_owned(), json!([format!("{HOME}/mcp/services/x")])))
    });
    assert!(show(&house, "/mcp/services/x", &one).await.unwrap().is_some());
    assert_eq!(show(&house, "/mcp", &one).await.unwrap_err().kind, Kind::Unauthenticated);
    // What goes on without it is not begun with it.
    assert!(house.room.identity.caller_of(&caller.subject, Face::Schedule).is_none());
    house.clock.advance_seconds(361);
    assert_eq!(show(&house, "/mcp", &good).await.unwrap_err().kind, Kind::Unauthenticated, "it has ended");
}

#[tokio::test]
async fn v9_2_3_an_access_token_for_somebody_else_or_of_another_kind_is_refused() {
    let house = open().await;
    house.login().await.unwrap();
    let put = |name: &str, value: Value| {
        let name = name.to_owned();
        move |claims: &mut Map<String, Value>| drop(claims.insert(name.clone(), value.clone()))
    };
    let wrong = [
        token(&house, "at+jwt", put("aud", json!("opsroom"))),
        token(&house, "at+jwt", put("aud", json!(format!("{HOME}.evil.example/mcp")))),
        token(&house, "at+jwt", put("aud", json!("https://other.example/mcp"))),
        token(&house, "at+jwt", put("iss", json!("https://evil.example"))),
        token(&house, "at+jwt", put("sub", json!("s-2"))),
        token(&house, "at+jwt", put("exp", json!(1))),
        token(&house, "at+jwt", put("nbf", json!(9_999_999_999_i64))),
        token(&house, "at+jwt", put("nonce", json!("n"))),
        token(&house, "logout+jwt", |_| {}),
    ];
    for (number, token) in wrong.iter().enumerate() {
        let error = show(&house, "/mcp", token).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthenticated, "{number}: {error}");
    }
    let good = token(&house, "at+jwt", |_| {});
    let stripped = format!("{}.", good.rsplit_once('.').unwrap().0);
    assert_eq!(show(&house, "/mcp", &stripped).await.unwrap_err().kind, Kind::Unauthenticated);
    // Where none is taken, it is no token of ours either.
    let closed = House::plain().await;
    assert!(show(&closed, "/mcp", &good).await.unwrap().is_none());
    let error = closed.room.identity.authenticate_at("/mcp", &good, Face::Mcp, None).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unauthenticated);
}
