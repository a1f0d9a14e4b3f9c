//! Whose account a login opens.

use super::*;

#[tokio::test]
async fn a_first_login_makes_an_account_and_the_next_opens_it() {
    for test in each_database().await {
        let house = House::new(test, |_| {}).await;
        let first = house.login().await.unwrap();
        assert_eq!((first.name.as_str(), first.role), ("ada", Role::Viewer));
        let second = house.login().await.unwrap();
        assert_eq!(first.subject, second.subject);
        assert_ne!(first.session, second.session);
        let profile = house.call(&first, "get_profile", json!({})).await.unwrap();
        assert_eq!((&profile["email"], &profile["is_verified"]), (&json!("ada@example.com"), &json!(true)));
        assert_eq!(profile["full_name"], "Ada Lovelace");
        let linked = house.call(&first, "list_identities", json!({})).await.unwrap();
        assert_eq!(linked["items"][0]["subject"], "s-1");
        let audit =
            house.call(&operator(), "list_audit", json!({ "operation": "login", "limit": 1 })).await.unwrap();
        assert_eq!(audit["items"][0]["subject"], json!(first.subject));
        assert_eq!(audit["items"][0]["outcome"], "ok");
    }
}

#[tokio::test]
async fn subjects_that_differ_in_case_alone_are_two_people() {
    for test in each_database().await {
        let house = House::new(test, |_| {}).await;
        let ada = house.login().await.unwrap();
        house.is("sub", json!("S-1"));
        house.is("email", json!("other@example.com"));
        let other = house.login().await.unwrap();
        assert_ne!(ada.subject, other.subject);
        assert!(other.name.starts_with("ada-"), "the name was taken: {}", other.name);
    }
}

