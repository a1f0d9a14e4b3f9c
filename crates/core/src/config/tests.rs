//! What each source of the configuration may say, and what is told when it is wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct House {
    /// Where it answers.
    server: Door,
    /// Where the data is.
    database: Cellar,
    /// Names and their weights.
    weights: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Door {
    /// The address to listen on: one of this machine's, or `0.0.0.0` for all of them.
    host: String,
    /// The port, from 1 to 65535.
    port: u16,
    /// Who may call.
    allowed_hosts: Vec<String>,
    /// How much is written down.
    ///
    /// More is slower.
    level: Level,
    /// Whether it is open.
    open: bool,
    /// The name on it, if it has one.
    sign: Option<String>,
    /// At most so many guests.
    guests: Option<u32>,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8008,
            allowed_hosts: vec!["localhost".to_owned(), "::1".to_owned()],
            level: Level::Info,
            open: true,
            sign: None,
            guests: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Level {
    Info,
    VeryLoud,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Cellar {
    /// How to get there.
    #[schemars(extend("writeOnly" = true))]
    url: String,
    /// The keys to it.
    #[schemars(extend("writeOnly" = true))]
    pin: Option<u16>,
    /// What lies in it.
    shelves: Vec<Shelf>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Shelf {
    /// Its name.
    name: String,
    /// Its length.
    length: u32,
}

const NAMES: &[(&str, &str)] = &[("DATABASE_URL", "database.url"), ("SERVICE_PORT", "server.port")];

fn sources(
    yaml: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str, &str)],
) -> (Sources, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("opsroom.yaml");
    std::fs::write(&path, yaml).unwrap();
    let environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flag = |(name, key, text): &(&str, &str, &str)| Flag {
        name: (*name).to_owned(),
        key: (*key).to_owned(),
        text: (*text).to_owned(),
    };
    let flags = flags.iter().map(flag).collect();
    (Sources { file: ConfigFile::Required(path), environment, names: NAMES, flags }, folder)
}

fn load_from(yaml: &str, variables: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Loaded<House>> {
    let (sources, _folder) = sources(yaml, variables, flags);
    load(&sources)
}

fn refused(yaml: &str, variables: &[(&str, &str)]) -> String {
    let error = load_from(yaml, variables, &[]).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    error.message
}

fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn each_source_wins_over_the_one_before() {
    let yaml = "server:\n  host: filehost\n  port: 1001\n  level: very_loud\ndatabase:\n  url: from-file\n";
    let only_file = load_from(yaml, &[], &[]).unwrap().config;
    assert_eq!((only_file.server.port, only_file.server.level), (1001, Level::VeryLoud));
    assert_eq!(
        only_file.server.allowed_hosts,
        Door::default().allowed_hosts,
        "what is not set keeps its default"
    );

    let variables = [("SERVICE_PORT", "1002"), ("DATABASE_URL", "from-variable")];
    assert_eq!(load_from(yaml, &variables, &[]).unwrap().config.server.port, 1002);
    let variables = [("SERVICE_PORT", "1002"), ("OPSROOM__SERVER__PORT", "1003")];
    assert_eq!(load_from(yaml, &variables, &[]).unwrap().config.server.port, 1003);
    let loaded = load_from(yaml, &variables, &[("--port", "server.port", "1004")]).unwrap();
    assert_eq!(loaded.config.server.port, 1004);
    assert_eq!(loaded.config.server.host, "filehost");
    assert_eq!(loaded.source("server.port"), Source::Flag("--port".to_owned()));
    assert!(matches!(loaded.source("server.host"), Source::File(_, 2)));
    assert_eq!(loaded.source("server.open"), Source::Default);
}

#[test]
fn texts_become_what_the_schema_says() {
    let variables = [
        ("OPSROOM__SERVER__OPEN", "no"),
        ("OPSROOM__SERVER__HOST", "42"),
        ("OPSROOM__SERVER__ALLOWED_HOSTS", "a.example, b.example"),
        ("OPSROOM__SERVER__GUESTS", "7"),
        ("OPSROOM__SERVER__SIGN", "007"),
        ("OPSROOM__DATABASE__SHELVES", "[{name: top, length: 3}]"),
        ("OPSROOM__WEIGHTS__STONE", "6.35"),
        ("OPSROOM__WEIGHTS__GRAM", "1e-3"),
    ];
    let house = load_from("", &variables, &[]).unwrap().config;
    assert!(!house.server.open);
    assert_eq!(house.server.host, "42");
    assert_eq!(house.server.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!((house.server.guests, house.server.sign.as_deref()), (Some(7), Some("007")));
    assert_eq!(house.database.shelves, [Shelf { name: "top".to_owned(), length: 3 }]);
    assert_eq!(house.weights.values().copied().collect::<Vec<_>>(), [0.001, 6.35]);
    let json = [("OPSROOM__SERVER__ALLOWED_HOSTS", r#"["a,b"]"#)];
    assert_eq!(load_from("", &json, &[]).unwrap().config.server.allowed_hosts, ["a,b"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let message = refused("# hello\nserver:\n  prot: 80\n", &[]);
    assert_says(&message, &["opsroom.yaml:3", "`server.prot`", "did you mean `server.port`?"]);
    assert_says(&refused("sever:\n  port: 80\n", &[]), &["opsroom.yaml:1", "`sever`", "`server`"]);
    assert_says(&refused("port: 80\n", &[]), &["did you mean `server.port`?"]);
    let message = refused("server:\n  colour_of_the_frame: red\n", &[]);
    assert_says(&message, &["opsroom.yaml:2", "the keys there are", "allowed_hosts", "host"]);
    let message = refused("database:\n  shelves:\n    - name: a\n    - nmae: b\n", &[]);
    assert_says(&message, &["opsroom.yaml:4", "database.shelves[1].nmae"]);
    let message = refused("", &[("OPSROOM__SERVER__PROT", "80")]);
    assert_says(&message, &["OPSROOM__SERVER__PROT", "OPSROOM__SERVER__PORT?"]);
    let message = refused("", &[("OPSROOM__SERVERPORT", "80")]);
    assert_says(&message, &["OPSROOM__SERVERPORT"]);
}

#[test]
fn a_wrong_value_is_refused_with_its_source_and_what_would_be_right() {
    let message = refused("server:\n  port: eighty\n", &[]);
    assert_says(&message, &["opsroom.yaml:2", "server.port", "a whole number from 0 to 65535", "`eighty`"]);
    assert_says(&refused("server:\n  port: 70000\n", &[]), &["opsroom.yaml:2", "65535", "70000"]);
    assert_says(&refused("server:\n  port: 80.5\n", &[]), &["a whole number"]);
    assert_says(&refused("server: 3\n", &[]), &["opsroom.yaml:1", "server must be a group of keys"]);
    assert_says(&refused("server:\n  level: loud\n", &[]), &["one of `info`, `very_loud`", "`loud`"]);
    assert_says(&refused("server:\n  open: yes\n", &[]), &["true or false", "`yes`"]);
    assert_says(
        &refused("server:\n  host: 1.10\n", &[]),
        &["server.host must be text", "write it in quotes"],
    );
    assert_says(&refused("- 1\n", &[]), &["must be a group of keys"]);
    let message = refused("", &[("SERVICE_PORT", "http")]);
    assert_says(&message, &["the variable SERVICE_PORT", "server.port", "65535"]);
    let error = load_from("", &[], &[("--port", "server.port", "-1")]).unwrap_err();
    assert_says(&error.message, &["the flag --port", "server.port", "-1"]);
}

#[test]
fn what_is_not_yaml_is_refused_with_its_line() {
    assert_says(&refused("server:\n  port: [1\n", &[]), &["opsroom.yaml"]);
    assert_says(&refused("server:\n  port: 1\n  port: 2\n", &[]), &["opsroom.yaml:3", "port"]);
    assert_says(&refused("a: 1\n---\nb: 2\n", &[]), &["opsroom.yaml"]);
    let (sources, _folder) = sources("", &[], &[]);
    let ConfigFile::Required(path) = &sources.file else { panic!("a file") };
    std::fs::write(path, b"server:\n  host: \xff\n").unwrap();
    let message = load::<House>(&sources).unwrap_err().message;
    assert_says(&message, &["opsroom.yaml:2", "UTF-8"]);
}

#[test]
fn an_alias_bomb_and_a_deep_or_huge_file_are_refused() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (last, next) in ["a", "b", "c", "d", "e", "f", "g", "h"].windows(2).map(|w| (w[0], w[1])) {
        let aliases = vec![format!("*{last}"); 10].join(",");
        bomb.push_str(&format!("{next}: &{next} [{aliases}]\n"));
    }
    assert_says(&refused(&bomb, &[]), &["opsroom.yaml"]);
    assert_says(&refused(&format!("a: {}", "[".repeat(100_000)), &[]), &["opsroom.yaml"]);
    let deep: String = (0..1000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert_says(&refused(&deep, &[]), &["opsroom.yaml"]);
    assert_says(&refused(&"# filler\n".repeat(200_000), &[]), &["opsroom.yaml", "larger"]);
}

#[test]
fn a_file_of_comments_and_an_empty_section_set_nothing() {
    assert_eq!(load_from("# nothing\n\n  # at all\n", &[], &[]).unwrap().config, House::default());
    assert_eq!(load_from("server:\n  # port: 1\ndatabase:\n", &[], &[]).unwrap().config, House::default());
}

#[test]
fn a_missing_file_matters_only_when_somebody_named_it() {
    let missing = PathBuf::from("/nonexistent/opsroom.yaml");
    let sources = |file| Sources { file, ..Sources::default() };
    assert!(load::<House>(&sources(ConfigFile::IfPresent(missing.clone()))).is_ok());
    let error = load::<House>(&sources(ConfigFile::Required(missing))).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert_says(&error.message, &["/nonexistent/opsroom.yaml"]);
}

#[test]
fn a_variable_with_file_reads_the_value_and_trims_one_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, "postgres://u:hunter2@h/d\n").unwrap();
    let path = path.to_str().unwrap();
    for variable in ["DATABASE_URL_FILE", "OPSROOM__DATABASE__URL_FILE"] {
        let loaded = load_from("", &[(variable, path)], &[]).unwrap();
        assert_eq!(loaded.config.database.url, "postgres://u:hunter2@h/d");
        assert_eq!(loaded.source("database.url"), Source::Variable(variable.to_owned()));
    }
    let both = [("DATABASE_URL", "a"), ("DATABASE_URL_FILE", path)];
    assert_says(&refused("", &both), &["DATABASE_URL_FILE", "both set"]);
    let both = [("OPSROOM__DATABASE__URL", "a"), ("OPSROOM__DATABASE__URL_FILE", path)];
    assert_says(&refused("", &both), &["both set"]);
    let error = load_from("", &[("DATABASE_URL_FILE", "/nonexistent")], &[]).unwrap_err();
    assert_says(&error.message, &["DATABASE_URL_FILE", "/nonexistent"]);
}

#[test]
fn a_secret_is_in_no_error_and_in_nothing_that_is_shown() {
    let wrong = [
        refused("database:\n  pin: hunter2\n", &[]),
        refused("database:\n  pin: [hunter2]\n", &[]),
        refused("database:\n  url: {hunter2: hunter2}\n", &[]),
        refused("", &[("OPSROOM__DATABASE__PIN", "hunter2")]),
    ];
    for message in wrong {
        assert!(!message.contains("hunter2"), "{message}");
    }
    let yaml = "server:\n  sign: \"two\\nlines # here\"\ndatabase:\n  url: hunter2\n  pin: 4711\n";
    let loaded = load_from(yaml, &[("SERVICE_PORT", "81")], &[]).unwrap();
    let shown = loaded.show().unwrap();
    assert!(!shown.contains("hunter2") && !shown.contains("4711"), "{shown}");
    assert_says(&shown, &["url: \"[hidden]\"", "port: 81  # the variable SERVICE_PORT", "opsroom.yaml:2"]);
    let again: serde_json::Value = serde_saphyr::from_str(&shown).unwrap();
    assert_eq!(again["server"]["sign"], "two\nlines # here");
}

#[test]
fn the_example_documents_every_key_and_loads_as_the_default() {
    let text = example::<House>();
    let loaded = load_from(&text, &[], &[]).unwrap();
    assert_eq!(loaded.config, House::default());
    for key in schema::keys(&schema::of::<House>()) {
        assert_ne!(loaded.source(&key), Source::Default, "{key} is missing");
    }
    let expected = "\
server:
  # The address to listen on: one of this machine's, or `0.0.0.0` for all of them.
  host: \"127.0.0.1\"
  # The port, from 1 to 65535.
  port: 8008
  # Who may call.
  allowed_hosts: [localhost, \"::1\"]
  # How much is written down.
  # More is slower.
  # It is one of `info`, `very_loud`.
  level: info
";
    assert_says(&text, &[expected, "\n# Where it answers.\nserver:\n", "weights: {}", "sign: null"]);
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
}

#[test]
fn a_failed_validation_is_blamed_on_who_set_the_key() {
    let loaded = load_from("server:\n  port: 0\n", &[], &[]).unwrap();
    let blamed = loaded.blame(Error::invalid("server.port: 0 is no port"));
    assert_says(&blamed.message, &["server.port: 0 is no port", "opsroom.yaml:2"]);
    let unblamed = loaded.blame(Error::invalid("server.host: is empty"));
    assert_eq!(unblamed.message, "server.host: is empty");
}

#[test]
fn control_characters_of_a_file_do_not_reach_a_terminal() {
    let message = refused("server:\n  level: \"\\e[31mred\"\n", &[]);
    assert!(!message.contains('\u{1b}'), "{message:?}");
    let message = refused("\"\\e[31mred\": 1\n", &[]);
    assert!(!message.contains('\u{1b}'), "{message:?}");
}
