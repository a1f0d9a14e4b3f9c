//! What OAuth promises, on every database. A test is named after the attack that it withstands.

use opsroom_core::egress::EgressConfig;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Clock, Kind};

use super::model::Denied;
use super::*;
use crate::identity::accounts::config::AccountsConfig;
use crate::room::{Answer, Room, RoomConfig};

mod clients;

const START: Time = Time(1_790_000_000_000_000);
const ISSUER: &str = "https://ops.example.com";
const CALLBACK: &str = "https://app.example/cb";
/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const PASSWORD: &str = "correct horse battery";

struct House {
    room: Arc<Room>,
    clock: Clock,
    _test: TestDb,
}

/// A client that was made, and what it asks with.
struct Program {
    id: String,
    secret: Option<String>,
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}

fn stranger() -> Caller {
    Caller::anonymous(Face::Rest, Some("192.0.2.1".to_owned()))
}

impl House {
    async fn new(test: TestDb) -> Self {
        Self::with(test, OAuthConfig { registration: true, ..OAuthConfig::default() }).await
    }

    async fn with(test: TestDb, oauth: OAuthConfig) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let clock = Clock::manual(START);
        let data_dir = test.folder.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let config = RoomConfig {
            data_dir: data_dir.clone(),
            database: test.config.clone(),
            secrets: Resolver::new(&data_dir, &Default::default()),
            accounts: AccountsConfig::default(),
            egress: EgressConfig::default(),
            oauth,
            public_url: ISSUER.to_owned(),
            ..RoomConfig::default()
        };
        let room = Room::open(&config, clock.clone(), Lifecycle::new()).await.unwrap();
        Self { room, clock, _test: test }
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        self.room.call(operation, Call::new(caller.clone()), input).await.map(Answer::into_value)
    }

    /// A person with an account, logged in.
    async fn person(&self, name: &str, role: &str) -> Caller {
        let input = json!({ "username": name, "email": format!("{name}@example.com"), "role": role });
        let made = self.call(&operator(), "create_user", input).await.unwrap();
        let input = json!({ "token": made["invitation"], "password": PASSWORD });
        self.call(&stranger(), "reset_password", input).await.unwrap();
        self.login(name).await
    }

    async fn login(&self, name: &str) -> Caller {
        let input = json!({ "username": name, "password": PASSWORD });
        let answer = self.call(&stranger(), "login", input).await.unwrap();
        let token = answer["access_token"].as_str().unwrap();
        self.room.identity.authenticate(token, Face::Rest, Some("192.0.2.1".to_owned())).await.unwrap()
    }

    async fn program(&self, auth: &str) -> Program {
        let input =
            json!({ "name": "Agent", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": auth });
        let made = self.call(&operator(), "create_oauth_client", input).await.unwrap();
        Program {
            id: made["client"]["id"].as_str().unwrap().to_owned(),
            secret: made["client_secret"].as_str().map(str::to_owned),
        }
    }

    async fn asked(&self, program: &Program, more: &[(&str, &str)]) -> Result<model::Asked, Refused> {
        self.room.oauth.asked(&program.request(more), true).await
    }

    /// A person lets the program in; answers the parameters of the browser's last stop.
    async fn yes(
        &self,
        person: &Caller,
        program: &Program,
        more: &[(&str, &str)],
    ) -> HashMap<String, String> {
        let asked = self.asked(program, more).await.unwrap();
        let ticket = self.room.oauth.ask(person, &asked).await.unwrap();
        query(&self.room.oauth.decide(person, &ticket, Some(&[0, 1, 2])).await.unwrap())
    }

    async fn token(&self, program: &Program, pairs: &[(&str, &str)]) -> Result<Value, Denied> {
        let shown = Shown { client_id: &program.id, secret: program.secret.as_deref(), basic: false };
        self.room.oauth.token(&stranger(), shown, &pairs.iter().copied().collect()).await
    }

    async fn redeem(&self, program: &Program, code: &str) -> Result<Value, Denied> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.token(program, &pairs).await
    }

    async fn renew(&self, program: &Program, token: &Value) -> Result<Value, Denied> {
        self.token(program, &[("grant_type", "refresh_token"), ("refresh_token", text(token))]).await
    }

    /// The whole way: a person, a program, and its tokens.
    async fn connected(&self, role: &str, scope: &str) -> (Caller, Program, Value) {
        let person = self.person("ada", role).await;
        let program = self.program("none").await;
        let back = self.yes(&person, &program, &[("scope", scope)]).await;
        let tokens = self.redeem(&program, &back["code"]).await.unwrap();
        (person, program, tokens)
    }

    async fn open(&self, token: &Value, endpoint: &str) -> Result<Caller> {
        self.room.identity.authenticate_at(endpoint, text(token), Face::Mcp, None).await
    }

    /// What the audit trail says of an action.
    async fn trail(&self, action: &str) -> Vec<Value> {
        let found = self.call(&operator(), "list_audit", json!({ "operation": action })).await.unwrap();
        found["items"].as_array().unwrap().clone()
    }
}