#[tokio::test]
async fn an_address_alone_opens_no_account_and_links_none() {
    for test in each_database().await {
        let house = House::new(test, |_| {}).await;
        house.person("root", "ada@example.com").await;
        let refused = house.refused().await;
        assert_eq!(refused.kind, Kind::Forbidden);
        assert!(refused.message.contains("an address alone opens none"), "{refused}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_verified_is_not_taken() {
    let house = House::plain().await;
    house.person("root", "ada@example.com").await;
    house.is("email_verified", json!(false));
    let ada = house.login().await.unwrap();
    let profile = house.call(&ada, "get_profile", json!({})).await.unwrap();
    assert!(profile["email"].as_str().unwrap().ends_with("@sso.invalid"), "{profile}");
    assert_eq!(profile["is_verified"], false);
}

#[tokio::test]
async fn nobody_signs_up_where_that_is_off() {
    let house = House::new(sqlite().await, |oidc| oidc.sign_up = false).await;
    let refused = house.refused().await;
    assert_eq!(refused.kind, Kind::Forbidden);
    let users = house.call(&operator(), "list_users", json!({})).await.unwrap();
    assert_eq!(users["items"], json!([]));
    let audit =
        house.call(&operator(), "list_audit", json!({ "operation": "login", "limit": 1 })).await.unwrap();
    assert_eq!(audit["items"][0]["outcome"], "forbidden");
}

#[tokio::test]
async fn groups_give_roles_and_teams_at_each_login() {
    for test in each_database().await {
        let roles =
            vec![group("ops", Role::Operator, &["payments"]), group("leads", Role::Administrator, &["core"])];
        let house = House::new(test, |oidc| oidc.roles = roles).await;
        let ada = house.login().await.unwrap();
        assert_eq!((ada.role, ada.teams.as_slice()), (Role::Operator, ["payments".to_owned()].as_slice()));
        house.is("groups", json!(["leads", "ops", "others"]));
        let ada = house.login().await.unwrap();
        assert_eq!(ada.role, Role::Administrator);
        assert_eq!(ada.teams, ["payments", "core"]);
        house.is("groups", json!("ops"));
        assert_eq!(house.login().await.unwrap().role, Role::Operator);
        // Who is in none any more is not let in, and what was open is open no longer.
        let open = house.login().await.unwrap();
        house.is("groups", json!(["others"]));
        assert_eq!(house.refused().await.kind, Kind::Forbidden);
        assert!(house.call(&open, "list_sessions", json!({})).await.unwrap()["items"] == json!([]));
    }
}

#[tokio::test]
async fn groups_are_read_from_within_claims_and_from_what_is_told_besides() {
    let house = House::new(sqlite().await, |oidc| {
        oidc.roles = vec![group("ops", Role::Operator, &[])];
        oidc.group_claim = "realm_access.roles".to_owned();
        oidc.default_role = Some(Role::Viewer);
    })
    .await;
    assert_eq!(house.login().await.unwrap().role, Role::Viewer, "`groups` is not the claim");
    house.is("realm_access", json!({ "roles": ["ops"] }));
    assert_eq!(house.login().await.unwrap().role, Role::Operator);
    house.provided.lock().person.remove("realm_access");
    house.provided.lock().more = json!({ "sub": "s-1", "realm_access": { "roles": ["ops"] } });
    assert_eq!(house.login().await.unwrap().role, Role::Operator);
    house.provided.lock().more = json!({ "sub": "somebody else", "realm_access": { "roles": ["ops"] } });
    assert_eq!(house.refused().await.kind, Kind::Unauthenticated);
}

#[tokio::test]
async fn a_login_is_linked_by_who_knows_the_password_and_unlinked_again() {
    for test in each_database().await {
        let house = House::new(test, |oidc| oidc.sign_up = false).await;
        let ada = house.person("ada", "ada@example.com").await;
        let wrong = json!({ "password": "not the password" });
        assert_eq!(house.call(&ada, "link_identity", wrong).await.unwrap_err().kind, Kind::Forbidden);
        let begun = house.call(&ada, "link_identity", json!({ "password": PASSWORD })).await.unwrap();
        let ticket = begun["url"].as_str().unwrap().rsplit_once("link=").unwrap().1.to_owned();
        let way = house.way("", &ticket).await;
        assert!(matches!(house.come_back(&ada, &way).await.unwrap(), Ended::Linked));
        let by_login = house.login().await.unwrap();
        assert_eq!(
            (by_login.subject, by_login.role),
            (ada.subject.clone(), Role::Operator),
            "roles are given here"
        );
        // The ticket works once.
        house.is("sub", json!("s-2"));
        let way = house.way("", &ticket).await;
        assert!(house.come_back(&ada, &way).await.is_err());
        house.is("sub", json!("s-1"));
        let linked = house.call(&ada, "list_identities", json!({})).await.unwrap();
        let id = linked["items"][0]["id"].clone();
        let input = json!({ "id": id, "password": PASSWORD });
        house.call(&ada, "unlink_identity", input.clone()).await.unwrap();
        assert_eq!(house.refused().await.kind, Kind::Forbidden);
        assert_eq!(house.call(&ada, "unlink_identity", input).await.unwrap_err().kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn a_link_is_finished_by_nobody_but_who_asked_for_it() {
    let house = House::new(sqlite().await, |oidc| oidc.sign_up = false).await;
    let mallory = house.person("mallory", "mallory@example.com").await;
    let ada = house.person("ada", "ada@example.com").await;
    let begun = house.call(&mallory, "link_identity", json!({ "password": PASSWORD })).await.unwrap();
    let ticket = begun["url"].as_str().unwrap().rsplit_once("link=").unwrap().1.to_owned();
    for victim in [&ada, &stranger()] {
        let way = house.way("", &ticket).await;
        assert_eq!(house.come_back(victim, &way).await.err().map(|error| error.kind), Some(Kind::Forbidden));
    }
    assert_eq!(house.refused().await.kind, Kind::Forbidden, "nothing was linked");
}

#[tokio::test]
async fn a_switched_off_or_deleted_account_is_not_opened() {
    let house = House::plain().await;
    let ada = house.login().await.unwrap();
    let id = ada.subject.strip_prefix("user:").unwrap();
    house.call(&operator(), "update_user", json!({ "id": id, "is_active": false })).await.unwrap();
    assert_eq!(house.refused().await.kind, Kind::Unauthenticated);
    house.call(&operator(), "delete_user", json!({ "id": id })).await.unwrap();
    let again = house.login().await.unwrap();
    assert_ne!(again.subject, ada.subject, "a new account, with nothing of the old one");
}

#[tokio::test]
async fn an_account_without_a_password_gets_none_by_mail() {
    let house = House::plain().await;
    house.login().await.unwrap();
    house.call(&stranger(), "request_password_reset", json!({ "email": "ada@example.com" })).await.unwrap();
    house.room.lifecycle.finish(std::time::Duration::from_secs(10)).await.unwrap();
    let audit = house
        .call(&operator(), "list_audit", json!({ "operation": "request_password_reset" }))
        .await
        .unwrap();
    assert_eq!(audit["items"], json!([]), "no token was made");
}
