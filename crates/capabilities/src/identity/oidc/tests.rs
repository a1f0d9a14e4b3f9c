//! What single sign-on promises, against a provider of the test's own that lies as it is told. A test is named
//! after the attack that it withstands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use data_encoding::BASE64URL_NOPAD;
use opsroom_core::caller::Face;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::resolver::Resolver;
use opsroom_core::testing::{TestDb, each_database, sqlite};
use opsroom_core::{Call, Caller, Clock, Kind, Role, Time};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::config::GroupRole;
use super::*;
use crate::identity::oauth::Parameters;
use crate::room::{Answer, Room, RoomConfig};

mod access;
mod accounts;
mod attacks;

const START: Time = Time(1_790_000_000_000_000);
const PASSWORD: &str = "correct horse battery";
const HOME: &str = "https://ops.example.com";

type Alter = Arc<dyn Fn(&mut Map<String, Value>) + Send + Sync>;
type Forge = Arc<dyn Fn(&Fake, &Map<String, Value>) -> String + Send + Sync>;

/// A provider's key.
struct Signer {
    id: String,
    pair: EcdsaKeyPair,
}

impl Signer {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let part = |from: usize| BASE64URL_NOPAD.encode(&point[from..from + 32]);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "x": part(1), "y": part(33) })
    }

    fn sign(&self, header: &Value, claims: &Map<String, Value>) -> String {
        let signed = unsigned(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

fn unsigned(header: &Value, claims: &Map<String, Value>) -> String {
    let encoded = |value: String| BASE64URL_NOPAD.encode(value.as_bytes());
    format!("{}.{}", encoded(header.to_string()), encoded(Value::Object(claims.clone()).to_string()))
}

/// What the provider knows and how it lies.
struct Fake {
    issuer: String,
    signer: Signer,
    /// The keys that it shows; those of `signer` unless told otherwise.
    shown: Option<Value>,
    /// The claims of whoever logs in.
    person: Map<String, Value>,
    more: Value,
    nonces: HashMap<String, String>,
    metadata: Alter,
    claims: Alter,
    forge: Option<Forge>,
    now: i64,
    asked: Vec<String>,
}

impl Fake {
    fn answer(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.asked.push(path.to_owned());
        match path {
            "/.well-known/openid-configuration" => {
                let at = |path: &str| json!(format!("{}{path}", self.issuer));
                let mut metadata = json!({
                    "issuer": self.issuer, "authorization_endpoint": at("/auth"), "token_endpoint": at("/token"),
                    "jwks_uri": at("/jwks"), "userinfo_endpoint": at("/me"),
                    "authorization_response_iss_parameter_supported": true,
                });
                (self.metadata)(metadata.as_object_mut().unwrap());
                (200, metadata)
            }
            "/jwks" => (200, self.shown.clone().unwrap_or_else(|| json!({ "keys": [self.signer.public()] }))),
            "/me" => (200, self.more.clone()),
            "/token" => self.tokens(body),
            _ => (404, json!({})),
        }
    }

    fn tokens(&self, body: &str) -> (u16, Value) {
        let form: HashMap<String, String> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let Some(nonce) = self.nonces.get(&form["code"]).filter(|_| form["code_verifier"].len() == 43) else {
            return (400, json!({ "error": "invalid_grant" }));
        };
        let mut claims = self.person.clone();
        let fixed = json!({
            "iss": self.issuer, "aud": "opsroom", "nonce": nonce, "iat": self.now, "exp": self.now + 300,
        });
        claims.extend(fixed.as_object().unwrap().clone());
        (self.claims)(&mut claims);
        let token = match &self.forge {
            Some(forge) => forge(self, &claims),
            None => self.signer.sign(&json!({ "alg": "ES256", "kid": self.signer.id }), &claims),
        };
        (200, json!({ "id_token": token, "access_token": "a-token", "token_type": "Bearer" }))
    }
}

/// A provider that listens.
#[derive(Clone)]
struct Provided(Arc<Mutex<Fake>>);

impl Provided {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let person = json!({ "sub": "s-1", "email": "ada@example.com", "email_verified": true,
            "preferred_username": "ada", "name": "Ada Lovelace", "groups": ["ops"] });
        let fake = Fake {
            issuer,
            signer: Signer::new("one"),
            shown: None,
            person: person.as_object().unwrap().clone(),
            more: json!({ "sub": "s-1" }),
            nonces: HashMap::new(),
            metadata: Arc::new(|_| {}),
            claims: Arc::new(|_| {}),
            forge: None,
            now: START.0 / 1_000_000,
            asked: Vec::new(),
        };
        let provided = Self(Arc::new(Mutex::new(fake)));
        let state = provided.clone();
        #[expect(clippy::disallowed_methods, reason = "the test plays the outside system")]
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::spawn(state.clone().serve(stream)));
            }
        }));
        provided
    }

    async fn serve(self, mut stream: tokio::net::TcpStream) {
        let mut text = String::new();
        let (head, body) = loop {
            let mut bytes = [0; 4096];
            let Ok(read) = stream.read(&mut bytes).await else { return };
            if read == 0 {
                return;
            }
            text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                break (head.to_owned(), body.to_owned());
            }
        };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let (status, body) = self.lock().answer(&path, &body);
        let body = body.to_string();
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        drop(stream.write_all(answer.as_bytes()).await);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Fake> {
        self.0.lock().unwrap()
    }

    fn asked(&self, path: &str) -> usize {
        self.lock().asked.iter().filter(|asked| *asked == path).count()
    }

    /// Tells claims otherwise than they are.
    fn lie(&self, alter: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        self.lock().claims = Arc::new(alter);
    }
}