impl Program {
    fn request(&self, more: &[(&str, &str)]) -> Parameters {
        let mut pairs = vec![
            ("client_id", self.id.as_str()),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("state", "a state"),
        ];
        pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        pairs.extend(more);
        pairs.into_iter().collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn query(url: &str) -> HashMap<String, String> {
    reqwest::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_client_acts_on_behalf_of_a_person_and_the_trail_says_so() {
    for test in each_database().await {
        let house = House::new(test).await;
        let (person, program, tokens) = house.connected("operator", "*:read jobs:write").await;
        assert_eq!(tokens["scope"], "*:read jobs:write");
        assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3600)));
        let agent = house.open(&tokens["access_token"], "/mcp").await.unwrap();
        assert_eq!(agent.name, "Agent on behalf of ada");
        assert_eq!((agent.role, agent.teams.as_slice()), (person.role, person.teams.as_slice()));
        assert!(house.call(&agent, "list_jobs", json!({})).await.is_ok());
        // It is not the person: it has no account, and not what the person did not give.
        for operation in ["get_profile", "list_sessions", "list_grants"] {
            assert_eq!(
                house.call(&agent, operation, json!({})).await.unwrap_err().kind,
                Kind::Forbidden,
                "{operation}"
            );
        }
        let input = json!({ "name": "x", "cron": "0 3 * * *", "operation": "get_info", "input": {} });
        house.call(&agent, "create_schedule", input).await.unwrap();
        let record = &house.trail("create_schedule").await[0];
        assert_eq!(record["name"], "Agent on behalf of ada");
        assert_eq!(record["subject"], json!(agent.subject));
        // What goes on without it has its rights, and not the person's.
        let later = house.room.identity.caller_of(&agent.subject, Face::Schedule).unwrap();
        assert_eq!(later.scopes, agent.scopes);
        let grants = house.call(&person, "list_grants", json!({})).await.unwrap();
        assert_eq!(grants["items"][0]["client_id"], json!(program.id));
        // Nothing of it stands in the database in the clear.
        for kind in ["access_token", "refresh_token"] {
            assert!(
                store::oauth::tokens::held(&house.room.database, text(&tokens[kind]))
                    .await
                    .unwrap()
                    .is_none()
            );
        }
        let id = grants["items"][0]["id"].clone();
        house.call(&person, "revoke_grant", json!({ "id": id })).await.unwrap();
        assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
        assert!(house.room.identity.caller_of(&agent.subject, Face::Schedule).is_none());
        assert!(house.renew(&program, &tokens["refresh_token"]).await.is_err());
        assert_eq!(house.trail("authorize_agent").await.len(), 1);
        assert_eq!(house.trail("end_grant").await.len(), 1);
    }
}

#[tokio::test]
async fn code_replay_ends_what_the_code_gave() {
    for test in each_database().await {
        let house = House::new(test).await;
        let person = house.person("ada", "viewer").await;
        let program = house.program("none").await;
        let back = house.yes(&person, &program, &[]).await;
        let tokens = house.redeem(&program, &back["code"]).await.unwrap();
        house.open(&tokens["access_token"], "/mcp").await.unwrap();
        assert_eq!(house.redeem(&program, &back["code"]).await.unwrap_err().code, "invalid_grant");
        assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
        assert_eq!(house.renew(&program, &tokens["refresh_token"]).await.unwrap_err().code, "invalid_grant");
        let record = &house.trail("end_grant").await[0];
        assert!(text(&record["message"]).contains("a code was used twice"), "{record}");
    }
}

#[tokio::test]
async fn a_code_is_for_its_client_its_redirect_its_proof_and_its_minute() {
    let house = House::new(sqlite().await).await;
    let person = house.person("ada", "viewer").await;
    let (program, other) = (house.program("none").await, house.program("none").await);
    let wrong: [(&Program, [(&str, &str); 2]); 5] = [
        (&other, [("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)]),
        (&program, [("redirect_uri", "https://app.example/other"), ("code_verifier", VERIFIER)]),
        (&program, [("redirect_uri", CALLBACK), ("code_verifier", CHALLENGE)]),
        (&program, [("redirect_uri", CALLBACK), ("x", "no verifier")]),
        (&program, [("code_verifier", VERIFIER), ("x", "no redirect")]),
    ];
    for (who, pairs) in wrong {
        let back = house.yes(&person, &program, &[]).await;
        let mut given = vec![("grant_type", "authorization_code"), ("code", back["code"].as_str())];
        given.extend(pairs);
        assert_eq!(house.token(who, &given).await.unwrap_err().code, "invalid_grant", "{pairs:?}");
        // Who showed it has read it: it is of no use to anybody then.
        assert!(house.redeem(&program, &back["code"]).await.is_err());
        house.clock.advance_seconds(120);
    }
    let back = house.yes(&person, &program, &[]).await;
    house.clock.advance_seconds(61);
    assert!(house.redeem(&program, &back["code"]).await.is_err());
    let back = house.yes(&person, &program, &[]).await;
    house.call(&person, "logout", json!({})).await.unwrap();
    assert!(house.redeem(&program, &back["code"]).await.is_err(), "who logged out lets nobody in");
}

#[tokio::test]
async fn stolen_refresh_token_neither_the_thief_nor_the_client_keeps_it() {
    for test in each_database().await {
        let house = House::new(test).await;
        let (_, program, first) = house.connected("viewer", "").await;
        let second = house.renew(&program, &first["refresh_token"]).await.unwrap();
        assert_ne!(second["refresh_token"], first["refresh_token"]);
        house.open(&second["access_token"], "/mcp").await.unwrap();
        assert_eq!(house.renew(&program, &first["refresh_token"]).await.unwrap_err().code, "invalid_grant");
        for tokens in [&first, &second] {
            assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
            assert!(house.renew(&program, &tokens["refresh_token"]).await.is_err());
        }
        let record = &house.trail("end_grant").await[0];
        assert!(text(&record["message"]).contains("a refresh token was used twice"), "{record}");
    }
}

#[tokio::test]
async fn a_refresh_token_of_another_client_ends_the_grant_and_gives_no_more_scopes() {
    let house = House::new(sqlite().await).await;
    let (_, program, tokens) = house.connected("operator", "*:read").await;
    let wider = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens["refresh_token"])),
        ("scope", "*:write"),
    ];
    assert_eq!(house.token(&program, &wider).await.unwrap_err().code, "invalid_scope");
    let elsewhere = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&tokens["refresh_token"])),
        ("resource", "https://ops.example.com/mcp/services/x"),
    ];
    assert_eq!(house.token(&program, &elsewhere).await.unwrap_err().code, "invalid_target");
    let tokens = house.renew(&program, &tokens["refresh_token"]).await.unwrap();
    let other = house.program("none").await;
    assert_eq!(house.renew(&other, &tokens["refresh_token"]).await.unwrap_err().code, "invalid_grant");
    assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
}