/// A house whose people log in at a provider.
struct House {
    room: Arc<Room>,
    clock: Clock,
    provided: Provided,
    _test: TestDb,
}

/// A browser on its way back from the provider.
#[derive(Clone)]
struct Way {
    cookie: String,
    back: Vec<(String, String)>,
}

impl Way {
    fn with(&self, name: &str, value: &str) -> Self {
        let mut way = self.without(name);
        way.back.push((name.to_owned(), value.to_owned()));
        way
    }

    fn without(&self, name: &str) -> Self {
        let back = self.back.iter().filter(|(known, _)| known != name).cloned().collect();
        Self { cookie: self.cookie.clone(), back }
    }
}

impl House {
    async fn new(test: TestDb, change: impl FnOnce(&mut OidcConfig)) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let clock = Clock::manual(START);
        let data_dir = test.folder.path().join("data");
        std::fs::create_dir_all(&data_dir).unwrap();
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let provided = Provided::start().await;
        let mut oidc = OidcConfig {
            issuer: provided.lock().issuer.clone(),
            client_id: "opsroom".to_owned(),
            client_secret: "s3cr3t".into(),
            sign_up: true,
            private_address: true,
            ..OidcConfig::default()
        };
        change(&mut oidc);
        oidc.validate().unwrap();
        let config = RoomConfig {
            data_dir: data_dir.clone(),
            database: test.config.clone(),
            secrets: Resolver::new(&data_dir, &Default::default()),
            oidc,
            public_url: HOME.to_owned(),
            ..RoomConfig::default()
        };
        let room = Room::open(&config, clock.clone(), Lifecycle::new()).await.unwrap();
        Self { room, clock, provided, _test: test }
    }

    async fn plain() -> Self {
        Self::new(sqlite().await, |_| {}).await
    }

    async fn call(&self, caller: &Caller, operation: &str, input: Value) -> Result<Value> {
        self.room.call(operation, Call::new(caller.clone()), input).await.map(Answer::into_value)
    }

    /// Goes to the provider, is let in there, and is on the way back.
    async fn way(&self, next: &str, link: &str) -> Way {
        let begun = self.room.oidc.begin(next, link).await.unwrap();
        let url = reqwest::Url::parse(&begun.url).unwrap();
        let asked: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(
            (asked["response_type"].as_str(), asked["code_challenge_method"].as_str()),
            ("code", "S256")
        );
        assert_eq!(asked["redirect_uri"], format!("{HOME}/login/oidc/callback"));
        let mut fake = self.provided.lock();
        fake.now = self.clock.now().0 / 1_000_000;
        let code = format!("code-{}", fake.nonces.len());
        fake.nonces.insert(code.clone(), asked["nonce"].clone());
        let back = [("code", code), ("state", asked["state"].clone()), ("iss", fake.issuer.clone())];
        let back = back.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Way { cookie: begun.cookie, back }
    }

    async fn come_back(&self, caller: &Caller, way: &Way) -> Result<Ended> {
        let given: Parameters = way.back.iter().cloned().collect();
        self.room.oidc.end(caller, Some(&way.cookie), &given, "a browser").await
    }

    /// The whole login of whoever the provider has.
    async fn login(&self) -> Result<Caller> {
        let way = self.way("/account", "").await;
        match self.come_back(&stranger(), &way).await? {
            Ended::LoggedIn { session, next } => {
                assert_eq!(next, "/account");
                let identity = &self.room.identity;
                let caller =
                    identity.authenticate(&session.access_token, Face::Rest, stranger().address).await;
                Ok(caller.unwrap())
            }
            Ended::Linked => panic!("a login became a link"),
        }
    }

    async fn refused(&self) -> Error {
        self.login().await.expect_err("the login is refused")
    }

    fn is(&self, name: &str, value: Value) {
        self.provided.lock().person.insert(name.to_owned(), value);
    }

    /// An account with a password, logged in.
    async fn person(&self, name: &str, email: &str) -> Caller {
        let input = json!({ "username": name, "email": email, "role": "operator" });
        let made = self.call(&operator(), "create_user", input).await.unwrap();
        let input = json!({ "token": made["invitation"], "password": PASSWORD });
        self.call(&stranger(), "reset_password", input).await.unwrap();
        let input = json!({ "username": name, "password": PASSWORD });
        let answer = self.call(&stranger(), "login", input).await.unwrap();
        let token = answer["access_token"].as_str().unwrap();
        self.room.identity.authenticate(token, Face::Rest, stranger().address).await.unwrap()
    }
}

fn operator() -> Caller {
    Caller::operator(Face::Cli)
}

fn stranger() -> Caller {
    Caller::anonymous(Face::Rest, Some("192.0.2.1".to_owned()))
}

fn group(group: &str, role: Role, teams: &[&str]) -> GroupRole {
    GroupRole { group: group.to_owned(), role, teams: teams.iter().map(|team| (*team).to_owned()).collect() }
}