#[tokio::test]
async fn wrong_audience_a_token_opens_its_endpoint_and_nothing_else() {
    let house = House::new(sqlite().await).await;
    let person = house.person("ada", "viewer").await;
    let program = house.program("none").await;
    let resource = "https://ops.example.com/mcp/services/time";
    let back = house.yes(&person, &program, &[("resource", resource)]).await;
    let tokens = house.redeem(&program, &back["code"]).await.unwrap();
    let token = &tokens["access_token"];
    house.open(token, "/mcp/services/time").await.unwrap();
    for endpoint in ["/mcp", "/mcp/services/other", "/mcp/services/time2", "/sse"] {
        assert_eq!(house.open(token, endpoint).await.unwrap_err().kind, Kind::Unauthenticated, "{endpoint}");
    }
    let rest = house.room.identity.authenticate(text(token), Face::Rest, None).await;
    assert_eq!(rest.unwrap_err().kind, Kind::Unauthenticated, "REST takes keys and sessions");
    for other in ["https://evil.example/mcp", "http://ops.example.com/mcp", "https://ops.example.com/secrets"]
    {
        let Err(Refused::Back(url)) = house.asked(&program, &[("resource", other)]).await else {
            panic!("{other}")
        };
        assert_eq!(query(&url)["error"], "invalid_target");
    }
}

#[tokio::test]
async fn redirect_mismatch_the_person_is_told_and_nothing_is_sent_there() {
    let house = House::new(sqlite().await).await;
    let program = house.program("none").await;
    for uri in [
        "https://evil.example/cb",
        "https://app.example/cb/../x",
        "https://app.example/cb?x",
        "javascript:alert(1)",
        "",
    ] {
        let refused = house.asked(&program, &[("redirect_uri", uri)]).await.unwrap_err();
        assert!(matches!(refused, Refused::Told(_)), "{uri}: {refused:?}");
    }
    for id in ["oc-nobody", "", "' OR 1=1 --", &"x".repeat(5000)] {
        let refused = house.asked(&program, &[("client_id", id)]).await.unwrap_err();
        assert!(matches!(refused, Refused::Told(_)), "{id}");
    }
}

#[tokio::test]
async fn mixed_up_issuer_every_answer_says_whose_it_is() {
    let house = House::new(sqlite().await).await;
    let person = house.person("ada", "viewer").await;
    let program = house.program("none").await;
    assert_eq!(house.room.oauth.metadata().unwrap()["issuer"], ISSUER);
    assert_eq!(house.room.oauth.metadata().unwrap()["authorization_response_iss_parameter_supported"], true);
    let back = house.yes(&person, &program, &[]).await;
    assert_eq!((back["iss"].as_str(), back["state"].as_str()), (ISSUER, "a state"));
    let asked = house.asked(&program, &[]).await.unwrap();
    let ticket = house.room.oauth.ask(&person, &asked).await.unwrap();
    let back = query(&house.room.oauth.decide(&person, &ticket, None).await.unwrap());
    assert_eq!((back["error"].as_str(), back["iss"].as_str()), ("access_denied", ISSUER));
    for (more, error) in [
        ([("response_type", "token")], "unsupported_response_type"),
        ([("code_challenge_method", "plain")], "invalid_request"),
        ([("code_challenge", "short")], "invalid_request"),
    ] {
        let Err(Refused::Back(url)) = house.asked(&program, &more).await else { panic!("{more:?}") };
        let back = query(&url);
        assert_eq!(
            (back["error"].as_str(), back["iss"].as_str(), back["state"].as_str()),
            (error, ISSUER, "a state")
        );
    }
    let without: Parameters =
        [("client_id", program.id.as_str()), ("redirect_uri", CALLBACK), ("response_type", "code")]
            .into_iter()
            .collect();
    assert!(matches!(house.room.oauth.asked(&without, true).await, Err(Refused::Back(_))), "PKCE is needed");
    let twice = program.request(&[("scope", "*:read"), ("scope", "*:*")]);
    assert!(matches!(house.room.oauth.asked(&twice, true).await, Err(Refused::Back(_))));
}

#[tokio::test]
async fn consent_csrf_a_ticket_is_answered_once_by_the_session_that_saw_it() {
    for test in each_database().await {
        let house = House::new(test).await;
        let ada = house.person("ada", "administrator").await;
        let eve = house.person("eve", "viewer").await;
        let again = house.login("ada").await;
        let program = house.program("none").await;
        let asked = house.asked(&program, &[]).await.unwrap();
        let oauth = &house.room.oauth;
        // Eve's page, answered by Ada's browser: Ada would give Eve's program what Ada may.
        let ticket = oauth.ask(&eve, &asked).await.unwrap();
        assert_eq!(oauth.decide(&ada, &ticket, Some(&[0])).await.unwrap_err().kind, Kind::Forbidden);
        let ticket = oauth.ask(&ada, &asked).await.unwrap();
        assert_eq!(oauth.decide(&again, &ticket, Some(&[0])).await.unwrap_err().kind, Kind::Forbidden);
        let ticket = oauth.ask(&ada, &asked).await.unwrap();
        assert_eq!(
            oauth.decide(&ada, &ticket, Some(&[])).await.unwrap_err().kind,
            Kind::Invalid,
            "nothing is chosen"
        );
        oauth.decide(&ada, &ticket, Some(&[0])).await.unwrap();
        assert_eq!(oauth.decide(&ada, &ticket, Some(&[0])).await.unwrap_err().kind, Kind::Forbidden);
        let ticket = oauth.ask(&ada, &asked).await.unwrap();
        house.clock.advance_seconds(601);
        assert_eq!(oauth.decide(&ada, &ticket, Some(&[0])).await.unwrap_err().kind, Kind::Forbidden);
        for caller in [operator(), stranger(), Caller { session: None, ..ada.clone() }] {
            assert_eq!(oauth.ask(&caller, &asked).await.unwrap_err().kind, Kind::Forbidden);
            assert_eq!(oauth.decide(&caller, "otk_0", Some(&[0])).await.unwrap_err().kind, Kind::Forbidden);
        }
    }
}

#[tokio::test]
async fn confused_deputy_each_client_is_asked_for_and_a_person_gives_less_than_is_asked() {
    let house = House::new(sqlite().await).await;
    let person = house.person("ada", "operator").await;
    let program = house.program("none").await;
    let asked = house.asked(&program, &[("scope", "*:read *:write !logs:*")]).await.unwrap();
    let ticket = house.room.oauth.ask(&person, &asked).await.unwrap();
    let url = house.room.oauth.decide(&person, &ticket, Some(&[0, 7])).await.unwrap();
    let tokens = house.redeem(&program, &query(&url)["code"]).await.unwrap();
    assert_eq!(tokens["scope"], "*:read !logs:*");
    let agent = house.open(&tokens["access_token"], "/mcp").await.unwrap();
    assert!(house.call(&agent, "list_jobs", json!({})).await.is_ok());
    assert!(house.call(&agent, "search_logs", json!({ "query": "x" })).await.is_err());
    assert!(house.call(&agent, "create_schedule", json!({})).await.unwrap_err().kind == Kind::Forbidden);
}

#[tokio::test]
async fn tokens_end_by_their_time_by_their_person_and_by_their_client() {
    for test in each_database().await {
        let house = House::new(test).await;
        let (person, program, first) = house.connected("viewer", "").await;
        house.clock.advance_seconds(3601);
        assert!(house.open(&first["access_token"], "/mcp").await.is_err());
        let tokens = house.renew(&program, &first["refresh_token"]).await.unwrap();
        house.open(&tokens["access_token"], "/mcp").await.unwrap();
        // RFC 7009: the client itself ends it; another one cannot.
        let revoke = async |program: &Program, token: &Value| {
            let shown = Shown { client_id: &program.id, secret: None, basic: false };
            house
                .room
                .oauth
                .revoke(&stranger(), shown, &[("token", text(token))].into_iter().collect())
                .await
                .unwrap();
        };
        let other = house.program("none").await;
        revoke(&other, &tokens["access_token"]).await;
        house.open(&tokens["access_token"], "/mcp").await.unwrap();
        revoke(&program, &tokens["access_token"]).await;
        assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
        assert!(house.renew(&program, &tokens["refresh_token"]).await.is_err());
        // A new password ends what an intruder may have let in.
        let again = house.yes(&person, &program, &[]).await;
        let tokens = house.redeem(&program, &again["code"]).await.unwrap();
        house.open(&tokens["access_token"], "/mcp").await.unwrap();
        let input = json!({ "password": PASSWORD, "new_password": "another horse entirely" });
        house.call(&person, "change_password", input).await.unwrap();
        assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
        // So does the end of the account.
        let again = house.yes(&person, &program, &[]).await;
        let tokens = house.redeem(&program, &again["code"]).await.unwrap();
        let id = person.subject.strip_prefix("user:").unwrap();
        house.call(&operator(), "delete_user", json!({ "id": id })).await.unwrap();
        assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
        assert!(house.renew(&program, &tokens["refresh_token"]).await.is_err());
    }
}

#[tokio::test]
async fn idor_a_person_neither_sees_nor_ends_the_grants_of_another() {
    let house = House::new(sqlite().await).await;
    let (ada, _, tokens) = house.connected("viewer", "").await;
    let eve = house.person("eve", "operator").await;
    let id = house.call(&ada, "list_grants", json!({})).await.unwrap()["items"][0]["id"].clone();
    assert!(
        house.call(&eve, "list_grants", json!({})).await.unwrap()["items"].as_array().unwrap().is_empty()
    );
    assert_eq!(
        house.call(&eve, "list_grants", json!({ "everybody": true })).await.unwrap_err().kind,
        Kind::Forbidden
    );
    assert_eq!(house.call(&eve, "revoke_grant", json!({ "id": id })).await.unwrap_err().kind, Kind::NotFound);
    house.open(&tokens["access_token"], "/mcp").await.unwrap();
    house.call(&operator(), "revoke_grant", json!({ "id": id })).await.unwrap();
    assert!(house.open(&tokens["access_token"], "/mcp").await.is_err());
}

#[tokio::test]
async fn where_tokens_would_travel_in_the_clear_there_are_none() {
    let house = House::new(sqlite().await).await;
    let of = |url: &str| {
        OAuth::new(house.room.identity.clone(), house.room.egress.clone(), OAuthConfig::default(), url)
    };
    assert!(of("https://ops.example.com/").available());
    assert!(of("http://127.0.0.1:8008").available());
    let clear = of("http://ops.example.com:8008");
    assert!(
        !clear.available() && clear.metadata().is_err() && clear.challenge(ISSUER, "/mcp", false).is_none()
    );
    // The loopback names are one server, and a Host header that is none of them is not believed.
    let local = of("http://127.0.0.1:8008");
    assert_eq!(local.origin(Some("localhost:8008")), "http://localhost:8008");
    assert_eq!(local.origin(Some("evil.example:8008")), "http://127.0.0.1:8008");
    assert_eq!(of(ISSUER).origin(Some("localhost:8008")), ISSUER);
    let metadata = local.resource_metadata("http://localhost:8008", "/mcp/services/x").unwrap();
    assert_eq!(metadata["resource"], "http://localhost:8008/mcp/services/x");
    assert_eq!(metadata["authorization_servers"], json!(["http://127.0.0.1:8008"]));
    assert!(local.resource_metadata(ISSUER, "/secrets").is_err());
}
